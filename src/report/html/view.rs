//! Template values besides the report itself: charts, shades, and the list of sections.

use super::data::{Completions, Cost, CostRow, QuestionView, Report};
use crate::report::chart::{CurveLine, Whisker, arm_class, curve_chart, graph_chart, scatter_chart, strip};
use crate::report::main_curve;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Sections of the page: their templates' names and their titles.
const SECTIONS: [(&str, &str); 14] = [
    ("problems", "Problems"),
    ("summary", "Summary"),
    ("arms", "The arms"),
    ("ratings", "Elo ratings"),
    ("scores", "Components by arm"),
    ("slices", "Slices"),
    ("mix", "Reward mix within groups"),
    ("curves", "Learning curves"),
    ("behaviour", "Length and reward hacking"),
    ("probes", "Probes for reward hacking"),
    ("completions", "Completions side by side"),
    ("stages", "Stages"),
    ("cost", "Cost"),
    ("recipes", "Recipes and environment"),
];

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// The number of arms that are drawn initially. Buttons show the others.
const DRAWN_ARMS: usize = 10;
/// The width of an interval in a table, in pixels.
const STRIP: f64 = 170.0;

#[derive(Serialize)]
pub(super) struct View<'a> {
    report: &'a Report,
    sections: Vec<Section>,
    baseline: Option<&'a str>,
    report_arms: Vec<ArmStyle<'a>>,
    strips: Vec<Vec<String>>,
    rating_strips: Vec<Vec<String>>,
    /// Every reward component that any arm was trained on.
    mix_components: BTreeSet<&'a str>,
    any_held_out: bool,
    any_kl: bool,
    curve_groups: Vec<CurveGroup<'a>>,
    first_curve: usize,
    curve_arms: Vec<usize>,
    curve_charts: Vec<String>,
    curve_tables: Vec<Vec<CurveSummary<'a>>>,
    scatters: Vec<Scatter<'a>>,
    over_kl: Vec<KlTile>,
    answer_arms: Vec<usize>,
    completions_json: String,
    /// The columns of costs that have values.
    cost_has: Vec<&'static str>,
    graph: String,
    most_buckets: u64,
    most_points: usize,
    style: &'static str,
    script: &'static str,
    style_hash: String,
    script_hash: String,
    version: &'static str,
}

#[derive(Serialize)]
struct Section {
    id: &'static str,
    title: &'static str,
    /// The number beside the title in the list of sections.
    count: usize,
}

#[derive(Serialize)]
struct ArmStyle<'a> {
    name: &'a str,
    class: String,
    /// Whether the arm is hidden until its button is pressed.
    off: bool,
}

#[derive(Serialize)]
struct CurveGroup<'a> {
    stage: &'a str,
    entries: Vec<CurveEntry<'a>>,
}

#[derive(Serialize)]
struct CurveEntry<'a> {
    index: usize,
    metric: &'a str,
}

#[derive(Serialize)]
struct CurveSummary<'a> {
    name: &'a str,
    seeds: usize,
    steps: usize,
    first: f64,
    low: f64,
    high: f64,
    last: f64,
}

#[derive(Serialize)]
struct Scatter<'a> {
    name: &'a str,
    chart: String,
}

/// A chart of a reward over the divergence from the reference policy.
#[derive(Serialize)]
struct KlTile {
    name: String,
    chart: String,
}

/// The data of the script.
#[derive(Serialize)]
struct CompletionsJson<'a> {
    arms: &'a [ArmStyle<'a>],
    components: &'a [String],
    ranges: &'a [(f64, f64)],
    seeds: Vec<&'a str>,
    questions: &'a [QuestionView],
}

impl<'a> View<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        let baseline = report.arms.iter().position(|arm| arm.is_baseline);
        let style = |(place, arm): (usize, &'a super::Arm)| ArmStyle {
            name: &arm.name,
            class: arm_class(place, baseline),
            off: place >= DRAWN_ARMS && Some(place) != baseline,
        };
        let report_arms: Vec<ArmStyle<'_>> = report.arms.iter().enumerate().map(style).collect();
        Self {
            sections: sections(report),
            baseline: baseline.map(|place| report.arms[place].name.as_str()),
            strips: report.verdicts.iter().map(|verdict| verdict_strips(report, verdict)).collect(),
            rating_strips: report.ratings.iter().map(|rating| rating_strips(&rating.rows)).collect(),
            mix_components: report.arms.iter().flat_map(|arm| arm.trained_on.keys().map(String::as_str)).collect(),
            any_held_out: report.scores.components.iter().any(|component| component.held_out),
            any_kl: report.behaviour.iter().any(|row| row.kl.is_some()),
            curve_groups: curve_groups(report),
            first_curve: first_curve(report),
            curve_arms: {
                let drawn = report.curves.iter().flat_map(|curve| &curve.lines).map(|line| line.arm);
                drawn.collect::<BTreeSet<_>>().into_iter().collect()
            },
            curve_charts: {
                let chart = |curve: &super::Curve| {
                    curve_chart(&format!("{} over the steps of {}", curve.metric, curve.stage), &curve.lines, baseline)
                };
                report.curves.iter().map(chart).collect()
            },
            curve_tables: report.curves.iter().map(|curve| curve_table(&curve.lines)).collect(),
            scatters: scatters(report, baseline),
            over_kl: over_kl(report, baseline),
            answer_arms: {
                let answers = report.completions.questions.iter().flat_map(|question| &question.answers);
                answers.map(|answer| answer.arm).collect::<BTreeSet<_>>().into_iter().collect()
            },
            completions_json: completions_json(&report.completions, &report_arms),
            cost_has: cost_has(&report.cost),
            graph: graph_chart("The stages, each right of what it starts from", &report.stages.nodes),
            most_buckets: super::curves::most_buckets(report.arms.len()),
            most_points: super::behaviour::MOST_POINTS,
            report_arms,
            report,
            style: STYLE,
            script: SCRIPT,
            style_hash: hash_source(STYLE),
            script_hash: hash_source(SCRIPT),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// A column of costs: its name and its value in a row.
type CostColumn = (&'static str, fn(&CostRow) -> Option<f64>);

/// Returns the columns of costs that have values.
fn cost_has(cost: &Cost) -> Vec<&'static str> {
    let columns: [CostColumn; 6] = [
        ("saved", |row| row.saved_seconds),
        ("trained", |row| row.trained_tokens),
        ("sampled", |row| row.sampled_tokens),
        ("energy", |row| row.energy_wh),
        ("judge_calls", |row| row.judge_calls),
        ("money", |row| row.money_usd),
    ];
    let every = || cost.kinds.iter().chain(&cost.arms).chain([&cost.total]);
    columns.into_iter().filter(|(_, value)| every().any(|row| value(row).is_some())).map(|(name, _)| name).collect()
}

/// Returns the sections that have content. Problems and the summary are always included.
fn sections(report: &Report) -> Vec<Section> {
    let has = |id: &str| match id {
        "ratings" => !report.ratings.is_empty(),
        "arms" => !report.arms.is_empty(),
        "scores" => !report.scores.components.is_empty(),
        "slices" => !report.slices.is_empty(),
        "mix" => !report.mixes.is_empty(),
        "curves" => !report.curves.is_empty(),
        "behaviour" => !report.behaviour.is_empty(),
        "probes" => !report.probes.is_empty(),
        "completions" => !report.completions.questions.is_empty(),
        _ => true,
    };
    let count = |id: &str| if id == "problems" { report.problems.len() } else { 0 };
    let sections = SECTIONS.into_iter().filter(|(id, _)| has(id));
    sections.map(|(id, title)| Section { id, title, count: count(id) }).collect()
}

fn verdict_strips(report: &Report, verdict: &super::VerdictView) -> Vec<String> {
    let whisker = |row: &super::VerdictRow| {
        let measured = row.difference?;
        let (low, high) = measured.interval?;
        Some(Whisker { name: report.arms[row.arm].name.clone(), value: measured.value, low, high })
    };
    let all: Vec<Option<Whisker>> = verdict.rows.iter().map(whisker).collect();
    let draw = |row: &Option<Whisker>| {
        row.as_ref().map_or_else(String::new, |row| strip(row, all.iter().flatten(), Some(0.0), STRIP))
    };
    all.iter().map(draw).collect()
}

fn rating_strips(rows: &[Whisker]) -> Vec<String> {
    rows.iter().map(|row| strip(row, rows, None, 2.0 * STRIP)).collect()
}

fn curve_groups(report: &Report) -> Vec<CurveGroup<'_>> {
    let mut groups: Vec<CurveGroup<'_>> = Vec::new();
    for (index, curve) in report.curves.iter().enumerate() {
        let entry = CurveEntry { index, metric: &curve.metric };
        match groups.iter_mut().find(|group| group.stage == curve.stage) {
            Some(group) => group.entries.push(entry),
            None => groups.push(CurveGroup { stage: &curve.stage, entries: vec![entry] }),
        }
    }
    groups
}

/// Returns the index of the curve that is shown first, in the last stage that has it.
fn first_curve(report: &Report) -> usize {
    let last = |metric: &str| report.curves.iter().rposition(|curve| curve.metric == metric);
    let mixes: Vec<BTreeMap<String, f64>> = report.arms.iter().map(|arm| arm.trained_on.clone()).collect();
    main_curve(&mixes, |metric| last(metric).is_some()).and_then(|metric| last(&metric)).unwrap_or(0)
}

fn curve_table(lines: &[CurveLine]) -> Vec<CurveSummary<'_>> {
    let summary = |line: &'_ CurveLine| -> Option<(f64, f64, f64, f64)> {
        let (first, last) = (line.points.first()?, line.points.last()?);
        let low = line.points.iter().map(|point| point.low).fold(f64::INFINITY, f64::min);
        let high = line.points.iter().map(|point| point.high).fold(f64::NEG_INFINITY, f64::max);
        Some((first.mean, low, high, last.mean))
    };
    let row = |line| {
        let (first, low, high, last) = summary(line)?;
        Some(CurveSummary { name: &line.name, seeds: line.seeds, steps: line.steps, first, low, high, last })
    };
    lines.iter().filter_map(row).collect()
}

fn scatters(report: &Report, baseline: Option<usize>) -> Vec<Scatter<'_>> {
    let all: Vec<&[(f64, f64)]> = report.behaviour.iter().map(|row| row.points.as_slice()).collect();
    let rows = report.behaviour.iter().filter(|row| row.points.len() > 1);
    let draw = |row: &super::Behaviour| {
        let name = report.arms[row.arm].name.as_str();
        let label = format!("Reward over tokens, {name}");
        let chart = scatter_chart(&label, ("tokens", "reward"), (row.arm, &row.points), &all, baseline);
        (row.arm, chart)
    };
    let drawn: Vec<(usize, String)> = rows.map(draw).collect();
    drawn.into_iter().map(|(arm, chart)| Scatter { name: &report.arms[arm].name, chart }).collect()
}

/// Returns a chart for each arm and reward. Charts of the same reward share their scales.
fn over_kl(report: &Report, baseline: Option<usize>) -> Vec<KlTile> {
    let rewards = || report.behaviour.iter().flat_map(|row| row.over_kl.iter().map(move |one| (row.arm, one)));
    let draw = |(arm, one): (usize, &super::OverKl)| {
        let all: Vec<&[(f64, f64)]> =
            rewards().filter(|(_, other)| other.metric == one.metric).map(|(_, other)| &*other.points).collect();
        let held_out = if one.held_out { ", held out" } else { "" };
        let name = format!("{}: {} in {}{held_out}", report.arms[arm].name, one.metric, one.stage);
        let label = format!("{name}, over the square root of the divergence");
        KlTile { chart: scatter_chart(&label, ("\u{221a}KL", "reward"), (arm, &one.points), &all, baseline), name }
    };
    rewards().map(draw).collect()
}

/// Formats the completions as JSON for an element of the page. No character in it can end the element or begin
/// another.
fn completions_json(completions: &Completions, arms: &[ArmStyle<'_>]) -> String {
    let answers = completions.questions.iter().flat_map(|question| &question.answers);
    let seeds: BTreeSet<&str> = answers.map(|answer| answer.seed.as_str()).collect();
    let mut seeds: Vec<&str> = seeds.into_iter().collect();
    seeds.sort_by_key(|seed| (seed.len(), *seed)); // 2 before 10
    let data = CompletionsJson {
        arms,
        components: &completions.components,
        ranges: &completions.ranges,
        seeds,
        questions: &completions.questions,
    };
    let json = serde_json::to_string(&data).expect("texts and finite numbers serialize");
    harmless_json(&json)
}

/// Escapes characters that could end an element. In JSON they occur only within strings, where escapes mean the same.
fn harmless_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                use std::fmt::Write as _;
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Returns the text's hash in the notation of a content security policy.
fn hash_source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_as_a_policy_asks() {
        assert_eq!(hash_source(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
