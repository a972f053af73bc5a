//! The heat maps of slices and arms.

use super::data::{ScoreCell, SliceMap, SliceRow};
use super::estimates::estimates_of;
use super::scores::word;
use crate::evidence::{Comparisons, Evidence, slice_names};
use crate::metric::short_name;
use crate::slice::Slice;
use std::collections::BTreeSet;

/// Returns a heat map of `metric` for each evaluation and each expression that slices its questions. `found` compares
/// the arms with the baseline, slice by slice.
pub fn slices(evidence: &Evidence, metric: &str, found: Option<&Comparisons>) -> Vec<SliceMap> {
    let evaluations = evidence.evaluations();
    let mut maps = Vec::new();
    for by in slice_names(evidence) {
        let values = values(evidence, metric, &by);
        let names: Vec<String> = values.iter().map(|slice| slice.metric(metric)).collect();
        let estimates = estimates_of(evidence, &names);
        for &evaluation in &evaluations {
            let row = |(slice, name): (&Slice, &String)| {
                let cell = |(place, arm): (usize, &crate::evidence::Arm)| {
                    let measured = *estimates.get(&(place, evaluation.to_owned(), name.clone()))?;
                    Some(ScoreCell {
                        measured,
                        verdict: word(found, evaluation, name, &arm.name).to_owned(),
                        trained: false,
                    })
                };
                let cells: Vec<Option<ScoreCell>> = evidence.arms.iter().enumerate().map(cell).collect();
                SliceRow { value: slice.value.clone(), questions: questions(evidence, evaluation, slice), cells }
            };
            let rows: Vec<SliceRow> = values.iter().zip(&names).map(row).collect();
            let rows: Vec<SliceRow> = rows.into_iter().filter(|row| row.cells.iter().any(Option::is_some)).collect();
            if !rows.is_empty() {
                let title = if evaluations.len() > 1 {
                    format!("{evaluation}: {} by {by}", short_name(metric))
                } else {
                    format!("{} by {by}", short_name(metric))
                };
                maps.push(SliceMap { title, by: by.clone(), rows });
            }
        }
    }
    maps
}

/// Returns the slices by `by` in which `metric` may have been measured.
fn values(evidence: &Evidence, metric: &str, by: &str) -> BTreeSet<Slice> {
    let of_questions = evidence.questions.iter().filter_map(|question| question.slices.get(by));
    let of_questions = of_questions.map(|value| Slice { by: by.to_owned(), value: value.clone() });
    let trials = evidence.arms.iter().flat_map(|arm| &arm.trials);
    let reported = trials.flat_map(|trial| trial.measurements.keys()).filter_map(|name| Slice::of_metric(name));
    let reported = reported.filter(|(whole, slice)| *whole == metric && slice.by == by).map(|(_, slice)| slice);
    of_questions.chain(reported).collect()
}

/// Returns the number of questions of a slice that any arm answered.
fn questions(evidence: &Evidence, evaluation: &str, slice: &Slice) -> usize {
    let trials = evidence.arms.iter().flat_map(|arm| &arm.trials).filter(|trial| trial.evaluation == evaluation);
    let asked: BTreeSet<usize> = trials.flat_map(|trial| &trial.answers).map(|answer| answer.question).collect();
    let is_in = |question: &&usize| {
        let question = evidence.questions.get(**question);
        question.and_then(|question| question.slices.get(&slice.by)) == Some(&slice.value)
    };
    asked.iter().filter(is_in).count()
}
