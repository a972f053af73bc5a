//! Whether the engine computes on this machine's device what it should: `orchestrate-worker self-test`.
//!
//! It needs nothing but the worker and `tests/golden`, so a host with a GPU and no compiler can run it: the peers' values
//! in 32 and 16 bits, the whole pipeline on a tiny model, a kill and a resume, and whether memory comes back.

mod checks;
mod parity;
mod pipeline;
mod project;

pub use checks::run;

use checks::{Report, line};
