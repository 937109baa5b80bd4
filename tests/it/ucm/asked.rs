//! What a person asks for: a try, and a time that is to be fetched again.

use super::{assert_table, expected, read_all, recent, site_of, sixty, table_of};
use crate::ucm_double::{Device, Fault};
use std::process::Output;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn a_try_shows_what_would_be_stored_and_stores_nothing() {
    let device = Device::start("Europe/Berlin", vec![recent(1, 30, 2), recent(2, 20, 2)]);
    let site = site_of(&device, "");
    let output = site.cdrd(&["poll", "test", "ucm"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for shown in ["3 requests", "2 calls", &device.fingerprint(), "grandstream-cdrapi-json", "2 to store"] {
        assert!(text.contains(shown), "{shown} is missing: {text}");
    }
    assert!(!site.path("var/cdr.db").exists());
    assert_eq!(device.state().times("logout"), 1);
    device.state().faults.push_back(("challenge", Fault::Status(-47)));
    let output = site.cdrd(&["poll", "test", "ucm"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("no permission"), "{}", said(&output));
    for (wrong, words) in [("nobody", "no [[source]] is named"), ("ucm2", "no [[source]] is named")] {
        let output = site.cdrd(&["poll", "test", wrong]);
        assert!(output.status.code() == Some(2) && said(&output).contains(words), "{}", said(&output));
    }
}

#[test]
fn any_time_is_fetched_again_with_a_daemon_and_without() {
    let mut rows = vec![recent(1, 60 * 24 * 40, 2), recent(2, 20, 2)];
    let device = Device::start("Europe/Berlin", rows.clone());
    let site = site_of(&device, "days_back = 2\n");
    let daemon = site.start(None);
    site.until("stored", || site.rows_stored() == 1);
    // Without a window: what is due, at once.
    let output = site.cdrd(&["sync", "ucm"]);
    assert!(output.status.success(), "{}", said(&output));
    let output = site.cdrd(&["sync", "ucm", "--from", "50d", "--to", "30d", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["calls"], 1, "{told}");
    site.until("stored", || site.rows_stored() == 2);
    // A device that does not answer: the wish is kept, and done later.
    device.state().faults.extend((0..2).map(|_| ("cdrapi", Fault::Status(-9))));
    rows.insert(1, recent(3, 60 * 24 * 35, 1));
    device.state().rows.clone_from(&rows);
    let output = site.cdrd(&["sync", "ucm", "--from", "36d", "--to", "34d"]);
    assert!(output.status.success(), "{}", said(&output));
    site.until("stored", || site.rows_stored() == 3);
    site.stop(daemon);
    rows.insert(2, recent(4, 60 * 24 * 33, 1));
    device.state().rows.clone_from(&rows);
    let output = site.cdrd(&["sync", "ucm", "--from", "34d", "--to", "32d"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_table(&site, &table_of(&rows), "fetched again");
    let output = site.cdrd(&["sync", "nobody"]);
    assert!(output.status.code() == Some(2), "{}", said(&output));
}

#[test]
fn a_source_that_is_stopped_starts_again_when_it_is_asked_for() {
    let device = Device::start("Europe/Berlin", sixty());
    device.state().faults.push_back(("challenge", Fault::Status(-47)));
    let site = site_of(&device, "");
    let daemon = site.start(None);
    site.until("stopped", || site.health_of("ucm").is_some_and(|(health, _)| health == "stopped"));
    device.state().faults.push_back(("challenge", Fault::Status(-47)));
    let output = site.cdrd(&["sync", "ucm"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("no permission"), "{}", said(&output));
    // Enabled on the device meanwhile.
    let output = site.cdrd(&["sync", "ucm"]);
    assert!(output.status.success(), "{}", said(&output));
    site.stop(daemon);
    let daemon = read_all(&site);
    site.stop(daemon);
    assert_table(&site, expected(), "started again");
}

#[test]
fn a_look_at_everything_once_polls_too() {
    let device = Device::start("Europe/Berlin", sixty());
    let site = site_of(&device, "");
    let output = site.cdrd(&["run", "--once"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_table(&site, expected(), "once");
}
