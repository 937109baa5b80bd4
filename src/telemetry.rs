//! Names of log fields and message ids; no logic.
