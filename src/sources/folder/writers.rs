//! Which files some process of this host has open for writing, as far as /proc lets the daemon see.
//!
//! Best effort: other users' processes are hidden from an unprivileged daemon, and another host's never show.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Device and inode of a file.
pub(super) type FileKey = (u64, u64);

/// Of the files with these names, those that are open for writing.
pub(super) fn open_for_writing(names: &HashSet<&OsStr>) -> HashSet<FileKey> {
    let mut open = HashSet::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return open };
    for process in processes.flatten() {
        let is_process = process.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        if is_process {
            collect(&process.path(), names, &mut open);
        }
    }
    open
}

/// Processes end while they are looked at: whatever cannot be read is passed over.
fn collect(process: &Path, names: &HashSet<&OsStr>, open: &mut HashSet<FileKey>) {
    let Ok(descriptors) = std::fs::read_dir(process.join("fd")) else { return };
    for descriptor in descriptors.flatten() {
        // The name first: it is one cheap call, and nearly all descriptors are something else.
        let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
        if !target.file_name().is_some_and(|name| names.contains(name)) {
            continue;
        }
        let information = process.join("fdinfo").join(descriptor.file_name());
        if writes(&information).unwrap_or(false)
            && let Ok(metadata) = std::fs::metadata(descriptor.path())
        {
            open.insert((metadata.dev(), metadata.ino()));
        }
    }
}

/// Whether the open mode in the `flags:` line (octal) is write or read and write.
fn writes(information: &Path) -> Option<bool> {
    let text = std::fs::read_to_string(information).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
    Some(matches!(flags & 0o3, 1 | 2))
}

/// The names of these paths.
pub(super) fn names_of<'a>(paths: impl Iterator<Item = &'a Path>) -> HashSet<&'a OsStr> {
    paths.filter_map(Path::file_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn writers_are_seen_and_readers_are_not() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (written, read) = (folder.path().join("written.csv"), folder.path().join("read.csv"));
        std::fs::write(&read, "x")?;
        let writer = std::fs::File::create(&written)?;
        let reader = std::fs::File::open(&read)?;
        let key = |file: &std::fs::File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let wanted: [OsString; 2] = ["written.csv".into(), "read.csv".into()];
        let names = wanted.iter().map(OsString::as_os_str).collect();
        let open = open_for_writing(&names);
        assert!(open.contains(&key(&writer)?));
        assert!(!open.contains(&key(&reader)?));
        let gone = key(&writer)?;
        drop(writer);
        assert!(!open_for_writing(&names).contains(&gone));
        Ok(())
    }
}
