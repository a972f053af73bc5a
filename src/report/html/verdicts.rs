//! The comparison of the arms with the baseline, metric by metric.

use super::data::{VerdictRow, VerdictView};
use super::estimates::Estimates;
use crate::event::Measurement;
use crate::evidence::{
    ArmComparison, Basis, Comparisons, Evidence, MetricComparison, Over, Role, Verdict as Outcome, Way,
};
use crate::metric::short_name;
use crate::report::verdicts::{ONE_SEED, direction_phrase, verdict_line, verdict_words};

/// Returns the comparisons as tables. The metric `first` comes first.
pub fn verdicts(
    evidence: &Evidence,
    estimates: &Estimates,
    found: &Comparisons,
    first: Option<&str>,
) -> Vec<VerdictView> {
    let several = evidence.evaluations().len() > 1;
    let mut metrics: Vec<&MetricComparison> = found.metrics.iter().collect();
    metrics.sort_by_key(|metric| Some(metric.metric.as_str()) != first); // stable
    metrics.into_iter().map(|metric| verdict(evidence, found, metric, estimates, several)).collect()
}

fn verdict(
    evidence: &Evidence,
    found: &Comparisons,
    metric: &MetricComparison,
    estimates: &Estimates,
    several: bool,
) -> VerdictView {
    let name = short_name(&metric.metric);
    let place = |name: &str| evidence.arms.iter().position(|arm| arm.name == name);
    let value = |arm: usize| estimates.get(&(arm, metric.evaluation.clone(), metric.metric.clone())).copied();
    let mut rows = Vec::new();
    if let Some(arm) = place(&found.baseline) {
        rows.push(VerdictRow { arm, value: value(arm), word: "baseline".into(), ..VerdictRow::default() });
    }
    rows.extend(metric.arms.iter().filter_map(|row| {
        let arm = place(&row.arm)?;
        Some(VerdictRow { value: value(arm), ..verdict_row(arm, row) })
    }));
    VerdictView {
        metric: metric.metric.clone(),
        title: if several { format!("{name} in {}", metric.evaluation) } else { name.to_owned() },
        role: match metric.role {
            Role::Primary => "primary metric".into(),
            Role::Exploratory => "exploratory".into(),
        },
        direction: direction_phrase(metric.direction),
        line: verdict_line(metric, &found.baseline, several),
        sentences: vec![lead(metric, &found.baseline, name), footing(metric)],
        rows,
    }
}

fn verdict_row(arm: usize, row: &ArmComparison) -> VerdictRow {
    // `not separable, needs about 4 more seeds`
    let words = verdict_words(row);
    let (word, needs) = words.split_once(", ").unwrap_or((words.as_str(), ""));
    let mut remarks: Vec<String> = Vec::new();
    remarks.extend((!needs.is_empty()).then(|| needs.to_owned()));
    remarks.extend(row.note.clone());
    if row.without_value > 0 {
        remarks.push(format!("{} questions without a value left out", row.without_value));
    }
    if row.only_arm + row.only_baseline > 0 {
        remarks.push(format!("{} questions of one side only left out", row.only_arm + row.only_baseline));
    }
    VerdictRow {
        arm,
        value: None,
        difference: row.difference.map(|value| Measurement {
            value,
            interval: row.interval,
            count: Some(row.questions as u64),
        }),
        p_value: row.p_corrected,
        effect: row.hedges_g,
        word: word.to_owned(),
        class: match row.verdict.way() {
            Some(way @ (Way::Better | Way::Worse)) => way.word().to_owned(),
            _ => String::new(),
        },
        remark: remarks.join("; "),
    }
}

/// Summarizes the outcome of a metric in a sentence.
fn lead(metric: &MetricComparison, baseline: &str, name: &str) -> String {
    let of = |outcome: Outcome| -> Vec<&str> {
        metric.arms.iter().filter(|row| row.verdict == outcome).map(|row| row.arm.as_str()).collect()
    };
    let is = |names: &[&str]| if names.len() == 1 { "is" } else { "are" };
    let mut parts = Vec::new();
    for way in Way::ALL {
        for basis in [Basis::Seeds, Basis::OneSeed] {
            let names = of(Outcome::Separable(way, basis));
            let once = if basis == Basis::OneSeed { ONE_SEED } else { "" };
            if !names.is_empty() {
                parts.push(format!("{} {} {} than {baseline}{once}", listed(&names), is(&names), way.word()));
            }
        }
    }
    let open = of(Outcome::NotSeparable);
    match (parts.is_empty(), open.as_slice()) {
        (_, []) => {}
        (true, [one]) => parts.push(format!("{one} does not differ significantly from {baseline}")),
        (true, all) => parts.push(format!("none of {} arms differs significantly from {baseline}", all.len())),
        (false, [one]) => parts.push(format!("{one} does not differ significantly")),
        (false, some) => parts.push(format!("{} do not differ significantly", listed(some))),
    }
    let without = of(Outcome::NotCompared);
    if !without.is_empty() {
        let note =
            metric.arms.iter().find(|row| row.verdict == Outcome::NotCompared).and_then(|row| row.note.as_deref());
        let reason = note.map(|note| format!(" ({note})")).unwrap_or_default();
        parts.push(format!("{} could not be compared{reason}", listed(&without)));
    }
    format!("By {name}, {}.", parts.join("; "))
}

/// Formats a list: `a, b and c`. For more than four names, returns their number.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [head @ .., last] if names.len() <= 4 => format!("{} and {last}", head.join(", ")),
        many => format!("{} arms", many.len()),
    }
}

/// Describes the basis of the comparison.
fn footing(metric: &MetricComparison) -> String {
    let over = |over: Over| metric.arms.iter().any(|row| row.over == Some(over));
    let questions = metric.arms.iter().map(|row| row.questions).max().unwrap_or(0);
    let seeds = metric.arms.iter().map(|row| row.seeds.len()).max().unwrap_or(0);
    if over(Over::SeedsAndQuestions) {
        format!("Over {seeds} seeds and {} that both sides answered.", count(questions, "question"))
    } else if over(Over::Questions) {
        format!("Over {} with one seed: another training run may differ by more.", count(questions, "question"))
    } else if over(Over::Seeds) {
        format!("Over {}, of which each gives one number.", count(seeds, "seed"))
    } else {
        String::new()
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_said_as_people_say_them() {
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed(&["a", "b", "c", "d", "e"]), "5 arms");
    }
}
