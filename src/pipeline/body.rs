//! One delivery's bytes: read once into hash, original and parser; archives twice, because a zip is read from its end.
//!
//! The original is complete and on disk before the last chunk of a document commits: once the store says "done",
//! nothing may need the body but retiring.

use super::document::{self, Context, Step};
use super::{Pipeline, PipelineError, Progress, repeats};
use crate::intake::{OriginalWriter, SealedOriginal};
use crate::record::delivery::{Spooled, SpooledBody};
use crate::record::port::{Scratch, ScratchFile};
use crate::unpack::{self, Found, ReadSeek, UnpackError};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

/// What reading a body to its end gave.
pub(super) struct BodyRead {
    pub content_hash: [u8; 32],
    pub bytes: u64,
    pub original: SealedOriginal,
    /// Hash and size of each document of an archive that was read to its end.
    pub documents: Vec<([u8; 32], u64)>,
}

/// Reads the body; `None` when the file changed under the reader and must be read again.
pub(super) fn read(
    pipeline: &Pipeline,
    spooled: &Spooled,
    stop: &AtomicBool,
) -> Result<Option<BodyRead>, PipelineError> {
    let failed = |cause| PipelineError::Body { delivery: spooled.id.to_string(), cause };
    let intake = &pipeline.parts.intake;
    let began = intake.look(spooled.id)?;
    let mut body = open(&spooled.body).map_err(failed)?;
    let mut head = [0; 8];
    let sniffed = read_up_to(&mut *body, &mut head).map_err(failed)?;
    body.seek(SeekFrom::Start(0)).map_err(failed)?;
    let context = Context { pipeline, spooled, began, restart: !began.recorded, stop };
    let copy = Copy::new(intake.original(spooled.id)?, pipeline.progress.clone());
    if unpack::is_archive(&head[..sniffed]) {
        read_archive(&context, &mut *body, copy)
    } else {
        read_plain(&context, &mut *body, copy)
    }
}

fn open(body: &SpooledBody) -> std::io::Result<Box<dyn ReadSeek>> {
    Ok(match body {
        SpooledBody::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
        SpooledBody::File { path, .. } => Box::new(File::open(path)?),
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
    let repeat = repeats::plain(context)?;
    let step = document::read(context, 1, "", &mut tee, repeat, &mut before_last)?;
    Ok(if step == Step::Changed { None } else { sealed.into_inner() })
}

/// Archives a body that was read piece by piece while it grew.
pub(super) fn archive(pipeline: &Pipeline, spooled: &Spooled) -> Result<BodyRead, PipelineError> {
    let failed = |cause| PipelineError::Body { delivery: spooled.id.to_string(), cause };
    let intake = &pipeline.parts.intake;
    let mut copy = Copy::new(intake.original(spooled.id)?, pipeline.progress.clone());
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
    Ok(context.pipeline.parts.intake.look(context.spooled.id)?.is_same(&context.began))
}

/// Hash and original of a body, fed by whoever reads it.
struct Copy {
    hasher: blake3::Hasher,
    bytes: u64,
    original: OriginalWriter,
    progress: std::sync::Arc<Progress>,
}

impl Copy {
    fn new(original: OriginalWriter, progress: std::sync::Arc<Progress>) -> Self {
        Self { hasher: blake3::Hasher::new(), bytes: 0, original, progress }
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.progress.add_bytes(bytes.len() as u64);
        self.original.write_all(bytes)
    }

    fn seal(self) -> Result<BodyRead, PipelineError> {
        let original = self.original.finish()?;
        crate::crash_point::reached("original-sealed");
        let content_hash = *self.hasher.finalize().as_bytes();
        Ok(BodyRead { content_hash, bytes: self.bytes, original, documents: Vec::new() })
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
#[derive(Debug)]
pub struct ScratchFolder(pub PathBuf);

impl Scratch for ScratchFolder {
    fn file(&self) -> std::io::Result<Box<dyn ScratchFile>> {
        use rustix::fs::{Mode, OFlags};
        // O_TMPFILE: the file never has a name, so that a crash leaves nothing.
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.0, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Box::new(File::from(file)))
    }
}

/// Fills the buffer as far as the reader goes.
pub(super) fn read_up_to(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
