//! Which of two texts is better: every judge reads them in both orders, since many prefer what they read first.
//!
//! A text wins 1, 1/2 or 0 in each order; a pair's outcome is the mean of both. Where one order has no verdict the pair has
//! none: what is known of the other order alone is as much the position as the text.

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

/// Two texts that answer the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair<'a> {
    /// What they answer.
    pub prompt: &'a str,
    /// The text whose wins are counted.
    pub one: &'a str,
    /// The text it is compared with.
    pub other: &'a str,
    /// The reference that judges read.
    pub reference: Option<&'a str>,
    /// The right answer that judges read.
    pub answer: Option<&'a str>,
}

impl Pair<'_> {
    /// The same pair, seen from the other text.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self { one: self.other, other: self.one, ..self }
    }

    /// How much the one text wins where no judge needs to be asked: equal texts tie, and an empty one loses.
    pub fn settled(&self) -> Option<f64> {
        let (one, other) = (self.one.trim(), self.other.trim());
        match (is_blank(one), is_blank(other)) {
            _ if one == other => Some(0.5),
            (true, _) => Some(0.0),
            (_, true) => Some(1.0),
            _ => None,
        }
    }
}

/// What a judge says of a pair that it read in one order.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Which text it prefers.
    pub preference: Preference,
    /// Why, in its words.
    pub reason: String,
}

/// What a judge says of a pair.
#[derive(Clone, Debug, PartialEq)]
pub enum PairVerdict {
    /// No judge was asked: how much the one text wins.
    Settled(f64),
    /// Both orders' verdicts, or why there are none.
    Asked {
        /// When it read the one text first.
        one_first: Result<Judgement, String>,
        /// When it read the other text first.
        other_first: Result<Judgement, String>,
    },
}

impl PairVerdict {
    /// How much the one text wins, from 0 to 1 in quarters; or why that is not known.
    pub fn win(&self) -> Result<f64, String> {
        match self {
            Self::Settled(win) => Ok(*win),
            Self::Asked { one_first, other_first } => {
                let (one_first, other_first) =
                    (one_first.as_ref().map_err(Clone::clone)?, other_first.as_ref().map_err(Clone::clone)?);
                let win_of_first = |judgement: &Judgement| match judgement.preference {
                    Preference::First => 1.0,
                    Preference::Second => 0.0,
                    Preference::Tie => 0.5,
                };
                Ok(f64::midpoint(win_of_first(one_first), 1.0 - win_of_first(other_first)))
            }
        }
    }

    /// The place that was preferred in both orders, whichever text stood there; absent where the verdicts are about the texts.
    pub fn position(&self) -> Option<Preference> {
        match self {
            Self::Asked { one_first: Ok(one), other_first: Ok(other) } => {
                (one.preference == other.preference && one.preference != Preference::Tie).then_some(one.preference)
            }
            _ => None,
        }
    }
}

/// Judges of pairs.
pub struct PairJudges {
    prompt: Prompt,
    schema: Value,
    sampling: JudgeSampling,
    pub(super) panel: Panel,
}

impl PairJudges {
    /// The judges with these names, which are asked with `prompt`, a template over `prompt`, `first`, `second`,
    /// `reference` and `answer`.
    ///
    /// # Errors
    /// A judge that cannot be reached, or a template that is none.
    pub fn new(
        prompt: &str,
        sampling: JudgeSampling,
        judges: &[String],
        access: JudgeAccess<'_>,
    ) -> Result<Self, JudgeError> {
        Self::of(prompt, sampling, judges, &mut JudgePool::new(access))
    }

    /// Several such tables of judges, each a prompt, how they answer and their names: who is in two of them has one budget.
    ///
    /// # Errors
    /// As of [`PairJudges::new`].
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

    /// What every judge says of each pair, in the order of the judges' names. Equal requests are sent once, whichever way
    /// round a pair is given, and kept answers are not asked for again.
    ///
    /// # Errors
    /// A judge that refuses every request, or whose budget is used up.
    pub fn compare(&mut self, pairs: &[Pair<'_>]) -> Result<Vec<Vec<PairVerdict>>, RewardError> {
        self.compare_again(pairs, 0)
    }

    /// [`PairJudges::compare`] for the `repeat`th time, with a seed of its own.
    ///
    /// # Errors
    /// As of [`PairJudges::compare`].
    pub fn compare_again(&mut self, pairs: &[Pair<'_>], repeat: u32) -> Result<Vec<Vec<PairVerdict>>, RewardError> {
        let sampling = again(self.sampling, repeat);
        let mut questions = Questions::new();
        let mut put = |panel: &Panel, pair: &Pair<'_>| {
            let message = self.prompt.of_pair(pair)?;
            Ok(panel.put(&message, sampling, &self.schema, &mut questions))
        };
        let asked: Vec<_> = pairs
            .iter()
            .map(|pair| match pair.settled() {
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
            Err(win) => vec![PairVerdict::Settled(win); judges],
            Ok([one, other]) => {
                let orders = judgements(one).into_iter().zip(judgements(other));
                orders.map(|(one_first, other_first)| PairVerdict::Asked { one_first, other_first }).collect()
            }
        });
        Ok(verdicts.collect())
    }

    /// What each judge was asked so far, by its name.
    pub fn expenses(&self) -> BTreeMap<String, Expenses> {
        let of_one = |client: &std::sync::Arc<super::client::Client>| (client.model().to_owned(), client.expenses());
        self.panel.judges().iter().map(of_one).collect()
    }

    /// What a person should look at, each reported once.
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

    fn verdict(one_first: Preference, other_first: Preference) -> PairVerdict {
        let said = |preference| Ok(Judgement { preference, reason: String::new() });
        PairVerdict::Asked { one_first: said(one_first), other_first: said(other_first) }
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
        for (one_first, other_first, win) in cases {
            assert_eq!(verdict(one_first, other_first).win(), Ok(win), "{one_first:?} {other_first:?}");
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
        for (one_first, other_first) in [(said.clone(), cut.clone()), (cut.clone(), said), (cut.clone(), cut)] {
            let verdict = PairVerdict::Asked { one_first, other_first };
            assert_eq!((verdict.win(), verdict.position()), (Err("cut".to_owned()), None));
        }
    }

    proptest! {
        #[test]
        fn what_is_settled_is_settled_the_other_way_round(one in "[a ]{0,2}", other in "[a ]{0,2}") {
            let pair = Pair { prompt: "", one: &one, other: &other, reference: None, answer: None };
            prop_assert_eq!(pair.settled(), pair.swapped().settled().map(|win| 1.0 - win));
        }
    }
}
