//! One delivery's bytes: read once into hash, original and parser. Archives are read once more, because a zip is read
//! from its end, and what may have been seen before a third time.
//!
//! The original of a large body is complete and on disk before the last chunk of a document commits, that of a small one
//! before its receipt goes: until then the spool has the body. Once the store says "done", nothing may need the body but
//! retiring.

use super::document::{self, Context, Foreseen, Step};
use super::{Pipeline, PipelineError, Progress, repeats};
use crate::intake::{Claimed, Intake, Look, Original, OriginalWriter, SMALL};
use crate::record::delivery::{DeliveryId, SpooledBody, printable};
use crate::record::disk;
use crate::record::port::{Scratch, ScratchFile};
use crate::store::Pending;
use crate::unpack::{self, Found, ReadSeek, UnpackError};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What reading a body to its end gave.
pub(super) struct BodyRead {
    pub content_hash: [u8; 32],
    pub bytes: u64,
    pub original: Original,
    /// Answers to the last chunks.
    pub chunks: Vec<Pending>,
    /// Hash and size of each document of an archive that was read to its end.
    pub documents: Vec<([u8; 32], u64)>,
}

/// Reads the body; `None` when the file changed under the reader and must be read again.
pub(super) fn read(
    pipeline: &Pipeline,
    claimed: &Claimed,
    began: Look,
    foreseen: Option<Foreseen>,
    stop: &AtomicBool,
) -> Result<Option<BodyRead>, PipelineError> {
    let spooled = &claimed.spooled;
    let failed = |cause| PipelineError::Body { delivery: spooled.id.to_string(), cause };
    let mut body = open(&spooled.body).map_err(failed)?;
    let mut head = [0; unpack::SNIFFED];
    let sniffed = read_up_to(&mut *body, &mut head).map_err(failed)?.bytes;
    body.seek(SeekFrom::Start(0)).map_err(failed)?;
    let archive = unpack::is_archive(&head[..sniffed]);
    let context = Context {
        pipeline,
        spooled,
        began,
        restart: !began.recorded,
        plain: !archive,
        chunks: RefCell::default(),
        before: Vec::new(),
        foreseen: Cell::new(foreseen),
        stop,
    };
    let copy = Copy::new(&context)?;
    let read = if archive {
        read_archive(&context, &mut *body, copy)
    } else {
        read_plain(&context, &mut *body, copy, claimed.known_as)
    };
    Ok(read?.map(|read| BodyRead { chunks: context.chunks.take(), ..read }))
}

fn open(body: &SpooledBody) -> std::io::Result<Box<dyn ReadSeek>> {
    Ok(match body {
        SpooledBody::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
        SpooledBody::File { path, .. } => {
            let named = |error| disk::at("open", &printable(path.as_os_str().as_bytes()), &error);
            Box::new(File::open(path).map_err(named)?)
        }
    })
}

fn read_archive(
    context: &Context<'_>,
    body: &mut dyn ReadSeek,
    mut copy: Copy,
) -> Result<Option<BodyRead>, PipelineError> {
    let failed = |cause| PipelineError::Body { delivery: context.spooled.id.to_string(), cause };
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = body.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        if context.stop.load(Ordering::Relaxed) {
            return Err(PipelineError::Stopping);
        }
        copy.take(&buffer[..read]).map_err(failed)?;
    }
    body.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut done = copy.seal()?;
    let repeats = repeats::in_archive(context, body)?;
    let scratch = ScratchFolder(context.pipeline.parts.scratch.clone());
    let mut number = 0;
    let mut unchanged = true;
    let mut visit = |found: Found<'_>| -> Result<(), PipelineError> {
        number += 1;
        let before_last = || unchanged_since(context);
        let step = match found {
            Found::Document { path, reader, .. } => {
                let repeat = repeats.get(&number).copied();
                let mut before_last = || before_last().map(|same| (same, None));
                document::read(context, number, path, reader, repeat, &mut before_last)?
            }
            Found::Rejected(path, rejection) => document::reject(context, number, path, rejection)?,
        };
        if let Step::Read(hash, bytes) = step {
            done.documents.push((hash, bytes));
        }
        unchanged &= step != Step::Changed;
        if unchanged { Ok(()) } else { Err(PipelineError::Stopping) }
    };
    let limits = &context.pipeline.parts.limits;
    match unpack::unpack(body, &context.spooled.name, limits, &scratch, &mut visit) {
        Ok(()) => {}
        // The visitor's way of leaving early when the file changed.
        Err(UnpackError::Visit(PipelineError::Stopping)) if !unchanged => return Ok(None),
        Err(UnpackError::Visit(error)) => return Err(error),
        Err(UnpackError::Io(cause)) => return Err(failed(cause)),
    }
    if !unchanged_since(context)? {
        return Ok(None);
    }
    // Not sooner: each document must have begun its new run.
    context.pipeline.parts.intake.record_look(context.spooled.id, &context.began)?;
    Ok(Some(done))
}

fn read_plain(
    context: &Context<'_>,
    body: &mut dyn ReadSeek,
    copy: Copy,
    known_as: Option<DeliveryId>,
) -> Result<Option<BodyRead>, PipelineError> {
    let copy = Rc::new(RefCell::new(Some(copy)));
    let shared_body = Rc::new(RefCell::new(body));
    let mut tee = Tee { body: shared_body.clone(), copy: copy.clone() };
    let sealed: RefCell<Option<BodyRead>> = RefCell::new(None);
    let mut before_last = || -> Result<(bool, Option<[u8; 32]>), PipelineError> {
        // A parser may stop early; the original is the whole body.
        let mut rest = Tee { body: shared_body.clone(), copy: copy.clone() };
        std::io::copy(&mut rest, &mut std::io::sink())
            .map_err(|cause| PipelineError::Body { delivery: context.spooled.id.to_string(), cause })?;
        if let Some(copy) = copy.borrow_mut().take() {
            *sealed.borrow_mut() = Some(copy.seal()?);
        }
        let hash = sealed.borrow().as_ref().map(|done| done.content_hash);
        let unchanged = unchanged_since(context)?;
        if unchanged {
            context.pipeline.parts.intake.record_look(context.spooled.id, &context.began)?;
        }
        Ok((unchanged, hash))
    };
    let repeat = repeats::plain(context, known_as);
    let step = document::read(context, 1, "", &mut tee, repeat, &mut before_last)?;
    // What was taken for a repeat is no longer what the door hashed: read again, with its rows.
    let now = sealed.borrow().as_ref().map(|done| done.content_hash);
    if repeat.is_some_and(|repeat| now.is_some_and(|now| now != repeat.content_hash)) {
        return Ok(None);
    }
    Ok(if step == Step::Changed { None } else { sealed.into_inner() })
}

/// Archives a body that was read piece by piece while it grew.
pub(super) fn archive(context: &Context<'_>) -> Result<BodyRead, PipelineError> {
    let (spooled, intake) = (context.spooled, context.intake());
    let failed = |cause| PipelineError::Body { delivery: spooled.id.to_string(), cause };
    let mut copy = Copy::new(context)?;
    let mut body = intake.open_original(spooled.id)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = body.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return copy.seal();
        }
        copy.take(&buffer[..read]).map_err(failed)?;
    }
}

/// Whether the file still is what it was when reading began.
fn unchanged_since(context: &Context<'_>) -> Result<bool, PipelineError> {
    let SpooledBody::File { claimed: true, .. } = context.spooled.body else { return Ok(true) };
    Ok(context.intake().is_same_as(context.spooled, &context.began)?)
}

/// Hash and original of a body, fed by whoever reads it.
struct Copy {
    hasher: blake3::Hasher,
    bytes: u64,
    kept: Kept,
    intake: Intake,
    delivery: DeliveryId,
    progress: std::sync::Arc<Progress>,
}

/// Where the bytes of an original go while they are read.
enum Kept {
    /// Into memory: the spool holds a small body until it is archived with others.
    Bytes(Vec<u8>),
    Written(OriginalWriter),
}

impl Copy {
    fn new(context: &Context<'_>) -> Result<Self, PipelineError> {
        let (intake, delivery) = (context.intake().clone(), context.spooled.id);
        let kept = if context.spooled.bytes <= SMALL {
            Kept::Bytes(Vec::new())
        } else {
            Kept::Written(intake.original(delivery)?)
        };
        let progress = context.pipeline.parts.progress.clone();
        Ok(Self { hasher: blake3::Hasher::new(), bytes: 0, kept, intake, delivery, progress })
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.progress.add_bytes(self.delivery, bytes.len() as u64);
        if let Kept::Bytes(kept) = &mut self.kept {
            if self.bytes <= SMALL {
                kept.extend_from_slice(bytes);
                return Ok(());
            }
            // It grew since it was claimed.
            let mut original = self.intake.original(self.delivery).map_err(std::io::Error::other)?;
            original.write_all(kept)?;
            self.kept = Kept::Written(original);
        }
        match &mut self.kept {
            Kept::Written(original) => original.write_all(bytes),
            Kept::Bytes(_) => Ok(()),
        }
    }

    fn seal(self) -> Result<BodyRead, PipelineError> {
        let original = match self.kept {
            Kept::Bytes(bytes) => Original::Bytes(bytes),
            Kept::Written(original) => {
                let sealed = original.finish()?;
                crate::crash_point::reached("original-sealed");
                Original::Sealed(sealed)
            }
        };
        let content_hash = *self.hasher.finalize().as_bytes();
        Ok(BodyRead { content_hash, bytes: self.bytes, original, chunks: Vec::new(), documents: Vec::new() })
    }
}

/// Reads the body once for parser, hash and original.
struct Tee<'b> {
    body: Rc<RefCell<&'b mut dyn ReadSeek>>,
    copy: Rc<RefCell<Option<Copy>>>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.body.borrow_mut().read(buffer)?;
        if let Some(copy) = self.copy.borrow_mut().as_mut() {
            copy.take(&buffer[..read])?;
        }
        Ok(read)
    }
}

/// Room for archives inside archives: files without a name in the spool's folder.
#[derive(Debug, Clone)]
pub struct ScratchFolder(pub PathBuf);

impl Scratch for ScratchFolder {
    fn file(&self) -> std::io::Result<Box<dyn ScratchFile>> {
        use rustix::fs::{Mode, OFlags};
        // O_TMPFILE: the file never has a name, so that a crash leaves nothing.
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let folder = printable(self.0.as_os_str().as_bytes());
        let file = rustix::fs::open(&self.0, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| disk::at("make a temporary file in", &folder, &error.into()))?;
        Ok(Box::new(Temporary { file: File::from(file), folder }))
    }
}

/// A file without a name, whose errors say where it is.
struct Temporary {
    file: File,
    folder: String,
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes).map_err(|error| disk::at("write a temporary file in", &self.folder, &error))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Read for Temporary {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Temporary {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// What [`read_up_to`] got.
pub(super) struct Filled {
    pub bytes: usize,
    /// Whether that is all there is.
    pub whole: bool,
}

/// Fills the buffer as far as the reader goes. What comes before damage of an envelope is kept: the reader repeats the
/// error behind it.
pub(super) fn read_up_to(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> std::io::Result<Filled> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(Filled { bytes: filled, whole: true }),
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if filled > 0 && document::broken(&error).is_some() => {
                return Ok(Filled { bytes: filled, whole: false });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Filled { bytes: filled, whole: false })
}
