//! From the bytes of a channel to packets: where each begins and ends, and what it says.
//!
//! Must never lose its place: a packet that is too large is skipped whole, one that says nothing is answered, and the next
//! one is read where it begins. Must never hold more than one packet of the largest size.

use super::path;
use bytes::{Buf, Bytes, BytesMut};
use russh_sftp::protocol::Packet;

/// The largest packet that is read, in bytes; clients are told, and OpenSSH's own limit.
pub const LARGEST: u32 = 256 * 1024;
/// Above this it is no packet of any client: nothing that follows can be trusted.
const HOPELESS: u32 = 64 * 1024 * 1024;

const INIT: u8 = 1;
const OPEN: u8 = 3;
const WRITE: u8 = 6;
const RENAME: u8 = 18;
const SYMLINK: u8 = 20;
const EXTENDED: u8 = 200;
/// Requests that begin with one path.
const WITH_PATH: [u8; 10] = [3, 7, 9, 11, 13, 14, 15, 16, 17, 19];

/// What came.
#[derive(Debug)]
pub enum Arrived {
    /// A request.
    Request(Packet),
    /// Something that is no request, with the number that it is to be answered by.
    Broken(u32),
    /// A packet of this many bytes, which were not read, and its number.
    TooLarge(u32),
}

/// The channel is out of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client sends something else than SFTP packets")]
pub struct OutOfStep;

/// Cuts a stream of bytes into packets.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: BytesMut,
    /// Bytes of a packet that is too large and still to come.
    skipping: usize,
}

impl Frames {
    /// Where bytes of the stream go.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Whether a packet has begun that is not whole.
    pub fn is_within(&self) -> bool {
        self.skipping > 0 || !self.bytes.is_empty()
    }

    /// The next whole packet.
    pub fn next_packet(&mut self) -> Result<Option<Arrived>, OutOfStep> {
        let skipped = self.skipping.min(self.bytes.len());
        self.bytes.advance(skipped);
        self.skipping -= skipped;
        let Some(head) = self.bytes.first_chunk::<4>() else {
            if self.bytes.is_empty() {
                // What an upload took is given back: many sessions are idle for hours.
                self.bytes = BytesMut::new();
            }
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head);
        if length == 0 || length > HOPELESS {
            return Err(OutOfStep);
        }
        if length > LARGEST {
            // Its number is in the first bytes.
            let Some(start) = self.bytes.first_chunk::<9>() else { return Ok(None) };
            let id = u32::from_be_bytes([start[5], start[6], start[7], start[8]]);
            self.bytes.advance(9);
            self.skipping = length as usize - 5;
            return Ok(Some(Arrived::TooLarge(id)));
        }
        let whole = 4 + length as usize;
        if self.bytes.len() < whole {
            self.bytes.reserve(whole - self.bytes.len());
            return Ok(None);
        }
        let mut packet = self.bytes.split_to(whole);
        packet.advance(4);
        Ok(Some(decode(packet.freeze())))
    }
}

/// What a packet says.
fn decode(packet: Bytes) -> Arrived {
    // Only the first packet of a client has no number.
    let id = packet.get(1..5).and_then(|id| id.try_into().ok()).map_or(0, u32::from_be_bytes);
    // A client asks; what is an answer says nothing here.
    if !packet.first().is_some_and(|kind| matches!(*kind, INIT | OPEN..=SYMLINK | EXTENDED)) {
        return Arrived::Broken(id);
    }
    let mut packet = if packet.first() == Some(&WRITE) { packet } else { with_text_names(packet) };
    match Packet::try_from(&mut packet) {
        Ok(request) => Arrived::Request(request),
        Err(_) => Arrived::Broken(id),
    }
}

/// The packet with names that are UTF-8: the decoder would make one and the same of all other letters.
fn with_text_names(packet: Bytes) -> Bytes {
    let Some(kind) = packet.first().copied() else { return packet };
    let names = match kind {
        kind if WITH_PATH.contains(&kind) => 1,
        RENAME | SYMLINK => 2,
        // `posix-rename@openssh.com`: its own name, and two paths.
        EXTENDED => 3,
        _ => return packet,
    };
    let mut rest = &packet[..];
    let Some(head) = rest.split_off(..5) else { return packet };
    let mut rewritten = Vec::with_capacity(packet.len());
    rewritten.extend_from_slice(head);
    for _ in 0..names {
        let Some(name) = name_of(&mut rest) else { break };
        let name = path::text(name);
        rewritten.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
        rewritten.extend_from_slice(name.as_bytes());
    }
    rewritten.extend_from_slice(rest);
    rewritten.into()
}

fn name_of<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (name, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::{Arrived, Frames, LARGEST, OutOfStep};
    use russh_sftp::protocol::Packet;

    fn packet(kind: u8, id: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(5 + rest.len()).expect("it is short");
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    fn string(bytes: &[u8]) -> Vec<u8> {
        let mut string = u32::try_from(bytes.len()).expect("it is short").to_be_bytes().to_vec();
        string.extend_from_slice(bytes);
        string
    }

    fn words(arrived: &Arrived) -> String {
        match arrived {
            Arrived::Request(Packet::Stat(stat)) => format!("stat {} {}", stat.id, stat.path),
            Arrived::Request(Packet::Rename(rename)) => {
                format!("rename {} {}", rename.oldpath, rename.newpath)
            }
            Arrived::Request(other) => format!("{other:?}"),
            Arrived::Broken(id) => format!("broken {id}"),
            Arrived::TooLarge(id) => format!("too large {id}"),
        }
    }

    fn read(frames: &mut Frames) -> Vec<String> {
        let mut read = Vec::new();
        while let Some(arrived) = frames.next_packet().expect("it is in step") {
            read.push(words(&arrived));
        }
        read
    }

    #[test]
    fn packets_are_found_however_the_stream_is_cut() {
        let stream =
            [packet(17, 1, &string(b"/a.csv")), packet(18, 2, &[string(b"/a"), string(b"/b")].concat())]
                .concat();
        for step in 1..stream.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for piece in stream.chunks(step) {
                frames.buffer().extend_from_slice(piece);
                found.extend(read(&mut frames));
            }
            assert_eq!(found, ["stat 1 /a.csv", "rename /a /b"], "in steps of {step}");
            assert!(!frames.is_within());
        }
    }

    #[test]
    fn one_that_is_too_large_is_skipped_and_the_next_is_read() {
        let large = packet(6, 7, &vec![0; LARGEST as usize + 10]);
        let stream = [large, packet(17, 8, &string(b"/a"))].concat();
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for piece in stream.chunks(1000) {
            frames.buffer().extend_from_slice(piece);
            found.extend(read(&mut frames));
            assert!(frames.buffer().len() < 2000, "it is not kept");
        }
        assert_eq!(found, ["too large 7", "stat 8 /a"]);
    }

    #[test]
    fn what_says_nothing_has_a_number_to_be_answered_by() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(&packet(99, 5, b""));
        frames.buffer().extend_from_slice(&packet(17, 6, &[0, 0, 0, 200, b'x']));
        frames.buffer().extend_from_slice(&packet(17, 7, &string(b"/a")));
        assert_eq!(read(&mut frames), ["broken 5", "broken 6", "stat 7 /a"]);
        frames.buffer().extend_from_slice(&[0, 0, 0, 0]);
        assert_eq!(frames.next_packet().err(), Some(OutOfStep));
    }

    #[test]
    fn names_that_are_no_utf_8_stay_apart() {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(&packet(17, 1, &string(b"/Gespr\xe4che")));
        frames.buffer().extend_from_slice(&packet(18, 2, &[string(b"\xe4"), string(b"\xe5")].concat()));
        assert_eq!(read(&mut frames), ["stat 1 /Gespr\\xe4che", "rename \\xe4 \\xe5"]);
    }
}
