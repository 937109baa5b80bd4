//! A client that writes its packets itself: whatever bytes a test wants.

use super::{PASSWORD, Served, USER};
use std::net::Shutdown;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const WRITE: u8 = 6;
/// Write, create, truncate.
pub const ANEW: u32 = 26;

/// Any server is the right one.
pub struct AnyServer;

impl russh::client::Handler for AnyServer {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

type Stream = russh::ChannelStream<russh::client::Msg>;

/// A session in which nothing is done by itself.
pub struct Raw {
    runtime: tokio::runtime::Runtime,
    socket: std::net::TcpStream,
    _session: russh::client::Handle<AnyServer>,
    stream: Option<Stream>,
    next: u32,
}

impl Drop for Raw {
    fn drop(&mut self) {
        // As if the cable was pulled.
        let _ = self.socket.shutdown(Shutdown::Both);
        let _inside = self.runtime.enter();
        self.stream = None;
    }
}

/// An answer: its kind, its number, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub kind: u8,
    pub id: u32,
    pub rest: Vec<u8>,
}

impl Answer {
    /// The code of a status; 0 is success.
    pub fn code(&self) -> Option<u32> {
        (self.kind == 101).then(|| u32::from_be_bytes(self.rest[..4].try_into().expect("a code")))
    }

    /// The handle.
    pub fn handle(&self) -> Vec<u8> {
        assert_eq!(self.kind, 102, "{self:?}");
        self.rest[4..].to_vec()
    }
}

/// Text or bytes as the protocol has them.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    let mut string = u32::try_from(bytes.len()).expect("it is short").to_be_bytes().to_vec();
    string.extend_from_slice(bytes);
    string
}

/// A packet.
pub fn packet(kind: u8, id: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(5 + rest.len()).expect("it is short");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

impl Served {
    /// A session of the account, ready for requests.
    pub fn raw(&self) -> Raw {
        self.raw_as(USER)
    }

    /// The same for another account.
    pub fn raw_as(&self, user: &str) -> Raw {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let socket = std::net::TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let copy = socket.try_clone().expect("a second handle");
        copy.set_nonblocking(true).expect("it is ours");
        let (session, stream) = runtime.block_on(async {
            let tcp = tokio::net::TcpStream::from_std(copy).expect("it is non-blocking");
            let config = Arc::new(russh::client::Config::default());
            let mut session = russh::client::connect_stream(config, tcp, AnyServer).await.expect("SSH");
            let login = session.authenticate_password(user, PASSWORD).await.expect("an answer");
            assert!(login.success(), "{login:?}");
            let channel = session.channel_open_session().await.expect("a channel");
            channel.request_subsystem(true, "sftp").await.expect("SFTP");
            (session, channel.into_stream())
        });
        let mut raw = Raw { runtime, socket, _session: session, stream: Some(stream), next: 0 };
        // The first packet of a client has its version where others have their number.
        raw.send(&packet(1, 3, b""));
        assert_eq!(raw.answer().expect("an answer").kind, 2);
        raw
    }
}

impl Raw {
    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().expect("it is dropped last");
        self.runtime.block_on(async {
            stream.write_all(bytes).await.expect("the server reads");
            stream.flush().await.expect("the server reads");
        });
    }

    /// The next answer; `None` when the server has gone.
    pub fn answer(&mut self) -> Option<Answer> {
        let stream = self.stream.as_mut().expect("it is dropped last");
        let read = async {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes(head[..4].try_into().expect("four bytes")) as usize;
            let id = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
            let mut rest = vec![0; length - 5];
            stream.read_exact(&mut rest).await.ok()?;
            Some(Answer { kind: head[4], id, rest })
        };
        let limit = std::time::Duration::from_mins(1);
        self.runtime.block_on(async { tokio::time::timeout(limit, read).await }).expect("an answer or an end")
    }

    /// A request and its answer.
    pub fn ask(&mut self, kind: u8, rest: &[u8]) -> Answer {
        self.next += 1;
        let id = self.next;
        self.send(&packet(kind, id, rest));
        let answer = self.answer().expect("an answer");
        assert!(answer.id == id, "{answer:?} is not for {id}");
        answer
    }

    /// Opens a file.
    pub fn open(&mut self, name: &str, flags: u32) -> Answer {
        let rest = [&string(name.as_bytes())[..], &flags.to_be_bytes(), &[0; 4]].concat();
        self.ask(OPEN, &rest)
    }

    /// Writes to a handle.
    pub fn write(&mut self, handle: &[u8], offset: u64, bytes: &[u8]) -> Answer {
        let rest = [&string(handle)[..], &offset.to_be_bytes(), &string(bytes)].concat();
        self.ask(WRITE, &rest)
    }

    /// Closes a handle.
    pub fn close(&mut self, handle: &[u8]) -> Answer {
        self.ask(CLOSE, &string(handle))
    }

    /// Sends all of a file but does not close it.
    pub fn upload_half(&mut self, name: &str, bytes: &[u8]) -> Vec<u8> {
        let handle = self.open(name, ANEW).handle();
        for (place, piece) in bytes.chunks(30_000).enumerate() {
            let answer = self.write(&handle, place as u64 * 30_000, piece);
            assert_eq!(answer.code(), Some(0), "{answer:?}");
        }
        handle
    }

    /// Renames; the code of the answer, `None` when there was none.
    pub fn rename(&mut self, from: &str, to: &str) -> Option<u32> {
        self.next += 1;
        self.send(&packet(18, self.next, &[string(from.as_bytes()), string(to.as_bytes())].concat()));
        self.answer()?.code()
    }

    /// Sends a file, and says with which code its close was answered; `None` when it was not.
    pub fn upload(&mut self, name: &str, bytes: &[u8]) -> Option<u32> {
        let handle = self.upload_half(name, bytes);
        self.next += 1;
        self.send(&packet(CLOSE, self.next, &string(&handle)));
        self.answer()?.code()
    }
}
