//! Originals of deliveries that nobody could read have a quota and an age of their own, so that what strangers send cannot
//! fill the disk. What goes is written down.
//!
//! Must never drop the original of a delivery of which anything is stored: whoever calls names the deliveries.

use super::error::shown;
use super::spool::{moment, parse_moment};
use super::{Intake, IntakeError, archive, durable};
use crate::record::delivery::DeliveryId;
use crate::sqlite::raw::Value;
use jiff::Timestamp;
use std::time::Duration;

/// What was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Originals.
    pub count: u64,
    /// Their bytes, packed.
    pub bytes: u64,
}

impl Intake {
    /// Drops originals that arrived longer ago than `age`, and of the others the oldest ones until those that stay take at
    /// most `most` bytes. `deliveries` are those that nobody could read and whose originals are still there.
    pub fn drop_originals(
        &self,
        deliveries: &[DeliveryId],
        most: u64,
        age: Duration,
        now: Timestamp,
    ) -> Result<Dropped, IntakeError> {
        let mut dropped = Dropped::default();
        let mut kept = 0_u64;
        let mut sorted = deliveries.to_vec();
        // An id begins with the time of arrival: the youngest first.
        sorted.sort_unstable_by_key(|id| std::cmp::Reverse(id.to_string()));
        for id in sorted {
            let path = archive::path_of(&self.0.state_dir, id);
            let Some(stamp) = durable::stamp(&path)? else { continue };
            let old = now.duration_since(archive::arrived(id)).unsigned_abs() > age;
            if !old && kept.saturating_add(stamp.bytes) <= most {
                kept += stamp.bytes;
                continue;
            }
            durable::unlink(&path)?;
            let (bytes, at) = (stamp.bytes, moment(now));
            self.write(move |db| {
                db.run(
                    "INSERT OR REPLACE INTO dropped_original (id, bytes, dropped_at) VALUES (?, ?, ?)",
                    &[Value::Text(&id.to_string()), Value::unsigned(bytes), Value::Text(&at)],
                )
            })?;
            tracing::debug!(cdrd_delivery = %id, "the original {} is dropped", shown(&path));
            dropped.count += 1;
            dropped.bytes += stamp.bytes;
        }
        Ok(dropped)
    }

    /// When the original of a delivery was dropped; `None`: it was not.
    pub fn dropped_at(&self, id: DeliveryId) -> Result<Option<Timestamp>, IntakeError> {
        let found = self.read(move |db| {
            let sql = "SELECT dropped_at FROM dropped_original WHERE id = ?";
            db.one(sql, &[Value::Text(&id.to_string())], |row| row.string(0))
        })?;
        Ok(found.as_deref().and_then(parse_moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes_and_of_the_rest_the_oldest() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let intake = Intake::open(dir.path(), super::super::Config::default(), runtime.handle().clone())?;
        let now: Timestamp = "2026-06-01T00:00:00Z".parse()?;
        let day = Duration::from_hours(24);
        let mut ids = Vec::new();
        for age in [100_u32, 80, 2, 1] {
            let id = DeliveryId::new(now - day * age, u128::from(age));
            let path = archive::path_of(dir.path(), id);
            durable::make_folder(&durable::folder_of(&path), 0o750)?;
            std::fs::write(&path, [0; 1000])?;
            ids.push(id);
        }
        let there = |id: &DeliveryId| archive::path_of(dir.path(), *id).exists();
        let dropped = intake.drop_originals(&ids, 2500, day * 90, now)?;
        assert_eq!(dropped, Dropped { count: 2, bytes: 2000 });
        assert_eq!(ids.iter().map(there).collect::<Vec<_>>(), [false, false, true, true]);
        assert!(intake.dropped_at(ids[0])?.is_some() && intake.dropped_at(ids[3])?.is_none());
        let gone = intake.open_original(ids[1]);
        assert!(matches!(gone, Err(IntakeError::OriginalDropped { .. })));
        assert_eq!(intake.drop_originals(&ids, 2500, day * 90, now)?, Dropped::default(), "once");
        Ok(())
    }
}
