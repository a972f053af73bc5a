//! The settings that all components of a reward mix share: weight, scope, clipping, scale and handling of errors.

use super::component::Component;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The spec of one component of a reward mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSpec {
    /// The factor in the total.
    pub weight: f64,
    /// The part of the completion that the component reads.
    pub scope: Scope,
    /// The bounds to which values are clipped; absent: no clipping.
    pub clip: Option<(f64, f64)>,
    /// The factor of the clipped value. The product is the component's value in totals, statistics and records.
    pub scale: f64,
    /// Whether completions are compared with another row's reference and answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shuffle_references: bool,
    /// The handling of a completion without a value.
    pub on_error: OnError,
    /// The component with its settings.
    pub component: Component,
}

impl RewardSpec {
    /// Creates a spec without clipping and scaling, whose failures are missing values.
    pub fn plain(weight: f64, scope: Scope, component: Component) -> Self {
        Self { weight, scope, clip: None, scale: 1.0, shuffle_references: false, on_error: OnError::Missing, component }
    }

    /// Whether the values say nothing about the row, so that an arm trained on them is a control.
    pub fn is_control(&self) -> bool {
        self.shuffle_references || self.component.measure().is_control()
    }

    /// The least and the greatest value after clipping and scaling; `None` for unbounded values.
    pub fn range(&self) -> Option<(f64, f64)> {
        let (low, high) = match (self.component.measure().range(), self.clip) {
            (Some((least, most)), Some((low, high))) => (least.clamp(low, high), most.clamp(low, high)),
            (one, other) => one.or(other)?,
        };
        let ends = (self.scale * low, self.scale * high);
        Some(if self.scale < 0.0 { (ends.1, ends.0) } else { ends })
    }
}

/// Returns the range of the weighted sum of `rewards`; `None` if a component that counts is unbounded, or none counts.
pub fn total_range(rewards: &BTreeMap<String, RewardSpec>) -> Option<(f64, f64)> {
    let mut total = None;
    for reward in rewards.values().filter(|reward| reward.weight != 0.0) {
        let (least, most) = reward.range()?;
        let (low, high) = total.unwrap_or((0.0, 0.0));
        let ends = (reward.weight * least, reward.weight * most);
        total = Some((low + ends.0.min(ends.1), high + ends.0.max(ends.1)));
    }
    total
}

/// The part of a completion that a component reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The whole completion.
    Completion,
    /// The text inside `<think>`.
    Think,
    /// The text inside `<answer>`.
    Answer,
    /// The text inside `<explanation>`; without that tag, the text outside `<think>` and `<answer>`.
    Explanation,
    /// The text inside the named tag (`tag:NAME` in a recipe).
    Tag(String),
}

impl Scope {
    /// The names of scopes in a recipe.
    pub const WORDS: &[&str] = &["completion", "think", "answer", "explanation", "tag:NAME"];

    /// Parses one of [`Scope::WORDS`].
    ///
    /// # Errors
    /// Fails with [`NoScope`] if the text is not one of them.
    pub fn read(written: &str) -> Result<Self, NoScope<'_>> {
        match written {
            "completion" => Ok(Self::Completion),
            "think" => Ok(Self::Think),
            "answer" => Ok(Self::Answer),
            "explanation" => Ok(Self::Explanation),
            _ => match written.strip_prefix("tag:") {
                Some(tag) if is_tag(tag) => Ok(Self::Tag(tag.to_owned())),
                Some(tag) => Err(NoScope::Tag(tag)),
                None => Err(NoScope::Word),
            },
        }
    }
}

/// The reason why a text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoScope<'a> {
    /// The text is not one of the names.
    Word,
    /// The tag's name is not valid.
    Tag(&'a str),
}

/// The rule for the names of tags, as advice in messages.
pub const TAG_RULE: &str = "write the name alone, `think` for `<think>`: a letter, then letters, digits, `_` and `-`";

/// Whether `tag` is a valid name of a tag.
pub fn is_tag(tag: &str) -> bool {
    let starts_well = tag.starts_with(|first: char| first.is_ascii_alphabetic());
    starts_well && tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// What happens to a completion for which a component has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It has no reward and takes no part in its group.
    Missing,
    /// The stage fails.
    Fail,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::{CorrectnessSpec, HttpSpec, Match};

    #[test]
    fn a_range_is_that_of_what_is_measured_clipped_and_scaled() {
        let right = CorrectnessSpec { matching: Match::Choice, pattern: None }.into();
        let plain = RewardSpec::plain(1.0, Scope::Answer, right);
        assert_eq!(plain.range(), Some((0.0, 1.0)));
        assert_eq!(RewardSpec { clip: Some((-1.0, 0.5)), scale: -2.0, ..plain.clone() }.range(), Some((-1.0, 0.0)));
        let http = HttpSpec { endpoint: "units".to_owned(), version: None, cache: true, send: Vec::new() };
        let service = RewardSpec { component: Component::Http(http), ..plain };
        assert_eq!(service.range(), None);
        assert_eq!(RewardSpec { clip: Some((0.0, 5.0)), ..service }.range(), Some((0.0, 5.0)));
    }
}
