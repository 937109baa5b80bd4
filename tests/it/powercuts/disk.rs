//! A disk as POSIX promises it and no better: what a file holds survives a power cut once the file was flushed, a name once
//! its folder was. A rename changes two folders, and each of the two is durable by itself; only that a file which had a
//! name is not left without any is taken for granted, as every file system with a journal does. What was not flushed may
//! be there, torn at any sector, or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The smallest piece that a disk writes whole.
const SECTOR: usize = 512;

/// What may be lost in any case: SQLite makes its index of the log anew.
const SKIPPED: [&str; 3] = ["log.txt", "cdr.db-shm", "spool.db-shm"];

/// An entry of the shim's log.
#[derive(Debug, Clone)]
pub struct Entry {
    pub op: Op,
    pub path: PathBuf,
    pub other: PathBuf,
    pub offset: u64,
    pub data: Vec<u8>,
}

/// What happened; the first eleven as `shim.c` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Write,
    Sync,
    Rename,
    Link,
    Unlink,
    Create,
    Mkdir,
    Truncate,
    SyncAll,
    /// Somebody else put a finished file there, which lies at `other` too, for good.
    Put,
    /// Somebody else removed a file, for good.
    Take,
    /// Somebody else appended to a file, for good.
    Append,
}

impl Op {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Write,
            1 => Self::Sync,
            2 => Self::Rename,
            3 => Self::Link,
            4 | 10 => Self::Unlink,
            5 => Self::Create,
            6 => Self::Mkdir,
            7 => Self::Truncate,
            9 => Self::SyncAll,
            100 => Self::Put,
            101 => Self::Take,
            102 => Self::Append,
            _ => return None,
        })
    }
}

/// The bytes of an entry, for what the test does itself.
pub fn entry(op: u8, path: &Path, other: &Path, offset: u64, data: &[u8]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let (path, other) = (path.as_os_str().as_bytes(), other.as_os_str().as_bytes());
    let narrow = |bytes: &[u8]| u16::try_from(bytes.len()).expect("a path is short").to_le_bytes();
    let mut bytes = vec![op];
    bytes.extend(narrow(path));
    bytes.extend(narrow(other));
    bytes.extend(offset.to_le_bytes());
    bytes.extend((data.len() as u64).to_le_bytes());
    bytes.extend([path, other, data].concat());
    bytes
}

/// Reads the whole log.
pub fn entries(log: &[u8]) -> Vec<Entry> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mut entries = Vec::new();
    let mut rest = log;
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(taken)
    };
    while let Some(head) = take(21) {
        let short = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let wide = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let path = PathBuf::from(OsStr::from_bytes(take(short(1)).expect("a whole entry")));
        let other = PathBuf::from(OsStr::from_bytes(take(short(3)).expect("a whole entry")));
        let op = Op::of(head[0]).expect("a known entry");
        let length = usize::try_from(wide(13)).expect("it fits");
        let data = take(length).expect("a whole entry").to_vec();
        if !SKIPPED.iter().any(|skip| path.ends_with(skip)) {
            entries.push(Entry { op, path, other, offset: wide(5), data });
        }
    }
    entries
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone)]
struct Node {
    folder: bool,
    /// It had a name that a power cut leaves.
    named: bool,
    /// Where the same file lies aside, so that its inode and times are the same afterwards.
    aside: Option<PathBuf>,
    flushed: Vec<u8>,
    pending: Vec<Change>,
}

/// What reached the disk, and what is still on its way.
#[derive(Default)]
pub struct Disk {
    nodes: Vec<Node>,
    /// As programs see them.
    names: BTreeMap<PathBuf, usize>,
    flushed: BTreeMap<PathBuf, usize>,
    /// What each name became since its folder was flushed.
    pending: BTreeMap<PathBuf, Vec<Option<usize>>>,
}

/// What becomes of what was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of it is lost.
    Lost,
    /// All of it is there.
    There,
    /// Each sector and each name as it falls.
    Torn,
}

/// Random numbers that a seed repeats.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (below.max(1) as u64)).expect("it fits")
    }
}

impl Disk {
    /// A folder that was there, for good, before anything happened.
    pub fn has_folder(&mut self, path: &Path) {
        self.has(
            path,
            Node { folder: true, named: true, aside: None, flushed: Vec::new(), pending: Vec::new() },
        );
    }

    /// A file that was there, for good, before anything happened.
    pub fn has_file(&mut self, path: &Path, aside: Option<PathBuf>, bytes: Vec<u8>) {
        self.has(path, Node { folder: false, named: true, aside, flushed: bytes, pending: Vec::new() });
    }

    fn has(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        self.names.insert(path.to_owned(), self.nodes.len() - 1);
        self.flushed.insert(path.to_owned(), self.nodes.len() - 1);
    }

    fn name(&mut self, path: &Path, node: Option<usize>) {
        match node {
            Some(node) => self.names.insert(path.to_owned(), node),
            None => self.names.remove(path),
        };
        self.pending.entry(path.to_owned()).or_default().push(node);
    }

    fn new_node(&mut self, folder: bool) -> usize {
        self.nodes.push(Node { folder, named: false, aside: None, flushed: Vec::new(), pending: Vec::new() });
        self.nodes.len() - 1
    }

    fn change(&mut self, path: &Path, change: Change) {
        if let Some(node) = self.names.get(path) {
            self.nodes[*node].pending.push(change);
        }
    }

    /// The next thing happens.
    pub fn happen(&mut self, entry: &Entry) {
        let (path, offset) = (&entry.path, usize::try_from(entry.offset).expect("it fits"));
        match entry.op {
            Op::Write => self.change(path, Change::Write(offset, entry.data.clone())),
            Op::Truncate => self.change(path, Change::Length(offset)),
            Op::Sync => self.sync(path),
            Op::SyncAll => {
                for node in &mut self.nodes {
                    node.flush();
                }
                for (path, _) in std::mem::take(&mut self.pending) {
                    self.name_is_durable(&path);
                }
            }
            Op::Rename => {
                if let Some(node) = self.names.get(path).copied() {
                    self.name(path, None);
                    self.name(&entry.other, Some(node));
                }
            }
            Op::Link => {
                let node = self.names.get(path).copied();
                self.name(&entry.other, node);
            }
            Op::Unlink => self.name(path, None),
            Op::Create | Op::Mkdir => {
                let node = self.new_node(entry.op == Op::Mkdir);
                self.name(path, Some(node));
            }
            Op::Put => {
                let bytes = fs::read(&entry.other).expect("the file aside stays");
                self.has_file(path, Some(entry.other.clone()), bytes);
            }
            Op::Take => {
                self.names.remove(path);
                self.flushed.remove(path);
            }
            Op::Append => {
                let node = self.names[path];
                self.nodes[node].aside = None;
                self.nodes[node].flushed.extend(&entry.data);
            }
        }
    }

    fn sync(&mut self, path: &Path) {
        let Some(node) = self.names.get(path).copied() else { return };
        if !self.nodes[node].folder {
            return self.nodes[node].flush();
        }
        let inside: Vec<PathBuf> =
            self.pending.keys().filter(|name| name.parent() == Some(path)).cloned().collect();
        for name in inside {
            self.pending.remove(&name);
            self.name_is_durable(&name);
        }
    }

    fn name_is_durable(&mut self, path: &Path) {
        match self.names.get(path) {
            Some(node) => {
                self.nodes[*node].named = true;
                self.flushed.insert(path.to_owned(), *node);
            }
            None => _ = self.flushed.remove(path),
        }
    }

    /// The power fails: what a disk may hold then is written below the folder, which is emptied first.
    pub fn lay_out(&self, root: &Path, fate: Fate, dice: &mut Dice) {
        let mut names = self.flushed.clone();
        for (path, became) in &self.pending {
            let reached = match fate {
                Fate::Lost => 0,
                Fate::There => became.len(),
                Fate::Torn => dice.roll(became.len() + 1),
            };
            match reached.checked_sub(1).map(|last| became[last]) {
                Some(Some(node)) => _ = names.insert(path.clone(), node),
                Some(None) => _ = names.remove(path),
                None => {}
            }
        }
        let there: BTreeSet<usize> = names.values().copied().collect();
        for (path, node) in &self.names {
            if self.nodes[*node].named && !there.contains(node) {
                names.insert(path.clone(), *node);
            }
        }
        for old in fs::read_dir(root).expect("our folder").flatten() {
            if old.file_type().is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir_all(old.path()).expect("our folder");
            } else {
                fs::remove_file(old.path()).expect("our folder");
            }
        }
        let mut made: BTreeMap<usize, PathBuf> = BTreeMap::new();
        let mut folders = BTreeSet::from([root.to_owned()]);
        // In the order of paths a folder comes before what is in it. What lies in a folder that is lost is lost.
        for (path, number) in &names {
            if !path.parent().is_some_and(|parent| folders.contains(parent)) {
                continue;
            }
            let node = &self.nodes[*number];
            if node.folder {
                fs::create_dir(path).expect("our folder");
                folders.insert(path.clone());
            } else if let Some(same) = made.get(number) {
                fs::hard_link(same, path).expect("one file system");
            } else {
                match &node.aside {
                    Some(aside) if node.pending.is_empty() => {
                        fs::hard_link(aside, path).expect("one file system");
                    }
                    _ => fs::write(path, node.after(fate, dice)).expect("our folder"),
                }
                made.insert(*number, path.clone());
            }
        }
    }
}

impl Node {
    fn flush(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.flushed, |()| true);
        }
    }

    /// What the file may hold when the power fails now.
    fn after(&self, fate: Fate, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.flushed.clone();
        for change in &self.pending {
            change.apply(&mut bytes, |()| match fate {
                Fate::Lost => false,
                Fate::There => true,
                Fate::Torn => dice.roll(2) == 0,
            });
        }
        bytes
    }
}

impl Change {
    /// Applies it, each sector only if `reached` says so.
    fn apply(&self, bytes: &mut Vec<u8>, mut reached: impl FnMut(()) -> bool) {
        match self {
            Self::Length(length) => {
                if reached(()) {
                    bytes.resize(*length, 0);
                }
            }
            Self::Write(offset, data) => {
                let mut at = 0;
                while at < data.len() {
                    let from = offset + at;
                    let piece = (SECTOR - from % SECTOR).min(data.len() - at);
                    if reached(()) {
                        if bytes.len() < from + piece {
                            bytes.resize(from + piece, 0);
                        }
                        bytes[from..from + piece].copy_from_slice(&data[at..at + piece]);
                    }
                    at += piece;
                }
            }
        }
    }
}

/// Whether two files hold the same: the model against the real disk.
pub fn same(a: &Path, bytes: &[u8]) -> bool {
    let Ok(file) = fs::File::open(a) else { return false };
    let mut there = vec![0; bytes.len()];
    file.metadata().is_ok_and(|found| found.len() == bytes.len() as u64)
        && file.read_exact_at(&mut there, 0).is_ok()
        && there == bytes
}

impl Disk {
    /// Files that the model sees otherwise than they really are now.
    pub fn differs(&self, root: &Path) -> Vec<PathBuf> {
        let there = crate::site::files_below(root).into_iter();
        let unknown = there.filter(|path| {
            !self.names.contains_key(path) && !SKIPPED.iter().any(|skip| path.ends_with(skip))
        });
        let files = self.names.iter().filter(|(_, node)| !self.nodes[**node].folder);
        files
            .filter(|(path, node)| !same(path, &self.nodes[**node].after(Fate::There, &mut Dice(1))))
            .map(|(path, _)| path.clone())
            .chain(unknown)
            .collect()
    }
}
