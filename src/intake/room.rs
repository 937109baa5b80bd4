//! The disk reserve: below it the door refuses, so that storing, archiving and retiring can always go on.

use super::error::{IntakeError, shown};
use super::{Config, Intake};
use std::path::Path;

/// What is left above the reserve, counted down while a call takes deliveries in.
#[derive(Debug)]
pub(super) struct Room {
    reserve: u64,
    free: u64,
}

impl Intake {
    /// Free bytes of the disk with the state directory, and how many of them stay free.
    pub fn room(&self) -> Result<(u64, u64), IntakeError> {
        room_of(&self.0.state_dir, &self.0.config)
    }
}

/// The same of a state directory that somebody else works on.
pub fn room_of(state_dir: &Path, config: &Config) -> Result<(u64, u64), IntakeError> {
    let room = Room::measure(state_dir, config.reserve_bytes, config.reserve_percent)?;
    Ok((room.free, room.reserve))
}

impl Room {
    /// Asks the file system of `path`.
    pub fn measure(path: &Path, reserve_bytes: u64, reserve_percent: u8) -> Result<Self, IntakeError> {
        let disk = rustix::fs::statvfs(path)
            .map_err(|error| IntakeError::io("ask for the free space of", path, error))?;
        let share = disk.f_blocks.saturating_mul(disk.f_frsize) / 100 * u64::from(reserve_percent);
        Ok(Self {
            reserve: reserve_bytes.max(share),
            // What others than root may use: the daemon does not run as root.
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
        })
    }

    /// Takes this many bytes, or refuses.
    pub fn take(&mut self, path: &Path, needed: u64) -> Result<(), IntakeError> {
        let wanted = self.reserve.saturating_add(needed);
        if self.free < wanted {
            return Err(IntakeError::NoRoom {
                path: shown(path),
                reserve: self.reserve,
                free: self.free,
                needed,
                missing: wanted - self.free,
            });
        }
        self.free -= needed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_never_touched() -> Result<(), IntakeError> {
        let mut room = Room { reserve: 100, free: 130 };
        room.take(Path::new("/var/lib/x"), 20)?;
        let refused = room.take(Path::new("/var/lib/x"), 20);
        assert!(matches!(refused, Err(IntakeError::NoRoom { missing: 10, free: 110, .. })), "{refused:?}");
        room.take(Path::new("/var/lib/x"), 10)
    }

    #[test]
    fn the_larger_of_bytes_and_percent_counts() -> Result<(), IntakeError> {
        let bytes = Room::measure(Path::new("/"), u64::MAX, 0)?;
        let percent = Room::measure(Path::new("/"), 0, 100)?;
        assert_eq!(bytes.reserve, u64::MAX);
        assert!(percent.reserve > percent.free / 2);
        Ok(())
    }
}
