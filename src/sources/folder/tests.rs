//! Tests of the watched folder, with real files, real inotify and a real door.

use super::*;
use crate::intake::SourceState;
use crate::record::delivery::SpooledBody;
use notify::event::{EventKind, Flag};
use std::error::Error;
use std::ffi::OsStr;
use std::io::Write;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::SystemTime;
use tempfile::TempDir;
use tokio::runtime::Runtime;

type Tested = Result<(), Box<dyn Error>>;

const SETTLE: Duration = Duration::from_secs(5);

/// A folder and a door. Time is handed to `look`, so that nothing has to wait for a file to settle.
struct Bench {
    dir: TempDir,
    _runtime: Runtime,
    intake: Intake,
}

/// A folder that runs on its thread.
struct Running {
    stop: Arc<AtomicBool>,
    wake: Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    fn end(self) -> Tested {
        self.stop.store(true, Ordering::Release);
        self.wake.send(())?;
        self.thread.join().map_err(|_| "the folder's thread panicked")?;
        Ok(())
    }
}

impl Bench {
    fn new() -> Result<Self, Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("in"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let config = crate::intake::Config { reserve_bytes: 0, reserve_percent: 0, ..Default::default() };
        let intake = Intake::open(&dir.path().join("state"), config, runtime.handle().clone())?;
        Ok(Self { dir, _runtime: runtime, intake })
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn config(&self) -> Config {
        Config { settle: SETTLE, ..Config::new("inbox", "pbx", self.dir.path().join("in")) }
    }

    fn folder(&self) -> Folder {
        Folder::new(self.config(), self.intake.clone())
    }

    /// A folder that hears nothing, as over NFS.
    fn deaf(&self, config: Config) -> Result<Folder, Box<dyn Error>> {
        let mut folder = Folder::new(config, self.intake.clone());
        folder.look(Instant::now())?;
        folder.watcher = Some(notify::recommended_watcher(|_| {})?);
        Ok(folder)
    }

    fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> std::io::Result<()> {
        std::fs::write(self.path(name), bytes)
    }

    fn names(&self) -> Result<Vec<String>, IntakeError> {
        let mut names: Vec<_> = self.intake.backlog()?.into_iter().map(|waiting| waiting.name).collect();
        names.sort();
        Ok(names)
    }

    fn bodies(&self) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
        let mut bodies = Vec::new();
        while let Some(claimed) = self.intake.claim_next()? {
            bodies.push(match claimed.spooled.body {
                SpooledBody::Bytes(bytes) => bytes,
                SpooledBody::File { path, .. } => std::fs::read(path)?,
            });
        }
        bodies.sort();
        Ok(bodies)
    }

    fn state(&self) -> Result<SourceState, Box<dyn Error>> {
        Ok(self.intake.source_states()?.pop().ok_or("no state was written")?)
    }

    fn run(&self, config: Config) -> Running {
        let folder = Folder::new(config, self.intake.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = std::sync::mpsc::channel();
        let stopped = Arc::clone(&stop);
        Running { stop, wake, thread: std::thread::spawn(move || folder.run(stopped, woken)) }
    }

    /// Waits until so many deliveries are there.
    fn wait_for(&self, deliveries: usize) -> Tested {
        until(&format!("{deliveries} deliveries"), || Ok(self.intake.backlog()?.len() >= deliveries))
    }
}

fn until(what: &str, mut done: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Tested {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done()? {
        if Instant::now() > deadline {
            return Err(format!("waited in vain for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn age(path: &Path, by: Duration) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.set_modified(SystemTime::now() - by)
}

#[test]
fn what_lies_there_is_taken_when_it_has_settled() -> Tested {
    let bench = Bench::new()?;
    bench.write("a.csv", b"a")?;
    std::fs::create_dir(bench.path("site"))?;
    bench.write("site/b.csv", b"b")?;
    let mut folder = bench.folder();
    let now = Instant::now();
    let first = folder.look(now)?;
    assert_eq!((first.accepted, first.waiting, first.next_look), (0, 2, now + SETTLE));
    let second = folder.look(now + SETTLE)?;
    assert_eq!((second.accepted, second.waiting), (2, 0));
    assert_eq!(bench.names()?, ["a.csv", "site/b.csv"]);
    assert!(!bench.path("a.csv").exists());
    assert_eq!(folder.look(now + SETTLE * 3)?.accepted, 0);
    assert_eq!(bench.state()?.health, SourceHealth::Ok);
    Ok(())
}

#[test]
fn without_events_a_file_settles_anew_at_each_change() -> Tested {
    let bench = Bench::new()?;
    let mut folder = bench.deaf(bench.config())?;
    let now = Instant::now();
    bench.write("a.csv", b"1")?;
    assert_eq!(folder.look(now)?.waiting, 1);
    bench.write("a.csv", b"12")?;
    assert_eq!(folder.look(now + SETTLE)?.accepted, 0);
    // The same size, another time: as a server on another host rewrites it.
    age(&bench.path("a.csv"), Duration::from_secs(9))?;
    assert_eq!(folder.look(now + SETTLE * 2)?.accepted, 0);
    assert_eq!(folder.look(now + SETTLE * 3)?.accepted, 1);
    Ok(())
}

#[test]
fn close_and_rename_are_heard_and_taken_at_once() -> Tested {
    let bench = Bench::new()?;
    let running = bench.run(Config { settle: Duration::from_hours(1), ..bench.config() });
    until("the watch", || Ok(!bench.intake.source_states()?.is_empty()))?;
    bench.write("closed.csv", b"a")?;
    bench.write("moved.tmp", b"b")?;
    std::fs::rename(bench.path("moved.tmp"), bench.path("moved.csv"))?;
    bench.wait_for(2)?;
    running.end()?;
    assert_eq!(bench.names()?, ["closed.csv", "moved.csv"]);
    Ok(())
}

#[test]
fn a_file_that_a_process_has_open_is_not_taken() -> Tested {
    let bench = Bench::new()?;
    let script = format!(
        "exec 3>'{}'; echo one >&3; echo ready; read go; echo two >&3",
        bench.path("s.csv").display()
    );
    let mut writer = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut ready = String::new();
    let output = writer.stdout.take().ok_or("no output")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut ready)?;
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    let look = folder.look(now + SETTLE * 2)?;
    assert_eq!((look.accepted, look.waiting), (0, 1));
    writer.stdin.take().ok_or("no input")?.write_all(b"go\n")?;
    writer.wait()?;
    until("the close", || Ok(folder.look(now + SETTLE * 3)?.accepted == 1))?;
    assert_eq!(bench.bodies()?, [b"one\ntwo\n"]);
    Ok(())
}

#[test]
fn a_writer_that_comes_back_undoes_the_close() -> Tested {
    let bench = Bench::new()?;
    let mut folder = bench.folder();
    folder.look(Instant::now())?;
    bench.write("a.csv", b"one\n")?;
    let mut again = std::fs::OpenOptions::new().append(true).open(bench.path("a.csv"))?;
    again.write_all(b"two\n")?;
    until("both events", || {
        folder.hear();
        std::thread::sleep(Duration::from_millis(100));
        folder.hear();
        Ok(!folder.closed.contains(Path::new("a.csv")))
    })?;
    assert_eq!(folder.look(Instant::now())?.accepted, 0);
    drop(again);
    until("the close", || Ok(folder.look(Instant::now())?.accepted == 1))?;
    assert_eq!(bench.bodies()?, [b"one\ntwo\n"]);
    Ok(())
}

#[test]
fn changes_after_the_claim_are_seen_by_the_door() -> Tested {
    let bench = Bench::new()?;
    let mut folder = bench.deaf(bench.config())?;
    // Large: a small one lies in the spool, as it was.
    let one = vec![b'1'; 100_000];
    bench.write("a.csv", &one)?;
    let mut writer = std::fs::OpenOptions::new().append(true).open(bench.path("a.csv"))?;
    let now = Instant::now();
    folder.look(now)?;
    // Claimed all the same, as if the writer were on another host: the marker says so.
    folder.config.marker = Some(".FIN".into());
    bench.write("a.csv.FIN", b"")?;
    assert_eq!(folder.look(now)?.accepted, 1);
    writer.write_all(b"two\n")?;
    let id = bench.intake.backlog()?[0].id;
    assert!(!bench.intake.look(id)?.recorded);
    assert_eq!(bench.bodies()?, [[one.as_slice(), b"two\n"].concat()]);
    Ok(())
}

#[test]
fn a_marker_decides_alone_and_goes_with_its_file() -> Tested {
    let bench = Bench::new()?;
    let mut folder =
        Folder::new(Config { marker: Some(".FIN".into()), ..bench.config() }, bench.intake.clone());
    bench.write("a.csv", b"a")?;
    bench.write("b.csv", b"b")?;
    bench.write("b.csv.FIN", b"")?;
    let now = Instant::now();
    let look = folder.look(now)?;
    assert_eq!((look.accepted, look.waiting), (1, 1));
    assert_eq!(bench.names()?, ["b.csv"]);
    assert!(!bench.path("b.csv.FIN").exists());
    assert_eq!(folder.look(now + SETTLE * 9)?.accepted, 0, "however long it waits");
    age(&bench.path("a.csv"), Duration::from_hours(2))?;
    folder.look(now + SETTLE * 9)?;
    assert!(bench.state()?.message.contains("a.csv"), "{:?}", bench.state()?);
    bench.write("orphan.csv.FIN", b"")?;
    age(&bench.path("orphan.csv.FIN"), Duration::from_hours(2))?;
    folder.look(now + SETTLE * 9)?;
    assert!(!bench.path("orphan.csv.FIN").exists());
    Ok(())
}

#[test]
fn unfinished_names_are_left_alone_and_listed_after_an_hour() -> Tested {
    let bench = Bench::new()?;
    let all = [".hidden.csv", "_a.csv", "temp-a.csv", "a.csv.tmp", "b.part", "c.filepart", "d.csv~"];
    for name in all {
        bench.write(name, b"x")?;
    }
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    folder.look(now + SETTLE)?;
    assert!(bench.names()?.is_empty());
    assert_eq!(bench.state()?.message, "");
    age(&bench.path("b.part"), Duration::from_hours(2))?;
    folder.look(now + SETTLE)?;
    let message = bench.state()?.message;
    assert!(
        message.starts_with("1 unfinished for more than an hour") && message.contains("b.part"),
        "{message}"
    );
    assert!(all.iter().all(|name| bench.path(name).exists()));
    Ok(())
}

#[test]
fn an_empty_file_is_taken_once_it_has_settled() -> Tested {
    let bench = Bench::new()?;
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    bench.write("probe", b"")?;
    until("the event", || {
        folder.hear();
        Ok(folder.closed.contains(Path::new("probe")))
    })?;
    assert_eq!(folder.look(now)?.accepted, 0, "its sender may only be about to write");
    assert_eq!(folder.look(now + SETTLE)?.accepted, 1);
    assert_eq!(bench.bodies()?, [b""]);
    Ok(())
}

#[test]
fn links_and_pipes_stay_and_do_not_stop_the_others() -> Tested {
    let bench = Bench::new()?;
    std::os::unix::fs::symlink("/etc/hostname", bench.path("link.csv"))?;
    std::os::unix::fs::symlink("/etc", bench.path("linked"))?;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let pipe = bench.path("pipe.csv");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)?;
    let _socket = std::os::unix::net::UnixListener::bind(bench.path("socket.csv"))?;
    bench.write("z.csv", b"z")?;
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    assert_eq!(folder.look(now + SETTLE)?.accepted, 1);
    assert_eq!(bench.names()?, ["z.csv"]);
    assert_eq!(folder.noted.iter().filter(|(_, what)| *what == "special").count(), 4);
    Ok(())
}

#[test]
fn hostile_names_pass_and_stay_distinct() -> Tested {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new()?;
    let long = "n".repeat(255);
    for name in [&b"new\nline.csv"[..], b"\xff\xfe.csv", b"'; DROP TABLE receipt; --", long.as_bytes()] {
        bench.write(OsStr::from_bytes(name), name)?;
    }
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    assert_eq!(folder.look(now + SETTLE)?.accepted, 4);
    assert_eq!(bench.names()?, ["'; DROP TABLE receipt; --", "\\xff\\xfe.csv", "new\\x0aline.csv", &long]);
    assert_eq!(bench.bodies()?.len(), 4);
    Ok(())
}

#[test]
fn kept_files_stay_and_are_taken_once_per_content() -> Tested {
    let bench = Bench::new()?;
    let config = Config { keep: true, ..bench.config() };
    bench.write("a.csv", b"one")?;
    let mut folder = Folder::new(config.clone(), bench.intake.clone());
    let mut now = Instant::now();
    let mut settled = |folder: &mut Folder| {
        let first = folder.look(now)?.accepted;
        now += SETTLE;
        Ok::<_, FolderError>(first + folder.look(now)?.accepted)
    };
    assert_eq!(settled(&mut folder)?, 1);
    assert_eq!(settled(&mut folder)?, 0);
    let mut folder = Folder::new(config, bench.intake.clone());
    assert_eq!(settled(&mut folder)?, 0, "also after a restart");
    age(&bench.path("a.csv"), Duration::from_mins(1))?;
    assert_eq!(settled(&mut folder)?, 0, "touched is not changed");
    bench.write("a.csv", b"two")?;
    until("the change", || Ok(settled(&mut folder)? == 1))?;
    assert_eq!(bench.bodies()?, [b"one", b"two"]);
    assert!(bench.path("a.csv").exists());
    assert!(!bench.path(".cdrd").exists());
    Ok(())
}

#[test]
fn a_folder_without_room_for_claims_is_copied() -> Tested {
    let bench = Bench::new()?;
    // Permissions do not stop root; a file where the claim folder should be stops everybody.
    bench.write(".cdrd", b"")?;
    bench.write("a.csv", b"a")?;
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    assert_eq!(folder.look(now + SETTLE)?.accepted, 1);
    assert_eq!(folder.look(now + SETTLE * 2)?.accepted, 0);
    assert!(bench.state()?.message.contains("copied"), "{:?}", bench.state()?);
    let mut restarted = bench.folder();
    restarted.look(now)?;
    assert_eq!(restarted.look(now + SETTLE)?.accepted, 0);
    assert_eq!(bench.bodies()?, [b"a"]);
    assert!(bench.path("a.csv").exists());
    Ok(())
}

#[test]
fn one_bad_file_does_not_stop_the_others_and_is_told() -> Tested {
    let bench = Bench::new()?;
    let full = crate::intake::Config { reserve_bytes: u64::MAX / 2, ..Default::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let intake = Intake::open(&bench.dir.path().join("state"), full, runtime.handle().clone())?;
    bench.write("a.csv", b"a")?;
    let mut folder = Folder::new(bench.config(), intake);
    let now = Instant::now();
    folder.look(now)?;
    let look = folder.look(now + SETTLE)?;
    assert_eq!(look.accepted, 0);
    assert_eq!(bench.state()?.health, SourceHealth::Retrying);
    assert!(bench.state()?.message.contains("free at least"));
    folder.intake = bench.intake.clone();
    assert_eq!(folder.look(now + SETTLE)?.accepted, 1);
    assert_eq!(bench.state()?.health, SourceHealth::Ok);
    Ok(())
}

#[test]
fn a_folder_that_vanishes_is_told_and_watched_again_when_it_returns() -> Tested {
    let bench = Bench::new()?;
    let config =
        Config { rescan: Duration::from_millis(100), settle: Duration::from_hours(1), ..bench.config() };
    let running = bench.run(config);
    let health = |wanted| until("the state", || Ok(bench.state().is_ok_and(|state| state.health == wanted)));
    health(SourceHealth::Ok)?;
    std::fs::remove_dir_all(bench.path(""))?;
    health(SourceHealth::Stopped)?;
    assert!(bench.state()?.message.contains("correct `path`"));
    std::fs::create_dir(bench.path(""))?;
    health(SourceHealth::Ok)?;
    bench.write("a.csv", b"a")?;
    bench.wait_for(1)?;
    running.end()
}

#[test]
fn an_overflow_makes_files_settle_instead() -> Tested {
    let bench = Bench::new()?;
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    bench.write("a.csv", b"a")?;
    until("the event", || {
        folder.hear();
        Ok(folder.closed.contains(Path::new("a.csv")))
    })?;
    let overflow = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
    folder.bell.note(Ok(overflow), &folder.config.path, &folder.claims);
    assert!(folder.bell.wait(Duration::ZERO), "an overflow asks for a look");
    assert_eq!(folder.look(now)?.accepted, 0);
    assert_eq!(folder.look(now + SETTLE)?.accepted, 1);
    Ok(())
}

#[test]
fn where_the_system_cannot_watch_the_folder_is_polled() -> Tested {
    let bench = Bench::new()?;
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    let limit = notify::Error::new(notify::ErrorKind::MaxFilesWatch);
    folder.bell.note(Err(limit), &folder.config.path, &folder.claims);
    let look = folder.look(now)?;
    assert_eq!(look.next_look, now + POLL);
    assert!(bench.state()?.message.contains("max_user_watches"), "{:?}", bench.state()?);
    Ok(())
}

#[test]
fn files_in_2000_new_folders_are_all_found() -> Tested {
    let bench = Bench::new()?;
    let running = bench.run(Config { settle: Duration::from_millis(200), ..bench.config() });
    until("the watch", || Ok(!bench.intake.source_states()?.is_empty()))?;
    for n in 0..2000 {
        std::fs::create_dir_all(bench.path(format!("{n}/sub")))?;
        bench.write(format!("{n}/sub/a.csv"), format!("{n}").as_bytes())?;
    }
    bench.wait_for(2000)?;
    running.end()?;
    let distinct: HashSet<_> = bench.names()?.into_iter().collect();
    assert_eq!(distinct.len(), 2000);
    Ok(())
}

#[test]
fn a_wake_looks_at_once() -> Tested {
    let bench = Bench::new()?;
    bench.write("a.part", b"a")?;
    let running = bench.run(Config { rescan: Duration::from_hours(1), ..bench.config() });
    until("the first look", || Ok(!bench.intake.source_states()?.is_empty()))?;
    // A change of times alone rings no bell.
    age(&bench.path("a.part"), Duration::from_hours(2))?;
    until("what only a look tells", || {
        running.wake.send(())?;
        Ok(bench.state()?.message.contains("a.part"))
    })?;
    running.end()
}

#[test]
fn orphans_of_the_claim_folder_are_received_again() -> Tested {
    let bench = Bench::new()?;
    bench.write("a.csv", b"a")?;
    let mut folder = bench.folder();
    let now = Instant::now();
    folder.look(now)?;
    folder.look(now + SETTLE)?;
    assert_eq!(bench.intake.backlog()?.len(), 1);
    bench.folder().look(now)?;
    assert_eq!(bench.intake.backlog()?.len(), 1, "a file that belongs to a delivery is no orphan");
    std::fs::write(bench.path(".cdrd/lost"), b"lost")?;
    bench.folder().look(now)?;
    assert_eq!(bench.bodies()?, [&b"a"[..], b"lost"]);
    Ok(())
}
