//! The command line through the real binary. Nothing here needs libtorch: where a worker is needed, a shell script that
//! keeps the worker's contract (attempt directory, events, exit code) stands in for it. What the real worker does is
//! tested in `tests/engine`.

mod after;
mod cache;
mod cancel;
mod command_stage;
mod commands;
mod compare;
mod cost;
mod damaged_logs;
mod diff;
mod dispatch;
mod env;
mod exit_codes;
mod explain;
mod export;
mod faults;
#[path = "../harness.rs"]
#[expect(dead_code, reason = "the tests of the engine use the rest")]
mod harness;
mod history;
mod hostile;
mod liveness;
mod memory;
mod orphans;
mod report;
mod runs;
mod samples;
mod scheduling;
mod serve;
mod verify;
mod widths;
