//! Which documents of a body ended well before, in whatever envelope they came then. Decided before a row is read, so
//! that such a document costs neither parsing nor storing.
//!
//! Must never decide that a row is known: that is the store's unique index. What is missed here costs time, not truth.

use super::PipelineError;
use super::body::ScratchFolder;
use super::document::{Context, body_failed, broken};
use crate::record::delivery::DeliveryId;
use crate::store::Repeat;
use crate::unpack::{self, Found, ReadSeek, UnpackError};
use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::Ordering;

/// The documents of an archive, by their number, that need not be read. Unpacks what has the size of something seen, and
/// what states no size (gzip), once more than reading needs; leaves the body at its beginning.
pub(super) fn in_archive(
    context: &Context<'_>,
    body: &mut dyn ReadSeek,
) -> Result<HashMap<u32, Repeat>, PipelineError> {
    let mut repeats = HashMap::new();
    // A file that changed is read anew, whatever it holds.
    if context.restart
        || !context.pipeline.reads_as_accepted(context.spooled)
        || !context.intake().may_be_seen(context.spooled, None)?
    {
        return Ok(repeats);
    }
    let scratch = ScratchFolder(context.pipeline.parts.scratch.clone());
    let mut number = 0;
    let mut visit = |found: Found<'_>| -> Result<(), PipelineError> {
        number += 1;
        // What is broken is told when it is read.
        let Found::Document { size_hint, reader, .. } = found else { return Ok(()) };
        // Zero bytes are no document, however often they came.
        if size_hint != Some(0)
            && context.intake().may_be_seen(context.spooled, size_hint)?
            && let Some(hash) = hash_of(context, reader)?
            && let Some(repeat) = seen(context, &hash)?
        {
            repeats.insert(number, repeat);
        }
        Ok(())
    };
    let limits = &context.pipeline.parts.limits;
    match unpack::unpack(body, &context.spooled.name, limits, &scratch, &mut visit) {
        Ok(()) => {}
        Err(UnpackError::Visit(error)) => return Err(error),
        Err(UnpackError::Io(cause)) => return Err(body_failed(context, cause)),
    }
    body.rewind().map_err(|cause| body_failed(context, cause))?;
    Ok(repeats)
}

/// Whether a body that is a document itself need not be read. The door compares whole bodies; this one may have come
/// in an archive, or while the first of its kind was still waiting.
pub(super) fn plain(context: &Context<'_>, known_as: Option<DeliveryId>) -> Option<Repeat> {
    let may_be =
        !context.restart && context.spooled.bytes > 0 && context.pipeline.reads_as_accepted(context.spooled);
    let content_hash = context.spooled.content_hash.filter(|_| may_be)?;
    Some(Repeat { of: known_as?, content_hash })
}

fn seen(context: &Context<'_>, content_hash: &[u8; 32]) -> Result<Option<Repeat>, PipelineError> {
    let of = context.intake().document_seen(context.spooled, content_hash)?;
    Ok(of.map(|of| Repeat { of, content_hash: *content_hash }))
}

/// `None` where the envelope breaks off.
fn hash_of(context: &Context<'_>, reader: &mut dyn Read) -> Result<Option<[u8; 32]>, PipelineError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        if context.stop.load(Ordering::Relaxed) {
            return Err(PipelineError::Stopping);
        }
        match reader.read(&mut buffer) {
            Ok(0) if hasher.count() == 0 => return Ok(None),
            Ok(0) => return Ok(Some(*hasher.finalize().as_bytes())),
            Ok(read) => _ = hasher.update(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if broken(&error).is_some() => return Ok(None),
            Err(error) => return Err(body_failed(context, error)),
        }
    }
}
