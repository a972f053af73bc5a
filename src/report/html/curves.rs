//! Metrics of training over steps.

use super::data::Curve;
use crate::evidence::{Curves, Evidence};
use crate::report::chart::{CurveLine, buckets};

/// Returns the maximum number of points of a line, so that a page of many arms stays small.
pub(super) fn most_buckets(arms: usize) -> u64 {
    if arms > 12 { 80 } else { 160 }
}

/// Returns every metric of every training stage, in the order of the stages. The seeds of an arm are one line.
pub fn curves(evidence: &Evidence) -> Vec<Curve> {
    let mut found: Vec<Curve> = Vec::new();
    for curves in &evidence.training {
        for metric in curves.series.keys() {
            if !found.iter().any(|curve| curve.stage == curves.stage && curve.metric == *metric) {
                found.push(Curve { stage: curves.stage.clone(), metric: metric.clone(), lines: Vec::new() });
            }
        }
    }
    // Stages are sorted in their order of training, metrics by their names.
    let kind = |stage: &str| {
        let of = evidence.training.iter().find(|curves| curves.stage == stage);
        of.map(|curves| curves.kind)
    };
    found.sort_by_key(|curve| (kind(&curve.stage), curve.stage.clone(), curve.metric.clone()));
    for curve in &mut found {
        for (arm, name) in evidence.arms.iter().map(|arm| &arm.name).enumerate() {
            let stages: Vec<&Curves> = evidence
                .training
                .iter()
                .filter(|curves| curves.stage == curve.stage && curves.arms.contains(name))
                .collect();
            let seeds: Vec<Vec<(u64, f64)>> =
                stages.iter().filter_map(|curves| curves.series.get(&curve.metric).cloned()).collect();
            let points = buckets(&seeds, most_buckets(evidence.arms.len()));
            if !points.is_empty() {
                let steps = seeds.iter().map(Vec::len).max().unwrap_or(0);
                curve.lines.push(CurveLine { arm, name: name.clone(), seeds: seeds.len(), steps, points });
            }
        }
    }
    found.retain(|curve| !curve.lines.is_empty());
    found
}
