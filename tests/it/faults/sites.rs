//! Every place where the daemon writes, and what can go wrong there.

/// A place of writing.
pub struct WriteSite {
    /// What is written there.
    pub name: &'static str,
    /// System calls.
    pub ops: &'static [&'static str],
    /// Glob behind the site's folder.
    pub pattern: &'static str,
    /// What they fail with.
    pub faults: &'static [&'static str],
    /// What of the path the log must name; `None` where the fault concerns nothing that must go on at once.
    pub names: Option<&'static str>,
    /// What the log says when the fault is over, where that is not what was sent.
    pub again: Option<&'static str>,
}

const FULL: &[&str] = &["ENOSPC", "EIO", "EROFS"];
const WRITTEN: &[&str] = &["ENOSPC", "SHORT", "EIO", "EROFS"];
/// A folder that is read-only is no fault: its files are copied.
const MOVED: &[&str] = &["ENOSPC", "EIO"];
const FLUSHED: &[&str] = &["EIO", "ENOSPC"];

const fn at(
    name: &'static str,
    ops: &'static [&'static str],
    pattern: &'static str,
    faults: &'static [&'static str],
    names: Option<&'static str>,
) -> WriteSite {
    WriteSite { name, ops, pattern, faults, names, again: None }
}

pub const SITES: &[WriteSite] = &[
    // Bodies that are copied.
    at("body created", &["create"], "/var/spool/*.part", FULL, Some("var/spool")),
    at("body written", &["write"], "/var/spool/*.part", WRITTEN, Some("var/spool")),
    at("body flushed", &["sync"], "/var/spool/*.part", FLUSHED, Some("var/spool")),
    at("body renamed", &["rename"], "/var/spool/*.part", FULL, Some("var/spool")),
    at("body's folder flushed", &["sync"], "/var/spool", FLUSHED, Some("var/spool")),
    // The body of a followed file.
    at("followed bytes written", &["write"], "/var/spool/[0-9A-Z]*[0-9A-Z]", WRITTEN, Some("var/spool")),
    at("followed bytes flushed", &["sync"], "/var/spool/[0-9A-Z]*[0-9A-Z]", FLUSHED, Some("var/spool")),
    at("followed bytes cut", &["truncate"], "/var/spool/[0-9A-Z]*[0-9A-Z]", &["EIO"], Some("var/spool")),
    // Archives in archives.
    at("scratch created", &["create"], "/var/spool/#*", FULL, Some("var/spool")),
    at("scratch written", &["write"], "/var/spool/#*", WRITTEN, Some("var/spool")),
    // Claims.
    at("file claimed", &["rename"], "/inbox/*", MOVED, Some("inbox")),
    at("claimed file flushed", &["sync"], "/inbox/.cdrd/*", FLUSHED, Some("inbox/.cdrd")),
    at("claim folder flushed", &["sync"], "/inbox/.cdrd", FLUSHED, Some("inbox/.cdrd")),
    at("inbox flushed", &["sync"], "/inbox", FLUSHED, Some("inbox")),
    // Originals.
    at("original created", &["create"], "/var/originals/*", FULL, Some("var/originals")),
    at("original written", &["write"], "/var/originals/*", WRITTEN, Some("var/originals")),
    at("original flushed", &["sync"], "/var/originals/*.part", FLUSHED, Some("var/originals")),
    at("original renamed", &["rename"], "/var/originals/*", FULL, Some("var/originals")),
    at("original's folder flushed", &["sync"], "/var/originals/*[0-9]", FLUSHED, Some("var/originals")),
    // The store.
    at("store log written", &["write"], "/var/cdr.db-wal", WRITTEN, Some("cdr.db")),
    at("store log flushed", &["sync"], "/var/cdr.db-wal", FLUSHED, Some("cdr.db")),
    // The log is moved into the database when it has grown; the log itself goes on meanwhile.
    WriteSite {
        again: Some("is moved into"),
        ..at("store written", &["write"], "/var/cdr.db", WRITTEN, Some("cdr.db"))
    },
    WriteSite {
        again: Some("is moved into"),
        ..at("store flushed", &["sync"], "/var/cdr.db", FLUSHED, Some("cdr.db"))
    },
    // After storing.
    at("stored file removed", &["unlink"], "/inbox/.cdrd/*", &["EIO", "EROFS"], Some("inbox/.cdrd")),
    at("stored body removed", &["unlink"], "/var/spool/*", &["EIO", "EROFS"], Some("var/spool")),
    // A disk that answers late: milliseconds for each call.
    at("slow inbox", &["change"], "/inbox*", &["60"], None),
    at("slow state directory", &["change"], "/var/*", &["20"], None),
    // Receipts, bookmarks, source states, outcomes: everything that the door knows.
    at("spool log written", &["write"], "/var/spool.db-wal", WRITTEN, Some("spool.db")),
    at("spool log flushed", &["sync"], "/var/spool.db-wal", FLUSHED, Some("spool.db")),
];

/// Places that are written once in the life of a site.
pub const FIRST: &[WriteSite] = &[
    at("claim folder created", &["mkdir"], "/inbox/.cdrd", MOVED, Some("inbox")),
    at("original's folder created", &["mkdir"], "/var/originals*", FULL, Some("var/originals")),
];
