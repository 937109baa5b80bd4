//! The one writer: takes work from a bounded queue and shares transactions between whatever waits.
//!
//! Must answer only after the commit (work that says so may be answered before: see [`Work::durable`]), and must answer
//! everything that shared a transaction when it fails.

use super::batch::Batch;
use super::checkpoint::Checkpointer;
use super::database::{Database, Fault};
use super::documents::{self, Tally};
use super::growing;
use super::insert::Outcome;
use super::place::Place;
use super::queue::{Lane, Next, Taker};
use super::ready::Ready;
use crate::crash_point;
use crate::pulse;
use crate::store::{Chunk, ChunkRow, Committed, StoreError};
use std::time::{Duration, Instant};

/// Rows after which a transaction commits although more work waits: the write-ahead log stays small.
const MOST_ROWS: usize = 50_000;

/// The same while small work comes: it waits for the flush of what bulk work put into its transaction.
const FEWER_ROWS: usize = 4_000;
/// How long after small work more of it is expected.
const BESIDE: Duration = Duration::from_secs(2);

/// How long a transaction that nobody waits for stays open for more work.
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
    /// The step; runs under a savepoint, unless its failure takes the whole transaction back (see `Writer::perform`).
    pub step: Box<dyn FnOnce(&mut Database<'_>) -> Done + Send>,
    /// Answers instead of the step when the step cannot even be begun.
    pub refuse: Answer,
    /// Whether it begins or ends a switch.
    pub turn: Turn,
    /// The answer waits for the commit. What later work in the same log depends on need not: if its commit fails, the
    /// later work finds no document and is refused by the fence.
    pub durable: bool,
    /// Rows it may write.
    pub rows: usize,
    /// The document it belongs to; 0 for none.
    pub document: i64,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work")
            .field("turn", &self.turn)
            .field("document", &self.document)
            .finish_non_exhaustive()
    }
}

/// How work stands to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It shares one with whatever waits; inside a switch with the switch.
    Shares,
    /// It changes much and has one to itself; inside a switch that of the switch.
    Alone,
    /// It begins a switch: one transaction until the switch ends, however long that takes.
    Opens,
    /// It ends the switch and commits.
    Keeps,
    /// It ends the switch and takes everything back.
    TakesBack,
}

/// A message to the writer.
#[derive(Debug)]
pub enum Command {
    /// Work.
    Work(Work),
    /// Somebody waits for what was done so far.
    Hurry,
}

/// The writer's state.
pub struct Writer<'c> {
    db: Database<'c>,
    path: String,
    place: Place,
    checkpointer: Checkpointer,
    waiting: Vec<Answer>,
    begun: Option<Instant>,
    rows: usize,
    /// Whose work the transaction holds.
    document: i64,
    /// It holds work of others too.
    mixed: bool,
    /// A switch is under way: nothing commits until it ends.
    switch: bool,
    analyzed: bool,
    optimized: Instant,
    /// When small work and bulk work came last.
    small: Option<Instant>,
    bulk: Option<Instant>,
}

impl<'c> Writer<'c> {
    /// A writer on an open database.
    pub fn new(
        mut db: Database<'c>,
        path: String,
        place: Place,
        checkpointer: Checkpointer,
    ) -> Result<Self, Fault> {
        let statistics = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'";
        let analyzed = db.one(statistics, &[], |_| ())?.is_some();
        Ok(Self {
            db,
            path,
            place,
            checkpointer,
            waiting: Vec::new(),
            begun: None,
            rows: 0,
            document: 0,
            mixed: false,
            switch: false,
            analyzed,
            optimized: Instant::now(),
            small: None,
            bulk: None,
        })
    }

    /// Works until the queue is closed; gives the checkpointer back, to be ended before the connection.
    pub fn run(mut self, queue: &Taker<'_>) -> Checkpointer {
        while let Some((lane, command)) = self.take(queue) {
            pulse::beat();
            match lane {
                Lane::Small => self.small = Some(Instant::now()),
                Lane::Bulk => self.bulk = Some(Instant::now()),
            }
            match command {
                Command::Work(work) => self.perform(work),
                Command::Hurry if self.switch => {}
                Command::Hurry => self.commit(),
            }
            if !self.switch && self.rows >= FEWER_ROWS && self.rows >= self.most_rows() {
                self.commit();
            }
        }
        if self.switch {
            self.abort(&StoreError::SwitchLost);
        }
        self.commit();
        if let Err(error) = self.db.run("PRAGMA optimize", &[]) {
            tracing::warn!(%error, "the planner's statistics could not be brought up to date");
        }
        self.checkpointer
    }

    fn most_rows(&self) -> usize {
        let lately = |came: Option<Instant>| came.is_some_and(|came| came.elapsed() < BESIDE);
        if lately(self.small) && lately(self.bulk) { FEWER_ROWS } else { MOST_ROWS }
    }

    /// The next command; commits while there is none.
    fn take(&mut self, queue: &Taker<'_>) -> Option<(Lane, Command)> {
        loop {
            match queue.take(Duration::ZERO) {
                Next::Command(lane, command) => return Some((lane, command)),
                Next::Closed => return None,
                Next::Nothing => {}
            }
            // While nobody waits for what was done so far, more is likely to follow at once, and to share the flush.
            let patience = match self.begun {
                _ if self.switch => OPTIMIZE_EVERY,
                Some(begun) => PATIENCE.saturating_sub(begun.elapsed()),
                None => OPTIMIZE_EVERY,
            };
            if patience > Duration::ZERO {
                match queue.take(patience) {
                    Next::Command(lane, command) => return Some((lane, command)),
                    Next::Closed => return None,
                    Next::Nothing => {}
                }
            }
            if !self.switch {
                self.commit();
                self.maintain();
            }
        }
    }

    fn perform(&mut self, work: Work) {
        let turn = work.turn;
        let ends = matches!(turn, Turn::Keeps | Turn::TakesBack);
        let sole = turn == Turn::Alone && !self.switch;
        if sole || (turn == Turn::Opens && !self.switch) {
            self.commit();
        } else if turn == Turn::Opens || ((self.switch || ends) && self.db.switch().is_none()) {
            // What came before was taken back; what belongs to it must not be stored alone.
            self.switch &= !ends;
            (work.refuse)(Err(StoreError::SwitchLost));
            return;
        }
        if self.begun.is_none() {
            // Somebody else may hold the file.
            let waiting = pulse::waiting();
            let begun = self.place.check(&self.path).and_then(|()| {
                let spilled = self.db.spill(turn == Turn::Opens);
                spilled.and_then(|()| self.db.begin()).map_err(|fault| fault.for_caller(&self.path))
            });
            drop(waiting);
            if let Err(error) = begun {
                self.abort(&error);
                (work.refuse)(Err(error));
                return;
            }
            self.begun = Some(Instant::now());
            self.document = work.document;
        }
        self.mixed |= self.document != work.document;
        // A savepoint copies each page that the step changes, which for a step that changes all rows is the database in
        // memory, gone through by every statement that ends. Where all is of one document there is nobody to protect: it
        // fails as a whole and is read again from its last commit. So does what fails alone or in a switch.
        let of_one = !self.mixed && self.document != 0;
        let alone = of_one || turn != Turn::Shares || self.switch;
        let (rows, durable) = (work.rows, work.durable);
        let begun = if alone { Ok(()) } else { self.db.step() };
        let (result, answer) = match begun {
            Ok(()) => (work.step)(&mut self.db),
            Err(fault) => (Err(fault), work.refuse),
        };
        match result.and_then(|()| if alone { Ok(()) } else { self.db.keep() }) {
            Ok(()) => {
                self.rows += rows;
                self.switch = turn == Turn::Opens || (self.switch && !ends);
                if turn == Turn::TakesBack {
                    answer(self.db.roll_back(false).map_err(|fault| fault.for_caller(&self.path)));
                    self.settle(&Ok(()));
                } else if durable && !self.switch {
                    self.waiting.push(answer);
                } else {
                    answer(Ok(()));
                }
                if turn == Turn::Keeps || sole {
                    self.commit();
                }
            }
            Err(fault) => {
                self.switch &= !ends;
                self.take_back(&fault, answer, alone);
            }
        }
    }

    /// Takes a failed step back: alone if it alone is at fault, else with the whole transaction.
    fn take_back(&mut self, fault: &Fault, answer: Answer, alone: bool) {
        let error = fault.for_caller(&self.path);
        let whole = alone || matches!(error, StoreError::Transient { .. }) || self.db.switch().is_some();
        if whole || self.db.connection().autocommit() || self.db.roll_back(true).is_err() {
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
        let committed = self.place.check(&self.path);
        let committed =
            committed.and_then(|()| self.db.commit().map_err(|fault| fault.for_caller(&self.path)));
        match committed {
            Ok(()) => {
                self.place.committed();
                crash_point::reached("commit-after");
                self.settle(&Ok(()));
                self.checkpointer.committed();
            }
            Err(error) => self.abort(&error),
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

/// Stores a chunk behind its fence. What was made `ready` of its rows is stored together.
pub fn store_chunk(db: &mut Database<'_>, chunk: &Chunk, ready: Option<Ready>) -> Result<Committed, Fault> {
    documents::fence(db, chunk)?;
    let ready = match ready {
        Some(mut ready) => {
            ready.number(db)?;
            Some(ready)
        }
        None => None,
    };
    if let Some(grown) = &chunk.grown {
        growing::move_on(db, chunk.document, grown)?;
    }
    let reading = documents::reading(db, chunk.document)?;
    let mut tally = Tally::default();
    let mut batch = Batch::new(&reading);
    for (place, row) in chunk.rows.iter().enumerate() {
        if place == chunk.rows.len() / 2 {
            crash_point::reached("commit-inside");
        }
        match row {
            ChunkRow::Leg(row) => {
                batch.add(db, row, ready.as_ref().and_then(|ready| ready.row(place)), &mut tally)?;
                tally.span(row.leg.cdr.started_at);
            }
            ChunkRow::Skipped(_) => tally.note(Outcome::Skipped),
            ChunkRow::Rejected(rejection) => {
                documents::reject(db, chunk.document, rejection)?;
                let row = u64::from(rejection.position.row > 0);
                tally.counts.rejected += row;
                tally.counts.rows_read += row;
            }
        }
    }
    batch.flush(db, &mut tally)?;
    documents::count(db, chunk.document, &tally, chunk.end.as_ref())?;
    Ok(Committed {
        counts: tally.counts,
        legs_added: tally.changes.added,
        legs_withdrawn: tally.changes.withdrawn,
    })
}
