//! Arms that are trained with one encoder and measured by several: what an encoder swap shows.

use super::Evidence;
use crate::stats::{kendall_tau, mean};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A component that an evaluation measures with several encoders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderSwap {
    /// The evaluation.
    pub evaluation: String,
    /// The component, without the encoder's name.
    pub component: String,
    /// The names of the encoders.
    pub encoders: Vec<String>,
    /// The arms, in their order.
    pub arms: Vec<SwapArm>,
    /// The agreement of each pair of encoders about the order of the arms.
    pub agreement: Vec<SwapAgreement>,
}

/// The values of one arm by each encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwapArm {
    /// The name of the arm.
    pub arm: String,
    /// For each encoder, the mean over seeds; absent where it was not measured.
    pub values: Vec<Option<f64>>,
    /// For each encoder, whether the arm was trained with it.
    pub trained: Vec<bool>,
}

/// Whether two encoders put the arms in the same order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwapAgreement {
    /// The first encoder.
    pub one: String,
    /// The second encoder.
    pub other: String,
    /// Kendall's tau-b of the arms' means; absent with fewer than two arms, or without an order.
    pub tau: Option<f64>,
    /// The number of arms that both measured.
    pub arms: usize,
}

impl Evidence {
    /// Returns the components that are measured with several encoders, by evaluation.
    pub fn encoder_swaps(&self) -> Vec<EncoderSwap> {
        let mut found = Vec::new();
        for evaluation in self.evaluations() {
            let trials = || self.arms.iter().flat_map(|arm| &arm.trials).filter(|trial| trial.evaluation == evaluation);
            let mut encoders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for metric in trials().flat_map(|trial| trial.measurements.keys()) {
                let name = metric.strip_prefix("eval/reward/").and_then(|name| name.split_once('@'));
                let Some((component, encoder)) = name else { continue };
                let known = encoders.entry(component).or_default();
                if !known.contains(&encoder) {
                    known.push(encoder);
                }
            }
            for (component, mut encoders) in encoders.into_iter().filter(|(_, encoders)| encoders.len() > 1) {
                encoders.sort_unstable();
                found.push(self.encoder_swap(evaluation, component, &encoders));
            }
        }
        found
    }

    fn encoder_swap(&self, evaluation: &str, component: &str, encoders: &[&str]) -> EncoderSwap {
        let mut arms = Vec::new();
        for arm in &self.arms {
            let trials = || arm.trials.iter().filter(|trial| trial.evaluation == evaluation);
            if trials().next().is_none() {
                continue;
            }
            let value = |encoder: &&str| {
                let metric = format!("eval/reward/{component}@{encoder}");
                let values = trials().filter_map(|trial| trial.measurements.get(&metric));
                mean(&values.map(|measured| measured.value).collect::<Vec<_>>())
            };
            let is_trained = |encoder: &&str| {
                arm.trained_on.get(&format!("{component}@{encoder}")).is_some_and(|weight| *weight != 0.0)
            };
            arms.push(SwapArm {
                arm: arm.name.clone(),
                values: encoders.iter().map(value).collect(),
                trained: encoders.iter().map(is_trained).collect(),
            });
        }
        let mut agreement = Vec::new();
        for (one, name) in encoders.iter().enumerate() {
            for (other, other_name) in encoders.iter().enumerate().skip(one + 1) {
                let pairs = arms.iter().filter_map(|arm| arm.values[one].zip(arm.values[other]));
                let (x, y): (Vec<f64>, Vec<f64>) = pairs.unzip();
                let (one, other) = ((*name).to_owned(), (*other_name).to_owned());
                agreement.push(SwapAgreement { one, other, tau: kendall_tau(&x, &y), arms: x.len() });
            }
        }
        EncoderSwap {
            evaluation: evaluation.to_owned(),
            component: component.to_owned(),
            encoders: encoders.iter().map(|encoder| (*encoder).to_owned()).collect(),
            arms,
            agreement,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arm, Trial};
    use super::*;
    use crate::digest::Digest;
    use crate::event::Measurement;
    use crate::stage::StageKind;

    fn arm(name: &str, trained: &str, values: &[(&str, [f64; 2])]) -> Arm {
        let trial = |seed: usize| Trial {
            seed: seed as u64,
            run: "run".to_owned(),
            variant: name.to_owned(),
            stage: "eval".to_owned(),
            kind: StageKind::Eval,
            evaluation: "eval".to_owned(),
            key: Digest::of(b"key"),
            answers: Vec::new(),
            scores: BTreeMap::new(),
            mix: BTreeMap::new(),
            measurements: values
                .iter()
                .map(|(encoder, values)| {
                    let measured = Measurement { value: values[seed], interval: None, count: None };
                    (format!("eval/reward/semantic@{encoder}"), measured)
                })
                .collect(),
        };
        let trained_on = [("semantic".to_owned(), 1.0), (format!("semantic@{trained}"), 1.0)].into();
        Arm { name: name.to_owned(), trained_on, trials: vec![trial(0), trial(1)], ..Arm::default() }
    }

    #[test]
    fn a_swap_shows_the_means_by_encoder_and_whether_they_agree_about_the_order() {
        let arms = vec![
            arm("a", "small", &[("large", [0.1, 0.3]), ("small", [0.8, 1.0])]),
            arm("b", "large", &[("large", [0.5, 0.7]), ("small", [0.3, 0.5])]),
            arm("c", "none", &[("large", [0.1, 0.1]), ("small", [0.1, 0.1])]),
        ];
        let swaps = Evidence { arms, ..Evidence::default() }.encoder_swaps();
        let [swap] = swaps.as_slice() else { panic!("{swaps:?}") };
        assert_eq!((swap.component.as_str(), swap.encoders.join(" ")), ("semantic", "large small".to_owned()));
        let trained: Vec<(&str, Vec<bool>)> = swap.arms.iter().map(|arm| (&*arm.arm, arm.trained.clone())).collect();
        assert_eq!(trained, [("a", vec![false, true]), ("b", vec![true, false]), ("c", vec![false, false])]);
        let value = |arm: usize, encoder: usize| swap.arms[arm].values[encoder].unwrap();
        assert!((value(0, 0) - 0.2).abs() < 1e-12 && (value(0, 1) - 0.9).abs() < 1e-12);
        // b > a > c by `large`, a > b > c by `small`: two of three pairs agree
        let [agreement] = swap.agreement.as_slice() else { panic!("one pair") };
        assert!((agreement.tau.unwrap() - 1.0 / 3.0).abs() < 1e-12 && agreement.arms == 3);
        assert!(Evidence::default().encoder_swaps().is_empty());
    }
}
