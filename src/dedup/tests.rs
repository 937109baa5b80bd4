//! Properties of identity and the fold, on toy cards of the shapes that real systems have.

use super::carried;
use super::crowd::Crowd;
use super::identity::{Identified, Identifier, Key};
use super::oracle::{Oracle, Outcome};
use super::plan::{Held, plan};
use super::reach::{Span, reach};
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

static FAMILY: Family = Family {
    name: "toy",
    matched: &[Match::Text(Field::CallerNumber), Match::Time(Field::Start), Match::Text(Field::CalleeNumber)],
    sure: Some(Field::RecordId),
    instance: Some(Field::DstChannel),
    exact: &[Field::UniqueId, Field::LinkedId, Field::Channel, Field::Answer, Field::End, Field::Disposition],
    near: &[Field::Duration, Field::Talk],
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
];

const fn card(id: &'static str, fidelity: u8) -> Card {
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
        families: std::slice::from_ref(&FAMILY),
        links: &[
            Link { kind: "uniqueid", column: TextColumn::UniqueId },
            Link { kind: "session", column: TextColumn::LinkedId },
        ],
        dispositions: &[],
        directions: &[],
        contexts: &[],
        voicemail: &[],
        bracketed: &[],
        recording_separator: '@',
        epoch_in: Some(Field::UniqueId),
    }
}

static API: Card = card("toy-api", 90);
static WEB: Card = card("toy-web", 60);
static OLD: Card = card("toy-old", 70);

fn layout(card: &'static Card, kind: RowKind, headers: &[&str]) -> Arc<Layout> {
    let headers = headers.iter().map(|header| (*header).to_owned());
    Arc::new(Layout::new(card, kind, headers, Dialect::default()).expect("toy layouts have the match fields"))
}

/// The smallest normaliser that dedup needs; the zone is a fixed offset in hours.
struct Toy(i64);

impl Derive for Toy {
    fn derive(&self, raw: RawRecord, _: &str, _: &str) -> Result<Leg, Box<Rejection>> {
        let time = |field| raw.get(field).parse::<DateTime>().ok();
        let start = time(Field::Start).expect("toy rows have a start");
        let utc = |local: DateTime| {
            local.to_zoned(jiff::tz::TimeZone::UTC).map_or(0, |z| z.timestamp().as_millisecond())
                - self.0 * 3_600_000
        };
        let disposition = match raw.get(Field::Disposition) {
            "ANSWERED" => Disposition::Answered,
            "NO ANSWER" => Disposition::NoAnswer,
            _ => Disposition::Unknown,
        };
        let mut cdr = Cdr {
            started_at: utc(start),
            ended_at: time(Field::End).map(utc),
            answered_at: time(Field::Answer).map(utc).filter(|_| disposition.talked()),
            duration_ms: raw.get(Field::Duration).parse::<i64>().ok().map(|s| s * 1000),
            disposition,
            ..Cdr::default()
        };
        for (_, field, value) in raw.columns() {
            if let Some(column) = field.and_then(Field::home).filter(|_| !value.is_empty()) {
                cdr.text.set(column, value);
            }
        }
        let (answer_local, end_local) = (time(Field::Answer), time(Field::End));
        let id_epoch_s = raw.get(Field::UniqueId).split('.').next().and_then(|s| s.parse().ok());
        Ok(Leg { cdr, start_local: start, answer_local, end_local, id_epoch_s, raw })
    }

    fn card(&self, format: &str) -> Option<&'static Card> {
        [&API, &WEB, &OLD].into_iter().find(|card| card.id == format)
    }
}

/// A true leg, from which routes write rows with the columns they have.
#[derive(Debug, Clone)]
struct Truth {
    id: usize,
    src: u8,
    dst: u8,
    second: u8,
    channel: u8,
    answered: bool,
    session: u8,
    length: u8,
}

impl Truth {
    fn value(&self, header: &str) -> String {
        let at = |second: u32| format!("2025-03-04 10:{:02}:{:02}", second / 60, second % 60);
        let start = u32::from(self.second);
        let end = start + u32::from(self.length);
        match header {
            "id" => self.id.to_string(),
            "src" => format!("20{}", self.src),
            "dst" => format!("30{}", self.dst),
            "start" => at(start),
            "answer" => at(if self.answered { start + 1 } else { end }),
            "end" => at(end),
            "duration" => self.length.to_string(),
            "billsec" => if self.answered { self.length - 1 } else { 0 }.to_string(),
            "status" => if self.answered { "ANSWERED" } else { "NO ANSWER" }.to_owned(),
            "channel" => format!("SIP/20{}-{:08x}", self.src, self.session),
            // Names one channel, so that it is distinct for every leg.
            "dstchannel" => format!("SIP/30{}-{:08x}", self.dst, 100 + self.id),
            "uniqueid" => format!("1741082400.{}", self.session),
            "session" => format!("s{}", self.session),
            _ => format!("name {}", self.channel),
        }
    }

    fn row(&self, layout: &Arc<Layout>) -> RawRecord {
        let values: Vec<String> = layout.columns.iter().map(|column| self.value(&column.header)).collect();
        RawRecord::from_values(layout.clone(), Position::default(), values.iter().map(String::as_str))
    }
}

fn routes() -> Vec<Arc<Layout>> {
    let all: Vec<&str> = HEADERS.iter().map(|(header, _)| *header).collect();
    let without = |left_out: &[&str]| -> Vec<&str> {
        all.iter().copied().filter(|header| !left_out.contains(header)).collect()
    };
    vec![
        layout(&API, RowKind::Leg, &all),
        layout(&WEB, RowKind::Leg, &without(&["id"])),
        layout(&WEB, RowKind::Leg, &without(&["id", "uniqueid"])),
        layout(&OLD, RowKind::Leg, &without(&["session", "name"])),
    ]
}

fn truth() -> impl Strategy<Value = Vec<Truth>> {
    let leg = (0..2u8, 0..2u8, 0..3u8, 0..4u8, any::<bool>(), 0..3u8, 2..9u8);
    prop::collection::vec(leg, 1..9).prop_map(|legs| {
        legs.into_iter()
            .enumerate()
            .map(|(id, (src, dst, second, channel, answered, session, length))| Truth {
                id,
                src,
                dst,
                second,
                channel,
                answered,
                session,
                length,
            })
            .collect()
    })
}

fn deliver(oracle: &mut Oracle, derive: &Toy, document: &[RawRecord]) -> Vec<Outcome> {
    let mut identifier = Identifier::new("pbx", None);
    document
        .iter()
        .map(|raw| {
            let leg = derive.derive(raw.clone(), "pbx", "folder").expect("toy rows normalise");
            let outcome = oracle.store("pbx", "folder", identifier.identify(leg).expect("counted in memory"));
            oracle.check();
            outcome
        })
        .collect()
}

type Content = (String, bool, &'static str, Cdr);

fn table(oracle: &Oracle) -> Vec<Content> {
    let mut rows: Vec<Content> =
        oracle.rows().into_iter().map(|row| (row.call_group, row.call_head, row.format, row.cdr)).collect();
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

/// How many histories to try: `PROPTEST_CASES` where it is set, as the long proofs do.
pub fn cases(otherwise: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|wish| wish.parse().ok()).unwrap_or(otherwise)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), ..ProptestConfig::default() })]

    /// Legs that their channel tells apart: one row a leg, by any routes, in any order, split and repeated in any way.
    #[test]
    fn each_leg_is_one_row(
        legs in truth(),
        cuts in prop::collection::vec((0..4usize, 0..9usize, 0..9usize), 1..12),
        order in any::<prop::sample::Index>(),
    ) {
        let routes = routes();
        let mut documents: Vec<Vec<RawRecord>> = cuts
            .iter()
            .map(|(route, from, to)| {
                let (from, to) = (from.min(to) % legs.len(), (from.max(to) % legs.len()) + 1);
                legs.get(from..to).unwrap_or(&[]).iter().map(|leg| leg.row(&routes[*route])).collect()
            })
            .collect();
        // Every leg comes at least once, by the first route that was drawn.
        documents.push(legs.iter().map(|leg| leg.row(&routes[cuts[0].0])).collect());
        let middle = order.index(documents.len());
        documents.rotate_left(middle);
        let mut forward = Oracle::new();
        for document in &documents {
            deliver(&mut forward, &Toy(1), document);
        }
        prop_assert_eq!(forward.rows().len(), legs.len());
        let mut backward = Oracle::new();
        for document in documents.iter().rev().chain(&documents) {
            deliver(&mut backward, &Toy(1), document);
        }
        prop_assert_eq!(table(&forward), table(&backward));
    }

    /// Legs that hardly anything tells apart: still the same table in any order and repetition.
    #[test]
    fn order_and_repetition_never_matter(
        legs in truth(),
        documents in prop::collection::vec((0..7usize, prop::collection::vec(any::<prop::sample::Index>(), 1..6)), 1..6),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let poor = |headers: &[&str]| layout(&WEB, RowKind::Leg, headers);
        let mut routes = routes();
        routes.push(poor(&["src", "dst", "start", "duration", "billsec"]));
        routes.push(poor(&["src", "dst", "start", "end", "status", "name"]));
        routes.push(layout(&WEB, RowKind::Summary, &["src", "dst", "start", "session", "duration", "name"]));
        let documents: Vec<Vec<RawRecord>> = documents
            .iter()
            .map(|(route, rows)| rows.iter().map(|row| row.get(&legs).row(&routes[*route])).collect())
            .collect();
        let mut once = Oracle::new();
        for document in &documents {
            deliver(&mut once, &Toy(1), document);
        }
        let mut again_and_again = Oracle::new();
        for document in documents.iter().rev().chain(again.iter().map(|index| index.get(&documents))) {
            deliver(&mut again_and_again, &Toy(1), document);
        }
        prop_assert_eq!(table(&once), table(&again_and_again));
        let before = table(&once);
        for document in &documents {
            let outcomes = deliver(&mut once, &Toy(1), document);
            let quiet = outcomes.iter().all(|o| matches!(o, Outcome::Duplicate | Outcome::Skipped));
            prop_assert!(quiet, "a repeated document says nothing new: {outcomes:?}");
        }
        prop_assert_eq!(before, table(&once));
    }

    /// Documents that are read again otherwise, together with those that hide statements behind theirs, in any order and
    /// any number of times, end as if the final readings had been the only ones.
    #[test]
    fn a_replay_leaves_only_the_final_readings(
        legs in truth(),
        documents in prop::collection::vec((0..7usize, prop::collection::vec(any::<prop::sample::Index>(), 1..6)), 1..6),
        replays in prop::collection::vec((any::<prop::sample::Index>(), 0..7usize, prop::collection::vec(any::<prop::sample::Index>(), 1..6)), 1..6),
    ) {
        let poor = |headers: &[&str]| layout(&WEB, RowKind::Leg, headers);
        let mut routes = routes();
        routes.push(poor(&["src", "dst", "start", "duration", "billsec"]));
        routes.push(poor(&["src", "dst", "start", "end", "status", "name"]));
        routes.push(layout(&WEB, RowKind::Summary, &["src", "dst", "start", "session", "duration", "name"]));
        let write = |route: usize, rows: &[prop::sample::Index]| -> Vec<RawRecord> {
            rows.iter().map(|row| row.get(&legs).row(&routes[route])).collect()
        };
        let mut readings: Vec<Vec<RawRecord>> =
            documents.iter().map(|(route, rows)| write(*route, rows)).collect();
        let mut oracle = Oracle::new();
        let read = |oracle: &mut Oracle, place: usize, document: &[RawRecord]| {
            oracle.open(place);
            let outcomes = deliver(oracle, &Toy(1), document);
            let silent = |outcome: &Outcome| matches!(outcome, Outcome::Duplicate | Outcome::Skipped);
            let summaries = document.iter().any(|row| row.layout.kind == RowKind::Summary);
            Span { delivery: place, first: 0, last: 600, hides: summaries || outcomes.iter().any(silent) }
        };
        let mut spans: Vec<Span<usize>> = Vec::new();
        for (place, reading) in readings.iter().enumerate() {
            spans.push(read(&mut oracle, place, reading));
        }
        for (chosen, route, rows) in &replays {
            let chosen = chosen.index(readings.len());
            let again = reach(&BTreeSet::from([chosen]), &spans);
            readings[chosen] = write(*route, rows);
            oracle.withdraw(&again);
            oracle.check();
            for place in &again {
                spans[*place] = read(&mut oracle, *place, &readings[*place]);
            }
            let mut fresh = Oracle::new();
            for reading in &readings {
                deliver(&mut fresh, &Toy(1), reading);
            }
            prop_assert_eq!(table(&oracle), table(&fresh));
        }
    }

    /// A crowd says of each further row of one layout what planning the whole group says.
    #[test]
    fn a_crowd_says_what_the_whole_group_says(
        legs in truth(),
        route in 0..6usize,
        rows in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8), 1..20),
    ) {
        let layout = match route {
            4 => layout(&WEB, RowKind::Leg, &["src", "dst", "start", "duration", "billsec"]),
            5 => layout(&WEB, RowKind::Leg, &["id", "src", "dst", "start", "dstchannel", "name"]),
            _ => routes()[route].clone(),
        };
        let mut identifier = Identifier::new("pbx", None);
        let mut groups: BTreeMap<Key, (Vec<Identified>, Option<Crowd>)> = BTreeMap::new();
        for (leg, change) in &rows {
            let leg = Truth { channel: *change, ..leg.get(&legs).clone() };
            let values: Vec<String> = layout
                .columns
                .iter()
                .map(|column| match column.header.as_str() {
                    // Few ids and channels, and some rows without.
                    "id" if change.is_multiple_of(2) => String::new(),
                    "id" => change.to_string(),
                    "dstchannel" if leg.id.is_multiple_of(3) => String::new(),
                    "dstchannel" => (leg.id % 3).to_string(),
                    header => leg.value(header),
                })
                .collect();
            let raw = RawRecord::from_values(layout.clone(), Position::default(), values.iter().map(String::as_str));
            let row = identifier.identify(Toy(1).derive(raw, "pbx", "folder").expect("toy rows normalise")).expect("counted in memory");
            let (versions, crowd) = groups.entry(row.key).or_default();
            if versions.iter().any(|version| version.version_hash == row.version_hash) {
                continue;
            }
            let legs_of = |versions: &[Identified]| {
                let held = versions.iter().map(|version| Held { version: version.clone(), label: None, order: 0 });
                plan(&held.collect::<Vec<_>>(), None)
            };
            let before = legs_of(versions).legs.len();
            versions.push(row);
            let after = legs_of(versions);
            let highest = u32::try_from(after.legs.len()).expect("few legs") - 1;
            if let Some(crowd) = crowd {
                let added = crowd.add(&versions[versions.len() - 1]);
                prop_assert_eq!(added, (after.legs.len() > before).then_some(highest));
            }
            let fresh = Crowd::of(&versions.iter().collect::<Vec<_>>(), highest);
            let pairs = collide_by_pairs(versions, &after.legs.iter().map(|leg| leg.versions.clone()).collect::<Vec<_>>());
            prop_assert_eq!(after.collision, pairs);
            prop_assert_eq!(fresh.as_ref().map(Crowd::collides), Some(pairs));
            match crowd {
                // A version of a known statement may change its leg's channels: the store then looks at all of it again.
                Some(crowd) if after.legs.len() > before => prop_assert_eq!(crowd.collides(), pairs),
                _ => *crowd = fresh,
            }
        }
    }

    /// Correcting the zone moves every start and never the number of rows; it equals having had it right at once.
    #[test]
    fn correcting_the_zone_corrects_rows_and_never_their_number(
        legs in truth(),
        rows in prop::collection::vec((0..4usize, any::<prop::sample::Index>()), 1..12),
    ) {
        let routes = routes();
        let document: Vec<RawRecord> = rows.iter().map(|(r, leg)| leg.get(&legs).row(&routes[*r])).collect();
        let mut wrong = Oracle::new();
        deliver(&mut wrong, &Toy(1), &document);
        let keys: Vec<_> = wrong.rows().iter().map(|row| (row.key, row.leg)).collect();
        wrong.rederive("pbx", &Toy(-5));
        wrong.check();
        prop_assert_eq!(keys, wrong.rows().iter().map(|row| (row.key, row.leg)).collect::<Vec<_>>());
        let mut right = Oracle::new();
        deliver(&mut right, &Toy(-5), &document);
        prop_assert_eq!(table(&wrong), table(&right));
    }
}

fn collide_by_pairs(group: &[Identified], legs: &[Vec<usize>]) -> bool {
    let differ =
        |left: Option<&str>, right: Option<&str>| matches!((left, right), (Some(l), Some(r)) if l != r);
    let told_apart = |a: &[usize], b: &[usize]| {
        a.iter().any(|left| {
            b.iter().any(|right| {
                let (left, right) = (&group[*left].leg, &group[*right].leg);
                differ(carried::sure(left), carried::sure(right))
                    || differ(carried::instance(left), carried::instance(right))
            })
        })
    };
    legs.iter().enumerate().any(|(place, a)| legs[..place].iter().any(|b| !told_apart(a, b)))
}

#[test]
fn a_summary_holds_a_place_until_a_leg_of_its_session_comes() {
    let leg = Truth { id: 1, src: 0, dst: 1, second: 5, channel: 1, answered: true, session: 1, length: 5 };
    let summary_layout = layout(&WEB, RowKind::Summary, &["src", "dst", "start", "session", "duration"]);
    let summary = Truth { dst: 0, second: 3, ..leg.clone() }.row(&summary_layout);
    let row = leg.row(&routes()[1]);
    let mut first = Oracle::new();
    assert_eq!(deliver(&mut first, &Toy(1), std::slice::from_ref(&summary)), [Outcome::Stored]);
    assert_eq!(first.rows().len(), 1);
    assert_eq!(deliver(&mut first, &Toy(1), std::slice::from_ref(&row)), [Outcome::Stored]);
    let mut last = Oracle::new();
    assert_eq!(deliver(&mut last, &Toy(1), &[row, summary]), [Outcome::Stored, Outcome::Skipped]);
    assert_eq!(last.rows().len(), 1);
    assert_eq!(table(&first), table(&last));
}

#[test]
fn equal_rows_of_one_document_are_copies_and_the_maximum_counts() {
    let poor = layout(&WEB, RowKind::Leg, &["src", "dst", "start", "duration"]);
    let row = Truth { id: 1, src: 0, dst: 1, second: 5, channel: 1, answered: true, session: 1, length: 5 }
        .row(&poor);
    let mut oracle = Oracle::new();
    deliver(&mut oracle, &Toy(1), &[row.clone(), row.clone()]);
    deliver(&mut oracle, &Toy(1), std::slice::from_ref(&row));
    assert_eq!(oracle.rows().len(), 2);
    deliver(&mut oracle, &Toy(1), &[row.clone(), row.clone(), row]);
    assert_eq!(oracle.rows().len(), 3);
}

#[test]
fn a_call_parked_across_two_sessions_is_one_call_with_one_head() {
    let leg = Truth { id: 1, src: 0, dst: 1, second: 5, channel: 1, answered: true, session: 1, length: 5 };
    let all: Vec<&str> = HEADERS.iter().map(|(header, _)| *header).collect();
    let api = layout(&API, RowKind::Leg, &all);
    let with = |id: &str, unique: &str, session: &str, second: u8| {
        let leg = Truth { second, ..leg.clone() };
        let values: Vec<String> = all
            .iter()
            .map(|header| match *header {
                "id" => id.to_owned(),
                "uniqueid" => unique.to_owned(),
                "session" => session.to_owned(),
                _ => leg.value(header),
            })
            .collect();
        RawRecord::from_values(api.clone(), Position::default(), values.iter().map(String::as_str))
    };
    let document = [
        with("1", "100.1", "s1", 5),
        with("3", "100.3", "s2", 9),
        with("2", "100.1", "s2", 7),
        with("4", "900.9", "s9", 8),
    ];
    let mut oracle = Oracle::new();
    deliver(&mut oracle, &Toy(0), &document);
    let rows = oracle.rows();
    let groups: Vec<&str> = rows.iter().map(|row| row.call_group.as_str()).collect();
    assert_eq!(groups.iter().filter(|group| **group == "100.1").count(), 3, "{groups:?}");
    assert_eq!(rows.iter().filter(|row| row.call_head).count(), 2);
}

#[test]
fn a_nul_in_a_number_makes_no_two_calls_one() {
    let poor = layout(&WEB, RowKind::Leg, &["src", "dst", "start", "duration"]);
    let key = |source: &str, start: &str, callee: &str| {
        let values = [source, callee, start, "5"];
        let raw = RawRecord::from_values(poor.clone(), Position::default(), values);
        let leg = Toy(0).derive(raw, "pbx", "folder").expect("toy rows normalise");
        Identifier::new("pbx", None).identify(leg).expect("counted in memory").key.identity
    };
    let (one, other) = ("2025-03-04 10:00:00", "2025-03-04 11:00:00");
    let callee = format!("{other}\0301");
    assert_ne!(key("201", one, &callee), key(&format!("201\0{one}"), other, "301"));
    assert_ne!(key("201\0", one, "1"), key("201\u{1}0", one, "1"));
}
