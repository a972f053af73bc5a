//! What a rollout is like: lengths, truncation, groups that teach nothing.

use super::super::scoring::Answer;
use crate::loss::standard_deviation;
use std::collections::BTreeMap;

/// Means and counts over the completions of a rollout, groups of `group_size` one after the other.
pub(super) fn rollout_metrics(
    answers: &[Answer<'_>],
    rewards: &[Option<f64>],
    group_size: usize,
) -> BTreeMap<String, f64> {
    let count = answers.len() as f64;
    let flat_groups = rewards
        .chunks(group_size)
        .filter(|group| standard_deviation(&group.iter().copied().flatten().collect::<Vec<f64>>()) < 1e-8)
        .count();
    let tokens: usize = answers.iter().map(|a| a.sampled.ids.len()).sum();
    let truncated = answers.iter().filter(|a| a.sampled.stop_reason.truncated()).count();
    BTreeMap::from([
        ("grpo/zero_std_groups".to_owned(), flat_groups as f64),
        ("completion/tokens_mean".to_owned(), tokens as f64 / count),
        ("completion/truncated_frac".to_owned(), truncated as f64 / count),
    ])
}
