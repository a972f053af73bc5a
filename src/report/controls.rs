//! A line for each control arm.

use crate::evidence::{ArmComparison, ControlComparison, Verdict, Way};
use crate::metric::short_name;
use crate::number::{number, signed};

/// Describes a control arm in one line: `control random: accuracy moved +0.01 [-0.02, 0.04] from sft without
/// information (not separable); semantic exceeds it by +0.12 [0.05, 0.19]`.
pub fn control_line(found: &ControlComparison, baseline: &str, several_evaluations: bool) -> String {
    let ControlComparison { control, components, evaluation, metric, moved, treatments, .. } = found;
    let name = short_name(metric);
    let title = if several_evaluations { format!("{name} in {evaluation}") } else { name.to_owned() };
    let own = components.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let arm = if own == *control { control.clone() } else { format!("{control} ({own})") };
    let verdict = match moved.verdict {
        Verdict::Separable(way, _) => way.word(),
        Verdict::NotSeparable => "not separable",
        Verdict::NotCompared => "not compared",
    };
    let mut parts = vec![match moved.difference {
        Some(_) => format!("{title} moved {} from {baseline} without information ({verdict})", difference(moved)),
        None => format!("{title} is {verdict} with {baseline}"),
    }];
    parts.extend(treatments.iter().map(treatment));
    format!("control {arm}: {}", parts.join("; "))
}

/// Says whether an arm exceeds the control.
fn treatment(row: &ArmComparison) -> String {
    let (arm, by) = (&row.arm, difference(row));
    match row.verdict {
        Verdict::Separable(Way::Better, _) => format!("{arm} exceeds it by {by}"),
        Verdict::Separable(Way::Worse, _) => format!("{arm} is worse than it by {by}"),
        Verdict::Separable(way, _) => format!("{arm} is {} than it by {by}", way.word()),
        Verdict::NotSeparable => format!("{arm} does not exceed it separably: {by}"),
        Verdict::NotCompared => format!("{arm} is not compared with it"),
    }
}

/// Returns the difference with its interval.
pub(super) fn difference(row: &ArmComparison) -> String {
    let interval = row.interval.map(|(low, high)| format!(" [{}, {}]", number(low), number(high)));
    row.difference.map(signed).unwrap_or_default() + &interval.unwrap_or_default()
}
