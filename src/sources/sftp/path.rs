//! Names as clients write them: made whole by their letters alone. They never name anything on a disk.

use crate::record::delivery::shown;

/// The longest name between two slashes, in bytes; what disks allow.
const LONGEST_NAME: usize = 255;
/// The longest path.
const LONGEST_PATH: usize = 1024;
/// Folders inside folders.
const DEEPEST: usize = 16;

/// The path that a client means, from the account's root: `/`, `/a.csv`, `/a/b.csv`. `None` where no disk would have it.
pub(super) fn resolve(written: &str) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for name in written.split('/') {
        match name {
            "" | "." => {}
            // Above the root is the root.
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let fits = |name: &&str| name.len() <= LONGEST_NAME && !name.contains('\0');
    if names.len() > DEEPEST || !names.iter().all(fits) {
        return None;
    }
    let path = format!("/{}", names.join("/"));
    (path.len() <= LONGEST_PATH).then_some(path)
}

/// The folder of a path; the root's is the root.
pub(super) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(place) => &path[..place],
    }
}

/// The last name of a path; the root has none.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// As rows, messages and the log show it: without the first slash.
pub(super) fn printable(path: &str) -> String {
    shown(path.trim_start_matches('/'))
}

/// Letters that are no UTF-8 become `\xNN`, so that two names which differ stay apart.
pub(super) fn text(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            use std::fmt::Write as _;
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

const BEGINNINGS: [&str; 3] = [".", "_", "temp-"];
const ENDS: [&str; 4] = [".tmp", ".part", ".filepart", "~"];

/// Whether the name says that its sender is not finished.
pub(super) fn is_unfinished(path: &str) -> bool {
    // Case is ignored: Windows clients write `.TMP`.
    let name = name(path).to_ascii_lowercase();
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::{is_unfinished, name, parent, resolve, text};

    #[test]
    fn no_path_leads_above_the_root() {
        let resolved = |written| resolve(written).expect("it is a path");
        for (written, path) in [
            ("", "/"),
            (".", "/"),
            ("/", "/"),
            ("a.csv", "/a.csv"),
            ("/a/./b//c.csv", "/a/b/c.csv"),
            ("../../../etc/passwd", "/etc/passwd"),
            ("a/../../b", "/b"),
            ("..\\..\\b", "/..\\..\\b"),
        ] {
            assert_eq!(resolved(written), path, "{written}");
        }
    }

    #[test]
    fn what_no_disk_would_have_is_refused() {
        assert_eq!(resolve(&"x".repeat(256)), None);
        assert_eq!(resolve("a\0b"), None);
        assert_eq!(resolve(&"x/".repeat(17)), None);
        assert_eq!(resolve(&format!("{0}/{0}/{0}/{0}/{0}", "x".repeat(250))), None);
        assert!(resolve(&"x".repeat(255)).is_some());
    }

    #[test]
    fn a_path_has_a_folder_and_a_name() {
        assert_eq!((parent("/a/b.csv"), name("/a/b.csv")), ("/a", "b.csv"));
        assert_eq!((parent("/b.csv"), name("/b.csv")), ("/", "b.csv"));
        assert_eq!((parent("/"), name("/")), ("/", ""));
    }

    #[test]
    fn names_in_other_encodings_stay_distinct() {
        assert_eq!(text(b"Gespr\xe4che"), "Gespr\\xe4che");
        assert_ne!(text(b"\xe4"), text(b"\xe5"));
        assert_eq!(text("Gespräche".as_bytes()), "Gespräche");
    }

    #[test]
    fn unfinished_names() {
        for name in ["/.a.csv", "/d/_a.csv", "/temp-a", "/a.csv.TMP", "/a.part", "/a.csv.filepart", "/a~"] {
            assert!(is_unfinished(name), "{name}");
        }
        for name in ["/a.csv", "/.d/a.csv", "/template.csv", "/a.tmp.csv"] {
            assert!(!is_unfinished(name), "{name}");
        }
    }
}
