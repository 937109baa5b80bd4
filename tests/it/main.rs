//! All integration tests in one binary: one module per theme.

mod append;
mod architecture;
mod commands;
mod config_errors;
mod config_file;
mod config_formats;
mod control;
mod crash;
mod docs;
mod export;
mod faults;
mod health;
mod hostile;
mod manual;
mod mapping;
mod mend;
mod not_cdrs;
mod operator;
mod readings;
mod repeats;
mod service;
mod site;
mod sixty;
mod snapshots;
mod together;
mod tour;
