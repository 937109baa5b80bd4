//! The packets of an SFTP client: never out of step, however the stream is cut, and never more kept than a packet.

use cdrd::sources::sftp::packets::{Arrived, Frames, LARGEST};

/// Cuts a stream in two ways; both find the same packets.
pub fn sftp(bytes: &[u8]) {
    let whole = found(bytes, bytes.len().max(1));
    let step = usize::from(bytes.first().copied().unwrap_or(0)) + 1;
    assert_eq!(whole, found(bytes, step), "the same bytes give the same packets");
}

fn found(bytes: &[u8], step: usize) -> Vec<String> {
    let mut frames = Frames::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(step) {
        frames.buffer().extend_from_slice(piece);
        loop {
            match frames.next_packet() {
                Ok(Some(Arrived::Request(request))) => found.push(words(&request)),
                Ok(Some(Arrived::Broken(id))) => found.push(format!("broken {id}")),
                Ok(Some(Arrived::TooLarge(id))) => found.push(format!("too large {id}")),
                Ok(None) => break,
                Err(_) => {
                    found.push("out of step".to_owned());
                    return found;
                }
            }
        }
        assert!(frames.buffer().len() < LARGEST as usize + step + 9, "more is kept than a packet");
    }
    found
}

/// What a request says; extensions of the first packet have no order.
fn words(request: &russh_sftp::protocol::Packet) -> String {
    match request {
        russh_sftp::protocol::Packet::Init(init) => {
            format!("init {} {}", init.version, init.extensions.len())
        }
        other => format!("{other:?}"),
    }
}
