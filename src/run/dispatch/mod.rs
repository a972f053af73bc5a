//! The loop of a run: starts ready stages, follows running ones, and handles their ends.
//!
//! One task selects over three things: a worker that ended, a request to stop, and a tick. On a tick it checks event
//! files, time limits and leases. Each of them is handled completely by a single method, the only one to change its
//! state.

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
