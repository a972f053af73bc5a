//! The loop of a run: starts ready stages, follows running ones, and handles their ends.
//!
//! One task selects over three things: a worker that ended, a request to stop, and a tick. On a tick it checks event
//! files,
//! time limits and leases. A single method handles each of them completely and is the only one to change its state.

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
