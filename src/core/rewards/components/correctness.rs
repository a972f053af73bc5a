#![doc = include_str!("docs/correctness.md")]

use crate::rewards::component::{Kind, Measure};
use crate::rewards::table::{At, regular_expression};
use crate::rewards::text::choice::{Choice, choice};
use crate::rewards::text::explain::excerpt;
use crate::rewards::text::numbers::last_number;
use crate::rewards::text::words::normalized;
use crate::rewards::{BuildError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// What makes an answer equal to the row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchName {
    /// The letter that the text chooses, where the row's answer is one letter; else the whole text.
    Choice,
    /// The whole text; upper and lower case, and any white space, are the same.
    Exact,
    /// The last number of the text, within `tolerance`.
    Numeric,
    /// The same items, in any order.
    Set,
}

/// 1 when the answer equals the row's, else 0.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectnessTable {
    /// What makes an answer equal to the row's: `choice`, `exact`, `numeric` or `set`.
    #[serde(rename = "match")]
    pub matching: MatchName,
    /// How far a number may be from the row's, either way, with `match = "numeric"`.
    #[schemars(range(min = 0))]
    pub tolerance: Option<f64>,
    /// Regular expression with one group: the answer is what the group holds at the last place in the scope where it
    /// matches, and a completion without such a place is wrong. Default: the whole scope.
    pub pattern: Option<String>,
}

/// The criterion by which an answer equals the row's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Match {
    /// The letter that the text chooses, where the row's answer is one letter; else the whole text.
    Choice,
    /// The whole text, ignoring case and differences in white space.
    Exact,
    /// The last number of the text.
    Numeric {
        /// The largest absolute difference from the row's number.
        tolerance: f64,
    },
    /// The same items, in any order.
    Set,
}

/// The settings of the component `correctness`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorrectnessSpec {
    /// The criterion by which two answers are equal.
    #[serde(rename = "match")]
    pub matching: Match,
    /// A regular expression with one group, whose last match in the scope is the answer; absent: the whole scope.
    pub pattern: Option<String>,
}

impl Kind for CorrectnessSpec {
    const NAME: &'static str = "correctness";
    const PAGE: &'static str = include_str!("docs/correctness.md");
    const DEFAULTS: &'static str = r#"
scope = "answer"
match = "choice"
tolerance = 0.0 # with `match = "numeric"` only
"#;

    type Table = CorrectnessTable;

    fn needed(_table: &Self::Table) -> Option<&'static str> {
        Some("answer")
    }

    fn trim_defaults(defaults: &mut toml::Table, written: &toml::Table) {
        if written.get("match").and_then(toml::Value::as_str) != Some("numeric") {
            defaults.remove("tolerance");
        }
    }

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let before = recipe.problems();
        if table.tolerance.is_some() && table.matching != MatchName::Numeric {
            let at = At::Key("tolerance");
            let message = format!("`{}` has no effect without `match = \"numeric\"`", recipe.name(at));
            recipe.problem(at, message, "no effect", "letters, texts and sets are the same or not");
        }
        if let Some(pattern) = &table.pattern {
            let at = At::Key("pattern");
            let groups = regular_expression(recipe, "pattern", pattern).map(|regex| regex.captures_len() - 1);
            if let Some(groups) = groups.filter(|groups| *groups != 1) {
                let message = format!("`{}` has {groups} groups, not one", recipe.name(at));
                let help = "put the answer's part in parentheses, and other groups in `(?:...)`";
                recipe.problem(at, message, "which one is the answer?", help);
            }
        }
        let matching = match table.matching {
            MatchName::Choice => Match::Choice,
            MatchName::Exact => Match::Exact,
            MatchName::Numeric => Match::Numeric { tolerance: table.tolerance.unwrap_or_default() },
            MatchName::Set => Match::Set,
        };
        (recipe.problems() == before).then(|| Self { matching, pattern: table.pattern.clone() })
    }
}

impl Measure for CorrectnessSpec {
    fn build(&self, _scope: &Scope, _setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        let built = Correctness::new(self.matching, self.pattern.as_deref());
        Ok(Box::new(built.map_err(|error| BuildError::Setting(error.into()))?))
    }

    fn needs(&self) -> Option<&'static str> {
        Some("answer")
    }

    fn compares_with_the_row(&self) -> bool {
        true
    }
}

/// The relative difference below which two numbers are equal, as with `1/3` and `0.333333333333`.
const SAME_NUMBER: f64 = 1e-9;

/// The marker before an item of a list.
static LIST_MARK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(?:[-*\u{2022}]|\(?(?:\d+|[a-z])[.)])\s+").expect("the pattern is a constant"));

/// The `correctness` component.
pub(super) struct Correctness {
    matching: Match,
    pattern: Option<Regex>,
}

impl Correctness {
    pub(super) fn new(matching: Match, pattern: Option<&str>) -> Result<Self, regex::Error> {
        Ok(Self { matching, pattern: pattern.map(Regex::new).transpose()? })
    }

    fn rate_one(&self, answer: Option<&str>, text: Option<&str>) -> RewardValue {
        let Some(answer) = answer.map(str::trim).filter(|answer| !answer.is_empty()) else {
            return RewardValue::Missing("the row has no answer".to_owned());
        };
        let given = text.and_then(|text| self.given(text));
        let right = |is_right: &dyn Fn(&str) -> bool| RewardValue::binary(given.is_some_and(is_right));
        match self.matching {
            Match::Choice => right(&|given| is_choice(given, answer)),
            Match::Exact => right(&|given| normalized(given) == normalized(answer)),
            Match::Numeric { tolerance } => match last_number(answer) {
                Some(wanted) => right(&|given| {
                    let slack = tolerance + SAME_NUMBER * wanted.abs();
                    last_number(given).is_some_and(|number| (number - wanted).abs() <= slack)
                }),
                None => RewardValue::Missing(format!("the row's answer is not a number: `{}`", beginning(answer))),
            },
            Match::Set => match items(answer) {
                wanted if wanted.is_empty() => {
                    RewardValue::Missing(format!("the row's answer lists nothing: `{}`", beginning(answer)))
                }
                wanted => right(&|given| items(given) == wanted),
            },
        }
    }

    /// Returns the answer in `text`; `None` if the pattern does not match.
    fn given<'t>(&self, text: &'t str) -> Option<&'t str> {
        match &self.pattern {
            Some(pattern) => pattern.captures_iter(text).last()?.get(1).map(|group| group.as_str()),
            None => Some(text),
        }
    }
}

impl Reward for Correctness {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        Ok(samples.iter().zip(texts).map(|(sample, text)| self.rate_one(sample.answer, *text)).collect())
    }

    fn vote(&self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let (answer, given) = (sample.answer?.trim(), self.given(text?)?);
        let whole = |text: String| Some(text).filter(|text| !text.is_empty());
        match (self.matching, only_letter(answer)) {
            (Match::Choice, Some(letter)) => match choice(given, letter) {
                Choice::Letter(found) => Some(found.to_lowercase().to_string()),
                Choice::Ambiguous(_) | Choice::Nothing => None,
            },
            (Match::Choice | Match::Exact, _) => whole(normalized(given)),
            (Match::Numeric { .. }, _) => last_number(given).map(|number| number.to_string()),
            (Match::Set, _) => whole(items(given).into_iter().collect::<Vec<_>>().join(", ")),
        }
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let (answer, text) = (sample.answer?.trim(), text?);
        let Some(given) = self.given(text) else { return Some("`pattern` matches nowhere".to_owned()) };
        let wanted = format!("the row's answer is {}", excerpt(answer));
        Some(match (self.matching, only_letter(answer)) {
            (Match::Choice, Some(letter)) => match choice(given, letter) {
                Choice::Letter(letter) => format!("the letter is `{letter}`, {wanted}"),
                Choice::Ambiguous(letters) => {
                    let letters: Vec<String> = letters.iter().map(|letter| format!("`{letter}`")).collect();
                    format!("it does not decide between {}, {wanted}", letters.join(" and "))
                }
                Choice::Nothing => format!("no single letter was found, {wanted}"),
            },
            (Match::Choice | Match::Exact, _) => format!("{} is compared, {wanted}", excerpt(given)),
            (Match::Numeric { .. }, _) => match last_number(given) {
                Some(number) => format!("the number is {number}, {wanted}"),
                None => format!("there is no number, {wanted}"),
            },
            (Match::Set, _) => {
                let items = items(given).into_iter().collect::<Vec<_>>().join(", ");
                format!("the items are {}, {wanted}", excerpt(&items))
            }
        })
    }
}

/// Returns the beginning of an answer, for messages.
fn beginning(answer: &str) -> String {
    answer.chars().take(40).collect()
}

/// Returns the items that `text` lists.
fn items(text: &str) -> BTreeSet<String> {
    let item = |text: &str| {
        let item = normalized(text);
        LIST_MARK.replace(&item, "").trim_end_matches('.').trim_end().to_owned()
    };
    let listed: Vec<String> = match serde_json::from_str::<Vec<serde_json::Value>>(text.trim()) {
        Ok(values) => {
            values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
        }
        Err(_) => text.split([',', ';', '\n']).map(str::to_owned).collect(),
    };
    listed.iter().map(|text| item(text)).filter(|item| !item.is_empty()).collect()
}

/// Whether `text` chooses the option with the letter `answer`. An answer of other than one letter is compared as a
/// whole.
fn is_choice(text: &str, answer: &str) -> bool {
    let is_whole = || text.trim().to_lowercase() == answer.to_lowercase();
    match only_letter(answer) {
        Some(letter) => {
            is_whole()
                || matches!(choice(text, letter), Choice::Letter(found) if found.to_lowercase().eq(letter.to_lowercase()))
        }
        None => is_whole(),
    }
}

/// Returns the letter, if `text` is a single letter.
fn only_letter(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|letter| letter.is_alphabetic() && chars.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;

    fn rate(answer: &str, text: &str) -> RewardValue {
        rate_by(Match::Choice, None, answer, text)
    }

    fn rate_by(matching: Match, pattern: Option<&str>, answer: &str, text: &str) -> RewardValue {
        let mut correctness = Correctness::new(matching, pattern).unwrap();
        rate_one(&mut correctness, Sample { answer: Some(answer), ..sample(text) }, Some(text))
    }

    fn by_choice() -> Correctness {
        Correctness::new(Match::Choice, None).unwrap()
    }

    #[test]
    fn the_letter_that_is_chosen_is_compared() {
        for right in ["B", "b", " B) heart", "Answer: B, not C", "The answer is a bone, so B", "I think it is B"] {
            assert_eq!(rate("B", right), RewardValue::Value(1.0), "{right:?}");
        }
        for wrong in ["C", "C, not B", "", "Because", "B2", "éB", "A or B"] {
            assert_eq!(rate("B", wrong), RewardValue::Value(0.0), "{wrong:?}");
        }
    }

    #[test]
    fn equal_answers_are_equal_votes() {
        let vote = |matching: Match, answer: &str, text: &str| {
            let correctness = Correctness::new(matching, None).unwrap();
            correctness.vote(&Sample { answer: Some(answer), ..sample(text) }, Some(text))
        };
        let some = |text: &str| Some(text.to_owned());
        for text in ["c", "(C) lung", "The answer is C."] {
            assert_eq!(vote(Match::Choice, "B", text), some("c"), "{text}");
        }
        assert_eq!(vote(Match::Choice, "B", "A or C"), None, "it does not decide");
        assert_eq!(vote(Match::Choice, "heart", " The  Heart"), some("the heart"));
        assert_eq!(vote(Match::Exact, "x", " "), None);
        let numeric = Match::Numeric { tolerance: 0.0 };
        assert_eq!((vote(numeric, "5", "so 5.0"), vote(numeric, "5", "it is 5")), (some("5"), some("5")));
        assert_eq!(vote(numeric, "5", "five"), None);
        assert_eq!(vote(Match::Set, "a, b", "b; A"), some("a, b"));
    }

    #[test]
    fn an_answer_that_does_not_decide_is_wrong_and_says_so() {
        let row = Sample { answer: Some("B"), ..sample("A or B") };
        let told = by_choice().explain(&row, Some("A or B"));
        assert_eq!(told.as_deref(), Some("it does not decide between `A` and `B`, the row's answer is `B`"));
    }

    #[test]
    fn an_answer_that_is_no_letter_is_compared_whole() {
        assert_eq!(rate("Left Ventricle", " left ventricle\n"), RewardValue::Value(1.0));
        assert_eq!(rate("left ventricle", "the left ventricle"), RewardValue::Value(0.0));
        assert_eq!(rate("4", "4"), RewardValue::Value(1.0));
        assert_eq!(rate("4", "40"), RewardValue::Value(0.0));
    }

    #[test]
    fn a_row_without_an_answer_is_missing_and_a_completion_without_one_is_wrong() {
        assert!(matches!(rate_one(&mut by_choice(), sample("B"), Some("B")), RewardValue::Missing(_)));
        assert!(matches!(rate(" ", "B"), RewardValue::Missing(_)));
        let row = Sample { answer: Some("B"), ..sample("") };
        assert_eq!(rate_one(&mut by_choice(), row, None), RewardValue::Value(0.0));
    }

    #[test]
    fn exact_answers_differ_in_case_and_white_space_at_most() {
        let rate = |answer, text| rate_by(Match::Exact, None, answer, text);
        assert_eq!(rate("Left  ventricle", " left\nVentricle "), RewardValue::Value(1.0));
        assert_eq!(rate("B", "B) the heart"), RewardValue::Value(0.0));
        assert_eq!(rate("left ventricle", "left ventricle."), RewardValue::Value(0.0));
    }

    #[test]
    fn numbers_are_compared_by_value_within_the_tolerance() {
        let rate = |tolerance, answer, text| rate_by(Match::Numeric { tolerance }, None, answer, text);
        assert_eq!(rate(0.0, "#### 1,200", "2 x 600 = 1200 mL"), RewardValue::Value(1.0));
        assert_eq!(rate(0.0, "1/3", "0.33333333333"), RewardValue::Value(1.0));
        assert_eq!(rate(0.0, "0.3", "30 %"), RewardValue::Value(1.0));
        assert_eq!(rate(0.0, "1200", "1201"), RewardValue::Value(0.0));
        assert_eq!(rate(1.0, "1200", "1201"), RewardValue::Value(1.0));
        assert_eq!(rate(1.0, "1200", "1198.9"), RewardValue::Value(0.0));
        assert_eq!(rate(1.0, "1200", "I do not know"), RewardValue::Value(0.0));
        let reason = "the row's answer is not a number: `many`".to_owned();
        assert_eq!(rate(1.0, "many", "1200"), RewardValue::Missing(reason));
    }

    #[test]
    fn sets_are_compared_without_order_marks_and_repeats() {
        let rate = |answer, text| rate_by(Match::Set, None, answer, text);
        for right in [
            "Aorta, vena cava",
            "vena  cava; aorta; Aorta",
            "- vena cava\n- aorta.",
            "[\"aorta\", \"Vena cava\"]",
            "1. aorta\n2. vena cava",
        ] {
            assert_eq!(rate("aorta, vena cava", right), RewardValue::Value(1.0), "{right:?}");
        }
        for wrong in ["aorta", "aorta, vena cava, atrium", "", "aorta vena cava"] {
            assert_eq!(rate("aorta, vena cava", wrong), RewardValue::Value(0.0), "{wrong:?}");
        }
        assert_eq!(rate("[1, 2]", "2, 1"), RewardValue::Value(1.0));
        assert!(matches!(rate(" ,", "aorta"), RewardValue::Missing(_)));
    }

    #[test]
    fn a_pattern_says_where_the_answer_stands_and_the_last_place_counts() {
        let rate = |text| rate_by(Match::Exact, Some(r"(?i)answer is (\w+)"), "b", text);
        assert_eq!(rate("The answer is B."), RewardValue::Value(1.0));
        assert_eq!(rate("The answer is A; no, the answer is B"), RewardValue::Value(1.0));
        assert_eq!(rate("The answer is B; no, the answer is A"), RewardValue::Value(0.0));
        assert_eq!(rate("B"), RewardValue::Value(0.0));
    }

    proptest! {
        #[test]
        fn every_way_gives_0_or_1_and_an_answer_is_right_about_itself(text in any::<String>(), answer in any::<String>()) {
            for matching in [Match::Choice, Match::Exact, Match::Numeric { tolerance: 0.5 }, Match::Set] {
                let verdict = rate_by(matching, None, &answer, &text);
                prop_assert!(matches!(verdict, RewardValue::Missing(_)) || [RewardValue::Value(0.0), RewardValue::Value(1.0)].contains(&verdict));
                let itself = rate_by(matching, None, &answer, &answer);
                prop_assert!(matches!(itself, RewardValue::Missing(_)) || itself == RewardValue::Value(1.0), "{matching:?}: {itself:?}");
            }
        }

        #[test]
        fn is_0_or_1_for_any_text(text in any::<String>(), answer in "\\PC{1,3}") {
            let verdict = rate(&answer, &text);
            let expected = [RewardValue::binary(false), RewardValue::binary(true)];
            prop_assert!(expected.contains(&verdict) || answer.trim().is_empty());
        }
    }
}
