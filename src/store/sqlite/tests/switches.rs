//! A switch is kept whole or leaves no trace; a rejection passes once.

use super::{Bench, GO_ON, calls, chunk};
use crate::dedup::Identified;
use crate::record::delivery::DeliveryId;
use crate::record::outcome::{Reason, Rejection, Skip};
use crate::record::raw::Position;
use crate::store::conformance::Subject;
use crate::store::query::{OpenRejection, Query as _, RejectionWish};
use crate::store::{ChunkRow, Commit, DeliveryEnd, Retry, StoreError};
use std::sync::atomic::AtomicBool;

/// Everything that is stored, row by row.
fn everything(bench: &Bench) -> Vec<Vec<Vec<String>>> {
    [
        ("SELECT * FROM cdr ORDER BY id", 69),
        ("SELECT * FROM version ORDER BY key_day, identity, version_hash", 15),
        ("SELECT * FROM document ORDER BY id", 24),
        ("SELECT * FROM delivery ORDER BY id", 20),
        ("SELECT * FROM rejected ORDER BY id", 10),
        ("SELECT * FROM tombstone ORDER BY change_seq", 7),
        ("SELECT * FROM call_link ORDER BY origin, value, kind", 4),
        ("SELECT * FROM summary ORDER BY linked_id, identity", 5),
        ("SELECT * FROM hidden_session ORDER BY linked_id", 2),
    ]
    .map(|(sql, columns)| bench.look(sql, columns))
    .to_vec()
}

/// Two deliveries of which the second repeats a call of the first.
fn stored() -> (Bench, Vec<DeliveryId>) {
    let mut bench = Bench::new();
    for numbers in [0..4, 3..6] {
        let rows = calls(&bench, numbers);
        bench.commit("folder", rows);
    }
    let deliveries = bench.committed.clone();
    (bench, deliveries)
}

#[test]
fn a_switch_that_is_taken_back_tells_what_would_change_and_leaves_no_trace() -> Result<(), StoreError> {
    let (bench, deliveries) = stored();
    let before = everything(&bench);
    let sequence = "SELECT last FROM sequence";
    bench.store.begin_switch(&deliveries, &GO_ON)?;
    assert_eq!(bench.look("SELECT count(*) FROM cdr", 1), [["0"]], "all of it is withdrawn");
    bench.read(deliveries[0], calls(&bench, 1..3));
    bench.read(deliveries[1], calls(&bench, 5..8));
    let switched = bench.store.end_switch(false, 2)?;
    assert_eq!((switched.removed, switched.changed, switched.added), (3, 0, 2));
    assert_eq!(switched.rows.len(), 4, "two of each kind");
    assert_eq!(everything(&bench), before);
    bench.store.begin_switch(&deliveries, &GO_ON)?;
    bench.read(deliveries[0], calls(&bench, 0..4));
    bench.read(deliveries[1], calls(&bench, 3..6));
    let switched = bench.store.end_switch(true, 2)?;
    assert_eq!((switched.removed, switched.changed, switched.added), (0, 0, 0));
    let places = "SELECT id, change_seq, leg, stored_at, caller_number FROM cdr ORDER BY id";
    let is = bench.look(places, 5);
    let was: Vec<Vec<String>> = before[0].iter().map(|row| vec![row[0].clone()]).collect();
    assert_eq!(is.iter().map(|row| vec![row[0].clone()]).collect::<Vec<_>>(), was);
    assert_eq!(bench.look("SELECT count(*) FROM tombstone", 1), [["0"]]);
    let ahead = "SELECT (SELECT last FROM sequence) >= (SELECT max(max(id), max(change_seq)) FROM cdr)";
    assert_eq!(bench.look(ahead, 1), [["1"]], "{:?}", bench.look(sequence, 1));
    Ok(())
}

#[test]
fn a_switch_that_is_stopped_while_it_withdraws_leaves_no_trace() -> Result<(), StoreError> {
    let (bench, deliveries) = stored();
    let before = everything(&bench);
    let stop = AtomicBool::new(true);
    assert_eq!(bench.store.begin_switch(&deliveries, &stop), Err(StoreError::Stopped));
    assert_eq!(everything(&bench), before);
    assert_eq!(bench.store.end_switch(false, 0), Err(StoreError::SwitchLost), "none is open");
    bench.store.begin_switch(&deliveries, &GO_ON)?;
    assert_eq!(bench.look("SELECT count(*) FROM cdr", 1), [["0"]], "and the writer goes on");
    bench.store.end_switch(false, 0)?;
    assert_eq!(everything(&bench), before);
    Ok(())
}

#[test]
fn a_step_that_fails_in_a_switch_takes_all_of_it_back() -> Result<(), StoreError> {
    let (mut bench, deliveries) = stored();
    let before = everything(&bench);
    bench.store.begin_switch(&deliveries, &GO_ON)?;
    let document = bench.document(deliveries[0], "me")?.document;
    bench.store.commit(chunk(document, 1, calls(&bench, 0..2), false)).wait()?;
    let gap = bench.store.commit(chunk(document, 9, calls(&bench, 2..3), true)).wait();
    assert_eq!(gap, Err(StoreError::FenceLost));
    let late = bench.store.commit(chunk(document, 3, calls(&bench, 2..4), true)).wait();
    assert_eq!(late, Err(StoreError::SwitchLost), "the rest may not be stored alone");
    assert_eq!(bench.store.end_switch(true, 0), Err(StoreError::SwitchLost));
    assert_eq!(bench.store.end_switch(true, 0), Err(StoreError::SwitchLost), "there is none");
    assert_eq!(everything(&bench), before);
    let rows = calls(&bench, 6..7);
    bench.commit("folder", rows);
    assert_eq!(bench.look("SELECT count(*) FROM cdr", 1), [["7"]], "storing goes on");
    Ok(())
}

#[test]
fn a_full_disk_takes_a_switch_back() -> Result<(), StoreError> {
    let (mut bench, deliveries) = stored();
    let before = everything(&bench);
    bench.store.begin_switch(&deliveries, &GO_ON)?;
    bench.store.call(true, |db| Ok(db.run("PRAGMA max_page_count = 1", &[])?))?;
    let document = bench.document(deliveries[0], "me")?.document;
    let mut rows = calls(&bench, 0..4);
    for row in &mut rows {
        row.leg.cdr.text.set(crate::record::cdr::TextColumn::HangupText, &"x".repeat(100_000));
    }
    let full = bench.store.commit(chunk(document, 1, rows, true)).wait();
    assert!(matches!(full, Err(StoreError::Transient { .. })), "{full:?}");
    assert_eq!(bench.store.end_switch(true, 0), Err(StoreError::SwitchLost));
    bench.store.call(true, |db| Ok(db.run("PRAGMA max_page_count = 1000000", &[])?))?;
    assert_eq!(everything(&bench), before);
    let rows = calls(&bench, 6..7);
    bench.commit("folder", rows);
    assert_eq!(bench.look("SELECT count(*) FROM cdr", 1), [["7"]], "storing goes on");
    Ok(())
}

#[test]
fn a_switch_that_never_ends_is_taken_back() -> Result<(), StoreError> {
    let (mut bench, deliveries) = stored();
    let before = everything(&bench);
    bench.store.begin_switch(&deliveries, &GO_ON)?;
    bench.read(deliveries[0], calls(&bench, 0..1));
    assert_eq!(bench.store.begin_switch(&[], &GO_ON), Err(StoreError::SwitchLost), "one at a time");
    bench.reopen();
    assert_eq!(everything(&bench), before);
    Ok(())
}

#[test]
fn who_is_half_read_or_hides_statements_is_found() -> Result<(), Box<dyn std::error::Error>> {
    let (mut bench, deliveries) = stored();
    let ids = |chosen: &[DeliveryId]| -> Result<Vec<DeliveryId>, Box<dyn std::error::Error>> {
        Ok(bench.query().read_again(chosen)?.into_iter().map(|start| start.id).collect())
    };
    assert_eq!(ids(&deliveries[..1])?, deliveries, "the second repeats a call of the first");
    assert_eq!(ids(&deliveries[1..])?, deliveries[1..], "the first repeats nothing");
    let half = bench.delivery("folder")?;
    let document = bench.document(half, "me")?.document;
    bench.store.commit(chunk(document, 1, calls(&bench, 0..1), false)).wait()?;
    let refused = bench.query().read_again(&deliveries[..1]);
    assert!(refused.is_err_and(|error| error.to_string().contains(&half.to_string())));
    Ok(())
}

#[test]
fn a_rejection_gets_another_outcome_once_and_only_in_the_latest_run() -> Result<(), StoreError> {
    let mut bench = Bench::new();
    let delivery = bench.delivery("folder")?;
    let document = bench.document(delivery, "me")?.document;
    let rejection = |row| Rejection {
        position: Position { row, offset: row * 100, length: 90 },
        field: None,
        reason: Reason::StartInvalid,
        message: "no time".to_owned(),
        verbatim: Vec::new(),
    };
    let mut mixed = chunk(document, 1, calls(&bench, 0..1), true);
    mixed.rows.extend([2, 3, 4].map(|row| ChunkRow::Rejected(Box::new(rejection(row)))));
    mixed.next_row = 5;
    bench.store.commit(mixed).wait()?;
    let wish = RejectionWish { reason: Some("start_invalid".to_owned()), ..RejectionWish::default() };
    let open = |bench: &Bench| bench.query().rejected_documents(&wish).expect("the query runs");
    assert!(open(&bench).is_empty(), "its delivery has not ended");
    let end = DeliveryEnd { state: None, content_hash: None, bytes: 1 };
    bench.store.finish_delivery(delivery, &end).wait()?;
    let found = open(&bench).remove(0);
    let rejections: Vec<i64> = found.rejections.iter().map(|rejection| rejection.id).collect();
    let third = OpenRejection { id: rejections[2], row: 4, offset: 400, chosen: true };
    assert_eq!((found.rows_read, found.rejections[2]), (4, third));
    let mut rows = calls(&bench, 0..2);
    let leg = |rows: &mut Vec<Identified>| ChunkRow::Leg(Box::new(rows.remove(0)));
    let (known, new) = (leg(&mut rows), leg(&mut rows));
    let mut still = rejection(4);
    still.message = "another word".to_owned();
    let outcomes = vec![
        (rejections[0], known),
        (rejections[1], new),
        (rejections[2], ChunkRow::Rejected(Box::new(still))),
    ];
    let counts = bench.store.retry(Retry { document, rows: outcomes })?.counts;
    assert_eq!((counts.duplicate, counts.stored, counts.rejected), (1, 1, 0));
    let mut again = calls(&bench, 1..2);
    let twice = vec![(rejections[1], leg(&mut again)), (rejections[2] + 7, ChunkRow::Skipped(Skip::Blank))];
    let counts = bench.store.retry(Retry { document, rows: twice })?.counts;
    assert_eq!(counts.rows_read, 0, "one is resolved, the other does not exist");
    let sums = "SELECT rows_read, stored, duplicate, rejected, legs_added FROM document";
    assert_eq!(bench.look(sums, 5), [["4", "2", "1", "1", "2"]]);
    let delivery_row = "SELECT rows_read, stored, duplicate, rejected, state FROM delivery";
    assert_eq!(bench.look(delivery_row, 5), [["4", "2", "1", "1", "done_with_rejects"]]);
    let open_now = "SELECT row_number, message FROM rejected WHERE resolved_at IS NULL";
    assert_eq!(bench.look(open_now, 2), [["4", "another word"]]);
    bench.store.begin_switch(&[delivery], &GO_ON)?;
    bench.read(delivery, calls(&bench, 0..2));
    bench.store.end_switch(true, 0)?;
    let mut late = calls(&bench, 2..3);
    let late = Retry { document, rows: vec![(rejections[2], leg(&mut late))] };
    assert_eq!(bench.store.retry(late), Err(StoreError::FenceLost), "another run has taken over");
    assert!(open(&bench).is_empty());
    assert_eq!(bench.balance(), 2);
    Ok(())
}
