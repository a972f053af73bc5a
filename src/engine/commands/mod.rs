//! Commands about a model (`orchestrate model logprobs|embed|generate|merge`) and about a stage's reward mix
//! (`orchestrate score`).
//!
//! A request is an `orchestrate_core::exec::ModelRequest` or `ScoreRequest`. Answers go to stdout, one JSON object on
//! each line.

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
