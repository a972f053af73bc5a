//! `format`: 1 when the tags are as asked for, else 0.

use super::explain::tag_fault;
use super::{Reward, RewardError, Sample, Verdict};

/// The component: each tag once, in order, closed, with nothing but white space before, between and after.
pub(super) struct Format {
    pub(super) tags: Vec<String>,
}

impl Reward for Format {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<Verdict>, RewardError> {
        let holds = |text: Option<&str>| text.is_some_and(|text| self.holds(text));
        Ok(samples.iter().zip(texts).map(|(_, text)| Verdict::binary(holds(*text))).collect())
    }

    fn explain(&mut self, _sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        Some(tag_fault(text?, &self.tags).unwrap_or_else(|| "each tag is there once, in order".to_owned()))
    }
}

impl Format {
    fn holds(&self, text: &str) -> bool {
        let mut rest = text;
        for tag in &self.tags {
            let (opening, closing) = (format!("<{tag}>"), format!("</{tag}>"));
            if text.matches(&opening).count() != 1 || text.matches(&closing).count() != 1 {
                return false;
            }
            let inside_and_after = rest.trim_start().strip_prefix(&opening);
            let Some((_, after)) = inside_and_after.and_then(|text| text.split_once(&closing)) else {
                return false;
            };
            rest = after;
        }
        rest.trim().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;

    fn rate(text: &str) -> Verdict {
        let mut format = Format { tags: vec!["think".to_owned(), "answer".to_owned()] };
        rate_one(&mut format, sample(text), Some(text))
    }

    #[test]
    fn every_tag_once_in_order_and_closed_is_right() {
        assert_eq!(rate("<think>a</think><answer>B</answer>"), Verdict::Value(1.0));
        assert_eq!(rate(" <think>a < b\n</think>\n\n<answer></answer>\n"), Verdict::Value(1.0));
    }

    #[test]
    fn anything_else_is_wrong() {
        for wrong in [
            "",
            "B",
            "<think>a</think>",
            "<answer>B</answer><think>a</think>",
            "<think>a<answer>B</answer></think>",
            "<think>a</think> so <answer>B</answer>",
            "so <think>a</think><answer>B</answer>",
            "<think>a</think><answer>B</answer> and more",
            "<think>a</think><answer>B",
            "<think>a</think><answer>B</answer><answer>C</answer>",
            "<think><think>a</think><answer>B</answer>",
            "<think>a</think></think><answer>B</answer>",
            "<Think>a</Think><answer>B</answer>",
        ] {
            assert_eq!(rate(wrong), Verdict::Value(0.0), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn is_0_or_1_for_any_text(text in "(<think>|</think>|<answer>|</answer>|\\PC| )*") {
            prop_assert!([Verdict::Value(0.0), Verdict::Value(1.0)].contains(&rate(&text)));
        }

        #[test]
        fn what_is_wrong_has_a_fault_and_nothing_else(text in "(<think>|</think>|<answer>|</answer>|x| ){0,8}") {
            let fault = tag_fault(&text, &["think".to_owned(), "answer".to_owned()]);
            prop_assert_eq!(rate(&text), Verdict::binary(fault.is_none()), "{:?}", fault);
        }
    }
}
