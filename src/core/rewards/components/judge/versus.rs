//! Comparison of a text with its row's reference, or with the other completions of its group.

use super::pairs::{Pair, PairJudges, PairVerdict};
use super::verdict::{Preference, shortened};
use super::{Case, is_blank};
use crate::rewards::{RewardError, RewardValue, Sample};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// The opponents of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Against {
    /// The row's reference.
    Reference,
    /// Other completions of the group: this many, or all if absent.
    Group(Option<usize>),
}

/// Judges of pairs, with the opponents of each text.
pub(super) struct Versus {
    pub(super) judges: PairJudges,
    against: Against,
    /// The descriptions of the last batch's results, by prompt and text.
    explanations: HashMap<(String, String), String>,
}

/// The pairs of a batch, each once, and the pairs of each text.
pub(super) struct Pairs<'a> {
    pub(super) pairs: Vec<Pair<'a>>,
    /// For each text: its pairs, and whether it is the second text of each; or its value without pairs.
    of_text: Vec<Result<Vec<(usize, bool)>, RewardValue>>,
}

impl Versus {
    pub(super) fn new(judges: PairJudges, against: Against) -> Self {
        Self { judges, against, explanations: HashMap::new() }
    }

    /// Returns the pairs to compare.
    pub(super) fn pairs<'a>(&self, samples: &[Sample<'a>], texts: &[Option<&'a str>]) -> Pairs<'a> {
        match self.against {
            Against::Reference => with_references(samples, texts),
            Against::Group(opponents) => within_groups(samples, texts, opponents),
        }
    }

    /// Returns the fraction of wins of each text, by every judge.
    pub(super) fn measure(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<Case>, RewardError> {
        let Pairs { pairs, of_text } = self.pairs(samples, texts);
        let verdicts = self.judges.compare(&pairs)?;
        self.explanations.clear();
        let judges = self.judges.panel.judges().len();
        let mut cases = Vec::with_capacity(samples.len());
        for ((sample, text), of_text) in samples.iter().zip(texts).zip(of_text) {
            cases.push(match of_text {
                Err(settled) => Case::Settled(settled),
                Ok(own) => {
                    let explanation = self.found(&own, &verdicts);
                    self.explanations
                        .insert((sample.prompt.to_owned(), text.unwrap_or_default().to_owned()), explanation);
                    Case::Judged((0..judges).map(|judge| mean_win(&own, judge, &verdicts)).collect())
                }
            });
        }
        Ok(cases)
    }

    /// Returns the description of `text`'s result in the last batch.
    pub(super) fn explain(&self, sample: &Sample<'_>, text: &str) -> Option<String> {
        self.explanations.get(&(sample.prompt.to_owned(), text.to_owned())).cloned()
    }

    /// Describes the judges' verdicts on a text with these pairs.
    fn found(&self, own: &[(usize, bool)], verdicts: &[Vec<PairVerdict>]) -> String {
        let of_one = |(judge, client): (usize, &std::sync::Arc<super::client::Client>)| {
            let name = client.model();
            if let [(pair, false)] = own
                && let PairVerdict::Asked { a_first, b_first } = &verdicts[*pair][judge]
            {
                let words = |own: Preference, said: &Result<super::Judgement, String>| match said {
                    Ok(said) => {
                        let which = match said.preference {
                            Preference::Tie => "neither",
                            preference if preference == own => "this one",
                            _ => "the other",
                        };
                        format!("{which}: {}", shortened(&said.reason))
                    }
                    Err(reason) => reason.clone(),
                };
                let (first, second) = (words(Preference::First, a_first), words(Preference::Second, b_first));
                return format!("reading it first, `{name}` prefers {first}; reading it second, {second}");
            }
            match mean_win(own, judge, verdicts) {
                Ok(win) => format!("`{name}`: {:.0}% of the wins over {} others", 100.0 * win, own.len()),
                Err(reason) => reason,
            }
        };
        self.judges.panel.judges().iter().enumerate().map(of_one).collect::<Vec<_>>().join("; ")
    }
}

/// Returns the mean score of a text over its pairs. If one is missing, so is the mean: fewer opponents would be a
/// different reward.
fn mean_win(own: &[(usize, bool)], judge: usize, verdicts: &[Vec<PairVerdict>]) -> Result<f64, String> {
    let mut sum = 0.0;
    for &(pair, is_other) in own {
        let win = verdicts[pair][judge].win()?;
        sum += if is_other { 1.0 - win } else { win };
    }
    Ok(sum / own.len() as f64)
}

fn with_references<'a>(samples: &[Sample<'a>], texts: &[Option<&'a str>]) -> Pairs<'a> {
    let mut pairs = Vec::new();
    let of_text = samples.iter().zip(texts).map(|(sample, text)| {
        let Some(a) = text.filter(|text| !is_blank(text)) else { return Err(RewardValue::Value(0.0)) };
        let Some(b) = sample.reference else {
            return Err(RewardValue::Missing("the row has no reference".to_owned()));
        };
        // the reference must not appear twice, or it would be recognizable
        pairs.push(Pair { prompt: sample.prompt, a, b, reference: None, answer: sample.answer });
        Ok(vec![(pairs.len() - 1, false)])
    });
    let of_text = of_text.collect();
    Pairs { pairs, of_text }
}

fn within_groups<'a>(samples: &[Sample<'a>], texts: &[Option<&'a str>], opponents: Option<usize>) -> Pairs<'a> {
    let (mut pairs, mut of_text) = (Vec::new(), Vec::new());
    for group in groups(samples) {
        let mut index: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (own, others) in neighbours(group.len(), opponents).into_iter().enumerate() {
            let text = texts[group.start + own].filter(|text| !is_blank(text));
            if others.is_empty() {
                let reason = "its group has no other completion to compare it with".to_owned();
                of_text.push(Err(RewardValue::Missing(reason)));
            } else if text.is_none() {
                of_text.push(Err(RewardValue::Value(0.0)));
            } else {
                let pair_with = |other: usize| {
                    let (one, two) = (own.min(other), own.max(other));
                    let number = *index.entry((one, two)).or_insert_with(|| {
                        let Sample { prompt, reference, answer, .. } = samples[group.start + one];
                        let text = |which: usize| texts[group.start + which].unwrap_or_default();
                        pairs.push(Pair { prompt, a: text(one), b: text(two), reference, answer });
                        pairs.len() - 1
                    });
                    (number, own == two)
                };
                of_text.push(Ok(others.into_iter().map(pair_with).collect()));
            }
        }
    }
    Pairs { pairs, of_text }
}

/// Returns the groups of samples: consecutive samples with the same prompt, reference and answer.
fn groups(samples: &[Sample<'_>]) -> Vec<Range<usize>> {
    let is_same = |one: &Sample<'_>, other: &Sample<'_>| {
        (one.prompt, one.reference, one.answer) == (other.prompt, other.reference, other.answer)
    };
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if is_same(&samples[group.start], sample) => group.end = index + 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}

/// Returns the opponents of each of `count` completions, up to `opponents`.
///
/// With the group arranged in a circle, they are the next one, the previous one, the next but one, and so on.
/// Completions of a group are drawn independently, so their positions are as good as random.
fn neighbours(count: usize, opponents: Option<usize>) -> Vec<Vec<usize>> {
    let others = count.saturating_sub(1);
    let wanted = opponents.map_or(others, |most| most.min(others));
    let of_one = |own: usize| {
        let around = (1..count).flat_map(|far| [(own + far) % count, (own + count - far) % count]);
        let mut met = BTreeSet::new();
        around.filter(|other| met.insert(*other)).take(wanted).collect()
    };
    (0..count).map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::components::judge::testing::SAMPLING;
    use crate::rewards::testing::sample;
    use crate::rewards::{Aggregate, JudgeMode, JudgeSpec};

    #[test]
    fn everybody_meets_as_many_as_wanted_and_nobody_twice() {
        assert_eq!(neighbours(4, Some(2)), [vec![1, 3], vec![2, 0], vec![3, 1], vec![0, 2]]);
        assert_eq!(neighbours(1, None), [Vec::<usize>::new()]);
        for count in 1..9 {
            for opponents in [None, Some(1), Some(2), Some(3), Some(20)] {
                let wanted = opponents.unwrap_or(usize::MAX).min(count - 1);
                for (own, others) in neighbours(count, opponents).into_iter().enumerate() {
                    let distinct: BTreeSet<usize> = others.iter().copied().collect();
                    assert_eq!((others.len(), distinct.len()), (wanted, wanted));
                    assert!(!distinct.contains(&own) && distinct.iter().all(|other| *other < count));
                }
            }
        }
    }

    #[test]
    fn a_recipe_knows_how_many_requests_its_pairs_are() {
        let texts: Vec<String> = (0..9).map(|i| format!("text {i}")).collect();
        for count in 1..9 {
            for opponents in [None, Some(1), Some(2), Some(3), Some(4), Some(20)] {
                let samples: Vec<Sample<'_>> = texts.iter().take(count).map(|text| sample(text)).collect();
                let texts: Vec<Option<&str>> = samples.iter().map(|sample| Some(sample.completion)).collect();
                let spec = JudgeSpec {
                    judges: Vec::new(),
                    aggregate: Aggregate::Mean,
                    mode: JudgeMode::PairWithinGroup { prompt: String::new(), opponents },
                    sampling: SAMPLING,
                };
                let pairs = within_groups(&samples, &texts, opponents).pairs.len() as u64;
                assert_eq!(spec.requests(count as u64), 2 * pairs, "{count} {opponents:?}");
            }
        }
    }

    #[test]
    fn a_group_is_what_answers_the_same() {
        let of = |prompt, answer| Sample { prompt, answer, ..sample("a") };
        let samples = [of("P", None), of("P", None), of("Q", None), of("Q", Some("B")), of("P", None)];
        assert_eq!(groups(&samples), [0..2, 2..3, 3..4, 4..5]);
        let texts = vec![Some("a"); 5];
        let Pairs { pairs, of_text } = within_groups(&samples, &texts, None);
        assert_eq!(pairs.len(), 1);
        assert_eq!(of_text[..2], [Ok(vec![(0, false)]), Ok(vec![(0, true)])]);
        assert!(matches!(&of_text[2], Err(RewardValue::Missing(reason)) if reason.contains("no other completion")));
    }

    #[test]
    fn the_reference_that_is_compared_is_not_told_of() {
        let row = Sample { reference: Some("R"), answer: Some("B"), ..sample("c") };
        let found = with_references(&[row, row, Sample { reference: None, ..row }], &[Some("x"), Some(" "), Some("x")]);
        assert_eq!(found.pairs, [Pair { prompt: "", a: "x", b: "R", reference: None, answer: Some("B") }]);
        assert_eq!(found.of_text[1], Err(RewardValue::Value(0.0)));
        assert_eq!(found.of_text[2], Err(RewardValue::Missing("the row has no reference".to_owned())));
    }
}
