//! What people ask of a year's calls: the right rows, by the indexes.

use super::Bench;
use crate::dedup;
use crate::record::cdr::{Direction, Leg, TextColumn};
use crate::record::outcome::{Reason, Rejection};
use crate::record::port::Derive;
use crate::record::raw::Position;
use crate::store::conformance::{Subject as _, documents};
use crate::store::query::{LegWish, Query as _, RejectedWish, Value};
use crate::store::sqlite::legs;
use crate::store::{Chunk, ChunkRow, Commit as _, DocumentEnd};
use proptest::prelude::*;
use std::collections::BTreeMap;

impl<D: Derive + 'static> Bench<D> {
    fn fill(&mut self, statements: &[&'static str]) {
        for statement in statements.iter().copied() {
            self.store.call(true, move |db| Ok(db.run(statement, &[])?)).expect("the statement runs");
        }
    }
}

/// A year of two calls an hour, whose numbers come again every five hundredth of them, and one more often.
const YEAR: &str = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 17519)
    INSERT INTO cdr (id, key_day, identity, leg, origin, source, system, format, call_group, call_head, started_at,
                     time_precision, time_ambiguous, direction, disposition, caller, callee, did, delivery_id,
                     document_id, row_number, byte_offset, byte_length, versions, version_hash, change_seq, stored_at)
    SELECT 1000 + i, 20000 + i / 48, randomblob(16), 0, 'pbx', 's', 't', 'f', 'g' || i, 1,
           strftime('%Y-%m-%d %H:%M:%S', 86400 * 20000 + i * 1800, 'unixepoch') || '.000', 'second', 0,
           iif(i % 2, 'inbound', 'outbound'), 'answered', '+49' || i % 500, iif(i % 7, '+48' || i % 500, '201'),
           '030' || i % 100, 'd', 1, i, 0, 1, 1, randomblob(16), 1000 + i, ''
      FROM n";

/// The plan of the very statement that `calls --number` and `find` make, with a planner that has counted nothing.
#[test]
fn a_number_is_found_by_one_seek_for_each_day_before_anybody_counted_rows() {
    let mut bench = Bench::new();
    bench.fill(&[YEAR]);
    let wish = LegWish { parties: vec!["+4917".to_owned()], limit: 5, ..LegWish::default() };
    let query = bench.query();
    let (sql, values) = legs::of_days_sql(&wish, &[20_001, 20_000]);
    let plan = query.table(&format!("EXPLAIN QUERY PLAN {sql}"), &values).expect("it is explained");
    let plan = plan.rows.iter().map(|row| row[3].text()).collect::<Vec<_>>().join("; ");
    for seek in [
        "cdr_caller (key_day=? AND caller=?)",
        "cdr_callee (key_day=? AND callee=?)",
        "SEARCH cdr USING INTEGER PRIMARY KEY (rowid=?)",
    ] {
        assert!(plan.contains(seek), "{seek}: {plan}");
    }
    assert!(!plan.contains("SCAN cdr") && !plan.contains("BLOOM"), "{plan}");
}

#[test]
fn legs_of_a_number_are_the_latest_however_many_days_lie_between_them() {
    let mut bench = Bench::new();
    bench.fill(&[YEAR, "UPDATE cdr SET key_day = 0 WHERE id = 1500"]);
    let query = bench.query();
    let asked = |wish: &LegWish| {
        let found = query.legs(wish).expect("it is a question");
        found.rows.iter().map(|row| found.value(row, "id").integer()).collect::<Vec<_>>()
    };
    let plainly = |condition: &str, limit: u32| {
        let sql =
            format!("SELECT id FROM cdr WHERE {condition} ORDER BY started_at DESC, id DESC LIMIT {limit}");
        let found = query.table(&sql, &[]).expect("it is a question");
        found.rows.iter().map(|row| row[0].integer()).collect::<Vec<_>>()
    };
    let time = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
    for (party, limit) in [("+490", 3), ("+490", 1000), ("201", 40), ("201", 5000), ("+48251", 7), ("+4", 9)]
    {
        let both = format!("(caller = '{party}' OR callee = '{party}')");
        let wish = LegWish { parties: vec![party.to_owned()], limit, ..LegWish::default() };
        assert_eq!(asked(&wish), plainly(&both, limit), "{party} {limit}");
        let since = Some(time("2024-12-01T00:00:00Z"));
        let until = Some(time("2025-01-10T12:00:00Z"));
        let wish = LegWish { since, until, direction: Some(Direction::Inbound), ..wish };
        let within =
            "started_at >= '2024-12-01' AND started_at < '2025-01-10 12:00:00.000' AND direction = 'inbound'";
        assert_eq!(
            asked(&wish),
            plainly(&format!("{both} AND {within}"), limit),
            "{party} {limit} of a time"
        );
    }
    let two = LegWish { parties: vec!["+490".to_owned(), "201".to_owned()], limit: 20, ..LegWish::default() };
    assert_eq!(asked(&two), plainly("caller IN ('+490', '201') OR callee IN ('+490', '201')", 20));
    let ending = LegWish {
        ending: Some("42".to_owned()),
        since: Some(time("2025-06-01T00:00:00Z")),
        limit: 9999,
        ..LegWish::default()
    };
    let any = "started_at >= '2025-06-01' AND (caller LIKE '%42' OR callee LIKE '%42' OR did LIKE '%42')";
    assert_eq!(asked(&ending), plainly(any, 9999));
    let named = LegWish { name: Some("1500".to_owned()), limit: 2, ..LegWish::default() };
    assert_eq!(asked(&named), [1500]);
}

#[test]
fn a_rejected_row_is_found_by_the_numbers_in_it() {
    let mut bench = Bench::new();
    let delivery = bench.delivery("folder").expect("a delivery");
    let opened = bench.document(delivery, "me").expect("a document");
    let many: Vec<String> = (1_000_000..1_000_200).map(|number| number.to_string()).collect();
    let rows = ["x,01632 960123,201".to_owned(), "x,2025-02-30,204".to_owned(), many.join(",")];
    let rejection = |row: &String| {
        let verbatim = row.clone().into_bytes();
        let (field, message) = (None, "m".to_owned());
        let position = Position::default();
        ChunkRow::Rejected(Box::new(Rejection {
            position,
            field,
            reason: Reason::StartInvalid,
            message,
            verbatim,
        }))
    };
    let whole = Chunk {
        grown: None,
        document: opened.document,
        claim: "me".to_owned(),
        from_row: 1,
        next_row: 4,
        rows: rows.iter().map(rejection).collect(),
        end: Some(DocumentEnd::default()),
    };
    bench.store.commit(whole).wait().expect("it commits");
    let query = bench.query();
    let found = |tail: &str| {
        let wish = RejectedWish { tail: Some(tail.to_owned()), limit: 10, ..RejectedWish::default() };
        let found = query.rejected(&wish).expect("it is a question");
        found.rows.iter().map(|row| found.value(row, "id").integer()).collect::<Vec<_>>()
    };
    assert_eq!(found("2960123"), [1]);
    assert_eq!(found("204"), [2]);
    assert_eq!(found("1000199"), [3], "a row with too many numbers to list is read");
    assert_eq!(found("999"), [0; 0]);
    let plan = "EXPLAIN QUERY PLAN SELECT 1 FROM rejected r WHERE r.id IN
                (SELECT rejected_id FROM rejected_number WHERE number IN ('204', ''))";
    let plan = bench.look(plan, 4).into_iter().map(|row| row[3].clone()).collect::<Vec<_>>().join("; ");
    assert!(plan.contains("SEARCH rejected_number USING PRIMARY KEY (number=?)"), "{plan}");
    bench.fill(&["DROP TABLE rejected_number"]);
    assert_eq!(found("204"), [2], "a database of an earlier version is read row by row");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: dedup::tests::cases(16), ..ProptestConfig::default() })]
    /// A reader beside the writer sees the very statements that the writer folds, and folds them to the very row.
    #[test]
    fn a_leg_gives_its_statements_back_and_they_make_it(documents in documents()) {
        let mut bench = Bench::new();
        let derive = bench.derive.clone();
        for document in &documents {
            bench.commit(document.source(), document.identified(&*derive));
        }
        let query = bench.query();
        let rows = query.legs(&LegWish { limit: u32::MAX, ..LegWish::default() }).expect("it is a question");
        let mut given = BTreeMap::new();
        for row in &rows.rows {
            let id = rows.value(row, "id").integer();
            let statements = query.statements(id, &|format| derive.card(format)).expect("they are readable");
            prop_assert_eq!(rows.value(row, "versions"), &Value::Integer(i64::try_from(statements.len())?));
            let derived: Vec<(Leg, [u8; 16])> = statements
                .iter()
                .map(|of| (derive.derive(of.raw.clone(), "pbx", &of.source).expect("toy rows normalise"), of.version_hash))
                .collect();
            let folded = dedup::fold(&derived.iter().map(|(leg, hash)| (leg, *hash)).collect::<Vec<_>>());
            for column in TextColumn::ALL {
                prop_assert_eq!(rows.value(row, column.name()).text(), folded.text.get(*column));
            }
            given.extend(statements.into_iter().map(|statement| (statement.version_hash, statement.raw)));
        }
        prop_assert_eq!(given, bench.versions().into_iter().collect::<BTreeMap<_, _>>());
        for document in &documents {
            for record in document.identified(&*derive) {
                let twin = query.twin(&record).expect("it is a question");
                // Summaries give way to legs; whatever else was stored is found.
                let summary = record.leg.raw.layout.kind == crate::record::document::RowKind::Summary;
                prop_assert!(summary || twin.is_some_and(|twin| twin.leg.is_some()));
            }
        }
    }
}
