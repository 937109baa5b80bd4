//! Each fault of a device: none costs a leg, a second row, or a try of the password.

use super::asked_by_http::{address, asked};
use super::{assert_table, assert_well_asked, expected, read_all, recent, site_of, sixty, stanza, table_of};
use crate::site::{Site, files_below};
use crate::ucm_double::{Device, Fault, Shape, leg};
use std::fs;
use std::time::Duration;

/// Polls the sixty legs from a device at which this goes wrong.
fn polled(more: &str, wrong: impl FnOnce(&Device)) -> (Site, Device) {
    let device = Device::start("Europe/Berlin", sixty());
    device.state().shape.grouped = true;
    wrong(&device);
    let site = site_of(&device, more);
    let daemon = read_all(&site);
    site.stop(daemon);
    (site, device)
}

#[test]
fn answers_that_are_none_are_asked_for_again() {
    let first = vec![Fault::Half, Fault::Http(500, "<html>busy</html>"), Fault::Hang, Fault::Body("")];
    let second =
        vec![Fault::Http(200, "<html>log in</html>"), Fault::Body("{\"cdr_root\":["), Fault::Status(-9)];
    for faults in [first, second] {
        let count = faults.len();
        let (site, device) = polled("timeout = \"2s\"\n", |device| {
            device.state().faults.extend(faults.into_iter().map(|fault| ("cdrapi", fault)));
        });
        assert_table(&site, expected(), "broken answers");
        let state = device.state();
        assert_eq!(state.times("login"), 1, "none of them ended the session");
        assert_well_asked(&state);
        let failed = "SELECT count(*) || ' ' || count(recovered_at) FROM source_run WHERE error IS NOT NULL";
        assert_eq!(site.query("spool.db", failed), [format!("{count} {count}")]);
    }
}

#[test]
fn an_empty_answer_in_any_disguise_passes_over_no_call() {
    for text in
        ["{\"cdr_root\":[]}", "{\"cdr_root\":null,\"status\":0}", "{}", "{\"response\":{},\"status\":0}"]
    {
        let (site, device) = polled("days_back = 800\n", |device| {
            // Every third answer is empty that should not be: each question is asked in two ways before it is believed.
            let mut state = device.state();
            state.empty_every = Some((3, text));
        });
        assert_table(&site, expected(), text);
        assert_well_asked(&device.state());
    }
}

#[test]
fn a_session_that_dies_is_renewed_once_each_time() {
    let (site, device) = polled("", |device| device.state().cookie_life = 7);
    assert_table(&site, expected(), "sessions of seven requests");
    {
        let state = device.state();
        assert_well_asked(&state);
        assert_eq!(state.times("challenge"), state.times("login"));
        // One log-in for seven pages, and for each the request that found the session gone.
        assert!(state.times("login") <= state.times("cdrapi") / 8 + 1, "{} log-ins", state.times("login"));
    }
    let codes = [-5, -6, -8];
    let (site, device) = polled("", |device| {
        device.state().faults.extend(codes.map(|code| ("cdrapi", Fault::Status(code))));
        device.state().faults.push_back(("cdrapi", Fault::CookieDies));
        device.state().faults.push_back(("cdrapi", Fault::StatusInside(-6)));
    });
    assert_table(&site, expected(), "sessions that die in every way");
    assert!(device.state().times("login") <= 6, "{} log-ins", device.state().times("login"));
}

#[test]
fn pages_that_come_again_do_not_hide_the_rest() {
    let (site, _device) = polled("", |device| {
        let faults = (0..6).map(|_| ("cdrapi", Fault::SamePage));
        device.state().faults.extend(faults);
    });
    assert_table(&site, expected(), "the same page six times");
    // Fewer on one page than begin in one second would never end.
    let (site, device) = polled("page_size = 12\n", |device| device.state().offset_ignored = true);
    assert_table(&site, expected(), "no pages at all");
    assert_well_asked(&device.state());
}

#[test]
fn old_firmware_that_filters_by_start_alone_loses_no_long_call() {
    let (site, _device) = polled("", |device| device.state().filter_ignored = true);
    assert_table(&site, expected(), "filtered by start");
}

#[test]
fn asked_too_often_it_waits_as_long_as_the_device_says() {
    let device = Device::start("Europe/Berlin", vec![recent(1, 5, 1)]);
    device.state().faults.push_back(("cdrapi", Fault::Status(-57)));
    let site = site_of(&device, "days_back = 1\n");
    let daemon = site.start(None);
    let waits = |code: &str| {
        site.health_of("ucm").is_some_and(|(health, why)| health == "retrying" && why.contains(code))
    };
    site.until("told -57", || waits("-57"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(device.state().times("cdrapi"), 1, "not asked again for a minute");
    site.stop(daemon);
    device.state().faults.push_back(("cdrapi", Fault::Status(-45)));
    let daemon = site.start(None);
    site.until("told -45", || waits("-45"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(device.state().times("cdrapi"), 2);
    site.until("stored after a quarter of a minute", || site.rows_stored() == 1);
    site.stop(daemon);
}

#[test]
fn a_wrong_password_is_tried_once_whatever_is_restarted() {
    let device = Device::start("Europe/Berlin", sixty());
    let site = site_of(&device, "");
    site.set_password("another-canary-0815");
    let stopped = |why: &str| {
        site.until("stopped", || {
            site.health_of("ucm").is_some_and(|(health, said)| health == "stopped" && said.contains(why))
        });
    };
    for _ in 0..3 {
        let mut daemon = site.start(None);
        stopped("3 more before it locks out");
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(device.state().wrong, 1, "{}", site.log());
        daemon.0.kill().expect("it runs");
        daemon.0.wait().expect("the child is ours");
    }
    let status = site.cdrd(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("wrong user or password") && said.contains("3 more"), "{said}");
    // SIGHUP says that it may be tried; the last try is not made with the same password.
    let daemon = site.start(None);
    let told = |signal| {
        let pid = rustix::process::Pid::from_child(&daemon.0);
        rustix::process::kill_process(pid, signal).expect("it runs");
    };
    site.until("up", || site.is_up(&daemon));
    for (wrong, left) in [(2, "2 more"), (3, "1 more"), (3, "1 more")] {
        told(rustix::process::Signal::HUP);
        stopped(left);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(device.state().wrong, wrong, "{}", site.log());
    }
    // Another password is tried without being asked for.
    let right = device.state().password.clone();
    site.set_password(&right);
    site.until("stored", || site.rows_stored() == 60);
    site.until_read();
    let address = address(&site);
    let page = |line: &str| (line.to_owned(), asked(&address, line, "", "").1.to_string());
    let pages = ["GET /metrics", "GET /api/health"].map(page);
    assert!(pages.iter().all(|(_, text)| text.contains("ucm")), "{pages:?}");
    site.stop(daemon);
    assert!(!device.state().locked_out());
    assert_table(&site, expected(), "after the password was mended");
    for (what, text) in everything_said(&site, Some(&pages)) {
        for secret in [right.as_str(), "another-canary-0815"] {
            assert!(!text.contains(secret), "{what} holds the password");
        }
    }
}

/// What a person or a program may see of a site, and all that it keeps.
fn everything_said(site: &Site, pages: Option<&[(String, String)]>) -> Vec<(String, String)> {
    let mut said = vec![("the journal".to_owned(), site.log())];
    if let Some(pages) = pages {
        said.extend(pages.iter().cloned());
    }
    for command in
        [&["status"][..], &["status", "--json"], &["deliveries", "--json"], &["check"], &["rejected", "list"]]
    {
        let output = site.cdrd(command);
        let text = [output.stdout, output.stderr].concat();
        said.push((command.join(" "), String::from_utf8_lossy(&text).into_owned()));
    }
    for file in files_below(&site.path("var")) {
        let bytes = fs::read(&file).unwrap_or_default();
        said.push((file.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    said
}

#[test]
fn what_locks_out_is_not_tried_again_and_an_echo_is_not_repeated() {
    for (code, words) in
        [(-47, "no permission"), (-68, "locked out"), (-70, "locked out"), (-71, "no such user")]
    {
        let device = Device::start("Europe/Berlin", sixty());
        device.state().faults.push_back(("login", Fault::StatusInside(code)));
        let site = site_of(&device, "");
        let daemon = site.start(None);
        site.until("stopped", || {
            site.health_of("ucm").is_some_and(|(health, said)| health == "stopped" && said.contains(words))
        });
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(device.state().times("login"), 1, "{code}");
        let asked = device.state().asked.clone();
        let token = asked.iter().find(|(action, _)| action == "login").expect("a log-in").1.clone();
        let token: serde_json::Value = serde_json::from_str(&token).expect("JSON");
        let token = token["request"]["token"].as_str().expect("a token").to_owned();
        for (what, text) in everything_said(&site, None) {
            assert!(!text.contains(&token), "{what} holds the token");
        }
        site.stop(daemon);
    }
}

#[test]
fn a_certificate_is_pinned_verified_or_loudly_not_looked_at() {
    let device = Device::start("Europe/Berlin", vec![recent(1, 5, 1)]);
    let site = site_of(&device, "days_back = 1\n");
    let daemon = site.start(None);
    site.until("stored", || site.rows_stored() == 1);
    device.renew_certificate();
    device.state().rows.push(recent(2, 1, 1));
    let shown = |text: &str| site.health_of("ucm").is_some_and(|(_, said)| said.contains(text));
    let new = device.fingerprint();
    site.until("refused", || shown(&format!("pin:sha256:{new}")));
    assert_eq!(site.rows_stored(), 1);
    assert_eq!(device.state().wrong, 0);
    site.stop(daemon);
    let config = |tls: &str| {
        let head = fs::read_to_string(site.path("config.toml")).expect("ours");
        let (head, _) = head.split_once("[[source]]").expect("a source");
        let text = format!("{head}{}", stanza("ucm", &device, &format!("days_back = 1\ntls = \"{tls}\"\n")));
        fs::write(site.path("config.toml"), text).expect("ours");
    };
    // Nobody vouches for it, until this host trusts it.
    config("verify");
    let daemon = site.start(None);
    site.until("not trusted", || shown("nobody whom this host trusts signed it"));
    site.stop(daemon);
    let daemon = site.start_with(&[("SSL_CERT_FILE", device.certificate())]);
    site.until("stored", || site.rows_stored() == 2);
    site.until("well", || site.health_of("ucm").is_some_and(|(health, _)| health == "ok"));
    site.stop(daemon);
    config("insecure");
    let daemon = site.start(None);
    site.until("loud", || {
        site.health_of("ucm").is_some_and(|(health, said)| health == "ok" && said.contains("insecure"))
    });
    assert!(site.log().contains("tls = \"insecure\""), "{}", site.log());
    site.stop(daemon);
    let check = site.cdrd(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success() && said.contains("warning") && said.contains("source.tls"), "{said}");
}

#[test]
fn calls_that_are_written_while_it_polls_are_each_stored_once() {
    for skew in [0, 3600, -3600] {
        let device = Device::start("Europe/Berlin", Vec::new());
        // A device whose clock is wrong writes wrong times.
        let of = |number: usize, ended: i64, lasted: i64| recent(number, ended - skew / 60, lasted);
        let mut rows = vec![of(1, 30, 4), of(2, 20, 2)];
        {
            let mut state = device.state();
            (state.skew, state.shape) = (skew, Shape { grouped: true, ..Shape::default() });
            state.rows.clone_from(&rows);
        }
        let site = site_of(&device, "days_back = 2\n");
        let daemon = site.start(None);
        site.until("stored", || site.rows_stored() == 2);
        // Then a short one, one that began long before, and one that was written minutes too late.
        let later = [of(3, 12, 1), of(4, 11, 600), of(5, 15, 1), of(6, 0, 3), of(7, 0, 200)];
        for row in later {
            rows.push(row);
            rows.sort_by_key(|row| row["start"].as_str().map(str::to_owned));
            device.state().rows.clone_from(&rows);
            let stored = rows.len();
            site.until("stored", || site.rows_stored() == stored);
        }
        site.until_read();
        if skew != 0 {
            site.until("said", || {
                site.health_of("ucm").is_some_and(|(_, said)| said.contains("its clock is"))
            });
        }
        site.stop(daemon);
        assert_table(&site, &table_of(&rows), &format!("clock {skew} s ahead"));
        assert_well_asked(&device.state());
    }
}

/// The night in which the clocks went back: an hour of wall clocks twice.
#[test]
fn the_repeated_hour_is_read_whole() {
    let mut rows = Vec::new();
    for (number, start) in [
        "2025-10-26 01:55:00",
        "2025-10-26 02:10:00",
        "2025-10-26 02:50:00",
        "2025-10-26 02:05:00",
        "2025-10-26 02:55:00",
        "2025-10-26 03:01:00",
    ]
    .iter()
    .enumerate()
    {
        let mut row = leg(number, start, 120);
        if (3..5).contains(&number) {
            // The epoch in the ids tells the second time round.
            let epoch: i64 =
                row["uniqueid"].as_str().and_then(|id| id.split('.').next()?.parse().ok()).expect("an epoch");
            row.insert("uniqueid".to_owned(), format!("{}.{number}", epoch + 3600).into());
            row.insert("session".to_owned(), format!("{}{number:06}-01632960123", epoch + 3600).into());
        }
        rows.push(row);
    }
    let device = Device::start("Europe/Berlin", rows.clone());
    let site = site_of(&device, "page_size = 2\n");
    let daemon = site.start(None);
    site.until("stored", || site.rows_stored() == 6);
    site.until_read();
    site.stop(daemon);
    assert_table(&site, &table_of(&rows), "the repeated hour");
}

#[test]
fn rows_written_a_day_late_come_with_the_sweep_and_calls_that_are_gone_are_told() {
    let device = Device::start("Europe/Berlin", vec![recent(1, 300, 1), recent(2, 60, 1)]);
    let site = site_of(&device, "days_back = 2\n");
    let daemon = site.start(None);
    site.until("stored", || site.rows_stored() == 2);
    site.until_read();
    site.stop(daemon);
    let late = recent(3, 240, 5);
    device.state().rows.insert(1, late);
    // The last sweep was an hour and more ago.
    let sql = "UPDATE bookmark SET value = json_set(value, '$.swept_at', '2025-01-01T00:00:00Z') WHERE key = 'read-to'";
    let output = std::process::Command::new("sqlite3")
        .arg(site.path("var/spool.db"))
        .arg(sql)
        .output()
        .expect("sqlite3");
    assert!(output.status.success());
    let daemon = site.start(None);
    site.until("swept", || site.rows_stored() == 3);
    // Somebody deletes all calls on the device; what comes after is taken, and what may be missing is said.
    device.state().rows = vec![recent(9, 1, 1)];
    site.until("stored", || site.rows_stored() == 4);
    site.until("told", || {
        site.health_of("ucm").is_some_and(|(health, said)| health == "ok" && said.contains("may be missing"))
    });
    let gaps = site.query("spool.db", "SELECT gap_from < gap_to FROM source_run WHERE gap_from IS NOT NULL");
    assert_eq!(gaps, ["1"]);
    site.stop(daemon);
}

#[test]
fn the_same_calls_by_file_and_by_poll_are_one_row_each() {
    let device = Device::start("Europe/Berlin", sixty());
    device.state().shape.grouped = true;
    let site = site_of(&device, "");
    let config = fs::read_to_string(site.path("config.toml")).expect("ours");
    let folder = "[[source]]\nname = \"inbox\"\nkind = \"folder\"\norigin = \"pbx\"\npath = \"inbox\"\nsettle = \"150ms\"\n";
    fs::write(site.path("config.toml"), config + folder).expect("ours");
    for name in ["web-c.csv", "web-d.csv", "legacy.csv"] {
        let bytes = fs::read(crate::site::repository("fixtures/sixty").join(name)).expect("ours");
        site.drop_file(name, &bytes);
    }
    let daemon = read_all(&site);
    site.until("drained", || site.drained());
    site.stop(daemon);
    assert_eq!(site.rows_stored(), 60, "{}", site.log());
    let filled = "SELECT count(*) FROM cdr WHERE versions > 1 AND json_extract(extra, '$.service') = 's'";
    assert_eq!(site.query("cdr.db", filled), ["60"], "the fuller fields are there, whichever way came first");
}

#[test]
fn a_device_that_hangs_delays_no_other() {
    let (hanging, other) = (Device::start("Europe/Berlin", sixty()), Device::start("Europe/Berlin", sixty()));
    hanging.state().faults.extend((0..100).map(|_| ("challenge", Fault::Hang)));
    let site = site_of(&other, "");
    let config = fs::read_to_string(site.path("config.toml")).expect("ours");
    fs::write(site.path("config.toml"), config + &stanza("hanging", &hanging, "timeout = \"1h\""))
        .expect("ours");
    let daemon = read_all(&site);
    assert_eq!(hanging.state().times("challenge"), 1, "it is still asked for the first time");
    site.stop(daemon);
    assert_table(&site, expected(), "beside one that hangs");
}
