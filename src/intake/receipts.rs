//! Writing receipts: concurrent callers share one transaction, so that a hundred senders wait for one flush.

use super::door::{Arrival, Outcome, Stored};
use super::spool::{moment, unflushed};
use super::{Bookmark, Intake, IntakeError, bookmarks, locked, seen};
use crate::record::delivery::{Delivery, DeliveryId};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

/// What one call writes.
pub(super) struct Batch {
    pub arrivals: Vec<Outcome<Arrival>>,
    /// Announced claims that failed.
    pub undone: Vec<DeliveryId>,
    pub shared: Option<Bookmark>,
}

/// Which arrivals of a batch were seen before.
type Known = Vec<bool>;

struct Job {
    batch: Batch,
    answer: SyncSender<(Batch, Result<Known, IntakeError>)>,
}

/// Callers that wait for a flush, and the one that makes it.
#[derive(Default)]
pub(super) struct Queue {
    jobs: Mutex<Vec<Job>>,
    leading: Mutex<()>,
}

impl Intake {
    /// Writes a batch durably, together with those of everybody who waits.
    pub(super) fn record(&self, batch: Batch) -> (Batch, Result<Known, IntakeError>) {
        let (answer, answered) = sync_channel(1);
        locked(&self.0.queue.jobs).push(Job { batch, answer });
        // While somebody else commits, callers gather here; the next one commits for all of them.
        let leading = locked(&self.0.queue.leading);
        let jobs = std::mem::take(&mut *locked(&self.0.queue.jobs));
        if !jobs.is_empty() {
            self.commit(jobs);
        }
        drop(leading);
        answered.recv().expect("whoever takes a job answers it before letting the next one lead")
    }

    fn commit(&self, jobs: Vec<Job>) {
        let batches: Vec<&Batch> = jobs.iter().map(|job| &job.batch).collect();
        let together = self.block_on(write(&self.0.pool, &batches));
        let known: Vec<Result<Known, IntakeError>> = match together {
            Ok(known) => known.into_iter().map(Ok).collect(),
            Err(error) if jobs.len() == 1 => vec![Err(error)],
            // One of them may be at fault: each alone.
            Err(_) => {
                let alone = |batch: &&Batch| self.block_on(write(&self.0.pool, &[*batch]));
                batches
                    .iter()
                    .map(|batch| alone(batch).map(|known| known.into_iter().flatten().collect()))
                    .collect()
            }
        };
        for (job, known) in jobs.into_iter().zip(known) {
            // Its caller waits for nothing else; if it panicked, nobody misses the answer.
            let _ = job.answer.send((job.batch, known));
        }
    }
}

/// The transaction that makes everything of these calls durable.
async fn write(pool: &SqlitePool, batches: &[&Batch]) -> Result<Vec<Known>, sqlx::Error> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut known = Vec::with_capacity(batches.len());
    for batch in batches {
        known.push(write_batch(&mut transaction, batch).await?);
    }
    transaction.commit().await?;
    Ok(known)
}

async fn write_batch(connection: &mut SqliteConnection, batch: &Batch) -> Result<Known, sqlx::Error> {
    for id in &batch.undone {
        sqlx::query("DELETE FROM receipt WHERE id = ? AND state = 'claiming'")
            .bind(id.to_string())
            .execute(&mut *connection)
            .await?;
    }
    let mut known = Vec::with_capacity(batch.arrivals.len());
    for arrival in &batch.arrivals {
        known.push(match arrival {
            Ok(arrival) => write_arrival(connection, arrival).await?,
            Err(_) => false,
        });
    }
    if let Some(bookmark) = &batch.shared {
        bookmarks::put(connection, bookmark).await?;
    }
    Ok(known)
}

async fn write_arrival(connection: &mut SqliteConnection, arrival: &Arrival) -> Result<bool, sqlx::Error> {
    let repeat_of = match &arrival.content_hash {
        Some(hash) => seen::earlier(connection, key(&arrival.delivery), hash, true).await?,
        None => None,
    };
    insert(connection, arrival, "waiting", repeat_of.as_deref()).await?;
    if let Stored::Inline(bytes) = &arrival.stored {
        sqlx::query("INSERT INTO body (id, bytes) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(arrival.id.to_string())
            .bind(bytes.as_slice())
            .execute(&mut *connection)
            .await?;
    }
    if let Some(bookmark) = &arrival.bookmark {
        bookmarks::put(connection, bookmark).await?;
    }
    Ok(repeat_of.is_some())
}

/// Writes down which files are about to be moved where, before the first one is. Not flushed: a power cut that undoes
/// it and not the move leaves a file in the claim folder that belongs to no delivery, which its source hands in again.
pub(super) async fn announce_claims(
    pool: &SqlitePool,
    arrivals: &[Outcome<Arrival>],
) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    unflushed!(connection, announce(&mut connection, arrivals))
}

async fn announce(
    connection: &mut SqliteConnection,
    arrivals: &[Outcome<Arrival>],
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for arrival in arrivals.iter().flatten() {
        if matches!(arrival.stored, Stored::Claim { .. }) {
            insert(&mut transaction, arrival, "claiming", None).await?;
        }
    }
    transaction.commit().await
}

fn key(delivery: &Delivery) -> seen::Key<'_> {
    seen::Key {
        origin: &delivery.origin,
        source: &delivery.source,
        account: delivery.account.as_deref(),
        pinned_format: delivery.pinned_format.as_deref(),
        reading: &delivery.reading,
    }
}

/// Writes a receipt; one that was announced as `claiming` is completed.
async fn insert(
    connection: &mut SqliteConnection,
    arrival: &Arrival,
    state: &str,
    repeat_of: Option<&str>,
) -> Result<(), sqlx::Error> {
    let (kind, path, original, stamp) = match &arrival.stored {
        Stored::Inline(_) => ("inline", None, None, None),
        Stored::Spool(path) => ("spool", Some(path), None, None),
        Stored::Claim { from, target, stamp, .. } => ("claimed", Some(target), Some(from), *stamp),
    };
    let delivery = &arrival.delivery;
    sqlx::query(
        "INSERT INTO receipt (id, state, origin, source, account, peer, name, received_at, pinned_format, time_zone,
             reading, bytes, content_hash, repeat_of, body_kind, body_path, device, inode, mtime_ns, original_path)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, bytes = excluded.bytes,
             content_hash = excluded.content_hash, repeat_of = excluded.repeat_of, device = excluded.device,
             inode = excluded.inode, mtime_ns = excluded.mtime_ns",
    )
    .bind(arrival.id.to_string())
    .bind(state)
    .bind(&delivery.origin)
    .bind(&delivery.source)
    .bind(&delivery.account)
    .bind(&delivery.peer)
    .bind(&delivery.name)
    .bind(moment(delivery.received_at))
    .bind(&delivery.pinned_format)
    .bind(&delivery.time_zone)
    .bind(delivery.reading.as_slice())
    .bind(arrival.bytes.cast_signed())
    .bind(arrival.content_hash.as_ref().map(<[u8; 32]>::as_slice))
    .bind(repeat_of)
    .bind(kind)
    .bind(path.map(|path| path.as_os_str().as_bytes()))
    .bind(stamp.map(|stamp| stamp.device.cast_signed()))
    .bind(stamp.map(|stamp| stamp.inode.cast_signed()))
    .bind(stamp.map(|stamp| stamp.mtime_ns))
    .bind(original.map(|path| path.as_os_str().as_bytes()))
    .execute(connection)
    .await?;
    Ok(())
}
