//! The command `orchestrate score`: a stage's reward mix on given texts, without training.

mod calibrate;
mod credit;
mod judges;
mod mix;
mod probe;
mod texts;

pub use mix::run;

use mix::{Mix, rewards, tell};
