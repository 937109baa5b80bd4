//! What changes something besides collecting: a file is imported, deliveries are read again, rejections retried. A
//! running daemon does it on behalf of whoever asks at its control socket; without a daemon the command does it itself.
//!
//! Must never change anything beside deliveries that are being stored, except for an import: see [`Turns`].
//!
//! [`Turns`]: crate::pipeline::Turns

mod import;
mod replay;
mod retry;
mod sync;

use super::{DaemonError, Storing};
use crate::intake::IntakeError;
use crate::pipeline::{Expected, PipelineError, Turn};
use crate::record::outcome::Counts;
use crate::store::query::{DeliveryWish, QueryError, RejectionWish};
use crate::store::sqlite::query::SqliteQuery;
use crate::store::{StoreError, Switched};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often whoever waits is told how far it has come.
const TICK: Duration = Duration::from_millis(100);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Store an open file.
    Import(ImportWish),
    /// Read deliveries again.
    Replay(ReplayWish),
    /// Correct what was derived for stored rows.
    Rederive(RederiveWish),
    /// Read rejections again.
    Retry(RejectionWish),
    /// Fetch from a far side again.
    Sync(SyncTask),
    /// Let a program in, or no more.
    Token(TokenTask),
}

/// What to do about tokens. The token itself stays with whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenTask {
    /// Let one in.
    Add {
        /// What it is called.
        name: String,
        /// BLAKE3 of it.
        hash: [u8; 32],
    },
    /// Tell which are good.
    List,
    /// Let it in no more.
    Revoke {
        /// What it is called.
        name: String,
    },
}

/// What to fetch again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncTask {
    /// The source that asks for it.
    pub source: String,
    /// Calls that began at or after; absent: what is due.
    pub from: Option<Timestamp>,
    /// Calls that began before; absent: now.
    pub to: Option<Timestamp>,
}

/// How to take a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportWish {
    /// Its name, printable.
    pub name: String,
    /// Whose calls it holds.
    pub origin: String,
    /// The one format that may read it.
    pub format: Option<String>,
    /// IANA zone of its times.
    pub time_zone: Option<String>,
}

/// What to read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayWish {
    /// Which deliveries; nothing given means all.
    pub chosen: DeliveryWish,
    /// Only tell what would change.
    pub preview: bool,
    /// How many rows of each kind of change to tell.
    pub rows: u32,
}

/// What to correct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RederiveWish {
    /// One origin; `None`: all.
    pub origin: Option<String>,
    /// Only tell what would change.
    pub preview: bool,
    /// Tell rows, so many of each kind of change.
    pub rows: Option<u32>,
}

/// What a task came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// How the file ended.
    Imported {
        /// State of its delivery.
        state: String,
        /// Outcomes of its rows.
        counts: Counts,
        /// Documents that were rejected whole.
        rejected_documents: u64,
    },
    /// Deliveries were read again.
    Replayed {
        /// How many.
        deliveries: usize,
        /// Those of them that tell of the same calls as the chosen ones.
        beside: usize,
        /// What changed.
        switched: Switched,
        /// Nothing of them was rejected.
        clean: bool,
    },
    /// Rows were corrected: name, zone and number of rows of each origin.
    Rederived(Vec<(String, String, u64)>),
    /// Rows were, or would be, corrected.
    Corrected(Switched),
    /// A far side was asked.
    Synced {
        /// Requests.
        requests: u64,
        /// Pages that came.
        pages: u64,
        /// Calls on them.
        records: u64,
        /// Why it could not be done.
        error: Option<String>,
    },
    /// The tokens that are good now: name and when it was made.
    Tokens(Vec<(String, String)>),
    /// Rejections were read again.
    Retried {
        /// What became of those of each document.
        documents: Vec<RetriedDocument>,
        /// Why the rest was not tried.
        failed: Option<String>,
    },
}

/// What became of the rejections of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns that are shown")]
pub struct RetriedDocument {
    pub delivery: String,
    pub name: String,
    pub number: u32,
    pub resolved: u64,
    pub rejected: u64,
    pub added: u64,
    /// Other rows of it read otherwise too, so that nothing was done.
    pub otherwise: bool,
}

/// What whoever waits is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// How far it has come.
    Progress {
        /// Bytes read.
        bytes: u64,
        /// Rows read.
        rows: u64,
    },
    /// How much is about to be read.
    Chosen {
        /// Bytes.
        bytes: u64,
    },
    /// What it waits for.
    Waits(String),
}

/// Why a task was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong and what to do.
    pub message: String,
    /// What was asked for is wrong, not what was tried.
    pub usage: bool,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), usage: false }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), usage: true }
    }

    fn interrupted(what: &str) -> Self {
        Self::new(format!("interrupted; {what}"))
    }
}

macro_rules! refusal_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::new(error.to_string())
            }
        })*
    };
}
refusal_from!(PipelineError, QueryError, StoreError, IntakeError, DaemonError, std::io::Error);

/// Who does a task, and for whom.
pub struct Bench<'b> {
    /// What stores.
    pub storing: &'b Storing,
    /// Threads of a daemon bring deliveries to their end; else the task does.
    pub attended: bool,
    /// Set when it must not go on.
    pub stop: &'b AtomicBool,
    /// Tells whoever waits.
    pub tell: &'b (dyn Fn(Told) + Sync),
}

impl Bench<'_> {
    /// Does a task. `file` is what an import stores.
    pub fn perform(&self, task: Task, file: Option<File>) -> Result<Done, Refusal> {
        match task {
            Task::Import(wish) => {
                let file = file.ok_or_else(|| Refusal::usage("no file came with the request"))?;
                self.import(&wish, file)
            }
            Task::Replay(wish) => self.replay(&wish),
            Task::Rederive(wish) => self.rederive(&wish),
            Task::Retry(wish) => self.retry(&wish),
            Task::Sync(wish) => self.sync(&wish),
            Task::Token(wish) => self.token(wish),
        }
    }

    fn token(&self, wish: TokenTask) -> Result<Done, Refusal> {
        let intake = &self.storing.intake;
        match wish {
            TokenTask::Add { name, hash } => {
                if name.is_empty() || name.len() > 100 || name.contains(char::is_control) {
                    return Err(Refusal::usage("a token needs a name, of 100 letters at most"));
                }
                if !intake.add_token(&name, hash)? {
                    let text =
                        format!("there is a token named {name:?}; revoke it first, or choose another name");
                    return Err(Refusal::usage(text));
                }
            }
            TokenTask::Revoke { name } => {
                if !intake.revoke_token(&name)? {
                    return Err(Refusal::usage(format!("no token is named {name:?}; see `cdrd token list`")));
                }
            }
            TokenTask::List => {}
        }
        let tokens = intake.tokens()?.into_iter().map(|token| (token.name, token.made_at));
        Ok(Done::Tokens(tokens.collect()))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until nothing else is stored.
    fn alone(&self) -> Result<Turn<'_>, Refusal> {
        let turns = self.storing.pipeline.turns();
        let turn = turns.alone(self.stop);
        let turn = turn.ok_or_else(|| Refusal::interrupted("nothing was changed"))?;
        if self.storing.is_retired() {
            return Err(Refusal::new("the daemon has read another configuration meanwhile; run this again"));
        }
        Ok(turn)
    }

    fn query(&self) -> Result<SqliteQuery, QueryError> {
        let config = &self.storing.config;
        SqliteQuery::open(&config.store.sqlite, &config.spool_db(), self.storing.handle.clone())
    }

    /// Does something while whoever waits is told how far the pipeline has come since.
    fn telling<T>(&self, work: impl FnOnce() -> T) -> T {
        let progress = self.storing.pipeline.progress();
        let (bytes, rows) = (progress.bytes(), progress.rows());
        self.told_of(&|| (progress.bytes() - bytes, progress.rows() - rows), work)
    }

    /// The same for one delivery.
    fn telling_of<T>(&self, delivery: &Expected<'_>, work: impl FnOnce() -> T) -> T {
        self.told_of(&|| delivery.come(), work)
    }

    fn told_of<T>(&self, come: &(dyn Fn() -> (u64, u64) + Sync), work: impl FnOnce() -> T) -> T {
        let (ended, end) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let teller = scope.spawn(move || {
                while end.recv_timeout(TICK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    let (bytes, rows) = come();
                    (self.tell)(Told::Progress { bytes, rows });
                }
            });
            let done = work();
            drop(ended);
            // It may be telling somebody who is slow to read.
            let _waiting = crate::pulse::waiting();
            let _ = teller.join();
            done
        })
    }
}
