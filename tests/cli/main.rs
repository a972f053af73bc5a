//! The command line through the real binary. No test here needs libtorch: a shell script replaces the worker and
//! follows its contract (attempt directory, events, exit code). `tests/engine` tests the real worker.

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
mod overlap;
mod report;
mod runs;
mod samples;
mod scheduling;
mod serve;
mod until_separable;
mod verify;
mod widths;
