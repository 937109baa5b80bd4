//! The SFTP server with the clients that people use: what they send is stored, each leg once, and what they see of it is
//! what they sent.

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
        for (name, kind, bits) in [
            ("ed25519", "ed25519", "256"),
            ("ecdsa", "ecdsa", "256"),
            ("rsa", "rsa", "3072"),
            ("mine", "rsa", "2048"),
        ] {
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
        for name in ["ed25519", "ecdsa", "rsa"] {
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
