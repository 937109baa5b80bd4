//! The sources of a running daemon: each on a thread of its own, from its first look until it is told to go.

use super::{DaemonError, spawn_watched};
use crate::config::{Config, FolderConfig, SourceConfig, SourceKind};
use crate::formats::Formats;
use crate::intake::{self, Intake};
use crate::pulse;
use crate::sources::folder::append::{self, Follower};
use crate::sources::folder::{self, Folder};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

/// What a source does, as far as its configuration says: two that are equal need not be restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settings {
    Folder(folder::Config),
    Followed(append::Config),
}

/// A source at work.
pub(super) struct Source {
    pub name: String,
    pub settings: Settings,
    pub thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    /// Held for its life: a closed channel is its sign to go.
    waker: Sender<()>,
}

impl Settings {
    /// As this stanza describes it.
    pub(super) fn of(config: &Config, source: &SourceConfig, formats: &Formats) -> Self {
        let SourceKind::Folder(folder) = &source.kind;
        if folder.append.is_empty() {
            Self::Folder(watched(config, source, folder, formats))
        } else {
            Self::Followed(followed(config, source, folder, formats))
        }
    }
}

impl Source {
    /// Starts all of a configuration.
    pub(super) fn start_all(
        config: &Config,
        formats: &Formats,
        intake: &Intake,
    ) -> Result<Vec<Self>, DaemonError> {
        let start = |source: &SourceConfig| {
            Self::start(&source.name, Settings::of(config, source, formats), intake.clone(), None)
        };
        config.sources.iter().map(start).collect()
    }

    /// Starts it, once the one that it takes the place of has ended.
    pub(super) fn start(
        name: &str,
        settings: Settings,
        intake: Intake,
        before: Option<JoinHandle<()>>,
    ) -> Result<Self, DaemonError> {
        let (waker, wake) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (told, wished) = (stop.clone(), settings.clone());
        let body = move || {
            if let Some(before) = before {
                let _waiting = pulse::waiting();
                let _ = before.join();
            }
            match wished {
                Settings::Folder(settings) => {
                    make(&settings);
                    Folder::new(settings, intake).run(told, wake);
                }
                Settings::Followed(settings) => Follower::new(settings, intake).run(told, wake),
            }
        };
        let thread = spawn_watched(&format!("source {name}"), body)?;
        Ok(Self { name: name.to_owned(), settings, thread, stop, waker })
    }

    /// Tells it to go; its thread ends soon after.
    pub(super) fn send_away(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.send(());
    }
}

fn followed(
    config: &Config,
    source: &SourceConfig,
    folder: &FolderConfig,
    formats: &Formats,
) -> append::Config {
    append::Config {
        name: source.name.clone(),
        origin: source.origin.clone(),
        path: folder.path.clone(),
        files: folder.append.clone(),
        settle: folder.settle,
        rescan: folder.rescan,
        pinned_format: source.pinned_format.clone(),
        reading: config.reading(source, &formats.versions()),
    }
}

fn watched(
    config: &Config,
    source: &SourceConfig,
    folder: &FolderConfig,
    formats: &Formats,
) -> folder::Config {
    folder::Config {
        name: source.name.clone(),
        origin: source.origin.clone(),
        path: folder.path.clone(),
        settle: folder.settle,
        recursive: folder.recursive,
        marker: folder.marker.clone(),
        keep: folder.keep,
        rescan: folder.rescan,
        pinned_format: source.pinned_format.clone(),
        reading: config.reading(source, &formats.versions()),
    }
}

/// For the very first start. A folder that goes missing later is the source's to report, and a disk that is not mounted
/// shows as a folder whose parent is missing too.
pub(super) fn make(settings: &folder::Config) {
    if settings.path.parent().is_some_and(std::path::Path::is_dir) {
        let _ = intake::make_folder(&settings.path, 0o755);
    }
}
