//! All integration tests in one binary: one module per theme.

mod append;
mod architecture;
mod commands;
mod config_errors;
mod config_file;
mod crash;
mod docs;
mod hostile;
mod not_cdrs;
mod operator;
mod repeats;
mod site;
mod sixty;
mod tour;
