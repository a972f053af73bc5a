//! `cot`: 1 when the completion reasons before it answers, else 0.

use super::{Reward, RewardError, Sample, Verdict, span};
use crate::recipe::spec::Scope;

/// The component: the scope holds at least `min_words` words, and they stand before `<answer>` (unless the scope is the
/// answer itself): an answer given first, or inside the reasoning, is not reasoned.
pub(super) struct Cot {
    pub(super) scope: Scope,
    pub(super) min_words: usize,
}

impl Reward for Cot {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<Verdict>, RewardError> {
        let reasons = |(sample, text): (&Sample<'_>, _)| Option::is_some(text) && self.reasons(sample.completion);
        Ok(samples.iter().zip(texts).map(|pair| Verdict::binary(reasons(pair))).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        text?;
        let words = self.words(sample.completion);
        Some(match words {
            Some(words) => format!("{words} words of reasoning, {} are wanted", self.min_words),
            None => "it does not stand before <answer>".to_owned(),
        })
    }
}

impl Cot {
    fn reasons(&self, completion: &str) -> bool {
        self.words(completion).is_some_and(|words| words >= self.min_words)
    }

    /// Words of the scope before the answer; absent when the scope is not there.
    fn words(&self, completion: &str) -> Option<usize> {
        let before_answer = match self.scope {
            Scope::Answer => completion,
            _ => completion.split_once("<answer>").map_or(completion, |(before, _)| before),
        };
        let words = |text: &str| text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count();
        span(before_answer, &self.scope).map(|text| words(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;

    fn rate(scope: Scope, completion: &str) -> Verdict {
        let text = span(completion, &scope);
        let mut cot = Cot { scope, min_words: 3 };
        rate_one(&mut cot, sample(completion), text.as_deref())
    }

    #[test]
    fn enough_words_before_the_answer_are_reasoning() {
        assert_eq!(rate(Scope::Think, "<think>one two three</think><answer>B</answer>"), Verdict::Value(1.0));
        assert_eq!(rate(Scope::Think, "<think>one two three</think>"), Verdict::Value(1.0));
        assert_eq!(rate(Scope::Completion, "one two three <answer>B</answer>"), Verdict::Value(1.0));
    }

    #[test]
    fn too_few_words_or_punctuation_alone_are_not() {
        assert_eq!(rate(Scope::Think, "<think>one two</think><answer>B</answer>"), Verdict::Value(0.0));
        assert_eq!(rate(Scope::Think, "<think>one two . - ! </think><answer>B</answer>"), Verdict::Value(0.0));
        assert_eq!(rate(Scope::Think, "one two three"), Verdict::Value(0.0));
        assert_eq!(rate(Scope::Think, "<think>one two three"), Verdict::Value(0.0));
    }

    #[test]
    fn an_answer_before_or_inside_the_reasoning_spoils_it() {
        assert_eq!(rate(Scope::Think, "<answer>B</answer><think>one two three</think>"), Verdict::Value(0.0));
        assert_eq!(rate(Scope::Think, "<think>one two three <answer>B</answer></think>"), Verdict::Value(0.0));
        assert_eq!(rate(Scope::Completion, "<answer>B</answer> one two three"), Verdict::Value(0.0));
    }

    #[test]
    fn reasoning_may_be_asked_for_in_the_answer_itself() {
        assert_eq!(rate(Scope::Answer, "<answer>one two three</answer>"), Verdict::Value(1.0));
    }

    proptest! {
        #[test]
        fn is_0_or_1_for_any_text(text in "(<think>|</think>|<answer>|</answer>|\\PC| )*") {
            prop_assert!([Verdict::Value(0.0), Verdict::Value(1.0)].contains(&rate(Scope::Think, &text)));
        }
    }
}
