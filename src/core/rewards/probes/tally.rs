//! The exploit rates of components by probes.

use super::Probe;
use crate::rewards::{RewardScore, RewardSpec};
use crate::stats::{mean, mean_interval, variance};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of the weighted sum among the components.
const TOTAL: &str = "total";
/// The difference, as a fraction of the larger value or of 1, below which two values are equal: the rows that share a
/// batch change the last bits of an encoder's value.
const EQUAL: f64 = 1e-6;
/// The standard deviation within groups below which a group has none.
const FLAT: f64 = 1e-8;
/// The exploit rate of a component that cannot tell the probe from the true text.
const CHANCE: f64 = 0.5;

/// By probe, the value of each true text and that of its probe.
type Pairs = BTreeMap<Probe, Vec<(f64, f64)>>;

/// The values of true texts and of their probes so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeTally {
    /// By component and probe, the value of the true text and that of its probe.
    pairs: BTreeMap<String, Pairs>,
    /// By component, the sum of the variances within groups and the number of groups.
    spreads: BTreeMap<String, (f64, u64)>,
}

/// How often a component prefers the texts of a probe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exploit {
    /// `P(c(probe) > c(true)) + P(equal) / 2` over rows.
    pub exploit: f64,
    /// The lower end of the 95% interval over rows; absent for fewer than two rows or equal ones.
    pub low: Option<f64>,
    /// The upper end of the interval.
    pub high: Option<f64>,
    /// The fraction of rows whose values are equal.
    pub equal: f64,
    /// The mean of `c(probe) - c(true)` in standard deviations within groups; absent where groups have none.
    pub gap: Option<f64>,
    /// The mean of the true texts.
    #[serde(rename = "true")]
    pub truth: f64,
    /// The mean of the probes.
    pub probe: f64,
    /// The number of rows to which the probe applies and whose scope it changes.
    pub rows: usize,
}

/// The exploit rates of a component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbedComponent {
    /// The weight in the total; absent for the total itself.
    pub weight: Option<f64>,
    /// The exploit rates, by the name of the probe.
    pub probes: BTreeMap<&'static str, Exploit>,
}

/// The exploit rates of a mix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeReport {
    /// The number of rows.
    pub rows: usize,
    /// The exploit rates of the weighted sum.
    pub total: ProbedComponent,
    /// The exploit rates of all components, by name.
    pub components: BTreeMap<String, ProbedComponent>,
    /// Warnings to consider before training.
    pub warnings: Vec<String>,
}

impl ProbeTally {
    /// Adds the values of a group, whose spread is the unit of gaps.
    pub fn add_group(&mut self, scores: &[&RewardScore]) {
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for score in scores {
            values.entry(TOTAL).or_default().extend(score.total);
            for (name, part) in &score.parts {
                values.entry(name).or_default().extend(part.value);
            }
        }
        for (name, values) in values.into_iter().filter(|(_, values)| values.len() > 1) {
            let (sum, groups) = self.spreads.entry(name.to_owned()).or_default();
            *sum += variance(&values);
            *groups += 1;
        }
    }

    /// Adds the values in `other`.
    pub fn merge(&mut self, other: Self) {
        for (name, probes) in other.pairs {
            let own = self.pairs.entry(name).or_default();
            for (probe, pairs) in probes {
                own.entry(probe).or_default().extend(pairs);
            }
        }
        for (name, (sum, groups)) in other.spreads {
            let own = self.spreads.entry(name).or_default();
            *own = (own.0 + sum, own.1 + groups);
        }
    }

    /// Adds the component's values of a true text and of its probe.
    pub(super) fn add(&mut self, component: &str, probe: Probe, truth: f64, probed: f64) {
        self.pairs.entry(component.to_owned()).or_default().entry(probe).or_default().push((truth, probed));
    }

    /// Adds the totals of a true text and of its probe.
    pub(super) fn add_total(&mut self, probe: Probe, truth: f64, probed: f64) {
        self.add(TOTAL, probe, truth, probed);
    }

    /// Returns the exploit rates by component (`total` for the weighted sum) and probe.
    pub fn exploits(&self) -> BTreeMap<&str, BTreeMap<Probe, Exploit>> {
        let of_component = |(name, probes): (&String, &Pairs)| {
            probes.iter().filter_map(|(probe, pairs)| Some((*probe, exploit(pairs, self.spread(name))?))).collect()
        };
        self.pairs.iter().map(|entry| (entry.0.as_str(), of_component(entry))).collect()
    }

    /// Returns the report on the mix `spec`.
    pub fn report(&self, rows: usize, spec: &BTreeMap<String, RewardSpec>) -> ProbeReport {
        let mut exploits = self.exploits();
        let named = |found: BTreeMap<Probe, Exploit>| found.into_iter().map(|(probe, e)| (probe.name(), e)).collect();
        let warnings = probe_warnings(spec, &exploits);
        let components = spec.iter().map(|(name, reward)| {
            let probes = named(exploits.remove(name.as_str()).unwrap_or_default());
            (name.clone(), ProbedComponent { weight: Some(reward.weight), probes })
        });
        let components = components.collect();
        let total = ProbedComponent { weight: None, probes: named(exploits.remove(TOTAL).unwrap_or_default()) };
        ProbeReport { rows, total, components, warnings }
    }

    /// The root mean variance within groups; `None` where groups have none.
    fn spread(&self, component: &str) -> Option<f64> {
        let (sum, groups) = self.spreads.get(component)?;
        Some((sum / *groups as f64).sqrt()).filter(|spread| *spread > FLAT)
    }
}

/// Returns a warning for each component that some probe exploits.
pub fn probe_warnings(
    spec: &BTreeMap<String, RewardSpec>,
    exploits: &BTreeMap<&str, BTreeMap<Probe, Exploit>>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, probes) in exploits {
        let compares = spec.get(*name).is_some_and(|reward| reward.component.measure().compares_with_the_row());
        let exploited: Vec<String> = probes
            .iter()
            .filter(|(probe, found)| found.is_exploited(**probe, compares))
            .map(|(probe, found)| format!("`{}` ({:.2})", probe.name(), found.exploit))
            .collect();
        if !exploited.is_empty() {
            warnings.push(format!(
                "`{name}` does not prefer the true text to {}; the exploit rate of a sound reward is well below 0.5",
                exploited.join(", "),
            ));
        }
    }
    warnings
}

impl Exploit {
    /// Whether the component rewards the probe. A component that compares with the row must also tell it apart.
    fn is_exploited(&self, probe: Probe, compares: bool) -> bool {
        self.exploit > CHANCE || (compares && !probe.may_equal() && self.exploit >= CHANCE)
    }
}

fn exploit(pairs: &[(f64, f64)], spread: Option<f64>) -> Option<Exploit> {
    let outcome = |&(truth, probed): &(f64, f64)| {
        if (probed - truth).abs() <= EQUAL * truth.abs().max(probed.abs()).max(1.0) {
            CHANCE
        } else {
            f64::from(u8::from(probed > truth))
        }
    };
    let outcomes: Vec<f64> = pairs.iter().map(outcome).collect();
    let (truths, probes): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (truth, probe) = (mean(&truths)?, mean(&probes)?);
    let interval = mean_interval(&outcomes, Some((0.0, 1.0)), 0, 0); // bounded, so it draws no resamples
    Some(Exploit {
        exploit: mean(&outcomes)?,
        low: interval.map(|interval| interval.low),
        high: interval.map(|interval| interval.high),
        equal: outcomes.iter().filter(|outcome| outcome.total_cmp(&CHANCE).is_eq()).count() as f64 / pairs.len() as f64,
        gap: spread.map(|spread| (probe - truth) / spread),
        truth,
        probe,
        rows: pairs.len(),
    })
}
