//! All integration tests in one binary: one module per theme.

mod architecture;
mod commands;
mod config_errors;
mod config_file;
mod config_formats;
mod crash;
mod docs;
mod hostile;
mod mapping;
mod not_cdrs;
mod operator;
mod site;
mod sixty;
mod tour;
