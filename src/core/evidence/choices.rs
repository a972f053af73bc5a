//! Chosen snapshots: what an arm gained by measuring the snapshot that was best on development rows, instead of the
//! last.

use super::compare::compare;
use super::{Arm, ArmComparison, ComparisonRequest, Evidence, Trial};
use crate::metric::{CHOSEN, CHOSEN_STEP, Direction, LAST};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The choice of snapshots of an arm in an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotChoice {
    /// The name of the arm.
    pub arm: String,
    /// The stage that measures the chosen snapshot.
    pub stage: String,
    /// The metric on development rows by which snapshots were chosen.
    pub metric: String,
    /// The direction in which that metric is better.
    pub direction: Option<Direction>,
    /// The chosen snapshots, by seed.
    pub snapshots: Vec<ChosenSnapshot>,
    /// The chosen snapshots compared with the last ones on evaluation rows; absent while those are not measured.
    pub gained: Option<ArmComparison>,
}

/// The snapshot that was chosen with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenSnapshot {
    /// The seed.
    pub seed: u64,
    /// The step after which the snapshot was taken.
    pub step: u64,
    /// The value on development rows of the chosen snapshot.
    pub development: f64,
    /// The value on development rows of the last snapshot.
    pub last_development: Option<f64>,
}

/// Returns the choices of snapshots, by arm and stage.
pub fn choices(evidence: &Evidence) -> Vec<SnapshotChoice> {
    let mut found = Vec::new();
    for arm in &evidence.arms {
        let chosen: Vec<(&Trial, String, ChosenSnapshot)> = arm.trials.iter().filter_map(of_trial).collect();
        let kinds: BTreeSet<(&str, &str)> =
            chosen.iter().map(|(trial, metric, _)| (trial.stage.as_str(), metric.as_str())).collect();
        for (stage, metric) in kinds {
            let same = |trial: &Trial| trial.stage == stage;
            let of_kind = chosen.iter().filter(|(trial, by, _)| same(trial) && by == metric);
            let (trials, snapshots) = of_kind.map(|(trial, _, chosen)| ((*trial).clone(), chosen.clone())).unzip();
            let last: Vec<Trial> = arm.last.iter().filter(|trial| same(trial)).cloned().collect();
            found.push(SnapshotChoice {
                arm: arm.name.clone(),
                stage: stage.to_owned(),
                metric: metric.to_owned(),
                direction: evidence.direction_of(metric),
                snapshots,
                gained: (!last.is_empty()).then(|| gained(evidence, metric, trials, last)).flatten(),
            });
        }
    }
    found
}

/// Returns the metric by which the snapshot of `trial` was chosen, and the snapshot.
fn of_trial(trial: &Trial) -> Option<(&Trial, String, ChosenSnapshot)> {
    let of = |name: &str| trial.measurements.get(name).map(|measured| measured.value);
    let (metric, development) =
        trial.measurements.iter().find_map(|(name, found)| Some((name.strip_prefix(CHOSEN)?, found.value)))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "steps are small whole numbers")]
    let step = of(CHOSEN_STEP)? as u64;
    let last_development = of(&format!("{LAST}{metric}"));
    let chosen = ChosenSnapshot { seed: trial.seed, step, development, last_development };
    Some((trial, format!("eval/{metric}"), chosen))
}

/// Compares the chosen snapshots with the last ones on evaluation rows.
fn gained(evidence: &Evidence, metric: &str, chosen: Vec<Trial>, last: Vec<Trial>) -> Option<ArmComparison> {
    let arm = |name: &str, trials| Arm { name: name.to_owned(), trials, ..Arm::default() };
    let both = Evidence {
        arms: vec![arm("last", last), arm("chosen", chosen)],
        training: Vec::new(),
        problems: Vec::new(),
        ..evidence.clone()
    };
    let request = ComparisonRequest {
        baseline: "last".to_owned(),
        metrics: vec![(metric.to_owned(), evidence.direction_of(metric))],
        primary: None,
        by: Vec::new(),
    };
    compare(&both, &request).metrics.into_iter().next()?.arms.into_iter().find(|row| row.arm == "chosen")
}
