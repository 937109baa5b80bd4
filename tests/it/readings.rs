//! What every fixture, and every fixture with a few bytes changed, is read as: one digest a file over all rows, legs, keys,
//! copies and version hashes. Rows exist under these keys for years: a change here doubles or amends what is stored.
//! `CDRD_UPDATE_SNAPSHOTS=1` writes the file anew, for a new fixture or where rows are meant to read otherwise.

use cdrd::dedup::Identifier;
use cdrd::formats::{Formats, Head, Row};
use cdrd::normalise::Engine;
use cdrd::record::cdr::{Leg, TextColumn};
use cdrd::record::origin::Origin;
use cdrd::record::port::Derive;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Changed copies of each fixture.
const CHANGED: u64 = 12;

/// What sets values apart, ends lines or is no text: bytes that a reader must heed.
const TELLING: &[u8] = b",;\"\"\n\r \t<>{}:0-\x00\xFC\xC3\xE2";

#[test]
fn every_fixture_is_read_as_it_was() {
    let (formats, origins) = (Formats::built_in(), ["berlin", "new-york", "utc"]);
    let engine = engine(&formats);
    let mut digests = String::new();
    for path in documents(&crate::site::repository("fixtures")) {
        let bytes = std::fs::read(&path).expect("a fixture can be read");
        let name = path.strip_prefix(crate::site::repository("")).expect("it is below").display().to_string();
        let mut read = Read::default();
        for (number, origin) in (0..).zip(origins) {
            read.document(&formats, &engine, &bytes, origin);
            for change in 0..CHANGED / 3 {
                read.document(&formats, &engine, &changed(&bytes, change * 3 + number), origin);
            }
        }
        let _ = writeln!(digests, "{name} {} {} {}", read.legs, read.others, read.hasher.finalize());
    }
    crate::snapshots::compare("readings", &digests);
}

fn engine(formats: &Formats) -> Engine {
    let origin = |name: &str, zone: &str, country: Option<&str>| Origin {
        name: name.to_owned(),
        key: name.to_owned(),
        tenant: None,
        time_zone: TimeZone::get(zone).expect("tests need tzdata"),
        country: country.map(str::to_owned),
    };
    let origins = vec![
        origin("berlin", "Europe/Berlin", Some("DE")),
        origin("new-york", "America/New_York", Some("US")),
        origin("utc", "UTC", None),
    ];
    Engine::new(origins, HashMap::new(), |name| TimeZone::get(name).ok(), formats.cards().collect())
}

/// Fixtures by their path, without what is expected of them.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).expect("the fixtures are there");
    for path in entries.map(|entry| entry.expect("a folder can be read").path()) {
        if path.is_dir() {
            found.extend(documents(&path));
        } else if !path.to_string_lossy().ends_with(".expected.json") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What was read of one fixture.
#[derive(Default)]
struct Read {
    hasher: blake3::Hasher,
    legs: u64,
    others: u64,
}

impl Read {
    fn document(&mut self, formats: &Formats, engine: &Engine, bytes: &[u8], origin: &str) {
        let head = Head {
            bytes: &bytes[..bytes.len().min(64 * 1024)],
            complete: bytes.len() <= 64 * 1024,
            name: "",
        };
        let (format, claim) = match formats.recognise(&head, None).chosen {
            Ok(chosen) => chosen,
            Err(rejection) => return self.say(&rejection),
        };
        self.say(&(format.card().id, &claim));
        let mut identifier = Identifier::new(origin, None);
        let mut rows = format.open(&claim.dialect, Box::new(Cursor::new(bytes)));
        while let Some(row) = rows.next_row().expect("memory can be read") {
            self.others += 1;
            self.say(&row.position());
            let Row::Record(raw) = row else {
                self.say(&row);
                continue;
            };
            self.hasher.update(rows.verbatim());
            match engine.derive(raw, origin, "") {
                Err(rejection) => self.say(&rejection),
                Ok(leg) => {
                    self.others -= 1;
                    self.legs += 1;
                    self.say(&(leg.raw.layout.hash, &leg.raw.layout.dialect));
                    let row = identifier.identify(leg).expect("nothing is spilled");
                    self.leg(&row.leg);
                    self.say(&(row.key, row.copy, row.version_hash));
                }
            }
        }
    }

    fn leg(&mut self, leg: &Leg) {
        let raw: Vec<_> = leg.raw.columns().collect();
        self.say(&(leg.raw.position, leg.raw.len(), raw));
        self.say(&(leg.start_local, leg.answer_local, leg.end_local, leg.id_epoch_s));
        let cdr = &leg.cdr;
        self.say(&(cdr.started_at, cdr.answered_at, cdr.ended_at, cdr.utc_offset_min));
        self.say(&(cdr.time_precision, cdr.time_ambiguous, cdr.duration_ms, cdr.talk_ms, cdr.ring_ms));
        self.say(&(cdr.direction, cdr.disposition, cdr.hangup_cause_q850));
        for column in TextColumn::ALL {
            self.say(&cdr.text.get(*column));
        }
    }

    fn say(&mut self, what: &impl std::fmt::Debug) {
        let _ = writeln!(Hashed(&mut self.hasher), "{what:?}");
    }
}

/// Hashes what is written.
struct Hashed<'h>(&'h mut blake3::Hasher);

impl std::fmt::Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// The bytes with one to four of them changed, put in or left out; always the same for the same number.
fn changed(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(bytes.len() as u64) | 1;
    let mut next = |below: usize| {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap_or(0) % below
    };
    for _ in 0..=next(4) {
        let (place, byte) = (next(bytes.len() + 1), TELLING[next(TELLING.len())]);
        match next(3) {
            0 => bytes.insert(place, byte),
            1 if place < bytes.len() => drop(bytes.remove(place)),
            _ if place < bytes.len() => bytes[place] = byte,
            _ => {}
        }
    }
    bytes
}
