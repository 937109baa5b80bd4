//! The SFTP server with the clients that people use: what they send is stored, each leg once, and what they see of it is
//! what they sent.

mod hostile;
mod kills;
mod raw;

use crate::site::{Daemon, Site, asterisk_rows};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Account and password of the tests.
pub const USER: &str = "hq";
pub const PASSWORD: &str = "correct-horse-7";

/// Key pairs and a hash that all tests share: making them takes longer than most tests.
struct Keys {
    folder: tempfile::TempDir,
    hash: String,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for (name, kind, bits) in
            [("ed25519", "ed25519", "256"), ("rsa", "rsa", "3072"), ("mine", "rsa", "2048")]
        {
            let path = folder.path().join(name);
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"]).arg(path);
            assert!(made.status().expect("openssh-client is installed by tests/run").success());
        }
        let mut hasher = Command::new(crate::site::CDRD);
        hasher.args(["sftp", "hash-password"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut hasher = hasher.spawn().expect("the binary runs");
        std::io::Write::write_all(&mut hasher.stdin.take().expect("piped"), PASSWORD.as_bytes())
            .expect("it reads");
        let output = hasher.wait_with_output().expect("it ends");
        let hash = String::from_utf8(output.stdout).expect("letters").trim().to_owned();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        Keys { folder, hash }
    })
}

/// A site with a server, and where it listens.
pub struct Served {
    pub site: Site,
    pub port: u16,
}

impl Served {
    /// A server with these lines in its stanza, and these in that of its account.
    pub fn new(of_source: &str, of_account: &str) -> Self {
        let site = Site::new("UTC", "DE");
        let host_keys = site.path("var/sftp/host_keys");
        fs::create_dir_all(&host_keys).expect("the folder is writable");
        // The third it makes itself.
        for name in ["ed25519", "rsa"] {
            let copy = host_keys.join(name);
            fs::copy(keys().folder.path().join(name), &copy).expect("the folder is writable");
            fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).expect("it is ours");
        }
        // Free now; nobody else in these tests asks for the same one soon.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let public = keys().folder.path().join("mine.pub");
        let config = fs::read_to_string(site.path("config.toml")).expect("our file");
        let server = format!(
            "{config}[[source]]\nname = \"push\"\nkind = \"sftp\"\nlisten = \"127.0.0.1:{port}\"\n{of_source}\n\
             [[source.account]]\nuser = \"{USER}\"\npassword_hash = '{}'\nauthorized_keys = \"{}\"\n{of_account}\n\
             [[source.account]]\nuser = \"other\"\npassword_hash = '{}'\n",
            keys().hash,
            public.display(),
            keys().hash
        );
        fs::write(site.path("config.toml"), server).expect("our file");
        fs::create_dir(site.path("out")).expect("the folder is writable");
        Self { site, port }
    }

    /// Starts the daemon and waits until the server answers.
    pub fn start(&self, crash: Option<&str>) -> Daemon {
        let daemon = self.site.start(crash);
        let deadline = Instant::now() + Duration::from_mins(1);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "nobody listens:\n{}", self.site.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    /// A file to send.
    pub fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.site.path("out").join(name);
        fs::write(&path, text).expect("the folder is writable");
        path
    }

    /// A command that knows the key, without asking anybody.
    pub fn ssh(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-P", &self.port.to_string(), "-i"])
            .arg(keys().folder.path().join("mine"))
            .current_dir(self.site.path("out"))
            .stdin(Stdio::null());
        command
    }

    /// Lines for OpenSSH's client; it stops at the first that fails.
    pub fn sftp(&self, lines: &str) -> Output {
        let batch = self.site.path("batch.txt");
        fs::write(&batch, lines).expect("the folder is writable");
        let mut command = self.ssh("sftp");
        command.arg("-q").arg("-b").arg(batch).arg(format!("{USER}@127.0.0.1"));
        command.output().expect("openssh-client is installed by tests/run")
    }

    /// The names in a folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let output = self.sftp(&format!("ls -1a {folder}\n"));
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|line| !line.starts_with("sftp>"))
            .map(|line| line.trim_start_matches('/').to_owned())
            .collect()
    }

    /// Waits until everything that was received is stored.
    pub fn wait_stored(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.site.nothing_waits() {
            assert!(Instant::now() < deadline, "not stored in a minute:\n{}", self.site.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Calls that are stored.
    pub fn calls(&self) -> usize {
        self.wait_stored();
        self.site.query("cdr.db", "SELECT count(*) FROM cdr")[0].parse().expect("a number")
    }

    /// States and names of deliveries, in order.
    pub fn deliveries(&self) -> Vec<String> {
        self.wait_stored();
        self.site.query("cdr.db", "SELECT state || ' ' || name || ' ' || rows_read FROM delivery ORDER BY id")
    }
}

#[track_caller]
pub fn good(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[track_caller]
fn same(a: &Path, b: &Path) {
    assert_eq!(fs::read(a).expect("it is there"), fs::read(b).expect("it is there"));
}

#[test]
fn openssh_sends_sees_and_fetches_what_it_sent() {
    let served = Served::new("", "");
    let daemon = served.start(None);
    let file = served.file("a.csv", &asterisk_rows(0..50));
    // More than what is held in memory.
    let large = served.file("large.csv", &asterisk_rows(1000..3000));
    good(&served.sftp("put -p a.csv\nput large.csv\nmkdir d\nput a.csv d/b.csv\nget a.csv back.csv\nget large.csv large.back\n"));
    same(&file, &served.site.path("out/back.csv"));
    same(&large, &served.site.path("out/large.back"));
    assert_eq!(served.names("/"), ["a.csv", "d", "large.csv"]);
    assert_eq!(served.calls(), 2050);
    let states = served.deliveries();
    assert_eq!(states[0], "done a.csv 50");
    assert_eq!(states[1], "done large.csv 2000");
    assert_eq!(states[2], "repeated d/b.csv 0", "{states:?}");
    // What was received stays, whatever becomes of its name.
    good(&served.sftp("rename a.csv sent.csv\nrm d/b.csv\nrmdir d\nget sent.csv again.csv\nrm sent.csv\n"));
    same(&file, &served.site.path("out/again.csv"));
    assert_eq!(served.names("/"), ["large.csv"]);
    assert_eq!(served.calls(), 2050);
    served.site.stop(daemon);
    // And the picture outlives the daemon.
    let daemon = served.start(None);
    assert_eq!(served.names("/"), ["large.csv"]);
    good(&served.sftp("get large.csv large.third\n"));
    same(&large, &served.site.path("out/large.third"));
    served.site.stop(daemon);
}

/// Waits until a connection that was cut has let go of its file.
fn until_names(served: &Served, wanted: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !served.names("/").iter().any(|name| name == wanted) {
        assert!(
            Instant::now() < deadline,
            "{wanted} is not there: {:?}\n{}",
            served.names("/"),
            served.site.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn scp_overwrites_longer_and_shorter() {
    let served = Served::new("", "");
    let daemon = served.start(None);
    let send = |calls: std::ops::Range<u32>| {
        served.file("a.csv", &asterisk_rows(calls));
        let mut scp = served.ssh("scp");
        good(
            &scp.args(["-q", "a.csv"])
                .arg(format!("{USER}@127.0.0.1:a.csv"))
                .output()
                .expect("it is installed"),
        );
        good(&served.sftp("get a.csv back.csv\n"));
        same(&served.site.path("out/a.csv"), &served.site.path("out/back.csv"));
    };
    send(0..40);
    // Without truncating: what is longer is cut afterwards.
    send(100..110);
    send(200..300);
    assert_eq!(served.calls(), 150);
    assert_eq!(served.deliveries(), ["done a.csv 40", "done a.csv 10", "done a.csv 100"]);
    served.site.stop(daemon);
}

#[test]
fn lftp_mirrors_resumes_and_moves() {
    let served = Served::new("", "");
    let daemon = served.start(None);
    for (name, calls) in [("a.csv", 0..20), ("b.csv", 100..130)] {
        served.file(name, &asterisk_rows(calls));
    }
    let whole = asterisk_rows(1000..5000);
    let (begun, rest) = whole.split_at(whole.len() / 2);
    let lftp = |lines: &str| {
        let script = format!(
            "set sftp:auto-confirm yes; set net:max-retries 2; set net:timeout 20; set cmd:fail-exit yes; \
             open -u {USER},{PASSWORD} -p {} sftp://127.0.0.1; {lines}; bye",
            served.port
        );
        let mut command = Command::new("lftp");
        command
            .args(["--norc", "-c", &script])
            .current_dir(served.site.path("out"))
            .env("HOME", served.site.dir.path());
        command.stdin(Stdio::null()).output().expect("lftp is installed by tests/run")
    };
    good(&lftp("mirror -R . day"));
    assert_eq!(served.names("/day"), ["day/a.csv", "day/b.csv"]);
    // A second time there is nothing to send.
    good(&lftp("mirror -R . day"));
    assert_eq!(served.deliveries().len(), 2, "{:?}", served.deliveries());
    // What broke off is continued where it ended.
    let mut cut = served.raw();
    cut.upload_half("big.csv", begun.as_bytes());
    drop(cut);
    until_names(&served, "big.csv");
    served.file("big.csv", &whole);
    good(&lftp("put -c big.csv"));
    good(&lftp("put a.csv -o temp-a.csv; mv temp-a.csv moved.csv"));
    assert_eq!(served.calls(), 20 + 30 + 4000, "{}", rest.len());
    served.site.stop(daemon);
}

#[test]
fn curl_sends_and_resumes_by_password_and_by_key() {
    let served = Served::new("", "sha1_signatures = true");
    let daemon = served.start(None);
    let curl = |more: &[&str], name: &str| {
        let url = format!("sftp://127.0.0.1:{}/{name}", served.port);
        let mut command = Command::new("curl");
        command.args(["-sS", "-k", "-T", name]).args(more).arg(url).current_dir(served.site.path("out"));
        command.stdin(Stdio::null()).output().expect("curl is installed by tests/run")
    };
    let login = format!("{USER}:{PASSWORD}");
    served.file("a.csv", &asterisk_rows(0..30));
    good(&curl(&["-u", &login], "a.csv"));
    let key = keys().folder.path().join("mine").display().to_string();
    let public = format!("{key}.pub");
    served.file("b.csv", &asterisk_rows(100..130));
    // libssh2 of this age signs with SHA-1 alone.
    good(&curl(&["-u", &format!("{USER}:"), "--key", &key, "--pubkey", &public], "b.csv"));
    let whole = asterisk_rows(1000..5000);
    let mut cut = served.raw();
    cut.upload_half("big.csv", &whole.as_bytes()[..whole.len() / 3]);
    drop(cut);
    until_names(&served, "big.csv");
    served.file("big.csv", &whole);
    good(&curl(&["-u", &login, "-C", "-"], "big.csv"));
    assert_eq!(served.calls(), 30 + 30 + 4000);
    assert!(served.site.log().contains("signs with SHA-1"), "{}", served.site.log());
    let wrong = curl(&["-u", &format!("{USER}:wrong")], "a.csv");
    assert!(!wrong.status.success());
    assert!(served.site.log().contains("SFTP log-in refused for account hq from 127.0.0.1"));
    assert!(!served.site.log().contains(PASSWORD), "a password never reaches the log");
    served.site.stop(daemon);
}

#[test]
fn psftp_sends_lists_and_renames() {
    let served = Served::new("", "");
    let daemon = served.start(None);
    served.file("a.csv", &asterisk_rows(0..30));
    served.file("b.csv", &asterisk_rows(100..125));
    let lines = served.site.path("psftp.txt");
    fs::write(
        &lines,
        "put a.csv a.csv.part\nmv a.csv.part a.csv\nput b.csv\nls\nget a.csv back.csv\nreput b.csv\nquit\n",
    )
    .expect("the folder is writable");
    let key = fs::read_to_string(keys().folder.path().join("ed25519.pub")).expect("it was made");
    let key = key.split(' ').nth(1).expect("its second word");
    let mut command = Command::new("psftp");
    command
        .args([
            "-batch",
            "-be",
            "-P",
            &served.port.to_string(),
            "-l",
            USER,
            "-pw",
            PASSWORD,
            "-hostkey",
            key,
            "-b",
        ])
        .arg(&lines)
        .arg("127.0.0.1")
        .current_dir(served.site.path("out"))
        .env("HOME", served.site.dir.path())
        .stdin(Stdio::null());
    let output = command.output().expect("putty-tools are installed by tests/run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("a.csv") && said.contains("b.csv"), "{output:?}");
    same(&served.site.path("out/a.csv"), &served.site.path("out/back.csv"));
    assert_eq!(served.calls(), 55, "{output:?}");
    served.site.stop(daemon);
}

#[test]
fn rclone_copies_and_verifies() {
    let served = Served::new("", "");
    let daemon = served.start(None);
    fs::create_dir(served.site.path("out/day")).expect("the folder is writable");
    for (name, calls) in [("day/a.csv", 0..30), ("day/b.csv", 100..120), ("day/c.csv", 1000..4000)] {
        served.file(name, &asterisk_rows(calls));
    }
    let rclone = |arguments: &[&str]| {
        let mut command = Command::new("rclone");
        let remote = format!(
            ":sftp,host=127.0.0.1,port={},user={USER},key_file={}:cdr",
            served.port,
            keys().folder.path().join("mine").display()
        );
        let arguments =
            arguments.iter().map(|argument| if *argument == "REMOTE" { remote.as_str() } else { argument });
        command.args(arguments).args(["--config", "/dev/null", "--retries", "1"]);
        command.current_dir(served.site.path("out")).env("HOME", served.site.dir.path()).stdin(Stdio::null());
        command.output().expect("rclone is installed by tests/run")
    };
    good(&rclone(&["copy", "day", "REMOTE"]));
    good(&rclone(&["check", "day", "REMOTE", "--size-only"]));
    good(&rclone(&["check", "day", "REMOTE", "--download"]));
    assert_eq!(served.calls(), 30 + 20 + 3000);
    good(&rclone(&["copy", "day", "REMOTE"]));
    assert_eq!(served.deliveries().len(), 3, "nothing is sent twice: times and sizes are as they were");
    served.site.stop(daemon);
}

#[test]
fn paramiko_does_what_programs_do() {
    let served = Served::new("", "");
    let daemon = served.start(None);
    served.file("a.csv", &asterisk_rows(0..30));
    served.file("b.csv", &asterisk_rows(100..3100));
    let script = served.site.path("out/send.py");
    fs::write(&script, include_str!("sftp/paramiko.py")).expect("the folder is writable");
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(&script)
        .args([&served.port.to_string(), USER, PASSWORD])
        .current_dir(served.site.path("out"));
    let output = command.stdin(Stdio::null()).output().expect("python3-paramiko is installed by tests/run");
    good(&output);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "all is well");
    assert_eq!(served.calls(), 3030);
    served.site.stop(daemon);
}

#[test]
fn senders_are_told_how_their_files_ended() {
    let served = Served::new("feedback = true", "");
    let daemon = served.start(None);
    let rows = asterisk_rows(0..30);
    served.file("good.csv", &rows);
    let broken: Vec<String> = rows
        .lines()
        .enumerate()
        .map(|(place, row)| {
            if place == 7 { row.replace("\"2025-03-10", "\"2025-99-99") } else { row.replace("pbx-", "new-") }
        })
        .collect();
    served.file("bad.csv", &(broken.join("\n") + "\n"));
    good(&served.sftp("put good.csv d/good.csv\nput bad.csv\n"));
    until_names(&served, "bad.csv.err");
    good(&served.sftp("get bad.csv.err\nget d/good.csv.ok\n"));
    let told = |name: &str| fs::read_to_string(served.site.path("out").join(name)).expect("it was fetched");
    assert!(told("good.csv.ok").contains("rows 30: 30 stored\n"), "{}", told("good.csv.ok"));
    let err = told("bad.csv.err");
    assert!(err.contains("state done_with_rejects\nrows 30: 29 stored, 1 rejected\nrow 8 at byte "), "{err}");
    assert!(!err.contains("0301234567") && !err.contains("2025-99-99"), "nothing of a row: {err}");
    // The next file of this name is told anew.
    good(&served.sftp("put good.csv bad.csv\n"));
    let deadline = Instant::now() + Duration::from_mins(1);
    while served.names("/").contains(&"bad.csv.err".to_owned()) {
        assert!(Instant::now() < deadline, "{:?}", served.names("/"));
        std::thread::sleep(Duration::from_millis(50));
    }
    until_names(&served, "bad.csv.ok");
    served.site.stop(daemon);
}

#[test]
fn an_account_is_made_by_one_command_and_can_log_in() {
    let site = Site::new("UTC", "DE");
    let made = site.cdrd(&["sftp", "add-account", "pbx-hq"]);
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    let password =
        said.split("password  ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it is printed");
    assert_eq!(password.len(), 21, "{said}");
    let file = site.path("config.d/sftp-sftp.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    assert!(text.contains("password_hash = '$argon2id$") && !text.contains(password), "{text}");
    let second = site.cdrd(&[
        "sftp",
        "add-account",
        "branch",
        "--key",
        keys().folder.path().join("mine.pub").to_str().expect("ours"),
    ]);
    assert!(second.status.success(), "{second:?}");
    let again = site.cdrd(&["sftp", "add-account", "branch"]);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    // Any free port, for this test.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let text = fs::read_to_string(&file)
        .expect("it was written")
        .replace("0.0.0.0:2022", &format!("127.0.0.1:{port}"));
    fs::write(&file, text).expect("it is ours");
    let checked = site.cdrd(&["check"]);
    let words = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{words}");
    assert!(words.contains("account pbx-hq for origin pbx logs in by password"), "{words}");
    assert!(words.contains("account branch for origin pbx logs in by 1 key"), "{words}");
    fs::create_dir_all(site.path("var/sftp/host_keys")).expect("the folder is writable");
    fs::copy(keys().folder.path().join("rsa"), site.path("var/sftp/host_keys/rsa"))
        .expect("the folder is writable");
    let daemon = site.start(None);
    let deadline = Instant::now() + Duration::from_mins(1);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::write(site.path("a.csv"), asterisk_rows(0..3)).expect("the folder is writable");
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "-k",
        "-T",
        "a.csv",
        "-u",
        &format!("pbx-hq:{password}"),
        &format!("sftp://127.0.0.1:{port}/a.csv"),
    ]);
    good(&curl.current_dir(site.dir.path()).output().expect("curl is installed by tests/run"));
    // The keys that were made are shown, the same by all who show them.
    let checked = site.cdrd(&["check"]);
    let words = String::from_utf8_lossy(&checked.stdout).into_owned();
    for kind in ["ssh-ed25519 SHA256:", "ecdsa-sha2-nistp256 SHA256:", "ssh-rsa SHA256:"] {
        let shown =
            words.lines().find_map(|line| line.split("host key ").nth(1).filter(|key| key.starts_with(kind)));
        let shown = shown.unwrap_or_else(|| panic!("{kind}: {words}"));
        assert!(site.log().contains(shown), "{shown}: {}", site.log());
    }
    site.stop(daemon);
    for key in ["ed25519", "ecdsa"] {
        let rights = fs::metadata(site.path("var/sftp/host_keys").join(key))
            .expect("it was made")
            .permissions()
            .mode();
        assert_eq!(rights & 0o777, 0o600, "{key}");
    }
}

/// What OpenSSH says of a connection with these options.
fn asked(served: &Served, options: &[&str]) -> String {
    let mut command = served.ssh("sftp");
    command.args(["-v"]);
    for option in options {
        command.args(["-o", option]);
    }
    let output = command
        .arg("-b")
        .arg("/dev/null")
        .arg(format!("{USER}@127.0.0.1"))
        .output()
        .expect("it is installed");
    format!("{}{}", output.status.success(), String::from_utf8_lossy(&output.stderr))
}

/// Whether curl, whose library signs with SHA-1 alone, may log in by key.
fn curl_by_key(served: &Served) -> bool {
    let key = keys().folder.path().join("mine").display().to_string();
    served.file("by-key.csv", &asterisk_rows(0..3));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-k", "-T", "by-key.csv", "-u", &format!("{USER}:"), "--key", &key])
        .args(["--pubkey", &format!("{key}.pub"), &format!("sftp://127.0.0.1:{}/by-key.csv", served.port)])
        .current_dir(served.site.path("out"));
    curl.output().expect("curl is installed by tests/run").status.success()
}

#[test]
fn old_algorithms_are_offered_only_where_they_are_asked_for() {
    let old = [
        "KexAlgorithms=diffie-hellman-group14-sha1",
        "HostKeyAlgorithms=ssh-rsa",
        "Ciphers=aes128-cbc",
        "MACs=hmac-sha1",
    ];
    let modern = Served::new("", "");
    let daemon = modern.start(None);
    assert!(asked(&modern, &[]).starts_with("true"));
    for option in old {
        // A MAC counts only beside a cipher that has none of its own.
        let said = asked(&modern, &[option, "Ciphers=aes128-ctr"]);
        assert!(said.starts_with("false") && said.contains("no matching"), "{option}: {said}");
    }
    assert!(!curl_by_key(&modern), "a key may sign with SHA-1 only where its account says so");
    assert!(!modern.site.log().contains("legacy_algorithms"));
    modern.site.stop(daemon);
    let legacy = Served::new("legacy_algorithms = true", "sha1_signatures = true");
    let daemon = legacy.start(None);
    let said = asked(&legacy, &old);
    assert!(said.starts_with("true") && said.contains("aes128-cbc MAC: hmac-sha1"), "{said}");
    assert!(curl_by_key(&legacy));
    assert!(legacy.site.log().contains("legacy_algorithms: SHA-1 and CBC are offered"));
    legacy.site.stop(daemon);
}

#[test]
fn a_full_disk_refuses_the_close_and_nothing_looks_received() {
    let served = Served::new("", "");
    let config = fs::read_to_string(served.site.path("config.toml")).expect("our file");
    fs::write(served.site.path("config.toml"), format!("{config}[keep]\nreserve = \"900TiB\"\n"))
        .expect("our file");
    let daemon = served.start(None);
    let mut raw = served.raw();
    assert_eq!(raw.upload("small.csv", asterisk_rows(0..20).as_bytes()), Some(4));
    assert_eq!(raw.upload("kept.csv.tmp", b"rows"), Some(4));
    assert!(served.names("/").is_empty(), "one of its size would look received");
    assert!(served.site.log().contains("no room"), "{}", served.site.log());
    assert!(served.site.query("spool.db", "SELECT * FROM receipt").is_empty());
    served.site.stop(daemon);
}

#[test]
fn a_hundred_uploads_at_once_take_little_memory() {
    let served = Served::new("connections_per_address = 200", "");
    let daemon = served.start(None);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("it is there").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let before = resident();
    let mut sessions: Vec<raw::Raw> = (0..100).map(|_| served.raw()).collect();
    let piece = vec![b'x'; 30_000];
    let handles: Vec<Vec<u8>> = sessions
        .iter_mut()
        .enumerate()
        .map(|(number, raw)| raw.open(&format!("u{number}.csv"), raw::ANEW).handle())
        .collect();
    for offset in 0..20_u64 {
        for (raw, handle) in sessions.iter_mut().zip(&handles) {
            assert_eq!(raw.write(handle, offset * 30_000, &piece).code(), Some(0));
        }
    }
    let uploading = resident();
    assert!(uploading - before < 64 * 1024, "{before} KiB, then {uploading}");
    served.site.stop(daemon);
}

#[test]
fn who_asks_for_nothing_is_cut_and_what_it_sent_stays() {
    let served = Served::new("idle = \"1s\"", "");
    let daemon = served.start(None);
    let mut raw = served.raw();
    raw.upload_half("half.csv", asterisk_rows(0..20).as_bytes());
    assert_eq!(raw.answer(), None, "the server goes");
    until_names(&served, "half.csv");
    served.site.stop(daemon);
}
