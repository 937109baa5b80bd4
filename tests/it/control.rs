//! Commands beside a running daemon: it does what they ask, its doors stay open, and nobody else's wishes are obeyed.

use crate::site::{CDRD, Daemon, Site, asterisk_rows, files_below};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn wait(what: &str, site: &Site, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// A daemon that is up.
fn up(site: &Site, hold: Option<(&str, &Path)>) -> Daemon {
    let daemon = site.start_held(hold);
    wait("the daemon", site, || site.is_up(&daemon) && site.path("var/control.sock").exists());
    daemon
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).expect("it runs");
}

fn import(site: &Site, name: &str, text: &str) -> Output {
    fs::write(site.path(name), text).expect("the folder is writable");
    site.cdrd(&["import", name])
}

#[test]
fn the_daemon_imports_replays_and_retries_for_whoever_asks() {
    let site = Site::new("UTC", "DE");
    let daemon = up(&site, None);
    let told = import(&site, "a.csv", &asterisk_rows(0..40));
    assert_eq!(told.status.code(), Some(0), "{}\n{}", said(&told), site.log());
    assert_eq!(String::from_utf8_lossy(&told.stdout).lines().nth(1), Some("a.csv\tdone\t40\t40\t0\t0\t0\t0"));
    assert!(said(&import(&site, "b.csv", &asterisk_rows(0..40))).contains("\trepeated\t"));
    let bad = asterisk_rows(40..50).replacen("2025-03-10", "never", 1);
    assert_eq!(import(&site, "c.csv", &bad).status.code(), Some(3));
    let before = site.table();
    let replayed = site.cdrd(&["replay", "--all"]);
    assert_eq!(replayed.status.code(), Some(3), "{}", said(&replayed));
    assert!(said(&replayed).contains("rows: 0 added, 0 changed, 0 removed"), "{}", said(&replayed));
    let retried = site.cdrd(&["rejected", "retry", "--all"]);
    assert_eq!(retried.status.code(), Some(3), "{}", said(&retried));
    assert_eq!(site.cdrd(&["rejected", "retry", "--reason", "row_empty"]).status.code(), Some(0));
    let unknown = site.cdrd(&["replay", "01JQ8Z6T5Z9M3V0X4C2B1A7K8D"]);
    assert!(unknown.status.code() == Some(1) && said(&unknown).contains("there is no delivery"));
    assert_eq!(site.table(), before);
    assert!(site.log().contains("import asked for by user"), "{}", site.log());
    site.stop(daemon);
    assert!(!site.path("var/control.sock").exists());
    // And the same without one.
    assert_eq!(import(&site, "d.csv", &asterisk_rows(60..70)).status.code(), Some(0));
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["59"]);
}

#[test]
fn a_corrected_zone_is_read_again_and_then_corrected_in_place() {
    let site = Site::new("UTC", "DE");
    let daemon = up(&site, None);
    assert_eq!(import(&site, "a.csv", &asterisk_rows(0..10)).status.code(), Some(0));
    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    fs::write(site.path("config.toml"), config.replace("\"UTC\"", "\"Europe/Berlin\"")).expect("writable");
    let refused = site.cdrd(&["replay", "--rederive"]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("SIGHUP"), "{}", said(&refused));
    signal(&daemon.0, rustix::process::Signal::HUP);
    wait("the new configuration", &site, || site.log().contains("the configuration was read again"));
    let done = site.cdrd(&["replay", "--rederive"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout).lines().nth(1), Some("pbx\tEurope/Berlin\t10"));
    assert_eq!(site.query("cdr.db", "SELECT DISTINCT utc_offset_min FROM cdr"), ["60"]);
    site.stop(daemon);
}

/// The switch of a replay, held in the middle: nobody sees half of it, what comes is received, and an interrupted one is
/// taken back.
#[test]
fn doors_stay_open_while_something_is_read_again_and_ctrl_c_takes_it_back() {
    let site = Site::new("UTC", "DE");
    let go_on = site.path("go-on");
    let mut daemon = up(&site, Some(("replay-withdrawn", &go_on)));
    assert_eq!(import(&site, "a.csv", &asterisk_rows(0..40)).status.code(), Some(0));
    let before =
        (site.table(), site.query("cdr.db", "SELECT id, change_seq, stored_at FROM cdr ORDER BY id"));
    let mut asking = Command::new(CDRD)
        .current_dir(site.dir.path())
        .args(["replay", "--all"])
        .env_remove("STATE_DIRECTORY")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    wait("the request", &site, || site.log().contains("replay asked for by user"));
    site.drop_file("meanwhile.csv", asterisk_rows(100..105).as_bytes());
    wait("the receipt", &site, || {
        files_below(&site.path("inbox/.cdrd")).len() == 1
            && site.query_now("spool.db", "SELECT count(*) FROM receipt").as_deref() == Some("1")
    });
    assert_eq!(before.0, site.table(), "the calls as they were");
    signal(&asking, rustix::process::Signal::INT);
    // The daemon is told at once, and goes on where it is held.
    std::thread::sleep(Duration::from_millis(700));
    assert!(asking.try_wait().expect("the child is ours").is_none(), "it waits to be told how it ended");
    fs::write(&go_on, "").expect("the folder is writable");
    let told = asking.wait_with_output().expect("the child is ours");
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    assert!(said(&told).contains("interrupted; nothing was changed"), "{}", said(&told));
    site.wait_drained(&mut daemon);
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["45"]);
    let first = "SELECT id, change_seq, stored_at FROM cdr WHERE id <= 40 ORDER BY id";
    assert_eq!(before.1, site.query("cdr.db", first));
    let whole = site.cdrd(&["replay", "--all"]);
    assert!(
        whole.status.success() && said(&whole).contains("0 added, 0 changed, 0 removed"),
        "{}",
        said(&whole)
    );
    site.stop(daemon);
}

/// A replay that is withdrawing what it will read again hears a stop of the daemon, and whoever asked is told.
#[test]
fn a_stop_of_the_daemon_is_heard_while_a_replay_withdraws() {
    let site = Site::new("UTC", "DE");
    let go_on = site.path("go-on");
    let mut command = site.command(&["run"]);
    command.env("CDRD_HANG", "switch-withdraws").env("CDRD_HANG_UNTIL", &go_on);
    // Everything withdrawn would be one step too far.
    command.env("CDRD_CRASH", "replay-withdrawn");
    let daemon = site.started(command);
    wait("the daemon", &site, || site.is_up(&daemon) && site.path("var/control.sock").exists());
    assert_eq!(import(&site, "a.csv", &asterisk_rows(0..40)).status.code(), Some(0));
    let places = "SELECT id, change_seq, stored_at FROM cdr ORDER BY id";
    let before = (site.table(), site.query("cdr.db", places));
    let mut asking = site.command(&["replay", "--all"]);
    let asking = asking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    wait("the withdrawing", &site, || site.path("go-on.held").exists());
    signal(&daemon.0, rustix::process::Signal::TERM);
    wait("the stop", &site, || site.log().contains("stopping; the transaction under way"));
    // The caller's thread has heard of it by then, and the writer is told every few milliseconds.
    std::thread::sleep(Duration::from_secs(3));
    fs::write(&go_on, "").expect("the folder is writable");
    let told = asking.wait_with_output().expect("the child is ours");
    assert!(said(&told).contains("interrupted; nothing was changed"), "{}\n{}", said(&told), site.log());
    site.stop(daemon);
    assert_eq!(before, (site.table(), site.query("cdr.db", places)));
    assert!(!site.log().contains("does not come to its end"), "{}", site.log());
}

/// A new configuration waits for a replay that is held in the middle; the stop does not wait for either.
#[test]
fn a_stop_is_heard_while_a_configuration_is_read_again() {
    let site = Site::new("UTC", "DE");
    let go_on = site.path("go-on");
    let daemon = up(&site, Some(("replay-withdrawn", &go_on)));
    assert_eq!(import(&site, "a.csv", &asterisk_rows(0..4)).status.code(), Some(0));
    let mut asking =
        site.command(&["replay", "--all"]).stderr(Stdio::null()).spawn().expect("the binary runs");
    wait("the request", &site, || site.log().contains("replay asked for by user"));
    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    fs::write(site.path("config.toml"), config.replace("\"DE\"", "\"AT\"")).expect("writable");
    signal(&daemon.0, rustix::process::Signal::HUP);
    std::thread::sleep(Duration::from_millis(500));
    site.stop(daemon);
    assert!(!site.log().contains("the configuration was read again"), "{}", site.log());
    asking.wait().expect("the child is ours");
    let config = fs::read_to_string(site.path("config.toml")).expect("the site has one");
    fs::write(site.path("config.toml"), config.replace("\"AT\"", "\"DE\"")).expect("writable");
    site.run_to_end();
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["4"]);
}

fn ask(site: &Site, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(site.path("var/control.sock")).expect("the daemon listens");
    // It may hang up before it has read all of it.
    let _ = stream.write_all(bytes);
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_line(&mut answer);
    answer
}

#[test]
fn what_is_no_request_harms_nobody() {
    let site = Site::new("UTC", "DE");
    let daemon = up(&site, None);
    assert!(ask(&site, b"\"who\"\n").contains(&format!("\"pid\":{}", daemon.0.id())));
    for garbage in [&b"\n"[..], b"{}\n", b"\xff\xfe\n", b"{\"do\":1}\n", b"[[[[[[[[\n"] {
        assert!(ask(&site, garbage).contains("no request"), "{}", String::from_utf8_lossy(garbage));
    }
    let _ = ask(&site, &vec![b'['; 3 * 1024 * 1024]);
    let import = |version: &str, written: &str| {
        format!(
            "{{\"do\":{{\"version\":\"{version}\",\"written\":\"{written}\",\"task\":{{\"import\":{{\"name\":\"x\",\
             \"origin\":\"pbx\",\"format\":null,\"time_zone\":null}}}}}}}}\n"
        )
    };
    assert!(ask(&site, import("0.0.0", "").as_bytes()).contains("restart the daemon"));
    assert!(ask(&site, import(env!("CARGO_PKG_VERSION"), "").as_bytes()).contains("another configuration"));
    let who = ask(&site, b"\"who\"\n");
    let written = who.split("\"written\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a hash");
    assert!(ask(&site, import(env!("CARGO_PKG_VERSION"), written).as_bytes()).contains("no file came"));
    // Callers that say nothing.
    let silent: Vec<_> = (0..40)
        .map(|_| UnixStream::connect(site.path("var/control.sock")))
        .collect::<Result<_, _>>()
        .expect("it listens");
    drop(silent);
    wait("an answer", &site, || ask(&site, b"\"who\"\n").contains("\"pid\""));
    assert_eq!(self::import(&site, "a.csv", &asterisk_rows(0..3)).status.code(), Some(0));
    let second = site.cdrd(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains(&format!("as process {}", daemon.0.id())), "{}", said(&second));
    site.stop(daemon);
}

/// As somebody else, in these groups; `None` where the tests do not run as root, which alone can do that.
fn as_user(site: &Site, user: u32, group: u32, arguments: &[&str]) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: needs root");
        return None;
    }
    let ids = [format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()];
    let output = Command::new("setpriv")
        .args(ids)
        .arg(shared_binary(site))
        .args(arguments)
        .current_dir(site.dir.path())
        .env_remove("STATE_DIRECTORY")
        .output();
    Some(output.expect("setpriv is part of Debian"))
}

/// The program where everybody may run it.
fn shared_binary(site: &Site) -> PathBuf {
    let path = site.path("cdrd");
    if !path.exists() {
        fs::copy(CDRD, &path).expect("the folder is writable");
    }
    path
}

const DAEMON: u32 = 4711;
const MEMBER: u32 = 4712;

fn give_away(folder: &Path) {
    for path in files_below(folder).into_iter().chain(["inbox", "var"].map(|name| folder.join(name))) {
        std::os::unix::fs::chown(&path, Some(DAEMON), Some(DAEMON)).expect("root may");
    }
}

fn owners(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut owners = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it is there").flatten() {
            let found = entry.metadata().expect("it is there");
            if found.is_dir() {
                folders.push(entry.path());
            }
            owners.push((entry.path(), found.uid()));
        }
    }
    owners
}

fn site_of_somebody_else() -> Site {
    let site = Site::new("UTC", "DE");
    fs::create_dir(site.path("var")).expect("the folder is writable");
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(site.path("var"), fs::Permissions::from_mode(0o750)).expect("it is ours");
    give_away(site.dir.path());
    site
}

#[test]
fn root_leaves_no_file_of_its_own_behind() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: needs root");
        return;
    }
    let site = site_of_somebody_else();
    let mine = |told: &str| {
        let roots: Vec<_> =
            owners(&site.path("var")).into_iter().filter(|(_, user)| *user != DAEMON).collect();
        assert!(roots.is_empty(), "{told}: {roots:?}");
    };
    // Its own file, which nobody else may read.
    fs::write(site.path("a.csv"), asterisk_rows(0..5)).expect("the folder is writable");
    fs::set_permissions(site.path("a.csv"), fs::Permissions::from_mode(0o600)).expect("it is ours");
    let told = site.cdrd(&["import", "a.csv"]);
    assert_eq!(told.status.code(), Some(0), "{}", said(&told));
    mine("import");
    let id = site.query("cdr.db", "SELECT id FROM delivery").remove(0);
    // `sqlite3` of this test is root as well; what it leaves belongs to the owner of the database.
    for arguments in [
        &["status"][..],
        &["calls"],
        &["deliveries"],
        &["sql", "SELECT 1"],
        &["rejected", "list"],
        &["original", &id],
        &["find", "0301234567", "--around", "2025-03-10", "--deep"],
        &["check"],
        &["explain", "a.csv"],
        &["replay", "--all", "--preview"],
        &["replay", "--all"],
        &["replay", "--rederive"],
        &["rejected", "retry", "--all"],
        &["run", "--once"],
    ] {
        let told = site.cdrd(arguments);
        assert_eq!(told.status.code(), Some(0), "{arguments:?}: {}", said(&told));
        mine(&format!("{arguments:?}"));
    }
    let daemon = up(&site, None);
    mine("run");
    let pid = daemon.0.id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(
        status.lines().any(|line| line.split_whitespace().eq(["Uid:", "4711", "4711", "4711", "4711"])),
        "{status}"
    );
    site.stop(daemon);
    mine("stopped");
}

#[test]
fn the_group_may_import_and_no_more_and_others_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: needs root");
        return;
    }
    let site = site_of_somebody_else();
    let daemon = up(&site, None);
    fs::write(site.path("a.csv"), asterisk_rows(0..5)).expect("the folder is writable");
    let imported = as_user(&site, MEMBER, DAEMON, &["import", "a.csv"]).expect("root");
    assert_eq!(imported.status.code(), Some(0), "{}\n{}", said(&imported), site.log());
    for arguments in [&["replay", "--all"][..], &["replay", "--rederive"], &["rejected", "retry", "--all"]] {
        let refused = as_user(&site, MEMBER, DAEMON, arguments).expect("root");
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).contains("only root and the user that runs cdrd"), "{}", said(&refused));
    }
    let stranger = as_user(&site, MEMBER, MEMBER, &["import", "a.csv"]).expect("root");
    assert_eq!(stranger.status.code(), Some(1), "{}", said(&stranger));
    assert!(said(&stranger).contains("Permission denied"), "{}", said(&stranger));
    assert_eq!(as_user(&site, DAEMON, DAEMON, &["replay", "--all"]).expect("root").status.code(), Some(0));
    assert_eq!(site.query("cdr.db", "SELECT count(*) FROM cdr"), ["5"]);
    site.stop(daemon);
}
