//! Questions about a model, one file each: `orchestrate model logprobs|embed|generate|merge`; and about a stage's reward mix:
//! `orchestrate score`.
//!
//! A request comes as `orchestrate_core::exec::ModelRequest` or `ScoreRequest`; answers go to stdout, one JSON object a line.

mod answer;
mod embed;
mod generate;
mod input;
mod logprobs;
mod merge;
mod score;

pub use answer::run;
pub use score::run as score;

use answer::{Answers, adapters_template, decoder};
