//! The two threads that own `spool.db`: one writes, and what waits for it shares a transaction and its flush; one reads,
//! and never waits for a flush.
//!
//! Must never answer a write before its transaction is committed, and must never let one that fails take the others with
//! it.

use super::IntakeError;
use super::error::{of_layout, of_sqlx, shown};
use crate::pulse;
use crate::sqlite::Prepared;
use crate::sqlite::raw::{Connection, SqlError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;

/// Writes that share a transaction at most: what they hold in memory stays bounded.
const MOST: usize = 512;
/// How long an open transaction waits at most for callers who came together the last time.
const PATIENCE: Duration = Duration::from_micros(200);
/// How long another process may hold the file before a call gives up.
const BUSY: Duration = Duration::from_secs(30);

/// `spool.db`.
pub(super) struct Database {
    writer: Owner,
    reader: Owner,
    flushes: Arc<AtomicU64>,
}

/// A thread with its connection.
struct Owner {
    queue: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Job(Box<dyn Job>),
    Close,
}

/// Something to do on a connection, as often as it takes.
trait Job: Send {
    /// Whether it may be answered only after a flush.
    fn durable(&self) -> bool;
    fn run(&mut self, db: &mut Prepared<'_>) -> Result<(), SqlError>;
    fn answer(&mut self, outcome: Result<(), SqlError>);
}

/// A job, and who waits for it. One that is dropped, because its thread has ended, answers so.
struct Asked<S, T, F> {
    /// What was lent; gone once it is answered.
    lent: Option<S>,
    step: F,
    value: Option<T>,
    durable: bool,
    answer: SyncSender<(S, Result<T, SqlError>)>,
}

impl<S, T, F> Asked<S, T, F> {
    fn answer(&mut self, outcome: Result<(), SqlError>) {
        let Some(lent) = self.lent.take() else { return };
        let outcome = outcome.and_then(|()| self.value.take().ok_or_else(gone));
        // Its caller waits for nothing else; if it panicked, nobody misses the answer.
        let _ = self.answer.send((lent, outcome));
    }
}

impl<S, T, F> Drop for Asked<S, T, F> {
    fn drop(&mut self) {
        self.answer(Err(gone()));
    }
}

impl<S, T, F> Job for Asked<S, T, F>
where
    S: Send,
    T: Send,
    F: FnMut(&mut Prepared<'_>, &mut S) -> Result<T, SqlError> + Send,
{
    fn durable(&self) -> bool {
        self.durable
    }

    fn run(&mut self, db: &mut Prepared<'_>) -> Result<(), SqlError> {
        let lent = self.lent.as_mut().ok_or_else(gone)?;
        self.value = Some((self.step)(db, lent)?);
        Ok(())
    }

    fn answer(&mut self, outcome: Result<(), SqlError>) {
        self.answer(outcome);
    }
}

impl Database {
    /// Opens or makes the file and brings it to this version's layout.
    pub fn open(path: &Path, handle: Handle) -> Result<Self, IntakeError> {
        let flushes = Arc::new(AtomicU64::new(0));
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            // A checkpoint costs two flushes, which whoever waits pays for.
            .pragma("wal_autocheckpoint", "4000");
        let counted = flushes.clone();
        let making = options.clone().create_if_missing(true);
        let writer = Owner::start("spool-writer", path, handle.clone(), &making, true, move |db, queue| {
            Writer { db, queue, flushes: &counted, relaxed: false, together: 0 }.serve();
        })?;
        // After the writer: it makes the file.
        let reader =
            Owner::start("spool-reader", path, handle, &options.pragma("query_only", "1"), false, read)?;
        Ok(Self { writer, reader, flushes })
    }

    /// Ends both threads; later calls fail. The reader first, so that the writer can tidy the log away.
    pub fn close(&self) {
        self.reader.close();
        self.writer.close();
    }

    /// Transactions that were flushed.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// Reads.
    pub fn read<T: Send + 'static>(
        &self,
        mut step: impl FnMut(&mut Prepared<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        self.reader.ask((), false, move |db, ()| step(db)).1
    }

    /// Writes; what is written is on disk when this returns.
    pub fn write<T: Send + 'static>(
        &self,
        mut step: impl FnMut(&mut Prepared<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        self.writer.ask((), true, move |db, ()| step(db)).1
    }

    /// As [`Database::write`], with something that is lent and comes back.
    pub fn write_with<S: Send + 'static, T: Send + 'static>(
        &self,
        lent: S,
        step: impl FnMut(&mut Prepared<'_>, &mut S) -> Result<T, SqlError> + Send + 'static,
    ) -> (S, Result<T, SqlError>) {
        self.writer.ask(lent, true, step)
    }

    /// Writes what may be lost in a power cut (never the durability of others): the next durable write flushes it too,
    /// and losing it costs reading once more.
    pub fn write_unflushed<T: Send + 'static>(
        &self,
        mut step: impl FnMut(&mut Prepared<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        self.writer.ask((), false, move |db, ()| step(db)).1
    }

    /// As [`Database::write_unflushed`], with something that is lent and comes back.
    pub fn write_unflushed_with<S: Send + 'static, T: Send + 'static>(
        &self,
        lent: S,
        step: impl FnMut(&mut Prepared<'_>, &mut S) -> Result<T, SqlError> + Send + 'static,
    ) -> (S, Result<T, SqlError>) {
        self.writer.ask(lent, false, step)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.close();
    }
}

/// The answer of a thread that has ended.
fn gone() -> SqlError {
    SqlError { code: 0, message: "the spool is closed".to_owned(), rolled_back: true }
}

impl Owner {
    fn start(
        name: &str,
        path: &Path,
        handle: Handle,
        options: &SqliteConnectOptions,
        migrate: bool,
        serve: impl FnOnce(Prepared<'_>, &Receiver<Message>) + Send + 'static,
    ) -> Result<Self, IntakeError> {
        let (queue, messages) = channel();
        let (ready, opened) = sync_channel(1);
        let (options, file) = (options.clone(), path.to_owned());
        let watched = name.to_owned();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _enrolled = pulse::enrol(&watched);
            own(&file, &handle, &options, migrate, &ready, |db| serve(db, &messages));
        });
        let thread = thread.map_err(|error| IntakeError::io("start the thread for", path, error))?;
        let owner = Self { queue, thread: Mutex::new(Some(thread)) };
        match opened.recv() {
            Ok(Ok(())) => Ok(owner),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(IntakeError::Database { path: shown(path), source: gone() }),
        }
    }

    fn ask<S: Send + 'static, T: Send + 'static>(
        &self,
        lent: S,
        durable: bool,
        step: impl FnMut(&mut Prepared<'_>, &mut S) -> Result<T, SqlError> + Send + 'static,
    ) -> (S, Result<T, SqlError>) {
        let (answer, answered) = sync_channel(1);
        let job = Box::new(Asked { lent: Some(lent), step, value: None, durable, answer });
        // What cannot be sent is dropped, and answers so.
        let _ = self.queue.send(Message::Job(job));
        let _waiting = pulse::waiting();
        // For the disk.
        let _waiting = crate::pulse::waiting();
        answered.recv().expect("a job answers at the latest when it is dropped")
    }

    fn close(&self) {
        let Some(thread) = super::locked(&self.thread).take() else { return };
        let _ = self.queue.send(Message::Close);
        if thread.join().is_err() {
            tracing::error!("a thread of the spool panicked; what it had not answered is not stored");
        }
    }
}

/// A thread's life: open, serve, close.
fn own(
    path: &Path,
    handle: &Handle,
    options: &SqliteConnectOptions,
    migrate: bool,
    ready: &SyncSender<Result<(), IntakeError>>,
    serve: impl FnOnce(Prepared<'_>),
) {
    let mut connection = match handle.block_on(connect(path, options, migrate)) {
        Ok(connection) => connection,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    match handle.block_on(connection.lock_handle()) {
        Ok(lock) => {
            let _ = ready.send(Ok(()));
            serve(Prepared::new(Connection::new(lock)));
        }
        Err(error) => {
            let _ = ready.send(Err(IntakeError::Database { path: shown(path), source: of_sqlx(&error) }));
        }
    }
    if let Err(error) = handle.block_on(connection.close()) {
        tracing::warn!(%error, "the spool was not closed cleanly; it recovers at the next start");
    }
}

async fn connect(
    path: &Path,
    options: &SqliteConnectOptions,
    migrate: bool,
) -> Result<SqliteConnection, IntakeError> {
    let mut connection = options
        .connect()
        .await
        .map_err(|error| IntakeError::Database { path: shown(path), source: of_sqlx(&error) })?;
    if migrate {
        sqlx::migrate!("./migrations/spool")
            .run(&mut connection)
            .await
            .map_err(|source| of_layout(path, source))?;
    }
    Ok(connection)
}

/// The next message, however long it takes.
fn wait(queue: &Receiver<Message>) -> Option<Message> {
    let _waiting = pulse::waiting();
    queue.recv().ok()
}

/// The reader: each question as it comes.
fn read(mut db: Prepared<'_>, queue: &Receiver<Message>) {
    while let Some(Message::Job(mut job)) = wait(queue) {
        let outcome = job.run(&mut db);
        job.answer(outcome);
    }
}

/// The writer.
struct Writer<'c, 'q> {
    db: Prepared<'c>,
    queue: &'q Receiver<Message>,
    flushes: &'q AtomicU64,
    /// SQLite flushes no commit now.
    relaxed: bool,
    /// How many shared the last flush: so many are likely to come together again.
    together: usize,
}

/// How a transaction goes on.
enum Next {
    Job(Box<dyn Job>),
    Commit,
    Close,
}

impl Writer<'_, '_> {
    fn serve(mut self) {
        let mut open = true;
        while open && let Some(Message::Job(job)) = wait(self.queue) {
            let mut next = Some(job);
            while let Some(first) = next.take() {
                open = self.transaction(first, &mut next);
            }
        }
    }

    /// One transaction, from its first job on. `next` is set when a job needs another one. Whether the queue is open.
    fn transaction(&mut self, first: Box<dyn Job>, next: &mut Option<Box<dyn Job>>) -> bool {
        let durable = first.durable();
        if let Err(error) = self.begin(durable) {
            // Whoever waits behind it would only wait as long again.
            answer([first], &Err(error.clone()));
            return self.refuse_waiting(&error);
        }
        let mut written: Vec<Box<dyn Job>> = Vec::new();
        let mut alone = Vec::new();
        let mut again = VecDeque::from([first]);
        let mut open = true;
        loop {
            pulse::beat();
            let mut job = match again.pop_front().map_or_else(|| self.next(durable, written.len()), Next::Job)
            {
                Next::Job(job) if job.durable() && !durable => {
                    *next = Some(job);
                    break;
                }
                Next::Job(job) => job,
                Next::Commit => break,
                Next::Close => {
                    open = false;
                    break;
                }
            };
            if let Err(error) = job.run(&mut self.db) {
                // Nothing of it may stay. The others are written again without it, and it is tried alone.
                self.roll_back();
                if written.is_empty() {
                    job.answer(Err(error));
                } else {
                    alone.push(job);
                    again.extend(written.drain(..));
                }
                if let Err(error) = self.begin(durable) {
                    answer(again.into_iter().chain(alone), &Err(error));
                    return open;
                }
                continue;
            }
            written.push(job);
        }
        match self.commit(durable, written.len()) {
            Err(_) if written.len() > 1 => alone.append(&mut written),
            outcome => answer(written, &outcome),
        }
        for job in alone {
            self.alone(job, durable);
        }
        open
    }

    /// What follows in an open transaction.
    fn next(&self, durable: bool, written: usize) -> Next {
        if written >= MOST {
            return Next::Commit;
        }
        let message = match self.queue.try_recv() {
            Err(TryRecvError::Empty) if durable && written < self.together => {
                self.queue.recv_timeout(PATIENCE).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            }
            other => other,
        };
        match message {
            Ok(Message::Job(job)) => Next::Job(job),
            Ok(Message::Close) => Next::Close,
            Err(_) => Next::Commit,
        }
    }

    fn alone(&mut self, mut job: Box<dyn Job>, durable: bool) {
        let outcome = self.begin(durable).and_then(|()| job.run(&mut self.db));
        let outcome = outcome.and_then(|()| self.commit(durable, 1));
        if outcome.is_err() {
            self.roll_back();
        }
        job.answer(outcome);
    }

    fn begin(&mut self, durable: bool) -> Result<(), SqlError> {
        if self.relaxed == durable {
            // Not a kept statement: SQLite obeys this pragma when it is prepared, not when it runs.
            let level = if durable { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.db.run_once(level, &[])?;
            self.relaxed = !durable;
        }
        // Somebody else may hold the file.
        let _waiting = pulse::waiting();
        self.db.run("BEGIN IMMEDIATE", &[])?;
        Ok(())
    }

    fn commit(&mut self, durable: bool, jobs: usize) -> Result<(), SqlError> {
        let committed = self.db.run("COMMIT", &[]);
        if committed.is_err() {
            self.roll_back();
        } else if durable {
            self.flushes.fetch_add(1, Ordering::Relaxed);
            self.together = jobs;
        }
        committed.map(drop)
    }

    fn roll_back(&mut self) {
        // Some errors have rolled back already.
        if !self.db.connection().autocommit()
            && let Err(error) = self.db.run("ROLLBACK", &[])
        {
            tracing::error!(%error, "a transaction of the spool could not be rolled back");
        }
    }

    fn refuse_waiting(&self, error: &SqlError) -> bool {
        loop {
            match self.queue.try_recv() {
                Ok(Message::Job(job)) => answer([job], &Err(error.clone())),
                Ok(Message::Close) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }
}

fn answer(jobs: impl IntoIterator<Item = Box<dyn Job>>, outcome: &Result<(), SqlError>) {
    for mut job in jobs {
        job.answer(outcome.clone());
    }
}
