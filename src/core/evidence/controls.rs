//! Control arms: what moved without information, and whether other arms gained more.

use super::compare::compare;
use super::{Arm, ArmComparison, ComparisonRequest, Comparisons, Evidence, MetricComparison};
use crate::metric::Direction;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A control arm by one metric: how far it moved from the baseline, and the other arms compared with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlComparison {
    /// The name of the control arm.
    pub control: String,
    /// Its reward components without information.
    pub components: BTreeSet<String>,
    /// The name of the evaluation.
    pub evaluation: String,
    /// The name of the metric.
    pub metric: String,
    /// The direction in which the metric is better; absent when unknown.
    pub direction: Option<Direction>,
    /// The control compared with the baseline: what moved without information.
    pub moved: ArmComparison,
    /// Every arm that is neither a control nor the baseline, compared with the control.
    pub treatments: Vec<ArmComparison>,
}

/// Compares the arms of `evidence` with its control arms, by the metrics of `found`.
///
/// Treatments are compared with a control as `compare` does with a baseline: their p-values are corrected over all arms
/// that are compared with it.
pub fn controls(evidence: &Evidence, found: &Comparisons) -> Vec<ControlComparison> {
    let is_control = |arm: &&Arm| !arm.controls.is_empty() && arm.name != found.baseline;
    let treatment = |row: &&ArmComparison| {
        row.arm != found.baseline && evidence.arm(&row.arm).is_some_and(|arm| arm.controls.is_empty())
    };
    let mut metrics = Vec::new();
    for MetricComparison { metric, direction, .. } in &found.metrics {
        if !metrics.iter().any(|(known, _)| known == metric) {
            metrics.push((metric.clone(), *direction));
        }
    }
    let mut all = Vec::new();
    for control in evidence.arms.iter().filter(is_control) {
        let request = ComparisonRequest {
            baseline: control.name.clone(),
            metrics: metrics.clone(),
            primary: None,
            by: Vec::new(),
        };
        let against = compare(evidence, &request);
        for metric in &found.metrics {
            let Some(moved) = metric.arms.iter().find(|row| row.arm == control.name) else { continue };
            let is_same =
                |other: &&MetricComparison| (&other.evaluation, &other.metric) == (&metric.evaluation, &metric.metric);
            let rows = against.metrics.iter().find(is_same).map_or(&[][..], |metric| &metric.arms);
            all.push(ControlComparison {
                control: control.name.clone(),
                components: control.controls.clone(),
                evaluation: metric.evaluation.clone(),
                metric: metric.metric.clone(),
                direction: metric.direction,
                moved: moved.clone(),
                treatments: rows.iter().filter(treatment).cloned().collect(),
            });
        }
    }
    all
}
