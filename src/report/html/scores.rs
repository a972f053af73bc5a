//! The matrix of components and arms.

use super::data::{Component, ScoreCell, Scores};
use super::estimates::Estimates;
use crate::evidence::{Arm, Comparisons, Evidence, Verdict, Way, metric_names};
use crate::metric::{TOTAL, short_name};

/// Returns the matrix over seeds and questions, with a column for each metric of each evaluation. `found` compares the
/// arms with the baseline.
pub fn scores(evidence: &Evidence, estimates: &Estimates, found: Option<&Comparisons>) -> Scores {
    let evaluations = evidence.evaluations();
    let has = |evaluation: &str, metric: &str| estimates.keys().any(|(_, of, name)| of == evaluation && name == metric);
    let mut columns: Vec<(String, String)> = Vec::new();
    for evaluation in &evaluations {
        let mut names: Vec<String> =
            metric_names(evidence).into_iter().filter(|metric| has(evaluation, metric)).collect();
        // Accuracy is the mean of correctness.
        let has_accuracy = names.iter().any(|name| name == "eval/accuracy");
        names.retain(|name| !has_accuracy || name != "eval/reward/correctness");
        // Sums of different components must not share a column.
        names.retain(|name| name != TOTAL || evidence.has_one_mix(evaluation));
        columns.extend(names.into_iter().map(|metric| ((*evaluation).to_owned(), metric)));
    }
    let component = |(evaluation, metric): &(String, String)| Component {
        metric: metric.clone(),
        name: if evaluations.len() > 1 {
            format!("{evaluation}: {}", short_name(metric))
        } else {
            short_name(metric).to_owned()
        },
        held_out: component_of(metric).is_some_and(|name| {
            evidence.arms.iter().all(|arm| !is_trained(arm, name))
                && evidence.arms.iter().any(|arm| !arm.trained_on.is_empty())
        }),
    };
    let cell = |place: usize, (evaluation, metric): &(String, String)| {
        let arm = &evidence.arms[place];
        let measured = *estimates.get(&(place, evaluation.clone(), metric.clone()))?;
        let trained = component_of(metric).is_some_and(|name| is_trained(arm, name));
        Some(ScoreCell { measured, verdict: word(found, evaluation, metric, &arm.name).to_owned(), trained })
    };
    Scores {
        components: columns.iter().map(component).collect(),
        rows: (0..evidence.arms.len()).map(|arm| columns.iter().map(|column| cell(arm, column)).collect()).collect(),
    }
}

/// Returns the reward component that a metric is the mean of.
fn component_of(metric: &str) -> Option<&str> {
    match metric {
        "eval/accuracy" => Some("correctness"),
        "eval/reward/total" => None,
        _ => metric.strip_prefix("eval/reward/"),
    }
}

fn is_trained(arm: &Arm, component: &str) -> bool {
    arm.trained_on.get(component).is_some_and(|weight| *weight != 0.0)
}

/// Returns `better` or `worse` if that is the arm's verdict; otherwise empty.
pub(super) fn word(found: Option<&Comparisons>, evaluation: &str, metric: &str, arm: &str) -> &'static str {
    let compared = found.and_then(|found| {
        let of = found.metrics.iter().find(|of| of.evaluation == evaluation && of.metric == metric)?;
        of.arms.iter().find(|row| row.arm == arm)
    });
    match compared.map(|row| row.verdict) {
        Some(Verdict::Separable(Way::Better, _)) => "better",
        Some(Verdict::Separable(Way::Worse, _)) => "worse",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimates;
    use super::*;
    use crate::event::Measurement;
    use crate::evidence::Trial;
    use crate::stage::StageKind;
    use std::collections::BTreeMap;

    fn arm(name: &str, trained_on: &[&str], metrics: &[(&str, f64)]) -> Arm {
        let measured = |value| Measurement { value, interval: None, count: Some(10) };
        Arm {
            name: name.into(),
            trained_on: trained_on.iter().map(|name| ((*name).to_owned(), 1.0)).collect(),
            trials: vec![Trial {
                seed: 1,
                run: "R".into(),
                variant: name.into(),
                stage: "eval".into(),
                kind: StageKind::Eval,
                evaluation: "eval".into(),
                key: crate::digest::Digest::of(name.as_bytes()),
                answers: Vec::new(),
                scores: BTreeMap::new(),
                mix: BTreeMap::new(),
                measurements: metrics.iter().map(|(name, value)| ((*name).to_owned(), measured(*value))).collect(),
            }],
            ..Arm::default()
        }
    }

    #[test]
    fn components_that_no_arm_was_trained_on_are_held_out() {
        let all =
            [("eval/perplexity", 3.0), ("eval/reward/total", 2.0), ("eval/reward/judge", 0.5), ("eval/accuracy", 0.4)];
        let mut evidence = Evidence {
            arms: vec![arm("sft", &[], &all), arm("rouge", &["rouge", "correctness"], &[("eval/reward/rouge", 0.3)])],
            ..Evidence::default()
        };
        let found = scores(&evidence, &estimates(&evidence), None);
        let names: Vec<(&str, bool)> = found.components.iter().map(|c| (c.name.as_str(), c.held_out)).collect();
        assert_eq!(
            names,
            [("accuracy", false), ("reward", false), ("judge", true), ("rouge", false), ("perplexity", false)]
        );
        assert!(found.rows[0][3].is_none() && found.rows[1][3].as_ref().is_some_and(|cell| cell.trained));
        // Without training by rewards, no component is held out.
        evidence.arms.pop();
        assert!(scores(&evidence, &estimates(&evidence), None).components.iter().all(|component| !component.held_out));
    }
}
