//! Identity, versions and the fold: which leg a record states, and the one row it ends in. Pure code: no clock, no
//! database, no configuration beyond the origin's key.
//!
//! A record is *identified* (`identity`): a key that no configuration changes, and a version hash. Records of one key
//! form a *group*; the *legs* of a group (`legs`) are a pure function of its statements, so that neither order nor
//! repetition nor the way a record came can change the table. `labels` keeps row numbers stable while legs merge and
//! split, `fold` makes the visible row, `plan` puts these together for a store, `reach` says what
//! must be read again with a document whose statements are withdrawn, `oracle` is the in-memory reference.
//!
//! Must never look at what is not stated by the record or its card: display names, recordings and cost decide nothing.

mod calls;
mod carried;
mod crowd;
mod fold;
mod identity;
mod labels;
mod legs;
pub mod oracle;
mod ordinals;
mod plan;
mod reach;
#[cfg(test)]
pub mod tests;

pub use calls::{Links, call_groups, links};
pub use crowd::Crowd;
pub use fold::{fold, ranked};
pub use identity::{Identified, Identifier, Key};
pub use plan::{Held, Plan, PlannedLeg, plan};
pub use reach::{Span, reach};
