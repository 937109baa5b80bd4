//! The receipts of `spool.db`: what waits, what is being read, and where its bytes lie.

use super::durable::{self, Stamp};
use super::error::shown;
use super::{Intake, IntakeError, seen};
use crate::record::delivery::{DeliveryId, Growth, Spooled, SpooledBody};
use crate::sqlite::Prepared;
use crate::sqlite::raw::{self, SqlError, Value};
use jiff::{Timestamp, tz::TimeZone};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A delivery taken up for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The delivery.
    pub spooled: Spooled,
    /// The earlier delivery of the same bytes that ended well; then nothing is to be read.
    pub repeat_of: Option<DeliveryId>,
    /// The earlier delivery in which these bytes ended well, alone or in an archive, as far as it was known when this one
    /// was taken up.
    pub known_as: Option<DeliveryId>,
    /// What its file was when it was claimed from its folder.
    recorded: Option<Stamp>,
}

/// Which deliveries to take up: small ones share their flushes and never wait for a large one to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All.
    All,
    /// Bodies of at most [`SMALL`] bytes.
    Small,
    /// The others.
    Large,
}

/// The largest small body: a few hundred rows, which fit in memory many times over.
pub const SMALL: u64 = 64 * 1024;

impl Share {
    const fn least(self) -> u64 {
        match self {
            Self::All | Self::Small => 0,
            Self::Large => SMALL + 1,
        }
    }

    const fn most(self) -> u64 {
        match self {
            Self::Small => SMALL,
            Self::All | Self::Large => i64::MAX as u64,
        }
    }

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    pub(super) const fn takes_small(self) -> bool {
        matches!(self, Self::All | Self::Small)
    }

    pub(super) const fn takes_large(self) -> bool {
        matches!(self, Self::All | Self::Large)
    }
}

/// What the file of a claimed body is now; a body of the spool never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    now: Option<Stamp>,
    /// Whether that is what is recorded.
    pub recorded: bool,
}

impl Look {
    /// A body that never changes.
    pub const fn at_rest() -> Self {
        Self { now: None, recorded: true }
    }

    /// Whether nothing changed between two looks.
    pub fn is_same(&self, earlier: &Self) -> bool {
        self.now == earlier.now
    }
}

/// A delivery that is not yet retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Id.
    pub id: DeliveryId,
    /// Source.
    pub source: String,
    /// Name as sent, printable.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// `claiming`, `waiting`, `reading` or `unfinished`.
    pub state: String,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// What of a source is not yet retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Source.
    pub source: String,
    /// Deliveries.
    pub deliveries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest arrived.
    pub oldest: Timestamp,
}

/// How long a delivery rests after its first failure.
const FIRST_REST: Duration = Duration::from_millis(250);

/// Until when a delivery is left alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    until: Instant,
    pause: Duration,
}

/// A row of `receipt`.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub id: String,
    pub origin: String,
    pub source: String,
    pub account: Option<String>,
    pub peer: Option<String>,
    pub name: String,
    pub received_at: String,
    pub pinned_format: Option<String>,
    pub time_zone: Option<String>,
    pub reading: Vec<u8>,
    pub bytes: i64,
    pub content_hash: Option<Vec<u8>>,
    pub repeat_of: Option<String>,
    pub body_kind: String,
    pub body_path: Option<Vec<u8>>,
    pub device: Option<i64>,
    pub inode: Option<i64>,
    pub mtime_ns: Option<i64>,
    /// Set where the body grows: whether it has ended, and what it continues.
    pub ended: Option<bool>,
    pub continues: Option<String>,
    pub original_path: Option<Vec<u8>>,
    /// Whether the source wants to be told how it ended.
    pub feedback: bool,
}

/// The columns of [`Row::of`].
macro_rules! columns {
    () => {
        "SELECT id, origin, source, account, peer, name, received_at, pinned_format, time_zone, reading, bytes,
             content_hash, repeat_of, body_kind, body_path, device, inode, mtime_ns, original_path, ended, continues,
             feedback
         FROM receipt LEFT JOIN growing USING (id) "
    };
}

impl Row {
    fn of(row: &raw::Row<'_>) -> Self {
        Self {
            id: row.string(0),
            origin: row.string(1),
            source: row.string(2),
            account: row.text_given(3),
            peer: row.text_given(4),
            name: row.string(5),
            received_at: row.string(6),
            pinned_format: row.text_given(7),
            time_zone: row.text_given(8),
            reading: row.blob(9).to_vec(),
            bytes: row.int(10),
            content_hash: row.blob_given(11),
            repeat_of: row.text_given(12),
            body_kind: row.string(13),
            body_path: row.blob_given(14),
            device: row.int_given(15),
            inode: row.int_given(16),
            mtime_ns: row.int_given(17),
            original_path: row.blob_given(18),
            ended: row.int_given(19).map(|ended| ended != 0),
            continues: row.text_given(20),
            feedback: row.int(21) != 0,
        }
    }

    /// What `seen` is keyed by.
    pub fn key(&self) -> seen::Key<'_> {
        seen::Key {
            origin: &self.origin,
            source: &self.source,
            account: self.account.as_deref(),
            pinned_format: self.pinned_format.as_deref(),
            reading: &self.reading,
        }
    }

    /// The file that holds the body, unless it is in `spool.db`.
    pub fn path(&self) -> Option<PathBuf> {
        self.file().filter(|_| self.body_kind != "inline")
    }

    /// The file that goes when the delivery is retired: the body, or what it was taken from.
    pub fn file(&self) -> Option<PathBuf> {
        self.body_path.clone().map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }

    /// Where a file that was claimed lay before.
    pub fn original_path(&self) -> Option<PathBuf> {
        self.original_path.clone().map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }

    /// Whether the body is a file taken over from a folder.
    pub fn is_claimed(&self) -> bool {
        self.body_kind == "claimed"
    }

    fn recorded(&self) -> Option<Stamp> {
        Some(Stamp {
            bytes: self.bytes.cast_unsigned(),
            device: self.device?.cast_unsigned(),
            inode: self.inode?.cast_unsigned(),
            mtime_ns: self.mtime_ns?,
        })
    }

    /// Whether the file still is what was recorded.
    pub fn is_unchanged(&self, now: &Stamp) -> bool {
        self.bytes == now.bytes.cast_signed()
            && self.device == Some(now.device.cast_signed())
            && self.inode == Some(now.inode.cast_signed())
            && self.mtime_ns == Some(now.mtime_ns)
    }

    /// The hash of the body where it is known.
    pub fn hash(&self) -> Option<[u8; 32]> {
        self.content_hash.as_deref().and_then(|bytes| bytes.try_into().ok())
    }
}

/// A point in time as the public tables write it, UTC.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// Reads [`moment`] back.
pub(super) fn parse_moment(text: &str) -> Option<Timestamp> {
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

impl Intake {
    /// Takes up the delivery that waits longest.
    pub fn claim_next(&self) -> Result<Option<Claimed>, IntakeError> {
        Ok(self.claim(Share::All, 1)?.pop())
    }

    /// Takes up the deliveries of this share that wait longest, at most so many.
    pub fn claim(&self, share: Share, most: u32) -> Result<Vec<Claimed>, IntakeError> {
        // Before looking: what arrives from now on announces itself again.
        super::locked(&self.0.work).taken_up(share);
        let resting: Vec<String> = {
            let (resting, now) = (super::locked(&self.0.resting), Instant::now());
            resting.iter().filter(|(_, rest)| rest.until > now).map(|(id, _)| id.clone()).collect()
        };
        let resting = list(resting.into_iter());
        let found = self.write_unflushed(move |db| take_oldest(db, &resting, share, most));
        if found.as_ref().map_or(true, |found| !found.is_empty()) {
            // There may be more.
            self.announce_work();
        }
        found?.into_iter().map(|taken| self.claimed(taken)).collect()
    }

    fn claimed(&self, taken: Taken) -> Result<Claimed, IntakeError> {
        let Taken { row, body: inline, known_as } = taken;
        let damaged = |what| self.damaged(what, &row.id);
        let body = match (row.path(), inline) {
            (Some(path), _) => SpooledBody::File { path, claimed: row.is_claimed() },
            (None, Some(bytes)) => SpooledBody::Bytes(bytes),
            (None, None) => return Err(damaged("body")),
        };
        let repeat_of = match &row.repeat_of {
            Some(earlier) => Some(earlier.parse().map_err(|_| damaged("repeat_of"))?),
            None => None,
        };
        let growth = match (row.ended, &row.continues) {
            (None, _) => None,
            (Some(ended), None) => Some(Growth { ended, continues: None }),
            (Some(ended), Some(earlier)) => {
                Some(Growth { ended, continues: Some(earlier.parse().map_err(|_| damaged("continues"))?) })
            }
        };
        let recorded = row.recorded();
        let spooled = Spooled {
            id: row.id.parse().map_err(|_| damaged("id"))?,
            received_at: parse_moment(&row.received_at).ok_or_else(|| damaged("received_at"))?,
            reading: row.reading.as_slice().try_into().map_err(|_| damaged("reading"))?,
            bytes: row.bytes.cast_unsigned(),
            content_hash: row.hash(),
            origin: row.origin,
            source: row.source,
            account: row.account,
            peer: row.peer,
            name: row.name,
            pinned_format: row.pinned_format,
            time_zone: row.time_zone,
            body,
            growth,
        };
        // An id that cannot be read only costs reading the body.
        let known_as = known_as.and_then(|id| id.parse().ok());
        Ok(Claimed { spooled, repeat_of, known_as, recorded })
    }

    /// Puts a delivery back after a failure, behind the others.
    pub fn release(&self, id: DeliveryId) -> Result<(), IntakeError> {
        self.write_unflushed(move |db| put_back(db, &id.to_string()))?;
        self.announce_work();
        Ok(())
    }

    /// Lets a delivery that grows rest until more comes; its bytes are dealt with and brought so many new rows. It
    /// waits again at once if more came, or if it ended, meanwhile.
    pub fn rest_growing(&self, spooled: &Spooled, rows: u64) -> Result<(), IntakeError> {
        let (id, bytes, source) = (spooled.id, spooled.bytes, spooled.source.clone());
        self.write_unflushed(move |db| {
            db.run(
                "UPDATE receipt SET state = iif(bytes > ? OR EXISTS (SELECT 1 FROM growing
                                                                     WHERE growing.id = receipt.id AND ended = 1),
                                                'waiting', 'unfinished'),
                                    stuck_reason = NULL
                  WHERE id = ? AND state = 'reading'",
                &[Value::unsigned(bytes), Value::Text(&id.to_string())],
            )?;
            if rows > 0 {
                heard(db, &source, Timestamp::now())?;
            }
            Ok(())
        })?;
        super::locked(&self.0.resting).remove(&spooled.id.to_string());
        self.announce_work();
        Ok(())
    }

    /// Puts a delivery back that alone is at fault: it rests, longer each time, and the others go on. Tells how long.
    /// `stuck` says why it waits for a person, if it does; that outlives the process.
    pub fn set_aside(
        &self,
        id: DeliveryId,
        longest: Duration,
        stuck: Option<String>,
    ) -> Result<Duration, IntakeError> {
        let pause = {
            let mut resting = super::locked(&self.0.resting);
            let pause = resting.get(&id.to_string()).map_or(FIRST_REST, |rest| rest.pause * 2).min(longest);
            resting.insert(id.to_string(), Rest { until: Instant::now() + pause, pause });
            pause
        };
        self.write_unflushed(move |db| {
            let (id, reason) = (id.to_string(), stuck.as_deref().map_or(Value::Null, Value::Text));
            db.run("UPDATE receipt SET stuck_reason = ? WHERE id = ?", &[reason, Value::Text(&id)])?;
            put_back(db, &id)
        })?;
        self.announce_work();
        Ok(pause)
    }

    /// Looks at the body. A claimed file may have changed since: its sender can keep it open through the rename.
    pub fn look(&self, id: DeliveryId) -> Result<Look, IntakeError> {
        let row = self.receipt(id)?;
        let Some(path) = row.path().filter(|_| row.is_claimed()) else {
            return Ok(Look::at_rest());
        };
        let Some(now) = durable::stamp(&path)? else {
            return Err(IntakeError::BodyGone { id, path: shown(&path) });
        };
        Ok(Look { now: Some(now), recorded: row.is_unchanged(&now) })
    }

    /// As [`Intake::look`], of a delivery that was just taken up.
    pub fn first_look(&self, claimed: &Claimed) -> Result<Look, IntakeError> {
        let now = file_of(&claimed.spooled)?;
        Ok(Look { now, recorded: now.is_none() || now == claimed.recorded })
    }

    /// Whether the body still is what it was at an earlier look.
    pub fn is_same_as(&self, spooled: &Spooled, earlier: &Look) -> Result<bool, IntakeError> {
        Ok(file_of(spooled)? == earlier.now)
    }

    /// Records what a claimed file is now. Not before its bytes were read as they are: what is not recorded is read
    /// again from its first row, also after a crash.
    pub fn record_look(&self, id: DeliveryId, look: &Look) -> Result<(), IntakeError> {
        let Some(now) = look.now.filter(|_| !look.recorded) else { return Ok(()) };
        self.write(move |db| {
            db.run(
                "UPDATE receipt SET bytes = ?, device = ?, inode = ?, mtime_ns = ?, content_hash = NULL WHERE id = ?",
                &[
                    Value::unsigned(now.bytes),
                    Value::Int(now.device.cast_signed()),
                    Value::Int(now.inode.cast_signed()),
                    Value::Int(now.mtime_ns),
                    Value::Text(&id.to_string()),
                ],
            )?;
            Ok(())
        })
    }

    /// What is still to be stored, summed up for each source that has some. A file that is followed and rests, all of it
    /// stored, is none of it.
    pub fn waiting(&self) -> Result<Vec<Backlog>, IntakeError> {
        let rows = self.read(|db| {
            let sum = "SELECT source, count(*), sum(bytes), min(received_at) FROM receipt WHERE state <> 'unfinished'
                        GROUP BY source";
            db.all(sum, &[], |row| (row.string(0), row.int(1), row.int(2), row.string(3)))
        })?;
        rows.into_iter()
            .map(|(source, deliveries, bytes, oldest)| {
                let oldest = parse_moment(&oldest).ok_or_else(|| self.damaged("received_at", &source))?;
                Ok(Backlog {
                    source,
                    deliveries: deliveries.cast_unsigned(),
                    bytes: bytes.cast_unsigned(),
                    oldest,
                })
            })
            .collect()
    }

    /// Everything that is not yet retired, oldest first.
    pub fn backlog(&self) -> Result<Vec<Waiting>, IntakeError> {
        let rows = self.read(|db| {
            let all = "SELECT id, source, name, bytes, state, received_at FROM receipt ORDER BY rowid";
            db.all(all, &[], |row| {
                (row.string(0), row.string(1), row.string(2), row.int(3), row.string(4), row.string(5))
            })
        })?;
        rows.into_iter()
            .map(|(id, source, name, bytes, state, received_at)| {
                Ok(Waiting {
                    received_at: parse_moment(&received_at)
                        .ok_or_else(|| self.damaged("received_at", &id))?,
                    id: id.parse().map_err(|_| self.damaged("id", &id))?,
                    bytes: bytes.cast_unsigned(),
                    source,
                    name,
                    state,
                })
            })
            .collect()
    }

    /// Whether this file is the body of a delivery, or of a retired one about to be removed. A file of a claim folder
    /// that is neither was orphaned, and its source hands it in again.
    pub fn owns(&self, path: &std::path::Path) -> Result<bool, IntakeError> {
        use std::os::unix::ffi::OsStrExt as _;
        let bytes = path.as_os_str().as_bytes().to_vec();
        let found = self.read(move |db| {
            db.one(
                "SELECT 1 FROM receipt WHERE body_path = ?1 UNION ALL SELECT 1 FROM leftover WHERE path = ?1",
                &[Value::Blob(&bytes)],
                |_| (),
            )
        })?;
        Ok(found.is_some())
    }

    pub(super) fn receipt(&self, id: DeliveryId) -> Result<Row, IntakeError> {
        self.find_receipt(id)?.ok_or(IntakeError::UnknownDelivery { id })
    }

    /// The receipts of these deliveries, by id; those that are retired are missing.
    pub(super) fn find_receipts(
        &self,
        ids: impl Iterator<Item = DeliveryId>,
    ) -> Result<HashMap<String, Row>, IntakeError> {
        let ids = list(ids.map(|id| id.to_string()));
        let rows = self.read(move |db| rows(db, &ids))?;
        Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
    }

    pub(super) fn find_receipt(&self, id: DeliveryId) -> Result<Option<Row>, IntakeError> {
        self.read(move |db| {
            db.one(concat!(columns!(), "WHERE id = ?"), &[Value::Text(&id.to_string())], Row::of)
        })
    }

    pub(super) fn inline_body(&self, id: DeliveryId) -> Result<Option<Vec<u8>>, IntakeError> {
        self.read(move |db| {
            let sql = "SELECT bytes FROM body WHERE id = ?";
            db.one(sql, &[Value::Text(&id.to_string())], |row| row.blob(0).to_vec())
        })
    }
}

fn put_back(db: &mut Prepared<'_>, id: &str) -> Result<(), SqlError> {
    db.run(
        "UPDATE receipt SET state = 'waiting', rowid = (SELECT max(rowid) + 1 FROM receipt)
         WHERE id = ? AND state = 'reading'",
        &[Value::Text(id)],
    )?;
    Ok(())
}

/// Notes that rows came from a source.
pub(super) fn heard(db: &mut Prepared<'_>, source: &str, at: Timestamp) -> Result<(), SqlError> {
    let sql = "UPDATE source_state SET heard_at = ? WHERE source = ?";
    db.run(sql, &[Value::Text(&moment(at)), Value::Text(source)])?;
    Ok(())
}

/// What the claimed file of a body is now.
fn file_of(spooled: &Spooled) -> Result<Option<Stamp>, IntakeError> {
    let SpooledBody::File { path, claimed: true } = &spooled.body else { return Ok(None) };
    let gone = || IntakeError::BodyGone { id: spooled.id, path: shown(path) };
    durable::stamp(path)?.ok_or_else(gone).map(Some)
}

/// A JSON list of ids, which need no escaping.
pub(super) fn list(ids: impl Iterator<Item = String>) -> String {
    format!("[{}]", ids.map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(","))
}

fn rows(db: &mut Prepared<'_>, ids: &str) -> Result<Vec<Row>, SqlError> {
    let sql = concat!(columns!(), "WHERE id IN (SELECT value FROM json_each(?)) ORDER BY receipt.rowid");
    db.all(sql, &[Value::Text(ids)], Row::of)
}

/// A receipt that was taken up.
struct Taken {
    row: Row,
    /// Its body where that is inline.
    body: Option<Vec<u8>>,
    known_as: Option<String>,
}

fn take_oldest(
    db: &mut Prepared<'_>,
    resting: &str,
    share: Share,
    most: u32,
) -> Result<Vec<Taken>, SqlError> {
    let ids = db.all(
        "UPDATE receipt SET state = 'reading'
         WHERE rowid IN (SELECT rowid FROM receipt WHERE state = 'waiting' AND bytes BETWEEN ? AND ?
                            AND id NOT IN (SELECT value FROM json_each(?))
                            AND NOT EXISTS (SELECT 1 FROM growing JOIN receipt earlier ON earlier.id = continues
                                             WHERE growing.id = receipt.id)
                          ORDER BY rowid LIMIT ?) RETURNING id",
        &[
            Value::unsigned(share.least()),
            Value::unsigned(share.most()),
            Value::Text(resting),
            Value::Int(i64::from(most)),
        ],
        |row| row.string(0),
    )?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = list(ids.into_iter());
    let rows = rows(db, &ids)?;
    let bodies = db.all(
        "SELECT id, bytes FROM body WHERE id IN (SELECT value FROM json_each(?))",
        &[Value::Text(&ids)],
        |row| (row.string(0), row.blob(1).to_vec()),
    )?;
    let mut bodies: HashMap<String, Vec<u8>> = bodies.into_iter().collect();
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        let known_as = match row.hash() {
            Some(hash) => seen::earlier(db, row.key(), &hash, false)?,
            None => None,
        };
        taken.push(Taken { body: bodies.remove(&row.id), row, known_as });
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_back() -> Result<(), jiff::Error> {
        let at: Timestamp = "2026-03-29T00:59:59.012Z".parse()?;
        assert_eq!(moment(at), "2026-03-29 00:59:59.012");
        assert_eq!(parse_moment(&moment(at)), Some(at));
        assert_eq!(parse_moment("yesterday"), None);
        Ok(())
    }
}
