//! Documents to raw records.
