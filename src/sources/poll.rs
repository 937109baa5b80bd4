//! The kinds of far sides that are polled, a file for each.

pub mod ucm;
