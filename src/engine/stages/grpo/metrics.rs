//! What a rollout is like: lengths and truncation.

use super::super::scoring::Answer;
use std::collections::BTreeMap;

/// Means over the completions of a rollout.
pub(super) fn rollout_metrics(answers: &[Answer<'_>]) -> BTreeMap<String, f64> {
    let count = answers.len() as f64;
    let tokens: usize = answers.iter().map(|a| a.sampled.ids.len()).sum();
    let truncated = answers.iter().filter(|a| a.sampled.stop_reason.truncated()).count();
    BTreeMap::from([
        ("completion/tokens_mean".to_owned(), tokens as f64 / count),
        ("completion/truncated_frac".to_owned(), truncated as f64 / count),
    ])
}
