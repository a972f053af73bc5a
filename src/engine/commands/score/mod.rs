//! `orchestrate score`: a stage's reward mix, on texts that are not trained on.

mod calibrate;
mod judges;
mod mix;
mod texts;

pub use mix::run;

use mix::{Mix, rewards, tell};
