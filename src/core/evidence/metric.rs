//! Properties of metrics by name: their reward component, and whether arms are compared by them.

use crate::metric::{ACCURACY, CHOSEN, CHOSEN_STEP, FORM_AGAIN, LAST, TOTAL};
use crate::slice::Slice;

const COMPONENT: &str = "eval/reward/";
const PASS_AT: &str = "eval/pass_at_";
const MAJ_AT: &str = "eval/maj_at_";

/// Returns the reward component whose settings determine the meaning of the metric `name`.
pub(super) fn component_of(name: &str) -> Option<&str> {
    match name {
        ACCURACY => Some("correctness"),
        "eval/format_valid" => Some("format_valid"),
        TOTAL => None,
        _ if name.starts_with(PASS_AT) || name.starts_with(MAJ_AT) => Some("correctness"),
        _ => name.strip_prefix(COMPONENT),
    }
}

/// Clips `interval` to `range`, the possible values.
pub(super) fn within(range: Option<(f64, f64)>, interval: (f64, f64)) -> (f64, f64) {
    range.map_or(interval, |(least, most)| (interval.0.max(least), interval.1.min(most)))
}

/// Whether arms are compared by the metric `name`.
///
/// The cost and failures of judges, the probes of rewards and the choice of a snapshot are not results, and no result
/// is listed twice. Metrics of
/// slices are compared by request, in families of their own.
pub(super) fn is_result(name: &str) -> bool {
    const OTHERS: [&str; 7] = ["judge/", "eval/missing/", "eval/probe/", "eval/probe_gap/", CHOSEN_STEP, CHOSEN, LAST];
    !OTHERS.iter().any(|prefix| name.starts_with(prefix)) && name != FORM_AGAIN && Slice::of_metric(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_ends_where_its_metric_does() {
        assert_eq!(within(Some((0.0, 1.0)), (-0.12, 0.66)), (0.0, 0.66));
        assert_eq!(within(None, (-0.12, 1.2)), (-0.12, 1.2));
    }
}
