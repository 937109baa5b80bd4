//! inotify, reduced to what the walk needs: a bell, and which files were closed since their last change.
//!
//! Never a source of truth: a lost event costs latency, never a file.

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Paths remembered between two looks. Beyond it they are forgotten, and files settle instead.
const REMEMBERED: usize = 100_000;

/// A file that was created is looked at after this time unless it is completed before: a look at its first byte would
/// only make the look at its last byte wait.
const CREATED: Duration = Duration::from_millis(250);

/// What happened since the last look.
#[derive(Debug, Default)]
pub(super) struct Heard {
    ring: bool,
    /// When to look although nothing rings.
    due: Option<Instant>,
    /// Whether the last thing that happened to a file completed it.
    pub files: HashMap<PathBuf, bool>,
    /// Events were lost: what is known about completed files is void.
    pub lost: bool,
    /// Why the system cannot watch everything.
    pub limit: Option<String>,
}

/// Where events, wakes and the timer meet.
#[derive(Debug, Default)]
pub(super) struct Bell {
    heard: Mutex<Heard>,
    rung: Condvar,
    /// Writing rings too: a followed file is never closed for good.
    every_change: bool,
}

impl Bell {
    /// One that every change of a file rings.
    pub fn of_every_change() -> Self {
        Self { every_change: true, ..Self::default() }
    }

    /// Asks for a look now.
    pub fn ring(&self) {
        self.lock().ring = true;
        self.rung.notify_all();
    }

    /// Waits for the bell, or for what was created to be due, at most this long. Whether a look is wanted.
    pub fn wait(&self, most: Duration) -> bool {
        let until = Instant::now() + most;
        let mut heard = self.lock();
        loop {
            let now = Instant::now();
            if heard.ring || heard.due.is_some_and(|due| due <= now) {
                return true;
            }
            let next = heard.due.map_or(until, |due| due.min(until));
            let left = next.saturating_duration_since(now);
            if left.is_zero() {
                return false;
            }
            heard = self.rung.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes what happened.
    pub fn take(&self) -> Heard {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event; cheap, because the queue of the system overflows while it runs.
    pub fn note(&self, event: notify::Result<Event>, root: &Path, claim_folder: &Path) {
        let mut heard = self.lock();
        let ring = match event {
            Ok(event) if event.need_rescan() => {
                heard.files.clear();
                heard.lost = true;
                true
            }
            Ok(event) if self.every_change => {
                !matches!(event.kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
            }
            Ok(event) => note_event(&mut heard, event, root, claim_folder),
            Err(error) => {
                if matches!(error.kind, ErrorKind::MaxFilesWatch) {
                    heard.limit = Some(limit_words(&error));
                }
                heard.lost = true;
                true
            }
        };
        heard.ring |= ring;
        if ring || heard.due.is_some() {
            drop(heard);
            self.rung.notify_all();
        }
    }
}

fn note_event(heard: &mut Heard, event: Event, root: &Path, claim_folder: &Path) -> bool {
    let (completed, ring) = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (true, true),
        // The From and To of a rename inside the folder come on their own as well.
        EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) | EventKind::Access(_) => {
            return false;
        }
        // A new folder may hold files that no event will ever name.
        EventKind::Create(CreateKind::Folder) | EventKind::Any | EventKind::Other => return true,
        // A hard link is created complete, without a close: the walk must begin to watch it settle.
        EventKind::Create(_) => {
            heard.due.get_or_insert_with(|| Instant::now() + CREATED);
            (false, false)
        }
        EventKind::Modify(_) => (false, false),
        EventKind::Remove(_) => return event.paths.iter().any(|path| path == root),
    };
    let mut concerns_us = false;
    for path in event.paths.into_iter().filter(|path| !path.starts_with(claim_folder)) {
        concerns_us = true;
        heard.files.insert(path, completed);
    }
    if heard.files.len() > REMEMBERED {
        heard.files.clear();
        heard.lost = true;
    }
    ring && concerns_us
}

fn limit_words(error: &notify::Error) -> String {
    match error.kind {
        ErrorKind::MaxFilesWatch => {
            "the system's limit of inotify watches is reached, so the folder is polled; raise \
             fs.inotify.max_user_watches"
                .to_owned()
        }
        _ => format!(
            "the folder cannot be watched and is polled ({error}); raise fs.inotify.max_user_instances"
        ),
    }
}

/// Begins to watch. The error is in words for a person.
pub(super) fn arm(
    bell: &Arc<Bell>,
    root: &Path,
    claim_folder: &Path,
    recursive: bool,
) -> Result<RecommendedWatcher, String> {
    let (bell, own_root, claim_folder) = (Arc::clone(bell), root.to_owned(), claim_folder.to_owned());
    // A link that a sender made must not make us watch the rest of the system.
    let config = notify::Config::default().with_follow_symlinks(false);
    let listener = move |event| bell.note(event, &own_root, &claim_folder);
    let mut watcher = RecommendedWatcher::new(listener, config).map_err(|error| limit_words(&error))?;
    let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
    watcher.watch(root, mode).map_err(|error| limit_words(&error))?;
    Ok(watcher)
}

/// Device and inode of a folder; `None` where there is none.
pub(super) fn root_of(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Whether only this host can change what lies there, so that the kernel hears of all of it.
pub(super) fn is_local(path: &Path) -> bool {
    // NFS, SMB of three ages, 9p, FUSE, Ceph, Coda, AFS.
    const SHARED: [u64; 9] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x6573_5546,
        0x00c3_6400,
        0x7375_7245,
        0x5346_414f,
    ];
    rustix::fs::statfs(path)
        .is_ok_and(|found| !SHARED.contains(&(found.f_type.cast_unsigned() & 0xffff_ffff)))
}

/// Waits until `until` or the bell, which also rings for whoever wants the thread to end; looks at `stop` now and then, which
/// may be true of what nobody rings for. Each look wakes the processor: many folders are quiet all day.
pub(super) fn wait(bell: &Bell, until: Instant, stop: &dyn Fn() -> bool) {
    const SLICE: Duration = Duration::from_secs(2);
    while !stop() {
        crate::pulse::beat();
        let left = until.saturating_duration_since(Instant::now());
        let _waiting = crate::pulse::waiting();
        if left.is_zero() || bell.wait(left.min(SLICE)) {
            return;
        }
    }
}
