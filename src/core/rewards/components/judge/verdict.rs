//! Interpretation of a judge's answer. An answer without a verdict is missing, never a low score.

use crate::rewards::{Aggregate, RubricScale};
use serde::{Deserialize, Serialize};

/// The number of characters of a text that messages show.
const SHOWN: usize = 160;

/// A judge's complete answer, as it is cached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JudgeReply {
    /// The text of the answer.
    pub(super) content: Option<String>,
    /// The text with which the judge declined to answer.
    pub(super) refusal: Option<String>,
    /// The reason for the end of the answer: `stop`, `length` or another value of the server.
    pub(super) finish_reason: Option<String>,
    /// The number of prompt and completion tokens, as counted by the server.
    pub(super) total_tokens: u64,
    /// The number of prompt tokens.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) prompt_tokens: u64,
    /// The number of completion tokens.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) completion_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The format of an answer to a request for a score.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scored {
    score: i64,
}

/// The text that a judge prefers, by the order in which it read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// The text that was read first.
    First,
    /// The text that was read second.
    Second,
    /// Neither text.
    Tie,
}

/// The format of an answer to a request for a preference.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Preferred {
    #[serde(default)]
    pub(super) reason: String,
    pub(super) verdict: Preference,
}

impl JudgeReply {
    /// Returns the score on its scale, from 0 to 1, or the reason why it is missing.
    pub(super) fn value(&self, scale: &RubricScale) -> Result<f64, String> {
        let content = self.whole()?;
        let Ok(Scored { score }) = serde_json::from_str(content) else {
            return Err(format!("its answer is not {{\"score\": integer}}: {}", shortened(content)));
        };
        let (min, max) = (scale.min_score, scale.max_score);
        if !(min..=max).contains(&score) {
            return Err(format!("its score {score} is not between {min} and {max}"));
        }
        Ok((score - min) as f64 / (max - min) as f64)
    }

    /// The preference, or the reason why it is missing.
    pub(super) fn preferred(&self) -> Result<Preferred, String> {
        let content = self.whole()?;
        serde_json::from_str(content).map_err(|_| {
            let form = "{\"reason\": text, \"verdict\": \"first\", \"second\" or \"tie\"}";
            format!("its answer is not {form}: {}", shortened(content))
        })
    }

    /// The text of the answer, if it is complete.
    fn whole(&self) -> Result<&str, String> {
        let content = self.content.as_deref().unwrap_or_default();
        if let Some(refusal) = &self.refusal {
            return Err(format!("it declines: {}", shortened(refusal)));
        }
        match self.finish_reason.as_deref() {
            Some("length") => Err(format!("its answer was cut at `max_tokens`: {}", shortened(content))),
            Some("content_filter") => Err("its answer was withheld by a content filter".to_owned()),
            _ => Ok(content),
        }
    }
}

/// Aggregates the judges' values, of which there is at least one.
pub(super) fn aggregated(values: &[f64], aggregate: Aggregate) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match aggregate {
        Aggregate::Mean => sorted.iter().sum::<f64>() / sorted.len() as f64,
        Aggregate::Median => f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]),
        Aggregate::Min => sorted[0],
    }
}

/// Returns the difference between the highest and the lowest value.
pub(super) fn spread(values: &[f64]) -> f64 {
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    highest - values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Returns the beginning of `text` on one line, in backticks.
pub(in crate::rewards) fn shortened(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.is_empty() {
        return "nothing".to_owned();
    }
    if let Some((end, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(end);
        line.push('…');
    }
    format!("`{line}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::components::judge::testing::scale;
    use proptest::prelude::*;

    fn answer(content: &str) -> JudgeReply {
        JudgeReply {
            content: Some(content.to_owned()),
            refusal: None,
            finish_reason: Some("stop".to_owned()),
            total_tokens: 10,
            prompt_tokens: 7,
            completion_tokens: 3,
        }
    }

    #[test]
    fn a_score_is_read_on_its_scale() {
        for (content, value) in [("{\"score\": 1}", 0.0), ("{\n \"score\": 4\n}", 0.75), ("{\"score\":5}", 1.0)] {
            assert_eq!(answer(content).value(&scale()), Ok(value), "{content}");
        }
    }

    #[test]
    fn anything_else_is_missing_with_its_text() {
        for (content, reason) in [
            ("", "its answer is not {\"score\": integer}: nothing"),
            ("4", "its answer is not {\"score\": integer}: `4`"),
            ("I would say\n 4 of 5", "its answer is not {\"score\": integer}: `I would say 4 of 5`"),
            ("{\"score\": 4.5}", "its answer is not {\"score\": integer}: `{\"score\": 4.5}`"),
            ("{\"score\": \"4\"}", "its answer is not {\"score\": integer}: `{\"score\": \"4\"}`"),
            ("{\"score\": 4, \"x\": 1}", "its answer is not {\"score\": integer}: `{\"score\": 4, \"x\": 1}`"),
            (
                "{\"score\": 4} {\"score\": 5}",
                "its answer is not {\"score\": integer}: `{\"score\": 4} {\"score\": 5}`",
            ),
            ("{\"score\": 0}", "its score 0 is not between 1 and 5"),
            ("{\"score\": 6}", "its score 6 is not between 1 and 5"),
        ] {
            assert_eq!(answer(content).value(&scale()), Err(reason.to_owned()), "{content}");
        }
    }

    #[test]
    fn an_answer_that_was_cut_is_missing_even_when_it_can_be_read() {
        let cut = JudgeReply { finish_reason: Some("length".to_owned()), ..answer("{\"score\": 4}") };
        assert_eq!(cut.value(&scale()).unwrap_err(), "its answer was cut at `max_tokens`: `{\"score\": 4}`");
        let declined = JudgeReply { content: None, refusal: Some("I can't.".to_owned()), ..answer("") };
        assert_eq!(declined.value(&scale()).unwrap_err(), "it declines: `I can't.`");
    }

    #[test]
    fn values_are_aggregated() {
        let values = [0.25, 1.0, 0.5, 0.75];
        let bits = |values: [f64; 4]| values.map(f64::to_bits);
        let all = [Aggregate::Mean, Aggregate::Median, Aggregate::Min].map(|how| aggregated(&values, how));
        assert_eq!(bits([all[0], all[1], all[2], spread(&values)]), bits([0.625, 0.625, 0.25, 0.75]));
        let odd = aggregated(&[1.0, 0.0, 0.25], Aggregate::Median);
        assert_eq!(
            bits([odd, aggregated(&[0.5], Aggregate::Median), spread(&[0.5]), 0.0]),
            bits([0.25, 0.5, 0.0, 0.0])
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_in_range_or_a_short_reason(content in any::<String>()) {
            match answer(&content).value(&scale()) {
                Ok(value) => prop_assert!((0.0..=1.0).contains(&value)),
                Err(reason) => prop_assert!(reason.chars().count() < 250),
            }
        }

        #[test]
        fn an_aggregate_does_not_depend_on_the_order(mut values in prop::collection::vec(0.0..1.0_f64, 1..6)) {
            let before = [Aggregate::Mean, Aggregate::Median, Aggregate::Min].map(|how| aggregated(&values, how).to_bits());
            values.reverse();
            let after = [Aggregate::Mean, Aggregate::Median, Aggregate::Min].map(|how| aggregated(&values, how).to_bits());
            prop_assert_eq!(before, after);
        }
    }
}
