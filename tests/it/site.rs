//! A site of its own for a test: configuration, inbox, state, and the real binary to run on them.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub const CDRD: &str = env!("CARGO_BIN_EXE_cdrd");

/// A file or folder of the repository. Asked when the test runs: several check-outs may share what is built.
pub fn repository(name: &str) -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    PathBuf::from(root).join(name)
}

/// A temporary folder with `config.toml`, `inbox/` and `var/`.
pub struct Site {
    pub dir: tempfile::TempDir,
}

/// A running daemon; killed when dropped.
pub struct Daemon(pub Child, usize);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Site {
    /// A site whose origin has this zone and country.
    pub fn new(time_zone: &str, country: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let config = format!(
            "state_dir = \"var\"\n[http]\nlisten = \"off\"\n[[origin]]\nname = \"pbx\"\ntime_zone = \"{time_zone}\"\ncountry = \"{country}\"\n\
             [[source]]\nname = \"inbox\"\nkind = \"folder\"\norigin = \"pbx\"\npath = \"inbox\"\nsettle = \"150ms\"\n"
        );
        fs::write(dir.path().join("config.toml"), config).expect("the folder is writable");
        fs::create_dir(dir.path().join("inbox")).expect("the folder is writable");
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file into the inbox the way a careful sender does: written elsewhere, moved in.
    pub fn drop_file(&self, name: &str, bytes: &[u8]) {
        let beside = self.path("outgoing.tmp");
        fs::write(&beside, bytes).expect("the folder is writable");
        fs::rename(beside, self.path("inbox").join(name)).expect("the inbox is on the same file system");
    }

    /// A sub-command, run to its end.
    pub fn cdrd(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CDRD);
        command
            .current_dir(self.dir.path())
            .args(arguments)
            .env_remove("STATE_DIRECTORY")
            .stdin(Stdio::null());
        command
    }

    /// Starts the daemon, which dies at the crash point if one is given.
    pub fn start(&self, crash: Option<&str>) -> Daemon {
        let crash: Vec<_> = crash.map(|crash| ("CDRD_CRASH", PathBuf::from(crash))).into_iter().collect();
        self.start_with(&crash)
    }

    /// Starts the daemon with these in its environment.
    pub fn start_with(&self, environment: &[(&str, PathBuf)]) -> Daemon {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        self.started(command)
    }

    /// Starts the daemon, in which threads wait at the named place until the file exists.
    pub fn start_held(&self, hold: Option<(&str, &Path)>) -> Daemon {
        let mut command = self.command(&["run"]);
        if let Some((place, until)) = hold {
            command.env("CDRD_HANG", place).env("CDRD_HANG_UNTIL", until);
        }
        self.started(command)
    }

    /// A daemon started by this command, which says what it says in the log.
    pub fn started(&self, mut command: Command) -> Daemon {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.path("log.txt")).expect("a log file");
        let said_before = self.log().len();
        let errors = log.try_clone().expect("a second handle");
        Daemon(command.stdout(log).stderr(errors).spawn().expect("the binary runs"), said_before)
    }

    /// Whether the daemon has said that it collects: before, a signal ends it like any other program.
    pub fn is_up(&self, daemon: &Daemon) -> bool {
        self.log().get(daemon.1..).is_some_and(|said| said.contains("collecting from"))
    }

    /// Rows of a query, as `sqlite3` prints them: another program than the one under test.
    pub fn query(&self, database: &str, sql: &str) -> Vec<String> {
        let output = Command::new("sqlite3")
            .args(["-readonly", "-cmd", ".timeout 5000", "-separator", "|"])
            .arg(self.path("var").join(database))
            .arg(sql)
            .output()
            .expect("sqlite3 is installed by tests/run");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// Whether everything that was sent has ended.
    pub fn drained(&self) -> bool {
        files_below(&self.path("inbox")).is_empty() && self.nothing_waits()
    }

    /// Whether everything that was received has ended.
    pub fn nothing_waits(&self) -> bool {
        self.path("var/spool.db").exists()
            && self.query_now("spool.db", "SELECT count(*) FROM receipt").as_deref() == Some("0")
    }

    /// The first value of a query, or nothing while the database is not there yet.
    pub fn query_now(&self, database: &str, sql: &str) -> Option<String> {
        let path = self.path("var").join(database);
        let output = Command::new("sqlite3")
            .args(["-readonly", "-cmd", ".timeout 5000"])
            .arg(path)
            .arg(sql)
            .output()
            .expect("sqlite3 is installed by tests/run");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Waits until everything has ended; the log is shown when it does not.
    pub fn wait_drained(&self, daemon: &mut Daemon) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !(self.is_up(daemon) && self.drained()) {
            assert!(Instant::now() < deadline, "not drained in a minute:\n{}", self.log());
            assert!(matches!(daemon.0.try_wait(), Ok(None)), "the daemon ended:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log.txt")).unwrap_or_default()
    }

    /// Stops the daemon politely; it must end well within ten seconds.
    pub fn stop(&self, mut daemon: Daemon) {
        let pid = rustix::process::Pid::from_child(&daemon.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the daemon runs");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match daemon.0.try_wait().expect("the child is ours") {
                Some(status) => {
                    assert!(status.success(), "exit {status} after SIGTERM:\n{}", self.log());
                    return;
                }
                None => assert!(Instant::now() < deadline, "SIGTERM took more than 10 s:\n{}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts, waits until everything has ended, stops.
    pub fn run_to_end(&self) {
        let mut daemon = self.start(None);
        self.wait_drained(&mut daemon);
        self.stop(daemon);
    }

    /// Every column that deliveries in any order must agree on, of every row.
    pub fn table(&self) -> Vec<String> {
        let columns: Vec<String> = self
            .query("cdr.db", "SELECT name FROM pragma_table_info('cdr')")
            .into_iter()
            .filter(|name| !VARYING.contains(&name.as_str()))
            .map(|name| if name == "identity" { "hex(identity)".to_owned() } else { name })
            .collect();
        let list = columns.join(",");
        self.query("cdr.db", &format!("SELECT {list} FROM cdr ORDER BY {list}"))
    }
}

/// Columns that tell which statement was first, not what the leg is.
const VARYING: &[&str] = &[
    "id",
    "leg",
    "source",
    "delivery_id",
    "document_id",
    "row_number",
    "byte_offset",
    "byte_length",
    "versions",
    "version_hash",
    "stated",
    "change_seq",
    "stored_at",
];

/// All files below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

/// Rows of an Asterisk `Master.csv`, one leg each.
pub fn asterisk_rows(calls: std::ops::Range<u32>) -> String {
    let mut text = String::new();
    for call in calls {
        let (hour, minute, second) = (10 + call / 3600, call / 60 % 60, call % 60);
        let start = format!("2025-03-10 {hour:02}:{minute:02}:{second:02}");
        let _ = writeln!(
            text,
            "\"\",\"0301234567\",\"201\",\"from-trunk\",\"\"\"A\"\" <0301234567>\",\"PJSIP/trunk-{call:08x}\",\
             \"PJSIP/201-{call:08x}\",\"Dial\",\"PJSIP/201,20\",\"{start}\",\"{start}\",\"{start}\",9,9,\"ANSWERED\",\
             \"DOCUMENTATION\",\"pbx-{}.{call}\",\"\"",
            1_741_600_800 + call
        );
    }
    text
}

/// A zip of these entries.
pub fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).expect("an archive in memory");
        archive.write_all(bytes).expect("an archive in memory");
    }
    archive.finish().expect("an archive in memory").into_inner()
}

/// Packed by gzip.
pub fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(bytes).expect("in memory");
    packed.finish().expect("in memory")
}
