//! Metrics of a rollout: lengths, truncation, repetition.

use super::super::scoring::SampledCompletion;
use crate::loss::RunningStd;
use orchestrate_core::event::StopReason;
use orchestrate_core::rewards::{RewardMix, repeats};
use std::collections::BTreeMap;

/// The properties of a sampled completion that metrics use.
pub(super) struct Counted<'a> {
    text: &'a str,
    tokens: usize,
    stop_reason: StopReason,
}

impl<'a> From<&'a SampledCompletion<'_>> for Counted<'a> {
    fn from(answer: &'a SampledCompletion<'_>) -> Self {
        let sampled = &answer.sampled;
        Self { text: &answer.text, tokens: sampled.ids.len(), stop_reason: sampled.stop_reason }
    }
}

/// Computes means and counts over the completions of a rollout, which are groups of `group_size`, one after the other.
///
/// | metric | value over the rollout's completions |
/// | --- | --- |
/// | `completion/tokens_mean`, `_min`, `_max` | lengths in tokens, including the stop token |
/// | `completion/tokens_mean_stopped` | mean length of those that were not truncated, if any |
/// | `completion/truncated_frac` | fraction truncated by the length limit |
/// | `completion/repeated_frac` | fraction whose exact text occurs earlier in the group |
pub(super) fn rollout_metrics(completions: &[Counted<'_>], group_size: usize) -> BTreeMap<String, f64> {
    let count = completions.len() as f64;
    let lengths = || completions.iter().map(|completion| completion.tokens);
    let stopped: Vec<f64> =
        completions.iter().filter(|c| !c.stop_reason.truncated()).map(|c| c.tokens as f64).collect();
    let truncated = completions.len() - stopped.len();
    let repeated = repeats(completions.iter().map(|completion| completion.text), group_size);
    let mut metrics = BTreeMap::from([
        ("completion/tokens_mean".to_owned(), lengths().sum::<usize>() as f64 / count),
        ("completion/tokens_min".to_owned(), lengths().min().unwrap_or(0) as f64),
        ("completion/tokens_max".to_owned(), lengths().max().unwrap_or(0) as f64),
        ("completion/truncated_frac".to_owned(), truncated as f64 / count),
        ("completion/repeated_frac".to_owned(), repeated as f64 / count),
    ]);
    if let Some(mean) = orchestrate_core::stats::mean(&stopped) {
        metrics.insert("completion/tokens_mean_stopped".to_owned(), mean);
    }
    metrics
}

/// Returns what changes a reward over the steps: `reward/NAME_weight` of a component with a schedule, and
/// `reward/NAME_running_std` with `component_std = "running"`.
pub(super) fn mix_metrics(reward_mix: &RewardMix, running_std: &BTreeMap<String, RunningStd>) -> BTreeMap<String, f64> {
    let weights = reward_mix.changing_weights().map(|(name, weight)| (format!("reward/{name}_weight"), weight));
    let deviations = running_std.iter().map(|(name, running)| (format!("reward/{name}_running_std"), running.std()));
    weights.chain(deviations).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_reported_with_and_without_what_was_cut() {
        let counted = |text, tokens, stop_reason| Counted { text, tokens, stop_reason };
        let completions = [
            counted("a", 3, StopReason::StopToken),
            counted("b", 8, StopReason::Length),
            counted("c", 5, StopReason::StopString),
            counted("c", 8, StopReason::Length),
        ];
        let found = rollout_metrics(&completions, 2);
        let expected = [
            ("completion/repeated_frac", 0.25),
            ("completion/tokens_max", 8.0),
            ("completion/tokens_mean", 6.0),
            ("completion/tokens_mean_stopped", 4.0),
            ("completion/tokens_min", 3.0),
            ("completion/truncated_frac", 0.5),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)).into());
        let cut = rollout_metrics(&completions[1..2], 1);
        assert!(!cut.contains_key("completion/tokens_mean_stopped"));
    }
}
