//! Where bytes come from: each source receives, hands to the door, and acknowledges only after its receipt.

pub mod folder;
pub mod poll;
pub mod polling;
pub mod sftp;
