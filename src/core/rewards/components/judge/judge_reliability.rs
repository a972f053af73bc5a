//! Reliability of judges: repeatability, position bias, agreement, missing answers, and cost.

use super::client::{Client, Expenses};
use super::pairs::PairVerdict;
use super::verdict::Preference;
use super::{Asking, Case, JudgeAccess, JudgePool};
use crate::rewards::{Component, JudgeMode, RewardSpec, Scope};
use crate::rewards::{RewardError, RewardMixError, RewardValue, Sample, span};
use crate::stats::{kappa, krippendorff_alpha, mean, share_interval, standard_deviation, variance};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of questions between two reports of progress.
const BATCH: usize = 32;

/// The reliability of the judges of a component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeReport {
    /// The mode: `rubric`, `pair_with_reference` or `pair_within_group`.
    pub mode: &'static str,
    /// The number of judged texts or pairs.
    pub items: usize,
    /// The number of times that each item was judged.
    pub repeats: u32,
    /// The measurements of each judge, by its name.
    pub judges: BTreeMap<String, JudgeMeasured>,
    /// The agreement between judges beyond chance; absent with one judge.
    pub agreement: Option<Agreement>,
}

/// The measurements of one judge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeMeasured {
    /// The mean value of an item in the first repeat. For a pair, the value is the score of its first text.
    pub mean: Option<f64>,
    /// The unbiased standard deviation of these values.
    pub std: f64,
    /// The variation of values between repeats; absent with one repeat.
    pub repeat: Option<RepeatSpread>,
    /// The position bias; absent for texts.
    pub position: Option<PositionBias>,
    /// The number of missing values over all repeats, by reason.
    pub missing: BTreeMap<String, usize>,
    /// The expenses of the measurement.
    #[serde(flatten)]
    pub expenses: Expenses,
}

/// The variation of values of the same item between repeats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RepeatSpread {
    /// The number of items with a value in each repeat.
    pub items: usize,
    /// The root of the mean variance within an item.
    pub std: f64,
    /// The fraction of items whose values differ.
    pub changed: f64,
}

/// The position bias of a judge: how often a verdict depends on the order of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PositionBias {
    /// The number of pairs with a verdict in both orders.
    pub pairs: usize,
    /// The fraction of pairs for which the judge prefers the same position in both orders.
    pub share: f64,
    /// The lower end of the fraction's 95% interval.
    pub low: f64,
    /// The upper end of the fraction's 95% interval.
    pub high: f64,
    /// The number of pairs for which the judge prefers the first position in both orders.
    pub first: usize,
}

/// The agreement between judges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The measure: `cohen_kappa` (two judges of pairs), `fleiss_kappa` (more), or `krippendorff_alpha` (scores,
    /// interval scale).
    pub measure: &'static str,
    /// The value of the measure; absent where nothing can be compared.
    pub value: Option<f64>,
    /// The number of compared verdicts or texts.
    pub items: usize,
}

/// The judges of a mix, for measurement.
pub struct JudgeLab {
    components: Vec<(String, Scope, &'static str, Asking)>,
}

/// The judges' values and verdicts, item by item.
struct Said {
    /// The values by judge, repeat and item.
    values: Vec<Vec<Vec<Result<f64, String>>>>,
    /// The verdicts on pairs by judge and item, from the first repeat.
    verdicts: Vec<Vec<PairVerdict>>,
    items: usize,
}

impl JudgeLab {
    /// Sets up the judges of `rewards`.
    ///
    /// # Errors
    /// Fails if a judge cannot be set up.
    pub fn new(rewards: &BTreeMap<String, RewardSpec>, access: JudgeAccess<'_>) -> Result<Self, RewardMixError> {
        let mut bench = JudgePool::new(access);
        let mut components = Vec::new();
        for (name, reward) in rewards {
            let Component::Judge(spec) = &reward.component else { continue };
            let mode = match &spec.mode {
                JudgeMode::Rubric(_) => "rubric",
                JudgeMode::PairWithReference { .. } => "pair_with_reference",
                JudgeMode::PairWithinGroup { .. } => "pair_within_group",
            };
            let asking = Asking::new(spec, &mut bench)
                .map_err(|source| RewardMixError { component: name.clone(), source: source.into() })?;
            components.push((name.clone(), reward.scope.clone(), mode, asking));
        }
        Ok(Self { components })
    }

    /// Whether the mix has no judges.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// Lets all judges rate `samples`, `repeats` times, and reports by component.
    ///
    /// Completions of a group are consecutive. `progress` is called with the numbers of finished and of all questions.
    ///
    /// # Errors
    /// Fails if a judge refuses all requests, or its budget is used up.
    pub fn measure(
        &mut self,
        samples: &[Sample<'_>],
        repeats: u32,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<BTreeMap<String, JudgeReport>, RewardError> {
        let mut reports = BTreeMap::new();
        for (name, scope, mode, asking) in &mut self.components {
            let judges: Vec<Arc<Client>> = asking.panel().judges().to_vec();
            let before: Vec<Expenses> = judges.iter().map(|judge| judge.expenses()).collect();
            let spans: Vec<Option<Cow<'_, str>>> =
                samples.iter().map(|sample| span(sample.completion, scope)).collect();
            let texts: Vec<Option<&str>> = spans.iter().map(Option::as_deref).collect();
            let said = asking.said(samples, &texts, repeats, progress)?;
            let measured = judges.iter().zip(before).enumerate().map(|(judge, (client, before))| {
                let expenses = client.expenses().since(before);
                (client.model().to_owned(), said.of_judge(judge, expenses))
            });
            let report = JudgeReport {
                mode,
                items: said.items,
                repeats,
                judges: measured.collect(),
                agreement: (judges.len() > 1).then(|| said.agreement()),
            };
            reports.insert(name.clone(), report);
        }
        Ok(reports)
    }

    /// Returns new warnings for the user; each is reported once.
    pub fn warnings(&mut self) -> Vec<String> {
        self.components.iter_mut().flat_map(|(_, _, _, asking)| asking.panel_mut().take_warnings()).collect()
    }
}

impl Asking {
    fn said(
        &mut self,
        samples: &[Sample<'_>],
        texts: &[Option<&str>],
        repeats: u32,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Said, RewardError> {
        let judges = self.panel().judges().len();
        let mut said = Said { values: vec![Vec::new(); judges], verdicts: vec![Vec::new(); judges], items: 0 };
        let pairs = match self {
            Self::Scores(_) => Vec::new(),
            Self::Pairs(versus) => versus.pairs(samples, texts).pairs,
        };
        let batches = samples.len().max(pairs.len());
        let total = batches * repeats as usize;
        for repeat in 0..repeats {
            let mut values: Vec<Vec<Result<f64, String>>> = vec![Vec::new(); judges];
            match self {
                Self::Scores(scorers) => {
                    for (samples, texts) in samples.chunks(BATCH).zip(texts.chunks(BATCH)) {
                        for case in scorers.measure(samples, texts, repeat)? {
                            let of_judges = match case {
                                Case::Judged(values) => values,
                                Case::Settled(RewardValue::Missing(reason)) => vec![Err(reason); judges],
                                // no judge was asked
                                Case::Settled(RewardValue::Value(_)) => continue,
                            };
                            values.iter_mut().zip(of_judges).for_each(|(all, value)| all.push(value));
                        }
                        progress(repeat as usize * batches + values[0].len(), total);
                    }
                }
                Self::Pairs(versus) => {
                    for pairs in pairs.chunks(BATCH) {
                        for verdicts in versus.judges.compare_again(pairs, repeat)? {
                            for (judge, verdict) in verdicts.into_iter().enumerate() {
                                if matches!(verdict, PairVerdict::Trivial(_)) {
                                    continue;
                                }
                                values[judge].push(verdict.win());
                                if repeat == 0 {
                                    said.verdicts[judge].push(verdict);
                                }
                            }
                        }
                        progress(repeat as usize * batches + values[0].len(), total);
                    }
                }
            }
            said.items = values[0].len();
            said.values.iter_mut().zip(values).for_each(|(all, of_repeat)| all.push(of_repeat));
        }
        Ok(said)
    }
}

impl Said {
    fn of_judge(&self, judge: usize, expenses: Expenses) -> JudgeMeasured {
        let repeats = &self.values[judge];
        let first: Vec<f64> = repeats[0].iter().filter_map(|value| value.as_ref().ok().copied()).collect();
        let mut missing: BTreeMap<String, usize> = BTreeMap::new();
        for reason in repeats.iter().flatten().filter_map(|value| value.as_ref().err()) {
            // without the judge's text, which is never the same
            let kind = reason.split_once(": `").map_or(reason.as_str(), |(kind, _)| kind);
            *missing.entry(kind.to_owned()).or_default() += 1;
        }
        JudgeMeasured {
            mean: mean(&first),
            std: standard_deviation(&first),
            repeat: self.repeat(judge),
            position: position(&self.verdicts[judge]),
            missing,
            expenses,
        }
    }

    fn repeat(&self, judge: usize) -> Option<RepeatSpread> {
        let repeats = &self.values[judge];
        if repeats.len() < 2 {
            return None;
        }
        let of_item = |item: usize| -> Option<Vec<f64>> {
            repeats.iter().map(|values| values[item].as_ref().ok().copied()).collect()
        };
        let variances: Vec<f64> = (0..self.items).filter_map(of_item).map(|values| variance(&values)).collect();
        let changed = variances.iter().filter(|variance| **variance > 0.0).count();
        Some(RepeatSpread {
            items: variances.len(),
            std: mean(&variances)?.sqrt(),
            changed: changed as f64 / variances.len() as f64,
        })
    }

    fn agreement(&self) -> Agreement {
        if self.verdicts[0].is_empty() {
            let of_item = |item: usize| -> Vec<f64> {
                self.values.iter().filter_map(|repeats| repeats[0].get(item)?.as_ref().ok().copied()).collect()
            };
            let ratings: Vec<Vec<f64>> = (0..self.items).map(of_item).filter(|values| values.len() > 1).collect();
            return Agreement {
                measure: "krippendorff_alpha",
                value: krippendorff_alpha(&ratings),
                items: ratings.len(),
            };
        }
        // a verdict on a pair in one order is one item, represented by the text that it prefers
        let of_judge = |verdicts: &Vec<PairVerdict>| verdicts.iter().flat_map(preferred_texts).collect::<Vec<_>>();
        let by_judge: Vec<Vec<Option<usize>>> = self.verdicts.iter().map(of_judge).collect();
        let of_item = |item: usize| by_judge.iter().map(|verdicts| verdicts[item]).collect::<Option<Vec<usize>>>();
        let items: Vec<Vec<usize>> = (0..by_judge[0].len()).filter_map(of_item).collect();
        let (measure, value) = kappa(&items, self.verdicts.len(), 3);
        Agreement { measure, value, items: items.len() }
    }
}

/// Returns the preference in each order: 0 for the first text, 1 for the second, 2 for neither; `None` without a
/// verdict.
fn preferred_texts(verdict: &PairVerdict) -> [Option<usize>; 2] {
    let PairVerdict::Asked { a_first, b_first } = verdict else { return [None, None] };
    let category = |preference, first| match preference {
        Preference::First => first,
        Preference::Second => 1 - first,
        Preference::Tie => 2,
    };
    let of = |said: &Result<super::Judgement, String>, first| Some(category(said.as_ref().ok()?.preference, first));
    [of(a_first, 0), of(b_first, 1)]
}

fn position(verdicts: &[PairVerdict]) -> Option<PositionBias> {
    let whole: Vec<&PairVerdict> = verdicts.iter().filter(|verdict| verdict.win().is_ok()).collect();
    let places: Vec<Preference> = whole.iter().filter_map(|verdict| verdict.position()).collect();
    let first = places.iter().filter(|place| **place == Preference::First).count();
    PositionBias::of(whole.len(), first, places.len() - first)
}

impl PositionBias {
    /// Computes the bias from `pairs` with a verdict in both orders; `None` without pairs.
    ///
    /// `first` and `second` are the numbers of pairs for which the judge prefers that position in both orders.
    pub fn of(pairs: usize, first: usize, second: usize) -> Option<Self> {
        let interval = share_interval(first + second, pairs)?;
        let share = (first + second) as f64 / pairs as f64;
        Some(Self { pairs, share, low: interval.low, high: interval.high, first })
    }
}
