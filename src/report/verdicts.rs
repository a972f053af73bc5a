//! Arms against a baseline, as `compare` prints them: a line that says what comes of it, and a table.

use super::number::number;
use super::table::{Column, Table};
use crate::evidence::{ArmComparison, Direction, MetricComparison, Over, Verdict, short_name};

/// What comes of all arms of a metric, in one line: `accuracy: rouge better than sft, plain worse, 3 not separable`.
pub fn verdict_line(metric: &MetricComparison, baseline: &str, several_evaluations: bool) -> String {
    let said = |verdict: Verdict, word: &str| {
        let names: Vec<&str> =
            metric.arms.iter().filter(|row| row.verdict == verdict).map(|row| row.arm.as_str()).collect();
        (!names.is_empty()).then(|| format!("{} {word}", names.join(", ")))
    };
    let mut parts: Vec<String> = [
        (Verdict::Better, "better"),
        (Verdict::Worse, "worse"),
        (Verdict::Higher, "higher (nobody says which way is better)"),
        (Verdict::Lower, "lower (nobody says which way is better)"),
    ]
    .into_iter()
    .filter_map(|(verdict, word)| said(verdict, word))
    .collect();
    if let Some(first) = parts.first_mut() {
        *first = format!("{first} than {baseline}");
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
        parts.push(format!("{without} not compared"));
    }
    format!("{}: {}", title(metric, several_evaluations), parts.join("; "))
}

/// The metric's short name, with the evaluation where there are several.
fn title(metric: &MetricComparison, several_evaluations: bool) -> String {
    let name = short_name(&metric.metric);
    if several_evaluations { format!("{name} in {}", metric.evaluation) } else { name.to_owned() }
}

/// The metric's name and which way it is better: `accuracy (higher is better)`.
pub fn verdict_heading(metric: &MetricComparison, several_evaluations: bool) -> String {
    let way = match metric.direction {
        Some(Direction::Higher) => " (higher is better)",
        Some(Direction::Lower) => " (lower is better)",
        None => "",
    };
    title(metric, several_evaluations) + way
}

/// Every arm of a metric, the baseline first.
pub fn verdict_table(metric: &MetricComparison, baseline: &str) -> Table {
    let mut table = Table::new(vec![
        Column::left("arm"),
        Column::right("mean").dropped(4),
        Column::left("verdict"),
        Column::right("difference"),
        Column::left("95% interval"),
        Column::right("p (Holm)").dropped(5),
        Column::right("g").dropped(2),
        Column::right("delta").dropped(1),
        Column::right("seeds x questions").dropped(3),
        Column::left("note").shortened(),
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

/// What comes of an arm, in words: `better`, `not separable, needs about 4 more seeds`.
pub fn verdict_words(row: &ArmComparison) -> String {
    let seeds_alone = row.over == Some(Over::SeedsAndQuestions);
    match row.verdict {
        Verdict::Better => "better".to_owned(),
        Verdict::Worse => "worse".to_owned(),
        Verdict::Higher => "higher".to_owned(),
        Verdict::Lower => "lower".to_owned(),
        Verdict::NotCompared => "not compared".to_owned(),
        Verdict::NotSeparable => match (row.needs_more_seeds, row.needs_more_questions) {
            (Some(seeds), Some(questions)) => {
                let questions = more(questions, "question");
                let questions = questions.strip_prefix("about ").unwrap_or(&questions);
                format!("not separable, needs {} and {questions}", more(seeds, "seed"))
            }
            (Some(seeds), None) => format!("not separable, needs {}", more(seeds, "seed")),
            (None, Some(questions)) if seeds_alone => {
                format!("not separable, needs {}, not seeds", more(questions, "question"))
            }
            (None, Some(questions)) => format!("not separable, needs {}", more(questions, "question")),
            (None, None) => "not separable".to_owned(),
        },
    }
}

/// `about 4 more seeds`; two digits are more than such an estimate is worth.
fn more(count: u64, what: &str) -> String {
    const MOST: u64 = 10_000;
    if count > MOST {
        return format!("over {MOST} more {what}s");
    }
    let mut unit = 1;
    while count / unit >= 100 {
        unit *= 10;
    }
    let rounded = count.div_ceil(unit) * unit;
    format!("about {rounded} more {what}{}", if rounded == 1 { "" } else { "s" })
}

/// `3 x 168`; the arm's seeds and the baseline's where they differ.
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

fn signed(value: f64) -> String {
    format!("{}{}", if value > 0.0 { "+" } else { "" }, number(value))
}

fn p_value(value: f64) -> String {
    if value < 0.001 { "<0.001".to_owned() } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            needs_more_seeds: Some(4),
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
            direction: Some(Direction::Higher),
            baseline: Some(0.5),
            arms: vec![row("rouge", Verdict::Better, 0.12), row("none", Verdict::Worse, -0.2), open, nothing],
        }
    }

    #[test]
    fn the_verdict_is_one_line() {
        let line = verdict_line(&metric(), "sft", false);
        assert_eq!(line, "accuracy: rouge better than sft; none worse; 1 not separable; 1 not compared");
        let mut open = metric();
        open.arms.iter_mut().for_each(|row| row.verdict = Verdict::NotSeparable);
        assert_eq!(verdict_line(&open, "sft", true), "accuracy in eval: none of 4 arms separable from sft");
        open.arms.truncate(1);
        assert_eq!(verdict_line(&open, "sft", false), "accuracy: rouge not separable from sft");
    }

    #[test]
    fn the_table_says_what_comes_of_each_arm() {
        insta::assert_snapshot!(verdict_table(&metric(), "sft").render(140));
    }

    #[test]
    fn what_is_needed_is_said_in_two_digits() {
        let needs = |seeds, questions, over| {
            verdict_words(&ArmComparison {
                needs_more_seeds: seeds,
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
    }
}
