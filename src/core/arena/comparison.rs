//! Two answers to a question, and what judges say of them.

use crate::recipe::spec::ArenaSpec;
use crate::rewards::{Judgement, PairVerdict, Preference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A question, by what it is and by where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArenaQuestion {
    /// Digest of its prompt, reference and answer.
    pub digest: String,
    /// Row of the data set.
    pub row: usize,
}

/// The answers of two models to one question, compared. Models are numbered through all players, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Place of the question among those that were asked.
    pub question: usize,
    /// The one model.
    pub one: usize,
    /// The other.
    pub other: usize,
    /// What each judge says, in the order of [`ArenaSpec::judge_names`].
    pub verdicts: Vec<ComparisonVerdict>,
}

/// Which of two answers is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The one model's.
    One,
    /// The other's.
    Other,
    /// Neither.
    Tie,
}

/// What a judge says of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ComparisonVerdict {
    /// It read both answers in both orders.
    Read {
        /// The better one when the one model's stood first.
        one_first: Better,
        /// The better one when the other's stood first.
        other_first: Better,
    },
    /// It measured both answers, which knows no order.
    Measured {
        /// The better one.
        better: Better,
        /// The measure of the one model's answer.
        one: f64,
        /// The measure of the other's.
        other: f64,
    },
    /// No judge was asked: equal answers tie, and an empty one loses.
    Settled(Better),
    /// There is none, for this reason.
    Missing(String),
}

impl ComparisonVerdict {
    /// What a language model said of a pair.
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

    /// The answer with the greater measure, if they are `tie_margin` or more apart; or why one has none.
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

    /// Which answer is better in either order, the one model's read first and last; absent when the verdict is missing.
    pub fn orders(&self) -> Option<[Better; 2]> {
        match self {
            Self::Read { one_first, other_first } => Some([*one_first, *other_first]),
            Self::Measured { better, .. } | Self::Settled(better) => Some([*better, *better]),
            Self::Missing(_) => None,
        }
    }

    /// How much the one model wins, from 0 to 1 in quarters.
    pub fn win(&self) -> Option<f64> {
        self.orders().map(|[first, last]| f64::midpoint(first.win(), last.win()))
    }

    /// Whether the judge itself looked at the answers.
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

    /// Wins of the one model.
    pub(super) fn win(self) -> f64 {
        match self {
            Self::One => 1.0,
            Self::Tie => 0.5,
            Self::Other => 0.0,
        }
    }
}

impl Comparison {
    /// A flat line for each judge, as `comparisons.jsonl` has it: `one_first` and `other_first` are `one`, `other` or `tie`, by the
    /// answer that was read first; `win` is how much the one model wins.
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
