//! What a client asks for, packet by packet, and the answer to each: the handles of one session.
//!
//! Blocks: belongs on a thread that may. Must answer every request, and must never do for one client what costs another.

use super::account::{Account, Readable, Wish};
use super::path;
use super::refusal::{Refusal, Refused};
use super::tree::Look;
use super::upload::Upload;
use russh_sftp::protocol::{
    Attrs, Data, Extended, ExtendedReply, File, FileAttributes, Handle, Name, OpenFlags, Packet, Status,
    StatusCode, Version,
};
use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Handles that a session may have open.
const MOST_HANDLES: usize = 128;
/// Bytes that one request may read or write; clients are told.
const MOST_BYTES: u32 = 255 * 1024;
/// Names in one answer.
const MOST_NAMES: usize = 256;
/// The version of the protocol.
const VERSION: u32 = 3;
const LIMITS: &str = "limits@openssh.com";
const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";

/// Numbers of handles, for all sessions: a handle's is the word by which its upload knows it.
static OWNERS: AtomicU64 = AtomicU64::new(1);

/// What is open.
enum Open {
    Upload { path: String, upload: Arc<Upload>, owner: u64 },
    Reading { path: String, readable: Readable },
    Folder { names: std::vec::IntoIter<(String, Look)> },
}

/// The requests of one session.
pub(super) struct Requests {
    account: Arc<Account>,
    peer: IpAddr,
    open: HashMap<String, Open>,
    next: u64,
}

impl Requests {
    pub fn new(account: Arc<Account>, peer: IpAddr) -> Self {
        Self { account, peer, open: HashMap::new(), next: 0 }
    }

    /// Answers one request.
    pub fn answer(&mut self, request: Packet) -> Packet {
        let id = request.get_request_id();
        match self.answered(id, request) {
            Ok(packet) => packet,
            Err(refusal) => refused(id, &refusal),
        }
    }

    fn answered(&mut self, id: u32, request: Packet) -> Refused<Packet> {
        match request {
            Packet::Init(_) => Ok(version()),
            Packet::Open(open) => self.open(id, &open.filename, open.pflags, &open.attrs),
            Packet::Close(close) => self.close(&close.handle).map(|()| done(id)),
            Packet::Read(read) => self.read(id, &read.handle, read.offset, read.len),
            Packet::Write(write) => self.write(&write.handle, write.offset, &write.data).map(|()| done(id)),
            Packet::Lstat(stat) => self.look(id, &stat.path),
            Packet::Stat(stat) => self.look(id, &stat.path),
            Packet::Fstat(stat) => self.look_at_handle(id, &stat.handle),
            Packet::SetStat(set) => self.set(&set.path, &set.attrs).map(|()| done(id)),
            Packet::FSetStat(set) => self.set_handle(&set.handle, &set.attrs).map(|()| done(id)),
            Packet::OpenDir(open) => {
                let names = self.account.list(&resolved(&open.path)?)?.into_iter();
                self.handle(id, Open::Folder { names })
            }
            Packet::ReadDir(read) => self.names(id, &read.handle),
            Packet::Remove(remove) => self.account.remove(&resolved(&remove.filename)?).map(|()| done(id)),
            Packet::MkDir(make) => self.account.make_folder(&resolved(&make.path)?).map(|()| done(id)),
            Packet::RmDir(remove) => self.account.remove_folder(&resolved(&remove.path)?).map(|()| done(id)),
            Packet::RealPath(real) => {
                let file = File::dummy(resolved(&real.path)?);
                Ok(Packet::Name(Name { id, files: vec![file] }))
            }
            Packet::Rename(rename) => self.rename(&rename.oldpath, &rename.newpath, false).map(|()| done(id)),
            Packet::Extended(extended) => self.extended(id, &extended),
            Packet::ReadLink(_) | Packet::Symlink(_) => Err(Refusal::unsupported("there are no links here")),
            _ => Err(Refusal::new(StatusCode::BadMessage, "this is no request")),
        }
    }

    fn handle(&mut self, id: u32, open: Open) -> Refused<Packet> {
        if self.open.len() >= MOST_HANDLES {
            if let Open::Upload { path, upload, owner } = &open {
                self.account.abandon(path, upload, *owner);
            }
            return Err(Refusal::failure("too many files are open; close some"));
        }
        self.next += 1;
        let handle = self.next.to_string();
        self.open.insert(handle.clone(), open);
        Ok(Packet::Handle(Handle { id, handle }))
    }

    fn open(&mut self, id: u32, name: &str, flags: OpenFlags, attrs: &FileAttributes) -> Refused<Packet> {
        let path = resolved(name)?;
        if self.open.len() >= MOST_HANDLES {
            return Err(Refusal::failure("too many files are open; close some"));
        }
        if !flags.contains(OpenFlags::WRITE) && !flags.contains(OpenFlags::APPEND) {
            let readable = self.account.open(&path)?;
            return self.handle(id, Open::Reading { path, readable });
        }
        let wish = Wish {
            create: flags.contains(OpenFlags::CREATE),
            truncate: flags.contains(OpenFlags::TRUNCATE),
            exclusive: flags.contains(OpenFlags::EXCLUDE),
        };
        let owner = OWNERS.fetch_add(1, Ordering::Relaxed);
        let upload = self.account.begin(&path, wish, owner)?;
        if let Some(modified) = attrs.mtime {
            upload.set_modified(owner, modified)?;
        }
        self.handle(id, Open::Upload { path, upload, owner })
    }

    fn close(&mut self, handle: &str) -> Refused<()> {
        match self.open.remove(handle) {
            None => Err(no_handle()),
            Some(Open::Upload { path, upload, owner }) => {
                self.account.finish(&path, &upload, owner, self.peer)
            }
            Some(Open::Reading { .. } | Open::Folder { .. }) => Ok(()),
        }
    }

    fn read(&mut self, id: u32, handle: &str, offset: u64, length: u32) -> Refused<Packet> {
        let length = length.min(MOST_BYTES) as usize;
        let data = match self.open.get_mut(handle) {
            None => return Err(no_handle()),
            Some(Open::Folder { .. }) => return Err(Refusal::failure("this is a folder")),
            Some(Open::Upload { upload, owner, .. }) => upload.read(*owner, offset, length)?,
            Some(Open::Reading { readable, .. }) => read_from(readable, offset, length)?,
        };
        if data.is_empty() && length > 0 {
            return Err(Refusal::new(StatusCode::Eof, "the file ends here"));
        }
        Ok(Packet::Data(Data { id, data }))
    }

    fn write(&mut self, handle: &str, offset: u64, data: &[u8]) -> Refused<()> {
        match self.open.get(handle) {
            None => Err(no_handle()),
            Some(Open::Upload { path, upload, owner }) => {
                let made = upload.write(*owner, offset, data, self.account.bounds(), &self.account.place)?;
                if let Some(name) = made {
                    self.account.spilled(path, upload, name);
                }
                Ok(())
            }
            Some(Open::Reading { .. } | Open::Folder { .. }) => {
                Err(Refusal::denied("it was opened for reading alone"))
            }
        }
    }

    fn look(&self, id: u32, name: &str) -> Refused<Packet> {
        let look = self.account.look(&resolved(name)?)?;
        Ok(Packet::Attrs(Attrs { id, attrs: attributes(&look) }))
    }

    fn look_at_handle(&self, id: u32, handle: &str) -> Refused<Packet> {
        let look = match self.open.get(handle) {
            None => return Err(no_handle()),
            Some(Open::Folder { .. }) => Look { is_folder: true, bytes: 0, modified: 0 },
            Some(Open::Reading { path, .. }) => self.account.look(path)?,
            Some(Open::Upload { path, upload, .. }) => {
                let modified = upload.modified();
                let seen = self.account.look(path).map_or(0, |look| look.modified);
                Look { is_folder: false, bytes: upload.size(), modified: modified.unwrap_or(seen) }
            }
        };
        Ok(Packet::Attrs(Attrs { id, attrs: attributes(&look) }))
    }

    /// Rights and owners are accepted and mean nothing here: nearly every client sets them after an upload.
    fn set(&self, name: &str, attrs: &FileAttributes) -> Refused<()> {
        let path = resolved(name)?;
        let look = self.account.look(&path)?;
        if attrs.size.is_some_and(|size| size != look.bytes) && !look.is_folder {
            return Err(Refusal::denied("only a file that is open can be cut"));
        }
        attrs.mtime.map_or(Ok(()), |modified| self.account.set_modified(&path, modified))
    }

    fn set_handle(&self, handle: &str, attrs: &FileAttributes) -> Refused<()> {
        match self.open.get(handle) {
            None => Err(no_handle()),
            Some(Open::Folder { .. }) => Ok(()),
            Some(Open::Reading { path, .. }) => {
                attrs.mtime.map_or(Ok(()), |modified| self.account.set_modified(path, modified))
            }
            Some(Open::Upload { upload, owner, .. }) => {
                if let Some(size) = attrs.size {
                    upload.set_size(*owner, size, self.account.bounds())?;
                }
                attrs.mtime.map_or(Ok(()), |modified| upload.set_modified(*owner, modified))
            }
        }
    }

    fn names(&mut self, id: u32, handle: &str) -> Refused<Packet> {
        let Some(Open::Folder { names }) = self.open.get_mut(handle) else { return Err(no_handle()) };
        let files: Vec<File> =
            names.take(MOST_NAMES).map(|(name, look)| File::new(name, attributes(&look))).collect();
        if files.is_empty() {
            return Err(Refusal::new(StatusCode::Eof, "these were all"));
        }
        Ok(Packet::Name(Name { id, files }))
    }

    fn rename(&self, from: &str, to: &str, replace: bool) -> Refused<()> {
        self.account.rename(&resolved(from)?, &resolved(to)?, replace, self.peer)
    }

    fn extended(&self, id: u32, extended: &Extended) -> Refused<Packet> {
        match extended.request.as_str() {
            LIMITS => {
                let limits = [
                    u64::from(super::packets::LARGEST),
                    u64::from(MOST_BYTES),
                    u64::from(MOST_BYTES),
                    MOST_HANDLES as u64,
                ];
                let data = limits.iter().flat_map(|limit| limit.to_be_bytes()).collect();
                Ok(Packet::ExtendedReply(ExtendedReply { id, data }))
            }
            POSIX_RENAME => {
                let mut rest = &extended.data[..];
                let (Some(from), Some(to)) = (text_of(&mut rest), text_of(&mut rest)) else {
                    return Err(Refusal::new(StatusCode::BadMessage, "two names are missing"));
                };
                self.rename(&from, &to, true).map(|()| done(id))
            }
            // What counts is flushed when it is closed.
            FSYNC => Ok(done(id)),
            _ => Err(Refusal::unsupported("this server does not do that")),
        }
    }

    /// The session is over: what is still open broke off.
    pub fn end(mut self) {
        for open in self.open.drain().map(|(_, open)| open) {
            if let Open::Upload { path, upload, owner } = open {
                self.account.abandon(&path, &upload, owner);
            }
        }
    }
}

fn read_from(readable: &mut Readable, offset: u64, length: usize) -> Refused<Vec<u8>> {
    let read = match readable {
        Readable::Text(text) => {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
            let end = start.saturating_add(length).min(text.len());
            Ok(text.as_bytes()[start..end].to_vec())
        }
        Readable::Original(original) => original.read_range(offset, length as u64),
        Readable::File(file) => file.seek(SeekFrom::Start(offset)).and_then(|_| {
            let mut bytes = Vec::new();
            file.take(length as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        }),
    };
    read.map_err(|_| Refusal::failure("it cannot be read"))
}

fn resolved(name: &str) -> Refused<String> {
    path::resolve(name).ok_or_else(|| Refusal::failure("the name is too long, too deep, or no name"))
}

fn no_handle() -> Refusal {
    Refusal::failure("no such handle is open")
}

fn text_of(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (text, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

fn version() -> Packet {
    let extensions = [LIMITS, POSIX_RENAME, FSYNC].map(|name| (name.to_owned(), "1".to_owned()));
    Packet::Version(Version { version: VERSION, extensions: extensions.into() })
}

fn attributes(look: &Look) -> FileAttributes {
    let mut attributes = FileAttributes {
        size: Some(look.bytes),
        uid: Some(0),
        gid: Some(0),
        permissions: Some(if look.is_folder { 0o700 } else { 0o600 }),
        atime: Some(look.modified),
        mtime: Some(look.modified),
        ..FileAttributes::default()
    };
    attributes.set_dir(look.is_folder);
    attributes.set_regular(!look.is_folder);
    attributes
}

/// Success.
fn done(id: u32) -> Packet {
    status(id, StatusCode::Ok, "done")
}

/// No success, with words.
pub(super) fn refused(id: u32, refusal: &Refusal) -> Packet {
    status(id, refusal.code, &refusal.message)
}

fn status(id: u32, status_code: StatusCode, message: &str) -> Packet {
    Packet::Status(Status {
        id,
        status_code,
        error_message: message.to_owned(),
        language_tag: "en".to_owned(),
    })
}
