//! What programs that watch are told: health, metrics, and a source that has gone silent.

use crate::site::{Daemon, Site, asterisk_rows, repository};
use cdrd::telemetry;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A site whose daemon answers on a free port.
fn site(more: &str) -> Site {
    let site = Site::new("UTC", "DE");
    let path = site.path("config.toml");
    let config = std::fs::read_to_string(&path).expect("the site has one");
    std::fs::write(&path, config.replace("listen = \"off\"", "listen = \"127.0.0.1:0\"") + more)
        .expect("the folder is writable");
    site
}

fn until<T>(what: &str, site: &Site, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn address(site: &Site) -> String {
    until("address", site, || {
        let log = site.log();
        let (_, rest) = log.rsplit_once("health and metrics at http://")?;
        Some(rest.split('/').next()?.to_owned())
    })
}

/// Status and body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the daemon listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

fn health(address: &str) -> (u16, Value) {
    let (status, body) = get(address, "/api/health");
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[test]
fn health_and_metrics_tell_what_came() {
    let site = site("");
    let mut daemon = site.start(None);
    let address = address(&site);
    site.drop_file("a.csv", asterisk_rows(0..20).replacen("2025-03-10", "never", 1).as_bytes());
    site.wait_drained(&mut daemon);
    let (status, body) = health(&address);
    assert_eq!((status, body["status"].as_str()), (200, Some("ok")), "{body}");
    assert_eq!(body["sources"][0]["source"], "inbox");
    assert_eq!((&body["sources"][0]["waiting"], &body["sources"][0]["lag_s"]), (&0.into(), &0.into()));
    assert!(body["sources"][0]["last_rows_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{body}");
    let (status, page) = get(&address, "/metrics");
    assert_eq!(status, 200);
    for line in [
        "cdrd_rows_total{source=\"inbox\",outcome=\"stored\"} 19",
        "cdrd_rows_total{source=\"inbox\",outcome=\"rejected\"} 1",
        "cdrd_deliveries_total{source=\"inbox\",state=\"done_with_rejects\"} 1",
        "cdrd_source_healthy{source=\"inbox\"} 1",
        "cdrd_waiting_deliveries{source=\"inbox\"} 0",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is missing:\n{page}");
    }
    for metric in telemetry::METRICS {
        assert!(page.contains(metric.name), "{} is missing:\n{page}", metric.name);
    }
    assert!(!page.contains("0301234567"), "no telephone number leaves");
    assert_eq!(get(&address, "/").0, 404);
    site.stop(daemon);
}

#[test]
fn a_taken_port_is_loud_and_collecting_goes_on() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("it has an address").to_string();
    let site = site("");
    let config = std::fs::read_to_string(site.path("config.toml")).expect("the site has one");
    std::fs::write(site.path("config.toml"), config.replace("127.0.0.1:0", &taken)).expect("it is writable");
    let mut daemon = site.start(None);
    site.drop_file("a.csv", asterisk_rows(0..2).as_bytes());
    site.wait_drained(&mut daemon);
    assert!(site.log().contains(&format!("cannot listen on {taken}")), "{}", site.log());
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["2"]);
    site.stop(daemon);
}

fn said(site: &Site, words: &str) -> usize {
    site.log().matches(words).count()
}

#[test]
fn a_silent_source_is_red_once_until_rows_come() {
    let site = site("expect_every = \"2s\"\n");
    let mut daemon: Daemon = site.start(None);
    let address = address(&site);
    let red = until("silence", &site, || Some(health(&address)).filter(|(status, _)| *status == 503));
    assert_eq!((&red.1["status"], &red.1["sources"][0]["state"]), (&"red".into(), &"late".into()));
    assert!(get(&address, "/metrics").1.contains("cdrd_source_silent{source=\"inbox\"} 1"));
    site.drop_file("empty.csv", b"");
    site.wait_drained(&mut daemon);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(health(&address).0, 503, "a delivery without rows is no sign of life");
    let status = site.cdrd(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("late since") && status.contains("no rows since"), "{status}");
    assert_eq!(said(&site, "source inbox is late"), 1, "{}", site.log());

    // Rows keep coming until it was seen that they do: a look every five seconds may find two of silence.
    let mut calls = 0;
    until("sound", &site, || {
        site.drop_file(&format!("{calls}.csv"), asterisk_rows(calls..calls + 1).as_bytes());
        calls += 1;
        std::thread::sleep(Duration::from_millis(400));
        (health(&address).0 == 200).then_some(())
    });
    assert!(said(&site, "rows come again") >= 1, "{}", site.log());
    site.stop(daemon);
}

#[test]
fn deliveries_that_wait_for_a_person_are_red_until_they_are_stored() {
    let site = site("");
    site.drop_file("a.csv", asterisk_rows(0..3).as_bytes());
    let mut crashing = site.start(Some("accept-durable"));
    until("crash", &site, || crashing.0.try_wait().expect("the child is ours"));
    let path = site.path("config.toml");
    let config = std::fs::read_to_string(&path).expect("the site has one");
    let other = config.replace("\"pbx\"", "\"other\"").replace("\"inbox\"\nkind", "\"letters\"\nkind");
    std::fs::write(&path, other).expect("the folder is writable");
    std::fs::remove_file(site.path("log.txt")).expect("the first daemon wrote it");
    let daemon = site.start(None);
    let here = address(&site);
    let body = until("trouble", &site, || {
        let (status, body) = health(&here);
        (status == 503).then_some(body)
    });
    let words = "deliveries of source \"inbox\" that wait for a person: 1; the oldest: delivery ";
    let message = body["troubles"][0]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with(words) && message.contains("add [[origin]] name = \"pbx\" again"), "{body}");
    let gone = &body["sources"][1];
    assert_eq!((gone["source"].as_str(), gone["state"].as_str()), (Some("inbox"), Some("off")), "{body}");
    assert_eq!((&gone["waiting"], &gone["stuck"]), (&1.into(), &1.into()), "{body}");
    assert!(get(&here, "/metrics").1.contains("cdrd_stuck_deliveries{source=\"inbox\"} 1\n"));
    let shown = site.cdrd(&["status"]);
    // The screen may break lines.
    let shown = String::from_utf8_lossy(&shown.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains(&format!("storing {words}")), "{shown}");
    let told = site.cdrd(&["status", "--json"]).stdout;
    let told: Value = serde_json::from_slice(&told).expect("JSON");
    assert_eq!(told["troubles"][0], body["troubles"][0]["message"]);

    // It is known while no daemon runs, `check` warns of it before one starts, and the next one finds it again.
    site.stop(daemon);
    let shown = site.cdrd(&["status"]).stdout;
    let shown = String::from_utf8_lossy(&shown).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("not running") && shown.contains(&format!("storing {words}")), "{shown}");
    let check = site.cdrd(&["check"]);
    let checked = String::from_utf8_lossy(&check.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(check.status.success() && checked.contains(&format!("warning {words}")), "{checked}");
    std::fs::remove_file(site.path("log.txt")).expect("the second daemon wrote it");
    let daemon = site.start(None);
    let here = address(&site);
    until("trouble again", &site, || (health(&here).0 == 503).then_some(()));

    // Once the origin is there again it is stored, and all is well.
    let stanza = "[[origin]]\nname = \"pbx\"\ntime_zone = \"UTC\"\ncountry = \"DE\"\n";
    std::fs::write(&path, config + &stanza.replace("pbx", "other")).expect("the folder is writable");
    let process = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(process, rustix::process::Signal::HUP).expect("it runs");
    until("end", &site, || {
        let (status, body) = health(&here);
        (status == 200 && body["troubles"] == Value::Array(Vec::new())).then_some(())
    });
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["3"]);
    let told: Value = serde_json::from_slice(&site.cdrd(&["status", "--json"]).stdout).expect("JSON");
    assert_eq!(told["troubles"], Value::Array(Vec::new()));
    site.stop(daemon);
}

#[test]
fn the_page_of_metrics_is_that_of_the_program() {
    let mut page = String::from(
        "# Metrics\n\n`/metrics` in OpenMetrics text format, on the address of `[http]`. Counters begin at 0 with each start.\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in telemetry::METRICS {
        let kind = if metric.counter { "counter" } else { "gauge" };
        let _ =
            writeln!(page, "| `{}` | {kind} | {} | {} |", metric.name, metric.labels.join(", "), metric.help);
    }
    let path = repository("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the repository is writable");
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page, "UPDATE_DOCS=1 writes it anew");
}
