//! Small deliveries share transactions, and a large one never makes them wait for its end.

use crate::site::{Site, asterisk_rows};
use std::time::{Duration, Instant};

fn number(site: &Site, sql: &str) -> u32 {
    site.query("cdr.db", sql).first().and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[test]
fn many_small_deliveries_share_transactions_and_are_counted_each_by_itself() {
    let site = Site::new("UTC", "DE");
    for file in 0..300 {
        // The first row of each stands in the file before as its last.
        site.drop_file(&format!("{file:03}.csv"), asterisk_rows(file * 2..file * 2 + 3).as_bytes());
    }
    site.run_to_end();
    assert_eq!(number(&site, "SELECT count(*) FROM cdr"), 601);
    let odd =
        "SELECT count(*) FROM delivery WHERE state <> 'done' OR rows_read <> 3 OR stored + duplicate <> 3";
    assert_eq!(number(&site, odd), 0, "{}", site.log());
    assert_eq!(number(&site, "SELECT sum(duplicate) FROM delivery"), 299);
    // Rows of a transaction have one time of storing.
    let transactions = number(&site, "SELECT count(DISTINCT stored_at) FROM cdr");
    assert!(transactions <= 100, "{transactions} transactions for 300 deliveries");
    let originals = crate::site::files_below(&site.path("var/originals"));
    assert_eq!(originals.len(), 300);
}

#[test]
fn a_small_delivery_is_stored_while_a_large_one_is_read() {
    let site = Site::new("UTC", "DE");
    site.drop_file("large.csv", asterisk_rows(0..30_000).as_bytes());
    let mut daemon = site.start(None);
    let deadline = Instant::now() + Duration::from_mins(1);
    let taken_up = "SELECT count(*) FROM receipt WHERE state = 'reading' AND name = 'large.csv'";
    while site.query_now("spool.db", taken_up).as_deref() != Some("1") {
        assert!(Instant::now() < deadline, "never taken up:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    site.drop_file("small.csv", asterisk_rows(40_000..40_001).as_bytes());
    site.wait_drained(&mut daemon);
    site.stop(daemon);
    let of =
        |name: &str| format!("FROM cdr JOIN delivery ON delivery.id = delivery_id WHERE name = '{name}.csv'");
    assert_eq!(number(&site, &format!("SELECT count(*) {}", of("large"))), 30_000);
    let before =
        format!("SELECT (SELECT stored_at {}) < (SELECT max(stored_at) {})", of("small"), of("large"));
    assert_eq!(site.query("cdr.db", &before), ["1"], "{}", site.log());
}
