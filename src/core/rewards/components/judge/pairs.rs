//! Comparison of two texts: every judge reads them in both orders, because many judges prefer the first position.
//!
//! A text scores 1, 1/2 or 0 in each order, and the outcome of a pair is the mean of both. If the verdict of one order
//! is missing, the pair has no outcome: a single order measures the position as much as the text.

use super::panel::{Panel, Questions};
use super::prompt::{Prompt, preference_schema};
use super::scores::again;
use super::verdict::{JudgeReply, Preference};
use super::{Expenses, JudgeAccess, JudgeError, JudgePool, is_blank};
use crate::digest::Digest;
use crate::rewards::JudgeSampling;
use crate::rewards::RewardError;
use serde_json::Value;
use std::collections::BTreeMap;

/// Two texts that answer the same prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The text whose wins are counted.
    pub a: &'a str,
    /// The text with which it is compared.
    pub b: &'a str,
    /// The reference in the judges' prompt.
    pub reference: Option<&'a str>,
    /// The correct answer in the judges' prompt.
    pub answer: Option<&'a str>,
}

impl Pair<'_> {
    /// The same pair from the view of the other text.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self { a: self.b, b: self.a, ..self }
    }

    /// The score of the first text if it needs no judge: equal texts tie, and an empty one loses. `None` otherwise.
    pub fn trivial(&self) -> Option<f64> {
        let (a, b) = (self.a.trim(), self.b.trim());
        match (is_blank(a), is_blank(b)) {
            _ if a == b => Some(0.5),
            (true, _) => Some(0.0),
            (_, true) => Some(1.0),
            _ => None,
        }
    }
}

/// A judge's verdict on a pair that it read in one order.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The preferred text.
    pub preference: Preference,
    /// The reason in the judge's words.
    pub reason: String,
}

/// A judge's verdict on a pair.
#[derive(Clone, Debug, PartialEq)]
pub enum PairVerdict {
    /// The score of the first text, without a request.
    Trivial(f64),
    /// The verdicts of both orders, or the reasons why they are missing.
    Asked {
        /// The verdict with the first text read first.
        a_first: Result<Judgement, String>,
        /// The verdict with the second text read first.
        b_first: Result<Judgement, String>,
    },
}

impl PairVerdict {
    /// The score of the first text, from 0 to 1 in quarters, or the reason why it is missing.
    pub fn win(&self) -> Result<f64, String> {
        match self {
            Self::Trivial(win) => Ok(*win),
            Self::Asked { a_first, b_first } => {
                let (a_first, b_first) =
                    (a_first.as_ref().map_err(Clone::clone)?, b_first.as_ref().map_err(Clone::clone)?);
                let win_of_first = |judgement: &Judgement| match judgement.preference {
                    Preference::First => 1.0,
                    Preference::Second => 0.0,
                    Preference::Tie => 0.5,
                };
                Ok(f64::midpoint(win_of_first(a_first), 1.0 - win_of_first(b_first)))
            }
        }
    }

    /// The position that was preferred in both orders, whichever text was there; `None` if the verdicts depend on the
    /// texts.
    pub fn position(&self) -> Option<Preference> {
        match self {
            Self::Asked { a_first: Ok(a), b_first: Ok(b) } => {
                (a.preference == b.preference && a.preference != Preference::Tie).then_some(a.preference)
            }
            _ => None,
        }
    }
}

/// A panel of judges that compare pairs.
pub struct PairJudges {
    prompt: Prompt,
    schema: Value,
    sampling: JudgeSampling,
    pub(super) panel: Panel,
}

impl PairJudges {
    /// Sets up the judges with these names. `prompt` is a template over `prompt`, `first`, `second`, `reference` and
    /// `answer`.
    ///
    /// # Errors
    /// Fails if a judge cannot be set up, or the template is not valid.
    pub fn new(
        prompt: &str,
        sampling: JudgeSampling,
        judges: &[String],
        access: JudgeAccess<'_>,
    ) -> Result<Self, JudgeError> {
        Self::of(prompt, sampling, judges, &mut JudgePool::new(access))
    }

    /// Sets up several panels, each from a prompt, sampling parameters and names. A judge in several panels has one
    /// budget.
    ///
    /// # Errors
    /// Fails as [`PairJudges::new`] does.
    pub fn sharing(
        tables: &[(&str, JudgeSampling, &[String])],
        access: JudgeAccess<'_>,
    ) -> Result<Vec<Self>, JudgeError> {
        let mut bench = JudgePool::new(access);
        tables.iter().map(|(prompt, sampling, judges)| Self::of(prompt, *sampling, judges, &mut bench)).collect()
    }

    pub(super) fn of(
        prompt: &str,
        sampling: JudgeSampling,
        judges: &[String],
        bench: &mut JudgePool<'_>,
    ) -> Result<Self, JudgeError> {
        let (prompt, schema) = (Prompt::new(prompt)?, preference_schema());
        Ok(Self { prompt, schema, sampling, panel: Panel::new(judges, bench)? })
    }

    /// Returns the verdict of every judge on each pair, in the order of the judges' names.
    ///
    /// Equal requests are sent once, also for pairs in opposite orders. Cached answers are not requested again.
    ///
    /// # Errors
    /// Fails if a judge refuses all requests, or its budget is used up.
    pub fn compare(&mut self, pairs: &[Pair<'_>]) -> Result<Vec<Vec<PairVerdict>>, RewardError> {
        self.compare_again(pairs, 0)
    }

    /// Calls [`PairJudges::compare`] for the `repeat`th time, with a different seed.
    ///
    /// # Errors
    /// Fails as [`PairJudges::compare`] does.
    pub fn compare_again(&mut self, pairs: &[Pair<'_>], repeat: u32) -> Result<Vec<Vec<PairVerdict>>, RewardError> {
        let sampling = again(self.sampling, repeat);
        let mut questions = Questions::new();
        let mut put = |panel: &Panel, pair: &Pair<'_>| {
            let message = self.prompt.of_pair(pair)?;
            Ok(panel.put(&message, sampling, &self.schema, &mut questions))
        };
        let asked: Vec<_> = pairs
            .iter()
            .map(|pair| match pair.trivial() {
                Some(win) => Err(win),
                None => Ok([*pair, pair.swapped()].map(|pair| put(&self.panel, &pair))),
            })
            .collect();
        let answers = self.panel.answers(questions)?;
        let judges = self.panel.judges().len();
        let judgements = |keys: Result<Vec<Digest>, String>| match keys {
            Ok(keys) => self.panel.read(&keys, &answers, judgement),
            Err(reason) => vec![Err(reason); judges],
        };
        let verdicts = asked.into_iter().map(|asked| match asked {
            Err(win) => vec![PairVerdict::Trivial(win); judges],
            Ok([a, b]) => {
                let orders = judgements(a).into_iter().zip(judgements(b));
                orders.map(|(a_first, b_first)| PairVerdict::Asked { a_first, b_first }).collect()
            }
        });
        Ok(verdicts.collect())
    }

    /// The expenses so far for each judge, by its name.
    pub fn expenses(&self) -> BTreeMap<String, Expenses> {
        let of_one = |client: &std::sync::Arc<super::client::Client>| (client.model().to_owned(), client.expenses());
        self.panel.judges().iter().map(of_one).collect()
    }

    /// Returns new warnings for the user; each is reported once.
    pub fn warnings(&mut self) -> Vec<String> {
        self.panel.take_warnings()
    }
}

fn judgement(answer: &JudgeReply) -> Result<Judgement, String> {
    answer.preferred().map(|said| Judgement { preference: said.verdict, reason: said.reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(a_first: Preference, b_first: Preference) -> PairVerdict {
        let said = |preference| Ok(Judgement { preference, reason: String::new() });
        PairVerdict::Asked { a_first: said(a_first), b_first: said(b_first) }
    }

    #[test]
    fn both_orders_are_averaged() {
        use Preference::{First, Second, Tie};
        let cases = [
            (First, Second, 1.0),
            (Second, First, 0.0),
            (First, First, 0.5),
            (Second, Second, 0.5),
            (Tie, Tie, 0.5),
            (First, Tie, 0.75),
            (Tie, First, 0.25),
        ];
        for (a_first, b_first, win) in cases {
            assert_eq!(verdict(a_first, b_first).win(), Ok(win), "{a_first:?} {b_first:?}");
        }
        assert_eq!(verdict(First, First).position(), Some(First));
        assert_eq!(verdict(Second, Second).position(), Some(Second));
        assert_eq!(verdict(Tie, Tie).position(), None);
        assert_eq!(verdict(First, Second).position(), None);
    }

    #[test]
    fn without_one_order_there_is_no_outcome() {
        let said = Ok(Judgement { preference: Preference::First, reason: String::new() });
        let cut = Err("cut".to_owned());
        for (a_first, b_first) in [(said.clone(), cut.clone()), (cut.clone(), said), (cut.clone(), cut)] {
            let verdict = PairVerdict::Asked { a_first, b_first };
            assert_eq!((verdict.win(), verdict.position()), (Err("cut".to_owned()), None));
        }
    }

    proptest! {
        #[test]
        fn what_is_settled_is_settled_the_other_way_round(a in "[a ]{0,2}", b in "[a ]{0,2}") {
            let pair = Pair { prompt: "", a: &a, b: &b, reference: None, answer: None };
            prop_assert_eq!(pair.trivial(), pair.swapped().trivial().map(|win| 1.0 - win));
        }
    }
}
