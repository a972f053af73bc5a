//! Probes for reward hacking in evaluations: exploit rates and boilerplate indices of arms, as means over seeds.

use super::metric::{component_of, within};
use super::{Evidence, Trial};
use crate::event::Measurement;
use crate::metric::TOTAL;
use crate::rewards::Probe;
use crate::slice::Slice;
use crate::stats::{mean, paired_seeds};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const RATE: &str = "eval/probe/";
const GAP: &str = "eval/probe_gap/";
const BOILERPLATE: &str = "eval/boilerplate/";
/// The name of the weighted sum among the components.
const SUM: &str = "total";

/// The width of an interval that rounding alone may give to equal values.
const ROUNDING: f64 = 1e-12;

/// A component of an evaluation that probes changed the answers for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbedReward {
    /// The evaluation.
    pub evaluation: String,
    /// The component; `total` is the weighted sum.
    pub component: String,
    /// The arms with a probe or a boilerplate index, in their order.
    pub arms: Vec<ProbedArm>,
}

/// What the probes of a component found in an arm's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbedArm {
    /// The name of the arm.
    pub arm: String,
    /// The exploit rates, by probe.
    pub probes: BTreeMap<Probe, ProbeRate>,
    /// The boilerplate index; absent for a component without an encoder.
    pub boilerplate: Option<Measurement>,
}

/// How often a component prefers the texts of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRate {
    /// The exploit rate. Its count is that of the answers of all seeds to which the probe applies.
    pub exploit: Measurement,
    /// The gain, in standard deviations within a question's answers; absent with one answer a question.
    pub gap: Option<Measurement>,
}

impl ProbeRate {
    /// The exploit rate of a component that cannot tell the probe from the true text.
    pub const CHANCE: f64 = 0.5;

    /// Whether the component prefers the probe to the true text more often than not.
    pub fn is_exploited(&self) -> bool {
        self.exploit.value > Self::CHANCE
    }
}

impl ProbedReward {
    /// Whether `metric` is the mean of the component over answers.
    pub fn is_of(&self, metric: &str) -> bool {
        if metric == TOTAL { self.component == SUM } else { component_of(metric) == Some(&self.component) }
    }
}

impl Evidence {
    /// Returns the components that probes changed the answers for, by evaluation, the weighted sum first.
    ///
    /// Values are means over seeds. The interval of one seed is its own, over answers; that of several is Student's t
    /// over seeds, within the metric's range. Seeds with equal values have no interval.
    pub fn probed_rewards(&self) -> Vec<ProbedReward> {
        let mut found = Vec::new();
        for evaluation in self.evaluations() {
            let trials = self.arms.iter().flat_map(|arm| &arm.trials).filter(|trial| trial.evaluation == evaluation);
            let names = trials.flat_map(|trial| trial.measurements.keys()).filter_map(|name| component(name));
            let mut components: Vec<&str> = names.collect::<BTreeSet<_>>().into_iter().collect();
            components.sort_by_key(|component| *component != SUM);
            let reward = |component: &&str| ProbedReward {
                evaluation: evaluation.to_owned(),
                component: (*component).to_owned(),
                arms: self.probed_arms(evaluation, component),
            };
            found.extend(components.iter().map(reward));
        }
        found
    }

    fn probed_arms(&self, evaluation: &str, component: &str) -> Vec<ProbedArm> {
        let mut arms = Vec::new();
        for arm in &self.arms {
            let trials: Vec<&Trial> = arm.trials.iter().filter(|trial| trial.evaluation == evaluation).collect();
            let rate = |probe: Probe| {
                let exploit = self.over_seeds(&trials, &format!("{RATE}{component}/{}", probe.name()))?;
                let gap = self.over_seeds(&trials, &format!("{GAP}{component}/{}", probe.name()));
                Some((probe, ProbeRate { exploit, gap }))
            };
            let probes: BTreeMap<Probe, ProbeRate> = Probe::ALL.into_iter().filter_map(rate).collect();
            let boilerplate = self.over_seeds(&trials, &format!("{BOILERPLATE}{component}"));
            if !probes.is_empty() || boilerplate.is_some() {
                arms.push(ProbedArm { arm: arm.name.clone(), probes, boilerplate });
            }
        }
        arms
    }

    /// Returns the mean of the stages' own values of `metric`; `None` where no stage has one.
    fn over_seeds(&self, trials: &[&Trial], metric: &str) -> Option<Measurement> {
        let found: Vec<Measurement> =
            trials.iter().filter_map(|trial| trial.measurements.get(metric).copied()).collect();
        if let [only] = found.as_slice() {
            return Some(*only);
        }
        let values: Vec<f64> = found.iter().map(|measured| measured.value).collect();
        let value = mean(&values)?;
        let interval = paired_seeds(&values, &vec![0.0; values.len()])?.interval;
        // equal seeds do not show their spread
        let interval = interval.filter(|interval| interval.high - interval.low > ROUNDING);
        Some(Measurement {
            value,
            interval: interval.map(|interval| within(self.range_of(metric), (interval.low, interval.high))),
            count: found.iter().map(|measured| measured.count).sum(),
        })
    }
}

/// Returns the component of a metric of probes over all questions.
fn component(metric: &str) -> Option<&str> {
    if Slice::of_metric(metric).is_some() {
        return None;
    }
    let is_probe = |(_, probe): &(&str, &str)| Probe::ALL.iter().any(|known| known.name() == *probe);
    let probed = metric.strip_prefix(RATE).and_then(|name| name.rsplit_once('/')).filter(is_probe);
    probed.map(|(component, _)| component).or_else(|| metric.strip_prefix(BOILERPLATE))
}

#[cfg(test)]
mod tests {
    use super::super::Arm;
    use super::*;
    use crate::digest::Digest;
    use crate::stage::StageKind;

    /// The name, value and interval of a metric.
    type Measured<'a> = (&'a str, f64, Option<(f64, f64)>);

    fn trial(seed: u64, measured: &[Measured<'_>]) -> Trial {
        let measured = measured.iter().map(|(name, value, interval)| {
            ((*name).to_owned(), Measurement { value: *value, interval: *interval, count: Some(10) })
        });
        Trial {
            seed,
            run: "run".to_owned(),
            variant: format!("seed {seed}"),
            stage: "eval".to_owned(),
            kind: StageKind::Eval,
            evaluation: "eval".to_owned(),
            key: Digest::of(&seed.to_le_bytes()),
            answers: Vec::new(),
            scores: BTreeMap::new(),
            mix: BTreeMap::new(),
            measurements: measured.collect(),
        }
    }

    fn arm(name: &str, trials: Vec<Trial>) -> Arm {
        Arm { name: name.to_owned(), trials, ..Arm::default() }
    }

    #[test]
    fn rates_are_means_over_seeds_within_0_and_1_and_one_seed_keeps_its_interval() {
        let [echo, padded] = ["eval/probe/semantic@small/echo", "eval/probe/semantic@small/padded"];
        let seeds = vec![
            trial(
                1,
                &[
                    (echo, 0.9, Some((0.8, 0.95))),
                    ("eval/probe_gap/semantic@small/echo", 0.5, None),
                    (padded, 0.25, None),
                ],
            ),
            trial(
                2,
                &[
                    (echo, 0.7, Some((0.5, 0.8))),
                    ("eval/boilerplate/semantic@small", 0.125, None),
                    (padded, 0.25, None),
                ],
            ),
        ];
        let one = vec![trial(
            1,
            &[(echo, 0.5, Some((0.25, 0.75))), ("eval/probe/total/padded", 0.75, None), ("eval/accuracy", 0.5, None)],
        )];
        let none = vec![trial(1, &[("eval/accuracy", 0.5, None), ("eval/probe/rouge/echo{subject=a}", 0.5, None)])];
        let arms = vec![arm("grpo", seeds), arm("sft", one), arm("base", none)];
        let found = Evidence { arms, ..Evidence::default() }.probed_rewards();
        let names: Vec<&str> = found.iter().map(|reward| reward.component.as_str()).collect();
        assert_eq!(names, ["total", "semantic@small"], "the sum is first, and no slice is a component");
        assert_eq!(found[0].arms.len(), 1);
        let [grpo, sft] = found[1].arms.as_slice() else { panic!("two arms were probed: {found:?}") };
        let rate = &grpo.probes[&Probe::Echo];
        assert!((rate.exploit.value - 0.8).abs() < 1e-12 && rate.is_exploited());
        let (low, high) = rate.exploit.interval.unwrap();
        assert!(
            low.abs() < 1e-12 && (high - 1.0).abs() < 1e-12,
            "t with one degree of freedom is wider than the range"
        );
        assert_eq!(rate.exploit.count, Some(20));
        assert_eq!(rate.gap.map(|gap| gap.value), Some(0.5));
        assert_eq!(grpo.boilerplate.map(|index| index.value), Some(0.125));
        let padded = &grpo.probes[&Probe::Padded].exploit;
        assert_eq!((padded.value, padded.interval), (0.25, None), "equal seeds do not show their spread");
        let rate = &sft.probes[&Probe::Echo];
        assert_eq!((rate.exploit.interval, rate.is_exploited()), (Some((0.25, 0.75)), false));
        assert!(Evidence::default().probed_rewards().is_empty());
    }

    #[test]
    fn a_component_is_found_by_its_metric() {
        let of = |component: &str| ProbedReward {
            evaluation: "eval".to_owned(),
            component: component.to_owned(),
            arms: Vec::new(),
        };
        for (component, metric) in [
            ("total", TOTAL),
            ("rouge", "eval/reward/rouge"),
            ("correctness", "eval/accuracy"),
            ("x@y", "eval/reward/x@y"),
        ] {
            assert!(of(component).is_of(metric) && !of("other").is_of(metric), "{metric}");
        }
    }
}
