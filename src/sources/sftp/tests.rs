//! The server without its transport: requests in, answers out, and what the door received.

use super::account::{Account, Source};
use super::entry::{Entry, Kind};
use super::place::{Memory, Place};
use super::requests::Requests;
use super::upload::IN_MEMORY;
use super::{AccountSettings, Network, Server, ago, restore};
use crate::intake::{self, Intake, Share};
use crate::record::delivery::{Spooled, SpooledBody};
use russh_sftp::protocol::{
    Close, Data, FSetStat, FileAttributes, Open, OpenDir, OpenFlags, Packet, Read, ReadDir, Remove, Rename,
    Stat, StatusCode, Write,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const ANEW: u32 = 26;
/// As scp has it: what is there stays until it is overwritten.
const OVER: u32 = 10;

/// A door, and an account before it.
struct Bench {
    dir: tempfile::TempDir,
    intake: Intake,
    account: Arc<Account>,
    _runtime: tokio::runtime::Runtime,
}

fn settings() -> AccountSettings {
    AccountSettings {
        user: "hq".to_owned(),
        origin: "pbx".to_owned(),
        password: None,
        keys: Vec::new(),
        networks: Vec::new(),
        quota: 10 << 20,
        max_file: 5 << 20,
        sha1_signatures: false,
        reading: [0; 16],
        trouble: None,
    }
}

fn config(dir: &std::path::Path, marker: Option<&str>) -> super::Config {
    super::Config {
        name: "push".to_owned(),
        state_dir: dir.to_owned(),
        listen: Vec::new(),
        accounts: vec![settings()],
        feedback: false,
        marker: marker.map(str::to_owned),
        shown_for: Duration::from_hours(1),
        partial_for: Duration::from_hours(1),
        idle: Duration::from_mins(1),
        connections: 1,
        connections_per_address: 1,
        legacy_algorithms: false,
        pinned_format: None,
    }
}

impl Bench {
    fn new(marker: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let door = intake::Config { reserve_bytes: 0, reserve_percent: 0, ..intake::Config::default() };
        let intake = Intake::open(dir.path(), door, runtime.handle().clone()).expect("it opens");
        let account = Self::account(&dir, &intake, marker);
        Self { dir, intake, account, _runtime: runtime }
    }

    /// The account as a start of the daemon finds it.
    fn account(dir: &tempfile::TempDir, intake: &Intake, marker: Option<&str>) -> Arc<Account> {
        let server = Server::new(config(dir.path(), marker), intake.clone());
        Arc::new(server.accounts().expect("the spool can be read").pop().expect("one account"))
    }

    fn restarted(&mut self, marker: Option<&str>) {
        self.account = Self::account(&self.dir, &self.intake, marker);
    }

    fn session(&self) -> Session {
        Session(Requests::new(self.account.clone(), IpAddr::from([192, 0, 2, 1])))
    }

    /// Name and bytes of everything that was received and not looked at yet.
    fn received(&self) -> Vec<(String, Vec<u8>)> {
        let claimed = self.intake.claim(Share::All, 100).expect("the spool can be read");
        claimed
            .into_iter()
            .map(|claimed| (claimed.spooled.name.clone(), bytes_of(&claimed.spooled)))
            .collect()
    }

    /// Files that are neither received nor remembered.
    fn files(&self) -> usize {
        std::fs::read_dir(&self.account.place.partial).map_or(0, Iterator::count)
    }
}

fn bytes_of(spooled: &Spooled) -> Vec<u8> {
    match &spooled.body {
        SpooledBody::Bytes(bytes) => bytes.clone(),
        SpooledBody::File { path, .. } => std::fs::read(path).expect("it is there"),
    }
}

/// A session whose client asks one thing after the other.
struct Session(Requests);

impl Session {
    fn code(&mut self, request: impl Into<Packet>) -> StatusCode {
        match self.0.answer(request.into()) {
            Packet::Status(status) => status.status_code,
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, name: &str, flags: u32) -> Result<String, StatusCode> {
        let pflags = OpenFlags::from_bits_truncate(flags);
        let open = Open { id: 1, filename: name.to_owned(), pflags, attrs: FileAttributes::default() };
        match self.0.answer(open.into()) {
            Packet::Handle(handle) => Ok(handle.handle),
            Packet::Status(status) => Err(status.status_code),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, handle: &str, offset: u64, data: &[u8]) -> StatusCode {
        self.code(Write { id: 2, handle: handle.to_owned(), offset, data: data.to_vec() })
    }

    fn close(&mut self, handle: &str) -> StatusCode {
        self.code(Close { id: 3, handle: handle.to_owned() })
    }

    fn cut(&mut self, handle: &str, size: u64) -> StatusCode {
        let attrs = FileAttributes { size: Some(size), ..FileAttributes::default() };
        self.code(FSetStat { id: 4, handle: handle.to_owned(), attrs })
    }

    fn rename(&mut self, from: &str, to: &str) -> StatusCode {
        self.code(Rename { id: 5, oldpath: from.to_owned(), newpath: to.to_owned() })
    }

    fn remove(&mut self, name: &str) -> StatusCode {
        self.code(Remove { id: 6, filename: name.to_owned() })
    }

    fn size(&mut self, name: &str) -> Option<u64> {
        match self.0.answer(Stat { id: 7, path: name.to_owned() }.into()) {
            Packet::Attrs(attrs) => attrs.attrs.size,
            _ => None,
        }
    }

    fn names(&mut self, folder: &str) -> Vec<String> {
        let Packet::Handle(handle) = self.0.answer(OpenDir { id: 8, path: folder.to_owned() }.into()) else {
            return vec!["refused".to_owned()];
        };
        let mut names = Vec::new();
        while let Packet::Name(more) = self.0.answer(ReadDir { id: 9, handle: handle.handle.clone() }.into())
        {
            names.extend(more.files.into_iter().map(|file| file.filename));
        }
        names
    }

    fn fetch(&mut self, name: &str) -> Vec<u8> {
        let handle = self.open(name, 1).expect("it can be read");
        let mut bytes = Vec::new();
        loop {
            let read = Read { id: 10, handle: handle.clone(), offset: bytes.len() as u64, len: 1000 };
            match self.0.answer(read.into()) {
                Packet::Data(Data { data, .. }) => bytes.extend(data),
                _ => return bytes,
            }
        }
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> StatusCode {
        let handle = self.open(name, ANEW).expect("it can be written");
        for (place, piece) in bytes.chunks(30_000).enumerate() {
            assert_eq!(self.write(&handle, place as u64 * 30_000, piece), StatusCode::Ok);
        }
        self.close(&handle)
    }
}

/// Bytes that are nowhere alike.
fn bytes(length: u64) -> Vec<u8> {
    (0..length).map(|place| (place ^ (place >> 8) ^ (place >> 16)).to_le_bytes()[0]).collect()
}

#[test]
fn a_close_is_a_delivery_whether_small_or_large() {
    let bench = Bench::new(None);
    let mut session = bench.session();
    let (small, large) = (bytes(1000), bytes(IN_MEMORY + 12_345));
    assert_eq!(session.put("/a.csv", &small), StatusCode::Ok);
    assert_eq!(session.put("d/large.csv", &large), StatusCode::Ok);
    assert_eq!(
        bench.received(),
        [("a.csv".to_owned(), small.clone()), ("d/large.csv".to_owned(), large.clone())]
    );
    assert_eq!(session.names("/"), ["a.csv", "d"]);
    assert_eq!(
        (session.size("/a.csv"), session.size("/d/large.csv")),
        (Some(1000), Some(IN_MEMORY + 12_345))
    );
    assert_eq!(session.fetch("d/large.csv"), large);
    assert_eq!(bench.files(), 0, "the upload is the file of the spool");
    // What was received stays received.
    assert_eq!(session.remove("a.csv"), StatusCode::Ok);
    assert_eq!(session.names("/"), ["d"]);
    assert_eq!(bench.intake.backlog().expect("it can be read").len(), 2);
}

#[test]
fn an_overwrite_without_truncating_is_cut_where_the_client_says() {
    let bench = Bench::new(None);
    let mut session = bench.session();
    let old = bytes(5000);
    session.put("a.csv", &old);
    // Shorter, with the size at the end.
    let handle = session.open("a.csv", OVER).expect("it can be written");
    assert_eq!(session.write(&handle, 0, b"short"), StatusCode::Ok);
    assert_eq!(session.cut(&handle, 5), StatusCode::Ok);
    assert_eq!(session.close(&handle), StatusCode::Ok);
    // Shorter, without: the end of the old file is the end of the new one, as on any disk.
    session.put("b.csv", &old);
    let handle = session.open("b.csv", OVER).expect("it can be written");
    assert_eq!(session.write(&handle, 0, b"short"), StatusCode::Ok);
    assert_eq!(session.close(&handle), StatusCode::Ok);
    // Continued behind its end.
    let handle = session.open("b.csv", 6).expect("it can be written");
    assert_eq!(session.write(&handle, 5000, b"more"), StatusCode::Ok);
    assert_eq!(session.close(&handle), StatusCode::Ok);
    let received = bench.received();
    let sizes: Vec<usize> = received.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(sizes, [5000, 5, 5000, 5000, 5004]);
    assert_eq!(received[1].1, b"short");
    assert_eq!(received[3].1, [b"short", &old[5..]].concat());
    assert_eq!(received[4].1, [b"short", &old[5..], b"more"].concat());
}

#[test]
fn bytes_that_were_never_sent_are_no_file() {
    let bench = Bench::new(None);
    let mut session = bench.session();
    for size in [10_u64, IN_MEMORY * 2] {
        let handle = session.open("a.csv", ANEW).expect("it can be written");
        assert_eq!(session.write(&handle, 0, b"begin"), StatusCode::Ok);
        assert_eq!(session.write(&handle, size, b"end"), StatusCode::Ok);
        assert_eq!(session.close(&handle), StatusCode::Failure);
        assert_eq!(session.size("a.csv"), Some(4), "what came without a gap, but for its last byte");
    }
    // Out of order is well, if all of it comes.
    let handle = session.open("b.csv", ANEW).expect("it can be written");
    for (offset, piece) in [(4, b"ef"), (0, b"ab"), (2, b"cd"), (4, b"EF")] {
        assert_eq!(session.write(&handle, offset, piece), StatusCode::Ok);
    }
    assert_eq!(session.close(&handle), StatusCode::Ok);
    assert_eq!(bench.received(), [("b.csv".to_owned(), b"abcdEF".to_vec())]);
}

#[test]
fn an_upload_that_breaks_off_is_never_read_and_can_be_resumed() {
    let mut bench = Bench::new(None);
    let whole = bytes(IN_MEMORY * 2);
    for (name, begun) in [("small.csv", 1000), ("large.csv", IN_MEMORY + 1000)] {
        let mut session = bench.session();
        let handle = session.open(name, ANEW).expect("it can be written");
        let begun = usize::try_from(begun).expect("it is small");
        for (place, piece) in whole[..begun].chunks(30_000).enumerate() {
            assert_eq!(session.write(&handle, place as u64 * 30_000, piece), StatusCode::Ok);
        }
        session.0.end();
        assert!(bench.received().is_empty(), "it is no delivery");
        // It is there after a restart too, and never of the size that was sent: a client that compares sizes must not
        // take it for whole.
        bench.restarted(None);
        let mut session = bench.session();
        assert_eq!(session.size(name), Some(begun as u64 - 1));
        assert_eq!(session.rename(name, "other.csv"), StatusCode::Failure, "half a file is not renamed");
        let handle = session.open(name, OVER).expect("it can be continued");
        assert_eq!(session.write(&handle, begun as u64 - 1, &whole[begun - 1..]), StatusCode::Ok);
        assert_eq!(session.close(&handle), StatusCode::Ok);
        assert_eq!(bench.received(), [(name.to_owned(), whole.clone())]);
        assert_eq!(bench.files(), 0);
    }
}

#[test]
fn a_second_connection_takes_an_upload_over_from_one_that_is_dead() {
    let bench = Bench::new(None);
    let (mut dead, mut alive) = (bench.session(), bench.session());
    let old = dead.open("a.csv", ANEW).expect("it can be written");
    assert_eq!(dead.write(&old, 0, b"abc"), StatusCode::Ok);
    assert_eq!(alive.size("a.csv"), Some(3));
    let new = alive.open("a.csv", OVER).expect("it can be continued");
    assert_eq!(alive.write(&new, 3, b"def"), StatusCode::Ok);
    assert_eq!(dead.write(&old, 3, b"xyz"), StatusCode::Failure);
    assert_eq!(dead.close(&old), StatusCode::Failure);
    dead.0.end();
    assert_eq!(alive.close(&new), StatusCode::Ok);
    assert_eq!(bench.received(), [("a.csv".to_owned(), b"abcdef".to_vec())]);
}

#[test]
fn a_rename_of_an_unfinished_name_is_the_moment() {
    let mut bench = Bench::new(None);
    let mut session = bench.session();
    for (place, bytes) in [bytes(100), bytes(IN_MEMORY + 100)].into_iter().enumerate() {
        let (part, name) = (format!("a{place}.csv.filepart"), format!("a{place}.csv"));
        assert_eq!(session.put(&part, &bytes), StatusCode::Ok);
        assert!(bench.received().is_empty());
        // It was acknowledged: no restart loses it, and it does not grow old.
        bench.restarted(None);
        bench.account.expire(i64::MIN, i64::MAX);
        assert_eq!(bench.account.unfinished(i64::MAX), std::slice::from_ref(&part));
        session = bench.session();
        assert_eq!(session.fetch(&part), bytes);
        assert_eq!(session.rename(&part, &name), StatusCode::Ok);
        assert_eq!(bench.received(), [(name.clone(), bytes)]);
        assert_eq!(session.rename(&part, &name), StatusCode::NoSuchFile);
        assert!(bench.account.unfinished(i64::MAX).is_empty());
    }
    assert_eq!(session.names("/"), ["a0.csv", "a1.csv"]);
    assert_eq!(bench.files(), 0);
    // Over an existing name only by those who say so.
    session.put("b.tmp", b"b");
    assert_eq!(session.rename("b.tmp", "a0.csv"), StatusCode::Failure);
    assert_eq!(session.rename("a0.csv", "a2.csv"), StatusCode::Ok);
    assert!(bench.received().is_empty(), "what was received is only called otherwise");
}

#[test]
fn what_was_acknowledged_is_not_lost_by_a_second_try_that_breaks_off() {
    let bench = Bench::new(None);
    let mut session = bench.session();
    assert_eq!(session.put("a.tmp", b"first"), StatusCode::Ok);
    let handle = session.open("a.tmp", ANEW).expect("it can be written");
    assert_eq!(session.write(&handle, 0, b"sec"), StatusCode::Ok);
    session.0.end();
    let mut session = bench.session();
    assert_eq!(session.fetch("a.tmp"), b"first");
    // Continued and broken off, it keeps what it had and what came.
    let handle = session.open("a.tmp", OVER).expect("it can be continued");
    assert_eq!(session.write(&handle, 5, b" and more"), StatusCode::Ok);
    session.0.end();
    let mut session = bench.session();
    assert_eq!(session.fetch("a.tmp"), b"first and more");
    assert_eq!(session.put("a.tmp", b"third"), StatusCode::Ok);
    assert_eq!(session.rename("a.tmp", "a.csv"), StatusCode::Ok);
    assert_eq!(bench.received(), [("a.csv".to_owned(), b"third".to_vec())]);
    assert_eq!(bench.files(), 0);
}

#[test]
fn a_marker_says_that_its_neighbour_is_finished() {
    let mut bench = Bench::new(Some(".FIN"));
    let mut session = bench.session();
    assert_eq!(session.put("a.csv", b"rows"), StatusCode::Ok);
    bench.restarted(Some(".FIN"));
    session = bench.session();
    assert!(bench.received().is_empty());
    assert_eq!(session.put("a.csv.FIN", b""), StatusCode::Ok);
    assert_eq!(bench.received(), [("a.csv".to_owned(), b"rows".to_vec())]);
    assert_eq!(session.names("/"), ["a.csv", "a.csv.FIN"]);
    // The next file of this name waits for its own marker.
    assert_eq!(session.put("a.csv", b"news"), StatusCode::Ok);
    assert!(bench.received().is_empty());
    assert_eq!(session.put("a.csv.FIN", b""), StatusCode::Ok);
    assert_eq!(bench.received(), [("a.csv".to_owned(), b"news".to_vec())]);
    // One that comes first counts for the file that follows.
    assert_eq!(session.put("b.csv.FIN", b""), StatusCode::Ok);
    assert_eq!(session.put("b.csv", b"late"), StatusCode::Ok);
    assert_eq!(bench.received(), [("b.csv".to_owned(), b"late".to_vec())]);
}

#[test]
fn quota_and_size_are_kept_and_probes_are_welcome() {
    let bench = Bench::new(None);
    let mut session = bench.session();
    let handle = session.open("large.csv", ANEW).expect("it can be written");
    assert_eq!(session.write(&handle, (5 << 20) - 1, b"x"), StatusCode::Ok);
    assert_eq!(session.write(&handle, 5 << 20, b"x"), StatusCode::Failure, "max_file");
    assert_eq!(session.write(&handle, u64::MAX, b"x"), StatusCode::Failure);
    assert_eq!(session.cut(&handle, u64::MAX), StatusCode::Failure);
    session.0.end();
    let mut session = bench.session();
    for number in 0..2 {
        assert_eq!(session.put(&format!("{number}.tmp"), &bytes(4 << 20)), StatusCode::Ok);
    }
    let handle = session.open("third.tmp", ANEW).expect("it can be written");
    assert_eq!(session.write(&handle, 3 << 20, b"x"), StatusCode::Failure, "quota");
    session.0.end();
    let mut session = bench.session();
    assert_eq!(session.remove("0.tmp"), StatusCode::Ok);
    assert_eq!(session.put("third.tmp", &bytes(4 << 20)), StatusCode::Ok);
    assert_eq!(session.put("probe", b""), StatusCode::Ok);
    assert_eq!(session.remove("probe"), StatusCode::Ok);
    assert_eq!(session.size("probe"), None);
}

#[test]
fn the_picture_grows_old_and_what_waits_does_not() {
    let bench = Bench::new(None);
    let mut session = bench.session();
    session.put("a.csv", b"a");
    session.put("b.tmp", b"b");
    let handle = session.open("c.csv", ANEW).expect("it can be written");
    session.write(&handle, 0, b"ccc");
    session.0.end();
    bench.account.expire(ago(Duration::from_hours(1)), ago(Duration::from_hours(1)));
    assert_eq!(bench.session().names("/"), ["a.csv", "b.tmp", "c.csv"]);
    bench.account.expire(i64::MAX, i64::MAX);
    assert_eq!(bench.session().names("/"), ["b.tmp"]);
    assert_eq!(bench.files(), 1);
}

#[test]
fn a_power_cut_spares_nothing_that_was_not_flushed() {
    let bench = Bench::new(None);
    let place = &bench.account.place;
    let write = |bytes: u64, boot: Option<&str>| {
        let (file, name) = place.create().expect("it can be made");
        file.set_len(10).expect("it can be cut");
        let entry = Entry::new(Kind::Partial(name), bytes, None);
        let text = entry.to_text(boot).expect("it is written down");
        restore(place, Entry::from_text(&text).expect("it reads back"), "this start").map(|entry| entry.bytes)
    };
    assert_eq!(write(7, None), Some(7), "it was flushed");
    assert_eq!(write(u64::MAX, Some("this start")), Some(9), "the process died, not the host");
    assert_eq!(write(u64::MAX, Some("the start before")), None);
    let gone = Entry::new(Kind::Unfinished(ulid::Ulid::new().to_string()), 5, None).to_text(None);
    let gone = Entry::from_text(&gone.expect("it is written down")).expect("it reads back");
    assert!(restore(place, gone, "this start").is_none(), "it was received meanwhile");
}

#[test]
fn files_that_nobody_remembers_are_swept() {
    let mut bench = Bench::new(None);
    bench.session().put("keep.tmp", b"kept");
    let (_, name) = bench.account.place.create().expect("it can be made");
    assert!(bench.account.place.partial.join(&name).exists());
    bench.restarted(None);
    assert_eq!(bench.files(), 1);
    assert_eq!(bench.session().fetch("keep.tmp"), b"kept");
}

#[test]
fn an_account_sees_its_own_files_alone() {
    let bench = Bench::new(None);
    bench.session().put("a.csv", b"a");
    let memory = Arc::new(Memory::default());
    let folder = bench.dir.path().join("sftp/source-push");
    let place = Place::make(&bench.intake, "push", &folder, "other", memory).expect("it can be made");
    let source = Source {
        name: "push".to_owned(),
        pinned_format: None,
        marker: None,
        feedback: false,
        boot: String::new(),
    };
    let other = AccountSettings { user: "other".to_owned(), ..settings() };
    let other = Account::new(other, source, place, bench.intake.clone(), Vec::new());
    let mut other = Session(Requests::new(Arc::new(other), IpAddr::from([192, 0, 2, 2])));
    assert!(other.names("/").is_empty());
    for path in ["a.csv", "../hq/a.csv", "/../../hq/a.csv", "/sftp/source-push/partial/hq"] {
        assert_eq!(other.size(path), None, "{path}");
        assert_eq!(other.open(path, 1), Err(StatusCode::NoSuchFile), "{path}");
    }
    assert_eq!(bench.session().names("/.."), ["a.csv"], "above the root is the root");
}

#[test]
fn handles_have_an_end() {
    let bench = Bench::new(None);
    let mut session = bench.session();
    let opened = (0..10_000).map_while(|number| session.open(&format!("{number}.csv"), ANEW).ok()).count();
    assert_eq!(opened, 128);
    assert_eq!(session.close("nonsense"), StatusCode::Failure);
    session.0.end();
    assert!(bench.session().names("/").is_empty(), "nothing came");
}

#[test]
fn networks_hold_addresses_that_begin_alike() {
    let network = |address: &str, bits| Network { address: address.parse().expect("an address"), bits };
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    assert!(network("192.0.2.0", 24).holds(address("192.0.2.200")));
    assert!(network("192.0.2.0", 24).holds(address("::ffff:192.0.2.200")), "the same by IPv6");
    assert!(!network("192.0.2.0", 24).holds(address("192.0.3.1")));
    assert!(network("0.0.0.0", 0).holds(address("203.0.113.9")));
    assert!(!network("0.0.0.0", 0).holds(address("2001:db8::1")));
    assert!(network("2001:db8::", 32).holds(address("2001:db8:ffff::1")));
    assert!(!network("2001:db8::1", 128).holds(address("2001:db8::2")));
}

#[test]
fn a_small_file_costs_one_flush_and_what_clients_do_around_it_none() {
    let bench = Bench::new(None);
    let mut session = bench.session();
    let before = bench.intake.flushes();
    for number in 0..20 {
        let name = format!("{number}.csv");
        assert_eq!(session.put(&name, &bytes(500)), StatusCode::Ok);
        assert_eq!(session.size(&name), Some(500));
        assert!(session.names("/").contains(&name));
        assert_eq!(session.rename(&name, &format!("sent-{name}")), StatusCode::Ok);
    }
    assert_eq!(bench.intake.flushes() - before, 20);
}

#[test]
fn receipts_of_sessions_side_by_side_share_their_flushes() {
    let bench = Bench::new(None);
    let before = bench.intake.flushes();
    std::thread::scope(|scope| {
        for sender in 0..8 {
            let mut session = bench.session();
            scope.spawn(move || {
                for number in 0..25 {
                    assert_eq!(session.put(&format!("{sender}-{number}.csv"), &bytes(500)), StatusCode::Ok);
                }
            });
        }
    });
    assert_eq!(bench.session().names("/").len(), 200);
    assert!(bench.intake.flushes() - before <= 200);
    assert_eq!(bench.received().len(), 100, "as many as are asked for at once");
}
