//! A line for each arm whose evaluation chose among snapshots.

use super::controls::difference;
use crate::evidence::{ArmComparison, ChosenSnapshot, SnapshotChoice};
use crate::metric::short_name;
use crate::number::{number, signed};
use crate::stats::mean;

/// Describes the choice of snapshots of an arm in one line: `rouge measures the snapshots after steps 100, 150, the
/// best by accuracy on development rows: accuracy is 0.58, instead of 0.55 at the last step (+0.03 [-0.01, 0.07]); on
/// development rows, by which it was chosen, the difference is +0.06`.
pub fn choice_line(choice: &SnapshotChoice, several_evaluations: bool) -> String {
    let SnapshotChoice { arm, stage, metric, snapshots, gained, .. } = choice;
    let name = short_name(metric);
    let steps: Vec<String> = snapshots.iter().map(|snapshot| snapshot.step.to_string()).collect();
    let which = match steps.as_slice() {
        [one] => format!("the snapshot after step {one}"),
        several => format!("the snapshots after steps {}", several.join(", ")),
    };
    let place = if several_evaluations { format!(" in {stage}") } else { String::new() };
    let gain = gained.as_ref().and_then(|gained| of_gain(name, gained)).unwrap_or_default();
    let on_rows = on_development_rows(snapshots).map_or_else(String::new, |difference| {
        format!("; on development rows, by which it was chosen, the difference is {}", signed(difference))
    });
    format!("{arm} measures {which}{place}, the best by {name} on development rows{gain}{on_rows}")
}

fn of_gain(name: &str, gained: &ArmComparison) -> Option<String> {
    let (value, last) = (number(gained.value?), number(gained.baseline?));
    Some(format!(": {name} is {value}, instead of {last} at the last step ({})", difference(gained)))
}

/// Returns the mean difference on development rows between the chosen and the last snapshots.
fn on_development_rows(snapshots: &[ChosenSnapshot]) -> Option<f64> {
    let difference = |chosen: &ChosenSnapshot| Some(chosen.development - chosen.last_development?);
    let differences: Vec<f64> = snapshots.iter().map(difference).collect::<Option<_>>()?;
    mean(&differences)
}
