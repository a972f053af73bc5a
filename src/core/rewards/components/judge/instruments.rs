//! Judges as instruments: how far they say the same again, follow the position instead of the text, agree with each other,
//! leave questions unanswered, and what they cost.

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

/// Questions asked before progress is reported.
const BATCH: usize = 32;

/// What is found of the judges of a component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeReport {
    /// `rubric`, `pair_with_reference` or `pair_within_group`.
    pub mode: &'static str,
    /// Texts or pairs that were judged.
    pub items: usize,
    /// How often each was.
    pub repeats: u32,
    /// Each judge, by its name.
    pub judges: BTreeMap<String, JudgeMeasured>,
    /// How far several judges agree beyond chance.
    pub agreement: Option<Agreement>,
}

/// What is found of one judge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeMeasured {
    /// Mean value of an item, the first time; of a pair, how much its first text wins.
    pub mean: Option<f64>,
    /// Unbiased standard deviation of these values.
    pub std: f64,
    /// How values differ when asked again.
    pub repeat: Option<RepeatSpread>,
    /// Of pairs: how often the verdict names the same place in both orders.
    pub position: Option<PositionBias>,
    /// Values that are missing, over all repeats, by reason.
    pub missing: BTreeMap<String, usize>,
    /// What was asked for all this.
    #[serde(flatten)]
    pub expenses: Expenses,
}

/// How values of the same item differ from one asking to the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RepeatSpread {
    /// Items with a value each time.
    pub items: usize,
    /// Root of the mean variance within an item.
    pub std: f64,
    /// Share of the items whose values are not all the same.
    pub changed: f64,
}

/// How often the place decided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PositionBias {
    /// Pairs with a verdict in both orders.
    pub pairs: usize,
    /// Share of them with the same place preferred both times, and its 95% interval.
    pub share: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How many of those prefer the first place.
    pub first: usize,
}

/// Agreement of several judges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// `cohen_kappa` (two judges of pairs), `fleiss_kappa` (more), or `krippendorff_alpha` (scores, on an interval scale).
    pub measure: &'static str,
    /// Absent where nothing can be compared.
    pub value: Option<f64>,
    /// Verdicts or texts that it is about.
    pub items: usize,
}

/// The judges of a mix, to be measured.
pub struct JudgeLab {
    components: Vec<(String, Scope, &'static str, Asking)>,
}

/// What judges said, item by item.
struct Said {
    /// Values by judge, repeat and item.
    values: Vec<Vec<Vec<Result<f64, String>>>>,
    /// Verdicts on pairs by judge and item, the first time.
    verdicts: Vec<Vec<PairVerdict>>,
    items: usize,
}

impl JudgeLab {
    /// The judges of `rewards`.
    ///
    /// # Errors
    /// A judge that cannot be set up.
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

    /// Whether there is nobody to measure.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// Has all judges judge `samples`, `repeats` times, and reports by component. Completions of a group stand one after the
    /// other. `progress` is called with the number of questions that are done, and of all.
    ///
    /// # Errors
    /// A judge that refuses every request, or whose budget is used up.
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

    /// What a person should look at, each reported once.
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
                                // nobody was asked
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
                                if matches!(verdict, PairVerdict::Settled(_)) {
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
            // without what it wrote, which is never the same
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
        // a verdict on a pair in one order is one item, named by the text that it prefers
        let of_judge = |verdicts: &Vec<PairVerdict>| verdicts.iter().flat_map(preferred_texts).collect::<Vec<_>>();
        let by_judge: Vec<Vec<Option<usize>>> = self.verdicts.iter().map(of_judge).collect();
        let of_item = |item: usize| by_judge.iter().map(|verdicts| verdicts[item]).collect::<Option<Vec<usize>>>();
        let items: Vec<Vec<usize>> = (0..by_judge[0].len()).filter_map(of_item).collect();
        let (measure, value) = kappa(&items, self.verdicts.len(), 3);
        Agreement { measure, value, items: items.len() }
    }
}

/// In each order: 0 for the one text, 1 for the other, 2 for neither; absent without a verdict.
fn preferred_texts(verdict: &PairVerdict) -> [Option<usize>; 2] {
    let PairVerdict::Asked { one_first, other_first } = verdict else { return [None, None] };
    let category = |preference, first| match preference {
        Preference::First => first,
        Preference::Second => 1 - first,
        Preference::Tie => 2,
    };
    let of = |said: &Result<super::Judgement, String>, first| Some(category(said.as_ref().ok()?.preference, first));
    [of(one_first, 0), of(other_first, 1)]
}

fn position(verdicts: &[PairVerdict]) -> Option<PositionBias> {
    let whole: Vec<&PairVerdict> = verdicts.iter().filter(|verdict| verdict.win().is_ok()).collect();
    let places: Vec<Preference> = whole.iter().filter_map(|verdict| verdict.position()).collect();
    let first = places.iter().filter(|place| **place == Preference::First).count();
    PositionBias::of(whole.len(), first, places.len() - first)
}

impl PositionBias {
    /// Of `pairs` with a verdict in both orders, `first` and `second` of which prefer that place both times; absent without pairs.
    pub fn of(pairs: usize, first: usize, second: usize) -> Option<Self> {
        let interval = share_interval(first + second, pairs)?;
        let share = (first + second) as f64 / pairs as f64;
        Some(Self { pairs, share, low: interval.low, high: interval.high, first })
    }
}
