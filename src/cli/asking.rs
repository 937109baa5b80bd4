//! Commands that change something: a daemon that runs does it for them, else they do it themselves. How far it has come is
//! drawn on the caller's terminal, and Ctrl-C is obeyed.

use super::bar::Bar;
use super::screen::complain_of;
use super::{Loaded, WrongUsage, journal, owner};
use crate::daemon::tasks::{Done, Refusal, Task, Told};
use crate::daemon::{self, Worker};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whoever does it.
pub(super) struct Asking {
    worker: Worker,
    stop: Arc<AtomicBool>,
}

impl Asking {
    /// Finds the daemon, or takes its place. Files of the caller must be open before: root becomes the owner of the
    /// state directory.
    pub fn start(loaded: &Loaded) -> anyhow::Result<Self> {
        owner::become_owner(&loaded.config.state_dir)?;
        journal::start_beside_a_bar();
        let stop = daemon::interrupted()?;
        let worker = Worker::find(&loaded.config, &loaded.formats)?;
        Ok(Self { worker, stop })
    }

    /// Has a task done. The bar goes on from `before` bytes that other tasks read.
    pub fn perform(&self, task: Task, file: Option<File>, bar: &Bar, before: u64) -> anyhow::Result<Done> {
        let last = Mutex::new(String::new());
        let tell = |told: Told| match told {
            Told::Progress { bytes, rows } => bar.set(before + bytes, rows),
            Told::Chosen { bytes } => bar.begin(bytes),
            Told::Waits(why) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if *last != why {
                    bar.beside(|| complain_of(&format!("waiting: {why}")));
                    *last = why;
                }
            }
        };
        if self.stop.load(Ordering::Relaxed) {
            anyhow::bail!("interrupted");
        }
        self.worker.perform(task, file, &self.stop, &tell).map_err(complaint)
    }

    /// Ends in order.
    pub fn close(self) {
        self.worker.close();
    }
}

fn complaint(refusal: Refusal) -> anyhow::Error {
    if refusal.usage { WrongUsage(refusal.message).into() } else { refusal.into() }
}
