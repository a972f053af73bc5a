//! The loop of a run: starts what is ready, follows what is running, decides what follows from how it ended.
//!
//! One task selects over three things: a worker that ended, a request to stop, and a tick on which event files, time limits
//! and leases are looked at. Each is handled to the end by a method that is the only place where its state changes.

mod cached;
mod endings;
mod eta;
mod leases;
mod retries;
mod run_loop;
mod running;
mod starts;

pub(super) use cached::Cached;
pub(super) use run_loop::{Dispatch, Loop};
