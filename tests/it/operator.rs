//! What operators do to a running site, and what happens to it: zones corrected, databases lost or locked, origins
//! taken away, folders closed, files written while they are read.

use crate::site::{CDRD, Site, asterisk_rows as rows, files_below};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn rewrite_config(site: &Site, from: &str, to: &str) {
    let path = site.path("config.toml");
    let text = fs::read_to_string(&path).expect("the site has one");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("the folder is writable");
}

fn import(site: &Site, file: &str, zone: &str) -> String {
    let output = site.command(&["import", file]).env("TZ", zone).output().expect("the binary runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

#[test]
fn auto_is_the_zone_of_the_first_start_wherever_the_host_moves() {
    let site = Site::new("auto", "DE");
    fs::write(site.path("a.csv"), rows(0..1)).expect("the folder is writable");
    fs::write(site.path("b.csv"), rows(1..2)).expect("the folder is writable");
    import(&site, "a.csv", "Europe/Berlin");
    let said = import(&site, "b.csv", "America/New_York");
    assert!(!said.contains("from now on"), "nothing was corrected: {said}");
    assert_eq!(site.query("cdr.db", "SELECT time_zone FROM origin"), ["Europe/Berlin"]);
    assert_eq!(site.query("cdr.db", "SELECT DISTINCT utc_offset_min FROM cdr"), ["60"]);
    let output = site.command(&["explain", "a.csv"]).env("TZ", "America/New_York").output().expect("it runs");
    let explained = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(explained.contains("09:00:00"), "explained as it would be stored: {explained}");
}

#[test]
fn a_corrected_zone_reads_the_same_file_again_and_doubles_nothing() {
    let site = Site::new("UTC", "DE");
    fs::write(site.path("a.csv"), rows(0..20)).expect("the folder is writable");
    import(&site, "a.csv", "UTC");
    assert!(import(&site, "a.csv", "UTC").contains("repeated"));
    rewrite_config(&site, "\"UTC\"", "\"Europe/Berlin\"");
    let said = import(&site, "a.csv", "UTC");
    assert!(
        said.contains("is read as Europe/Berlin from now on") && said.contains("stored as UTC"),
        "{said}"
    );
    assert!(said.contains("a.csv\tdone\t20\t0\t20"), "{said}");
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["20"]);
    assert!(
        String::from_utf8_lossy(&site.cdrd(&["check"]).stdout)
            .contains("warning config.toml: origin \"pbx\"")
    );
}

#[test]
fn a_zone_corrected_before_the_first_row_is_simply_the_zone() {
    let site = Site::new("UTC", "DE");
    fs::write(site.path("none.csv"), "").expect("the folder is writable");
    fs::write(site.path("a.csv"), rows(0..2)).expect("the folder is writable");
    import(&site, "none.csv", "UTC");
    rewrite_config(&site, "\"UTC\"", "\"Europe/Berlin\"");
    import(&site, "a.csv", "UTC");
    assert_eq!(site.query("cdr.db", "SELECT time_zone FROM origin"), ["Europe/Berlin"]);
    assert!(!import(&site, "a.csv", "UTC").contains("from now on"));
}

#[test]
fn bytes_that_the_database_lost_are_read_again() {
    let site = Site::new("UTC", "DE");
    fs::write(site.path("a.csv"), rows(0..20)).expect("the folder is writable");
    import(&site, "a.csv", "UTC");
    for file in ["cdr.db", "cdr.db-wal", "cdr.db-shm"] {
        let _ = fs::remove_file(site.path("var").join(file));
    }
    assert!(import(&site, "a.csv", "UTC").contains("a.csv\tdone\t20\t20"));
    assert!(import(&site, "a.csv", "UTC").contains("repeated"));
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["20"]);
}

#[test]
fn bodies_without_their_spool_database_are_not_swept() {
    let site = Site::new("UTC", "DE");
    rewrite_config(&site, "settle = \"150ms\"", "settle = \"150ms\"\nkeep = true");
    site.drop_file("large.csv", rows(0..3000).as_bytes());
    let mut daemon = site.start(Some("accept-durable"));
    daemon.0.wait().expect("the child is ours");
    for file in ["spool.db", "spool.db-wal", "spool.db-shm"] {
        let _ = fs::remove_file(site.path("var").join(file));
    }
    let bodies = files_below(&site.path("var/spool"));
    assert_eq!(bodies.len(), 1);
    let output = site.cdrd(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("spool.db is missing, but"));
    assert_eq!(files_below(&site.path("var/spool")), bodies);
}

#[test]
fn a_spool_database_that_was_there_is_missed() {
    let site = Site::new("UTC", "DE");
    site.drop_file("a.csv", rows(0..20).as_bytes());
    site.run_to_end();
    fs::rename(site.path("var/spool.db"), site.path("spool.db")).expect("it is there");
    let output = site.cdrd(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("spool.db is missing, but") && said.contains("spool.lost"), "{said}");
    assert!(!site.path("var/spool.db").exists());
    fs::write(site.path("var/spool.lost"), "").expect("the folder is writable");
    site.drop_file("b.csv", rows(10..30).as_bytes());
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["30"]);
    assert!(!site.path("var/spool.lost").exists(), "it was said once");
}

#[test]
fn a_stop_takes_ten_seconds_at_most_although_a_database_is_locked() {
    let site = Site::new("UTC", "DE");
    let mut daemon = site.start(None);
    site.wait_drained(&mut daemon);
    let mut foreign = Command::new("sqlite3")
        .arg(site.path("var/spool.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sqlite3 is installed by tests/run");
    let mut ask = foreign.stdin.take().expect("it is piped");
    ask.write_all(b"BEGIN IMMEDIATE; SELECT 'locked';\n").expect("it listens");
    let mut answer = [0; 6];
    std::io::Read::read_exact(&mut foreign.stdout.take().expect("it is piped"), &mut answer)
        .expect("it answers");
    site.drop_file("a.csv", rows(0..20).as_bytes());
    std::thread::sleep(Duration::from_millis(500));
    site.stop(daemon);
    drop(ask);
    foreign.wait().expect("the child is ours");
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["20"], "{}", site.log());
}

#[test]
fn what_waits_for_an_origin_that_is_gone_blocks_nobody() {
    let site = Site::new("UTC", "DE");
    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    let other = "[[origin]]\nname = \"old\"\ntime_zone = \"UTC\"\n[[source]]\nname = \"old\"\nkind = \"folder\"\n\
                 origin = \"old\"\npath = \"old\"\nsettle = \"150ms\"\n";
    fs::write(site.path("config.toml"), format!("{config}{other}")).expect("the folder is writable");
    fs::create_dir(site.path("old")).expect("the folder is writable");
    for file in 0..40 {
        fs::write(site.path("old").join(format!("{file}.csv")), rows(file..file + 1)).expect("writable");
    }
    let mut daemon = site.start(Some("accept-durable"));
    daemon.0.wait().expect("the child is ours");
    fs::write(site.path("config.toml"), config).expect("the folder is writable");
    let daemon = site.start(None);
    let started = Instant::now();
    site.drop_file("a.csv", rows(100..120).as_bytes());
    while !site.path("var/cdr.db").exists() || site.query("cdr.db", "SELECT count(*) FROM cdr") != ["20"] {
        assert!(started.elapsed().as_secs() < 20, "{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    site.stop(daemon);
    fs::write(site.path("b.csv"), rows(200..210)).expect("the folder is writable");
    import(&site, "b.csv", "UTC");
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["30"]);
    assert_eq!(site.query("spool.db", "SELECT count(*) FROM receipt"), ["40"], "they wait for their stanza");
}

#[test]
fn an_origin_with_rows_and_without_a_stanza_stops_the_start() {
    let site = Site::new("UTC", "DE");
    fs::write(site.path("a.csv"), rows(0..20)).expect("the folder is writable");
    import(&site, "a.csv", "UTC");
    rewrite_config(&site, "\"pbx\"", "\"hq\"");
    let output = site.cdrd(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("formerly = \"pbx\""));
}

#[test]
fn a_file_that_is_written_while_it_is_read_ends_complete_and_counted_once() {
    let site = Site::new("UTC", "DE");
    let mut daemon = site.start(None);
    site.wait_drained(&mut daemon);
    let outside = site.path("growing.tmp");
    let mut sender = fs::File::create(&outside).expect("the folder is writable");
    sender.write_all(rows(0..2500).as_bytes()).expect("there is room");
    fs::rename(outside, site.path("inbox/growing.csv")).expect("the inbox is on the same file system");
    for step in 0..40 {
        sender.write_all(rows(2500 + step * 25..2525 + step * 25).as_bytes()).expect("there is room");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(sender);
    site.wait_drained(&mut daemon);
    site.stop(daemon);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["3500"], "{}", site.log());
    let odd =
        "SELECT * FROM document WHERE rows_read <> stored + duplicate + amended + rejected + skipped + held";
    assert_eq!(site.query("cdr.db", odd), [""; 0]);
    let last = "SELECT rows_read FROM delivery ORDER BY id DESC LIMIT 1";
    assert_eq!(site.query("cdr.db", last), ["3500"], "{}", site.log());
    let balance = "SELECT sum(legs_added - legs_withdrawn) FROM document";
    assert_eq!(site.query("cdr.db", balance), ["3500"]);
}

/// A file rewritten in place after its first rows are stored: the next process must not go on in the middle.
#[test]
fn a_file_that_changed_before_a_crash_is_read_from_its_first_row() {
    let site = Site::new("UTC", "DE");
    site.drop_file("a.csv", rows(0..2500).as_bytes());
    let mut daemon = site.start(Some("original-sealed"));
    daemon.0.wait().expect("the child is ours");
    let claimed = files_below(&site.path("inbox/.cdrd"));
    assert_eq!(claimed.len(), 1);
    fs::write(&claimed[0], rows(5000..7600)).expect("it is ours");
    let mut daemon = site.start(Some("commit-after:2"));
    daemon.0.wait().expect("the child is ours");
    site.run_to_end();
    let new = "SELECT count(*) FROM cdr WHERE started_local >= '2025-03-10 11:23:20'";
    assert_eq!(site.query("cdr.db", new), ["2600"], "{}", site.log());
    assert_eq!(site.query("cdr.db", "SELECT rows_read FROM delivery"), ["2600"]);
}

#[test]
fn a_folder_that_may_be_listed_and_not_entered_is_red_and_comes_back() {
    let site = Site::new("UTC", "DE");
    let mode =
        |bits| fs::set_permissions(site.path("inbox"), fs::Permissions::from_mode(bits)).expect("ours");
    site.drop_file("a.csv", rows(0..20).as_bytes());
    let (program, first): (&str, &[&str]) = if rustix::process::getuid().is_root() {
        let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(site.dir.path()).status();
        assert!(owned.is_ok_and(|status| status.success()));
        ("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups", CDRD])
    } else {
        (CDRD, &[])
    };
    mode(0o444);
    let log = fs::File::create(site.path("log")).expect("a log file");
    let mut child = Command::new(program)
        .args(first)
        .arg("run")
        .current_dir(site.dir.path())
        .env_remove("STATE_DIRECTORY")
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    let wait_for = |sql: &str, database: &str, wanted: &str| {
        let started = Instant::now();
        while !site.path("var").join(database).exists() || site.query(database, sql) != [wanted] {
            assert!(started.elapsed().as_secs() < 20, "{wanted}: {}", site.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    std::thread::sleep(Duration::from_millis(300));
    wait_for("SELECT health FROM source_state", "spool.db", "stopped");
    mode(0o755);
    wait_for("SELECT health FROM source_state", "spool.db", "ok");
    wait_for("SELECT count(*) FROM cdr", "cdr.db", "20");
    child.kill().expect("it runs");
    child.wait().expect("the child is ours");
}

#[test]
fn an_original_is_read_by_the_zstd_of_any_system() {
    let site = Site::new("UTC", "DE");
    fs::write(site.path("a.csv"), rows(0..20_000)).expect("the folder is writable");
    import(&site, "a.csv", "UTC");
    let kept = files_below(&site.path("var/originals"));
    assert_eq!(kept.len(), 1);
    let output =
        Command::new("zstd").arg("-dc").args(&kept).output().expect("zstd is installed by tests/run");
    assert!(output.stdout == rows(0..20_000).as_bytes(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn systemd_is_told_of_readiness_of_a_red_source_and_of_the_stop() {
    let site = Site::new("UTC", "DE");
    let socket = site.path("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).expect("our folder");
    listener.set_read_timeout(Some(Duration::from_secs(90))).expect("a timeout can be set");
    let hear = |wanted: &str| loop {
        let mut buffer = [0; 4096];
        let length = listener.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
        if String::from_utf8_lossy(&buffer[..length]).contains(wanted) {
            return;
        }
    };
    let log = fs::File::create(site.path("log")).expect("our folder");
    let mut command = site.command(&["run"]);
    let mut daemon = command.env("NOTIFY_SOCKET", &socket).stderr(log).spawn().expect("the binary runs");
    hear("READY=1");
    fs::rename(site.path("inbox"), site.path("elsewhere")).expect("our folder");
    hear("STATUS=inbox is stopped");
    fs::rename(site.path("elsewhere"), site.path("inbox")).expect("our folder");
    hear("STATUS=collecting");
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM)
        .expect("it runs");
    hear("STOPPING=1");
    assert!(daemon.wait().expect("the child is ours").success());
}

fn once(site: &Site) -> (Option<i32>, String) {
    let output = site.cdrd(&["run", "--once"]);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

#[test]
fn once_looks_stores_and_ends() {
    let site = Site::new("UTC", "DE");
    assert_eq!(once(&site).0, Some(0), "nothing there");
    site.drop_file("a.csv", rows(0..20).as_bytes());
    let (code, said) = once(&site);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("inbox: deliveries 1, rows 20: 20 stored"), "{said}");
    assert!(files_below(&site.path("inbox")).is_empty() && site.nothing_waits());
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["20"]);

    site.drop_file("b.csv", rows(20..22).replacen("2025-03-10", "never", 1).as_bytes());
    let (code, said) = once(&site);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("rows 2: 1 stored, 1 rejected"), "{said}");

    // A crash in between: the next time finishes it.
    site.drop_file("c.csv", rows(30..40).as_bytes());
    let died =
        site.command(&["run", "--once"]).env("CDRD_CRASH", "documents-done:1").output().expect("it runs");
    assert!(died.status.code() != Some(0), "the point was reached");
    assert_eq!(once(&site).0, Some(0));
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["31"]);

    fs::remove_dir_all(site.path("inbox")).expect("it is ours");
    fs::write(site.path("inbox"), "a file").expect("the folder is writable");
    let (code, said) = once(&site);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("source inbox: "), "{said}");
}

#[test]
fn what_is_written_into_a_claimed_file_between_storing_and_removing_is_read() {
    let site = Site::new("UTC", "DE");
    site.drop_file("a.csv", rows(0..20).as_bytes());
    let mut daemon = site.start(Some("retire-forgotten:1"));
    let ended = daemon.0.wait().expect("the child is ours");
    assert!(!ended.success(), "the point was reached");
    let claimed = files_below(&site.path("inbox/.cdrd"));
    let [claimed] = claimed.as_slice() else { panic!("one claimed file: {claimed:?}") };
    let mut writer = fs::OpenOptions::new().append(true).open(claimed).expect("its writer had kept it open");
    writer.write_all(rows(20..40).as_bytes()).expect("it is writable");
    drop(writer);
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["40"]);
    assert!(files_below(&site.path("inbox")).is_empty());
}

#[test]
fn what_waited_over_a_change_of_the_configuration_is_known_under_neither_reading() {
    let site = Site::new("UTC", "DE");
    site.drop_file("a.csv", rows(0..20).as_bytes());
    let mut daemon = site.start(Some("accept-durable:1"));
    assert!(!daemon.0.wait().expect("the child is ours").success(), "accepted, and not read");
    rewrite_config(&site, "\"UTC\"", "\"Europe/Berlin\"");
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT DISTINCT utc_offset_min FROM cdr"), ["60"]);
    rewrite_config(&site, "\"Europe/Berlin\"", "\"UTC\"");
    site.drop_file("a.csv", rows(0..20).as_bytes());
    site.run_to_end();
    let states = site.query("cdr.db", "SELECT state, duplicate FROM delivery ORDER BY id");
    assert_eq!(states, ["done|0", "done|20"], "it was never read as UTC");
}
