//! The reward mixes of arms, and the score that they have in common.

use super::metric::component_of;
use super::{Evidence, Problem, ProblemKind, Score, Trial};
use crate::digest::Digest;
use crate::metric::{COMMON_SCORE, TOTAL};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A reward component as an evaluation measures it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixPart {
    /// The weight in the evaluation's total; 0 for a component that is measured but does not count.
    pub weight: f64,
    /// The digest of all other settings of the component: encoder, tags, judge and so on.
    pub settings: Digest,
}

/// Returns the components with a nonzero weight, with their settings.
fn counting(trial: &Trial) -> BTreeMap<&String, &MixPart> {
    trial.mix.iter().filter(|(_, part)| part.weight != 0.0).collect()
}

/// Returns the reason why `metric` means different things in `trials` and in `others`; `None` where it does not, or
/// where unknown.
pub(super) fn difference_of_meaning(metric: &str, trials: &[&Trial], others: &[&Trial]) -> Option<String> {
    let all = || trials.iter().chain(others).filter(|trial| !trial.mix.is_empty());
    if metric == TOTAL {
        let mut mixes = all().map(|trial| counting(trial)).filter(|mix| !mix.is_empty());
        let first = mixes.next()?;
        return mixes.any(|mix| mix != first).then(|| "the arms' reward mixes differ".to_owned());
    }
    let component = component_of(metric)?;
    let mut settings = all().filter_map(|trial| Some(&trial.mix.get(component)?.settings));
    let first = settings.next()?;
    settings.any(|own| own != first).then(|| format!("the arms measure `{component}` with different settings"))
}

impl Evidence {
    /// Whether the weighted sum of the rewards means the same in all arms of `evaluation`.
    pub fn has_one_mix(&self, evaluation: &str) -> bool {
        let trials: Vec<&Trial> = self.trials(evaluation).collect();
        difference_of_meaning(TOTAL, &trials, &[]).is_none()
    }

    fn trials(&self, evaluation: &str) -> impl Iterator<Item = &Trial> {
        self.arms.iter().flat_map(|arm| &arm.trials).filter(move |trial| trial.evaluation == evaluation)
    }

    /// Adds the metric of [`Evidence::common_score`] to every answer.
    ///
    /// The score is that of the recipe. Without one, and where the arms' own mixes differ, it is the mean of the
    /// components that all mixes share.
    pub fn add_common_score(&mut self) {
        let evaluations: Vec<String> = self.evaluations().into_iter().map(str::to_owned).collect();
        for evaluation in evaluations {
            let named = !self.settings.score.is_empty();
            if !named && self.has_one_mix(&evaluation) {
                continue;
            }
            let trials: Vec<&Trial> = self.trials(&evaluation).collect();
            let weights = if named { self.settings.score.clone() } else { shared(&trials) };
            let is_measured = |trial: &&Trial| {
                weights.keys().all(|component| trial.scores.contains_key(&format!("eval/reward/{component}")))
            };
            let is_there = !weights.is_empty() && trials.iter().any(is_measured);
            let mut message = "the arms' reward mixes differ, so their `reward` is not compared".to_owned();
            if is_there {
                let parts: Vec<String> = weights.iter().map(|(name, weight)| format!("{weight:.3} {name}")).collect();
                message.push_str("; `common_score` is ");
                message.push_str(&parts.join(" + "));
                message.push_str(" in every arm");
            }
            if !self.has_one_mix(&evaluation) {
                self.problems.push(Problem::new(ProblemKind::DifferentMixes, message));
            }
            if is_there {
                for trial in self.arms.iter_mut().flat_map(|arm| &mut arm.trials) {
                    if trial.evaluation == evaluation && is_measured(&&*trial) {
                        let scores = scores(trial, &weights);
                        trial.scores.insert(COMMON_SCORE.to_owned(), scores);
                    }
                }
                self.common_score = weights;
            }
        }
        if let Some(range) = self.range_of_mix(&self.common_score) {
            self.ranges.insert(COMMON_SCORE.to_owned(), range);
        }
    }

    /// Returns the least and the greatest value of a weighted sum; `None` where a component has no range.
    fn range_of_mix(&self, weights: &BTreeMap<String, f64>) -> Option<(f64, f64)> {
        let mut sum = (0.0, 0.0);
        for (component, weight) in weights {
            let (least, most) = self.ranges.get(&format!("eval/reward/{component}"))?;
            let (one, other) = (weight * least, weight * most);
            sum = (sum.0 + one.min(other), sum.1 + one.max(other));
        }
        (!weights.is_empty()).then_some(sum)
    }
}

/// Returns the components that count in every mix with the same settings, with equal weights that add up to 1.
///
/// Trials without a mix are ignored: their arms were not trained by a reward.
fn shared(trials: &[&Trial]) -> BTreeMap<String, f64> {
    let mut mixes = trials.iter().map(|trial| counting(trial)).filter(|mix| !mix.is_empty());
    let Some(mut common) = mixes.next() else { return BTreeMap::new() };
    for mix in mixes {
        common.retain(|name, part| mix.get(name).is_some_and(|other| other.settings == part.settings));
    }
    let names: BTreeSet<&String> = common.into_keys().collect();
    let weight = 1.0 / names.len() as f64;
    names.into_iter().map(|name| (name.clone(), weight)).collect()
}

/// Returns the scores of the answers of `trial` by `weights`; missing where a component is missing.
fn scores(trial: &Trial, weights: &BTreeMap<String, f64>) -> Vec<Score> {
    let columns: Vec<(&Vec<Score>, f64)> = weights
        .iter()
        .filter_map(|(component, weight)| Some((trial.scores.get(&format!("eval/reward/{component}"))?, *weight)))
        .collect();
    let score = |answer: usize| {
        let mut sum = 0.0;
        for (column, weight) in &columns {
            match column[answer].value {
                Some(value) => sum += weight * value,
                None => return column[answer].clone(),
            }
        }
        Score::of(sum)
    };
    (0..trial.answers.len()).map(score).collect()
}
