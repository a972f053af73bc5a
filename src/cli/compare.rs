//! `orchestrate compare RUN...`.

use super::context::Context;
use super::error::{CliError, Kind};
use super::find::{find_runs, past_runs};
use super::output::Output;
use crate::evidence::{
    ComparisonRequest, Comparisons, ControlComparison, Evidence, MetricComparison, SnapshotChoice, Verdict, choices,
    compare as compare_arms, controls, metric_names, slice_names,
};
use crate::history::gather_answers;
use crate::metric::{Direction, short_name};
use crate::report::{
    choice_line, control_line, filled, probe_heading, probe_table, slice_heading, slice_table, swap_agreement,
    swap_table, verdict_heading, verdict_line, verdict_table, width,
};
use crate::slice::Slice;
use crate::suggestion::did_you_mean;
use crate::workspace::Workspace;
use clap::Args;
use serde_json::{Value, json};
use std::io::Write as _;

/// Which runs, and what they are compared by.
#[derive(Debug, Args)]
#[command(after_help = "\
An arm is a variant without its seed. Every arm is compared with the baseline on the questions that both
answered. The table has the difference of the means, its 95% interval, p of a two-sided test after Holm's correction
over the arms, Hedges' g of the differences by question, and Cliff's delta. An arm is `better` or `worse` where p is
below 0.05. Otherwise it is not separable from the baseline. The table then estimates how many more seeds (or
questions) would show a difference as large as the observed one, with power 0.8 and the 0.05 shared by the arms.

The primary metric decides: that of `[compare]` in the recipe, else accuracy. All others (`--all`) are exploratory:
among ten metrics, one differs by chance more often than one time in twenty.

p and the interval come from the same distribution. With several seeds it accounts for how little few seeds say about
the variance between them. With one seed it is Student's t over questions: it says nothing about another training
run, and the verdict is `better on these questions (one seed)`. Seeds that both arms have are paired.

Where an evaluation has probes for reward hacking, a table of a component's exploit rates follows each comparison by
that component (`--all`, or `--metric NAME`).

With --by, each metric is compared slice by slice too. p of a slice is corrected over all arms and slices of the
expression together.

The sum of the rewards is compared only where the arms' mixes are the same. Where they differ, `common_score` is
the same for all: the recipe's `compare.score`, else the mean of the components that all mixes share.

Examples:
  orchestrate compare
  orchestrate compare latest --baseline sft --all
  orchestrate compare latest --metric semantic --metric tokens_mean=lower
  orchestrate compare latest --by subject
  orchestrate compare 01KAB3 7Q4XZ1 --baseline sft --json | jq 'select(.verdict == \"better\")'

--json prints {\"what\":\"comparison\",\"evaluation\",\"metric\",\"slice\":{\"by\",\"value\"} (of a slice),\"role\":\"primary\"|\"exploratory\",\"direction\",\"arm\",
\"baseline\":NAME,\"verdict\":\"better\"|\"worse\"|\"higher\"|\"lower\"|(each of them + \"_on_these_questions\": one seed)|
\"not_separable\"|\"not_compared\",\"value\",\"baseline_value\",\"difference\",\"interval\",\"p_value\",\"p_corrected\",
\"hedges_g\",\"cliffs_delta\",\"over\",\"seeds\",\"baseline_seeds\",\"questions\",\"only_arm\",\"only_baseline\",\"without_value\",
\"needs_more_seeds\":{\"least\",\"most\"},\"needs_more_questions\",\"trained_on\",\"note\"}, {\"what\":\"control\",\"control\",
\"components\":[..],\"evaluation\",\"metric\",\"direction\",\"moved\":COMPARISON,\"treatments\":[COMPARISON..]},
{\"what\":\"snapshot_choice\",\"arm\",\"stage\",\"metric\",\"direction\",\"snapshots\":[{\"seed\",\"step\",
\"development\",\"last_development\"}],\"gained\":COMPARISON or null},
{\"what\":\"encoder_swap\",\"evaluation\",\"component\",\"encoders\":[..],\"arms\":[{\"arm\",\"values\":[..],\"trained\":[..]}],
\"agreement\":[{\"one\",\"other\",\"tau\",\"arms\"}]}, {\"what\":\"probes\",\"evaluation\",\"component\",
\"arms\":[{\"arm\",\"probes\":{PROBE:{\"exploit\",\"gap\"}},\"boilerplate\"}]} and {\"what\":\"problem\",\"kind\",\"message\"}, one a line.")]
pub(super) struct CompareArgs {
    /// Ids of runs, their beginnings or ends, or `latest`; their arms are compared with each other.
    #[arg(value_name = "RUN", default_value = "latest")]
    runs: Vec<String>,
    /// The arm that all others are compared with: a variant's name without its seed [default: the recipe's, else
    /// `sft`, else `base`, else the first]
    #[arg(long, value_name = "ARM")]
    baseline: Option<String>,
    /// Only this metric, `accuracy` or `eval/accuracy`; can be repeated. NAME=higher or NAME=lower says which way is
    /// better.
    #[arg(long = "metric", value_name = "NAME", value_parser = metric)]
    metrics: Vec<(String, Option<Direction>)>,
    /// Compare slice by slice too, by this expression of the data set's `by`; can be repeated.
    #[arg(long, value_name = "BY")]
    by: Vec<String>,
    /// All metrics, not only the primary one.
    #[arg(long, conflicts_with = "metrics")]
    all: bool,
}

/// Parses `NAME`, `NAME=higher` or `NAME=lower`.
fn metric(text: &str) -> Result<(String, Option<Direction>), String> {
    if let Some((whole, slice)) = Slice::of_metric(text) {
        return Err(format!("slices are compared together: `--metric {whole} --by '{}'`", slice.by));
    }
    let Some((name, word)) = text.split_once('=') else { return Ok((text.to_owned(), None)) };
    match Direction::named(word) {
        Some(direction) => Ok((name.to_owned(), Some(direction))),
        None => Err(format!("`{word}` is not a direction: expected `higher` or `lower`")),
    }
}

pub(super) fn compare(context: &Context, args: &CompareArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let chosen = find_runs(&runs, &args.runs)?;
    let evidence = gather_answers(&Workspace::open(context.runs())?, &chosen)?;
    let baseline = baseline(&evidence, args.baseline.as_deref())?;
    let by = by(&evidence, &args.by)?;
    let metrics = match metrics(&evidence, &args.metrics)? {
        none if none.is_empty() && !args.all => {
            evidence.primary_metric().into_iter().map(|name| (name, None)).collect()
        }
        chosen => chosen,
    };
    let found = compare_arms(&evidence, &ComparisonRequest { baseline, metrics, primary: None, by });
    let controls = controls(&evidence, &found);
    let choices = choices(&evidence);
    if context.json {
        print_json(&found, &controls, &choices)?;
    } else {
        print(context, &found, (&controls, &choices), args.metrics.is_empty() && !args.all)?;
    }
    print_swaps(context, &evidence, &found)?;
    print_probes(context, &evidence, &found)?;
    ending(&found)
}

/// Returns the name of the arm `wanted`, or of the default baseline.
pub(super) fn baseline(evidence: &Evidence, wanted: Option<&str>) -> Result<String, CliError> {
    let names: Vec<&str> = evidence.arms.iter().map(|arm| arm.name.as_str()).collect();
    if evidence.arms.iter().all(|arm| arm.trials.is_empty()) {
        let reasons = evidence.problems.iter().take(3).map(|problem| problem.message.clone());
        let error = CliError::nothing("no evaluation has a result yet")
            .hint("stages of the kind `eval`, and programs that write `metrics.json`, are compared");
        return Err(reasons.fold(error, CliError::hint));
    }
    if names.len() < 2 {
        return Err(CliError::nothing(format!("there is only one arm, `{}`", names.join("")))
            .hint("add variants to the recipe's sweep, or name several runs; seeds of one variant are one arm"));
    }
    let Some(wanted) = wanted else {
        return Ok(evidence.default_baseline().unwrap_or_else(|| names[0]).to_owned());
    };
    let qualified =
        |arm: &&crate::evidence::Arm| arm.name == wanted || format!("{}/{}", arm.recipe, arm.name) == wanted;
    if let Some(arm) = evidence.arms.iter().find(qualified) {
        return Ok(arm.name.clone());
    }
    // `sft` matches `one/sft`, `two/sft` and `sft@7Q4XZ1`.
    let tail = |name: &str| {
        name.rsplit('/').next().is_some_and(|last| last == wanted || last.split('@').next() == Some(wanted))
    };
    match names.iter().filter(|name| tail(name)).collect::<Vec<_>>().as_slice() {
        [only] => Ok((**only).to_owned()),
        [] => Err(CliError::nothing(format!("no arm is called `{wanted}`")).hint(did_you_mean(wanted, "arms", &names))),
        several => Err(CliError::new(Kind::Usage, format!("`{wanted}` matches {} arms", several.len()))
            .hint(format!("give the full name: {}", several.iter().map(|name| **name).collect::<Vec<_>>().join(", ")))),
    }
}

/// Returns the full names of the requested metrics.
pub(super) fn metrics(
    evidence: &Evidence,
    wanted: &[(String, Option<Direction>)],
) -> Result<Vec<(String, Option<Direction>)>, CliError> {
    let known = metric_names(evidence);
    let full = |(name, direction): &(String, Option<Direction>)| {
        let found =
            known.iter().find(|full| *full == name).or_else(|| known.iter().find(|full| short_name(full) == name));
        found.map(|found| (found.clone(), *direction)).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|full| short_name(full)).collect();
            CliError::nothing(format!("no arm was measured by `{name}`")).hint(did_you_mean(name, "metrics", &names))
        })
    };
    wanted.iter().map(full).collect()
}

/// Returns the expressions of slices that the user named.
fn by(evidence: &Evidence, wanted: &[String]) -> Result<Vec<String>, CliError> {
    let known = slice_names(evidence);
    if let Some(name) = wanted.iter().find(|name| !known.contains(*name)) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let hint = match known.as_slice() {
            [] => "write `by = [...]` in the `[data.NAME]` of an evaluation".to_owned(),
            known => did_you_mean(name, "slices", known),
        };
        return Err(CliError::nothing(format!("no evaluation has slices by `{name}`")).hint(hint));
    }
    Ok(wanted.to_vec())
}

fn print(
    context: &Context,
    found: &Comparisons,
    (controls, choices): (&[ControlComparison], &[SnapshotChoice]),
    only_primary: bool,
) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let several = found.metrics.iter().any(|metric| metric.evaluation != found.metrics[0].evaluation);
    let whole = || found.metrics.iter().filter(|metric| metric.slice.is_none());
    for metric in whole() {
        out.line(verdict_line(metric, &found.baseline, several))?;
    }
    for control in controls {
        out.line(filled(&control_line(control, &found.baseline, several), "  "))?;
    }
    for choice in choices {
        out.line(filled(&choice_line(choice, several), "  "))?;
    }
    if !found.problems.is_empty() {
        out.line("")?;
    }
    for problem in &found.problems {
        out.line(filled(&format!("note: {}", problem.message), "  "))?;
    }
    for metric in whole() {
        let heading = verdict_heading(metric, several);
        out.line(format!("\n{heading}\n{}", verdict_table(metric, &found.baseline).render(width())))?;
    }
    for family in found.metrics.chunk_by(|one, other| one.family() == other.family()) {
        let family: Vec<&MetricComparison> = family.iter().filter(|metric| metric.slice.is_some()).collect();
        if !family.is_empty() {
            let table = slice_table(&family, &found.baseline);
            let fits = table.natural_width() <= width();
            let table = if fits { table.render(width()) } else { table.render_wrapped(width()) };
            out.line(format!("\n{}\n{table}", slice_heading(&family, several)))?;
        }
    }
    out.finish()?;
    if !context.quiet && !found.metrics.is_empty() {
        let mut err = std::io::stderr().lock();
        let (alpha, power) = (found.alpha, found.power);
        let _ = writeln!(
            err,
            "\nbetter and worse: p after Holm's correction over the arms is below {alpha}; needs: for power {power}"
        );
        if only_primary {
            let _ = writeln!(err, "`--all` compares by the other metrics too");
        }
    }
    Ok(())
}

/// Prints the encoder swaps of which at least one encoder is among the compared metrics.
fn print_swaps(context: &Context, evidence: &Evidence, found: &Comparisons) -> Result<(), CliError> {
    let mut out = Output::stdout();
    for swap in evidence.encoder_swaps() {
        let prefix = format!("eval/reward/{}@", swap.component);
        let is_compared =
            |metric: &MetricComparison| metric.evaluation == swap.evaluation && metric.metric.starts_with(&prefix);
        if !found.metrics.iter().any(is_compared) {
            continue;
        }
        if context.json {
            let mut object = json!(swap);
            object["what"] = json!("encoder_swap");
            out.json(&object)?;
        } else {
            out.line(format!("\n{}", swap_table(&swap).render(width())))?;
            for line in swap_agreement(&swap) {
                out.line(line)?;
            }
        }
    }
    out.finish()
}

/// Prints the exploit rates of the components that are compared.
fn print_probes(context: &Context, evidence: &Evidence, found: &Comparisons) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let several = evidence.evaluations().len() > 1;
    for reward in evidence.probed_rewards() {
        let is_compared =
            |metric: &MetricComparison| metric.evaluation == reward.evaluation && reward.is_of(&metric.metric);
        if !found.metrics.iter().any(is_compared) {
            continue;
        }
        if context.json {
            let mut object = json!(reward);
            object["what"] = json!("probes");
            out.json(&object)?;
        } else {
            let table = probe_table(&reward).render(width());
            out.line(format!("\n{}\n{table}", probe_heading(&reward, several)))?;
        }
    }
    out.finish()
}

fn print_json(found: &Comparisons, controls: &[ControlComparison], choices: &[SnapshotChoice]) -> Result<(), CliError> {
    let mut out = Output::stdout();
    for metric in &found.metrics {
        for row in &metric.arms {
            let mut object = json!(row);
            let MetricComparison { evaluation, metric, slice, role, direction, .. } = metric;
            object["baseline_value"] = object["baseline"].take();
            object["what"] = json!("comparison");
            object["evaluation"] = json!(evaluation);
            object["metric"] = json!(metric);
            if let Some(slice) = slice {
                object["slice"] = json!(slice);
            }
            object["role"] = json!(role);
            object["direction"] = json!(direction);
            object["baseline"] = json!(found.baseline);
            out.json(&object)?;
        }
    }
    for control in controls {
        let mut object: Value = json!(control);
        object["what"] = json!("control");
        out.json(&object)?;
    }
    for choice in choices {
        let mut object: Value = json!(choice);
        object["what"] = json!("snapshot_choice");
        out.json(&object)?;
    }
    for problem in &found.problems {
        let mut object: Value = json!(problem);
        object["what"] = json!("problem");
        out.json(&object)?;
    }
    out.finish()
}

/// Fails if nothing could be compared. Parts that could not be compared are reported in the table.
fn ending(found: &Comparisons) -> Result<(), CliError> {
    let compared = |metric: &MetricComparison| metric.arms.iter().any(|row| row.verdict != Verdict::NotCompared);
    if found.metrics.iter().any(compared) {
        return Ok(());
    }
    let reason = found.metrics.iter().flat_map(|metric| &metric.arms).find_map(|row| row.note.clone());
    let reason = reason.unwrap_or_else(|| format!("no other arm has the measurements of `{}`", found.baseline));
    Err(CliError::nothing(format!("nothing can be compared with `{}`: {reason}", found.baseline))
        .hint("arms are compared on questions that both answered, matched by their text"))
}
