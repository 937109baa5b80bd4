//! Tests of the door, with real files and a real spool; crashes are real SIGKILLs of a second process.

use super::*;
use crate::record::delivery::{Body, Delivery, SpooledBody};
use crate::record::outcome::{Actor, Counts, DeliveryOutcome, RejectionNote, Verdict};
use crate::record::port::Feedback;
use crate::sqlite::raw::Value;
use jiff::Timestamp;
use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use tempfile::TempDir;
use tokio::runtime::Runtime;

type Tested = Result<(), Box<dyn Error>>;

/// A state directory, an inbox beside it, and the door.
struct Bench {
    dir: TempDir,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Result<Self, Box<dyn Error>> {
        let bench = Self { dir: tempfile::tempdir()?, runtime: runtime()? };
        std::fs::create_dir(bench.inbox())?;
        Ok(bench)
    }

    fn open(&self) -> Result<Intake, IntakeError> {
        open_at(self.dir.path(), self.runtime.handle().clone())
    }

    fn inbox(&self) -> PathBuf {
        self.dir.path().join("inbox")
    }

    fn claims(&self) -> PathBuf {
        self.inbox().join(".cdrd")
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, std::io::Error> {
        let path = self.inbox().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    fn claim(&self, name: &str, bytes: &[u8]) -> Result<Delivery, std::io::Error> {
        let path = self.put(name, bytes)?;
        Ok(delivery(Body::Claimed { path, claim_dir: self.claims() }))
    }

    /// Every file below the bench but the database, relative.
    fn files(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let mut folders = vec![self.dir.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(self.dir.path())?.to_string_lossy().into_owned());
                }
            }
        }
        files.retain(|name| !name.contains("spool.db"));
        files.sort();
        Ok(files)
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

fn open_at(dir: &Path, handle: Handle) -> Result<Intake, IntakeError> {
    let config = Config { inline_cap: 64 * 1024, reserve_bytes: 0, reserve_percent: 0 };
    Intake::open(&dir.join("state"), config, handle)
}

fn delivery(body: Body) -> Delivery {
    Delivery {
        time_zone: None,
        origin: "pbx".into(),
        source: "inbox".into(),
        account: None,
        peer: Some("192.0.2.7".into()),
        name: "report.csv".into(),
        received_at: Timestamp::now(),
        pinned_format: None,
        reading: [7; 16],
        body,
    }
}

fn bytes(text: &str) -> Delivery {
    delivery(Body::Bytes(text.as_bytes().to_vec()))
}

fn accept_one(intake: &Intake, delivery: Delivery) -> Result<crate::record::delivery::Receipt, IntakeError> {
    intake.accept(vec![delivery], None)?.pop().expect("one delivery gives one answer")
}

fn body_of(claimed: &Claimed) -> std::io::Result<Vec<u8>> {
    match &claimed.spooled.body {
        SpooledBody::Bytes(bytes) => Ok(bytes.clone()),
        SpooledBody::File { path, .. } => std::fs::read(path),
    }
}

/// Reads as the pipeline does: archive and hash beside it.
fn read_and_retire(intake: &Intake, claimed: &Claimed, clean: bool) -> Tested {
    let body = body_of(claimed)?;
    let mut writer = intake.original(claimed.spooled.id)?;
    writer.write_all(&body)?;
    let retirement = Retirement {
        original: Some(Original::Sealed(writer.finish()?)),
        content_hash: Some(*blake3::hash(&body).as_bytes()),
        documents: Vec::new(),
        rows: 1,
        clean,
        verdict: Verdict::default(),
        at: Timestamp::now(),
    };
    Ok(intake.retire(claimed.spooled.id, retirement)?)
}

fn nothing() -> Retirement {
    Retirement {
        original: None,
        content_hash: None,
        documents: Vec::new(),
        rows: 1,
        clean: true,
        verdict: Verdict::default(),
        at: Timestamp::now(),
    }
}

fn original(intake: &Intake, id: DeliveryId) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut body = Vec::new();
    intake.open_original(id)?.read_to_end(&mut body)?;
    Ok(body)
}

fn is_original(name: &String) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "zst")
}

fn next(intake: &Intake) -> Result<Claimed, Box<dyn Error>> {
    Ok(intake.claim_next()?.ok_or("nothing waits")?)
}

#[test]
fn small_large_copied_and_claimed_bodies_pass_the_door_and_leave_only_originals() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let large = "l".repeat(100_000);
    let small_copy = bench.put("small.csv", b"copied")?;
    let large_copy = bench.put("large.csv", large.as_bytes())?;
    let all = vec![
        bytes("inline"),
        bytes(&large),
        delivery(Body::Copied(small_copy)),
        delivery(Body::Copied(large_copy)),
        bench.claim("claimed.csv", b"claimed")?,
        bytes(""),
    ];
    let receipts = intake.accept(all, None)?.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert!(receipts.windows(2).all(|pair| pair[0].id < pair[1].id), "ids sort in the order of the call");
    assert_eq!(intake.backlog()?.len(), 6);
    let expected = ["inline", &large, "copied", &large, "claimed", ""];
    for _ in &expected {
        let claimed = next(&intake)?;
        let id = claimed.spooled.id;
        let place = receipts.iter().position(|receipt| receipt.id == id).ok_or("unknown id")?;
        let body = expected[place].as_bytes();
        assert_eq!(body_of(&claimed)?, body);
        assert_eq!(claimed.spooled.bytes, body.len() as u64);
        assert_eq!(claimed.spooled.peer.as_deref(), Some("192.0.2.7"));
        assert_eq!(original(&intake, id)?, body, "readable before it is retired");
        assert!(intake.look(id)?.recorded);
        read_and_retire(&intake, &claimed, false)?;
        assert_eq!(original(&intake, id)?, body, "and after");
    }
    assert!(intake.claim_next()?.is_none());
    let (originals, others): (Vec<_>, Vec<_>) = bench.files()?.into_iter().partition(is_original);
    assert_eq!(originals.len(), 6, "{originals:?}");
    assert_eq!(others, ["inbox/large.csv", "inbox/small.csv"], "only what was copied stays");
    Ok(())
}

#[test]
fn bytes_that_ended_well_are_seen_before_only_under_the_same_reading() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let first = accept_one(&intake, bytes("rows"))?;
    read_and_retire(&intake, &next(&intake)?, true)?;
    let again = accept_one(&intake, bytes("rows"))?;
    assert!(again.seen_before);
    let claimed = next(&intake)?;
    assert_eq!(claimed.repeat_of, Some(first.id));
    intake.retire(again.id, nothing())?;
    let names = bench.files()?;
    assert_eq!(names.len(), 1, "a repeat needs no second original: {names:?}");

    let copy = bench.claim("same.csv", b"rows")?;
    assert!(accept_one(&intake, copy)?.seen_before, "a claimed file of a known size is hashed");
    let claim = bench.claim("else.csv", b"rowz")?;
    assert!(!accept_one(&intake, claim)?.seen_before);
    for changed in [
        Delivery { reading: [8; 16], ..bytes("rows") },
        Delivery { origin: "other".into(), ..bytes("rows") },
        Delivery { source: "other".into(), ..bytes("rows") },
        Delivery { account: Some("a".into()), ..bytes("rows") },
        Delivery { pinned_format: Some("f".into()), ..bytes("rows") },
    ] {
        assert!(!accept_one(&intake, changed)?.seen_before);
    }
    Ok(())
}

#[test]
fn bytes_that_were_rejected_are_read_again() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    accept_one(&intake, bytes("broken"))?;
    read_and_retire(&intake, &next(&intake)?, false)?;
    assert!(!accept_one(&intake, bytes("broken"))?.seen_before);
    Ok(())
}

#[test]
fn one_refused_delivery_keeps_the_shared_bookmark_and_not_the_others() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let mark = |value: &str| Bookmark { source: "poll".into(), key: "cursor".into(), value: value.into() };
    let gone = delivery(Body::Copied(bench.inbox().join("gone.csv")));
    let answers = intake.accept(vec![bytes("a"), gone], Some(mark("2")))?;
    assert!(answers[0].is_ok());
    assert!(matches!(answers[1], Err(IntakeError::Vanished { .. })), "{answers:?}");
    assert_eq!(intake.bookmark("poll", "cursor")?, None);
    intake.accept(vec![bytes("b")], Some(mark("3")))?;
    assert_eq!(intake.bookmark("poll", "cursor")?.as_deref(), Some("3"));
    let own = vec![(bytes("c"), Some(mark("4"))), (bytes("d"), None)];
    assert!(intake.accept_each(own)?.iter().all(Result::is_ok));
    assert_eq!(
        intake.bookmarks("poll", |key, value| Some((key.to_owned(), value.to_owned())))?,
        [("cursor".to_owned(), "4".to_owned())]
    );
    Ok(())
}

#[test]
fn below_the_reserve_the_door_refuses_and_retiring_goes_on() -> Tested {
    let bench = Bench::new()?;
    accept_one(&bench.open()?, bytes("before"))?;
    let full = Config { inline_cap: 64, reserve_bytes: u64::MAX / 2, reserve_percent: 0 };
    let intake = Intake::open(&bench.dir.path().join("state"), full, bench.runtime.handle().clone())?;
    let claim = bench.claim("stays.csv", b"x")?;
    let answers = intake.accept(vec![bytes("a"), claim], None)?;
    for answer in answers {
        let error = answer.err().ok_or("it was accepted")?;
        assert_eq!(error.actor(), Actor::Transient);
        assert!(error.to_string().contains("free at least"), "{error}");
    }
    assert!(bench.inbox().join("stays.csv").exists());
    read_and_retire(&intake, &next(&intake)?, true)
}

#[test]
fn links_and_pipes_are_refused_and_stay() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let target = bench.put("target.csv", b"secret")?;
    let link = bench.inbox().join("link.csv");
    std::os::unix::fs::symlink(target, &link)?;
    let pipe = bench.inbox().join("pipe.csv");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)?;
    for path in [link, pipe] {
        let claimed = Body::Claimed { path: path.clone(), claim_dir: bench.claims() };
        for body in [claimed, Body::Copied(path.clone())] {
            let answer = accept_one(&intake, delivery(body));
            assert!(matches!(answer, Err(IntakeError::NotRegular { .. })), "{answer:?}");
        }
        assert!(path.symlink_metadata().is_ok());
    }
    assert!(intake.backlog()?.is_empty());
    Ok(())
}

#[test]
fn a_claim_that_cannot_be_renamed_is_refused_without_a_trace() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let path = bench.put("a.csv", b"x")?;
    bench.put("blocked", b"a file where the claim folder should be")?;
    let body = Body::Claimed { path: path.clone(), claim_dir: bench.inbox().join("blocked") };
    let answer = accept_one(&intake, delivery(body));
    assert!(matches!(answer, Err(IntakeError::ClaimRefused { .. })), "{answer:?}");
    // /dev/shm is another file system here.
    if let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") {
        let body = Body::Claimed { path: path.clone(), claim_dir: elsewhere.path().join("claims") };
        let answer = accept_one(&intake, delivery(body));
        assert!(matches!(answer, Err(IntakeError::ClaimRefused { .. })), "{answer:?}");
    }
    assert!(path.exists());
    assert!(intake.backlog()?.is_empty());
    Ok(())
}

#[test]
fn a_claimed_file_that_changes_is_noticed_before_and_after_its_last_chunk() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let one = "1".repeat(100_000);
    let claim = bench.claim("growing.csv", one.as_bytes())?;
    let mut sender = std::fs::OpenOptions::new().append(true).open(bench.inbox().join("growing.csv"))?;
    let receipt = accept_one(&intake, claim)?;
    sender.write_all(b"two\n")?;
    let look = intake.look(receipt.id)?;
    assert!(!look.recorded, "changed since the claim");
    assert!(!intake.look(receipt.id)?.recorded, "also when it is looked at again");
    intake.record_look(receipt.id, &look)?;
    assert!(intake.look(receipt.id)?.recorded, "and noted as it is now");
    let claimed = next(&intake)?;
    let body = body_of(&claimed)?;
    assert_eq!(body, format!("{one}two\n").into_bytes());
    let mut writer = intake.original(receipt.id)?;
    writer.write_all(&body)?;
    let sealed = writer.finish()?;
    sender.write_all(b"three\n")?;
    intake.retire(receipt.id, Retirement { original: Some(Original::Sealed(sealed)), ..nothing() })?;
    let again = next(&intake)?;
    assert_ne!(again.spooled.id, receipt.id);
    assert_eq!(body_of(&again)?, format!("{one}two\nthree\n").into_bytes());
    read_and_retire(&intake, &again, true)?;
    assert_eq!(original(&intake, receipt.id)?, format!("{one}two\n").into_bytes());
    assert_eq!(original(&intake, again.spooled.id)?, format!("{one}two\nthree\n").into_bytes());
    assert_eq!(std::fs::read_dir(bench.claims())?.count(), 0);
    Ok(())
}

#[test]
fn a_small_file_that_is_written_after_it_was_taken_comes_again_whole() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let claim = bench.claim("small.csv", b"one\n")?;
    let mut sender = std::fs::OpenOptions::new().append(true).open(bench.inbox().join("small.csv"))?;
    let receipt = accept_one(&intake, claim)?;
    sender.write_all(b"two\n")?;
    let claimed = next(&intake)?;
    assert!(matches!(claimed.spooled.body, SpooledBody::Bytes(_)), "it lies in the spool's database");
    assert_eq!(body_of(&claimed)?, b"one\n", "as it was acknowledged");
    read_and_retire(&intake, &claimed, true)?;
    let again = next(&intake)?;
    assert_ne!(again.spooled.id, receipt.id);
    assert_eq!(body_of(&again)?, b"one\ntwo\n");
    read_and_retire(&intake, &again, true)?;
    assert_eq!(std::fs::read_dir(bench.claims())?.count(), 0);
    Ok(())
}

#[test]
fn a_small_claimed_file_costs_one_flush_and_survives_the_undoing_of_its_rename() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let before = intake.flushes();
    let claims = (0..3).map(|n| bench.claim(&format!("{n}.csv"), format!("row {n}").as_bytes()));
    let receipts = intake.accept(claims.collect::<Result<Vec<_>, _>>()?, None)?;
    assert_eq!(intake.flushes() - before, 1);
    let ids = receipts
        .into_iter()
        .map(|receipt| receipt.map(|receipt| receipt.id))
        .collect::<Result<Vec<_>, _>>()?;
    drop(intake);
    // As a power cut may leave it: the receipts are on disk, the moves are not. One file is another by now.
    for (n, id) in ids.iter().enumerate() {
        std::fs::rename(bench.claims().join(id.to_string()), bench.inbox().join(format!("{n}.csv")))?;
    }
    std::fs::write(bench.inbox().join("2.csv"), "another file under this name")?;
    let intake = bench.open()?;
    assert_eq!(intake.recover()?.claims_finished, 2);
    let left: Vec<_> =
        std::fs::read_dir(bench.inbox())?.flatten().filter(|entry| entry.path().is_file()).collect();
    assert_eq!(left.len(), 1, "what was received does not come again, what is new does");
    for n in 0..3 {
        let claimed = next(&intake)?;
        assert_eq!(body_of(&claimed)?, format!("row {n}").as_bytes());
        read_and_retire(&intake, &claimed, true)?;
    }
    assert!(intake.claim_next()?.is_none());
    assert_eq!(std::fs::read_dir(bench.claims())?.count(), 0);
    Ok(())
}

#[test]
fn retiring_without_an_original_writes_one_and_retiring_again_is_harmless() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let receipt = accept_one(&intake, bytes("kept"))?;
    next(&intake)?;
    intake.retire(receipt.id, nothing())?;
    intake.retire(receipt.id, nothing())?;
    assert_eq!(original(&intake, receipt.id)?, b"kept");
    assert!(accept_one(&intake, bytes("kept"))?.seen_before, "the hash was made while archiving");
    Ok(())
}

#[test]
fn a_released_delivery_waits_behind_the_others() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let (first, second) = (accept_one(&intake, bytes("1"))?.id, accept_one(&intake, bytes("2"))?.id);
    assert_eq!(next(&intake)?.spooled.id, first);
    intake.release(first)?;
    assert_eq!(next(&intake)?.spooled.id, second);
    assert_eq!(next(&intake)?.spooled.id, first);
    assert!(intake.claim_next()?.is_none());
    Ok(())
}

#[test]
fn a_delivery_that_was_set_aside_rests_longer_each_time_and_holds_up_nobody() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let longest = Duration::from_millis(400);
    let failing = accept_one(&intake, bytes("1"))?.id;
    assert_eq!(next(&intake)?.spooled.id, failing);
    assert_eq!(intake.set_aside(failing, longest, None)?, Duration::from_millis(250));
    assert!(intake.claim_next()?.is_none(), "it rests");
    let good = accept_one(&intake, bytes("2"))?.id;
    assert_eq!(next(&intake)?.spooled.id, good);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(next(&intake)?.spooled.id, failing);
    assert_eq!(intake.set_aside(failing, longest, None)?, longest);
    Ok(())
}

#[test]
fn a_leftover_that_cannot_be_removed_does_not_stop_the_start() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    // A folder in its place: root could remove anything else.
    let (stuck, free) = (bench.inbox().join("stuck"), bench.inbox().join("free"));
    std::fs::create_dir(&stuck)?;
    std::fs::write(&free, "x")?;
    for path in [&stuck, &free] {
        use std::os::unix::ffi::OsStrExt as _;
        let path = path.as_os_str().as_bytes().to_vec();
        intake.write(move |db| db.run("INSERT INTO leftover (path) VALUES (?)", &[Value::Blob(&path)]))?;
    }
    intake.recover()?;
    assert!(!free.exists());
    let left = intake.read(|db| db.one("SELECT count(*) FROM leftover", &[], |row| row.int(0)))?;
    assert_eq!(left, Some(1), "the next start tries again");
    Ok(())
}

#[test]
fn small_and_large_deliveries_are_taken_up_apart() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let large = vec![b'x'; usize::try_from(super::SMALL)? + 1];
    let large = accept_one(&intake, delivery(Body::Bytes(large)))?.id;
    let small = [accept_one(&intake, bytes("a"))?.id, accept_one(&intake, bytes("b"))?.id];
    let ids = |claimed: Vec<Claimed>| claimed.iter().map(|one| one.spooled.id).collect::<Vec<_>>();
    assert_eq!(ids(intake.claim(Share::Large, 9)?), [large]);
    assert_eq!(ids(intake.claim(Share::Small, 9)?), small, "the large one is still being read");
    assert!(intake.claim(Share::All, 9)?.is_empty());
    intake.release(large)?;
    assert!(intake.claim(Share::Small, 9)?.is_empty());
    assert!(intake.wait_for_work(Share::Large, Duration::ZERO), "taking up small ones hides no large one");
    Ok(())
}

#[test]
fn accepting_wakes_who_waits_for_work() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    assert!(intake.claim_next()?.is_none());
    assert!(!intake.wait_for_work(Share::All, Duration::from_millis(20)));
    let waiter = intake.clone();
    let waiting = std::thread::spawn(move || waiter.wait_for_work(Share::All, Duration::from_secs(30)));
    accept_one(&intake, bytes("x"))?;
    assert!(waiting.join().map_err(|_| "the waiter panicked")?);
    Ok(())
}

#[test]
fn originals_are_plain_zstd_and_can_be_entered_anywhere() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let body: Vec<u8> = (0_u32..900_000).flat_map(|n| (n % 65_521).to_le_bytes()).collect();
    let receipt = accept_one(&intake, delivery(Body::Bytes(body.clone())))?;
    let claimed = next(&intake)?;
    read_and_retire(&intake, &claimed, true)?;
    let path = archive::path_of(&bench.dir.path().join("state"), receipt.id);
    assert_eq!(zstd::decode_all(std::fs::File::open(&path)?)?, body, "any zstd reads it");
    let mut reader = intake.open_original(receipt.id)?;
    for (offset, length) in
        [(0, 10), (1_048_570, 20), (3_000_001, 7), (2_097_152, 1_048_577), (3_599_990, 99)]
    {
        let end = body.len().min(offset + length);
        let range = reader.read_range(offset as u64, length as u64)?;
        assert!(range == body[offset..end], "{length} bytes at {offset}");
    }
    assert!(reader.read_range(9_999_999, 5)?.is_empty());
    std::fs::OpenOptions::new().write(true).open(&path)?.set_len(1000)?;
    assert!(matches!(intake.open_original(receipt.id), Err(IntakeError::DamagedOriginal { .. })));
    Ok(())
}

#[test]
fn source_states_keep_since_when() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    intake.set_source_state("inbox", SourceHealth::Ok, "")?;
    let first = intake.source_states()?;
    std::thread::sleep(Duration::from_millis(5));
    intake.set_source_state("inbox", SourceHealth::Ok, "two files left alone")?;
    let second = intake.source_states()?;
    assert_eq!(second[0].since, first[0].since);
    assert!(second[0].updated_at > first[0].updated_at);
    intake.set_source_state("inbox", SourceHealth::Stopped, "gone")?;
    let third = intake.source_states()?;
    assert_eq!((third[0].health, third.len()), (SourceHealth::Stopped, 1));
    assert!(third[0].since > first[0].since);
    Ok(())
}

#[test]
fn each_change_of_health_is_one_line_for_the_journal() -> Tested {
    use std::io::Seek as _;
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let file = std::sync::Arc::new(tempfile::tempfile()?);
    let subscriber = tracing_subscriber::fmt().with_writer(file.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || -> Tested {
        intake.set_source_state("inbox", SourceHealth::Ok, "")?;
        intake.set_source_state("inbox", SourceHealth::Stopped, "the folder is gone")?;
        intake.set_source_state("inbox", SourceHealth::Stopped, "the folder is still gone")?;
        intake.set_source_state("inbox", SourceHealth::Ok, "")?;
        Ok(())
    })?;
    let mut log = String::new();
    (&*file).rewind()?;
    (&*file).read_to_string(&mut log)?;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("source inbox is ")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[1].contains("ERROR") && lines[1].contains("is stopped: the folder is gone"), "{log}");
    let id = format!("message_id=\"{}\"", crate::telemetry::SOURCE_STATE_CHANGED);
    assert!(lines.iter().all(|line| line.contains(&id) && line.contains("cdrd_source=\"inbox\"")), "{log}");
    Ok(())
}

#[test]
fn a_spool_of_a_newer_version_is_refused() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    intake.write(|db| {
        db.run(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'later', 1, x'00', 0)",
            &[],
        )
    })?;
    drop(intake);
    assert!(matches!(bench.open(), Err(IntakeError::Layout { .. })));
    Ok(())
}

#[test]
fn many_threads_share_one_door() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let intake = intake.clone();
            std::thread::spawn(move || {
                (0..10).try_for_each(|n| accept_one(&intake, bytes(&format!("{thread}-{n}"))).map(drop))
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a sender panicked")??;
    }
    let mut bodies = std::collections::BTreeSet::new();
    while let Some(claimed) = intake.claim_next()? {
        bodies.insert(body_of(&claimed)?);
    }
    assert_eq!(bodies.len(), 80);
    Ok(())
}

#[test]
fn a_call_that_cannot_be_written_fails_alone() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    intake.write(|db| {
        db.run(
            "CREATE TRIGGER picky BEFORE INSERT ON receipt WHEN NEW.name = 'bad'
             BEGIN SELECT RAISE(ABORT, 'bad'); END",
            &[],
        )
    })?;
    let threads: Vec<_> = (0..6)
        .map(|thread| {
            let intake = intake.clone();
            let name = if thread % 3 == 0 { "bad" } else { "good" };
            std::thread::spawn(move || {
                (0..20)
                    .map(|n| Delivery { name: name.into(), ..bytes(&format!("{thread}-{n}")) })
                    .filter(|delivery| accept_one(&intake, delivery.clone()).is_ok() == (name == "good"))
                    .count()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().map_err(|_| "a sender panicked")?, 20);
    }
    assert_eq!(intake.backlog()?.len(), 80);
    Ok(())
}

/// Holds up the writer until it is let go: whoever calls meanwhile gathers.
fn held(intake: &Intake) -> (std::sync::mpsc::Sender<()>, std::thread::JoinHandle<Result<(), IntakeError>>) {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let (reached, running) = std::sync::mpsc::channel();
    let holder = intake.clone();
    let thread = std::thread::spawn(move || {
        let mut once = Some(gone);
        holder.write(move |_| {
            // Written again because of another's fault, it holds up nobody.
            if let Some(gone) = once.take() {
                let _ = reached.send(());
                let _ = gone.recv();
            }
            Ok(())
        })
    });
    running.recv().expect("the writer runs");
    (go, thread)
}

#[test]
fn callers_that_come_while_one_is_written_share_its_flush() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let before = intake.flushes();
    let (go, holder) = held(&intake);
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let callers: Vec<_> = (0..64)
        .map(|n| {
            let (intake, asked) = (intake.clone(), asked.clone());
            std::thread::spawn(move || {
                let body = bytes(&format!("body {n}"));
                asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                accept_one(&intake, body)
            })
        })
        .collect();
    // All are on their way; the writer takes whoever comes before it commits, and who comes later shares the next.
    while asked.load(std::sync::atomic::Ordering::SeqCst) < 64 {
        std::thread::yield_now();
    }
    go.send(())?;
    holder.join().map_err(|_| "the holder panicked")??;
    for caller in callers {
        caller.join().map_err(|_| "a caller panicked")??;
    }
    assert_eq!(intake.backlog()?.len(), 64);
    let flushes = intake.flushes() - before;
    assert!(flushes <= 32, "{flushes} flushes for 65 writes");
    Ok(())
}

#[test]
fn one_that_fails_is_written_by_nobody_and_fails_nobody_else() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    intake.write(|db| {
        db.run(
            "CREATE TRIGGER picky BEFORE INSERT ON body WHEN NEW.bytes = CAST('bad' AS BLOB)
             BEGIN SELECT RAISE(ABORT, 'bad'); END",
            &[],
        )
    })?;
    let (go, holder) = held(&intake);
    let callers: Vec<_> = (0..12)
        .map(|n| {
            let intake = intake.clone();
            let text = if n % 4 == 1 { "bad".to_owned() } else { format!("good {n}") };
            std::thread::spawn(move || accept_one(&intake, bytes(&text)).is_ok() == (text != "bad"))
        })
        .collect();
    go.send(())?;
    holder.join().map_err(|_| "the holder panicked")??;
    for caller in callers {
        assert!(caller.join().map_err(|_| "a caller panicked")?);
    }
    let receipts = intake.read(|db| {
        db.one("SELECT count(*), (SELECT count(*) FROM body) FROM receipt", &[], |row| {
            (row.int(0), row.int(1))
        })
    })?;
    assert_eq!(receipts, Some((9, 9)), "of what failed nothing stays, not even its receipt");
    Ok(())
}

#[test]
fn what_may_be_lost_is_written_without_a_flush_and_the_next_receipt_flushes() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let level = |db: &mut Prepared<'_>| {
        let statement = db.connection().prepare("PRAGMA synchronous");
        let mut level = 0;
        statement?.each(&[], |row| {
            level = row.int(0);
            Ok::<_, SqlError>(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(level)
    };
    for _ in 0..3 {
        let before = intake.flushes();
        assert_eq!(intake.write_unflushed(level)?, 1, "NORMAL");
        assert_eq!(intake.flushes(), before);
        assert_eq!(intake.write(level)?, 2, "FULL");
        assert_eq!(intake.flushes(), before + 1);
    }
    Ok(())
}

#[test]
fn a_closed_spool_answers_instead_of_waiting() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    accept_one(&intake, bytes("before"))?;
    intake.close();
    assert!(matches!(accept_one(&intake, bytes("after")), Err(IntakeError::Database { .. })));
    assert!(matches!(intake.backlog(), Err(IntakeError::Database { .. })));
    assert_eq!(bench.open()?.backlog()?.len(), 1);
    Ok(())
}

/// What the second process does until it is killed.
#[test]
#[ignore = "started, and killed, by the crash tests"]
fn victim() -> Tested {
    let dir = PathBuf::from(std::env::var_os("CDRD_TEST_DIR").ok_or("not started by a crash test")?);
    let runtime = runtime()?;
    let intake = open_at(&dir, runtime.handle().clone())?;
    intake.recover()?;
    let inbox = dir.join("inbox");
    let claimed =
        |name: &str| delivery(Body::Claimed { path: inbox.join(name), claim_dir: inbox.join(".cdrd") });
    let copied = delivery(Body::Copied(inbox.join("large.csv")));
    if inbox.join("a.csv").exists() {
        let answers = intake.accept(vec![claimed("a.csv"), claimed("b.csv"), copied], None)?;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    while let Some(claimed) = intake.claim_next()? {
        read_and_retire(&intake, &claimed, true)?;
    }
    Ok(())
}

/// Runs the victim; `Some` place kills it there.
fn run_victim(bench: &Bench, crash: Option<&str>) -> Result<std::process::ExitStatus, std::io::Error> {
    run_process(bench, "victim", crash)
}

fn run_process(
    bench: &Bench,
    test: &str,
    crash: Option<&str>,
) -> Result<std::process::ExitStatus, std::io::Error> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args([&format!("intake::tests::{test}"), "--exact", "--ignored", "--quiet"]);
    command.env("CDRD_TEST_DIR", bench.dir.path()).env("CDRD_CRASH", crash.unwrap_or("nowhere"));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status()
}

#[test]
fn after_a_kill_at_any_place_nothing_is_lost_and_nothing_is_left_behind() -> Tested {
    let large = "l".repeat(200_000);
    for place in [
        "accept-temporary",
        "accept-claiming",
        "accept-renamed",
        "accept-durable",
        "retire-linked",
        "retire-forgotten",
        "retire-unlinked",
        "retire-linked:3",
        "retire-forgotten:3",
        "retire-unlinked:3",
    ] {
        let bench = Bench::new()?;
        bench.put("a.csv", b"aaa")?;
        bench.put("b.csv", b"bbb")?;
        bench.put("large.csv", large.as_bytes())?;
        let killed = run_victim(&bench, Some(place))?;
        assert_eq!(killed.signal(), Some(9), "{place}");
        let rest = run_victim(&bench, None)?;
        assert!(rest.success(), "{place}");

        let intake = bench.open()?;
        intake.recover()?;
        assert!(intake.backlog()?.is_empty(), "{place}");
        let (originals, others): (Vec<_>, Vec<_>) = bench.files()?.into_iter().partition(is_original);
        assert_eq!(others, ["inbox/large.csv"], "{place}");
        let mut bodies = std::collections::BTreeSet::new();
        for name in &originals {
            let id = Path::new(name.as_str()).file_stem().and_then(|stem| stem.to_str()).ok_or("no name")?;
            bodies.insert(original(&intake, id.parse()?)?);
        }
        let mut expected: std::collections::BTreeSet<_> = [b"aaa".to_vec(), b"bbb".to_vec()].into();
        // Claims that were renamed are finished. A copy without a receipt was not acknowledged: its source still has
        // it and sends it again, which the victim's second life does only while there is something to claim.
        if place != "accept-renamed" {
            expected.insert(large.clone().into_bytes());
        }
        assert_eq!(bodies, expected, "{place}");
        assert_eq!(originals.len(), expected.len(), "{place}: nothing was archived twice");
    }
    Ok(())
}

/// A source that tells its senders by files beside theirs, as an SFTP account does: `NAME.ok`, or `NAME.err` with reasons.
struct Toy {
    folder: PathBuf,
    /// Names whose sender cannot be reached now.
    away: Vec<String>,
    told: Vec<String>,
}

impl Toy {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), away: Vec::new(), told: Vec::new() }
    }
}

impl Feedback for Toy {
    fn tell(&mut self, outcome: &DeliveryOutcome) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.away.contains(&outcome.name) {
            return Err(format!("{} is away", outcome.name).into());
        }
        let verdict = &outcome.verdict;
        let (end, text) = if verdict.is_clean() {
            ("ok", format!("{} stored\n", verdict.counts.stored))
        } else {
            let note = |note: &RejectionNote| {
                format!("row {} at {}: {} {:?}\n", note.row, note.offset, note.reason, note.field)
            };
            ("err", verdict.rejections.iter().map(note).collect())
        };
        std::fs::write(self.folder.join(format!("{}.{end}", outcome.name)), text)?;
        let mut log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("told.log"))?;
        writeln!(log, "{}", outcome.name)?;
        self.told.push(outcome.name.clone());
        Ok(())
    }
}

fn named(name: &str) -> (Delivery, Option<Bookmark>) {
    (Delivery { name: name.into(), account: Some("pbx-hq".into()), ..bytes(name) }, None)
}

fn retire_with(intake: &Intake, claimed: &Claimed) -> Tested {
    let bad = claimed.spooled.name == "bad.csv";
    let note = RejectionNote {
        document: String::new(),
        row: 3,
        offset: 120,
        length: 40,
        field: Some("start".into()),
        reason: "start_invalid".into(),
        message: "no time".into(),
    };
    let verdict = Verdict {
        state: if bad { "done_with_rejects" } else { "done" }.into(),
        counts: Counts {
            rows_read: 3,
            stored: 3 - u64::from(bad),
            rejected: u64::from(bad),
            ..Counts::default()
        },
        rejected_documents: 0,
        rejections: if bad { vec![note] } else { Vec::new() },
    };
    Ok(intake.retire(claimed.spooled.id, Retirement { verdict, clean: !bad, ..nothing() })?)
}

#[test]
fn outcomes_are_told_until_they_are_confirmed_and_only_to_sources_that_asked() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let (bell, rung) = std::sync::mpsc::channel();
    intake.ring_for_outcomes("inbox", bell);
    accept_one(&intake, bytes("nobody asked"))?;
    retire_with(&intake, &next(&intake)?)?;
    assert!(rung.try_recv().is_err());
    for answer in intake.accept_and_tell(vec![named("good.csv"), named("bad.csv"), named("away.csv")])? {
        answer?;
    }
    while let Some(claimed) = intake.claim_next()? {
        retire_with(&intake, &claimed)?;
    }
    assert!(rung.try_recv().is_ok(), "the source need not wait for its next look");
    assert!(intake.outcomes("other", None, 9)?.is_empty());
    let open = intake.outcomes("inbox", None, 9)?;
    assert_eq!(open.len(), 3);
    assert_eq!((open[1].name.as_str(), open[1].account.as_deref()), ("bad.csv", Some("pbx-hq")));
    assert_eq!(open[1].verdict.rejections[0].row, 3);
    drop(intake);

    let intake = bench.open()?;
    intake.recover()?;
    let mut toy = Toy { away: vec!["away.csv".into()], ..Toy::new(&bench.inbox()) };
    let told = intake.tell_outcomes("inbox", &mut toy)?;
    assert_eq!((told.confirmed, told.failed), (2, 1), "one sender away holds up nobody");
    assert_eq!(told.failure.as_deref(), Some("away.csv is away"));
    toy.away.clear();
    assert_eq!(intake.tell_outcomes("inbox", &mut toy)?.confirmed, 1);
    assert_eq!(intake.tell_outcomes("inbox", &mut toy)?, Told::default());
    assert_eq!(toy.told, ["good.csv", "bad.csv", "away.csv"]);
    assert_eq!(std::fs::read_to_string(bench.inbox().join("good.csv.ok"))?, "3 stored\n");
    let reasons = std::fs::read_to_string(bench.inbox().join("bad.csv.err"))?;
    assert_eq!(reasons, "row 3 at 120: start_invalid Some(\"start\")\n");
    Ok(())
}

/// A source's process: what waits is brought to its end, then its senders are told.
#[test]
#[ignore = "started, and killed, by the crash test of feedback"]
fn telling_victim() -> Tested {
    let dir = PathBuf::from(std::env::var_os("CDRD_TEST_DIR").ok_or("not started by a crash test")?);
    let runtime = runtime()?;
    let intake = open_at(&dir, runtime.handle().clone())?;
    intake.recover()?;
    while let Some(claimed) = intake.claim_next()? {
        retire_with(&intake, &claimed)?;
    }
    intake.tell_outcomes("inbox", &mut Toy::new(&dir.join("inbox")))?;
    Ok(())
}

#[test]
fn killed_between_outcome_and_confirmation_it_is_told_again_and_never_skipped() -> Tested {
    let names = ["1.csv", "bad.csv", "3.csv"];
    for (place, again) in [
        ("retire-forgotten", 0),
        ("retire-forgotten:2", 0),
        ("retire-unlinked:3", 0),
        ("outcome-told", 1),
        ("outcome-told:2", 2),
        ("outcome-told:3", 3),
    ] {
        let bench = Bench::new()?;
        for answer in bench.open()?.accept_and_tell(names.map(named).to_vec())? {
            answer?;
        }
        let run = |crash: Option<&str>| run_process(&bench, "telling_victim", crash);
        assert_eq!(run(Some(place))?.signal(), Some(9), "{place}");
        assert!(run(None)?.success(), "{place}");
        assert!(run(None)?.success(), "{place}");
        let log = std::fs::read_to_string(bench.inbox().join("told.log"))?;
        assert_eq!(log.lines().count(), names.len() + again, "{place}: {log}");
        for end in ["1.csv.ok", "bad.csv.err", "3.csv.ok"] {
            assert!(bench.inbox().join(end).exists(), "{place}: {end}");
        }
        assert!(bench.open()?.outcomes("inbox", None, 9)?.is_empty(), "{place}");
    }
    Ok(())
}

#[test]
fn half_files_are_swept_and_interrupted_reading_waits_again() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    let receipt = accept_one(&intake, bytes("x"))?;
    next(&intake)?;
    let mut writer = intake.original(receipt.id)?;
    writer.write_all(b"x")?;
    let sealed = writer.finish()?;
    assert!(sealed.part.exists());
    std::fs::write(bench.dir.path().join("state/spool/half.part"), b"x")?;
    drop(intake);
    let intake = bench.open()?;
    let recovered = intake.recover()?;
    assert_eq!(recovered, Recovered { waiting: 1, interrupted: 1, swept: 2, ..Recovered::default() });
    assert!(bench.files()?.is_empty());
    assert_eq!(body_of(&next(&intake)?)?, b"x");
    Ok(())
}

#[test]
fn a_call_that_failed_half_way_is_settled_by_the_next_one() -> Tested {
    let bench = Bench::new()?;
    let intake = bench.open()?;
    // The last transaction fails, after the rename: the receipt's completion violates a trigger.
    intake.write(|db| db.run("CREATE TRIGGER shut BEFORE UPDATE ON receipt WHEN NEW.state = 'waiting' AND OLD.state = 'claiming'
             BEGIN SELECT RAISE(ABORT, 'shut'); END", &[]))?;
    let claim = bench.claim("a.csv", b"aaa")?;
    let large = bytes(&"l".repeat(100_000));
    assert!(intake.accept(vec![claim, large], None).is_err());
    intake.write(|db| db.run("DROP TRIGGER shut", &[]))?;
    accept_one(&intake, bytes("next"))?;
    assert_eq!(body_of(&next(&intake)?)?, b"aaa");
    assert_eq!(body_of(&next(&intake)?)?, b"next");
    assert_eq!(std::fs::read_dir(bench.dir.path().join("state/spool"))?.count(), 0);
    Ok(())
}
