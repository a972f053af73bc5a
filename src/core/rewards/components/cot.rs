#![doc = include_str!("docs/cot.md")]

use crate::rewards::component::{Kind, Measure};
use crate::rewards::table::At;
use crate::rewards::text::explain::wanted;
use crate::rewards::text::words::normalized;
use crate::rewards::{
    BuildError, CountTokens, EncoderError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext, span,
};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::sync::LazyLock;

/// 1 when the scope holds from `min_words` to `max_words` words, and `min_tokens` to `max_tokens` tokens, before the
/// answer, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CotSpec {
    /// Fewest words that count as reasoning.
    #[schemars(range(min = 1))]
    pub min_words: usize,
    /// Most words of reasoning; default: no limit.
    #[schemars(range(min = 1))]
    pub max_words: Option<usize>,
    /// Fewest tokens of reasoning, as the policy's tokenizer cuts it; default: no limit.
    #[schemars(range(min = 1))]
    pub min_tokens: Option<usize>,
    /// Most tokens of reasoning; default: no limit.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<usize>,
    /// Where the row's answer must not be stated: no restriction (`ignore`), `before` the reasoning has its
    /// `min_words`, or anywhere before it is closed (`inside`).
    pub leak: Leak,
}

/// Where reasoning must not state the row's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// No place is forbidden.
    Ignore,
    /// Before the reasoning has its fewest words.
    Before,
    /// Before the reasoning is closed.
    Inside,
}

impl Kind for CotSpec {
    const NAME: &'static str = "cot";
    const PAGE: &'static str = include_str!("docs/cot.md");
    const DEFAULTS: &'static str = r#"
scope = "think"
min_words = 5
leak = "ignore" # what states an answer in words is a guess
"#;

    type Table = Self;

    fn needed(table: &Self::Table) -> Option<&'static str> {
        table.needs()
    }

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let Self { min_words, max_words, min_tokens, max_tokens, .. } = *table;
        let before = recipe.problems();
        for (unit, fewest, most) in [("words", Some(min_words), max_words), ("tokens", min_tokens, max_tokens)] {
            if let Some((fewest, most)) = fewest.zip(most).filter(|(fewest, most)| most < fewest) {
                let message = format!("`max_{unit}` ({most}) is less than `min_{unit}` ({fewest})");
                let at = format!("max_{unit}");
                recipe.problem(At::Key(&at), message, "no length fits", "raise it, or leave it out");
            }
        }
        (recipe.problems() == before).then_some(*table)
    }
}

impl Measure for CotSpec {
    fn build(&self, scope: &Scope, setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        let Self { min_words, max_words, min_tokens: min, max_tokens: max, leak } = *self;
        let count = (min.is_some() || max.is_some()).then(setup.count_tokens).transpose();
        let tokens = count.map_err(BuildError::Tokenizer)?.map(|count| TokenLimits { min, max, count });
        Ok(Box::new(Cot { scope: scope.clone(), min_words, max_words, tokens, leak }))
    }

    fn needs(&self) -> Option<&'static str> {
        (self.leak != Leak::Ignore).then_some("answer")
    }
}

/// The `cot` component.
pub(super) struct Cot {
    pub(super) scope: Scope,
    pub(super) min_words: usize,
    pub(super) max_words: Option<usize>,
    /// The limits in tokens; absent: none.
    pub(super) tokens: Option<TokenLimits>,
    pub(super) leak: Leak,
}

/// Limits for the number of tokens of the reasoning, both inclusive, with the function that counts them.
pub(super) struct TokenLimits {
    pub(super) min: Option<usize>,
    pub(super) max: Option<usize>,
    pub(super) count: CountTokens,
}

impl TokenLimits {
    fn fit(&self, reasoning: &str) -> Result<bool, EncoderError> {
        let count = (self.count)(reasoning)?;
        Ok(self.min.is_none_or(|least| count >= least) && self.max.is_none_or(|most| count <= most))
    }
}

impl Reward for Cot {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        Ok(samples.iter().zip(texts).map(|(sample, text)| self.rate_one(sample, text.is_some())).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        text?;
        let Some(reasoning) = span(self.before_answer(sample.completion), &self.scope) else {
            return Some("it is not before <answer>".to_owned());
        };
        let words = wanted(Some(self.min_words), self.max_words);
        let mut text = format!("{} words of reasoning, {words} are wanted", word_ends(&reasoning).count());
        if let Some(TokenLimits { min, max, count }) = &self.tokens {
            let count = count(&reasoning).map_or_else(|error| error.to_string(), |count| count.to_string());
            write!(text, "; {count} tokens, {} are wanted", wanted(*min, *max)).expect("a string takes everything");
        }
        Some(text)
    }
}

impl Cot {
    fn rate_one(&self, sample: &Sample<'_>, is_there: bool) -> RewardValue {
        let answer = match (self.leak, sample.answer.map(str::trim).filter(|answer| !answer.is_empty())) {
            (Leak::Ignore, _) => None,
            (_, None) => return RewardValue::Missing("the row has no answer".to_owned()),
            (_, Some(answer)) => Some(answer),
        };
        match is_there.then(|| self.reasons(sample.completion, answer)) {
            None => RewardValue::binary(false),
            Some(Ok(reasons)) => RewardValue::binary(reasons),
            Some(Err(error)) => RewardValue::Missing(format!("its tokens cannot be counted: {error}")),
        }
    }

    /// Returns the completion before the answer; the whole completion if the scope is the answer.
    fn before_answer<'c>(&self, completion: &'c str) -> &'c str {
        match self.scope {
            Scope::Answer => completion,
            _ => completion.split_once("<answer>").map_or(completion, |(before, _)| before),
        }
    }

    fn reasons(&self, completion: &str, answer: Option<&str>) -> Result<bool, EncoderError> {
        let before_answer = self.before_answer(completion);
        let Some(reasoning) = span(before_answer, &self.scope) else { return Ok(false) };
        let ends: Vec<usize> = word_ends(&reasoning).collect();
        let fits = ends.len() >= self.min_words && self.max_words.is_none_or(|most| ends.len() <= most);
        let early = match self.leak {
            Leak::Inside => reasoning.len(),
            Leak::Before | Leak::Ignore => {
                self.min_words.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0)
            }
        };
        // An explanation may consist of several pieces. It then begins with the completion.
        let ahead = before_answer.find(&*reasoning).map_or("", |start| &before_answer[..start]);
        let leaks = |answer| states(ahead, ahead.len(), answer) || states(&reasoning, early, answer);
        if !fits || answer.is_some_and(leaks) {
            return Ok(false);
        }
        self.tokens.as_ref().map_or(Ok(true), |limits| limits.fit(&reasoning))
    }
}

/// Returns the ends of the words of `text`, in bytes.
fn word_ends(text: &str) -> impl Iterator<Item = usize> {
    static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\S+").expect("the pattern is a constant"));
    WORD.find_iter(text).filter(|word| word.as_str().contains(char::is_alphanumeric)).map(|word| word.end())
}

/// Whether `text` states `answer` within its first `limit` bytes.
fn states(text: &str, limit: usize, answer: &str) -> bool {
    let mut letters = answer.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_alphabetic() => states_letter(text, limit, letter),
        _ => states_words(&normalized(&text[..limit]), &normalized(answer)),
    }
}

/// Whether `text` states the option `letter` within its first `limit` bytes.
///
/// In its own case, the letter may precede a word. In the other case, it may only precede a mark or an end:
/// `the answer is a vein` does not state A.
fn states_letter(text: &str, limit: usize, letter: char) -> bool {
    let (own, either) = (letter, format!("[{}{}]", letter.to_lowercase(), letter.to_uppercase()));
    let pattern = format!(
        r"(?im)\banswer\b[^\w.!?\n]*(?<between>(?:[\w']+[^\w.!?\n]+){{0,3}}?)(?-i:({own})(?:[^\w'-]|$)|({either})(?:\s*[^\w\s'-]|\s*$))|^[^\w\n]*({own})[^\w\n]*$"
    );
    let statement = Regex::new(&pattern).expect("a letter is a pattern");
    let is_denied = |between: &str| between.split_whitespace().any(|word| word.eq_ignore_ascii_case("not"));
    statement.captures_iter(text).any(|found| {
        let between = found.name("between").map_or("", |words| words.as_str());
        let letter = found.iter().skip(2).flatten().next();
        !is_denied(between) && letter.is_some_and(|letter| letter.end() <= limit)
    })
}

/// Whether the words of `answer` occur together in `text`; both are normalized.
fn states_words(text: &str, answer: &str) -> bool {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (begins, ends) = (in_word(answer.chars().next()), in_word(answer.chars().next_back()));
    text.match_indices(answer).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + answer.len()..].chars().next());
        !(begins && in_word(before) || ends && in_word(after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;

    fn rate_by(scope: Scope, leak: Leak, answer: Option<&str>, completion: &str) -> RewardValue {
        let text = span(completion, &scope);
        let mut cot = Cot { scope, min_words: 3, max_words: Some(12), tokens: None, leak };
        rate_one(&mut cot, Sample { answer, ..sample(completion) }, text.as_deref())
    }

    fn rate(scope: Scope, completion: &str) -> RewardValue {
        rate_by(scope, Leak::Ignore, None, completion)
    }

    #[test]
    fn enough_words_before_the_answer_are_reasoning() {
        assert_eq!(rate(Scope::Think, "<think>one two three</think><answer>B</answer>"), RewardValue::Value(1.0));
        assert_eq!(rate(Scope::Think, "<think>one two three</think>"), RewardValue::Value(1.0));
        assert_eq!(rate(Scope::Completion, "one two three <answer>B</answer>"), RewardValue::Value(1.0));
    }

    #[test]
    fn too_few_words_or_punctuation_alone_are_not() {
        assert_eq!(rate(Scope::Think, "<think>one two</think><answer>B</answer>"), RewardValue::Value(0.0));
        assert_eq!(rate(Scope::Think, "<think>one two . - ! </think><answer>B</answer>"), RewardValue::Value(0.0));
        assert_eq!(rate(Scope::Think, "one two three"), RewardValue::Value(0.0));
        assert_eq!(rate(Scope::Think, "<think>one two three"), RewardValue::Value(0.0));
    }

    #[test]
    fn an_answer_before_or_inside_the_reasoning_spoils_it() {
        assert_eq!(rate(Scope::Think, "<answer>B</answer><think>one two three</think>"), RewardValue::Value(0.0));
        assert_eq!(rate(Scope::Think, "<think>one two three <answer>B</answer></think>"), RewardValue::Value(0.0));
        assert_eq!(rate(Scope::Completion, "<answer>B</answer> one two three"), RewardValue::Value(0.0));
    }

    #[test]
    fn reasoning_may_be_asked_for_in_the_answer_itself() {
        assert_eq!(rate(Scope::Answer, "<answer>one two three</answer>"), RewardValue::Value(1.0));
    }

    #[test]
    fn more_words_than_the_most_are_none() {
        let of = |count: usize| format!("<think>{}</think><answer>B</answer>", vec!["so"; count].join(" "));
        assert_eq!(rate(Scope::Think, &of(12)), RewardValue::Value(1.0));
        assert_eq!(rate(Scope::Think, &of(13)), RewardValue::Value(0.0));
    }

    /// A tokenizer that makes a token of every three bytes and fails for `~`.
    fn in_tokens(min: Option<usize>, max: Option<usize>) -> Cot {
        let count =
            |text: &str| if text.contains('~') { Err("no such byte".into()) } else { Ok(text.len().div_ceil(3)) };
        let tokens = Some(TokenLimits { min, max, count: Box::new(count) });
        Cot { scope: Scope::Think, min_words: 1, max_words: None, tokens, leak: Leak::Ignore }
    }

    fn rate_in_tokens(cot: &mut Cot, completion: &str) -> RewardValue {
        rate_one(cot, sample(completion), span(completion, &Scope::Think).as_deref())
    }

    #[test]
    fn tokens_of_the_reasoning_alone_are_counted_and_both_ends_count() {
        let of = |letters: usize| format!("so <think> {} </think><answer>B</answer>", "a".repeat(letters));
        let mut cot = in_tokens(Some(3), Some(5));
        let value = |cot: &mut Cot, letters| rate_in_tokens(cot, &of(letters));
        assert_eq!(
            [6, 7, 15, 16].map(|letters| value(&mut cot, letters)),
            [0.0, 1.0, 1.0, 0.0].map(RewardValue::Value)
        );
        assert_eq!(value(&mut in_tokens(None, Some(2)), 7), RewardValue::Value(0.0));
        assert_eq!(value(&mut in_tokens(Some(3), None), 700), RewardValue::Value(1.0));
        let why = cot.explain(&sample(&of(7)), Some("aaaaaaa")).unwrap();
        assert_eq!(why, "1 words of reasoning, at least 1 are wanted; 3 tokens, 3 to 5 are wanted");
    }

    #[test]
    fn tokens_that_cannot_be_counted_are_missing_unless_there_is_no_reasoning() {
        let mut cot = in_tokens(Some(3), None);
        let reason = "its tokens cannot be counted: no such byte".to_owned();
        assert_eq!(rate_in_tokens(&mut cot, "<think>a ~ b</think>"), RewardValue::Missing(reason));
        assert_eq!(rate_in_tokens(&mut cot, "~"), RewardValue::Value(0.0));
    }

    #[test]
    fn a_letter_stated_before_there_is_reasoning_is_leaked() {
        let rate = |leak, thought: &str| rate_by(Scope::Think, leak, Some("B"), thought);
        for leaked in [
            "The answer is B. <think>one two three</think>",
            "B\n<think>one two three</think>",
            "<think>Answer: (b), because one two three</think>",
            "<think>Answer **B** as one two three</think>",
        ] {
            assert_eq!(rate(Leak::Before, leaked), RewardValue::Value(0.0), "{leaked:?}");
            assert_eq!(rate(Leak::Inside, leaked), RewardValue::Value(0.0), "{leaked:?}");
            assert_eq!(rate(Leak::Ignore, leaked), RewardValue::Value(1.0), "{leaked:?}");
        }
        for free in [
            "The answer follows. <think>one two three</think>",
            "The answer is not B. <think>one two three</think>",
            "The answer is b vitamins. <think>one two three</think>",
            "The answer is C. <think>one two three</think>",
            "B is one option. <think>T-cells and B-cells are cells</think>",
            "<think>one two three</think> The answer is B. <answer>B</answer>",
            "<think>the answer: b vitamins</think>",
        ] {
            assert_eq!(rate(Leak::Before, free), RewardValue::Value(1.0), "{free:?}");
            assert_eq!(rate(Leak::Inside, free), RewardValue::Value(1.0), "{free:?}");
        }
        let concluded = "<think>one two three, so the answer is B</think>";
        assert_eq!(rate(Leak::Before, concluded), RewardValue::Value(1.0));
        assert_eq!(rate(Leak::Inside, concluded), RewardValue::Value(0.0));
    }

    #[test]
    fn a_longer_answer_is_stated_by_its_words() {
        let rate = |answer, thought: &str| rate_by(Scope::Think, Leak::Before, Some(answer), thought);
        let thought = "It is the Left\n ventricle: <think>one two three</think>";
        assert_eq!(rate("left ventricle", thought), RewardValue::Value(0.0));
        assert_eq!(rate("ventric", thought), RewardValue::Value(1.0));
        assert_eq!(rate("42", "It is 42: <think>one two three</think>"), RewardValue::Value(0.0));
        assert_eq!(rate("4", "It is 42: <think>one two three</think>"), RewardValue::Value(1.0));
        assert_eq!(rate("(+)", "It is (+)! <think>one two three</think>"), RewardValue::Value(0.0));
    }

    #[test]
    fn where_leaks_matter_a_row_needs_an_answer() {
        for leak in [Leak::Before, Leak::Inside] {
            let verdict = rate_by(Scope::Think, leak, Some(" "), "<think>one two three</think>");
            assert_eq!(verdict, RewardValue::Missing("the row has no answer".to_owned()));
        }
    }

    proptest! {
        #[test]
        fn a_leak_only_takes_away(
            text in "(<think>|</think>|<answer>|answer is |B|\\PC| )*", answer in "\\PC|[A-D]|\\PC{2,5}"
        ) {
            let [ignored, before, inside] = [Leak::Ignore, Leak::Before, Leak::Inside]
                .map(|leak| rate_by(Scope::Think, leak, Some(&answer), &text));
            if !answer.trim().is_empty() {
                let value = |verdict: &RewardValue| match verdict {
                    RewardValue::Value(value) => *value,
                    RewardValue::Missing(reason) => panic!("{reason}"),
                };
                prop_assert!(value(&ignored) >= value(&before) && value(&before) >= value(&inside));
            }
        }

        #[test]
        fn limits_in_tokens_only_take_away(text in "(<think>|</think>|<answer>|[a-z]{1,9} )*", min in 0..20_usize, more in 0..40_usize) {
            let value = |mut cot: Cot| match rate_in_tokens(&mut cot, &text) {
                RewardValue::Value(value) => value,
                RewardValue::Missing(reason) => panic!("{reason}"),
            };
            let [without, within, below, above] =
                [(None, None), (Some(min), Some(min + more)), (None, min.checked_sub(1)), (Some(min + more + 1), None)]
                    .map(|(least, most)| value(in_tokens(least, most)));
            prop_assert!(within <= without);
            if min > 0 {
                prop_assert!((below + within + above - without).abs() < 1e-12, "every length is in one of the ranges");
            }
        }

        #[test]
        fn is_0_or_1_for_any_text(text in "(<think>|</think>|<answer>|</answer>|\\PC| )*") {
            prop_assert!([RewardValue::Value(0.0), RewardValue::Value(1.0)].contains(&rate(Scope::Think, &text)));
        }
    }
}
