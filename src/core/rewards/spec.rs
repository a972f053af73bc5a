//! What every component of a reward mix has: its weight, what it looks at, what becomes of its value.

use super::component::Component;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One component of a reward mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSpec {
    /// Factor in the total.
    pub weight: f64,
    /// The part of the completion that is looked at.
    pub scope: Scope,
    /// Bounds that a value is brought into; absent: none.
    pub clip: Option<(f64, f64)>,
    /// Factor of the clipped value; what it makes is the component's value, in totals, statistics and records.
    pub scale: f64,
    /// What happens to a completion without a value.
    pub on_error: OnError,
    /// What is computed.
    pub component: Component,
}

impl RewardSpec {
    /// The component as it is: neither clipped nor scaled, and missing where it cannot be computed.
    pub fn plain(weight: f64, scope: Scope, component: Component) -> Self {
        Self { weight, scope, clip: None, scale: 1.0, on_error: OnError::Missing, component }
    }

    /// The least and the greatest value that it can have; absent where nothing limits it.
    pub fn range(&self) -> Option<(f64, f64)> {
        let (low, high) = match (self.component.measure().range(), self.clip) {
            (Some((least, most)), Some((low, high))) => (least.clamp(low, high), most.clamp(low, high)),
            (one, other) => one.or(other)?,
        };
        let ends = (self.scale * low, self.scale * high);
        Some(if self.scale < 0.0 { (ends.1, ends.0) } else { ends })
    }
}

/// The least and the greatest value of the weighted sum of `rewards`; absent where nothing limits a component that counts, or
/// none counts.
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

/// Part of a completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of it.
    Completion,
    /// The text inside `<think>`.
    Think,
    /// The text inside `<answer>`.
    Answer,
    /// The text inside `<explanation>`; without that tag, what stands outside `<think>` and `<answer>`.
    Explanation,
    /// The text inside the named tag (`tag:NAME` in a recipe).
    Tag(String),
}

impl Scope {
    /// The words a scope may be.
    pub const WORDS: &[&str] = &["completion", "think", "answer", "explanation", "tag:NAME"];

    /// Reads one of [`Scope::WORDS`].
    ///
    /// # Errors
    /// [`NoScope`].
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

/// Why a text names no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoScope<'a> {
    /// It is not one of the words.
    Word,
    /// This cannot be a tag.
    Tag(&'a str),
}

/// What a tag's name may be.
pub const TAG_RULE: &str = "write the name alone, `think` for `<think>`: a letter, then letters, digits, `_` and `-`";

/// Whether `tag` may be a tag's name.
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
        let http = HttpSpec { endpoint: "units".to_owned(), version: None, cache: true };
        let service = RewardSpec { component: Component::Http(http), ..plain };
        assert_eq!(service.range(), None);
        assert_eq!(RewardSpec { clip: Some((0.0, 5.0)), ..service }.range(), Some((0.0, 5.0)));
    }
}
