//! Readers of syntaxes: bytes to fields or members with their exact place, whoever wrote them.
//!
//! Must never know a vendor, and never hold more than a record and a buffer in memory.

pub mod delimited;
pub mod encoding;
pub mod json;
mod marks;
mod split;
mod window;
pub mod xml;

pub use split::Fields;

/// Longest record that is read; a longer one is a fault, and reading goes on behind it.
pub const RECORD_CAP: usize = 1024 * 1024;
