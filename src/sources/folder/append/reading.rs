//! From a followed file to the door: bytes and the place that they reach, durable together.

use super::Follower;
use super::mark::Mark;
use super::siblings::Entered;
use super::trail::{Standing, Step, Trail, Trouble};
use crate::record::delivery::{Body, Delivery, DeliveryId, printable};
use jiff::Timestamp;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that become durable together.
const STEP: usize = 1024 * 1024;

impl Follower {
    /// Begins a life with its first bytes; rests where there are none. `still` is asked when they are read: whether what
    /// led to this file still holds.
    pub(super) fn begin(
        &mut self,
        trail: &mut Trail,
        path: &Path,
        mut entered: Entered,
        continues: Option<DeliveryId>,
        still: impl FnOnce(&Self, &Entered) -> Result<bool, Trouble>,
    ) -> Result<Step, Trouble> {
        let failed = |error| Trouble::File(path.to_owned(), error);
        let mut bytes = entered.read(STEP).map_err(failed)?;
        if path == trail.path {
            without_hole(&mut bytes);
        }
        if bytes.is_empty() {
            return Ok(Step::Rest(Standing::Followed));
        }
        if !still(self, &entered)? {
            return Ok(Step::Rest(Standing::Turning(String::new())));
        }
        let mark = Mark::new(&entered.state, &bytes);
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        let delivery = Delivery {
            origin: self.config.origin.clone(),
            source: self.config.name.clone(),
            account: None,
            peer: None,
            name: printable(name),
            received_at: Timestamp::now(),
            pinned_format: self.config.pinned_format.clone(),
            time_zone: None,
            reading: self.config.reading,
            body: Body::Bytes(bytes),
        };
        let (source, key) = (self.config.name.clone(), trail.key.clone());
        let named = |id| Mark { delivery: format!("{id}"), ..mark.clone() };
        let begun = self.intake.begin_growing(&delivery, continues, |id| named(id).bookmark(&source, &key));
        if begun.is_err() {
            // What is true lies behind the door.
            trail.loaded = false;
        }
        trail.reach(named(begun?));
        Ok(Step::Again)
    }

    /// Hands over everything behind the mark. Whether it was read to its end.
    pub(super) fn read_on(
        &mut self,
        trail: &mut Trail,
        path: &Path,
        mut entered: Entered,
        living: bool,
    ) -> Result<bool, Trouble> {
        let failed = |error| Trouble::File(path.to_owned(), error);
        loop {
            let mut bytes = match entered.read(STEP) {
                Ok(bytes) => bytes,
                // Still being packed, or damaged: what is whole was handed over.
                Err(_) if entered.is_packed() => return Ok(false),
                Err(error) => return Err(failed(error)),
            };
            let Some(mark) = trail.mark.clone() else { return Ok(false) };
            if living {
                without_hole(&mut bytes);
            }
            if bytes.is_empty() {
                return Ok(true);
            }
            let Some(id) = mark.id() else { return Ok(false) };
            if !entered.still_holds(&mark).map_err(failed)? {
                return Ok(false);
            }
            entered.tail = entered.tail.followed_by(&bytes);
            let moved = mark.moved(&entered.state, &entered.tail, bytes.len());
            let grown =
                self.intake.grow(id, mark.offset, &bytes, &moved.bookmark(&self.config.name, &trail.key));
            if let Err(error) = grown {
                // What is true lies behind the door.
                trail.loaded = false;
                return Err(error.into());
            }
            trail.reach(moved);
        }
    }

    pub(super) fn end(&mut self, trail: &mut Trail, mark: &Mark, proven: bool) -> Result<(), Trouble> {
        let ended = Mark { ended: true, proven, ..mark.clone() };
        let bookmark = ended.bookmark(&self.config.name, &trail.key);
        if let Some(id) = mark.id() {
            let done = self.intake.end_growing(id, &bookmark);
            if done.is_err() {
                trail.loaded = false;
            }
            done?;
        }
        trail.resting.clear();
        trail.reach(ended);
        Ok(())
    }
}

/// Takes zeros from the end: a network file system may show a hole where the bytes are still on their way.
fn without_hole(bytes: &mut Vec<u8>) {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
}
