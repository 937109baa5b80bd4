//! Stores an open file: it goes through the door like any other delivery.

use super::{Bench, Done, ImportWish, Refusal, Told};
use crate::config;
use crate::daemon::zone_named;
use crate::pipeline::{Ended, Expected, News, PipelineError, Worked};
use crate::record::delivery::{Body, Delivery, DeliveryId, shown};
use crate::record::outcome::Actor;
use jiff::Timestamp;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::Seek as _;
use std::time::Duration;

/// Name of the source of imported files.
const SOURCE: &str = "import";
/// Passing failures in a row after which a command gives up; the daemon would go on for ever.
const PATIENCE: u32 = 5;
const ACCEPTED: &str = "the file was accepted: it is safe, and is read by the daemon, or at the next start";

/// Bytes of a name: no path is longer than 4096, and each byte may be shown as four.
const LONGEST_NAME: usize = 4 * 4096;

fn named(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(Refusal::usage(format!("a file needs a name, of {LONGEST_NAME} bytes at most")));
    }
    Ok(())
}

/// The file from its first byte. A descriptor that cannot be read is its sender's fault, not the disk's.
fn readable(mut file: File) -> Result<File, Refusal> {
    let flags = rustix::fs::fcntl_getfl(&file).map_err(std::io::Error::from)?;
    if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE == OFlags::WRONLY {
        return Err(Refusal::usage("the file that came with the request is not open for reading"));
    }
    // Whoever sent it may have read some of it. What cannot be wound back is no file; the door says so.
    let _ = file.rewind();
    Ok(file)
}

impl Bench<'_> {
    pub(super) fn import(&self, wish: &ImportWish, file: File) -> Result<Done, Refusal> {
        let delivery = self.delivery(wish)?;
        let file = readable(file)?;
        let progress = self.storing.pipeline.progress();
        let mut expected = progress.awaited().expect();
        let receipt = self.storing.intake.accept_open(delivery, file)?;
        expected.is(receipt.id);
        let ended = self.telling_of(&expected, || {
            if self.attended { self.attend(&expected) } else { self.drain(receipt.id) }
        })?;
        Ok(Done::Imported {
            state: ended.state.word().to_owned(),
            counts: ended.counts,
            rejected_documents: ended.rejected_documents,
        })
    }

    fn delivery(&self, wish: &ImportWish) -> Result<Delivery, Refusal> {
        named(&wish.name)?;
        let (config, formats) = (&self.storing.config, &self.storing.formats);
        let origin = config
            .origin(&wish.origin)
            .ok_or_else(|| Refusal::usage(format!("no [[origin]] is named {:?}", wish.origin)))?;
        if let Some(wish) = wish.format.as_deref().filter(|wish| formats.by_id(wish).is_none()) {
            return Err(Refusal::usage(format!("no format is named {wish:?}; see `cdrd formats`")));
        }
        let zone = wish.time_zone.as_deref();
        let zone = zone.map(|name| {
            zone_named(name).ok_or_else(|| Refusal::usage(format!("{name:?} is no IANA time zone")))
        });
        let zone = zone.transpose()?;
        let reading =
            config::reading_hash(Some(origin), zone.as_ref(), wish.format.as_deref(), &formats.versions());
        Ok(Delivery {
            origin: origin.name.clone(),
            source: SOURCE.to_owned(),
            account: None,
            peer: None,
            // Whoever asks may write anything there.
            name: shown(&wish.name),
            received_at: Timestamp::now(),
            pinned_format: wish.format.clone(),
            time_zone: wish.time_zone.clone(),
            reading,
            body: Body::Bytes(Vec::new()),
        })
    }

    /// Waits until the daemon's threads have brought it to its end.
    fn attend(&self, expected: &Expected<'_>) -> Result<Ended, Refusal> {
        const SLICE: Duration = Duration::from_millis(200);
        while !self.stopped() {
            match expected.news(SLICE) {
                None => {}
                Some(News::Ended(ended)) => return Ok(ended),
                Some(News::Rests { why, actor: Actor::Transient }) => (self.tell)(Told::Waits(why)),
                Some(News::Rests { why, .. }) => return Err(Refusal::new(format!("{why}; {ACCEPTED}"))),
            }
        }
        Err(Refusal::interrupted(ACCEPTED))
    }

    fn drain(&self, ours: DeliveryId) -> Result<Ended, Refusal> {
        let mut end = None;
        self.drain_all(Some(ours), &mut |id, ended| {
            if id == ours {
                end = Some(ended);
            }
        })?;
        end.ok_or_else(|| Refusal::new(format!("it did not end; {ACCEPTED}")))
    }

    /// Reads everything that waits, also what an earlier run left. What fails of that goes on waiting; ours may not.
    pub(super) fn drain_all(
        &self,
        ours: Option<DeliveryId>,
        note: &mut dyn FnMut(DeliveryId, Ended),
    ) -> Result<(), Refusal> {
        let mut failures = 0;
        loop {
            if self.stopped() {
                return Err(Refusal::interrupted(ACCEPTED));
            }
            let error = match self.storing.pipeline.work(self.stop) {
                Ok(Some(Worked { id, outcome: Ok(end) })) => {
                    failures = 0;
                    note(id, end);
                    continue;
                }
                Ok(Some(Worked { id, .. })) if ours != Some(id) => continue,
                Ok(None) if failures == 0 => return Ok(()),
                // Ours rests.
                Ok(None) => {
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
                Err(PipelineError::Stopping) => continue,
                Ok(Some(Worked { outcome: Err(error), .. })) | Err(error) => error,
            };
            if failures == PATIENCE || error.actor() != Actor::Transient {
                return Err(error.into());
            }
            failures += 1;
            tracing::warn!("{error}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_NAME, named, readable};
    use rustix::fs::{Mode, OFlags};
    use std::fs::File;
    use std::io::Read as _;

    #[test]
    fn a_name_is_there_and_no_longer_than_a_path() {
        assert!(named("").is_err_and(|refusal| refusal.usage));
        assert!(named(&"x".repeat(LONGEST_NAME + 1)).is_err_and(|refusal| refusal.usage));
        assert!(named(&"x".repeat(LONGEST_NAME)).is_ok());
    }

    #[test]
    fn a_file_is_read_from_its_first_byte_and_only_if_it_can_be() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "all of it")?;
        let mut file = File::open(&path)?;
        file.read_exact(&mut [0; 4])?;
        let mut text = String::new();
        readable(file).map_err(std::io::Error::other)?.read_to_string(&mut text)?;
        assert_eq!(text, "all of it");
        for flags in [OFlags::PATH, OFlags::WRONLY] {
            let file = File::from(rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())?);
            let refusal = readable(file).expect_err("it cannot be read");
            assert!(refusal.usage && refusal.message.contains("not open for reading"), "{refusal}");
        }
        Ok(())
    }
}
