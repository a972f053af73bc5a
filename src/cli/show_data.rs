//! `orchestrate check --show-data`: the data of each stage, read by the worker, which has the tokenizer.

use super::context::Context;
use super::error::{CliError, Kind};
use super::output::Output;
use super::plan::count;
use crate::digest::Digest;
use crate::exec::{DataReport, ExecError, Inspection, WorkerBinary, inspect_data};
use crate::plan::{Plan, PlannedStage, planned};
use crate::recipe::spec::StageSpec;
use crate::report::{Column, Table, masked, width};
use crate::run::assignment;
use crate::stage::StageKind;
use crate::workspace::{Assignment, Workspace, inspection_key};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;

/// The largest size of files, in bytes, that are read without `--show-data`. Counting the tokens of larger ones takes
/// more than a few seconds.
const MOST_BYTES: u64 = 64 << 20;

/// Shows the data of every stage of `plan`. Stages that read the same data are shown once.
///
/// # Errors
/// A stage would refuse its data or its model.
pub(super) fn show_data(context: &Context, plan: &Plan, out: &mut Output) -> Result<(), CliError> {
    let (_, assignments): (Vec<Value>, Vec<Assignment>) =
        distinct(context, plan, plan.stages.iter())?.into_iter().unzip();
    let inspections = inspect_data(&WorkerBinary::find()?, &assignments)?;
    if context.json {
        for inspection in &inspections {
            out.json(&json!(inspection))?;
        }
    } else {
        print(context, &inspections, out)?;
    }
    refusal(&inspections)
}

/// Lets the worker check the models and data of `stages` of `plan`. Leaves out large files and those that have passed
/// before.
///
/// # Errors
/// A stage would refuse its data or its model.
pub(super) fn refuse_data<'a>(
    context: &Context,
    worker: &WorkerBinary,
    plan: &Plan,
    stages: impl Iterator<Item = &'a PlannedStage>,
) -> Result<(), CliError> {
    let is_small = |stage: &&PlannedStage| {
        let sizes = stage.inputs.values().filter_map(|path| fs_err::metadata(path).ok());
        sizes.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum::<u64>() <= MOST_BYTES
    };
    let workspace = Workspace::open(context.runs())?;
    let mut memo = workspace.inspected();
    let mut digests = workspace.digests();
    let program = digests.file(worker.program())?;
    digests.save();
    let mut assignments = Vec::new();
    let mut keys = Vec::new();
    for (reads, assignment) in distinct(context, plan, stages.filter(is_small))? {
        let key = inspection_key(&reads, &program);
        if !memo.has_passed(&key) {
            assignments.push(assignment);
            keys.push(key);
        }
    }
    if assignments.is_empty() {
        return Ok(());
    }
    match inspect_data(worker, &assignments) {
        Ok(inspections) => {
            for (inspection, key) in inspections.iter().zip(keys) {
                if inspection.failure.is_none() {
                    memo.pass(key);
                }
            }
            memo.save();
            refusal(&inspections)
        }
        // If the worker cannot start, the failure of the stage itself is more informative.
        Err(error) => {
            warn_not_inspected(&error);
            Ok(())
        }
    }
}

/// Warns that models and data were not checked.
pub(super) fn warn_not_inspected(error: &ExecError) {
    // A failed write to stderr cannot be reported.
    let _ = writeln!(std::io::stderr(), "warning: models and data were not checked: {error}");
}

/// Returns the assignments of those of `stages` that need a worker, with the settings that determine their data.
/// Stages that read the same data are returned once.
fn distinct<'a>(
    context: &Context,
    plan: &Plan,
    stages: impl Iterator<Item = &'a PlannedStage>,
) -> Result<Vec<(Value, Assignment)>, CliError> {
    let workspace = Workspace::open(context.runs())?;
    let mut found: Vec<(Value, Assignment)> = Vec::new();
    for stage in stages.filter(|stage| stage.program.is_none()) {
        let sources: Vec<&Digest> = stage.data_stages().iter().map(|&source| &plan.stages[source].key).collect();
        let reads = if sources.is_empty() { reads(&stage.spec) } else { json!([reads(&stage.spec), sources]) };
        let assignment = assignment(stage, plan, &workspace);
        // What another stage has not written yet cannot be looked at.
        let is_there = assignment.results.values().all(|path| path.is_file());
        if is_there && !found.iter().any(|(known, _)| *known == reads) {
            found.push((reads, assignment));
        }
    }
    Ok(found)
}

fn refusal(inspections: &[Inspection]) -> Result<(), CliError> {
    let failures = inspections.iter().filter_map(|inspection| Some((inspection, inspection.failure.as_ref()?)));
    let refused: Vec<String> =
        failures.clone().map(|(inspection, failure)| format!("`{}`: {}", inspection.stage, failure.message)).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let error = CliError::new(Kind::Recipe, format!("stages would refuse to start: {}", refused.join("\n  ")));
    let mut hints: Vec<String> = failures.filter_map(|(_, failure)| failure.hint.clone()).collect();
    hints.dedup();
    Err(hints.into_iter().fold(error, CliError::hint))
}

/// Returns the settings that determine which tokens a stage reads.
fn reads(spec: &StageSpec) -> Value {
    json!([spec.model.as_ref().map(|model| &model.files), planned(&spec.work).reads()])
}

fn print(context: &Context, inspections: &[Inspection], out: &mut Output) -> Result<(), CliError> {
    let mut table = Table::new(vec![
        Column::left("stage"),
        Column::left("data").shortened(),
        Column::right("weight"),
        Column::right("rows"),
        Column::right("packed into"),
        Column::right("tokens"),
        Column::right("trained"),
        Column::right("EOS trained"),
        Column::right("cut"),
        Column::right("duplicates"),
        Column::right("p50"),
        Column::right("p95"),
        Column::right("longest"),
    ]);
    for inspection in inspections {
        for report in &inspection.data {
            table.push(cells(context, inspection, report));
        }
    }
    if !table.is_empty() {
        out.line(table.render(width()))?;
    }
    for inspection in inspections {
        for DataReport { example, .. } in &inspection.data {
            let place = example.location.replace(&format!("{}/", context.project().display()), "");
            out.line(format!("\n── {}: {place}", inspection.stage))?;
            out.line(masked(example.spans.iter().map(|span| (span.text.as_str(), span.trained))))?;
        }
    }
    let stages = count(inspections.len(), "stage");
    out.line(format!("\n{stages}; what carries loss is underlined, or in ⟦ ⟧ without colour"))
}

fn cells(context: &Context, inspection: &Inspection, report: &DataReport) -> Vec<String> {
    let percent = |share: Option<f64>| share.map(|share| format!("{:.1}%", 100.0 * share)).unwrap_or_default();
    let positive = |count: usize| if count == 0 { String::new() } else { count.to_string() };
    let files: Vec<String> = report.files.iter().map(|file| context.shown(Path::new(file)).to_string()).collect();
    vec![
        inspection.stage.clone(),
        files.join(" "),
        if inspection.data.len() > 1 && inspection.kind != StageKind::Eval {
            percent(Some(report.weight))
        } else {
            String::new()
        },
        match report.decontaminated_rows {
            0 => report.rows.to_string(),
            dropped => format!("{} ({dropped} dropped)", report.rows),
        },
        report.packed_rows.map(|rows| rows.to_string()).unwrap_or_default(),
        report.tokens.to_string(),
        percent(report.trained_share()),
        percent(report.eos_trained),
        positive(report.cut_rows),
        positive(report.duplicate_rows),
        report.tokens_p50.to_string(),
        report.tokens_p95.to_string(),
        report.tokens_max.to_string(),
    ]
}
