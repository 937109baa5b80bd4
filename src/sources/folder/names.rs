//! Names by which senders mark a file that they are still writing.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Folder of claimed files, in the watched folder itself: a rename needs the same file system.
pub(super) const CLAIM_FOLDER: &str = ".cdrd";

const BEGINNINGS: [&[u8]; 3] = [b".", b"_", b"temp-"];
const ENDS: [&[u8]; 4] = [b".tmp", b".part", b".filepart", b"~"];

/// Whether the name says that the file is not finished.
pub(super) fn is_unfinished(name: &[u8]) -> bool {
    // Case is ignored: Windows clients write `.TMP`.
    let name = name.to_ascii_lowercase();
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || ENDS.iter().any(|end| name.ends_with(end))
}

/// The file that a marker belongs to, if this is a marker.
pub(super) fn marked<'a>(path: &'a Path, marker: Option<&str>) -> Option<&'a Path> {
    let name = path.file_name()?.as_bytes();
    let base = name.strip_suffix(marker?.as_bytes()).filter(|base| !base.is_empty())?;
    let whole = path.as_os_str().as_bytes();
    let end = whole.len() - (name.len() - base.len());
    Some(Path::new(std::ffi::OsStr::from_bytes(&whole[..end])))
}

/// The marker of a file.
pub(super) fn marker_of(path: &Path, marker: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(marker);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_names() {
        for name in [".a.csv", "_a.csv", "temp-a.csv", "a.csv.tmp", "A.CSV.TMP", "a.part", "a.filepart", "a~"]
        {
            assert!(is_unfinished(name.as_bytes()), "{name}");
        }
        for name in ["a.csv", "template.csv", "a.tmp.csv", "a_b.csv", "part", "\u{e4}.csv"] {
            assert!(!is_unfinished(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn markers_find_their_file() {
        assert_eq!(marked(Path::new("d/a.csv.FIN"), Some(".FIN")), Some(Path::new("d/a.csv")));
        assert_eq!(marked(Path::new("d/.FIN"), Some(".FIN")), None);
        assert_eq!(marked(Path::new("d/a.csv"), Some(".FIN")), None);
        assert_eq!(marked(Path::new("d/a.csv.FIN"), None), None);
        assert_eq!(marker_of(Path::new("d/a.csv"), ".FIN"), Path::new("d/a.csv.FIN"));
    }
}
