//! The real formats and the real normaliser over the real store: what devices write, by every route, in any order,
//! split and repeated in any way, ends in the oracle's table, and correcting a zone equals having had it right.

use super::Bench;
use crate::daemon::zone_named;
use crate::dedup::oracle::{Oracle, Outcome};
use crate::dedup::{Identified, Identifier};
use crate::formats::{Formats, Head, Row};
use crate::normalise::Engine;
use crate::record::card::Card;
use crate::record::cdr::Leg;
use crate::record::origin::Origin;
use crate::record::outcome::Rejection;
use crate::record::port::Derive;
use crate::record::raw::RawRecord;
use crate::store::conformance::{ComparableRow, Subject, comparable};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The normaliser under a zone that is corrected later.
struct Corrected {
    wrong: Engine,
    right: Engine,
    done: AtomicBool,
}

impl Corrected {
    fn new() -> Self {
        let engine = |zone: &str| {
            let origin = Origin {
                name: "pbx".to_owned(),
                key: "pbx".to_owned(),
                tenant: None,
                time_zone: TimeZone::get(zone).expect("a zone"),
                country: Some("DE".to_owned()),
            };
            let zones = HashMap::from([("utc".to_owned(), TimeZone::UTC)]);
            Engine::new(vec![origin], zones, zone_named, Formats::built_in().cards().collect())
        };
        Self {
            wrong: engine("Australia/Lord_Howe"),
            right: engine("Europe/Berlin"),
            done: AtomicBool::new(false),
        }
    }

    fn right() -> Self {
        let corrected = Self::new();
        corrected.done.store(true, Ordering::Relaxed);
        corrected
    }
}

impl Derive for Corrected {
    fn derive(&self, raw: RawRecord, origin: &str, source: &str) -> Result<Leg, Box<Rejection>> {
        let engine = if self.done.load(Ordering::Relaxed) { &self.right } else { &self.wrong };
        engine.derive(raw, origin, source)
    }

    fn card(&self, format: &str) -> Option<&'static Card> {
        self.right.card(format)
    }
}

/// A leg as the device knows it. Small alphabets, so that groups, legs and calls collide.
#[derive(Debug, Clone, Copy)]
struct Truth {
    id: usize,
    src: u8,
    dst: u8,
    second: u8,
    session: u8,
    /// 0: it has no called channel.
    channel: u8,
    answered: bool,
    length: u8,
    name: u8,
}

/// In October, an hour that Berlin shows twice and Lord Howe once.
const DAY: &str = "2025-10-26";
const EPOCH: u32 = 1_761_438_600;

impl Truth {
    /// The wall clock `hour`:30 plus seconds.
    fn at(hour: u8, second: u8) -> String {
        format!("{DAY} {hour:02}:30:{second:02}")
    }

    /// The value of an API field; `hour` is that of the wall clock the route writes.
    fn value(self, field: &str, hour: u8) -> String {
        let end = self.second + self.length;
        match field {
            "AcctId" | "sequence" => self.id.to_string(),
            "src" => format!("030123450{}", self.src),
            "dst" => format!("30{}", self.dst),
            "dcontext" => "from-internal".to_owned(),
            "clid" => format!("\"Ada, {}\" <030123450{}>", self.name, self.src),
            "caller_name" => format!("Ada {}", self.name),
            "channel" => format!("PJSIP/30-{:08x}", self.session),
            "dstchannel" if self.channel == 0 => String::new(),
            "dstchannel" => format!("PJSIP/30{}-{:08x}", self.dst, self.channel),
            "lastapp" => "Dial".to_owned(),
            "lastdata" => format!("PJSIP/30{},30,T", self.dst),
            "start" => Self::at(hour, self.second),
            "answer" if self.answered => Self::at(hour, self.second + 1),
            "answer" | "end" => Self::at(hour, end),
            "duration" => self.length.to_string(),
            "billsec" if self.answered => (self.length - 1).to_string(),
            "billsec" => "0".to_owned(),
            "disposition" if self.answered => "ANSWERED".to_owned(),
            "disposition" => "NO ANSWER".to_owned(),
            "amaflags" => "DOCUMENTATION".to_owned(),
            "uniqueid" | "linkedid" => format!("{}.{}", EPOCH + u32::from(self.second), self.session),
            "session" => format!("{EPOCH}00{}-30", self.session),
            "action_type" => "DIAL".to_owned(),
            _ => String::new(),
        }
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

const API: &[&str] = &[
    "AcctId",
    "src",
    "dst",
    "dcontext",
    "clid",
    "channel",
    "dstchannel",
    "lastapp",
    "lastdata",
    "start",
    "answer",
    "end",
    "duration",
    "billsec",
    "disposition",
    "uniqueid",
    "caller_name",
    "session",
    "action_type",
];

const WEB: &[(&str, &str)] = &[
    ("Session", "session"),
    ("Caller Number", "src"),
    ("Callee Number", "dst"),
    ("Caller Name", "caller_name"),
    ("Source Channel", "channel"),
    ("Dest Channel", "dstchannel"),
    ("Start Time", "start"),
    ("Answer Time", "answer"),
    ("End Time", "end"),
    ("Call Time", "duration"),
    ("Talk Time", "billsec"),
    ("Call Status", "disposition"),
    ("Action Type", "action_type"),
    ("Unique ID", "uniqueid"),
];

const STAR: &[&str] = &[
    "accountcode",
    "src",
    "dst",
    "dcontext",
    "clid",
    "channel",
    "dstchannel",
    "lastapp",
    "lastdata",
    "start",
    "answer",
    "end",
    "duration",
    "billsec",
    "disposition",
    "amaflags",
    "uniqueid",
    "userfield",
    "peeraccount",
    "linkedid",
    "sequence",
];

fn web(rows: &[Truth], without: &[&str], summaries: bool) -> String {
    let columns: Vec<_> = WEB.iter().filter(|(header, _)| !without.contains(header)).collect();
    let mut text = if summaries { "CDR,".to_owned() } else { String::new() };
    text += &columns.iter().map(|(header, _)| *header).collect::<Vec<_>>().join(",");
    for (place, row) in rows.iter().enumerate() {
        // Now and then only the summary of a call stands in a document.
        let kind = if place % 3 == 1 { "sub_cdr" } else { "main_cdr" };
        let values: Vec<String> = columns.iter().map(|(_, field)| quoted(&row.value(field, 2))).collect();
        let _ = write!(
            text,
            "\n{}{}",
            if summaries { format!("{kind},") } else { String::new() },
            values.join(",")
        );
    }
    text
}

fn star(rows: &[Truth], columns: &[&str], hour: u8) -> String {
    let line = |row: &Truth| {
        columns.iter().map(|field| quoted(&row.value(field, hour))).collect::<Vec<_>>().join(",")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

const ROUTES: usize = 12;

/// A document as a device writes it, and the source it comes by.
fn written(route: usize, rows: &[Truth]) -> (String, &'static str) {
    let without = |left_out: &[&str]| -> Vec<&str> {
        STAR.iter().copied().filter(|field| !left_out.contains(field)).collect()
    };
    let old = ["uniqueid", "userfield", "peeraccount", "linkedid", "sequence"];
    let text = match route {
        0 => {
            let object = |row: &Truth| {
                let members = API.iter().map(|field| (*field, row.value(field, 2)));
                serde_json::to_string(&members.collect::<std::collections::BTreeMap<_, _>>()).expect("JSON")
            };
            format!("{{\"cdr_root\":[{}]}}", rows.iter().map(object).collect::<Vec<_>>().join(","))
        }
        1 => web(rows, &[], false),
        2 => web(rows, &["Unique ID"], false),
        3 => web(rows, &["Unique ID", "Dest Channel", "End Time", "Session"], false),
        4 => web(rows, &["Dest Channel"], true),
        5 => web(rows, &["Session", "Unique ID"], true),
        6 => {
            let fields: Vec<&str> =
                API.iter().copied().filter(|f| *f != "session" && *f != "AcctId").collect();
            let fields: Vec<&str> = ["AcctId"].into_iter().chain(fields).collect();
            let lines = rows.iter().map(|row| {
                // The device quotes nothing but the caller.
                let value =
                    |field: &&str| if *field == "AcctId" { String::new() } else { row.value(field, 2) };
                fields.iter().map(value).collect::<Vec<_>>().join(",")
            });
            [fields.join(",")].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
        }
        7 => star(rows, &without(&["userfield", "peeraccount", "linkedid", "sequence"]), 2),
        8 => star(rows, STAR, 2),
        9 => star(rows, &without(&old), 2),
        10 => star(rows, &without(&["peeraccount", "linkedid", "sequence"]), 1),
        _ => star(rows, STAR, 1),
    };
    (text, if route >= 10 { "utc" } else { "folder" })
}

/// Reads a document as the pipeline does; only rows that a format takes for calls.
fn read(text: &str, source: &str, derive: &dyn Derive) -> Vec<Identified> {
    let head = Head { bytes: text.as_bytes(), complete: true, name: "a" };
    let recognised = Formats::built_in().recognise(&head, None).chosen;
    let (format, claim) = recognised.unwrap_or_else(|rejection| panic!("{}\n{text}", rejection.message));
    let mut rows = format.open(&claim.dialect, Box::new(Cursor::new(text.as_bytes())));
    let mut identifier = Identifier::new("pbx", None);
    let mut legs = Vec::new();
    while let Some(row) = rows.next_row().expect("memory can be read") {
        match row {
            Row::Record(raw) => {
                let leg = derive.derive(raw, "pbx", source).expect("the rows have a start");
                legs.push(identifier.identify(leg).expect("counted in memory"));
            }
            Row::Skipped { .. } => {}
            Row::Fault(rejection) => panic!("{}\n{text}", rejection.message),
        }
    }
    legs
}

fn table(oracle: &Oracle) -> Vec<ComparableRow> {
    let mut rows: Vec<ComparableRow> = oracle.rows().iter().map(comparable).collect();
    rows.sort();
    rows
}

fn truths() -> impl Strategy<Value = Vec<Truth>> {
    let leg = (0..2u8, 0..2u8, 0..2u8, 0..3u8, 0..3u8, any::<bool>(), 2..4u8, 0..2u8);
    prop::collection::vec(leg, 1..6).prop_map(|legs| {
        let truth = |(id, (src, dst, second, session, channel, answered, length, name))| Truth {
            id: id + 1,
            src,
            dst,
            second,
            session,
            channel,
            answered,
            length,
            name,
        };
        legs.into_iter().enumerate().map(truth).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::dedup::tests::cases(48), ..ProptestConfig::default() })]
    #[test]
    fn what_devices_write_ends_in_one_table(
        truths in truths(),
        documents in prop::collection::vec((0..ROUTES, prop::collection::vec(any::<prop::sample::Index>(), 1..6)), 1..7),
        again in any::<prop::sample::Index>(),
    ) {
        let documents: Vec<(String, &str)> = documents
            .iter()
            .map(|(route, rows)| {
                let rows: Vec<Truth> = rows.iter().map(|row| *row.get(&truths)).collect();
                written(*route, &rows)
            })
            .collect();
        let derive = Arc::new(Corrected::new());
        let mut bench = Bench::with(Arc::clone(&derive));
        let mut oracle = Oracle::new();
        for (text, source) in documents.iter().chain([again.get(&documents)]) {
            let rows = read(text, source, &*derive);
            let outcomes: Vec<_> = rows.iter().map(|row| oracle.store("pbx", source, row.clone())).collect();
            oracle.check();
            prop_assert_eq!(bench.commit(source, rows), outcomes);
            let mut is = bench.table();
            is.sort();
            prop_assert_eq!(is, table(&oracle));
            prop_assert_eq!(usize::try_from(bench.balance()).ok(), Some(oracle.rows().len()));
        }
        derive.done.store(true, Ordering::Relaxed);
        bench.rederive();
        let mut is = bench.table();
        is.sort();
        let right = Corrected::right();
        let mut backwards = Oracle::new();
        for (text, source) in documents.iter().rev().chain(&documents) {
            for row in read(text, source, &right) {
                backwards.store("pbx", source, row);
            }
            backwards.check();
        }
        prop_assert_eq!(&is, &table(&backwards), "the zone had better been right from the start");
        for (text, source) in &documents {
            let rows = read(text, source, &right);
            let outcomes = bench.commit(source, rows);
            let quiet = outcomes.iter().all(|o| matches!(o, Outcome::Duplicate | Outcome::Skipped));
            prop_assert!(quiet, "a repeated document says nothing new: {:?}", outcomes);
        }
        let mut after = bench.table();
        after.sort();
        prop_assert_eq!(is, after);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::dedup::tests::cases(32), ..ProptestConfig::default() })]

    /// Documents that were read by another route and in another zone than they should have been.
    #[test]
    fn replays_and_a_corrected_zone_end_in_one_table(
        truths in truths(),
        documents in prop::collection::vec(
            (0..ROUTES, 0..ROUTES, prop::collection::vec(any::<prop::sample::Index>(), 1..6)), 1..6),
        chosen in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        zone_first in any::<bool>(),
    ) {
        // Each route has its source, which may have a zone of its own.
        let documents: Vec<[(String, &str); 2]> = documents
            .iter()
            .map(|(wrong, right, rows)| {
                let rows: Vec<Truth> = rows.iter().map(|row| *row.get(&truths)).collect();
                let right = if (*wrong >= 10) == (*right >= 10) { *right } else { *wrong };
                [written(*wrong, &rows), written(right, &rows)]
            })
            .collect();
        let derive = Arc::new(Corrected::new());
        let mut bench = Bench::with(Arc::clone(&derive));
        for [(text, source), _] in &documents {
            let rows = read(text, source, &*derive);
            bench.commit(source, rows);
        }
        derive.done.store(true, Ordering::Relaxed);
        if zone_first {
            bench.rederive();
        }
        let chosen: Vec<usize> = chosen.iter().map(|index| index.index(documents.len())).collect();
        let right = Corrected::right();
        let outcomes = bench.replay(&chosen, &mut |place| {
            let (text, source) = &documents[place][1];
            read(text, source, &right)
        });
        bench.rederive();
        let again: BTreeSet<usize> = outcomes.into_iter().map(|(place, _)| place).collect();
        let mut oracle = Oracle::new();
        for (place, [wrong, corrected]) in documents.iter().enumerate().rev() {
            let (text, source) = if again.contains(&place) { corrected } else { wrong };
            for row in read(text, source, &right) {
                oracle.store("pbx", source, row);
            }
        }
        oracle.check();
        let mut is = bench.table();
        is.sort();
        prop_assert_eq!(is, table(&oracle));
        prop_assert_eq!(usize::try_from(bench.balance()).ok(), Some(oracle.rows().len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::dedup::tests::cases(256), ..ProptestConfig::default() })]

    /// Each leg has a channel of its own, and once comes by the route that says all: it is one row, whatever else comes.
    #[test]
    fn each_leg_is_one_row(
        mut truths in truths(),
        asterisk in any::<bool>(),
        documents in prop::collection::vec((0..7usize, prop::collection::vec(any::<prop::sample::Index>(), 1..6)), 0..7),
        first in any::<prop::sample::Index>(),
    ) {
        for truth in &mut truths {
            truth.channel = u8::try_from(truth.id).unwrap_or(u8::MAX);
        }
        let routes: &[usize] = if asterisk { &[7, 8, 10, 11] } else { &[0, 1, 2, 3, 4, 5, 6] };
        let mut documents: Vec<(String, &str)> = documents
            .iter()
            .map(|(route, rows)| {
                // A document has a leg once.
                let places: BTreeSet<usize> = rows.iter().map(|row| row.index(truths.len())).collect();
                let rows: Vec<Truth> = places.into_iter().map(|place| truths[place]).collect();
                written(routes[route % routes.len()], &rows)
            })
            .collect();
        let place = first.index(documents.len() + 1);
        documents.insert(place, written(if asterisk { 8 } else { 0 }, &truths));
        let right = Corrected::right();
        let mut oracle = Oracle::new();
        for (text, source) in &documents {
            for row in read(text, source, &right) {
                oracle.store("pbx", source, row);
            }
        }
        prop_assert_eq!(oracle.rows().len(), truths.len(), "{:?}", documents);
    }
}

#[test]
fn a_summary_without_session_is_no_leg_of_the_session_its_row_shows() {
    // Which of the two versions ranks higher is up to their hashes.
    for name in 0..4 {
        let summary = Truth {
            id: 1,
            src: 0,
            dst: 0,
            second: 0,
            session: 0,
            channel: 0,
            answered: false,
            length: 2,
            name,
        };
        let mut bench = Bench::with(Arc::new(Corrected::right()));
        let derive = Arc::clone(&bench.derive);
        let mut commit = |route, rows: &[Truth]| {
            let (text, source) = written(route, rows);
            bench.commit(source, read(&text, source, &*derive))
        };
        assert_eq!(commit(5, &[summary]), [Outcome::Stored], "without session");
        assert_eq!(commit(4, &[summary]), [Outcome::Amended], "with session");
        let another = Truth { src: 1, ..summary };
        assert_eq!(commit(4, &[another]), [Outcome::Stored], "no leg of the session is stored");
    }
}

#[test]
fn thousands_of_equal_rows_are_stored_and_known_again_in_no_time() {
    let row = Truth {
        id: 1,
        src: 0,
        dst: 0,
        second: 0,
        session: 0,
        channel: 0,
        answered: false,
        length: 2,
        name: 0,
    };
    let mut bench = Bench::with(Arc::new(Corrected::right()));
    let (text, source) = written(3, &vec![row; 3000]);
    let rows = read(&text, source, &*bench.derive);
    let begun = Instant::now();
    let stored = bench.commit(source, rows.clone());
    assert!(stored.iter().all(|outcome| *outcome == Outcome::Stored));
    let known = bench.commit(source, rows);
    assert!(known.iter().all(|outcome| *outcome == Outcome::Duplicate));
    // A second; loading the group for each row made a thousand take longer than six minutes.
    assert!(begun.elapsed() < Duration::from_mins(1));
    let legs = bench.look("SELECT count(*), count(DISTINCT leg), max(leg) FROM cdr", 3);
    assert_eq!(legs, [["3000", "3000", "2999"]]);
    assert_eq!(
        bench.look("SELECT DISTINCT flags FROM document WHERE stored > 0", 1),
        [["identity_collision"]]
    );
}
