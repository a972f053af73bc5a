//! Arms against a baseline, as `compare` prints them: a summary line and a table.

use super::table::{Column, Table};
use crate::evidence::{ArmComparison, Basis, MetricComparison, Needed, Over, Role, Verdict, Way};
use crate::metric::{Direction, short_name};
use crate::number::{number, signed};

/// Summarizes all arms of a metric in one line: `accuracy: rouge better than sft, plain worse, 3 not separable`.
pub fn verdict_line(metric: &MetricComparison, baseline: &str, several_evaluations: bool) -> String {
    let said = |verdict: Verdict| {
        let names: Vec<&str> =
            metric.arms.iter().filter(|row| row.verdict == verdict).map(|row| row.arm.as_str()).collect();
        (!names.is_empty()).then(|| (names.join(", "), verdict))
    };
    let separable = Way::ALL.into_iter().flat_map(|way| [Basis::Seeds, Basis::OneSeed].map(|basis| (way, basis)));
    let mut parts: Vec<String> = Vec::new();
    for (names, verdict) in separable.filter_map(|(way, basis)| said(Verdict::Separable(way, basis))) {
        let Verdict::Separable(way, basis) = verdict else { continue };
        let than = if parts.is_empty() { format!(" than {baseline}") } else { String::new() };
        let seed = if basis == Basis::OneSeed { ONE_SEED } else { "" };
        let unknown = if matches!(way, Way::Higher | Way::Lower) { " (no known direction)" } else { "" };
        parts.push(format!("{names} {}{than}{seed}{unknown}", way.word()));
    }
    let count = |verdict: Verdict| metric.arms.iter().filter(|row| row.verdict == verdict).count();
    let (open, without) = (count(Verdict::NotSeparable), count(Verdict::NotCompared));
    match (open, metric.arms.len()) {
        (0, _) => {}
        (1, 1) => parts.push(format!("{} not separable from {baseline}", metric.arms[0].arm)),
        (open, all) if open == all => parts.push(format!("none of {all} arms separable from {baseline}")),
        (open, _) => parts.push(format!("{open} not separable")),
    }
    if without > 0 {
        let reasons: Vec<&str> = metric
            .arms
            .iter()
            .filter(|row| row.verdict == Verdict::NotCompared)
            .filter_map(|row| row.note.as_deref())
            .collect();
        let reason = match reasons.as_slice() {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => format!(": {first}"),
            _ => String::new(),
        };
        let number = if without == metric.arms.len() { String::new() } else { format!("{without} ") };
        parts.push(format!("{number}not compared{reason}"));
    }
    format!("{}: {}", title(metric, several_evaluations), parts.join("; "))
}

/// The suffix of a verdict that is based on one training run of each side.
pub(super) const ONE_SEED: &str = " on these questions (one seed)";

/// Returns the metric's short name, with the evaluation if there are several.
fn title(metric: &MetricComparison, several_evaluations: bool) -> String {
    let name = short_name(&metric.metric);
    if several_evaluations { format!("{name} in {}", metric.evaluation) } else { name.to_owned() }
}

/// Returns which way the metric is better: `higher is better`.
pub(super) fn direction_phrase(direction: Option<Direction>) -> String {
    match direction {
        Some(direction) => format!("{} is better", direction.word()),
        None => "no known direction: set `compare.higher` or `lower`".to_owned(),
    }
}

/// Returns the metric's name, its better direction and its role: `accuracy (higher is better, primary metric)`.
pub fn verdict_heading(metric: &MetricComparison, several_evaluations: bool) -> String {
    let way = direction_phrase(metric.direction);
    let role = match metric.role {
        Role::Primary => "primary metric",
        Role::Exploratory => "exploratory",
    };
    format!("{} ({way}, {role})", title(metric, several_evaluations))
}

/// Returns the table of a metric's arms, the baseline first.
pub fn verdict_table(metric: &MetricComparison, baseline: &str) -> Table {
    let mut table = Table::new(vec![
        Column::left("arm"),
        Column::right("mean").dropped(4),
        Column::left("verdict").wrapped(),
        Column::right("difference"),
        Column::left("95% interval"),
        Column::right("p (Holm)").dropped(5),
        Column::right("g").dropped(2),
        Column::right("delta").dropped(1),
        Column::right("seeds x questions").dropped(3),
        Column::left("note").wrapped(),
    ]);
    let mut first = vec![baseline.to_owned(), optional(metric.baseline), "(the baseline)".to_owned()];
    first.resize(10, String::new());
    table.push(first);
    for row in &metric.arms {
        table.push(vec![
            row.arm.clone(),
            optional(row.value),
            verdict_words(row),
            row.difference.map(signed).unwrap_or_default(),
            row.interval.map(|(low, high)| format!("[{}, {}]", number(low), number(high))).unwrap_or_default(),
            row.p_corrected.map(p_value).unwrap_or_default(),
            optional(row.hedges_g),
            optional(row.cliffs_delta),
            size(row),
            note(row),
        ]);
    }
    table
}

/// Describes the verdict of an arm: `better`, `not separable, needs about 4 more seeds`.
pub fn verdict_words(row: &ArmComparison) -> String {
    let seeds_alone = row.over == Some(Over::SeedsAndQuestions);
    match row.verdict {
        Verdict::Separable(way, Basis::Seeds) => way.word().to_owned(),
        Verdict::Separable(way, Basis::OneSeed) => way.word().to_owned() + ONE_SEED,
        Verdict::NotCompared => "not compared".to_owned(),
        Verdict::NotSeparable => match (row.needs_more_seeds, row.needs_more_questions) {
            (Some(seeds), Some(questions)) => {
                let questions = more(questions, "question");
                let questions = questions.strip_prefix("about ").unwrap_or(&questions);
                format!("not separable, needs {} and {questions}", more_seeds(seeds))
            }
            (Some(seeds), None) => format!("not separable, needs {}", more_seeds(seeds)),
            (None, Some(questions)) if seeds_alone => {
                format!("not separable, needs {}, not seeds", more(questions, "question"))
            }
            (None, Some(questions)) => format!("not separable, needs {}", more(questions, "question")),
            (None, None) => "not separable".to_owned(),
        },
    }
}

/// Formats `about 4 to 15 more seeds`.
fn more_seeds(needed: Needed) -> String {
    match needed {
        Needed { least, most: Some(most) } if least == most => more(least, "seed"),
        Needed { least, most: Some(most) } if most <= MOST => {
            format!("about {} to {} more seeds", two_digits(least), two_digits(most))
        }
        Needed { least, .. } => {
            let words = more(least, "seed");
            format!("at least {}", words.strip_prefix("about ").unwrap_or(&words))
        }
    }
}

/// The largest count that is shown.
const MOST: u64 = 10_000;

/// Formats `about 4 more seeds`.
fn more(count: u64, what: &str) -> String {
    if count > MOST {
        return format!("over {MOST} more {what}s");
    }
    let rounded = two_digits(count);
    format!("about {rounded} more {what}{}", if rounded == 1 { "" } else { "s" })
}

/// Rounds `count` up to two significant digits. More would exceed the precision of such an estimate.
fn two_digits(count: u64) -> u64 {
    let mut unit = 1;
    while count / unit >= 100 {
        unit *= 10;
    }
    count.div_ceil(unit) * unit
}

/// Formats the sample size: `3 x 168`, with the arm's and the baseline's seeds where they differ.
fn size(row: &ArmComparison) -> String {
    let (seeds, of_baseline) = (row.seeds.len(), row.baseline_seeds.len());
    let seeds = if seeds == of_baseline { seeds.to_string() } else { format!("{seeds} and {of_baseline}") };
    match row.over {
        None => String::new(),
        Some(Over::Seeds) => format!("{seeds} x 1"),
        Some(Over::Questions | Over::SeedsAndQuestions) => format!("{seeds} x {}", row.questions),
    }
}

fn note(row: &ArmComparison) -> String {
    let mut notes: Vec<String> = row.note.clone().into_iter().collect();
    if row.without_value > 0 {
        notes.push(format!("{} questions without a value left out", row.without_value));
    }
    if row.only_arm + row.only_baseline > 0 {
        notes.push(format!("{} questions of one side only left out", row.only_arm + row.only_baseline));
    }
    if row.trained_on == Some(true) {
        notes.push("trained on it".to_owned());
    }
    notes.join("; ")
}

fn optional(value: Option<f64>) -> String {
    value.map(number).unwrap_or_default()
}

pub(super) fn p_value(value: f64) -> String {
    if value < 0.001 { "<0.001".to_owned() } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BETTER: Verdict = Verdict::Separable(Way::Better, Basis::Seeds);
    const WORSE: Verdict = Verdict::Separable(Way::Worse, Basis::Seeds);

    fn row(arm: &str, verdict: Verdict, difference: f64) -> ArmComparison {
        ArmComparison {
            arm: arm.to_owned(),
            verdict,
            value: Some(0.5 + difference),
            baseline: Some(0.5),
            difference: Some(difference),
            interval: Some((difference - 0.05, difference + 0.05)),
            p_value: Some(0.01),
            p_corrected: Some(0.02),
            hedges_g: Some(0.4),
            cliffs_delta: Some(0.2),
            over: Some(Over::SeedsAndQuestions),
            seeds: vec![1, 2, 3],
            baseline_seeds: vec![1, 2, 3],
            questions: 168,
            only_arm: 0,
            only_baseline: 0,
            without_value: 0,
            needs_more_seeds: None,
            needs_more_questions: None,
            trained_on: None,
            note: None,
        }
    }

    fn metric() -> MetricComparison {
        let open = ArmComparison {
            needs_more_seeds: Some(Needed { least: 4, most: Some(15) }),
            p_corrected: Some(0.3),
            ..row("plain", Verdict::NotSeparable, 0.01)
        };
        let nothing = ArmComparison {
            difference: None,
            interval: None,
            p_corrected: None,
            over: None,
            value: None,
            note: Some("no value: the judge returned nothing".to_owned()),
            ..row("judge", Verdict::NotCompared, 0.0)
        };
        MetricComparison {
            evaluation: "eval".to_owned(),
            metric: "eval/accuracy".to_owned(),
            slice: None,
            role: Role::Primary,
            direction: Some(Direction::Higher),
            baseline: Some(0.5),
            arms: vec![row("rouge", BETTER, 0.12), row("none", WORSE, -0.2), open, nothing],
        }
    }

    #[test]
    fn the_verdict_is_one_line() {
        let line = verdict_line(&metric(), "sft", false);
        assert_eq!(
            line,
            "accuracy: rouge better than sft; none worse; 1 not separable; 1 not compared: no value: the judge returned nothing"
        );
        let mut open = metric();
        open.arms.iter_mut().for_each(|row| row.verdict = Verdict::NotSeparable);
        assert_eq!(verdict_line(&open, "sft", true), "accuracy in eval: none of 4 arms separable from sft");
        open.arms.truncate(1);
        assert_eq!(verdict_line(&open, "sft", false), "accuracy: rouge not separable from sft");
    }

    #[test]
    fn one_seed_is_said_wherever_a_verdict_is() {
        let mut once = metric();
        once.arms.truncate(1);
        once.arms[0].verdict = Verdict::Separable(Way::Better, Basis::OneSeed);
        let line = verdict_line(&once, "sft", false);
        assert_eq!(line, "accuracy: rouge better than sft on these questions (one seed)");
        assert_eq!(verdict_words(&once.arms[0]), "better on these questions (one seed)");
        assert_eq!(serde_json::to_value(once.arms[0].verdict).unwrap(), "better_on_these_questions");
    }

    #[test]
    fn why_nothing_is_compared_is_said_in_the_line() {
        let mut none = metric();
        none.arms.retain(|row| row.verdict == Verdict::NotCompared);
        none.arms[0].note = Some("the arms' reward mixes differ".to_owned());
        assert_eq!(verdict_line(&none, "sft", false), "accuracy: not compared: the arms' reward mixes differ");
    }

    #[test]
    fn the_table_says_what_comes_of_each_arm() {
        insta::assert_snapshot!(verdict_table(&metric(), "sft").render(140));
    }

    #[test]
    fn what_is_needed_is_said_in_two_digits() {
        let needs = |seeds: Option<u64>, questions, over| {
            verdict_words(&ArmComparison {
                needs_more_seeds: seeds.map(|seeds| Needed { least: seeds, most: Some(seeds) }),
                needs_more_questions: questions,
                over: Some(over),
                ..row("a", Verdict::NotSeparable, 0.0)
            })
        };
        assert_eq!(needs(Some(1), None, Over::Seeds), "not separable, needs about 1 more seed");
        assert_eq!(
            needs(Some(190), Some(61), Over::SeedsAndQuestions),
            "not separable, needs about 190 more seeds and 61 more questions"
        );
        assert_eq!(needs(None, Some(1234), Over::Questions), "not separable, needs about 1300 more questions");
        assert_eq!(
            needs(None, Some(99), Over::SeedsAndQuestions),
            "not separable, needs about 99 more questions, not seeds"
        );
        assert_eq!(needs(Some(20_000), None, Over::Seeds), "not separable, needs over 10000 more seeds");
        assert_eq!(needs(None, None, Over::Seeds), "not separable");
        assert_eq!(more_seeds(Needed { least: 6, most: Some(118) }), "about 6 to 120 more seeds");
        assert_eq!(more_seeds(Needed { least: 6, most: None }), "at least 6 more seeds");
    }
}
