//! The self-test of the engine on this machine's device: `orchestrate-worker self-test`.
//!
//! It needs only the worker and `tests/golden`, so a host with a GPU and no compiler can run it. It checks:
//!
//! - values of other implementations, in 32 and 16 bits
//! - the ways in which only a GPU computes, beside the plain ways
//! - the whole pipeline on a tiny model
//! - a kill and a resume
//! - whether GPU memory is released

mod checks;
mod kernels;
mod parity;
mod pipeline;
mod project;
mod widths;

pub use checks::run;

use checks::{Report, line};
