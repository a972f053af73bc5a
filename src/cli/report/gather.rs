//! Gathers the content of a report from the files of its runs.

use super::super::compare;
use super::super::context::Context;
use super::super::error::CliError;
use super::super::run_rows::{StageRow, stage_rows};
use super::{below, cost, graph, ratings, short_run};
use crate::evidence::{
    ComparisonRequest, Comparisons, EncoderSwap, Evidence, ProblemKind, Role, choices, compare as compare_arms,
    controls, slice_names,
};
use crate::history::{LoggedPlan, PastRun, environment, gather_cost, gather_evidence};
use crate::report::html::{self, Problem, RecipeText, Report, RunLine, Severity, Stages};
use crate::report::{choice_line, control_line};
use crate::run_event::RunEventKind;
use crate::stage::RunStatus;
use crate::stage::StageStatus;
use crate::workspace::Workspace;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Explanations of the methods.
const METHODS: [&str; 7] = [
    "An arm is a variant of the sweep without its seed. Every arm is compared with the baseline on the questions that all seeds of \
     both answered; missing values are left out on both sides and listed, never counted as 0.",
    "The primary metric decides. All others are exploratory: among ten metrics, one differs by chance more often than \
     one time in twenty.",
    "Differences: the squared standard error is the variance between questions plus the variance that seeds add. Each is \
     as uncertain as its number of questions and seeds implies (a generalized pivotal quantity, after S. Weerahandi). p and \
     the 95% interval come from that one distribution; with one seed it is Student's t over questions. p is two-sided and \
     corrected over the arms of a metric after Holm. An arm is better or worse where p is below 0.05.",
    "Means: a metric with a least and a greatest value has Wilson's interval, for the number of answers that corresponds \
     to its standard error. Others have a bootstrap-t interval. No interval leaves the metric's range.",
    "Needed seeds and questions are those that would show a difference as large as the one seen with power 0.8. Few seeds say \
     little about the variance between them, so their number is a range: that of the middle half of this variance.",
    "Reward and length are those of the evaluation: the weighted sum of its components, and sampled tokens. Where the arms' mixes \
     differ their sums are not compared; the common score is the same sum for all.",
    "The colours of arms are distinguishable with any colour vision. Beyond seven arms, those with the same colour differ \
     by their dashes.",
];

/// The options of a report.
pub(super) struct Wanted<'a> {
    pub(super) baseline: Option<&'a str>,
    pub(super) metric: Option<&'a str>,
    pub(super) completions: usize,
}

/// Gathers the report of `runs`, oldest first. `all` are all existing runs.
pub(super) fn gather(
    context: &Context,
    runs: &[&PastRun],
    all: &[PastRun],
    wanted: &Wanted<'_>,
) -> Result<Report, CliError> {
    let workspace = Workspace::open(context.runs())?;
    let evidence = gather_evidence(&workspace, runs)?;
    let plans = runs.iter().map(|past| LoggedPlan::load(&past.log_dir)).collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for past in runs {
        rows.extend(stage_rows(context, Some(past))?);
    }
    let baseline = baseline(&evidence, wanted.baseline)?;
    let metric = compare::metrics(
        &evidence,
        &wanted.metric.map(|name| (name.to_owned(), None)).into_iter().collect::<Vec<_>>(),
    )?;
    let metric = metric.first().map(|(name, _)| name.clone()).or_else(|| evidence.primary_metric());
    let compared = baseline.map(|baseline| {
        let request = ComparisonRequest {
            baseline: evidence.arms[baseline].name.clone(),
            metrics: Vec::new(),
            primary: metric.clone(),
            by: Vec::new(),
        };
        compare_arms(&evidence, &request)
    });
    let by: Vec<String> = slice_names(&evidence).into_iter().collect();
    let by_slice = baseline.zip(metric.clone()).filter(|_| !by.is_empty()).map(|(baseline, metric)| {
        let baseline = evidence.arms[baseline].name.clone();
        compare_arms(&evidence, &ComparisonRequest { baseline, metrics: vec![(metric, None)], primary: None, by })
    });
    let slices = metric.as_deref().map(|metric| html::slices(&evidence, metric, by_slice.as_ref()));
    let compared = compared.as_ref();
    let estimates = html::estimates(&evidence);
    let arm_of = arms_of_variants(&evidence, &plans);
    let mut environment_lines: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for past in runs {
        for (name, values) in environment(past, &workspace)? {
            environment_lines.entry(name).or_default().extend(values);
        }
    }
    let (ratings, of_ratings) = ratings::ratings(&workspace, &plans)?;
    let known = compared.map_or(&evidence.problems, |found| &found.problems);
    let mut problems = problems(known, runs, &rows);
    problems.extend(of_ratings);
    problems.extend(evidence.encoder_swaps().iter().filter_map(encoder_note));
    problems.sort_by_key(|problem| problem.severity);
    let arm_names: Vec<&str> = evidence.arms.iter().map(|arm| arm.name.as_str()).collect();
    let (arms, inputs) = super::arms::arms(context, &workspace, &evidence, &plans, baseline)?;
    let spent = gather_cost(&workspace, runs, all)?;
    Ok(Report {
        title: title(&evidence),
        runs: runs.iter().map(|past| run_line(past)).collect::<Result<_, _>>()?,
        problems,
        arms,
        inputs,
        verdicts: compared
            .map(|found| html::verdicts(&evidence, &estimates, found, metric.as_deref()))
            .unwrap_or_default(),
        ratings,
        controls: compared.map(|found| control_lines(&evidence, found)).unwrap_or_default(),
        choices: choices(&evidence)
            .iter()
            .map(|choice| choice_line(choice, evidence.evaluations().len() > 1))
            .collect(),
        mixes: html::mixes(&evidence),
        scores: html::scores(&evidence, &estimates, compared),
        slices: slices.unwrap_or_default(),
        curves: html::curves(&evidence),
        behaviour: html::behaviour(&evidence),
        probes: html::probes(&evidence),
        completions: html::completions(&evidence, wanted.completions),
        stages: Stages {
            nodes: graph::nodes(&plans, &rows, &arm_of, evidence.arms.len()),
            rows: rows.iter().map(stage_row).collect(),
        },
        cost: cost::cost(&spent, &arm_of, &arm_names),
        recipes: recipes(runs)?,
        environment: environment_lines
            .into_iter()
            .map(|(name, values)| (name.to_owned(), values.into_iter().collect()))
            .collect(),
        methods: METHODS.iter().map(|sentence| (*sentence).to_owned()).collect(),
    })
}

/// Returns the index of the baseline; `None` without a comparison.
fn baseline(evidence: &Evidence, wanted: Option<&str>) -> Result<Option<usize>, CliError> {
    let position = |name: &str| evidence.arms.iter().position(|arm| arm.name == name);
    if wanted.is_some() {
        return compare::baseline(evidence, wanted).map(|name| position(&name));
    }
    if evidence.arms.len() < 2 || evidence.arms.iter().all(|arm| arm.trials.is_empty()) {
        return Ok(None);
    }
    Ok(evidence.default_baseline().and_then(position))
}

/// Returns a line for each control arm and evaluation, by the primary metric.
fn control_lines(evidence: &Evidence, found: &Comparisons) -> Vec<String> {
    let primary = found.metrics.iter().filter(|metric| metric.role == Role::Primary).cloned().collect();
    let primary = Comparisons { metrics: primary, ..found.clone() };
    let several = evidence.evaluations().len() > 1;
    controls(evidence, &primary).iter().map(|control| control_line(control, &found.baseline, several)).collect()
}

/// Returns the recipes' names.
fn title(evidence: &Evidence) -> String {
    let mut names: Vec<&str> = evidence.runs.iter().flat_map(|run| &run.recipes).map(String::as_str).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names.join(", ")
}

fn run_line(past: &PastRun) -> Result<RunLine, CliError> {
    let mut line = RunLine { run: past.run.clone(), status: past.status, ..RunLine::default() };
    let mut ends: Option<(DateTime<Utc>, DateTime<Utc>)> = None;
    for event in past.events()? {
        ends = Some((ends.map_or(event.at, |(start, _)| start), event.at));
        if let RunEventKind::RunStarted { process, version } = event.kind {
            (line.host, line.version) = (process.host, version);
        }
    }
    if let Some((start, end)) = ends {
        line.started = start.format("%Y-%m-%d %H:%M UTC").to_string();
        let seconds = (end - start).as_seconds_f64();
        line.seconds = (past.status != RunStatus::Running).then_some(seconds);
    }
    Ok(line)
}

/// Returns the arm of each variant, by its label.
fn arms_of_variants(evidence: &Evidence, plans: &[LoggedPlan]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for arm in &evidence.arms {
        let trials = arm.trials.iter().map(|trial| &trial.variant);
        for label in trials.chain(arm.missing.iter().map(|gap| &gap.variant)) {
            found.entry(label.clone()).or_insert_with(|| arm.name.clone());
        }
    }
    // A variant without measurements is matched by its name alone.
    for variant in plans.iter().flat_map(|plan| &plan.variants) {
        let is_of = |arm: &&crate::evidence::Arm| {
            variant.name.strip_prefix(arm.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
        };
        let arm = evidence.arms.iter().find(is_of).map_or(&variant.name, |arm| &arm.name);
        found.entry(variant.label.clone()).or_insert_with(|| arm.clone());
    }
    found
}

/// Returns the problems: failures, gaps, and numbers that must not be compared.
fn problems(known: &[crate::evidence::Problem], runs: &[&PastRun], rows: &[StageRow]) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    for past in runs.iter().filter(|past| past.status != RunStatus::Ok) {
        let what = match past.status {
            RunStatus::Running => format!("Run {} is still running: this is what it has so far.", short_run(&past.run)),
            status => format!("Run {} ended as {status}.", short_run(&past.run)),
        };
        let severity = if past.status == RunStatus::Running { Severity::Warning } else { Severity::Problem };
        found.push(Problem { severity, what, details: Vec::new() });
    }
    let failed = rows.iter().filter(|row| row.status == StageStatus::Failed && !made_later(rows, row));
    let failed: Vec<String> = failed
        .map(|row| format!("{} of {}: {}", row.stage, row.variant, row.message.as_deref().unwrap_or("no reason given")))
        .collect();
    if !failed.is_empty() {
        let what = format!("{} failed and {} no result.", count(failed.len(), "stage"), has(failed.len()));
        found.push(Problem { severity: Severity::Problem, what, details: failed });
    }
    let mut by_kind: BTreeMap<ProblemKind, Vec<String>> = BTreeMap::new();
    for problem in known {
        by_kind.entry(problem.kind).or_default().push(problem.message.clone());
    }
    for (kind, mut messages) in by_kind {
        let (severity, what) = heading(kind, messages.len());
        if messages.len() == 1 {
            found.push(Problem { severity, what: sentence(&messages.remove(0)), details: Vec::new() });
        } else {
            found.push(Problem { severity, what, details: messages });
        }
    }
    found
}

/// Returns a note about the agreement of encoders that measured the same arms.
fn encoder_note(swap: &EncoderSwap) -> Option<Problem> {
    let pairs = swap.agreement.iter().filter_map(|pair| {
        let tau = pair.tau?;
        Some(format!("{} and {}: Kendall's tau {tau:.2} over {} arms", pair.one, pair.other, pair.arms))
    });
    let details: Vec<String> = pairs.collect();
    let what = format!("The agreement of the encoders of `{}` about the order of the arms.", swap.component);
    (!details.is_empty()).then_some(Problem { severity: Severity::Note, what, details })
}

/// Whether some run has the result of the failed stage.
fn made_later(rows: &[StageRow], failed: &StageRow) -> bool {
    rows.iter().any(|row| row.key == failed.key && row.status.has_result())
}

fn heading(kind: ProblemKind, number: usize) -> (Severity, String) {
    match kind {
        ProblemKind::MissingTrial => {
            (Severity::Problem, format!("{} planned and {} no result.", count(number, "evaluation was"), has(number)))
        }
        ProblemKind::MissingSeeds => (Severity::Warning, "Arms lack seeds that others have.".into()),
        ProblemKind::MissingValues => {
            (Severity::Problem, format!("{number} times a metric has no value for some answers."))
        }
        ProblemKind::DifferentQuestions => {
            (Severity::Problem, "Arms answered different questions; only common ones are compared.".into())
        }
        ProblemKind::DifferentRecipes => (Severity::Warning, "The runs are of different recipes.".into()),
        ProblemKind::DifferentSettings => (Severity::Warning, "Runs use one name for different settings.".into()),
        ProblemKind::DifferentMixes => (Severity::Warning, "The arms' reward mixes differ.".into()),
        ProblemKind::SameAnswers => (Severity::Warning, "Arms gave the same completions.".into()),
        ProblemKind::SingleSeed => (Severity::Warning, "Every arm has one seed.".into()),
        ProblemKind::AdaptiveSeeds => (Severity::Warning, "The number of seeds was chosen by their results.".into()),
        ProblemKind::ZeroVariance => (Severity::Warning, "Some metrics have the same value for every answer.".into()),
        ProblemKind::Unreadable => (Severity::Problem, format!("{} could not be read.", count(number, "file"))),
    }
}

/// Makes a sentence of `text`: capitalizes it and adds a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ if noun.ends_with(" was") => format!("{number} {}s were", noun.trim_end_matches(" was")),
        _ => format!("{number} {noun}s"),
    }
}

fn has(number: usize) -> &'static str {
    if number == 1 { "has" } else { "have" }
}

fn stage_row(row: &StageRow) -> html::StageRow {
    html::StageRow {
        run: short_run(&row.run),
        stage: row.stage.clone(),
        kind: row.kind.to_string(),
        key: row.key.short().to_owned(),
        variants: row.variant.replace(' ', ", "),
        status: row.status,
        seconds: row.seconds,
        message: row.message.clone(),
    }
}

/// Returns the recipe files of the runs' logs. A file that runs share appears once.
fn recipes(runs: &[&PastRun]) -> Result<Vec<RecipeText>, CliError> {
    let mut found: Vec<RecipeText> = Vec::new();
    for past in runs {
        let root = past.log_dir.join("recipes");
        for path in files_below(&root)? {
            let text = String::from_utf8_lossy(&fs_err::read(&path)?).into_owned();
            let path = below(&path, &root);
            if !found.iter().any(|known| known.path == path && known.text == text) {
                found.push(RecipeText { run: short_run(&past.run), path, text });
            }
        }
    }
    Ok(found)
}

fn files_below(root: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        if !directory.is_dir() {
            continue;
        }
        for entry in fs_err::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sentences_are_said_as_people_say_them() {
        assert_eq!(count(1, "evaluation was"), "1 evaluation was");
        assert_eq!(count(3, "evaluation was"), "3 evaluations were");
        assert_eq!(sentence("the runs are of 2 recipes: a, b"), "The runs are of 2 recipes: a, b.");
    }
}
