//! Moves the write-ahead log into the database beside the writer, so that the writer need not.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::runtime::Handle;

/// A smaller log is not worth a flush of the database.
const FROM_BYTES: u64 = 4 << 20;

/// At most one checkpoint in this time.
const PAUSE: Duration = Duration::from_millis(500);

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
    let mut log = options.get_filename().as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    let mut connection: Option<SqliteConnection> = None;
    while woken.recv().is_ok() {
        if std::fs::metadata(&log).is_ok_and(|log| log.len() >= FROM_BYTES) {
            let done = handle.block_on(checkpoint(options, &mut connection));
            if let Err(error) = done {
                // Not fatal: the writer checkpoints by itself when the log has grown further.
                tracing::warn!(%error, "the write-ahead log could not be moved into the database");
                connection = None;
            }
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
