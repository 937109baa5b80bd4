//! Names of log fields and kinds of events: what filters in the journal rely on. Names stay, new ones may come.
//!
//! An event carries them as ordinary fields; the journal gets them in upper case without a prefix:
//! `tracing::info!(cdrd_source = source, message_id = telemetry::DELIVERY_STORED, "...")` and then
//! `journalctl CDRD_SOURCE=inbox` or `journalctl MESSAGE_ID=...`.

/// How the names of our own fields begin, all but [`MESSAGE_ID`]. The message says the same in words.
pub const PREFIX: &str = "cdrd_";
/// Log field: name of the source.
pub const CDRD_SOURCE: &str = "cdrd_source";
/// Log field: name of the origin.
pub const CDRD_ORIGIN: &str = "cdrd_origin";
/// Log field: id of the delivery.
pub const CDRD_DELIVERY: &str = "cdrd_delivery";
/// Log field: name of the delivery as sent, printable.
pub const CDRD_NAME: &str = "cdrd_name";
/// Log field: id of the format.
pub const CDRD_FORMAT: &str = "cdrd_format";
/// Log field: state in which a delivery ended.
pub const CDRD_STATE: &str = "cdrd_state";
/// Log field: address of somebody who could not log in.
pub const CDRD_PEER: &str = "cdrd_peer";
/// Log field: health of a source.
pub const CDRD_HEALTH: &str = "cdrd_health";
/// Log fields: the counts of a delivery.
pub const CDRD_COUNTS: [&str; 7] = [
    "cdrd_rows_read",
    "cdrd_stored",
    "cdrd_duplicate",
    "cdrd_amended",
    "cdrd_rejected",
    "cdrd_skipped",
    "cdrd_held",
];
/// Log field: the kind of event, one of the constants below.
pub const MESSAGE_ID: &str = "message_id";

/// A delivery was read and everything in it is stored or known.
pub const DELIVERY_STORED: &str = "7b1f6c0e5d3a4f5e9a6c2f18d0b7e431";
/// A delivery was read and it, or rows of it, were rejected.
pub const DELIVERY_REJECTED: &str = "c2a90d5547fb4c0b8e1d6af3925b708c";
/// Originals of deliveries that nobody could read were dropped, as `[keep]` says.
pub const ORIGINALS_DROPPED: &str = "b7d05e93f1824c6ea08f4d2c7e6a913b";
/// The health of a source changed.
pub const SOURCE_STATE_CHANGED: &str = "15e8b3d9a7624d1fb0c46e9f72d5813a";
/// The daemon is ready.
pub const STARTED: &str = "e04d7a9b13c84e62a5f8b1c7069d3e2f";
/// The configuration was read again, or refused.
pub const RELOADED: &str = "3a7be2c4916d4f0f8d25c1e0b97a64f8";
/// The daemon was told to stop.
pub const STOPPING: &str = "48f2c6d1be0749a38d75e9a06b14fc53";
/// An origin's zone and the epochs in its data disagree.
pub const CLOCK_FAULT: &str = "9d36a1f7c5e04b28b7f3d08c6e59a214";
/// After an interrupted run, what it left was found and taken up again.
pub const RECOVERED: &str = "f61b90c8d2374ea59c0e7d4a1b86f35d";

/// Somebody could not log in to the SFTP server, or failed too often.
pub const LOGIN_REFUSED: &str = "5c8e1f07d2b94a36b0f7a4c3e6918d2e";

/// Every kind of event, with the name under which the documentation lists it.
pub const KINDS: [(&str, &str); 9] = [
    ("delivery stored", DELIVERY_STORED),
    ("delivery rejected", DELIVERY_REJECTED),
    ("source state changed", SOURCE_STATE_CHANGED),
    ("started", STARTED),
    ("reloaded", RELOADED),
    ("stopping", STOPPING),
    ("clock fault", CLOCK_FAULT),
    ("recovered", RECOVERED),
    ("log-in refused", LOGIN_REFUSED),
];

/// A value of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name as scraped.
    pub name: &'static str,
    /// Whether it only grows, from 0 at each start of the daemon.
    pub counter: bool,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    counter: bool,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, counter, labels, help }
}

/// Rows by outcome.
pub const ROWS: Metric =
    metric("cdrd_rows_total", true, &["source", "outcome"], "Rows of deliveries that ended, by outcome");
/// Deliveries by the state in which they ended.
pub const DELIVERIES: Metric =
    metric("cdrd_deliveries_total", true, &["source", "state"], "Deliveries that ended, by state");
/// Bytes of bodies.
pub const BYTES: Metric =
    metric("cdrd_delivery_bytes_total", true, &["source"], "Bytes of deliveries that ended, as they arrived");
/// Whether a source works.
pub const SOURCE_HEALTHY: Metric = metric(
    "cdrd_source_healthy",
    false,
    &["source"],
    "1 while the source works and brings rows as expected, else 0",
);
/// Whether a source is silent.
pub const SOURCE_SILENT: Metric = metric(
    "cdrd_source_silent",
    false,
    &["source"],
    "1 while no rows came for longer than expect_every, else 0",
);
/// When rows last came.
pub const SOURCE_HEARD: Metric = metric(
    "cdrd_source_last_rows_timestamp_seconds",
    false,
    &["source"],
    "When rows last came from the source, or since when it is watched; seconds since 1970 UTC",
);
/// What waits.
pub const WAITING: Metric =
    metric("cdrd_waiting_deliveries", false, &["source"], "Deliveries received and not stored yet");
/// Its bytes.
pub const WAITING_BYTES: Metric =
    metric("cdrd_waiting_bytes", false, &["source"], "Bytes of deliveries received and not stored yet");
/// What waits for a person.
pub const STUCK: Metric = metric(
    "cdrd_stuck_deliveries",
    false,
    &["source"],
    "Deliveries received that cannot be stored before a person acts",
);
/// How old it is.
pub const LAG: Metric = metric(
    "cdrd_lag_seconds",
    false,
    &["source"],
    "Age of the oldest delivery that is not stored yet, 0 if none",
);
/// Room on the disk.
pub const DISK_FREE: Metric =
    metric("cdrd_disk_free_bytes", false, &[], "Free bytes of the disk with the state directory");
/// The reserve.
pub const DISK_RESERVE: Metric =
    metric("cdrd_disk_reserve_bytes", false, &[], "Free bytes below which new deliveries are refused");

/// All metrics, in the order in which they are documented.
pub const METRICS: [Metric; 12] = [
    ROWS,
    DELIVERIES,
    BYTES,
    SOURCE_HEALTHY,
    SOURCE_SILENT,
    SOURCE_HEARD,
    WAITING,
    STUCK,
    WAITING_BYTES,
    LAG,
    DISK_FREE,
    DISK_RESERVE,
];

#[cfg(test)]
mod tests {
    use super::KINDS;
    use std::collections::HashSet;

    #[test]
    fn each_kind_has_its_own_id_of_128_bits() {
        let ids: HashSet<_> = KINDS.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids.len(), KINDS.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b"0123456789abcdef".contains(&b))));
    }
}
