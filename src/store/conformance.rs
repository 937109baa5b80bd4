//! What every store must do, said once: any sets of deliveries, in any order, split and repeated, end in the table that
//! the oracle ends in. A store passes by implementing [`Subject`].

use crate::dedup::oracle::{Oracle, OracleRow, Outcome};
use crate::dedup::{Identified, Identifier, Key};
use crate::record::card::{Card, Evidence, Family, Link, Match, Told};
use crate::record::cdr::{Cdr, Disposition, Leg, TextColumn};
use crate::record::document::{Dialect, Layout, RowKind};
use crate::record::field::Field;
use crate::record::outcome::Rejection;
use crate::record::port::Derive;
use crate::record::raw::{Position, RawRecord};
use jiff::civil::DateTime;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A store under test. The origin is always `pbx`.
pub trait Subject {
    /// Stores a document from this source; gives each row's outcome.
    fn commit(&mut self, source: &str, document: Vec<Identified>) -> Vec<Outcome>;
    /// Has documents (places in the order in which they were committed) read again, with all that must be read again
    /// with them, in one switch. Gives those that were read, in order, with each row's outcome.
    fn replay(&mut self, chosen: &[usize], read: &mut Reading<'_>) -> Vec<(usize, Vec<Outcome>)>;
    /// Derives everything again.
    fn rederive(&mut self) -> u64;
    /// The table, in any order.
    fn table(&mut self) -> Vec<ComparableRow>;
    /// Rows ever added minus rows ever withdrawn, as counted on documents.
    fn balance(&mut self) -> i64;
    /// Every stored version: its hash and the record it states.
    fn versions(&mut self) -> Vec<([u8; 16], RawRecord)>;
}

/// What a document states when it is read again.
pub type Reading<'r> = dyn FnMut(usize) -> Vec<Identified> + 'r;

/// A visible row by the words of the table, up to what may depend on the order of arrival (`id`, `leg`, lineage).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ComparableRow {
    /// Key.
    pub key: Key,
    /// Name and text of every other content column; blank ones left out.
    pub columns: BTreeMap<String, String>,
}

/// The oracle's row in the words of the table.
pub fn comparable(row: &OracleRow) -> ComparableRow {
    let cdr = &row.cdr;
    let mut columns = BTreeMap::new();
    let mut put = |name: &str, text: String| {
        if !text.is_empty() {
            columns.insert(name.to_owned(), text);
        }
    };
    let time = |ms: Option<i64>| ms.map(written_time).unwrap_or_default();
    let length = |ms: Option<i64>| ms.map(written_seconds).unwrap_or_default();
    put("origin", row.origin.clone());
    put("format", row.format.to_owned());
    put("system", row.system.to_owned());
    put("call_group", row.call_group.clone());
    put("call_head", i32::from(row.call_head).to_string());
    put("started_at", written_time(cdr.started_at));
    put("answered_at", time(cdr.answered_at));
    put("ended_at", time(cdr.ended_at));
    put("utc_offset_min", cdr.utc_offset_min.map(|m| m.to_string()).unwrap_or_default());
    put("time_precision", cdr.time_precision.word().to_owned());
    put("time_ambiguous", i32::from(cdr.time_ambiguous).to_string());
    put("duration_s", length(cdr.duration_ms));
    put("talk_s", length(cdr.talk_ms));
    put("ring_s", length(cdr.ring_ms));
    put("direction", cdr.direction.word().to_owned());
    put("disposition", cdr.disposition.word().to_owned());
    put("hangup_cause_q850", cdr.hangup_cause_q850.map(|c| c.to_string()).unwrap_or_default());
    for column in TextColumn::ALL {
        put(column.name(), cdr.text.get(*column).to_owned());
    }
    ComparableRow { key: row.key, columns }
}

fn written_time(ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(ms).expect("toy times are in range");
    timestamp.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

fn written_seconds(ms: i64) -> String {
    if ms % 1000 == 0 {
        (ms / 1000).to_string()
    } else {
        format!("{}.{:03}", ms / 1000, ms % 1000).trim_end_matches('0').to_owned()
    }
}

static UCM: Family = Family {
    name: "ucm",
    matched: &[Match::Text(Field::CallerNumber), Match::Time(Field::Start), Match::Text(Field::CalleeNumber)],
    sure: Some(Field::RecordId),
    instance: Some(Field::DstChannel),
    exact: &[
        Field::UniqueId,
        Field::LinkedId,
        Field::Channel,
        Field::LastApp,
        Field::Answer,
        Field::End,
        Field::Disposition,
    ],
    near: &[Field::Duration, Field::Talk],
    minute: false,
    events: &[],
};

static STAR: Family = Family {
    name: "star",
    matched: &[
        Match::Text(Field::UniqueId),
        Match::TimeModuloQuarter(Field::Start),
        Match::Text(Field::DstChannel),
    ],
    sure: Some(Field::RecordId),
    instance: Some(Field::DstChannel),
    exact: &[Field::Channel, Field::CallerNumber, Field::CalleeNumber, Field::LastApp, Field::Disposition],
    near: &[Field::Duration, Field::Talk],
    minute: false,
    events: &[],
};

static PLAIN: Family = Family {
    name: "plain",
    matched: &[
        Match::Text(Field::CallerNumber),
        Match::Time(Field::Start),
        Match::Text(Field::CalleeNumber),
        Match::Text(Field::Duration),
    ],
    sure: None,
    instance: None,
    exact: &[],
    near: &[],
    minute: false,
    events: &[],
};

const HEADERS: &[(&str, Field)] = &[
    ("id", Field::RecordId),
    ("src", Field::CallerNumber),
    ("dst", Field::CalleeNumber),
    ("start", Field::Start),
    ("answer", Field::Answer),
    ("end", Field::End),
    ("duration", Field::Duration),
    ("billsec", Field::Talk),
    ("status", Field::Disposition),
    ("channel", Field::Channel),
    ("dstchannel", Field::DstChannel),
    ("uniqueid", Field::UniqueId),
    ("session", Field::LinkedId),
    ("name", Field::CallerName),
    ("lastapp", Field::LastApp),
];

const fn card(id: &'static str, fidelity: u8, families: &'static [Family], links: &'static [Link]) -> Card {
    Card {
        id,
        system: "toy",
        title: "toy",
        version: 1,
        evidence: Evidence::Documented,
        versions: &[],
        notes: &[],
        outcome: Told::Word,
        fidelity,
        headers: HEADERS,
        families,
        links,
        dispositions: &[],
        directions: &[],
        contexts: &[],
        voicemail: &[],
        bracketed: &[],
        recording_separator: '@',
        epoch_in: Some(Field::UniqueId),
    }
}

const LINKS: &[Link] = &[
    Link { kind: "uniqueid", column: TextColumn::UniqueId },
    Link { kind: "session", column: TextColumn::LinkedId },
];

static UCM_API: Card = card("ucm-api", 90, std::slice::from_ref(&UCM), LINKS);
static UCM_WEB: Card = card("ucm-web", 60, std::slice::from_ref(&UCM), LINKS);
static UCM_OLD: Card = card("ucm-old", 60, std::slice::from_ref(&UCM), LINKS);
static STAR_CSV: Card = card("star-csv", 50, std::slice::from_ref(&STAR), LINKS);
static STAR_DB: Card = card("star-db", 70, std::slice::from_ref(&STAR), LINKS);
static SMDR: Card = card("smdr", 50, std::slice::from_ref(&PLAIN), &[]);

/// A small normaliser; the zone is a fixed offset that a test may move.
#[derive(Debug, Default)]
pub struct Toy {
    /// Offset of the wall clock in hours.
    pub offset: AtomicI64,
}

impl Derive for Toy {
    fn derive(&self, raw: RawRecord, _: &str, source: &str) -> Result<Leg, Box<Rejection>> {
        // A source may have a zone of its own.
        let offset = self.offset.load(Ordering::Relaxed) + i64::from(source == "utc");
        let time = |field| raw.get(field).parse::<DateTime>().ok();
        let utc = |local: DateTime| {
            local.to_zoned(jiff::tz::TimeZone::UTC).map_or(0, |zoned| zoned.timestamp().as_millisecond())
                - offset * 3_600_000
        };
        let disposition = match raw.get(Field::Disposition) {
            "ANSWERED" => Disposition::Answered,
            "NO ANSWER" => Disposition::NoAnswer,
            _ => Disposition::Unknown,
        };
        let length = |field| raw.get(field).parse::<i64>().ok().map(|s| s * 1000 + s % 2 * 250);
        let start = time(Field::Start).expect("toy rows have a start");
        let mut cdr = Cdr {
            started_at: utc(start),
            ended_at: time(Field::End).map(utc),
            answered_at: time(Field::Answer).map(utc).filter(|_| disposition.talked()),
            utc_offset_min: i32::try_from(offset * 60).ok(),
            duration_ms: length(Field::Duration),
            talk_ms: length(Field::Talk),
            disposition,
            ..Cdr::default()
        };
        let mut extra = serde_json::Map::new();
        for (header, field, value) in raw.columns().filter(|(.., value)| !value.is_empty()) {
            match field.and_then(Field::home) {
                Some(TextColumn::CallerName) => cdr.text.set(TextColumn::CallerName, value.trim()),
                Some(column) => cdr.text.set(column, value),
                None => {
                    let name = match field {
                        Some(field) => field.extra_name(),
                        None => Some(header),
                    };
                    if let Some(name) = name {
                        extra.insert(name.to_owned(), value.into());
                    }
                }
            }
        }
        if !extra.is_empty() {
            cdr.text.set(TextColumn::Extra, &serde_json::Value::Object(extra).to_string());
        }
        let (answer_local, end_local) = (time(Field::Answer), time(Field::End));
        let id_epoch_s = raw.get(Field::UniqueId).split('.').next().and_then(|s| s.parse().ok());
        Ok(Leg { cdr, start_local: start, answer_local, end_local, id_epoch_s, raw })
    }

    fn card(&self, format: &str) -> Option<&'static Card> {
        let cards: [&'static Card; 6] = [&UCM_API, &UCM_WEB, &UCM_OLD, &STAR_CSV, &STAR_DB, &SMDR];
        cards.into_iter().find(|card| card.id == format)
    }
}

/// A layout with these columns.
fn layout(card: &'static Card, kind: RowKind, headers: &[&str]) -> Arc<Layout> {
    let headers = headers.iter().map(|header| (*header).to_owned());
    Arc::new(Layout::new(card, kind, headers, Dialect::default()).expect("toy layouts have the match fields"))
}

/// The routes by which rows come; the fourth sends summaries.
pub fn routes() -> Vec<Arc<Layout>> {
    let all: Vec<&str> = HEADERS.iter().map(|(header, _)| *header).chain(["note"]).collect();
    let without = |left_out: &[&str]| -> Vec<&str> {
        all.iter().copied().filter(|header| !left_out.contains(header)).collect()
    };
    vec![
        layout(&UCM_API, RowKind::Leg, &all),
        layout(&UCM_WEB, RowKind::Leg, &without(&["id"])),
        layout(&UCM_OLD, RowKind::Leg, &without(&["id", "session", "name"])),
        layout(&UCM_WEB, RowKind::Summary, &without(&["id", "dstchannel", "lastapp"])),
        layout(&STAR_CSV, RowKind::Leg, &without(&["id", "session"])),
        layout(&STAR_DB, RowKind::Leg, &without(&["name", "end"])),
        layout(&SMDR, RowKind::Leg, &["start", "src", "dst", "duration", "note"]),
    ]
}

/// One row of a document: every field from a small alphabet, so that groups, legs and calls collide.
#[derive(Debug, Clone)]
pub struct RowSeed([u8; 10]);

fn record(layout: &Arc<Layout>, row: u64, seed: &RowSeed) -> RawRecord {
    let [src, dst, second, session, unique, channel, answered, length, id, note] = seed.0;
    let at = |second: u8| format!("2025-03-04 10:00:{second:02}");
    let value = |header: &str| match header {
        // Ids repeat with other fields: a device corrected a row, or says nonsense.
        "id" => {
            if id == 0 {
                String::new()
            } else {
                id.to_string()
            }
        }
        "src" => format!("20{src}"),
        "dst" => format!("30{dst}"),
        "start" => at(second),
        "answer" => at(second + if answered > 0 { 1 } else { length }),
        "end" => at(second + length),
        "duration" => length.to_string(),
        "billsec" => if answered > 0 { length - 1 } else { 0 }.to_string(),
        "status" => if answered > 0 { "ANSWERED" } else { "NO ANSWER" }.to_owned(),
        "channel" => format!("SIP/20{src}-{channel}"),
        "dstchannel" => {
            if channel == 0 {
                String::new()
            } else {
                format!("SIP/30{dst}-{channel}")
            }
        }
        // Values of the two kinds are equal now and then.
        "uniqueid" => {
            if unique == 0 {
                String::new()
            } else {
                format!("{}.{unique}", 1_741_082_400)
            }
        }
        "session" => match session {
            0 => String::new(),
            1 => format!("{}.1", 1_741_082_400),
            n => format!("s{n} "),
        },
        "lastapp" => if note == 1 { "Queue" } else { "Dial" }.to_owned(),
        "name" => ["", "Ada", " Ada ", "\"A\\d\""][usize::from(note % 4)].to_owned(),
        _ => ["", "x", "a\"b\\c", "ü\u{1}"][usize::from(note % 4)].to_owned(),
    };
    let values: Vec<String> = layout.columns.iter().map(|column| value(&column.header)).collect();
    let position = Position { row, offset: row * 100, length: 90 };
    RawRecord::from_values(layout.clone(), position, values.iter().map(String::as_str))
}

/// A document by one route.
#[derive(Debug, Clone)]
pub struct Document {
    route: usize,
    source: &'static str,
    rows: Vec<RowSeed>,
}

impl Document {
    /// A document by this route (a place in [`routes`]), each row as source, destination, second, session, unique id,
    /// channel, answered, length, id and note.
    pub fn new(route: usize, rows: &[[u8; 10]]) -> Self {
        Self { route, source: "folder", rows: rows.iter().copied().map(RowSeed).collect() }
    }

    /// By which source it came.
    pub const fn source(&self) -> &'static str {
        self.source
    }

    /// Its rows, identified.
    pub fn identified(&self, derive: &dyn Derive) -> Vec<Identified> {
        let layout = &routes()[self.route];
        let mut identifier = Identifier::new("pbx", None);
        (1..)
            .zip(&self.rows)
            .map(|(row, seed)| {
                let raw = record(layout, row, seed);
                let leg = derive.derive(raw, "pbx", self.source).expect("toy rows normalise");
                identifier.identify(leg).expect("counted in memory")
            })
            .collect()
    }
}

fn seed() -> impl Strategy<Value = RowSeed> {
    let rest = (0..3u8, 0..2u8, 2..4u8, 0..3u8, 0..4u8);
    (0..2u8, 0..2u8, 0..2u8, 0..4u8, 0..3u8, rest).prop_map(
        |(src, dst, second, session, unique, (channel, answered, length, id, note))| {
            RowSeed([src, dst, second, session, unique, channel, answered, length, id, note])
        },
    )
}

/// Which call a row tells of, and a value of it that differs.
type RowChoice = (prop::sample::Index, Option<(usize, u8)>);

/// Documents whose rows come from a few calls, each row now and then with one value changed; one document stands
/// twice.
pub fn documents() -> impl Strategy<Value = Vec<Document>> {
    let source = prop_oneof![Just("folder"), Just("utc")];
    let row = (any::<prop::sample::Index>(), prop::option::weighted(0.2, (0..10usize, 0..2u8)));
    let document = (0..7usize, source, prop::collection::vec(row, 1..6));
    let all = (prop::collection::vec(seed(), 1..5), prop::collection::vec(document, 1..8));
    (all, any::<prop::sample::Index>()).prop_map(|((calls, documents), again)| {
        let row = |(call, changed): RowChoice| {
            let mut row = calls[call.index(calls.len())].clone();
            if let Some((place, value)) = changed {
                // A length is never below 2.
                row.0[place] = if place == 7 { value + 2 } else { value };
            }
            row
        };
        let document = |(route, source, rows): (usize, &'static str, Vec<RowChoice>)| Document {
            route,
            source,
            rows: rows.into_iter().map(row).collect(),
        };
        let mut documents: Vec<Document> = documents.into_iter().map(document).collect();
        let repeated = documents[again.index(documents.len())].clone();
        documents.push(repeated);
        documents
    })
}

/// Stores the documents in both, corrects the zone, and compares.
///
/// # Panics
/// When the store differs from the oracle.
pub fn compare(subject: &mut dyn Subject, derive: &Toy, documents: &[Document]) {
    let mut oracle = Oracle::new();
    let mut stated: BTreeMap<[u8; 16], RawRecord> = BTreeMap::new();
    for document in documents {
        let rows = document.identified(derive);
        stated.extend(rows.iter().map(|row| (row.version_hash, row.leg.raw.clone())));
        let outcomes: Vec<Outcome> =
            rows.iter().map(|row| oracle.store("pbx", document.source, row.clone())).collect();
        oracle.check();
        assert_eq!(subject.commit(document.source, rows), outcomes);
        check(subject, &oracle, &stated);
    }
    derive.offset.store(2, Ordering::Relaxed);
    oracle.rederive("pbx", derive);
    subject.rederive();
    check(subject, &oracle, &stated);
    assert_eq!(subject.rederive(), 0, "rows that are right are left alone");
}

/// One replay: which documents are chosen, and how far the readings are moved from one document to the next, with or
/// without their last rows: 0 changes nothing.
#[derive(Debug, Clone)]
pub struct Replay {
    chosen: Vec<prop::sample::Index>,
    moved: usize,
    shorter: bool,
}

/// Replays of any documents.
pub fn replays() -> impl Strategy<Value = Vec<Replay>> {
    let replay = (prop::collection::vec(any::<prop::sample::Index>(), 1..4), 0..4usize, any::<bool>());
    let replay = replay.prop_map(|(chosen, moved, shorter)| Replay { chosen, moved, shorter });
    prop::collection::vec(replay, 1..5)
}

/// Stores the documents, has some read again otherwise, and compares with the oracle that did the same and with one that
/// only ever saw the final readings.
///
/// # Panics
/// When they differ.
pub fn compare_replays(subject: &mut dyn Subject, derive: &Toy, documents: &[Document], replays: &[Replay]) {
    let mut oracle = Oracle::new();
    let mut stated: BTreeMap<[u8; 16], RawRecord> = BTreeMap::new();
    let mut readings = documents.to_vec();
    for (place, document) in documents.iter().enumerate() {
        let rows = document.identified(derive);
        stated.extend(rows.iter().map(|row| (row.version_hash, row.leg.raw.clone())));
        store(&mut oracle, place, document, &rows);
        subject.commit(document.source, rows);
    }
    // Whoever was read first names the source, and with it perhaps the zone, of what several state.
    let mut order: Vec<usize> = (0..documents.len()).collect();
    for (round, replay) in replays.iter().enumerate() {
        let chosen: Vec<usize> = replay.chosen.iter().map(|index| index.index(documents.len())).collect();
        let anew: Vec<Document> = (0..documents.len())
            .map(|place| {
                let mut reading = readings[(place + replay.moved) % readings.len()].clone();
                reading.source = documents[place].source;
                if replay.shorter && reading.rows.len() > 1 {
                    reading.rows.pop();
                }
                reading
            })
            .collect();
        let before = subject.table();
        let outcomes = subject.replay(&chosen, &mut |place| anew[place].identified(derive));
        let reached: BTreeSet<usize> = outcomes.iter().map(|(place, _)| *place).collect();
        assert!(chosen.iter().all(|place| reached.contains(place)));
        oracle.withdraw(&reached);
        oracle.check();
        for (place, outcomes) in outcomes {
            let rows = anew[place].identified(derive);
            stated.extend(rows.iter().map(|row| (row.version_hash, row.leg.raw.clone())));
            assert_eq!(outcomes, store(&mut oracle, place, &anew[place], &rows));
            readings[place] = anew[place].clone();
        }
        check(subject, &oracle, &stated);
        let mut fresh = Oracle::new();
        order.retain(|place| !reached.contains(place));
        order.extend(&reached);
        for place in &order {
            store(&mut fresh, *place, &readings[*place], &readings[*place].identified(derive));
        }
        // Added and withdrawn are counted over the whole history.
        fresh.check();
        assert_eq!(table(&fresh), sorted(subject.table()), "as if the final readings were the only ones");
        if round == 0 && replay.moved == 0 && !replay.shorter {
            assert_eq!(sorted(before), sorted(subject.table()), "nothing was read otherwise");
        }
    }
}

fn store(oracle: &mut Oracle, place: usize, document: &Document, rows: &[Identified]) -> Vec<Outcome> {
    oracle.open(place);
    rows.iter().map(|row| oracle.store("pbx", document.source, row.clone())).collect()
}

fn table(oracle: &Oracle) -> Vec<ComparableRow> {
    sorted(oracle.rows().iter().map(comparable).collect())
}

fn sorted(mut table: Vec<ComparableRow>) -> Vec<ComparableRow> {
    table.sort();
    table
}

fn check(subject: &mut dyn Subject, oracle: &Oracle, stated: &BTreeMap<[u8; 16], RawRecord>) {
    let rows = sorted(subject.table());
    assert_eq!(rows, table(oracle));
    let table = rows;
    assert_eq!(subject.balance(), i64::try_from(table.len()).expect("few rows"));
    let mut heads: BTreeMap<&str, u32> = BTreeMap::new();
    for row in &table {
        *heads.entry(&row.columns["call_group"]).or_default() += u32::from(row.columns["call_head"] == "1");
    }
    assert!(heads.values().all(|heads| *heads == 1), "exactly one head per call: {heads:?}");
    for (hash, raw) in subject.versions() {
        let values: Vec<&str> = raw.columns().map(|(.., value)| value).collect();
        let wanted: Vec<&str> = stated[&hash].columns().map(|(.., value)| value).collect();
        assert_eq!(values, wanted, "a version gives its record back");
        assert_eq!(raw.layout, stated[&hash].layout);
    }
}
