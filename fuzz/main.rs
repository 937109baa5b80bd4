//! Every parser under libFuzzer, in one binary: `CDRD_FUZZ` names the target (see `fuzz/run`).
//!
//! A target must not only survive: what it reads must lie where it says, and must not depend on how the bytes came.

#![no_main]

mod documents;
mod envelopes;
mod packets;
mod syntax;

use std::sync::OnceLock;

/// A target: it panics when something is wrong.
type Target = Box<dyn Fn(&[u8]) + Send + Sync>;

fn target() -> &'static Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("CDRD_FUZZ").unwrap_or_default();
        match name.as_str() {
            "delimited" => Box::new(syntax::delimited),
            "json" => Box::new(syntax::json),
            "xml" => Box::new(syntax::xml),
            "recognise" => Box::new(documents::recognise),
            "unpack" => Box::new(envelopes::unpack),
            "sftp" => Box::new(packets::sftp),
            other => match documents::of_format(other) {
                Some(target) => target,
                None => panic!(
                    "CDRD_FUZZ is {other:?}; it names a target: delimited, json, xml, recognise, unpack, sftp or a format of `cdrd formats`"
                ),
            },
        }
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target()(bytes));
