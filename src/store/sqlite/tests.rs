//! The SQLite store against the oracle, and what is its own: fences, savepoints, shared transactions.

mod questions;
mod routes;
mod switches;

use super::query::SqliteQuery;
use super::{Sqlite, group};
use crate::dedup::oracle::Outcome;
use crate::dedup::{Identified, Key};
use crate::record::delivery::DeliveryId;
use crate::record::outcome::{Reason, Rejection, Skip};
use crate::record::port::Derive;
use crate::record::raw::Position;
use crate::record::raw::RawRecord;
use crate::store::conformance::{
    ComparableRow, Document, Reading, Subject, Toy, compare, compare_replays, documents, replays,
};
use crate::store::query::Query as _;
use crate::store::{
    Chunk, ChunkRow, Commit, Committed, DeliveryEnd, DeliveryStart, DeliveryState, DocumentEnd,
    DocumentStart, Opened, OriginStart, Repeat, StoreError,
};
use proptest::prelude::*;
use sqlx::sqlite::SqliteSynchronous;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::runtime::Runtime;

/// Nobody stops it.
static GO_ON: AtomicBool = AtomicBool::new(false);

/// A store in a temporary folder.
struct Bench<D = Toy> {
    store: Sqlite,
    derive: Arc<D>,
    deliveries: u128,
    committed: Vec<DeliveryId>,
    folder: tempfile::TempDir,
    runtime: Runtime,
}

fn origin_named(name: &str) -> OriginStart {
    OriginStart { name: name.to_owned(), time_zone: "UTC".to_owned(), ..OriginStart::default() }
}

impl Bench {
    fn new() -> Self {
        Self::with(Arc::new(Toy::default()))
    }
}

impl<D: Derive + 'static> Bench<D> {
    fn with(derive: Arc<D>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let store = Sqlite::open_with(
            &folder.path().join("cdr.db"),
            derive.clone(),
            runtime.handle().clone(),
            SqliteSynchronous::Off,
        );
        let store = store.expect("a new database opens");
        store.origin(&origin_named("pbx")).expect("a new origin");
        Self { store, derive, deliveries: 0, committed: Vec::new(), folder, runtime }
    }

    fn reopen(&mut self) {
        self.store.close();
        let path = self.folder.path().join("cdr.db");
        let handle = self.runtime.handle().clone();
        self.store = Sqlite::open_with(&path, self.derive.clone(), handle, SqliteSynchronous::Off)
            .expect("the database opens again");
    }

    fn delivery(&mut self, source: &str) -> Result<DeliveryId, StoreError> {
        self.deliveries += 1;
        let id = DeliveryId::new(jiff::Timestamp::UNIX_EPOCH, self.deliveries);
        let start = DeliveryStart {
            id,
            source: source.to_owned(),
            account: None,
            origin: "pbx".to_owned(),
            name: "a.csv".to_owned(),
            peer: None,
            content_hash: None,
            bytes: 1,
            received_at: jiff::Timestamp::UNIX_EPOCH,
            pinned_format: None,
            time_zone: None,
        };
        self.store.start_delivery(&start, None).wait()?;
        Ok(id)
    }

    fn document(&self, delivery: DeliveryId, claim: &str) -> Result<Opened, StoreError> {
        self.document_in(delivery, claim, None, None)
    }

    fn repeated(
        &self,
        delivery: DeliveryId,
        claim: &str,
        repeat: Option<Repeat>,
    ) -> Result<Opened, StoreError> {
        self.document_in(delivery, claim, None, repeat)
    }

    fn document_in(
        &self,
        delivery: DeliveryId,
        claim: &str,
        format: Option<&str>,
        repeat: Option<Repeat>,
    ) -> Result<Opened, StoreError> {
        self.store.open_document(&DocumentStart {
            delivery,
            number: 1,
            path: String::new(),
            format: format.map(str::to_owned),
            dialect: None,
            claim: claim.to_owned(),
            repeat,
        })
    }

    /// Reads a document of a delivery, one chunk a row; gives each row's outcome.
    fn read(&self, delivery: DeliveryId, document: Vec<Identified>) -> Vec<Outcome> {
        let format = document.first().map(|row| row.leg.raw.layout.card.id);
        let opened = self.document_in(delivery, "me", format, None).expect("a document");
        let last = document.len();
        let pending: Vec<_> = (1..)
            .zip(document)
            .map(|(row, leg)| self.store.commit(chunk(opened.document, row, vec![leg], row == last as u64)))
            .collect();
        let outcomes =
            pending.into_iter().map(|pending| outcome(&pending.wait().expect("the chunk commits"))).collect();
        let end = DeliveryEnd { state: None, content_hash: None, bytes: 1 };
        let summary = self.store.finish_delivery(delivery, &end).wait().expect("a delivery");
        assert!(summary.counts.adds_up() && summary.counts.rows_read == last as u64);
        outcomes
    }

    fn query(&self) -> SqliteQuery {
        let path = self.folder.path().join("cdr.db");
        let none = self.folder.path().join("spool.db");
        SqliteQuery::open(&path, &none, self.runtime.handle().clone()).expect("the database is there")
    }

    /// Values of a query as text, for looking at tables.
    fn look(&self, sql: &'static str, columns: i32) -> Vec<Vec<String>> {
        let looked = self.store.call(true, move |db| {
            db.all(sql, &[], |row| (0..columns).map(|column| text(row.value(column))).collect())
        });
        looked.expect("the query runs")
    }
}

fn text(value: super::raw::Value<'_>) -> String {
    use super::raw::Value;
    match value {
        Value::Null => String::new(),
        Value::Int(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.to_owned(),
        Value::Blob(bytes) => format!("{bytes:?}"),
    }
}

fn chunk(document: i64, from_row: u64, rows: Vec<Identified>, end: bool) -> Chunk {
    Chunk {
        grown: None,
        document,
        claim: "me".to_owned(),
        from_row,
        next_row: from_row + rows.len() as u64,
        rows: rows.into_iter().map(|row| ChunkRow::Leg(Box::new(row))).collect(),
        end: end.then(DocumentEnd::default),
    }
}

impl<D: Derive + 'static> Subject for Bench<D> {
    fn commit(&mut self, source: &str, document: Vec<Identified>) -> Vec<Outcome> {
        let delivery = self.delivery(source).expect("a delivery");
        self.committed.push(delivery);
        self.read(delivery, document)
    }

    fn replay(&mut self, chosen: &[usize], read: &mut Reading<'_>) -> Vec<(usize, Vec<Outcome>)> {
        let chosen: Vec<DeliveryId> = chosen.iter().map(|place| self.committed[*place]).collect();
        let again: Vec<DeliveryId> =
            self.query().read_again(&chosen).expect("all have ended").iter().map(|start| start.id).collect();
        self.store.begin_switch(&again, &GO_ON).expect("a switch");
        let mut outcomes = Vec::new();
        for delivery in again {
            let place = self.committed.iter().position(|id| *id == delivery).expect("it was committed");
            outcomes.push((place, self.read(delivery, read(place))));
        }
        self.store.end_switch(true, 0).expect("it is kept");
        outcomes
    }

    fn rederive(&mut self) -> u64 {
        self.store.rederive("pbx", "UTC", &GO_ON).expect("rederiving works")
    }

    fn table(&mut self) -> Vec<ComparableRow> {
        const UNCOMPARED: [&str; 15] = [
            "id",
            "key_day",
            "identity",
            "leg",
            "source",
            "delivery_id",
            "document_id",
            "row_number",
            "byte_offset",
            "byte_length",
            "versions",
            "version_hash",
            "stated",
            "change_seq",
            "stored_at",
        ];
        let table = self.store.call(true, |db| {
            let names = db.all("SELECT name FROM pragma_table_info('cdr') ORDER BY cid", &[], |row| {
                row.text(0).to_owned()
            })?;
            let key =
                |name: &str| names.iter().position(|other| other == name).expect("a column of the table");
            let (day, identity) = (key("key_day"), key("identity"));
            let place = |place: usize| i32::try_from(place).expect("few columns");
            db.all("SELECT * FROM cdr", &[], |row| {
                let columns: BTreeMap<String, String> = names
                    .iter()
                    .enumerate()
                    .filter(|(_, name)| !UNCOMPARED.contains(&name.as_str()))
                    .map(|(column, name)| (name.clone(), text(row.value(place(column)))))
                    .filter(|(_, text)| !text.is_empty())
                    .collect();
                let day = i32::try_from(row.int(place(day))).expect("a day");
                ComparableRow { key: Key { day, identity: row.hash(place(identity)) }, columns }
            })
        });
        let odd = "SELECT 1 FROM cdr a WHERE NOT EXISTS
                    (SELECT 1 FROM cdr b WHERE b.key_day = a.key_day AND b.identity = a.identity AND b.leg = 0)
                   UNION ALL
                   SELECT 1 FROM cdr WHERE (versions = 1) <> (stated IS NOT NULL) OR versions <>
                    (SELECT count(*) FROM cdr_version v WHERE v.key_day = cdr.key_day
                        AND v.identity = cdr.identity AND v.leg = cdr.leg)
                   UNION ALL
                   SELECT 1 FROM cdr GROUP BY change_seq HAVING count(*) > 1
                   UNION ALL
                   SELECT 1 FROM call_link l WHERE NOT EXISTS
                    (SELECT 1 FROM cdr WHERE cdr.origin = l.origin AND cdr.call_group = l.call_group)";
        assert_eq!(self.look(odd, 1), Vec::<Vec<String>>::new(), "the tables contradict each other");
        table.expect("the table can be read")
    }

    fn balance(&mut self) -> i64 {
        self.look("SELECT coalesce(sum(legs_added - legs_withdrawn), 0) FROM document", 1)[0][0]
            .parse()
            .expect("a number")
    }

    fn versions(&mut self) -> Vec<([u8; 16], RawRecord)> {
        let versions = self.store.call(true, |db| {
            let keys = db.all("SELECT DISTINCT key_day, identity FROM cdr", &[], |row| Key {
                day: i32::try_from(row.int(0)).unwrap_or(0),
                identity: row.hash(1),
            })?;
            let mut versions = Vec::new();
            for key in keys {
                versions.extend(group::records(db, "pbx", key)?);
            }
            Ok(versions)
        });
        versions.expect("versions can be read")
    }
}

fn outcome(committed: &Committed) -> Outcome {
    assert!(committed.counts.adds_up());
    match committed.counts {
        counts if counts.stored == 1 => Outcome::Stored,
        counts if counts.amended == 1 => Outcome::Amended,
        counts if counts.duplicate == 1 => Outcome::Duplicate,
        _ => Outcome::Skipped,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::dedup::tests::cases(64), ..ProptestConfig::default() })]
    #[test]
    fn ends_in_the_oracles_table(documents in documents()) {
        let mut bench = Bench::new();
        let derive = bench.derive.clone();
        compare(&mut bench, &derive, &documents);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::dedup::tests::cases(64), ..ProptestConfig::default() })]
    #[test]
    fn replays_end_as_if_the_final_readings_were_the_only_ones(documents in documents(), replays in replays()) {
        let mut bench = Bench::new();
        let derive = bench.derive.clone();
        compare_replays(&mut bench, &derive, &documents, &replays);
    }
}

/// Rows of distinct calls: source number `n`, nothing else in common but the time.
fn calls(bench: &Bench, numbers: std::ops::Range<u8>) -> Vec<Identified> {
    let rows: Vec<[u8; 10]> = numbers.map(|n| [n, 1, 0, n + 2, n + 1, 1, 1, 3, n + 1, 0]).collect();
    Document::new(0, &rows).identified(&*bench.derive)
}

fn broken<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Broken { .. }))
}

#[test]
fn a_chunk_passes_only_where_its_document_stands() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let delivery = bench.delivery("folder")?;
    let document = bench.document(delivery, "me")?.document;
    let first = calls(&bench, 0..2);
    assert_eq!(bench.store.commit(chunk(document, 1, first.clone(), false)).wait()?.counts.stored, 2);
    let again = bench.store.commit(chunk(document, 1, first, false)).wait();
    assert_eq!(again, Err(StoreError::FenceLost));
    let gap = bench.store.commit(chunk(document, 9, calls(&bench, 2..3), false)).wait();
    assert_eq!(gap, Err(StoreError::FenceLost));
    let resumed = bench.document(delivery, "another process")?;
    assert_eq!(resumed, Opened { document, run: 1, next_row: 3, done: false });
    let taken_over = bench.store.commit(chunk(document, 3, calls(&bench, 2..3), true)).wait();
    assert_eq!(taken_over, Err(StoreError::FenceLost));
    assert_eq!(bench.look("SELECT count(*) FROM cdr", 1), [["2"]]);
    assert_eq!(bench.look("SELECT rows_read, stored, state FROM document", 3), [["2", "2", "reading"]]);
    Ok(())
}

#[test]
fn a_document_is_resumed_after_a_restart_and_done_once() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let delivery = bench.delivery("folder")?;
    let document = bench.document(delivery, "me")?.document;
    bench.store.commit(chunk(document, 1, calls(&bench, 0..2), false)).wait()?;
    bench.reopen();
    assert_eq!(bench.document(delivery, "me")?, Opened { document, run: 1, next_row: 3, done: false });
    bench.store.commit(chunk(document, 3, calls(&bench, 2..3), true)).wait()?;
    assert_eq!(bench.document(delivery, "me")?, Opened { document, run: 1, next_row: 4, done: true });
    let late = bench.store.commit(chunk(document, 4, calls(&bench, 3..4), true)).wait();
    assert_eq!(late, Err(StoreError::FenceLost));
    let numbers = bench.look("SELECT count(DISTINCT id), count(DISTINCT change_seq) FROM cdr", 2);
    assert_eq!(numbers, [["3", "3"]], "the sequence goes on after a restart");
    Ok(())
}

#[test]
fn a_document_is_repeated_only_if_the_earlier_one_ended_well_here() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let (earlier, later) = (bench.delivery("folder")?, bench.delivery("folder")?);
    let repeat = Some(Repeat { of: earlier, content_hash: [7; 32] });
    let first = bench.document(earlier, "me")?.document;
    bench.store.commit(chunk(first, 1, calls(&bench, 0..2), true)).wait()?;
    let second = bench.repeated(later, "me", repeat)?;
    assert!(!second.done, "the earlier delivery has not ended");
    let end = DeliveryEnd { state: None, content_hash: None, bytes: 1 };
    assert_eq!(bench.store.finish_delivery(earlier, &end).wait()?.state, DeliveryState::Done);
    let opened = bench.repeated(later, "me", repeat)?;
    assert_eq!(opened, Opened { done: true, ..second });
    let late = bench.store.commit(chunk(second.document, 1, calls(&bench, 2..3), true)).wait();
    assert_eq!(late, Err(StoreError::FenceLost), "it takes no rows");
    let summary = bench.store.finish_delivery(later, &end).wait()?;
    assert_eq!((summary.state, summary.counts.rows_read), (DeliveryState::Repeated, 0));

    let begun = bench.delivery("folder")?;
    let document = bench.document(begun, "me")?.document;
    bench.store.commit(chunk(document, 1, calls(&bench, 2..3), false)).wait()?;
    assert!(!bench.repeated(begun, "me", repeat)?.done, "rows of it are stored: it is read to its end");

    bench.store.origin(&OriginStart { formerly: Some("pbx".into()), ..origin_named("hq") })?;
    bench.store.origin(&origin_named("pbx"))?;
    let stranger = bench.delivery("folder")?;
    assert!(!bench.repeated(stranger, "me", repeat)?.done, "another PBX has taken the name");
    Ok(())
}

#[test]
fn a_chunk_at_fault_is_taken_back_alone() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let (good, bad) = (bench.delivery("folder")?, bench.delivery("folder")?);
    let (good, bad) = (bench.document(good, "me")?.document, bench.document(bad, "me")?.document);
    let trap = "CREATE TRIGGER trap BEFORE INSERT ON cdr WHEN new.caller_number = '203'
                BEGIN SELECT RAISE(ABORT, 'trapped'); END";
    bench.store.call(true, |db| Ok(db.run(trap, &[])?))?;
    let chunks = hold(&bench, |store| {
        [
            store.commit(chunk(good, 1, calls(&bench, 0..2), false)),
            store.commit(chunk(bad, 1, calls(&bench, 2..5), false)),
            store.commit(chunk(good, 3, calls(&bench, 5..6), true)),
        ]
    });
    let [first, trapped, last] = chunks.map(crate::store::Pending::wait);
    assert_eq!((first?.counts.stored, last?.counts.stored), (2, 1));
    assert!(broken(&trapped));
    let documents = bench.look("SELECT next_row, stored FROM document ORDER BY id", 2);
    assert_eq!(documents, [["4", "3"], ["1", "0"]]);
    let shared = bench.look("SELECT count(*), count(DISTINCT stored_at) FROM cdr", 2);
    assert_eq!(shared, [["3", "1"]], "one transaction");
    Ok(())
}

#[test]
fn a_delivery_may_be_ended_before_its_last_chunk_is_answered_but_not_before_it_is_sent()
-> Result<(), StoreError> {
    let mut bench = Bench::new();
    let delivery = bench.delivery("folder")?;
    let document = bench.document(delivery, "me")?.document;
    let end = DeliveryEnd { state: None, content_hash: None, bytes: 1 };
    let early = bench.store.finish_delivery(delivery, &end).wait();
    assert_eq!(early.map(|summary| summary.state), Err(StoreError::FenceLost));
    let chunk = bench.store.commit(chunk(document, 1, calls(&bench, 0..2), true));
    let ended = bench.store.finish_delivery(delivery, &end);
    assert_eq!(chunk.wait()?.counts.stored, 2);
    assert_eq!(ended.wait()?.counts.stored, 2);
    Ok(())
}

#[test]
fn work_that_nobody_waits_for_shares_a_transaction_with_what_follows() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let mut documents = Vec::new();
    for _ in 0..3 {
        let delivery = bench.delivery("folder")?;
        documents.push(bench.document(delivery, "me")?.document);
    }
    let mut chunks = hold(&bench, |store| {
        let chunk = |(document, call)| store.commit(chunk(document, 1, calls(&bench, call..call + 1), true));
        documents.into_iter().zip(0..).map(chunk).collect::<Vec<_>>()
    });
    // Only the last one is waited for.
    let last = chunks.pop().expect("three were sent");
    assert_eq!(last.wait()?.counts.stored, 1);
    let shared = bench.look("SELECT count(*), count(DISTINCT stored_at) FROM cdr", 2);
    assert_eq!(shared, [["3", "1"]], "one transaction");
    Ok(())
}

/// Keeps the writer busy while `send` fills its queue, so that what is sent shares a transaction.
fn hold<T>(bench: &Bench, send: impl FnOnce(&Sqlite) -> T) -> T {
    let (begun, started) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let store = bench.store.clone();
    let busy = std::thread::spawn(move || {
        store.call(false, move |_| {
            begun.send(()).expect("the test waits");
            released.recv().expect("the test releases");
            Ok(())
        })
    });
    started.recv().expect("the writer takes the work");
    let pending = send(&bench.store);
    release.send(()).expect("the writer waits");
    busy.join().expect("no panic").expect("nothing to fail");
    pending
}

#[test]
fn a_full_disk_takes_the_whole_transaction_back_and_heals() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let (one, two) = (bench.delivery("folder")?, bench.delivery("folder")?);
    let (one, two) = (bench.document(one, "me")?.document, bench.document(two, "me")?.document);
    // The limit cannot fall below the size the database has.
    bench.store.call(true, |db| Ok(db.run("PRAGMA max_page_count = 1", &[])?))?;
    let note = "x".repeat(100_000);
    let big = |bench: &Bench| -> Vec<Identified> {
        let mut rows = calls(bench, 2..4);
        for row in &mut rows {
            row.leg.cdr.text.set(crate::record::cdr::TextColumn::HangupText, &note);
        }
        rows
    };
    let chunks = hold(&bench, |store| {
        [
            store.commit(chunk(one, 1, calls(&bench, 0..2), true)),
            store.commit(chunk(two, 1, big(&bench), true)),
        ]
    });
    for chunk in chunks {
        assert!(matches!(chunk.wait(), Err(StoreError::Transient { .. })));
    }
    assert_eq!(bench.look("SELECT count(*) FROM cdr", 1), [["0"]]);
    bench.store.call(true, |db| Ok(db.run("PRAGMA max_page_count = 1000000", &[])?))?;
    bench.store.commit(chunk(one, 1, calls(&bench, 0..2), true)).wait()?;
    bench.store.commit(chunk(two, 1, big(&bench), true)).wait()?;
    assert_eq!(bench.look("SELECT count(*) FROM cdr", 1), [["4"]]);
    Ok(())
}

#[test]
fn a_new_run_supersedes_the_old_and_counts_alone() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let delivery = bench.delivery("folder")?;
    let old = bench.document(delivery, "me")?.document;
    bench.store.commit(chunk(old, 1, calls(&bench, 0..2), false)).wait()?;
    let new = bench.store.restart_document(old, "me")?;
    assert_eq!((new.run, new.next_row, new.done), (2, 1, false));
    let late = bench.store.commit(chunk(old, 3, calls(&bench, 2..3), false)).wait();
    assert_eq!(late, Err(StoreError::FenceLost));
    bench.store.commit(chunk(new.document, 1, calls(&bench, 0..3), true)).wait()?;
    let end = DeliveryEnd { state: None, content_hash: None, bytes: 7 };
    let summary = bench.store.finish_delivery(delivery, &end).wait()?;
    assert_eq!((summary.counts.rows_read, summary.counts.stored, summary.counts.duplicate), (3, 1, 2));
    assert_eq!(summary.state, DeliveryState::Done);
    assert_eq!(bench.document(delivery, "me")?.document, new.document);
    assert_eq!(bench.balance(), 3);
    Ok(())
}

#[test]
fn every_row_ends_in_one_outcome_and_a_document_may_be_rejected_whole() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let delivery = bench.delivery("folder")?;
    let document = bench.document(delivery, "me")?.document;
    let rejection = |row| {
        ChunkRow::Rejected(Box::new(Rejection {
            position: Position { row, offset: 0, length: 3 },
            field: None,
            reason: Reason::StartInvalid,
            message: "no time".to_owned(),
            verbatim: vec![b'x'; 70_000],
        }))
    };
    let mut mixed = chunk(document, 1, calls(&bench, 0..1), true);
    mixed.rows.extend([ChunkRow::Skipped(Skip::Title), rejection(3)]);
    mixed.next_row = 4;
    let counts = bench.store.commit(mixed).wait()?.counts;
    assert!(counts.adds_up());
    assert_eq!((counts.rows_read, counts.stored, counts.skipped, counts.rejected), (3, 1, 1, 1));
    let end = DeliveryEnd { state: None, content_hash: Some([7; 32]), bytes: 7 };
    assert_eq!(bench.store.finish_delivery(delivery, &end).wait()?.state, DeliveryState::DoneWithRejects);

    let delivery = bench.delivery("folder")?;
    let document = bench.document(delivery, "me")?.document;
    let mut whole = chunk(document, 1, Vec::new(), true);
    whole.rows.push(rejection(0));
    whole.end = Some(DocumentEnd { rejected: true, content_hash: None });
    assert_eq!(bench.store.commit(whole).wait()?.counts.rows_read, 0);
    let summary = bench.store.finish_delivery(delivery, &end).wait()?;
    assert_eq!((summary.state, summary.rejected_documents), (DeliveryState::Rejected, 1));
    assert!(bench.document(delivery, "me")?.done);
    let kept = bench.look("SELECT row_number, length(verbatim), reason FROM rejected ORDER BY id", 3);
    assert_eq!(kept, [["3", "65536", "start_invalid"], ["0", "65536", "start_invalid"]]);
    Ok(())
}

#[test]
fn a_summary_gives_way_and_the_leg_beside_it_becomes_leg_0() {
    let mut bench = Bench::new();
    let route = |route, row| Document::new(route, &[row]).identified(&Toy::default());
    // The second row is of the group of the first and conflicts with it; the third is elsewhere, in the session.
    let summary = route(3, [0, 0, 0, 2, 1, 0, 1, 2, 0, 0]);
    let beside = route(2, [0, 0, 0, 0, 2, 1, 1, 3, 0, 0]);
    let leg = route(0, [1, 0, 0, 2, 0, 2, 1, 3, 1, 0]);
    assert_eq!(bench.commit("folder", summary.clone()), [Outcome::Stored]);
    assert_eq!(bench.commit("folder", beside), [Outcome::Stored]);
    assert_eq!(bench.look("SELECT leg FROM cdr ORDER BY id", 1), [["0"], ["1"]]);
    assert_eq!(bench.commit("folder", leg), [Outcome::Stored]);
    let tombstones = bench.look("SELECT leg, reason FROM tombstone ORDER BY change_seq", 2);
    assert_eq!(tombstones, [["0", "summary"], ["1", "renumbered"]]);
    assert_eq!(bench.look("SELECT leg, caller_number FROM cdr ORDER BY id", 2), [["0", "200"], ["0", "201"]]);
    let moved = "SELECT (SELECT change_seq FROM cdr WHERE caller_number = '200') >
                        (SELECT max(change_seq) FROM tombstone)";
    assert_eq!(bench.look(moved, 1), [["1"]], "who copies changes sees the row after its tombstones");
    assert_eq!(bench.commit("folder", summary), [Outcome::Skipped]);
    assert_eq!(bench.balance(), 2);
    assert_eq!(bench.look("SELECT count(*) FROM summary", 1), [["0"]]);
}

#[test]
fn a_second_route_that_adds_nothing_moves_nothing() {
    let mut bench = Bench::new();
    let row = [0, 1, 0, 2, 1, 1, 1, 3, 1, 0];
    let by = |route| Document::new(route, &[row]).identified(&Toy::default());
    assert_eq!(bench.commit("folder", by(0)), [Outcome::Stored]);
    let before = bench.look("SELECT id, change_seq, delivery_id FROM cdr", 3);
    assert_eq!(bench.commit("mail", by(1)), [Outcome::Duplicate]);
    assert_eq!(bench.look("SELECT id, change_seq, delivery_id FROM cdr", 3), before);
    assert_eq!(bench.look("SELECT versions, stated IS NULL FROM cdr", 2), [["2", "1"]]);
    assert_eq!(bench.look("SELECT source FROM version ORDER BY stored_order", 1), [["folder"], ["mail"]]);
    assert_eq!(bench.commit("mail", by(1)), [Outcome::Duplicate]);
    assert_eq!(bench.look("SELECT count(*) FROM version", 1), [["2"]]);
}

#[test]
fn an_origin_keeps_its_key_under_a_new_name() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let rows = calls(&bench, 0..1);
    bench.commit("folder", rows);
    let renamed = OriginStart {
        name: "hq".to_owned(),
        tenant: Some("acme".to_owned()),
        time_zone: "Europe/Paris".to_owned(),
        formerly: Some("pbx".to_owned()),
    };
    for _ in 0..2 {
        let row = bench.store.origin(&renamed)?;
        assert_eq!((row.key.as_str(), row.time_zone.as_str()), ("pbx", "UTC"));
    }
    assert_eq!(bench.look("SELECT origin, change_seq FROM cdr", 2), [["hq", "2"]]);
    assert_eq!(bench.store.origin(&origin_named("pbx"))?.key, "pbx#2");
    assert_eq!(bench.store.rederive("hq", "UTC", &GO_ON)?, 1, "the tenant is new");
    assert_eq!(bench.look("SELECT tenant FROM cdr", 1), [["acme"]]);
    assert!(bench.store.clock_fault("hq", "an hour off")?);
    assert!(!bench.store.clock_fault("hq", "an hour off")?);
    Ok(())
}

#[test]
fn rederiving_that_is_stopped_changes_nothing() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let rows = calls(&bench, 0..3);
    bench.commit("folder", rows);
    let acme = OriginStart { tenant: Some("acme".to_owned()), ..origin_named("pbx") };
    bench.store.origin(&acme)?;
    let looks = "SELECT o.time_zone, c.tenant, c.change_seq FROM origin o JOIN cdr c ON c.origin = o.name ORDER BY c.id";
    let before = bench.look(looks, 3);
    let stop = AtomicBool::new(true);
    assert_eq!(bench.store.rederive("pbx", "Asia/Tokyo", &stop), Err(StoreError::Stopped));
    assert_eq!(bench.look(looks, 3), before);
    bench.store.begin_switch(&[], &GO_ON)?;
    assert_eq!(bench.store.rederive("pbx", "Asia/Tokyo", &stop), Err(StoreError::Stopped));
    assert_eq!(bench.store.end_switch(false, 0), Err(StoreError::SwitchLost));
    assert_eq!(bench.look(looks, 3), before);
    assert_eq!(bench.store.rederive("pbx", "UTC", &GO_ON)?, 3, "and the writer goes on");
    Ok(())
}

#[test]
fn the_file_is_laid_out_as_measured_and_closes_whole() {
    let mut bench = Bench::new();
    let rows = calls(&bench, 0..3);
    bench.commit("folder", rows);
    let columns: Vec<Vec<String>> =
        super::columns::in_table_order().map(|name| vec![name.to_owned()]).collect();
    assert_eq!(bench.look("SELECT name FROM pragma_table_info('cdr') ORDER BY cid", 1), columns);
    assert_eq!(bench.look("PRAGMA page_size", 1), [["16384"]]);
    assert_eq!(bench.look("PRAGMA journal_mode", 1), [["wal"]]);
    bench.store.close();
    assert!(!bench.folder.path().join("cdr.db-wal").exists(), "the log is gone with the last connection");
    assert_eq!(bench.store.rederive("pbx", "UTC", &GO_ON), Err(StoreError::WriterGone));
    bench.reopen();
    assert_eq!(bench.look("PRAGMA integrity_check", 1), [["ok"]]);
}

#[test]
fn a_database_that_is_busy_while_it_is_opened_is_tried_again() -> Result<(), Box<dyn std::error::Error>> {
    let bench = Bench::new();
    let failed = bench.runtime.block_on(async {
        use sqlx::{ConnectOptions as _, Executor as _};
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(bench.folder.path().join("cdr.db"))
            .busy_timeout(std::time::Duration::ZERO);
        let (mut one, mut other) = (options.connect().await?, options.connect().await?);
        one.execute("BEGIN IMMEDIATE").await?;
        Ok::<_, sqlx::Error>(other.execute("BEGIN IMMEDIATE").await.err())
    })?;
    let busy = failed.ok_or("two writers")?;
    assert!(matches!(super::of_sqlx("cdr.db", &busy), StoreError::Transient { .. }));
    let migrating = sqlx::Error::from(sqlx::migrate::MigrateError::ExecuteMigration(busy, 1));
    assert!(matches!(super::of_sqlx("cdr.db", &migrating), StoreError::Transient { .. }), "{migrating:?}");
    Ok(())
}

/// Users' queries, and those that every commit makes, on a table of a year.
#[test]
fn queries_use_the_indexes_once_the_planner_knows_the_table() {
    let mut bench = Bench::new();
    bench.commit("folder", calls(&bench, 0..1));
    let year = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
        INSERT INTO cdr (id, key_day, identity, leg, origin, source, system, format, call_group, call_head, started_at,
                         time_precision, time_ambiguous, direction, disposition, caller, callee, delivery_id,
                         document_id, row_number, byte_offset, byte_length, versions, version_hash, change_seq, stored_at)
        SELECT 1000 + i, 20000 + i / 100, randomblob(16), 0, 'pbx', 's', 't', 'f', 'g' || i / 3, i % 3 = 0,
               datetime(86400 * (20000 + i / 100), 'unixepoch') || '.000', 'second', 0, 'inbound', 'answered',
               '+49' || i % 5000, '+48' || i % 5000, 'd', 1, i, 0, 1, 1, randomblob(16), 1000 + i, ''
          FROM n";
    for statement in [year, "PRAGMA analysis_limit = 1000", "ANALYZE"] {
        bench.store.call(true, move |db| Ok(db.run(statement, &[])?)).expect("the statement runs");
    }
    bench.reopen();
    for (query, index) in [
        (
            "EXPLAIN QUERY PLAN SELECT * FROM cdr WHERE caller = '+4917'",
            "cdr_caller (ANY(key_day) AND caller=?)",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT * FROM cdr WHERE callee = '+4817'",
            "cdr_callee (ANY(key_day) AND callee=?)",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT * FROM cdr WHERE started_at >= '2025-01-01' AND started_at < '2025-01-02'",
            "cdr_started_at (started_at>? AND started_at<?)",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT * FROM call WHERE started_at >= '2025-01-01' AND started_at < '2025-01-02'",
            "SEARCH head USING INDEX cdr_started_at (started_at>? AND started_at<?)",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT * FROM call WHERE started_at >= '2025-01-01' AND started_at < '2025-01-02'",
            "cdr_call_group (origin=? AND call_group=?)",
        ),
        (
            "EXPLAIN QUERY PLAN SELECT id FROM cdr WHERE origin = 'pbx' AND call_group = 'g1' AND call_head = 1 AND id <> 7",
            "cdr_call_group (origin=? AND call_group=? AND call_head=?)",
        ),
        ("EXPLAIN QUERY PLAN SELECT * FROM cdr WHERE change_seq > 30900", "cdr_change_seq (change_seq>?)"),
        (
            "EXPLAIN QUERY PLAN SELECT 1 FROM cdr WHERE key_day = 1 AND identity = x'00' AND leg = 0 AND version_hash = x'00'",
            "cdr_key (key_day=? AND identity=? AND leg=?)",
        ),
    ] {
        let plan = bench.look(query, 4).into_iter().map(|row| row[3].clone()).collect::<Vec<_>>().join("; ");
        assert!(plan.contains(index), "{query}: {plan}");
    }
}
