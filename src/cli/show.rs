//! `orchestrate show RUN`.

use super::context::Context;
use super::error::CliError;
use super::find::{find_run, past_runs};
use super::output::Output;
use super::{history, run_rows};
use crate::event::MemoryUse;
use crate::history::{LoggedPlan, PastRun, arena_result, stage_spec};
use crate::number::gib;
use crate::recipe::spec::Work;
use crate::report::{Column, Comparison, ComparisonRow, Table, arena_table, measured_slices, width};
use crate::stage::{StageKind, StageStatus};
use crate::workspace::Workspace;
use clap::Args;

/// Which run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate show latest
  orchestrate show 7Q4XZ1           the end (or the beginning) of a run's id
  orchestrate show latest --json    the lines of `history --json`, for this run")]
pub(super) struct ShowArgs {
    /// A run's id, the beginning or end of one, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
}

pub(super) fn show(context: &Context, args: &ShowArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let past = find_run(&runs, &args.run)?;
    let mut rows = run_rows::stage_rows(context, Some(past))?;
    if context.json {
        return history::print_default(context, &rows);
    }
    for row in rows.iter_mut().filter(|row| row.status == StageStatus::Running) {
        row.message = run_rows::progress(context, &row.key)?;
    }
    let mut out = Output::stdout();
    out.line(format!("run {}  {}", past.run, past.status))?;
    let invocation = &past.invocation;
    for recipe in &invocation.recipes {
        out.line(format!("recipe   {}", context.shown(&past.log_dir.join("recipes").join(recipe))))?;
    }
    for (what, values) in [("set", &invocation.set), ("variant", &invocation.variants), ("only", &invocation.only)] {
        for value in values {
            out.line(format!("{what:<8} {value}"))?;
        }
    }
    if let Some(resumed) = &invocation.resumes {
        out.line(format!("resumes  {resumed}"))?;
    }
    out.line("")?;
    out.finish()?;
    history::print_default(context, &rows)?;
    let memory = memory(&rows);
    if !memory.is_empty() {
        Output::stdout().line(format!("\n{}", memory.render(width())))?;
    }
    let comparison = comparison(&Workspace::open(context.runs())?, past, &rows)?;
    let mut out = Output::stdout();
    for (key, failed) in run_rows::failed_tries(past)? {
        let name = rows.iter().find(|row| row.key == key).map_or("", |row| row.stage.as_str());
        out.line(format!("{name}  {failed}"))?;
    }
    if !comparison.rows.is_empty() {
        out.line(format!("\n{}", comparison.render(width())))?;
    }
    for (title, table) in measured_slices(&comparison.rows) {
        let fits = table.natural_width() <= width();
        let table = if fits { table.render(width()) } else { table.render_wrapped(width()) };
        out.line(format!("\n{title}\n{table}"))?;
    }
    let workspace = Workspace::open(context.runs())?;
    for row in rows.iter().filter(|row| row.kind == StageKind::Arena) {
        if let Some(result) = arena_result(&workspace, &row.key)? {
            out.line(format!("\n{}", arena_table(&row.stage, &result, width())))?;
        }
    }
    let mut gap = "\n";
    for row in &rows {
        if let Some(file) = run_rows::completions_file(context, &row.key)? {
            out.line(format!("{gap}completions of {}  {}", row.stage, context.shown(&file)))?;
            gap = "";
        }
    }
    out.finish()
}

/// Returns a table of the peak memory of the stages that ran, beside the planned memory.
fn memory(rows: &[run_rows::StageRow]) -> Table {
    let headings = ["peak memory", "planned", "GPU"].map(Column::right);
    let mut table =
        Table::new([Column::left("stage"), Column::left("variant").shortened()].into_iter().chain(headings).collect());
    for row in rows {
        let Some(MemoryUse { peak, planned_bytes }) = row.memory else { continue };
        let bytes = [Some(peak.resident_bytes), planned_bytes, peak.gpu_bytes];
        let cells = bytes.map(|bytes| bytes.map(gib).unwrap_or_default());
        table.push([row.stage.clone(), row.variant.clone()].into_iter().chain(cells).collect());
    }
    table
}

/// Returns the run's evaluations that have a result.
fn comparison(workspace: &Workspace, past: &PastRun, rows: &[run_rows::StageRow]) -> Result<Comparison, CliError> {
    let plan = LoggedPlan::load(&past.log_dir)?;
    let mut comparison = Comparison::default();
    for variant in &plan.variants {
        let own = |row: &&run_rows::StageRow| variant.stages.values().any(|key| *key == row.key);
        let hits = rows.iter().filter(own).filter(|row| row.status == StageStatus::Cached).count();
        let seconds = rows.iter().filter(own).filter_map(|row| row.seconds).sum();
        for row in rows.iter().filter(own).filter(|row| row.kind == StageKind::Eval && !row.metrics.is_empty()) {
            let stage = variant.stages.iter().find(|(_, key)| **key == row.key);
            let measured = ComparisonRow {
                variant: variant.label.clone(),
                stage: stage.map_or_else(|| row.stage.clone(), |(name, _)| name.clone()),
                measurements: row.metrics.clone(),
                seconds,
                hits: (hits, variant.stages.len()),
                ..ComparisonRow::default()
            };
            comparison.rows.push(match stage_spec(workspace, &row.key).map(|spec| spec.work) {
                Some(Work::Eval(eval)) => measured.marked(&eval),
                _ => measured,
            });
        }
    }
    Ok(comparison)
}
