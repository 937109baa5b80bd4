//! cdrd collects call detail records (CDRs) from every PBX and keeps each call leg exactly once.
//!
//! Modules in the order in which a record meets them; ARCHITECTURE.md tells the flow, `tests/it/architecture.rs` holds
//! the import rules.

pub mod record;

pub mod sources;
// The door.
pub mod intake;
pub mod unpack;
// What the bytes mean.
pub mod formats;
pub mod normalise;
// Which leg it is, and the one row it ends in.
pub mod dedup;
pub mod store;

pub mod pipeline;
// What other programs may ask.
pub mod api;

pub mod cli;
pub mod config;
pub mod daemon;
pub mod telemetry;

// What door and store both speak to their databases with.
pub mod sqlite;

pub mod crash_point;
pub mod pulse;
