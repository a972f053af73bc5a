//! The settings that all components of a reward mix share: weight, scope, clipping, scale and handling of errors.

use super::component::Component;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The spec of one component of a reward mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSpec {
    /// The factor in the total, after the end of `ramp` if there is one.
    pub weight: f64,
    /// The change of the weight over the first steps; absent: the weight is constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<WeightRamp>,
    /// The first step at which the component counts; before it, the weight is 0. A ramp begins at this step.
    #[serde(default = "first_step", skip_serializing_if = "is_first_step")]
    pub start_step: u64,
    /// The part of the completion that the component reads.
    pub scope: Scope,
    /// The bounds to which values are clipped; absent: no clipping.
    pub clip: Option<(f64, f64)>,
    /// The exponent of the clipped value, whose sign is kept.
    #[serde(default = "no_exponent", skip_serializing_if = "is_no_exponent")]
    pub exponent: f64,
    /// The factor of the clipped value after the exponent. The product is the component's value in totals, statistics
    /// and records.
    pub scale: f64,
    /// The names of the components that must be positive; otherwise the value is 0.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub requires: BTreeSet<String>,
    /// Whether completions are compared with another row's reference and answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shuffle_references: bool,
    /// The handling of a completion without a value.
    pub on_error: OnError,
    /// The component with its settings.
    pub component: Component,
}

/// The change of a weight from `from` to the component's weight, in a straight line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRamp {
    /// The weight at the first step.
    pub from: f64,
    /// The number of steps after which the weight has its last value.
    pub over_steps: u64,
}

fn first_step() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first_step(step: &u64) -> bool {
    *step == first_step()
}

fn no_exponent() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_no_exponent(exponent: &f64) -> bool {
    exponent.to_bits() == no_exponent().to_bits()
}

impl RewardSpec {
    /// Creates a spec without clipping, scaling, gates and schedules, whose failures are missing values.
    pub fn plain(weight: f64, scope: Scope, component: Component) -> Self {
        Self {
            weight,
            ramp: None,
            start_step: first_step(),
            scope,
            clip: None,
            exponent: no_exponent(),
            scale: 1.0,
            requires: BTreeSet::new(),
            shuffle_references: false,
            on_error: OnError::Missing,
            component,
        }
    }

    /// Whether the values say nothing about the row, so that an arm trained on them is a control.
    pub fn is_control(&self) -> bool {
        self.shuffle_references || self.component.measure().is_control()
    }

    /// Returns the weight at `step`, which counts from 1.
    pub fn weight_at(&self, step: u64) -> f64 {
        if step < self.start_step {
            return 0.0;
        }
        match self.ramp {
            Some(WeightRamp { from, over_steps }) if step - self.start_step < over_steps => {
                from + (self.weight - from) * ((step - self.start_step) as f64 / over_steps as f64)
            }
            _ => self.weight,
        }
    }

    /// Whether the weight changes during training.
    pub fn has_schedule(&self) -> bool {
        self.ramp.is_some() || self.start_step > first_step()
    }

    /// Whether the component counts in the total at some step.
    pub fn counts(&self) -> bool {
        self.weight != 0.0 || self.ramp.is_some_and(|ramp| ramp.from != 0.0)
    }

    /// Returns the component's value from the `measured` one: clipped, raised to the exponent, scaled.
    pub fn value(&self, measured: f64) -> f64 {
        let clipped = self.clip.map_or(measured, |(low, high)| measured.clamp(low, high));
        self.scale * self.raised(clipped)
    }

    fn raised(&self, value: f64) -> f64 {
        if is_no_exponent(&self.exponent) { value } else { value.abs().powf(self.exponent).copysign(value) }
    }

    /// The least and the greatest value after clipping, exponent, scaling and gates; `None` for unbounded values.
    pub fn range(&self) -> Option<(f64, f64)> {
        let (low, high) = match (self.component.measure().range(), self.clip) {
            (Some((least, most)), Some((low, high))) => (least.clamp(low, high), most.clamp(low, high)),
            (one, other) => one.or(other)?,
        };
        let ends = (self.scale * self.raised(low), self.scale * self.raised(high));
        let (low, high) = if self.scale < 0.0 { (ends.1, ends.0) } else { ends };
        Some(if self.requires.is_empty() { (low, high) } else { (low.min(0.0), high.max(0.0)) })
    }
}

/// The rule by which the weighted values of components become one reward.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Total {
    /// Their sum.
    #[default]
    Sum,
    /// The least of them.
    Min,
    /// Their product.
    Product,
    /// The least of the mean of all and of each component of the floor (QA-LIGN, arXiv:2506.08123).
    FloorMean {
        /// The names of the components of the floor.
        floor: BTreeSet<String>,
    },
}

impl Total {
    /// Whether the rule is the sum, which is the default.
    pub fn is_sum(&self) -> bool {
        *self == Self::Sum
    }
}

/// Returns the range of the total of `rewards`; `None` if a component that counts is unbounded, or none counts.
pub fn total_range(rewards: &BTreeMap<String, RewardSpec>, total: &Total) -> Option<(f64, f64)> {
    let counting = || rewards.iter().filter(|(_, reward)| reward.weight != 0.0);
    let part = |(name, reward): (&String, &RewardSpec)| {
        let (least, most) = reward.range()?;
        let ends = (reward.weight * least, reward.weight * most);
        Some((name.clone(), (ends.0.min(ends.1), ends.0.max(ends.1))))
    };
    let parts: BTreeMap<String, (f64, f64)> = counting().map(part).collect::<Option<_>>()?;
    let count = parts.len() as f64;
    let all = || parts.values().copied();
    let sum = || all().fold((0.0, 0.0), |(low, high), (least, most)| (low + least, high + most));
    let least_of = |parts: &mut dyn Iterator<Item = (f64, f64)>| {
        parts.reduce(|(low, high), (least, most)| (low.min(least), high.min(most)))
    };
    (!parts.is_empty()).then_some(())?;
    match total {
        Total::Sum => Some(sum()),
        Total::Min => least_of(&mut all()),
        Total::Product => all().reduce(|(low, high), (least, most)| {
            let ends = [low * least, low * most, high * least, high * most];
            (ends.into_iter().fold(f64::INFINITY, f64::min), ends.into_iter().fold(f64::NEG_INFINITY, f64::max))
        }),
        Total::FloorMean { floor } => {
            let (low, high) = sum();
            let floor = parts.iter().filter(|(name, _)| floor.contains(*name)).map(|(_, range)| *range);
            least_of(&mut floor.chain([(low / count, high / count)]))
        }
    }
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
#[allow(clippy::float_cmp, reason = "these values are exact")]
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

    fn right(weight: f64) -> RewardSpec {
        let component = CorrectnessSpec { matching: Match::Choice, pattern: None }.into();
        RewardSpec::plain(weight, Scope::Answer, component)
    }

    /// The values of PGSRM's reward `max(0, cos)^a` (arXiv:2512.06920).
    #[test]
    fn an_exponent_follows_the_clip_and_keeps_the_sign() {
        let of = |exponent: f64, clip, measured: f64| RewardSpec { clip, exponent, ..right(1.0) }.value(measured);
        let clip = Some((0.0, 1.0));
        for exponent in [1.0, 2.0, 3.0] {
            assert_eq!(of(exponent, clip, -0.2), 0.0);
        }
        assert_eq!([1.0, 2.0, 3.0].map(|exponent| of(exponent, clip, 0.5)), [0.5, 0.25, 0.125]);
        for (exponent, expected) in [(1.0, 0.9), (2.0, 0.81), (3.0, 0.729)] {
            assert!((of(exponent, clip, 0.9) - expected).abs() < 1e-12);
        }
        assert_eq!(of(2.0, None, -0.5), -0.25);
        assert_eq!(RewardSpec { scale: -3.0, exponent: 2.0, ..right(1.0) }.value(0.5), -0.75);
        let third = 1.0 / 3.0;
        assert_eq!(of(1.0, None, third).to_bits(), third.to_bits(), "1 changes no bit");
    }

    #[test]
    fn a_gate_and_an_exponent_are_part_of_the_range() {
        let clip = Some((0.25, 0.5));
        let gated = RewardSpec { clip, exponent: 2.0, requires: BTreeSet::from(["format".to_owned()]), ..right(1.0) };
        assert_eq!(gated.range(), Some((0.0, 0.25)));
        assert_eq!(RewardSpec { requires: BTreeSet::new(), ..gated }.range(), Some((0.0625, 0.25)));
    }

    #[test]
    fn a_weight_changes_in_a_straight_line() {
        let weights = |reward: &RewardSpec| [1, 2, 3, 4, 5, 6, 7, 100].map(|step| reward.weight_at(step));
        assert_eq!(weights(&right(2.0)), [2.0; 8]);
        let ramp = Some(WeightRamp { from: 0.0, over_steps: 4 });
        let rising = RewardSpec { ramp, ..right(2.0) };
        assert_eq!(weights(&rising), [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]);
        let later = RewardSpec { start_step: 3, ..rising };
        assert_eq!(weights(&later), [0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0]);
        let falling = RewardSpec { ramp: Some(WeightRamp { from: 1.0, over_steps: 2 }), ..right(0.0) };
        assert_eq!(weights(&falling), [1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(falling.counts() && !right(0.0).counts());
        assert_eq!(weights(&RewardSpec { start_step: 4, ..right(1.0) })[..5], [0.0, 0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn neutral_settings_are_not_part_of_a_key() {
        let written = serde_json::to_value(right(1.0)).unwrap();
        let names: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["weight", "scope", "clip", "scale", "on_error", "component"]);
        assert_eq!(serde_json::from_value::<RewardSpec>(written).unwrap(), right(1.0));
    }

    #[test]
    fn a_total_stays_within_its_range() {
        let of = |clip, weight| RewardSpec { clip: Some(clip), ..right(weight) };
        let mix: BTreeMap<String, RewardSpec> =
            [("a", of((0.0, 1.0), 1.0)), ("b", of((0.25, 0.5), -2.0)), ("c", of((0.5, 1.0), 1.0))]
                .map(|(name, reward)| (name.to_owned(), reward))
                .into();
        let floor = Total::FloorMean { floor: BTreeSet::from(["c".to_owned()]) };
        for (total, expected) in [
            (Total::Sum, (-0.5, 1.5)),
            (Total::Min, (-1.0, -0.5)),
            (Total::Product, (-1.0, 0.0)),
            (floor, (-0.5 / 3.0, 0.5)),
        ] {
            assert_eq!(total_range(&mix, &total), Some(expected), "{total:?}");
        }
    }
}
