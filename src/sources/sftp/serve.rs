//! The packet loop of one session: reads what came, answers it in order, all that came together in one go.

use super::packets::{Arrived, Frames, LARGEST};
use super::refusal::Refusal;
use super::requests::{Requests, refused};
use bytes::{Bytes, BytesMut};
use russh_sftp::protocol::{Packet, StatusCode};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes that are answered in one go; more wait in the channel.
const MOST_AT_ONCE: usize = 1024 * 1024;
/// How long a packet may take from its first to its last byte.
const LONGEST_PACKET: Duration = Duration::from_mins(2);

/// Serves until the client goes, or sends what is no SFTP. Gives the requests back: they have files to let go of.
pub(super) async fn serve<S>(stream: &mut S, mut requests: Requests, idle: Duration) -> Option<Requests>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut frames = Frames::default();
    loop {
        if !more(stream, &mut frames, idle).await {
            return Some(requests);
        }
        let mut arrived = Vec::new();
        let in_step = loop {
            match frames.next_packet() {
                Ok(Some(packet)) => arrived.push(packet),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if !arrived.is_empty() {
            // Files, the door and its flush: never on a thread that others wait for.
            let answered = tokio::task::spawn_blocking(move || {
                let answers = answer_all(&mut requests, arrived);
                (requests, answers)
            });
            // A panic in it is told by its message; the session ends.
            let answers;
            (requests, answers) = answered.await.ok()?;
            if stream.write_all(&answers).await.is_err() || stream.flush().await.is_err() {
                return Some(requests);
            }
        }
        if !in_step {
            return Some(requests);
        }
    }
}

/// Waits for bytes, then takes what is there already. Whether the client is still there.
async fn more<S: AsyncRead + Unpin>(stream: &mut S, frames: &mut Frames, idle: Duration) -> bool {
    let within = frames.is_within();
    let buffer = frames.buffer();
    buffer.reserve(if within { LARGEST as usize } else { 4096 });
    // Who begins a packet has all of it; and who asks for nothing does not stay because its SSH still answers.
    let longest = if within { LONGEST_PACKET } else { idle };
    let first = tokio::time::timeout(longest, stream.read_buf(buffer)).await.unwrap_or(Ok(0));
    if !first.is_ok_and(|read| read > 0) {
        return false;
    }
    while buffer.len() < MOST_AT_ONCE {
        buffer.reserve(32 * 1024);
        let read = std::pin::pin!(stream.read_buf(buffer));
        match futures_now(read) {
            Some(Ok(read)) if read > 0 => {}
            // The next wait hears of it.
            _ => break,
        }
    }
    true
}

/// What a future gives at once.
fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

/// The answers to what arrived, in its order.
pub(super) fn answer_all(requests: &mut Requests, arrived: Vec<Arrived>) -> Bytes {
    let mut answers = BytesMut::new();
    for packet in arrived {
        let answer = match packet {
            Arrived::Request(request) => requests.answer(request),
            Arrived::Broken(id) => {
                refused(id, &Refusal::new(StatusCode::BadMessage, "this packet cannot be understood"))
            }
            Arrived::TooLarge(id) => {
                refused(id, &Refusal::new(StatusCode::BadMessage, "this packet is larger than 256 KiB"))
            }
        };
        let encoded =
            Bytes::try_from(answer).or_else(|_| Bytes::try_from(Packet::error(0, StatusCode::Failure)));
        if let Ok(encoded) = encoded {
            answers.extend_from_slice(&encoded);
        }
    }
    answers.freeze()
}
