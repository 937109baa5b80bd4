//! Planted violations: every rule must find its own, in every spelling, and leave what is allowed alone.

use super::{SourceFile, violations};

fn found(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<SourceFile> = files
        .iter()
        .map(|(name, text)| SourceFile { name: (*name).to_owned(), text: format!("//! For a test.\n{text}") })
        .collect();
    violations(&files)
}

/// The one violation that planted code causes.
fn one(name: &str, text: &str) -> String {
    let found = found(&[(name, text)]);
    assert_eq!(found.len(), 1, "{found:?}");
    found.concat()
}

#[test]
fn listed_edges_pass() {
    let none: [&str; 0] = [];
    assert_eq!(
        found(&[
            (
                "pipeline.rs",
                "use crate::{record::raw::RawRecord, store::Commit, telemetry}; use super::formats;"
            ),
            ("sqlite/raw.rs", "fn f() { unsafe { libsqlite3_sys::sqlite3_libversion_number() } }"),
            ("config/mod.rs", "use crate::sources::folder::Config as Folder; use crate::intake::Config;"),
            ("main.rs", "fn main() { cdrd::cli::run() }"),
            ("cli/sql.rs", "use crate::daemon; use crate::config;"),
            ("dedup/mod.rs", "#[cfg(test)] mod tests { use crate::formats; use std::fs; }"),
            ("normalise/time.rs", "use std::io::Read; fn grand() { std::sync::Mutex::new(()); }"),
        ]),
        none
    );
}

#[test]
fn a_planted_edge_is_found_in_every_spelling() {
    for text in [
        "use crate::store::Commit;",
        "use crate::{record, store};",
        "use super::super::store;",
        "fn f(x: crate::store::Query) {}",
        "fn f() { super::super::store::open() }",
        "mod inner { use super::super::super::store::X; }",
        "macro_rules! m { () => { $crate::store::x() } }",
        "#[serde(with = \"crate::store::text\")] struct S;",
    ] {
        let message = one("formats/asterisk.rs", text);
        assert!(message.contains("formats may not import store"), "{text}: {message}");
        assert!(message.starts_with("src/formats/asterisk.rs:2:"), "{text}: {message}");
    }
}

#[test]
fn the_root_must_not_be_imported_whole() {
    for text in ["use crate as root;", "use crate::*;", "use super::super::*;", "extern crate self as root;"]
    {
        assert!(one("formats/x.rs", text).contains("formats may not import"), "{text}");
    }
}

#[test]
fn narrow_rules_are_narrow() {
    assert!(one("config/mod.rs", "use crate::store::Commit;").contains("config may not import store"));
    assert!(one("sources/folder.rs", "use crate::config;").contains("sources may not import config"));
    assert!(one("store/mod.rs", "use crate::cli;").contains("store may not import cli"));
    assert!(one("api/mod.rs", "use crate::store::Commit;").contains("api may not import store"));
    assert!(found(&[("api/mod.rs", "use crate::store::Query;")]).is_empty());
    assert!(one("dedup/x.rs", "use crate::telemetry;").contains("dedup may not import telemetry"));
    assert!(
        one("unpack/x.rs", "use crate::crash_point::reached;").contains("unpack may not import crash_point")
    );
}

#[test]
fn sources_do_not_know_each_other() {
    let folder = ("sources/folder.rs", "pub struct F;");
    let polling = ("sources/polling.rs", "use super::Looked;");
    let bad = (
        "sources/mailbox/mod.rs",
        "use super::folder::F; mod part; use super::polling::P; use self::part::Q;",
    );
    let message = found(&[folder, polling, bad, ("sources/mailbox/part.rs", "use super::super::Looked;")]);
    assert_eq!(message.len(), 1, "{message:?}");
    assert!(message[0].contains("sources may not import each other (crate::sources::folder::F)"));
    let pollers = [("sources/poll/ucm.rs", "use super::webex::X;"), ("sources/poll/webex.rs", "")];
    assert_eq!(found(&pollers).len(), 1);
}

#[test]
fn pure_modules_touch_nothing() {
    for text in [
        "use std::fs;",
        "use std::{io::Read, net::TcpStream};",
        "fn f() { std::fs::read(x); }",
        "use std::time::SystemTime;",
        "fn f() { Instant::now(); }",
        "fn f() { jiff::Timestamp::now(); }",
        "fn f() { TimeZone::system(); }",
        "async fn f() { tokio::spawn(g()); }",
        "use sqlx::Row;",
        "use std as s;",
    ] {
        for module in ["record/x.rs", "formats/x.rs", "normalise/x.rs", "dedup/x.rs", "unpack/x.rs"] {
            assert!(one(module, text).contains("has no I/O, clock or database"), "{module}: {text}");
        }
        assert!(found(&[("store/x.rs", text)]).is_empty(), "{text}");
    }
}

#[test]
fn cycles_are_found() {
    let message =
        found(&[("dedup/mod.rs", "use crate::store::X;"), ("store/mod.rs", "use crate::dedup::Y;")]);
    assert!(message.contains(&"import cycle: dedup -> store -> dedup".to_owned()), "{message:?}");
}

#[test]
fn the_rest_of_the_house_rules() {
    assert!(one("store/other.rs", "fn f() { unsafe { g() } }").contains("unsafe outside"));
    assert!(one("store/util.rs", "").contains("module called util"));
    assert!(one("sources/common/x.rs", "").contains("module called common"));
    assert!(
        one("pipeline.rs", "const X: &str = \"grandstream-web-csv\";")
            .contains("knows the vendor grandstream")
    );
    assert!(one("billing/mod.rs", "").contains("has no row"));
    assert!(one("lib.rs", "pub use record::raw::RawRecord;").contains("lib may not import record"));
    assert!(one("store/x.rs", "#[path = \"y.rs\"] mod z;").contains("#[path] hides"));
    let bare = SourceFile { name: "store/x.rs".to_owned(), text: "fn f() {}".to_owned() };
    assert!(violations(&[bare]).concat().contains("does not open with //!"));
}

#[test]
fn files_of_test_modules_are_test_code() {
    let none: [&str; 0] = [];
    assert_eq!(
        found(&[
            ("dedup/mod.rs", "#[cfg(test)] mod tests;"),
            ("dedup/tests.rs", "use crate::formats; use std::fs;")
        ]),
        none
    );
}
