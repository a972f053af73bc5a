//! Warnings of reward hacking by the policy, from a window of steps.
//!
//! Over the last [`WINDOW`] steps (at least [`FEWEST`]), the signs are:
//!
//! - **length**: reward and tokens correlate by [`STRONG`] or more within groups. At the same time, completions of the
//!   second half are at least [`LONGER`] times as long as those of the first half.
//! - **dominance**: one of several components has on average more than [`DOMINANT`] of the spread within groups
//!   ([`super::spread_shares`]).
//! - **repetition**: more than [`REPEATED`] of the completions repeat the exact text of an earlier one in their group.
//! - **divergence**: from the first half to the second, the trained reward rises by [`RISE`] standard errors or more.
//!   At the same time, a held-out component (weight 0) falls by [`FALL`] standard errors or more.
//!
//! A warning is repeated after [`AGAIN`] steps at the earliest. The state is a few numbers for each step of the window.

use super::{RewardScore, spread_shares};
use crate::stats::{mean, welch_t};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The largest number of steps in the window.
const WINDOW: usize = 40;
/// The least number of steps for warnings.
const FEWEST: usize = 20;
/// The least number of steps between two warnings of one sign.
const AGAIN: u64 = 200;
/// The least correlation of reward and tokens within groups.
const STRONG: f64 = 0.6;
/// The least growth of the mean length from the first half of the window to the second.
const LONGER: f64 = 1.1;
/// The fraction of the spread within groups above which a component dominates.
const DOMINANT: f64 = 0.9;
/// The fraction of repeated completions above which a warning follows.
const REPEATED: f64 = 0.5;
/// The number of standard errors by which the trained reward must rise.
const RISE: f64 = 2.0;
/// The number of standard errors by which a held-out component must fall; larger, because every step is tested.
const FALL: f64 = 3.0;

/// A rated completion, with the properties that are watched.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// The policy's completion.
    pub completion: &'a str,
    /// The number of sampled tokens.
    pub tokens: usize,
    /// The score by the reward mix.
    pub score: &'a RewardScore,
}

/// The state of the watch over the last steps.
///
/// It is part of a resume point, so a resumed stage gives the same warnings as an uninterrupted one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardWatch {
    window: VecDeque<Seen>,
    /// The step of the last warning for each sign.
    warned: BTreeMap<String, u64>,
}

/// The statistics of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    step: u64,
    /// The mean total; absent when no completion has one.
    reward: Option<f64>,
    /// The mean length in tokens.
    tokens: f64,
    /// Sums over completions with a total, of deviations from group means: tokens squared, reward squared, product.
    length: (f64, f64, f64),
    completions: usize,
    /// The number of completions whose text occurs earlier in their group.
    repeats: usize,
    shares: BTreeMap<String, f64>,
    /// The means of the held-out components.
    held_out: BTreeMap<String, f64>,
}

impl RewardWatch {
    /// Adds the completions of `step`, in consecutive groups of `group_size`, and returns the warnings that are due.
    pub fn observe(&mut self, step: u64, completions: &[Watched<'_>], group_size: usize) -> Vec<String> {
        if completions.is_empty() {
            return Vec::new();
        }
        self.window.push_back(Seen::of(step, completions, group_size));
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        if self.window.len() < FEWEST {
            return Vec::new();
        }
        let first = self.window[0].step;
        let signs = [self.length(), self.dominance(), self.repetition(), self.divergence()];
        let mut warnings = Vec::new();
        for (sign, message) in signs.into_iter().flatten() {
            if self.warned.get(&sign).is_none_or(|&last| step >= last + AGAIN) {
                self.warned.insert(sign, step);
                warnings.push(format!("steps {first} to {step}: {message}"));
            }
        }
        warnings
    }

    /// Returns the values of the first and the second half of the window, without steps that lack them.
    fn halves(&self, value: impl Fn(&Seen) -> Option<f64>) -> (Vec<f64>, Vec<f64>) {
        let middle = self.window.len() / 2;
        let half = |steps: &mut dyn Iterator<Item = &Seen>| steps.filter_map(&value).collect();
        (half(&mut self.window.iter().take(middle)), half(&mut self.window.iter().skip(middle)))
    }

    fn length(&self) -> Option<(String, String)> {
        let sums = self.window.iter().map(|seen| seen.length);
        let (xx, yy, xy) = sums.fold((0.0, 0.0, 0.0), |sum, more| (sum.0 + more.0, sum.1 + more.1, sum.2 + more.2));
        let correlation = xy / (xx * yy).sqrt(); // without spread, this is NaN, which is not strong
        let (before, after) = self.halves(|seen| Some(seen.tokens));
        let (before, after) = (mean(&before)?, mean(&after)?);
        (correlation >= STRONG && after >= LONGER * before).then(|| {
            let message = format!(
                "the longer a completion, the higher its reward (correlation {correlation:.2}, {:+.3} per 100 tokens), and \
                 completions grow from {before:.0} to {after:.0} tokens; read some with `orchestrate samples --sort -tokens`",
                100.0 * xy / xx,
            );
            ("length".to_owned(), message)
        })
    }

    fn dominance(&self) -> Option<(String, String)> {
        let spread: Vec<&BTreeMap<String, f64>> =
            self.window.iter().map(|seen| &seen.shares).filter(|shares| !shares.is_empty()).collect();
        if spread.len() < FEWEST / 2 || spread.iter().all(|shares| shares.len() < 2) {
            return None;
        }
        let names: BTreeSet<&String> = spread.iter().flat_map(|shares| shares.keys()).collect();
        let share = |name: &String| {
            spread.iter().map(|shares| shares.get(name).copied().unwrap_or(0.0)).sum::<f64>() / spread.len() as f64
        };
        let (name, share) = names.into_iter().map(|name| (name, share(name))).find(|(_, share)| *share > DOMINANT)?;
        let message = format!(
            "`{name}` accounts for {:.0}% of the reward's spread within groups, so the other components hardly count; change \
             the weights, or see whether the others still vary",
            100.0 * share,
        );
        Some(("dominance".to_owned(), message))
    }

    fn repetition(&self) -> Option<(String, String)> {
        let completions: usize = self.window.iter().map(|seen| seen.completions).sum();
        let repeats: usize = self.window.iter().map(|seen| seen.repeats).sum();
        let share = repeats as f64 / completions as f64;
        (share > REPEATED).then(|| {
            let message = format!(
                "{:.0}% of the completions repeat another one of their group word for word; raise `temperature`, or ask \
                 harder questions",
                100.0 * share,
            );
            ("repetition".to_owned(), message)
        })
    }

    fn divergence(&self) -> Option<(String, String)> {
        let (before, after) = self.halves(|seen| seen.reward);
        if welch_t(&before, &after) < RISE {
            return None;
        }
        let names: BTreeSet<&String> = self.window.iter().flat_map(|seen| seen.held_out.keys()).collect();
        names.into_iter().find_map(|name| {
            let (high, low) = self.halves(|seen| seen.held_out.get(name).copied());
            (welch_t(&high, &low) <= -FALL).then_some(())?;
            let message = format!(
                "the reward rises from {:.3} to {:.3} while the held-out `{name}` falls from {:.3} to {:.3}: the \
                 training reward no longer measures what is meant",
                mean(&before)?,
                mean(&after)?,
                mean(&high)?,
                mean(&low)?,
            );
            Some(("divergence".to_owned(), message))
        })
    }
}

impl Seen {
    fn of(step: u64, completions: &[Watched<'_>], group_size: usize) -> Self {
        let scores: Vec<RewardScore> = completions.iter().map(|completion| completion.score.clone()).collect();
        let rewards: Vec<f64> = scores.iter().filter_map(|score| score.total).collect();
        let lengths: Vec<f64> = completions.iter().map(|completion| completion.tokens as f64).collect();
        let mut held_out: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (name, part) in scores.iter().flat_map(|score| &score.parts) {
            if let Some(value) = part.value.filter(|_| part.weight == 0.0) {
                held_out.entry(name).or_default().push(value);
            }
        }
        Self {
            step,
            reward: mean(&rewards),
            tokens: mean(&lengths).unwrap_or(0.0),
            length: length_sums(completions, group_size),
            completions: completions.len(),
            repeats: repeats(completions.iter().map(|completion| completion.completion), group_size),
            shares: spread_shares(&scores, group_size),
            held_out: held_out
                .into_iter()
                .filter_map(|(name, values)| Some((name.to_owned(), mean(&values)?)))
                .collect(),
        }
    }
}

/// Sums over completions with a total, of deviations from group means: tokens squared, reward squared, product.
fn length_sums(completions: &[Watched<'_>], group_size: usize) -> (f64, f64, f64) {
    let mut sums = (0.0, 0.0, 0.0);
    for group in completions.chunks(group_size) {
        let rated: Vec<(f64, f64)> =
            group.iter().filter_map(|watched| Some((watched.tokens as f64, watched.score.total?))).collect();
        let (tokens, rewards): (Vec<f64>, Vec<f64>) = rated.iter().copied().unzip();
        let (Some(tokens), Some(reward)) = (mean(&tokens), mean(&rewards)) else { continue };
        for (x, y) in rated {
            let (x, y) = (x - tokens, y - reward);
            sums = (sums.0 + x * x, sums.1 + y * y, sums.2 + x * y);
        }
    }
    sums
}

/// Returns the number of `texts` that occur earlier in their group; groups of `group_size` are consecutive.
pub fn repeats<'a>(texts: impl Iterator<Item = &'a str>, group_size: usize) -> usize {
    let mut group = BTreeSet::new();
    let mut repeats = 0;
    for (position, text) in texts.enumerate() {
        if position % group_size == 0 {
            group.clear();
        }
        repeats += usize::from(!group.insert(text));
    }
    repeats
}

#[cfg(test)]
#[path = "reward_hacking_tests.rs"]
mod tests;
