//! The choice of the snapshot that an evaluation with `at = "best"` measures, by the evaluations of all snapshots on
//! development rows.

use crate::error::{StageError, StageResult};
use orchestrate_core::event::Measurement;
use orchestrate_core::metric::{CHOSEN, CHOSEN_STEP, Direction, LAST};
use orchestrate_core::recipe::spec::BestSpec;
use orchestrate_core::workspace::Assignment;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The chosen snapshot, and what was measured on development rows.
#[derive(Debug, PartialEq)]
pub(super) struct Chosen {
    metric: String,
    step: u64,
    value: f64,
    /// The value of the last snapshot, if it has one.
    last: Option<f64>,
}

impl Chosen {
    /// Returns the measurements that record the choice.
    pub(super) fn results(&self) -> BTreeMap<String, Measurement> {
        let number = |value: f64| Measurement { value, interval: None, count: None };
        let metric = self.metric.strip_prefix("eval/").unwrap_or(&self.metric);
        let mut found = BTreeMap::from([
            (CHOSEN_STEP.to_owned(), number(self.step as f64)),
            (format!("{CHOSEN}{metric}"), number(self.value)),
        ]);
        found.extend(self.last.map(|last| (format!("{LAST}{metric}"), number(last))));
        found
    }
}

/// Returns `assignment` with the chosen snapshot as its only parent, and the choice. Without a choice to make, the
/// assignment is as it was.
pub(super) fn choose<'a>(
    assignment: &'a Assignment,
    best: Option<&BestSpec>,
) -> StageResult<(Cow<'a, Assignment>, Option<Chosen>)> {
    let Some(best) = best else { return Ok((Cow::Borrowed(assignment), None)) };
    let values: Vec<Option<f64>> =
        (0..best.steps.len()).map(|place| value(assignment, best, place)).collect::<StageResult<_>>()?;
    let Some(place) = best_of(&values, best.direction) else {
        let message = format!("no snapshot has a value of `{}` on development rows", best.metric);
        return Err(StageError::input(message).hinted("choose by another metric: `best_by`"));
    };
    let parent = assignment.parents.get(place).cloned();
    let parents = vec![parent.ok_or_else(|| StageError::input("the assignment names fewer snapshots than its spec"))?];
    let chosen = Chosen {
        metric: best.metric.clone(),
        step: best.steps[place],
        value: values[place].unwrap_or(f64::NAN),
        last: values.last().copied().flatten(),
    };
    Ok((Cow::Owned(Assignment { parents, ..assignment.clone() }), Some(chosen)))
}

/// Returns the value on development rows of the snapshot at `place`; `None` where the evaluation has none.
fn value(assignment: &Assignment, best: &BestSpec, place: usize) -> StageResult<Option<f64>> {
    let path = assignment.results.get(&BestSpec::measured(place));
    let path = path.ok_or_else(|| StageError::input("the assignment names no evaluation on development rows"))?;
    let measured: BTreeMap<String, Measured> = serde_json::from_str(&fs_err::read_to_string(path)?)
        .map_err(|e| StageError::input(format!("`{}`: {e}", path.display())))?;
    Ok(measured.get(&best.metric).map(|measured| measured.value))
}

/// The part of a measurement in `metrics.json` that counts here.
#[derive(serde::Deserialize)]
struct Measured {
    value: f64,
}

/// Returns the place of the best value; of equal ones the first, which was trained least.
fn best_of(values: &[Option<f64>], direction: Direction) -> Option<usize> {
    let oriented = |value: f64| if direction == Direction::Higher { value } else { -value };
    let known = values.iter().enumerate().filter_map(|(place, value)| Some((place, oriented((*value)?))));
    let best = known.reduce(|best, other| if other.1 > best.1 { other } else { best });
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_highest_or_the_lowest_and_of_equal_ones_the_first() {
        let values = [Some(0.25), Some(0.75), None, Some(0.75), Some(0.5)];
        assert_eq!(best_of(&values, Direction::Higher), Some(1));
        assert_eq!(best_of(&values, Direction::Lower), Some(0));
        assert_eq!(best_of(&[None, None], Direction::Higher), None);
    }

    #[test]
    fn a_choice_is_recorded_with_what_the_last_step_had() {
        let chosen = Chosen { metric: "eval/reward/rouge".to_owned(), step: 8, value: 0.5, last: Some(0.25) };
        let results: Vec<(String, f64)> =
            chosen.results().into_iter().map(|(name, found)| (name, found.value)).collect();
        let expected = [("eval/chosen/reward/rouge", 0.5), ("eval/chosen_step", 8.0), ("eval/last/reward/rouge", 0.25)];
        assert_eq!(results, expected.map(|(name, value)| (name.to_owned(), value)));
    }
}
