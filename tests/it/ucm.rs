//! A UCM polled by the real program: whatever the device does, the table ends as an import of the same calls gives it, and
//! nobody is locked out.

mod asked;
mod asked_by_http;
mod faults;
mod kills;
mod volume;

use crate::site::{Daemon, Site, repository};
use crate::ucm_double::{Device, Shape, State, leg, legs_of};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A site with nothing but a poller of this device.
pub fn site_of(device: &Device, more: &str) -> Site {
    let site = Site::new("Europe/Berlin", "DE");
    let head = "state_dir = \"var\"\n[http]\nlisten = \"127.0.0.1:0\"\n[[origin]]\nname = \"pbx\"\n\
                time_zone = \"Europe/Berlin\"\ncountry = \"DE\"\n";
    fs::write(site.path("config.toml"), format!("{head}{}", stanza("ucm", device, more)))
        .expect("our folder");
    site.set_password(&device.state().password);
    site
}

/// A stanza that polls this device; a line that `more` states again wins.
pub fn stanza(name: &str, device: &Device, more: &str) -> String {
    let mut lines = vec![
        format!("name = \"{name}\""),
        "kind = \"ucm\"".to_owned(),
        format!("url = \"{}\"", device.url()),
        "user = \"cdrapi\"".to_owned(),
        "password = { file = \"password\" }".to_owned(),
        format!("tls = \"pin:sha256:{}\"", device.fingerprint()),
        "every = \"1s\"".to_owned(),
        "days_back = 9000".to_owned(),
        "page_size = 4".to_owned(),
    ];
    for line in more.lines() {
        let key = line.split(" = ").next().unwrap_or_default();
        lines.retain(|stated| !stated.starts_with(&format!("{key} = ")));
        lines.push(line.to_owned());
    }
    format!("[[source]]\n{}\n", lines.join("\n"))
}

impl Site {
    pub fn set_password(&self, password: &str) {
        fs::write(self.path("password"), format!("{password}\n")).expect("our folder");
    }

    /// Waits for something; the log is shown when it does not come.
    pub fn until(&self, what: &str, mut found: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !found() {
            assert!(Instant::now() < deadline, "not {what} in a minute:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Health and message of the source.
    pub fn health_of(&self, source: &str) -> Option<(String, String)> {
        let sql = format!("SELECT health || '|' || message FROM source_state WHERE source = '{source}'");
        let said = self.query_now("spool.db", &sql)?;
        said.split_once('|').map(|(health, message)| (health.to_owned(), message.to_owned()))
    }

    /// Waits until the source says that all is read that there is.
    pub fn until_read(&self) {
        let sql = "SELECT count(*) FROM source_run WHERE window_to IS NULL AND ended_at IS NOT NULL AND error IS NULL";
        let before = self.query_now("spool.db", sql);
        self.until("read", || self.query_now("spool.db", sql) > before && self.nothing_waits());
    }

    pub fn rows_stored(&self) -> usize {
        self.query_now("cdr.db", "SELECT count(*) FROM cdr").and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

/// The sixty legs.
pub fn sixty() -> Vec<Map<String, Value>> {
    legs_of(&repository("fixtures/sixty/api-flat.json"))
}

/// The table that an import of these rows gives.
pub fn table_of(rows: &[Map<String, Value>]) -> Vec<String> {
    let site = Site::new("Europe/Berlin", "DE");
    fs::write(site.path("all.json"), serde_json::json!({ "cdr_root": rows }).to_string())
        .expect("our folder");
    let output = site.cdrd(&["import", "all.json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = site.table();
    assert_eq!(table.len(), rows.len());
    table
}

/// The table that an import of the sixty legs gives.
pub fn expected() -> &'static [String] {
    static TABLE: OnceLock<Vec<String>> = OnceLock::new();
    TABLE.get_or_init(|| table_of(&sixty()))
}

/// A leg that ended so many minutes ago and had lasted so many.
pub fn recent(number: usize, ended: i64, lasted: i64) -> Map<String, Value> {
    let start = Timestamp::now().as_second() - (ended + lasted) * 60;
    let zone = TimeZone::get("Europe/Berlin").expect("a zone");
    let start = Timestamp::from_second(start).expect("a time").to_zoned(zone);
    leg(number, &start.strftime("%Y-%m-%d %H:%M:%S").to_string(), lasted * 60)
}

pub fn assert_table(site: &Site, expected: &[String], told: &str) {
    let table = site.table();
    for (row, should) in table.iter().zip(expected) {
        assert_eq!(row, should, "{told}\n{}", site.log());
    }
    assert_eq!(table.len(), expected.len(), "{told}\n{}", site.log());
    let rejected = site.query("cdr.db", "SELECT count(*) FROM rejected");
    assert_eq!(rejected, ["0"], "{told}");
}

/// Polls until everything that the device has is stored, and some cycles more.
pub fn read_all(site: &Site) -> Daemon {
    let daemon = site.start(None);
    site.until("stored", || site.rows_stored() >= 60);
    site.until_read();
    daemon
}

/// No request said anything that must stay a secret, nor in a way that the device would not hear.
pub fn assert_well_asked(state: &State) {
    for (action, body) in &state.asked {
        assert!(!body.contains(&state.password), "the password went out");
        let asked: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(asked.as_object().map(Map::len), Some(1), "everything is inside of request");
        if action == "cdrapi" {
            for bound in ["startTime", "endTime"] {
                let text = asked["request"][bound].as_str().expect("both bounds");
                let offset = text.get(19..).expect("an offset");
                assert!(text.as_bytes()[10] == b'T' && matches!(offset, "+01:00" | "+02:00"), "{text}");
            }
        }
    }
    assert_eq!(state.wrong, 0, "a log-in failed");
}

#[test]
fn every_envelope_and_nesting_ends_in_the_same_table() {
    let shapes = [
        Shape::default(),
        Shape { grouped: true, with_status: true, ..Shape::default() },
        Shape { grouped: true, in_response: true, missing_when_empty: true, ..Shape::default() },
        Shape { legacy: true, missing_when_empty: true, ..Shape::default() },
    ];
    for shape in shapes {
        let device = Device::start("Europe/Berlin", sixty());
        device.state().shape = shape;
        let site = site_of(&device, "");
        let daemon = read_all(&site);
        site.stop(daemon);
        assert_table(&site, expected(), &format!("{shape:?}"));
        let state = device.state();
        assert_well_asked(&state);
        assert_eq!(
            (state.times("challenge"), state.times("login"), state.times("logout")),
            (1, 1, 1),
            "{shape:?}"
        );
    }
}

#[test]
fn a_cycle_asks_for_its_pages_and_nothing_new_is_no_delivery() {
    let device = Device::start("Europe/Berlin", sixty());
    let site = site_of(&device, "page_size = 1000\n");
    let daemon = read_all(&site);
    site.until_read();
    let deliveries = site.query("cdr.db", "SELECT count(*) FROM delivery");
    let sql = "SELECT requests, pages, records FROM source_run WHERE window_to IS NULL ORDER BY id";
    for _ in 0..3 {
        site.until_read();
    }
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM delivery"), deliveries, "nothing new came");
    site.stop(daemon);
    let runs = site.query("spool.db", sql);
    assert!(runs.len() >= 4, "{runs:?}");
    // One page was asked for each time, and no log-in but the first.
    for run in &runs[1..] {
        assert!(matches!(run.as_str(), "1|0|0" | "1|1|0"), "{runs:?}");
    }
    // A time without calls is asked for in two ways before it is passed over; the first run logs in too.
    let more = "SELECT max(requests - pages - 2 * (pages = 0) - 2 * (id = 1)) FROM source_run";
    assert_eq!(site.query("spool.db", more), ["0"]);
    assert_well_asked(&device.state());
    assert_table(&site, expected(), "some cycles");
}
