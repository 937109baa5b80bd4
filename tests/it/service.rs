//! The daemon as systemd sees it: what it is told, a configuration that is read again, and threads that hang.

mod outage;

use crate::site::{Daemon, Site, asterisk_rows, files_below};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// A fake systemd.
struct Ear(UnixDatagram);

impl Ear {
    fn at(site: &Site) -> Self {
        let listener = UnixDatagram::bind(site.path("notify")).expect("our folder");
        listener.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
        Self(listener)
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Everything that was said until this was.
    fn until(&self, wanted: &str, site: &Site) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut heard = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "no {wanted} in {heard:?}:\n{}", site.log());
            let Some(words) = self.next() else { continue };
            let found = words.contains(wanted);
            heard.push(words);
            if found {
                return heard;
            }
        }
    }
}

fn start(site: &Site, environment: &[(&str, &str)]) -> (Daemon, Ear) {
    let ear = Ear::at(site);
    let mut command = site.command(&["run"]);
    command.env("NOTIFY_SOCKET", site.path("notify")).envs(environment.iter().copied());
    let daemon = site.started(command);
    ear.until("READY=1", site);
    (daemon, ear)
}

fn hang_up(daemon: &Daemon) {
    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
}

fn wait(what: &str, site: &Site, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn stanza(name: &str, more: &str) -> String {
    format!(
        "[[source]]\nname = \"{name}\"\nkind = \"folder\"\norigin = \"pbx\"\npath = \"{name}\"\nsettle = \"150ms\"\n{more}"
    )
}

/// The kernel's number of the thread of a source.
fn thread_of(daemon: &Daemon, name: &str) -> Option<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.0.id())).ok()?;
    tasks.flatten().find_map(|task| {
        let comm = fs::read_to_string(task.path().join("comm")).ok()?;
        (comm.trim() == format!("source {name}")).then(|| task.file_name().to_string_lossy().into_owned())
    })
}

#[test]
fn a_configuration_that_is_read_again_restarts_what_changed_and_nothing_else() {
    let site = Site::new("UTC", "DE");
    let base = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    let write = |more: &str| fs::write(site.path("config.toml"), base.clone() + more).expect("writable");
    write(&(stanza("b", "") + &stanza("c", "")));
    let (daemon, ear) = start(&site, &[]);
    let at = |name: &str| {
        let mut found = None;
        wait("the thread", &site, || {
            found = thread_of(&daemon, name);
            found.is_some()
        });
        found
    };
    let (inbox, b, c) = (at("inbox"), at("b"), at("c"));
    assert!(inbox.is_some() && b.is_some() && c.is_some());

    // Lines moved: nothing of that concerns a source that is written as before.
    write(&(String::from("\n\n# moved\n") + &stanza("b", "recursive = false\n") + &stanza("d", "")));
    hang_up(&daemon);
    let heard = ear.until("READY=1", &site);
    let told = |words: &String| words.contains("RELOADING=1") && words.contains("MONOTONIC_USEC=");
    assert!(heard.iter().any(told), "{heard:?}");
    let counts = "the configuration was read again: 1 sources go on, 2 started, 1 removed";
    assert!(site.log().contains(counts), "{}", site.log());
    assert_eq!(thread_of(&daemon, "inbox"), inbox, "it did not notice");
    wait("b's new thread", &site, || thread_of(&daemon, "b").is_some_and(|new| Some(&new) != b.as_ref()));
    wait("c's end", &site, || thread_of(&daemon, "c").is_none());
    for name in ["inbox", "b", "d"] {
        let number = u32::from(name.as_bytes()[0]) * 10;
        let rows = asterisk_rows(number..number + 2);
        fs::write(site.path("outgoing"), rows).expect("our folder");
        fs::rename(site.path("outgoing"), site.path(name).join("x.csv")).expect("our folder");
    }
    fs::write(site.path("c/left.csv"), asterisk_rows(0..2)).expect("our folder");
    let count = "SELECT count(*), count(DISTINCT source) FROM cdr";
    wait("their rows", &site, || site.query("cdr.db", count) == ["6|3"]);
    wait("c's state", &site, || {
        site.query("spool.db", "SELECT health, message FROM source_state WHERE source = 'c'")
            == ["off|no longer configured"]
    });
    assert_eq!(files_below(&site.path("c")).len(), 1, "nobody takes it");
    site.stop(daemon);
}

#[test]
fn a_wrong_new_configuration_is_refused_loudly_and_the_old_one_goes_on() {
    let site = Site::new("UTC", "DE");
    let good = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    let (daemon, ear) = start(&site, &[]);
    let mut dropped = 0;
    for (wrong, words) in [
        (good.replace("settle", "setle"), "config.toml:13: source.setle"),
        (good.clone() + "[[", "config.toml:14"),
        (good.replace("state_dir = \"var\"", "state_dir = \"elsewhere\""), "cannot change while cdrd runs"),
        (
            good.replace("\"pbx\"", "\"other\""),
            "origin \"pbx\" has rows in the database but no [[origin]] stanza",
        ),
    ] {
        site.drop_file("a.csv", asterisk_rows(dropped..dropped + 2).as_bytes());
        dropped += 2;
        let rows = dropped.to_string();
        wait("rows", &site, || {
            site.query_now("cdr.db", "SELECT count(*) FROM cdr").as_deref() == Some(rows.as_str())
        });
        fs::write(site.path("config.toml"), wrong).expect("writable");
        hang_up(&daemon);
        wait("the refusal", &site, || {
            let log = site.log();
            let refused = log.lines().rfind(|line| line.contains("was not read again"));
            refused.is_some_and(|line| line.contains(words))
        });
        ear.until("STATUS=the configuration was not read again", &site);
        site.drop_file("b.csv", asterisk_rows(dropped..dropped + 2).as_bytes());
        dropped += 2;
        fs::write(site.path("config.toml"), &good).expect("writable");
        hang_up(&daemon);
        ear.until("STATUS=collecting", &site);
    }
    wait("all rows", &site, || {
        site.nothing_waits() && site.query("cdr.db", "SELECT count(*) FROM cdr") == ["16"]
    });
    site.stop(daemon);
}

/// What systemd sets for `WatchdogSec=`.
const WITHIN: Duration = Duration::from_secs(4);

/// Whether the watchdog is fed so often that it does not bite, for so long; from then on it is looked at only.
fn fed(ear: &Ear, long: Duration) -> bool {
    let (began, mut last) = (Instant::now(), Instant::now());
    while began.elapsed() < long {
        if ear.next().is_some_and(|words| words.contains("WATCHDOG=1")) {
            last = Instant::now();
        }
        if last.elapsed() > WITHIN {
            return false;
        }
    }
    true
}

fn watched(site: &Site, more: &[(&str, &str)]) -> (Daemon, Ear) {
    let within = WITHIN.as_micros().to_string();
    let mut environment = vec![("WATCHDOG_USEC", within.as_str())];
    environment.extend(more);
    start(site, &environment)
}

#[test]
fn a_writer_that_never_returns_starves_the_watchdog_and_the_next_start_goes_on() {
    let site = Site::new("UTC", "DE");
    let (mut daemon, ear) = watched(&site, &[("CDRD_HANG", "commit-inside")]);
    assert!(fed(&ear, WITHIN * 2), "nothing to do is no fault:\n{}", site.log());
    site.drop_file("a.csv", asterisk_rows(0..40).as_bytes());
    wait("the starving", &site, || {
        site.log().contains("the store's writer does not come round any more") && !fed(&ear, WITHIN * 2)
    });
    // As systemd does.
    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).expect("it runs");
    assert!(!daemon.0.wait().expect("the child is ours").success());
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["40"]);
}

#[test]
fn a_pipeline_that_never_returns_starves_the_watchdog_too() {
    let site = Site::new("UTC", "DE");
    let (_daemon, ear) = watched(&site, &[("CDRD_HANG", "documents-done")]);
    site.drop_file("a.csv", asterisk_rows(0..40).as_bytes());
    wait("the starving", &site, || {
        site.log().contains("pipeline-small does not come round any more") && !fed(&ear, WITHIN * 2)
    });
}

#[test]
fn a_command_that_never_returns_starves_the_watchdog_too() {
    let site = Site::new("UTC", "DE");
    let (mut daemon, ear) = watched(&site, &[("CDRD_HANG", "replay-withdrawn")]);
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    site.wait_drained(&mut daemon);
    let mut asking = site.command(&["replay", "--all"]).spawn().expect("the binary runs");
    wait("the starving", &site, || {
        site.log().contains("a command at the control socket does not come round any more")
            && !fed(&ear, WITHIN * 2)
    });
    drop(daemon);
    assert!(!asking.wait().expect("the child is ours").success());
}

/// One waits for the database and one has said nothing yet: neither is late.
#[test]
fn commands_that_wait_for_something_outside_feed_the_watchdog() {
    let site = Site::new("UTC", "DE");
    let (mut daemon, ear) = watched(&site, &[]);
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    site.wait_drained(&mut daemon);
    let held = hold(&site);
    fs::write(site.path("b.csv"), asterisk_rows(10..14)).expect("our folder");
    let mut asking = site.command(&["import", "b.csv"]).spawn().expect("the binary runs");
    wait("the request", &site, || site.log().contains("import asked for by user"));
    let silent = std::os::unix::net::UnixStream::connect(site.path("var/control.sock")).expect("it listens");
    assert!(fed(&ear, WITHIN * 3), "{}", site.log());
    assert!(asking.try_wait().expect("the child is ours").is_none(), "it waits:\n{}", site.log());
    assert!(!site.log().contains("does not come round"), "{}", site.log());
    drop((held, silent));
    assert!(asking.wait().expect("the child is ours").success(), "{}", site.log());
    site.wait_drained(&mut daemon);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["8"]);
    site.stop(daemon);
}

/// The database is held by somebody else for longer than the watchdog's time: that is nothing a restart would mend.
#[test]
fn waiting_for_a_locked_database_feeds_the_watchdog() {
    let site = Site::new("UTC", "DE");
    let (mut daemon, ear) = watched(&site, &[]);
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    site.wait_drained(&mut daemon);
    let held = hold(&site);
    site.drop_file("b.csv", asterisk_rows(10..14).as_bytes());
    assert!(fed(&ear, Duration::from_secs(15)), "{}", site.log());
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["4"], "it still waits");
    drop(held);
    site.wait_drained(&mut daemon);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["8"]);
    site.stop(daemon);
}

/// The database, locked by another program until this is dropped.
struct Held(std::process::Child);

impl Drop for Held {
    fn drop(&mut self) {
        // It ends with its input, and so does its transaction.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn hold(site: &Site) -> Held {
    hold_that(site, "cdr.db")
}

fn hold_that(site: &Site, database: &str) -> Held {
    let mut holder = std::process::Command::new("sqlite3")
        .arg(site.path("var").join(database))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sqlite3 is installed by tests/run");
    let into = holder.stdin.as_mut().expect("piped");
    std::io::Write::write_all(into, b"BEGIN IMMEDIATE;\nSELECT 'held';\n").expect("it reads");
    let mut out = std::io::BufReader::new(holder.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).expect("it answers");
    assert_eq!(line.trim(), "held");
    Held(holder)
}

#[test]
fn a_configuration_is_not_taken_up_while_the_database_is_locked_and_nothing_ends() {
    let site = Site::new("UTC", "DE");
    let (mut daemon, _ear) = start(&site, &[]);
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    site.wait_drained(&mut daemon);
    let held = hold(&site);
    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    fs::write(site.path("config.toml"), config.replace("\"DE\"", "\"AT\"")).expect("writable");
    hang_up(&daemon);
    wait("the refusal", &site, || {
        site.log().lines().any(|line| line.contains("was not read again") && line.contains("locked"))
    });
    site.drop_file("b.csv", asterisk_rows(10..14).as_bytes());
    wait("the receipt", &site, || {
        site.query_now("spool.db", "SELECT count(*) FROM receipt").as_deref() == Some("1")
    });
    drop(held);
    site.wait_drained(&mut daemon);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["8"]);
    hang_up(&daemon);
    wait("the configuration", &site, || site.log().contains("the configuration was read again"));
    site.stop(daemon);
}

#[test]
fn a_port_that_was_taken_is_listened_on_once_it_is_free_and_a_source_may_come_back() {
    let site = Site::new("UTC", "DE");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    let config = config.replace("listen = \"off\"", &format!("listen = \"{address}\""));
    let (without, source) = config.split_at(config.find("[[source]]").expect("it has a source"));
    fs::write(site.path("config.toml"), &config).expect("writable");
    let (mut daemon, _ear) = start(&site, &[]);
    wait("the complaint", &site, || site.log().contains("collecting without health and metrics"));
    drop(taken);
    hang_up(&daemon);
    wait("health", &site, || site.log().contains(&format!("health and metrics at http://{address}")));
    assert!(site.log().contains("the configuration is as it was"), "{}", site.log());
    let other = source.replace("\"inbox\"", "\"other\"");
    let state = || site.query_now("spool.db", "SELECT health FROM source_state WHERE source = 'inbox'");
    fs::write(site.path("config.toml"), without.to_owned() + &other).expect("writable");
    hang_up(&daemon);
    wait("the change", &site, || site.log().contains("1 started, 1 removed"));
    fs::write(site.path("config.toml"), &config).expect("writable");
    hang_up(&daemon);
    wait("the change back", &site, || site.log().matches("1 started, 1 removed").count() == 2);
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    site.wait_drained(&mut daemon);
    wait("its state", &site, || state().as_deref() == Some("ok"));
    site.stop(daemon);
}

#[test]
fn a_start_waits_for_a_locked_database_with_its_doors_open_and_hears_a_stop() {
    let site = Site::new("UTC", "DE");
    site.run_to_end();
    let held = hold(&site);
    let waits = |site: &Site| site.log().matches("nothing is stored while this lasts").count();
    let daemon = site.start(None);
    wait("the first attempt", &site, || waits(&site) > 0);
    site.stop(daemon);
    let ear = Ear::at(&site);
    let mut command = site.command(&["run"]);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    let mut daemon = site.started(command);
    let heard = ear.until("EXTEND_TIMEOUT_USEC=", &site);
    assert!(heard.iter().all(|words| !words.contains("READY=1")), "{heard:?}");
    site.drop_file("a.csv", asterisk_rows(0..4).as_bytes());
    wait("the receipt", &site, || {
        site.query_now("spool.db", "SELECT count(*) FROM receipt").as_deref() == Some("1")
    });
    drop(held);
    ear.until("READY=1", &site);
    site.wait_drained(&mut daemon);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["4"]);
    site.stop(daemon);
}

/// What the operator's page tells to add is what the unit shows.
#[test]
fn the_unit_shows_how_a_secret_is_handed_over() {
    let unit = fs::read_to_string(crate::site::repository("systemd/cdrd.service")).expect("it is there");
    let page = fs::read_to_string(crate::site::repository("docs/operating.md")).expect("it is there");
    let shown =
        unit.lines().find_map(|line| line.strip_prefix("#LoadCredential=")).expect("a commented line");
    let (name, path) = shown.split_once(':').expect("a name and a path");
    for words in [
        format!("LoadCredential={name}:{path}"),
        format!("password = {{ credential = \"{name}\" }}"),
        format!("install -m 0600 /dev/stdin {path}"),
    ] {
        assert!(page.contains(&words), "{words}");
    }
}

fn check(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let output = site.cdrd(&[&["check"], arguments].concat());
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn what_our_own_daemon_holds_is_no_fault_and_what_is_away_is_one_if_asked() {
    let site = Site::new("UTC", "DE");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has one").to_string();
    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    let written = config.replace("listen = \"off\"", &format!("listen = \"{address}\""));
    fs::write(site.path("config.toml"), &written).expect("writable");
    let (code, said) = check(&site, &[]);
    assert!(code == Some(0) && said.contains("config.toml: http.listen: cannot listen on"), "{said}");
    drop(taken);
    assert!(check(&site, &[]).1.contains(&format!("http {address} is free")));
    let (daemon, _ear) = start(&site, &[]);
    wait("the port", &site, || site.log().contains("health and metrics at"));
    let (code, said) = check(&site, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("in use, as it should be") && said.contains("by this configuration"), "{said}");
    assert!(said.ends_with("config.toml: 0 wrong, 0 warnings\n"), "{said}");
    fs::write(site.path("config.toml"), written.clone() + "# changed\n").expect("writable");
    assert!(check(&site, &[]).1.contains("systemctl reload cdrd"));

    // Root may make any folder: what cannot be made by anybody lies below a file.
    let below = written.replace("path = \"inbox\"", "path = \"config.toml/inbox\"");
    fs::write(site.path("config.toml"), below).expect("writable");
    let (code, said) = check(&site, &[]);
    assert!(code == Some(0) && said.contains("until then this source is stopped"), "{said}");
    let (code, said) = check(&site, &["--remote"]);
    assert!(code == Some(2) && said.contains("wrong"), "{said}");
    site.stop(daemon);
}
