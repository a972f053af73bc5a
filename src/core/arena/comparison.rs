//! Comparisons of two answers to a question, with the verdicts of the judges.

use crate::recipe::spec::ArenaSpec;
use crate::rewards::{Judgement, PairVerdict, Preference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A question, identified by its content and by its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArenaQuestion {
    /// The digest of the question's prompt, reference and answer.
    pub digest: String,
    /// The row of the data set.
    pub row: usize,
}

/// A comparison of the answers of two models to one question.
///
/// Models are numbered across all players, in the order of the players.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The index of the question among those that were asked.
    pub question: usize,
    /// The index of the first model.
    pub one: usize,
    /// The index of the second model.
    pub other: usize,
    /// The verdict of each judge, in the order of [`ArenaSpec::judge_names`].
    pub verdicts: Vec<ComparisonVerdict>,
}

/// The better of two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The first model's answer is better.
    One,
    /// The second model's answer is better.
    Other,
    /// Neither answer is better.
    Tie,
}

/// A judge's verdict on a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ComparisonVerdict {
    /// The judge read both answers in both orders.
    Read {
        /// The better answer when the first model's was read first.
        one_first: Better,
        /// The better answer when the second model's was read first.
        other_first: Better,
    },
    /// The judge measured each answer, so there is only one order.
    Measured {
        /// The better answer.
        better: Better,
        /// The measure of the first model's answer.
        one: f64,
        /// The measure of the second model's answer.
        other: f64,
    },
    /// The judge was not asked: equal answers tie, and an empty answer loses.
    Settled(Better),
    /// The verdict is missing, for this reason.
    Missing(String),
}

impl ComparisonVerdict {
    /// Converts a language model's verdict on a pair.
    pub fn read(verdict: &PairVerdict) -> Self {
        match verdict {
            PairVerdict::Settled(win) => Self::Settled(Better::of_win(*win)),
            PairVerdict::Asked { one_first: Ok(one_first), other_first: Ok(other_first) } => Self::Read {
                one_first: preferred(one_first, Better::One, Better::Other),
                other_first: preferred(other_first, Better::Other, Better::One),
            },
            PairVerdict::Asked { one_first: Err(reason), .. } | PairVerdict::Asked { other_first: Err(reason), .. } => {
                Self::Missing(reason.clone())
            }
        }
    }

    /// Prefers the answer with the greater measure if the measures differ by `tie_margin` or more; else the answers
    /// tie.
    ///
    /// The verdict is missing when either measure is; the error is its reason.
    pub fn measured(one: &Result<f64, String>, other: &Result<f64, String>, tie_margin: f64) -> Self {
        let (one, other) = match (one, other) {
            (Ok(one), Ok(other)) => (*one, *other),
            (Err(reason), _) | (_, Err(reason)) => return Self::Missing(reason.clone()),
        };
        let better = match one - other {
            lead if lead.abs() < tie_margin || lead == 0.0 => Better::Tie,
            lead if lead > 0.0 => Better::One,
            _ => Better::Other,
        };
        Self::Measured { better, one, other }
    }

    /// The better answer in each order: with the first model's answer read first, then last. `None` when the verdict is
    /// missing.
    pub fn orders(&self) -> Option<[Better; 2]> {
        match self {
            Self::Read { one_first, other_first } => Some([*one_first, *other_first]),
            Self::Measured { better, .. } | Self::Settled(better) => Some([*better, *better]),
            Self::Missing(_) => None,
        }
    }

    /// The first model's score, from 0 to 1 in quarters; `None` when the verdict is missing.
    pub fn win(&self) -> Option<f64> {
        self.orders().map(|[first, last]| f64::midpoint(first.win(), last.win()))
    }

    /// Whether the judge itself read or measured the answers.
    pub fn is_judged(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Measured { .. })
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
            Self::One
        } else if win < 0.5 {
            Self::Other
        } else {
            Self::Tie
        }
    }

    /// The first model's score: 1, 0.5 or 0.
    pub(super) fn win(self) -> f64 {
        match self {
            Self::One => 1.0,
            Self::Tie => 0.5,
            Self::Other => 0.0,
        }
    }
}

impl Comparison {
    /// Returns a flat line for each judge, as in `comparisons.jsonl`.
    ///
    /// `one_first` and `other_first` are `one`, `other` or `tie`, by the answer that was read first. `win` is the first
    /// model's score.
    pub fn lines(&self, spec: &ArenaSpec, question: &ArenaQuestion) -> Vec<Value> {
        let named: Vec<(&str, Option<u64>)> = spec
            .players
            .iter()
            .flat_map(|player| player.models.iter().map(|model| (player.name.as_str(), model.seed)))
            .collect();
        let ((one, one_seed), (other, other_seed)) = (named[self.one], named[self.other]);
        let line = |(judge, verdict): (String, &ComparisonVerdict)| {
            let (status, missing) = match verdict {
                ComparisonVerdict::Read { .. } => ("read", None),
                ComparisonVerdict::Measured { .. } => ("measured", None),
                ComparisonVerdict::Settled(_) => ("settled", None),
                ComparisonVerdict::Missing(reason) => ("missing", Some(reason)),
            };
            let [one_first, other_first] = verdict.orders().map_or([None, None], |orders| orders.map(Some));
            let measures = match verdict {
                ComparisonVerdict::Measured { one, other, .. } => Some([one, other]),
                _ => None,
            };
            json!({
                "question": question.digest, "row": question.row, "one": one, "one_seed": one_seed, "other": other,
                "other_seed": other_seed, "judge": judge, "status": status, "one_first": one_first,
                "other_first": other_first, "win": verdict.win(), "measures": measures, "missing": missing,
            })
        };
        spec.judge_names().into_iter().zip(&self.verdicts).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(one_first: Preference, other_first: Preference) -> PairVerdict {
        let said = |preference| Ok(Judgement { preference, reason: String::new() });
        PairVerdict::Asked { one_first: said(one_first), other_first: said(other_first) }
    }

    #[test]
    fn a_pair_is_worth_what_the_judges_of_rewards_say() {
        use Preference::{First, Second, Tie};
        for one_first in [First, Second, Tie] {
            for other_first in [First, Second, Tie] {
                let verdict = asked(one_first, other_first);
                assert_eq!(
                    ComparisonVerdict::read(&verdict).win(),
                    verdict.win().ok(),
                    "{one_first:?} {other_first:?}"
                );
            }
        }
        for win in [0.0, 0.5, 1.0] {
            assert_eq!(ComparisonVerdict::read(&PairVerdict::Settled(win)).win(), Some(win));
        }
    }

    #[test]
    fn one_order_alone_is_no_verdict() {
        let PairVerdict::Asked { one_first, .. } = asked(Preference::First, Preference::First) else { unreachable!() };
        let cut = PairVerdict::Asked { one_first, other_first: Err("cut".to_owned()) };
        assert_eq!(ComparisonVerdict::read(&cut), ComparisonVerdict::Missing("cut".to_owned()));
        assert_eq!(ComparisonVerdict::read(&cut).win(), None);
    }

    #[test]
    fn measures_closer_than_the_margin_tie_and_swapping_them_swaps_the_verdict() {
        let better = |one: f64, other: f64| match ComparisonVerdict::measured(&Ok(one), &Ok(other), 0.1) {
            ComparisonVerdict::Measured { better, .. } => better,
            verdict => panic!("{verdict:?}"),
        };
        assert_eq!([better(0.5, 0.45), better(0.7, 0.5), better(0.5, 0.7)], [Better::Tie, Better::One, Better::Other]);
        assert_eq!(ComparisonVerdict::measured(&Ok(0.5), &Ok(0.5), 0.0).win(), Some(0.5));
        let missing = ComparisonVerdict::measured(&Ok(0.5), &Err("no reference".to_owned()), 0.1);
        assert_eq!(missing, ComparisonVerdict::Missing("no reference".to_owned()));
    }
}
