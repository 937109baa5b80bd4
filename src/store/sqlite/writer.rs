//! The one writer: takes work from a bounded queue and shares transactions between whatever waits.
//!
//! Must answer only after the commit (work that says so may be answered before: see [`Work::durable`]), and must answer
//! everything that shared a transaction when it fails.

use super::checkpoint::Checkpointer;
use super::database::{Database, Fault};
use super::documents::{self, Tally};
use super::growing;
use super::insert::{self, Outcome};
use crate::crash_point;
use crate::store::{Chunk, ChunkRow, Committed, StoreError};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// Rows after which a transaction commits although more work waits: the write-ahead log stays small.
const MOST_ROWS: usize = 50_000;

/// How long work of one document may wait for the rows of another.
const PATIENCE: Duration = Duration::from_millis(50);

/// Rows from which on the planner is told about the table, so that it can skip-scan the day-led indexes.
const ANALYZE_FROM: i64 = 100_000;

/// How often the planner's statistics are looked after.
const OPTIMIZE_EVERY: Duration = Duration::from_hours(24);

/// Told how the transaction ended.
pub type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a step did, and who wants to know.
pub type Done = (Result<(), Fault>, Answer);

/// Something to do inside a transaction.
pub struct Work {
    /// The step; runs under a savepoint.
    pub step: Box<dyn FnOnce(&mut Database<'_>) -> Done + Send>,
    /// Answers instead of the step when the step cannot even be begun.
    pub refuse: Answer,
    /// The answer waits for the commit. What later work in the same log depends on need not: if its commit fails, the
    /// later work finds no document and is refused by the fence.
    pub durable: bool,
    /// Rows it may write.
    pub rows: usize,
    /// The document it belongs to; 0 for none.
    pub document: i64,
}

/// A message to the writer.
pub enum Command {
    /// Work.
    Work(Work),
    /// Finish what waits and end.
    Close,
}

/// The writer's state.
pub struct Writer<'c> {
    db: Database<'c>,
    path: String,
    checkpointer: Checkpointer,
    waiting: Vec<Answer>,
    begun: Option<Instant>,
    rows: usize,
    document: i64,
    mixed: bool,
    analyzed: bool,
    optimized: Instant,
}

impl<'c> Writer<'c> {
    /// A writer on an open database.
    pub fn new(mut db: Database<'c>, path: String, checkpointer: Checkpointer) -> Result<Self, Fault> {
        let statistics = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'";
        let analyzed = db.one(statistics, &[], |_| ())?.is_some();
        Ok(Self {
            db,
            path,
            checkpointer,
            waiting: Vec::new(),
            begun: None,
            rows: 0,
            document: 0,
            mixed: false,
            analyzed,
            optimized: Instant::now(),
        })
    }

    /// Works until the queue is closed; gives the checkpointer back, to be ended before the connection.
    pub fn run(mut self, queue: &Receiver<Command>) -> Checkpointer {
        while let Some(command) = self.take(queue) {
            match command {
                Command::Work(work) => self.perform(work),
                Command::Close => break,
            }
            if self.rows >= MOST_ROWS || (self.mixed && self.overdue()) {
                self.commit();
            }
        }
        self.commit();
        if let Err(error) = self.db.run("PRAGMA optimize", &[]) {
            tracing::warn!(%error, "the planner's statistics could not be brought up to date");
        }
        self.checkpointer
    }

    /// The next command; commits while there is none.
    fn take(&mut self, queue: &Receiver<Command>) -> Option<Command> {
        loop {
            match queue.try_recv() {
                Ok(command) => return Some(command),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            // Nobody waits for what was done so far: more is likely to follow at once, and to share the flush.
            let patience = match self.begun {
                Some(begun) if self.waiting.is_empty() => PATIENCE.saturating_sub(begun.elapsed()),
                Some(_) => Duration::ZERO,
                None => OPTIMIZE_EVERY,
            };
            if patience > Duration::ZERO {
                match queue.recv_timeout(patience) {
                    Ok(command) => return Some(command),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
            self.commit();
            self.maintain();
        }
    }

    fn overdue(&self) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() >= PATIENCE)
    }

    fn perform(&mut self, work: Work) {
        if self.begun.is_none() {
            if let Err(fault) = self.db.begin() {
                let error = fault.for_caller(&self.path);
                self.abort(&error);
                (work.refuse)(Err(error));
                return;
            }
            self.begun = Some(Instant::now());
            self.document = work.document;
        }
        self.mixed |= self.document != work.document;
        let (rows, durable) = (work.rows, work.durable);
        let (result, answer) = match self.db.step() {
            Ok(()) => (work.step)(&mut self.db),
            Err(fault) => (Err(fault), work.refuse),
        };
        match result.and_then(|()| self.db.keep()) {
            Ok(()) => {
                self.rows += rows;
                if durable { self.waiting.push(answer) } else { answer(Ok(())) }
            }
            Err(fault) => self.take_back(&fault, answer),
        }
    }

    /// Takes a failed step back: alone if it alone is at fault, else with the whole transaction.
    fn take_back(&mut self, fault: &Fault, answer: Answer) {
        let error = fault.for_caller(&self.path);
        let transient = matches!(error, StoreError::Transient { .. });
        if transient || self.db.connection().autocommit() || self.db.roll_back(true).is_err() {
            self.abort(&error);
        }
        answer(Err(error));
    }

    /// Rolls everything back and says so to everybody.
    fn abort(&mut self, error: &StoreError) {
        if let Err(fault) = self.db.roll_back(false) {
            tracing::error!(error = %fault, "a transaction could not be rolled back");
        }
        self.settle(&Err(error.clone()));
    }

    fn commit(&mut self) {
        if self.begun.is_none() {
            return;
        }
        crash_point::reached("commit-before");
        match self.db.commit() {
            Ok(()) => {
                crash_point::reached("commit-after");
                self.settle(&Ok(()));
                self.checkpointer.committed();
            }
            Err(fault) => self.abort(&fault.for_caller(&self.path)),
        }
    }

    fn settle(&mut self, outcome: &Result<(), StoreError>) {
        self.begun = None;
        self.rows = 0;
        self.mixed = false;
        for answer in self.waiting.drain(..) {
            answer(outcome.clone());
        }
    }

    /// Looks after the planner's statistics while nothing waits.
    fn maintain(&mut self) {
        let pragma = if !self.analyzed && self.db.last() >= ANALYZE_FROM {
            self.analyzed = true;
            "ANALYZE"
        } else if self.optimized.elapsed() >= OPTIMIZE_EVERY {
            "PRAGMA optimize"
        } else {
            return;
        };
        self.optimized = Instant::now();
        // A sample of each index is enough, and bounds the time that writing waits.
        let limited = self.db.run("PRAGMA analysis_limit = 1000", &[]);
        if let Err(error) = limited.and_then(|_| self.db.run(pragma, &[])) {
            tracing::warn!(%error, "the planner's statistics could not be brought up to date");
        }
    }
}

/// Stores a chunk behind its fence.
pub fn store_chunk(db: &mut Database<'_>, chunk: &Chunk) -> Result<Committed, Fault> {
    documents::fence(db, chunk)?;
    if let Some(grown) = &chunk.grown {
        growing::move_on(db, chunk.document, grown)?;
    }
    let reading = documents::reading(db, chunk.document)?;
    let mut tally = Tally::default();
    for (place, row) in chunk.rows.iter().enumerate() {
        if place == chunk.rows.len() / 2 {
            crash_point::reached("commit-inside");
        }
        let counts = &mut tally.counts;
        match row {
            ChunkRow::Leg(row) => {
                match insert::store(db, &reading, row, &mut tally.changes)? {
                    Outcome::Stored => counts.stored += 1,
                    Outcome::Duplicate => counts.duplicate += 1,
                    Outcome::Amended => counts.amended += 1,
                    Outcome::Skipped => counts.skipped += 1,
                }
                counts.rows_read += 1;
                tally.span(row.leg.cdr.started_at);
            }
            ChunkRow::Skipped(_) => {
                counts.skipped += 1;
                counts.rows_read += 1;
            }
            ChunkRow::Rejected(rejection) => {
                documents::reject(db, chunk.document, rejection)?;
                let row = u64::from(rejection.position.row > 0);
                counts.rejected += row;
                counts.rows_read += row;
            }
        }
    }
    documents::count(db, chunk.document, &tally, chunk.end.as_ref())?;
    Ok(Committed {
        counts: tally.counts,
        legs_added: tally.changes.added,
        legs_withdrawn: tally.changes.withdrawn,
    })
}
