//! What a source is told of its deliveries comes from the store: state, counts, and where rows were rejected, the same
//! after a crash.

use crate::site::{Site, asterisk_rows, zip_of};
use cdrd::config::{self, Surroundings};
use cdrd::daemon::{self, Works};
use cdrd::formats::Formats;
use cdrd::record::delivery::{Body, Delivery};
use cdrd::record::outcome::DeliveryOutcome;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn works(site: &Site) -> Works {
    let config = config::load(&site.path("config.toml"), &Surroundings::default()).expect("it is right");
    let runtime = Arc::new(daemon::runtime().expect("a runtime"));
    // A child that another test forks at this instant holds the lock until it is its own program.
    for _ in 0..200 {
        if let Ok(works) = daemon::build(&config, &Formats::built_in(), Arc::clone(&runtime)) {
            return works;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    daemon::build(&config, &Formats::built_in(), runtime).expect("everything is there")
}

fn delivery(name: &str, bytes: &[u8]) -> Delivery {
    Delivery {
        origin: "pbx".to_owned(),
        source: "inbox".to_owned(),
        account: Some("pbx-hq".to_owned()),
        peer: None,
        name: name.to_owned(),
        received_at: Timestamp::now(),
        pinned_format: None,
        time_zone: None,
        reading: [0; 16],
        body: Body::Bytes(bytes.to_vec()),
    }
}

/// What the source is told of each, in order.
fn told(works: &Works, deliveries: Vec<Delivery>) -> Vec<DeliveryOutcome> {
    let intake = &works.storing.intake;
    let deliveries = deliveries.into_iter().map(|delivery| (delivery, None)).collect();
    for answer in intake.accept_and_tell(deliveries).expect("the door is open") {
        answer.expect("it is accepted");
    }
    while works.storing.pipeline.work(&AtomicBool::new(false)).expect("the store works").is_some() {}
    intake.outcomes("inbox", None, 100).expect("the spool can be read")
}

#[test]
fn a_source_is_told_state_counts_and_where_rows_were_rejected() {
    let site = Site::new("UTC", "DE");
    let works = works(&site);
    let mut rows: Vec<String> = asterisk_rows(0..200).lines().map(|line| format!("{line}\n")).collect();
    for row in &mut rows[100..124] {
        *row = row.replace("\"2025-03-10", "\"2025-99-99");
    }
    let broken = rows.concat();
    let zip = zip_of(&[("good.csv", asterisk_rows(400..402).as_bytes()), ("notes.txt", b"no calls in here")]);
    let outcomes = told(
        &works,
        vec![
            delivery("good.csv", asterisk_rows(500..503).as_bytes()),
            delivery("bad.csv", broken.as_bytes()),
            delivery("month.zip", &zip),
            delivery("empty.csv", b""),
        ],
    );
    let states: Vec<_> = outcomes.iter().map(|outcome| outcome.verdict.state.as_str()).collect();
    assert_eq!(states, ["done", "done_with_rejects", "done_with_rejects", "empty"]);
    assert!(outcomes.iter().all(|outcome| outcome.account.as_deref() == Some("pbx-hq")));
    let [good, bad, archive, empty] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(good.verdict.is_clean() && empty.verdict.is_clean());
    assert_eq!((good.verdict.counts.rows_read, good.verdict.counts.stored), (3, 3));
    assert!(good.verdict.rejections.is_empty());
    assert_eq!((bad.verdict.counts.stored, bad.verdict.counts.rejected), (176, 24));
    let notes = &bad.verdict.rejections;
    assert_eq!(notes.len(), 20, "a sample");
    let offset: usize = rows[..100].iter().map(String::len).sum();
    assert_eq!((notes[0].row, notes[0].offset), (101, offset as u64));
    assert_eq!((notes[0].reason.as_str(), notes[0].field.as_deref()), ("columns_mismatch", Some("answer")));
    assert_eq!(archive.verdict.rejected_documents, 1);
    assert_eq!(archive.verdict.rejections[0].document, "notes.txt");
    assert_eq!(
        (archive.verdict.rejections[0].row, archive.verdict.rejections[0].reason.as_str()),
        (0, "format_unknown")
    );
}

/// Died after the store had it all: the outcome is the store's, and not that of a second reading.
#[test]
fn a_delivery_that_ended_before_a_crash_is_told_as_it_ended() {
    let site = Site::new("UTC", "DE");
    let first = works(&site);
    let broken = asterisk_rows(0..3).replacen("\"2025-03-10 10", "\"2025-99-99 10", 1);
    let deliveries = vec![(delivery("bad.csv", broken.as_bytes()), None)];
    let receipt = first.storing.intake.accept_and_tell(deliveries).expect("it is open").pop();
    let receipt = receipt.expect("one answer").expect("accepted");
    // As the pipeline does, up to the crash: all is stored, nothing is retired.
    first.storing.store.close();
    first.storing.intake.close();
    drop(first);
    let mut daemon = site.start(Some("delivery-finished"));
    daemon.0.wait().expect("the child is ours");
    drop(daemon);
    let second = works(&site);
    assert!(second.storing.intake.outcomes("inbox", None, 9).expect("readable").is_empty());
    while second.storing.pipeline.work(&AtomicBool::new(false)).expect("the store works").is_some() {}
    let outcomes = second.storing.intake.outcomes("inbox", None, 9).expect("readable");
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].delivery, receipt.id);
    assert_eq!((outcomes[0].verdict.counts.stored, outcomes[0].verdict.counts.rejected), (2, 1));
    assert_eq!(outcomes[0].verdict.rejections.len(), 1);
}
