#![doc = include_str!("docs/random.md")]

use crate::rewards::component::{Kind, Measure};
use crate::rewards::draw::unit;
use crate::rewards::table::At;
use crate::rewards::{BuildError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A random number that depends on nothing that a completion says: the reward of a control arm.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomTable {
    /// The distribution of the values.
    pub distribution: DistributionName,
    /// Probability of the value 1, with `distribution = "bernoulli"`.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub probability: Option<f64>,
    /// Number of the series of draws: components with different numbers draw independently.
    pub series: u64,
}

/// A distribution in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DistributionName {
    /// Uniform from 0 to 1.
    Uniform,
    /// 1 with `probability`, else 0.
    Bernoulli,
}

/// The `random` component with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSpec {
    /// The distribution of the values.
    pub distribution: Distribution,
    /// The number of the series of draws.
    pub series: u64,
}

/// The distribution of random rewards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// Uniform from 0, included, to 1, excluded.
    Uniform,
    /// 1 with a fixed probability, else 0.
    Bernoulli {
        /// The probability of 1.
        probability: f64,
    },
}

impl Kind for RandomSpec {
    const NAME: &'static str = "random";
    const PAGE: &'static str = include_str!("docs/random.md");
    const DEFAULTS: &'static str = r#"
scope = "completion" # has no effect: no text is read
distribution = "uniform"
series = 0
"#;

    type Table = RandomTable;

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let RandomTable { distribution, probability, series } = *table;
        let distribution = match (distribution, probability) {
            (DistributionName::Uniform, None) => Distribution::Uniform,
            (DistributionName::Bernoulli, Some(probability)) => Distribution::Bernoulli { probability },
            (DistributionName::Uniform, Some(_)) => {
                let message = format!("`{}` has no effect", recipe.name(At::Key("probability")));
                let help = "it belongs to `distribution = \"bernoulli\"`";
                recipe.problem(At::Key("probability"), message, "no effect", help);
                return None;
            }
            (DistributionName::Bernoulli, None) => {
                let message = format!("`{}` has no `probability`", recipe.name(At::Table));
                let help = "the control of a 0/1 reward has that reward's mean, for example `probability = 0.25`";
                recipe.problem(At::Key("distribution"), message, "how often 1?", help);
                return None;
            }
        };
        Some(Self { distribution, series })
    }
}

impl Measure for RandomSpec {
    fn build(&self, _scope: &Scope, setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        Ok(Box::new(Random { spec: *self, seed: setup.seed }))
    }

    fn is_control(&self) -> bool {
        true
    }
}

/// The `random` component. The value depends on the stage's seed, the prompt and the completion's index in its group.
struct Random {
    spec: RandomSpec,
    /// The stage's seed.
    seed: u64,
}

impl Reward for Random {
    fn rate(&mut self, samples: &[Sample<'_>], _: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        Ok(samples.iter().map(|sample| RewardValue::Value(self.value(sample))).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, _: Option<&str>) -> Option<String> {
        Some(format!("drawn for the prompt and the index {}, whatever the text", sample.index))
    }
}

impl Random {
    fn value(&self, sample: &Sample<'_>) -> f64 {
        let labels = ["random", &self.spec.series.to_string(), sample.prompt, &sample.index.to_string()];
        let drawn = unit(self.seed, &labels);
        match self.spec.distribution {
            Distribution::Uniform => drawn,
            Distribution::Bernoulli { probability } => f64::from(u8::from(drawn < probability)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::sample;

    fn values(distribution: Distribution, seed: u64, series: u64, prompts: usize) -> Vec<f64> {
        let mut random = Random { spec: RandomSpec { distribution, series }, seed };
        let prompts: Vec<String> = (0..prompts).map(|prompt| format!("prompt {prompt}")).collect();
        let of_prompt = |prompt: &String| -> Vec<f64> {
            let samples: Vec<Sample<'_>> =
                (0..8).map(|index| Sample { prompt, index, ..sample("always the same") }).collect();
            let found = random.rate(&samples, &[Some("always the same"); 8]).expect("it rates");
            let value = |value| match value {
                RewardValue::Value(value) => value,
                RewardValue::Missing(reason) => panic!("{reason}"),
            };
            found.into_iter().map(value).collect()
        };
        prompts.iter().flat_map(of_prompt).collect()
    }

    fn correlation(one: &[f64], other: &[f64]) -> f64 {
        crate::stats::correlation(one, other).expect("both vary")
    }

    #[test]
    fn a_value_depends_on_seed_series_prompt_and_index_alone() {
        let uniform = |seed, series| values(Distribution::Uniform, seed, series, 250);
        let first = uniform(7, 0);
        assert_eq!(first, uniform(7, 0), "a resumed stage draws the same");
        let distinct: std::collections::BTreeSet<u64> = first.iter().map(|value| value.to_bits()).collect();
        assert_eq!(distinct.len(), first.len());
        for other in [uniform(8, 0), uniform(7, 1)] {
            // 4 standard errors of a correlation of 2,000 independent pairs
            assert!(correlation(&first, &other).abs() < 4.0 / 2000_f64.sqrt());
        }
    }

    #[test]
    fn the_distributions_have_their_moments() {
        let uniform = values(Distribution::Uniform, 3, 0, 500);
        assert!(uniform.iter().all(|value| (0.0..1.0).contains(value)));
        // 4 standard errors of 4,000 draws: 0.2887 and 0.4330 over sqrt(4000)
        assert!((crate::stats::mean(&uniform).unwrap() - 0.5).abs() < 4.0 * 0.2887 / 4000_f64.sqrt());
        assert!((crate::stats::standard_deviation(&uniform) - 12_f64.sqrt().recip()).abs() < 0.01);
        let coin = values(Distribution::Bernoulli { probability: 0.25 }, 3, 0, 500);
        assert!(coin.iter().all(|value| [0.0, 1.0].contains(value)));
        assert!((crate::stats::mean(&coin).unwrap() - 0.25).abs() < 4.0 * 0.4330 / 4000_f64.sqrt());
    }
}
