//! Helpers that the judges' tests share.

use crate::rewards::{JudgeSampling, RubricScale};

pub(super) const SAMPLING: JudgeSampling = JudgeSampling { temperature: 0.0, seed: 0, max_tokens: 64 };

pub(super) fn scale() -> RubricScale {
    let prompt = "Rate from {{ min_score }} to {{ max_score }}: {{ completion }}".to_owned();
    RubricScale { prompt, min_score: 1, max_score: 5 }
}
