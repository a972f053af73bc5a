//! Comparisons of two answers to a question, with the verdicts of the judges.

use crate::recipe::spec::ArenaSpec;
use crate::rewards::{Judgement, PairVerdict, Preference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A question, identified by its content and by its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArenaQuestion {
    /// The digest of the question's prompt, reference and answer.
    pub digest: String,
    /// The row of the data set.
    pub row: usize,
    /// The value of each expression by which the data set is sliced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slices: BTreeMap<String, String>,
}

/// A comparison of the answers of two models to one question.
///
/// Models are numbered across all players, in the order of the players. Files and `--json` name the first model `one`
/// and the second `other`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The index of the question among those that were asked.
    pub question: usize,
    /// The index of the first model.
    #[serde(rename = "one")]
    pub a: usize,
    /// The index of the second model.
    #[serde(rename = "other")]
    pub b: usize,
    /// The verdict of each judge, in the order of [`ArenaSpec::judge_names`].
    pub verdicts: Vec<ComparisonVerdict>,
}

/// The better of two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The first model's answer is better.
    #[serde(rename = "one")]
    A,
    /// The second model's answer is better.
    #[serde(rename = "other")]
    B,
    /// Neither answer is better.
    Tie,
}

/// A judge's verdict on a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ComparisonVerdict {
    /// The judge read both answers in both orders.
    #[serde(rename = "read")]
    Judged {
        /// The better answer when the first model's was read first.
        #[serde(rename = "one_first")]
        a_first: Better,
        /// The better answer when the second model's was read first.
        #[serde(rename = "other_first")]
        b_first: Better,
    },
    /// The judge measured each answer, so there is only one order.
    #[serde(rename = "measured")]
    Scored {
        /// The better answer.
        better: Better,
        /// The measure of the first model's answer.
        #[serde(rename = "one")]
        a: f64,
        /// The measure of the second model's answer.
        #[serde(rename = "other")]
        b: f64,
    },
    /// The judge was not asked: equal answers tie, and an empty answer loses.
    #[serde(rename = "settled")]
    Trivial(Better),
    /// The verdict is missing, for this reason.
    Missing(String),
}

impl ComparisonVerdict {
    /// Converts a language model's verdict on a pair.
    pub fn read(verdict: &PairVerdict) -> Self {
        match verdict {
            PairVerdict::Trivial(win) => Self::Trivial(Better::of_win(*win)),
            PairVerdict::Asked { a_first: Ok(a_first), b_first: Ok(b_first) } => Self::Judged {
                a_first: preferred(a_first, Better::A, Better::B),
                b_first: preferred(b_first, Better::B, Better::A),
            },
            PairVerdict::Asked { a_first: Err(reason), .. } | PairVerdict::Asked { b_first: Err(reason), .. } => {
                Self::Missing(reason.clone())
            }
        }
    }

    /// Prefers the answer with the greater measure if the measures differ by `tie_margin` or more; else the answers
    /// tie.
    ///
    /// The verdict is missing when either measure is; the error is its reason.
    pub fn scored(a: &Result<f64, String>, b: &Result<f64, String>, tie_margin: f64) -> Self {
        let (a, b) = match (a, b) {
            (Ok(a), Ok(b)) => (*a, *b),
            (Err(reason), _) | (_, Err(reason)) => return Self::Missing(reason.clone()),
        };
        let better = match a - b {
            lead if lead.abs() < tie_margin || lead == 0.0 => Better::Tie,
            lead if lead > 0.0 => Better::A,
            _ => Better::B,
        };
        Self::Scored { better, a, b }
    }

    /// The better answer in each order: with the first model's answer read first, then last. `None` when the verdict is
    /// missing.
    pub fn orders(&self) -> Option<[Better; 2]> {
        match self {
            Self::Judged { a_first, b_first } => Some([*a_first, *b_first]),
            Self::Scored { better, .. } | Self::Trivial(better) => Some([*better, *better]),
            Self::Missing(_) => None,
        }
    }

    /// The first model's score, from 0 to 1 in quarters; `None` when the verdict is missing.
    pub fn win(&self) -> Option<f64> {
        self.orders().map(|[first, last]| f64::midpoint(first.win(), last.win()))
    }

    /// Whether the judge itself read or measured the answers.
    pub fn is_judged(&self) -> bool {
        matches!(self, Self::Judged { .. } | Self::Scored { .. })
    }
}

fn preferred(said: &Judgement, first: Better, second: Better) -> Better {
    match said.preference {
        Preference::First => first,
        Preference::Second => second,
        Preference::Tie => Better::Tie,
    }
}

impl Better {
    fn of_win(win: f64) -> Self {
        if win > 0.5 {
            Self::A
        } else if win < 0.5 {
            Self::B
        } else {
            Self::Tie
        }
    }

    /// The first model's score: 1, 0.5 or 0.
    pub(super) fn win(self) -> f64 {
        match self {
            Self::A => 1.0,
            Self::Tie => 0.5,
            Self::B => 0.0,
        }
    }
}

impl Comparison {
    /// Returns a flat line for each judge, as in `comparisons.jsonl`.
    ///
    /// `one_first` and `other_first` are `one`, `other` or `tie`, by the answer that was read first. `win` is the first
    /// model's score. A question of a sliced data set has `slices`.
    pub fn lines(&self, spec: &ArenaSpec, question: &ArenaQuestion) -> Vec<Value> {
        let named: Vec<(&str, Option<u64>)> = spec
            .players
            .iter()
            .flat_map(|player| player.models.iter().map(|model| (player.name.as_str(), model.seed)))
            .collect();
        let ((a, a_seed), (b, b_seed)) = (named[self.a], named[self.b]);
        let line = |(judge, verdict): (String, &ComparisonVerdict)| {
            let (status, missing) = match verdict {
                ComparisonVerdict::Judged { .. } => ("read", None),
                ComparisonVerdict::Scored { .. } => ("measured", None),
                ComparisonVerdict::Trivial(_) => ("settled", None),
                ComparisonVerdict::Missing(reason) => ("missing", Some(reason)),
            };
            let [a_first, b_first] = verdict.orders().map_or([None, None], |orders| orders.map(Some));
            let measures = match verdict {
                ComparisonVerdict::Scored { a, b, .. } => Some([a, b]),
                _ => None,
            };
            let mut line = json!({
                "question": question.digest, "row": question.row, "one": a, "one_seed": a_seed, "other": b,
                "other_seed": b_seed, "judge": judge, "status": status, "one_first": a_first,
                "other_first": b_first, "win": verdict.win(), "measures": measures, "missing": missing,
            });
            if !question.slices.is_empty() {
                line["slices"] = json!(question.slices);
            }
            line
        };
        spec.judge_names().into_iter().zip(&self.verdicts).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(a_first: Preference, b_first: Preference) -> PairVerdict {
        let said = |preference| Ok(Judgement { preference, reason: String::new() });
        PairVerdict::Asked { a_first: said(a_first), b_first: said(b_first) }
    }

    #[test]
    fn a_pair_is_worth_what_the_judges_of_rewards_say() {
        use Preference::{First, Second, Tie};
        for a_first in [First, Second, Tie] {
            for b_first in [First, Second, Tie] {
                let verdict = asked(a_first, b_first);
                assert_eq!(ComparisonVerdict::read(&verdict).win(), verdict.win().ok(), "{a_first:?} {b_first:?}");
            }
        }
        for win in [0.0, 0.5, 1.0] {
            assert_eq!(ComparisonVerdict::read(&PairVerdict::Trivial(win)).win(), Some(win));
        }
    }

    #[test]
    fn one_order_alone_is_no_verdict() {
        let PairVerdict::Asked { a_first, .. } = asked(Preference::First, Preference::First) else { unreachable!() };
        let cut = PairVerdict::Asked { a_first, b_first: Err("cut".to_owned()) };
        assert_eq!(ComparisonVerdict::read(&cut), ComparisonVerdict::Missing("cut".to_owned()));
        assert_eq!(ComparisonVerdict::read(&cut).win(), None);
    }

    #[test]
    fn measures_closer_than_the_margin_tie_and_swapping_them_swaps_the_verdict() {
        let better = |a: f64, b: f64| match ComparisonVerdict::scored(&Ok(a), &Ok(b), 0.1) {
            ComparisonVerdict::Scored { better, .. } => better,
            verdict => panic!("{verdict:?}"),
        };
        assert_eq!([better(0.5, 0.45), better(0.7, 0.5), better(0.5, 0.7)], [Better::Tie, Better::A, Better::B]);
        assert_eq!(ComparisonVerdict::scored(&Ok(0.5), &Ok(0.5), 0.0).win(), Some(0.5));
        let missing = ComparisonVerdict::scored(&Ok(0.5), &Err("no reference".to_owned()), 0.1);
        assert_eq!(missing, ComparisonVerdict::Missing("no reference".to_owned()));
    }
}
