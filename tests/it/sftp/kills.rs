//! The server and its clients are killed at any moment: what was acknowledged is stored, nothing is read half, and what is
//! sent again is not counted twice.

use super::raw::ANEW;
use super::{Served, USER};
use crate::site::asterisk_rows;
use std::collections::BTreeSet;
use std::time::Duration;

/// Calls of each file.
const CALLS: u32 = 12;

/// A name and its rows; every third is large enough for a file of its own. No call is in two of them.
fn file(number: u32) -> (String, String) {
    let (group, place) = (number / 3 * 1300, number % 3);
    let calls = if place == 0 {
        group..group + 1200
    } else {
        group + 1200 + place * CALLS..group + 1200 + (place + 1) * CALLS
    };
    (format!("f{number}.csv"), asterisk_rows(calls))
}

fn rows_of(number: u32) -> usize {
    file(number).1.lines().count()
}

/// Numbers that look like chance and are the same in every run.
fn chance(seed: u32) -> impl FnMut(u64) -> u64 {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

/// Nothing was read half: a delivery of a name has all rows of its file, or is known from before.
#[track_caller]
fn nothing_half(served: &Served) {
    for delivery in served.site.query("cdr.db", "SELECT name, rows_read, state FROM delivery") {
        let words: Vec<&str> = delivery.split('|').collect();
        let number: u32 =
            words[0].trim_start_matches('f').split('.').next().unwrap_or_default().parse().expect("our name");
        let rows: usize = words[1].parse().expect("a number");
        assert!(words[2] == "repeated" || rows == rows_of(number), "{delivery}");
    }
}

/// Sends until the server is gone; the numbers whose close was answered with success.
fn send(served: &Served, numbers: std::ops::Range<u32>, temporary: bool) -> BTreeSet<u32> {
    let mut acknowledged = BTreeSet::new();
    let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut raw = served.raw();
        for number in numbers {
            let (name, text) = file(number);
            let first = if temporary { format!("{name}.tmp") } else { name.clone() };
            let good = raw.upload(&first, text.as_bytes()) == Some(0)
                && (!temporary || raw.rename(&first, &name) == Some(0));
            if good {
                acknowledged.insert(number);
            }
        }
    }));
    // A client whose server is killed ends in its own way.
    drop(sent);
    acknowledged
}

/// Lives of a server, ten to each site.
fn sites() -> u32 {
    let rounds: u32 = std::env::var("CDRD_RANDOM_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    rounds.div_ceil(20)
}

#[test]
fn the_server_is_killed_at_any_moment() {
    (0..sites()).for_each(killed_server);
}

fn killed_server(site: u32) {
    const FILES: u32 = 6;
    let served = Served::new("feedback = true", "");
    for round in 0..10_u32 {
        let numbers = round * FILES..(round + 1) * FILES;
        let point = ["accept-durable", "accept-claiming", "accept-renamed", "sftp-received", "sftp-kept"]
            [round as usize % 5];
        // The same places, and any other moment.
        let crash = format!("{point}:{}", 1 + round / 5);
        let mut daemon = served.start((round < 8).then_some(&crash));
        let mut chance = chance(site * 10 + round + 1);
        let acknowledged = std::thread::scope(|scope| {
            let sending = scope.spawn(|| send(&served, numbers.clone(), round % 2 == 0));
            if round >= 8 {
                std::thread::sleep(Duration::from_millis(chance(400)));
                daemon.0.kill().expect("it is ours");
            }
            sending.join().expect("it ends in its own way")
        });
        drop(daemon);
        let daemon = served.start(None);
        served.wait_stored();
        nothing_half(&served);
        for number in &acknowledged {
            let name = file(*number).0;
            let sql = format!(
                "SELECT count(*) FROM cdr WHERE unique_id GLOB 'pbx-*' AND delivery_id IN (SELECT id FROM delivery WHERE name = '{name}')"
            );
            let rows = &served.site.query("cdr.db", &sql)[0];
            assert_eq!(
                rows,
                &rows_of(*number).to_string(),
                "{name} was acknowledged in round {round}:\n{}",
                served.site.log()
            );
        }
        // The sender tries again, as senders do, with everything.
        assert_eq!(send(&served, numbers.clone(), false).len(), FILES as usize, "{}", served.site.log());
        let expected: usize = (0..numbers.end).map(rows_of).sum();
        assert_eq!(served.calls(), expected, "round {round}:\n{}", served.site.log());
        nothing_half(&served);
        served.site.stop(daemon);
    }
    assert_eq!(crate::site::files_below(&served.site.path("var/sftp/source-push/received")).len(), 0);
}

#[test]
fn clients_are_killed_at_any_moment() {
    (0..sites()).for_each(killed_clients);
}

fn killed_clients(site: u32) {
    const FILES: u32 = 5;
    let served = Served::new("", "");
    let daemon = served.start(None);
    for round in 0..10_u32 {
        let numbers = round * FILES..(round + 1) * FILES;
        let mut lines = String::new();
        for number in numbers.clone() {
            let (name, text) = file(number);
            served.file(&name, &text);
            lines.extend(["put ", &name, "\n"]);
        }
        let batch = served.site.path("batch.txt");
        std::fs::write(&batch, &lines).expect("the folder is writable");
        let mut client = served.ssh("sftp");
        let mut client = client.args(["-q", "-b"]).arg(&batch).arg(format!("{USER}@127.0.0.1"));
        client = client.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut client = client.spawn().expect("it is installed");
        std::thread::sleep(Duration::from_millis(chance(site * 10 + round + 1)(250)));
        client.kill().expect("it is ours");
        client.wait().expect("it is ours");
        served.wait_stored();
        nothing_half(&served);
        // Again, from where each broke off, as far as it did; and once more from the beginning.
        served.sftp(&lines.replace("put ", "-reput "));
        super::good(&served.sftp(&lines));
        let expected: usize = (0..numbers.end).map(rows_of).sum();
        assert_eq!(served.calls(), expected, "round {round}:\n{}", served.site.log());
        nothing_half(&served);
    }
    // One that dies with everything sent but the close was not finished either.
    let mut raw = served.raw();
    let (_, text) = file(1000);
    raw.upload_half("f1000.csv", text.as_bytes());
    drop(raw);
    super::until_names(&served, "f1000.csv");
    let mut raw = served.raw();
    assert_eq!(raw.open("f1000.csv", ANEW & !8).code(), None, "it is there to be written");
    assert!(served.deliveries().iter().all(|delivery| !delivery.contains("f1000")));
    served.site.stop(daemon);
}
