//! All integration tests in one binary: one module per theme.

mod architecture;
mod commands;
mod config_errors;
mod config_file;
mod crash;
mod docs;
mod health;
mod hostile;
mod manual;
mod mend;
mod mending;
mod not_cdrs;
mod operator;
mod repeats;
mod site;
mod sixty;
mod snapshots;
mod tour;
