//! The store in one SQLite file.
//!
//! One thread owns the one connection that writes (`writer`); everybody else hands it work through a bounded queue.
//! A row takes the fast path (`insert`) unless its group must be planned anew (`group`). Must be the only process that
//! writes the file; the daemon's lock sees to that.

mod batch;
mod calls;
mod checkpoint;
mod columns;
mod database;
mod documents;
mod group;
mod growing;
mod insert;
mod legs;
mod lineage;
mod pace;
mod place;
pub mod query;
mod queue;
mod ready;
mod rederive;
mod rejections;
mod retry;
mod stated;
mod summaries;
mod switch;
#[cfg(test)]
mod tests;
mod writer;

use super::{
    Chunk, Commit, Committed, DeliveryEnd, DeliveryStart, DeliverySummary, DocumentStart, Opened,
    OpenedGrowing, OriginRow, OriginStart, Pending, Retry, StoreError, Switched, lane,
};
use crate::pulse;
use crate::record::delivery::{DeliveryId, printable};
use crate::record::port::Derive;
use crate::sqlite::raw;
use checkpoint::Checkpointer;
use database::{Database, Fault};
use place::Place;
use queue::{Lane, Queue};
use ready::Ready;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use writer::{Answer, Command, Done, Turn, Work, Writer};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// The store in one SQLite file. Clones share the writer; the last one that goes finishes its queue.
#[derive(Debug, Clone)]
pub struct Sqlite(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// The last chunk held nothing new: a file that comes again is known row after row, and none needs to be made
    /// ready.
    known: Arc<AtomicBool>,
}

impl Sqlite {
    /// Opens or makes the database and starts its writer.
    pub fn open(path: &Path, derive: Arc<dyn Derive>, handle: Handle) -> Result<Self, StoreError> {
        Self::open_with(path, derive, handle, SqliteSynchronous::Full)
    }

    /// Makes the database or brings it to this version's layout, so that it can be read: a reader may not finish what
    /// a crash left half done.
    pub fn prepare(path: &Path, handle: &Handle) -> Result<(), StoreError> {
        let prepared = async { connect(&options(path, SqliteSynchronous::Full)).await?.close().await };
        handle.block_on(prepared).map_err(|error| of_sqlx(&printable(path.as_os_str().as_bytes()), &error))
    }

    fn open_with(
        path: &Path,
        derive: Arc<dyn Derive>,
        handle: Handle,
        synchronous: SqliteSynchronous,
    ) -> Result<Self, StoreError> {
        let options = options(path, synchronous);
        let name = printable(path.as_os_str().as_bytes());
        let queue = Arc::<Queue>::default();
        let commands = queue.clone();
        let (ready, opened) = channel();
        let writer = std::thread::Builder::new().name("cdrd-writer".to_owned()).spawn(move || {
            let _enrolled = pulse::enrol("the store's writer");
            serve(&options, &name, derive, &handle, &commands, &ready);
        });
        let writer = writer.map_err(|error| no_thread(&printable(path.as_os_str().as_bytes()), &error))?;
        match opened.recv() {
            Ok(Ok(())) => {
                Ok(Self(Arc::new(Inner { queue, writer: Mutex::new(Some(writer)), known: Arc::default() })))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::WriterGone),
        }
    }

    /// Finishes the queue, closes the database and truncates its log. Later calls are answered with
    /// [`StoreError::WriterGone`].
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether it can be written now: a transaction with nothing in it.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.call(true, |_| Ok(()))
    }

    /// Has the writer do something and waits for the answer.
    fn call<T: Send + 'static>(
        &self,
        durable: bool,
        step: impl FnOnce(&mut Database<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(Turn::Shares, durable, step).wait()
    }

    /// Has the writer do something.
    fn ask<T: Send + 'static>(
        &self,
        turn: Turn,
        durable: bool,
        step: impl FnOnce(&mut Database<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Pending<T> {
        let (sender, answer) = sync_channel(1);
        let refused = sender.clone();
        let step = move |db: &mut Database<'_>| -> Done {
            let (result, value) = match step(db) {
                Ok(value) => (Ok(()), Some(value)),
                Err(fault) => (Err(fault), None),
            };
            let answer: Answer = Box::new(move |outcome: Result<(), StoreError>| {
                let outcome = outcome.and_then(|()| value.ok_or(StoreError::WriterGone));
                // Whoever asked may have gone.
                let _ = sender.send(outcome);
            });
            (result, answer)
        };
        let refuse: Answer = Box::new(move |outcome: Result<(), StoreError>| {
            if let Err(error) = outcome {
                let _ = refused.send(Err(error));
            }
        });
        self.hand_over(Work { step: Box::new(step), refuse, turn, durable, rows: 1, document: 0 }, answer)
    }

    /// The same for work that looks whether to stop; waits for its end.
    fn ask_stoppable<T: Send + 'static>(
        &self,
        turn: Turn,
        stop: &AtomicBool,
        work: impl FnOnce(&mut Database<'_>, &AtomicBool) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        // The writer is another thread, and outlives whoever asks.
        let halt = Arc::new(AtomicBool::new(stop.load(Ordering::Relaxed)));
        let heard = halt.clone();
        self.ask(turn, true, move |db| work(db, &heard))
            .wait_while(|| halt.store(stop.load(Ordering::Relaxed), Ordering::Relaxed))
    }

    fn hand_over<T>(&self, work: Work, answer: Receiver<Result<T, StoreError>>) -> Pending<T> {
        let durable = work.durable;
        let lane = if lane::gives_way() { Lane::Bulk } else { Lane::Small };
        // When the writer has ended the answer's other end is dropped with the work, which says so.
        self.0.queue.push(lane, Command::Work(work));
        let queue = self.0.queue.clone();
        Pending::new(answer, move || {
            if durable {
                queue.push(lane, Command::Hurry);
            }
        })
    }
}

impl Inner {
    fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        self.queue.close();
        if writer.join().is_err() {
            tracing::error!("the store's writer panicked; what it had not answered is not stored");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Commit for Sqlite {
    fn origin(&self, origin: &OriginStart) -> Result<OriginRow, StoreError> {
        let origin = origin.clone();
        self.call(true, move |db| documents::origin(db, &origin))
    }

    fn start_delivery(&self, delivery: &DeliveryStart, repeat_of: Option<DeliveryId>) -> Pending<bool> {
        let delivery = delivery.clone();
        self.ask(Turn::Shares, false, move |db| documents::start_delivery(db, &delivery, repeat_of))
    }

    fn open_document(&self, document: &DocumentStart) -> Result<Opened, StoreError> {
        let document = document.clone();
        self.call(false, move |db| documents::open(db, &document))
    }

    fn open_growing(
        &self,
        delivery: DeliveryId,
        claim: &str,
        continues: Option<DeliveryId>,
    ) -> Result<Option<OpenedGrowing>, StoreError> {
        let claim = claim.to_owned();
        self.call(false, move |db| growing::open(db, delivery, &claim, continues))
    }

    fn copies_before(&self, delivery: DeliveryId) -> Result<Vec<([u8; 16], u32)>, StoreError> {
        self.call(false, move |db| growing::copies_before(db, delivery))
    }

    fn copies(&self, document: i64) -> Result<Vec<([u8; 16], u32)>, StoreError> {
        self.call(false, move |db| growing::copies(db, document))
    }

    fn restart_document(&self, document: i64, claim: &str) -> Result<Opened, StoreError> {
        let claim = claim.to_owned();
        self.call(false, move |db| documents::restart(db, document, &claim))
    }

    fn commit(&self, chunk: Chunk) -> Pending {
        let (sender, answer) = sync_channel(1);
        let refused = sender.clone();
        let (rows, document) = (chunk.rows.len(), chunk.document);
        let known = self.0.known.clone();
        let ready = if known.load(Ordering::Relaxed) { None } else { Some(Ready::make(&chunk.rows)) };
        let step = move |db: &mut Database<'_>| -> Done {
            let (result, committed) = match writer::store_chunk(db, &chunk, ready) {
                Ok(committed) => {
                    known.store(committed.counts.duplicate == committed.counts.rows_read, Ordering::Relaxed);
                    (Ok(()), committed)
                }
                Err(fault) => (Err(fault), Committed::default()),
            };
            let answer: Answer = Box::new(move |outcome: Result<(), StoreError>| {
                let _ = sender.send(outcome.map(|()| committed));
            });
            (result, answer)
        };
        let refuse: Answer = Box::new(move |outcome: Result<(), StoreError>| {
            if let Err(error) = outcome {
                let _ = refused.send(Err(error));
            }
        });
        let work = Work { step: Box::new(step), refuse, turn: Turn::Shares, durable: true, rows, document };
        self.hand_over(work, answer)
    }

    fn finish_delivery(&self, id: DeliveryId, end: &DeliveryEnd) -> Pending<DeliverySummary> {
        let end = end.clone();
        self.ask(Turn::Shares, true, move |db| documents::finish_delivery(db, id, &end))
    }

    fn clock_fault(&self, origin: &str, fault: &str) -> Result<bool, StoreError> {
        let (origin, fault) = (origin.to_owned(), fault.to_owned());
        self.call(true, move |db| documents::clock_fault(db, &origin, &fault))
    }

    fn rederive(&self, origin: &str, time_zone: &str, stop: &AtomicBool) -> Result<u64, StoreError> {
        let (origin, time_zone) = (origin.to_owned(), time_zone.to_owned());
        self.ask_stoppable(Turn::Shares, stop, move |db, stop| {
            rederive::rederive(db, &origin, &time_zone, stop)
        })
    }

    fn begin_switch(&self, withdrawn: &[DeliveryId], stop: &AtomicBool) -> Result<(), StoreError> {
        let withdrawn = withdrawn.to_vec();
        self.ask_stoppable(Turn::Opens, stop, move |db, stop| switch::begin(db, &withdrawn, stop))
    }

    fn end_switch(&self, keep: bool, rows: u32) -> Result<Switched, StoreError> {
        let turn = if keep { Turn::Keeps } else { Turn::TakesBack };
        self.ask(turn, true, move |db| switch::end(db, rows)).wait()
    }

    fn retry(&self, rows: Retry) -> Result<Committed, StoreError> {
        self.call(true, move |db| retry::retry(db, &rows))
    }
}

fn options(path: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        // Before the first table: measured a sixth cheaper than 4 KiB for rows of this size.
        .page_size(16_384)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(Duration::from_secs(10))
        // KiB; keys grow at their end, so that more does not help.
        .pragma("cache_size", "-16384")
        // What a savepoint keeps of the pages that a step changes: a file for it costs more than the step.
        .pragma("temp_store", "MEMORY")
        // Pages, 64 MiB: the writer's own checkpoint, should the other connection not keep up.
        .pragma("wal_autocheckpoint", "4096")
        .pragma("journal_size_limit", "67108864")
}

/// The writer thread from opening to closing.
fn serve(
    options: &SqliteConnectOptions,
    path: &str,
    derive: Arc<dyn Derive>,
    handle: &Handle,
    commands: &Queue,
    ready: &std::sync::mpsc::Sender<Result<(), StoreError>>,
) {
    let commands = commands.taker();
    let mut connection = match handle.block_on(connect(options)) {
        Ok(connection) => connection,
        Err(error) => {
            let _ = ready.send(Err(of_sqlx(path, &error)));
            return;
        }
    };
    let checkpointer = match work(&mut connection, options, path, derive, handle) {
        Ok(writer) => {
            let _ = ready.send(Ok(()));
            Some(writer.run(&commands))
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            None
        }
    };
    drop(checkpointer);
    if let Err(error) = handle.block_on(connection.close()) {
        tracing::warn!(%error, "the database was not closed cleanly; it recovers at the next start");
    }
}

async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    MIGRATIONS.run(&mut connection).await?;
    Ok(connection)
}

fn work<'c>(
    connection: &'c mut SqliteConnection,
    options: &SqliteConnectOptions,
    path: &str,
    derive: Arc<dyn Derive>,
    handle: &Handle,
) -> Result<Writer<'c>, StoreError> {
    let lock = handle.block_on(connection.lock_handle()).map_err(|error| of_sqlx(path, &error))?;
    let database = Database::new(raw::Connection::new(lock), derive);
    let writer = database.and_then(|database| {
        let checkpointer =
            // A database that was moved away must not be made anew beside the open one.
            Checkpointer::start(options.clone().create_if_missing(false), handle.clone()).map_err(|error| no_thread(path, &error))?;
        let place = Place::of(options.get_filename());
        Writer::new(database, path.to_owned(), place, checkpointer)
    });
    writer.map_err(|fault| fault.for_caller(path))
}

fn no_thread(path: &str, error: &std::io::Error) -> StoreError {
    let mend = "raise the limit on threads";
    StoreError::Transient { path: path.to_owned(), cause: error.to_string(), mend }
}

fn of_sqlx(path: &str, error: &sqlx::Error) -> StoreError {
    // A migration's error holds that of its statement.
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |cause| cause.source());
    let code = causes.find_map(|cause| {
        let code = cause.downcast_ref::<sqlx::Error>()?.as_database_error()?.code()?;
        code.parse().ok()
    });
    let code = code.unwrap_or(0);
    let message = error.to_string();
    Fault::Sql(raw::SqlError { code, message, rolled_back: true }).for_caller(path)
}
