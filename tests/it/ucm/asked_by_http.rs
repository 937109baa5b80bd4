//! Programs ask over HTTP, with a token that is known, and else not at all.

use super::{assert_table, read_all, recent, site_of, sixty, stanza, table_of};
use crate::site::Site;
use crate::ucm_double::{Device, Fault};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

pub(super) fn address(site: &Site) -> String {
    let mut found = None;
    site.until("listening", || {
        let log = site.log();
        let shown =
            log.rsplit_once("health and metrics at http://").and_then(|(_, rest)| rest.split('/').next());
        found = shown.map(str::to_owned);
        found.is_some()
    });
    found.expect("it was waited for")
}

/// Status and body, if that is JSON, else as a text.
pub(super) fn asked(address: &str, line: &str, authorization: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("the daemon listens");
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{authorization}Content-Length: {length}\r\n\r\n{body}"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()))
}

#[test]
fn a_token_opens_what_it_is_for_until_it_is_revoked() {
    let mut rows = vec![recent(1, 60 * 24 * 40, 2), recent(2, 20, 2)];
    let device = Device::start("Europe/Berlin", rows.clone());
    let site = site_of(&device, "days_back = 2\n");
    let daemon = site.start(None);
    site.until("stored", || site.rows_stored() == 1);
    let address = address(&site);
    let health = asked(&address, "GET /api/health", "", "").1;
    assert_eq!(health["cdr_poller"], "active");
    let (all, one) = ("POST /api/admin/sync-cdrs", "POST /api/sources/ucm/sync");
    for authorization in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic dTpw\r\n"] {
        assert_eq!(asked(&address, all, authorization, "").0, 401);
        assert_eq!(asked(&address, "POST /api/sources/nobody/sync", authorization, "").0, 401);
    }
    let token = site.cdrd(&["token", "add", "crm"]);
    assert!(token.status.success());
    let token = String::from_utf8(token.stdout).expect("text").trim().to_owned();
    assert!(token.starts_with("cdrd_") && token.len() == 69, "{token}");
    assert_eq!(site.cdrd(&["token", "add", "crm"]).status.code(), Some(2), "names are used once");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let window =
        format!("{{\"from\": \"{}\"}}", jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * 50));
    for (line, body, status) in [
        ("POST /api/sources/nobody/sync", "", 404),
        (one, "{\"since\": 1}", 400),
        (one, window.as_str(), 202),
        (all, "", 202),
    ] {
        let (is, said) = asked(&address, line, &bearer, body);
        assert_eq!(is, status, "{line}: {said}");
    }
    site.until("stored", || site.rows_stored() == 2);
    let list = site.cdrd(&["token", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("crm"));
    assert!(site.cdrd(&["token", "revoke", "crm"]).status.success());
    assert_eq!(asked(&address, all, &bearer, "").0, 401);
    rows.push(recent(3, 0, 1));
    device.state().rows.clone_from(&rows);
    site.until("stored", || site.rows_stored() == 3);
    site.stop(daemon);
    assert_table(&site, &table_of(&rows), "asked for");
    for file in ["var/spool.db", "var/spool.db-wal", "log.txt"] {
        let bytes = fs::read(site.path(file)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(&token), "{file} holds the token");
    }
}

#[test]
fn health_says_when_nothing_is_polled_any_more() {
    let device = Device::start("Europe/Berlin", Vec::new());
    device.state().faults.push_back(("challenge", Fault::Status(-47)));
    let site = site_of(&device, "");
    let daemon = site.start(None);
    let address = address(&site);
    site.until("stopped", || asked(&address, "GET /api/health", "", "").1["cdr_poller"] == "stopped");
    assert_eq!(asked(&address, "GET /api/health", "", "").0, 503);
    // A program cannot have a refused log-in tried again; a person can.
    let token = String::from_utf8(site.cdrd(&["token", "add", "crm"]).stdout).expect("text");
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    for line in ["POST /api/admin/sync-cdrs", "POST /api/sources/ucm/sync"] {
        let (status, said) = asked(&address, line, &bearer, "");
        assert_eq!(status, 409, "{said}");
        assert!(
            said["stopped"][0]["message"].as_str().is_some_and(|why| why.contains("no permission")),
            "{said}"
        );
    }
    assert_eq!(device.state().times("challenge"), 1);
    site.stop(daemon);
}

/// What two hundred cost. The figures are in docs/proof.md.
#[test]
fn two_hundred_devices_fit_into_one_process_and_one_that_hangs_delays_none() {
    let (device, hanging) =
        (Device::start("Europe/Berlin", sixty()), Device::start("Europe/Berlin", Vec::new()));
    hanging.state().faults.extend((0..10).map(|_| ("challenge", Fault::Hang)));
    let site = site_of(&device, "page_size = 1000\nevery = \"10s\"\n");
    let mut config = fs::read_to_string(site.path("config.toml")).expect("ours");
    for number in 1..199 {
        let more = "page_size = 1000\ndays_back = 2\nevery = \"10s\"\n";
        config += &stanza(&format!("ucm-{number}"), &device, more);
    }
    config += &stanza("hanging", &hanging, "timeout = \"1h\"");
    fs::write(site.path("config.toml"), config).expect("ours");
    let daemon = read_all(&site);
    let well = "SELECT count(*) FROM source_state WHERE health = 'ok'";
    site.until("all well", || site.query_now("spool.db", well).as_deref() == Some("199"));
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 150 * 1024, "{peak} KiB");
    assert_eq!(hanging.state().times("challenge"), 1);
    eprintln!("peak of 200 pollers: {peak} KiB");
    site.stop(daemon);
}
