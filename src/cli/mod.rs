//! The command line: arguments, commands, and the form of their errors. Most commands have a file of their own.
//!
//! Commands print; the modules below print nothing except the live display of a run. Data goes to stdout through
//! `output::Output`, everything else to stderr. A command that needs no database does not open it. Only `run`,
//! `resume` and the commands that query the database start an async runtime.

mod amount;
mod arena;
mod args;
mod cache;
mod cancel;
mod check;
mod commands;
mod compare;
mod completions;
mod condition;
mod context;
mod cost;
mod db;
mod diff;
mod doctor;
mod error;
mod explain;
mod export;
mod find;
mod help;
mod history;
mod init;
mod keys;
mod logs;
mod man;
mod metrics;
mod model;
mod open_history;
mod output;
mod overlap;
mod plan;
mod planning;
mod program;
mod query;
mod report;
mod resume;
mod rewards;
mod run;
mod run_rows;
mod runs;
mod samples;
mod schema;
mod score;
mod serve;
mod show;
mod show_data;
mod summary;
mod until_separable;
mod verify;

pub use program::main;
