//! The nouns: one file per stage of the flow, in the order in which a record meets them.
//!
//! Every other module may import this one; it imports nothing of the crate, does no I/O and knows no clock.

pub mod card;
pub mod cdr;
pub mod delivery;
pub mod disk;
pub mod document;
pub mod extra;
pub mod field;
pub mod origin;
pub mod outcome;
pub mod port;
pub mod raw;
pub mod remote;
