#![doc = include_str!("docs/entropy.md")]

use crate::rewards::component::{Kind, Measure};
use crate::rewards::{
    BuildError, ComponentMetric, PolicyStats, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// 0 within a tolerance of a target entropy, and minus the distance in nats outside.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntropySpec {
    /// The wanted mean entropy of the distributions from which the completion's tokens were drawn, in nats.
    #[schemars(range(min = 0))]
    pub target: f64,
    /// Distance from the target, in nats, that costs nothing.
    #[schemars(range(min = 0))]
    pub tolerance: f64,
    /// Which distance from the target counts.
    pub side: EntropySide,
}

/// The side of the target on which an entropy is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntropySide {
    /// Entropies above and below the target are wrong.
    Both,
    /// Only entropies above the target are wrong.
    Above,
    /// Only entropies below the target are wrong.
    Below,
}

impl Kind for EntropySpec {
    const NAME: &'static str = "entropy";
    const PAGE: &'static str = include_str!("docs/entropy.md");
    const DEFAULTS: &'static str = r#"
scope = "completion" # entropies are those of tokens, whatever tags they spell
tolerance = 0.0
side = "both"
"#;

    type Table = Self;

    fn resolve(table: &Self::Table, _recipe: &mut dyn TableContext) -> Option<Self> {
        Some(*table)
    }
}

impl Measure for EntropySpec {
    fn build(&self, _scope: &Scope, _setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        Ok(Box::new(Entropy { spec: *self, mean: None }))
    }

    fn range(&self) -> Option<(f64, f64)> {
        None
    }

    fn reads_the_policy(&self) -> bool {
        true
    }
}

/// The `entropy` component.
pub(super) struct Entropy {
    spec: EntropySpec,
    /// The mean entropy of the last batch, in nats.
    mean: Option<f64>,
}

/// The reason why a text that was not sampled has no value.
const NOT_SAMPLED: &str = "the text was not sampled here: an entropy is that of the policy's own draws, which `grpo` \
                           and `eval` stages measure as they sample";

impl EntropySpec {
    /// Returns the value for a completion with this mean entropy.
    fn value(&self, entropy: f64) -> f64 {
        let above = entropy - self.target;
        let distance = match self.side {
            EntropySide::Both => above.abs(),
            EntropySide::Above => above,
            EntropySide::Below => -above,
        };
        // not minus zero
        0.0 - (distance - self.tolerance).max(0.0)
    }
}

impl Reward for Entropy {
    fn rate(&mut self, samples: &[Sample<'_>], _texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        let verdict = |sample: &Sample<'_>| match sample.policy {
            None => RewardValue::Missing(NOT_SAMPLED.to_owned()),
            Some(PolicyStats { mean_entropy, .. }) if !mean_entropy.is_finite() => {
                RewardValue::Missing("the entropy of the policy's distributions is not finite".to_owned())
            }
            Some(PolicyStats { mean_entropy, .. }) => RewardValue::Value(self.spec.value(mean_entropy)),
        };
        let verdicts = samples.iter().map(verdict).collect();
        let entropies: Vec<f64> = samples.iter().filter_map(|sample| Some(sample.policy?.mean_entropy)).collect();
        self.mean = crate::stats::mean(&entropies).filter(|mean| mean.is_finite());
        Ok(verdicts)
    }

    fn explain(&mut self, sample: &Sample<'_>, _text: Option<&str>) -> Option<String> {
        let PolicyStats { tokens, mean_entropy, .. } = sample.policy?;
        Some(format!("{mean_entropy:.4} nats over {tokens} tokens, the target is {}", self.spec.target))
    }

    fn metrics(&self) -> Vec<ComponentMetric> {
        self.mean.map(|mean| ComponentMetric::mean("nats", mean)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};

    fn entropy(target: f64, tolerance: f64, side: EntropySide) -> Entropy {
        Entropy { spec: EntropySpec { target, tolerance, side }, mean: None }
    }

    fn sampled(mean_entropy: f64) -> Sample<'static> {
        let policy = Some(PolicyStats { tokens: 4, mean_logprob: -1.0, mean_entropy });
        Sample { policy, ..sample("text") }
    }

    fn values(side: EntropySide) -> Vec<f64> {
        let mut entropy = entropy(1.0, 0.25, side);
        let value = |nats: f64| match rate_one(&mut entropy, sampled(nats), Some("text")) {
            RewardValue::Value(value) => value,
            RewardValue::Missing(reason) => panic!("{reason}"),
        };
        [0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 3.0].map(value).to_vec()
    }

    #[test]
    fn the_value_is_minus_the_distance_beyond_the_tolerance_on_the_sides_that_count() {
        assert_eq!(values(EntropySide::Both), [-0.75, -0.25, 0.0, 0.0, 0.0, -0.25, -1.75]);
        assert_eq!(values(EntropySide::Above), [0.0, 0.0, 0.0, 0.0, 0.0, -0.25, -1.75]);
        assert_eq!(values(EntropySide::Below), [-0.75, -0.25, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(values(EntropySide::Above).iter().all(|value| value.is_sign_positive() || *value < 0.0));
    }

    #[test]
    fn a_text_that_was_not_sampled_is_missing_with_the_reason() {
        let mut entropy = entropy(1.0, 0.0, EntropySide::Both);
        let RewardValue::Missing(reason) = rate_one(&mut entropy, sample("text"), Some("text")) else { panic!() };
        assert!(reason.starts_with("the text was not sampled here"), "{reason}");
        assert!(entropy.metrics().is_empty());
        assert!(matches!(rate_one(&mut entropy, sampled(f64::NAN), None), RewardValue::Missing(_)));
    }

    #[test]
    fn the_mean_of_a_batch_is_a_metric_and_explanations_name_the_entropy() {
        let mut entropy = entropy(1.0, 0.0, EntropySide::Both);
        entropy.rate(&[sampled(1.0), sampled(2.0), sample("")], &[None; 3]).unwrap();
        assert_eq!(entropy.metrics(), [ComponentMetric::mean("nats", 1.5)]);
        let told = "2.0000 nats over 4 tokens, the target is 1";
        assert_eq!(entropy.explain(&sampled(2.0), None).as_deref(), Some(told));
        assert_eq!(entropy.explain(&sample(""), None), None);
    }
}
