//! Moves the write-ahead log into the database beside the writer, so that the writer need not.

use crate::pulse;
use crate::record::delivery::printable;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::runtime::Handle;

/// A smaller log is not worth a flush of the database.
const FROM_BYTES: u64 = 4 << 20;

/// At most one checkpoint in this time.
const PAUSE: Duration = Duration::from_millis(500);

/// How soon a checkpoint that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// A thread with a connection of its own.
#[derive(Debug)]
pub struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts it.
    pub fn start(options: SqliteConnectOptions, handle: Handle) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("cdrd-checkpoint".to_owned())
            .spawn(move || run(&options, &handle, &woken))?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    /// Says that the log grew.
    pub fn committed(&self) {
        if let Some(Err(TrySendError::Disconnected(()))) = self.wake.as_ref().map(|wake| wake.try_send(())) {
            tracing::debug!("the checkpoint thread has ended; the writer checkpoints by itself");
        }
    }
}

impl Drop for Checkpointer {
    /// Ends the thread and waits: its connection must be closed before the writer's, which then truncates the log.
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the checkpoint thread panicked");
        }
    }
}

fn run(options: &SqliteConnectOptions, handle: &Handle, woken: &Receiver<()>) {
    let path = printable(options.get_filename().as_os_str().as_bytes());
    let mut told: Option<String> = None;
    let mut log = options.get_filename().as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    let mut connection: Option<SqliteConnection> = None;
    let _enrolled = pulse::enrol("the checkpoints");
    loop {
        // What failed is tried again even if nothing more is written.
        let waiting = pulse::waiting();
        let ended = if told.is_some() {
            woken.recv_timeout(AGAIN) == Err(RecvTimeoutError::Disconnected)
        } else {
            woken.recv().is_err()
        };
        drop(waiting);
        if ended {
            break;
        }
        if std::fs::metadata(&log).is_ok_and(|log| log.len() >= FROM_BYTES) {
            // The driver's thread does it; what holds that up is the disk.
            let waiting = pulse::waiting();
            let done = handle.block_on(checkpoint(options, &mut connection));
            drop(waiting);
            let failed = done.err().map(|error| super::of_sqlx(&path, &error).to_string());
            if let Some(error) = &failed {
                // Not fatal: rows are safe in the log, which goes on growing. Said once, until another cause holds it up.
                if told.as_ref() != Some(error) {
                    tracing::warn!("the write-ahead log stays and grows: {error}");
                }
                connection = None;
            } else if told.is_some() {
                tracing::info!("the write-ahead log is moved into {path} again");
            }
            told = failed;
            std::thread::sleep(PAUSE);
        }
    }
    if let Some(connection) = connection
        && let Err(error) = handle.block_on(connection.close())
    {
        tracing::debug!(%error, "closing the checkpoint connection");
    }
}

async fn checkpoint(
    options: &SqliteConnectOptions,
    connection: &mut Option<SqliteConnection>,
) -> Result<(), sqlx::Error> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(options.connect().await?),
    };
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(open).await?;
    Ok(())
}
