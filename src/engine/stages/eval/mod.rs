//! Measurements on held-out data: accuracy by generation and by likelihood, pass@k, every reward component, length, and
//! perplexity. Each has a 95% interval.

mod batches;
mod best;
mod kept;
mod measured;
mod probes;
mod stage;

pub(super) use self::batches::QUESTIONS_PER_ROW;
pub(super) use stage::*;
