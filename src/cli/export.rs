//! `orchestrate export RUN...`.

use super::context::{Context, block_on};
use super::error::CliError;
use super::find::{find_run, past_runs};
use super::open_history;
use super::output::Output;
use super::plan::count;
use crate::export::{EventFile, TableFormat, TableWriter};
use crate::history::{LoggedPlan, LoggedStage, PastRun, Scope};
use crate::store::{Store, VIEWS};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Which runs, and as what.
#[derive(Debug, Args)]
#[command(after_help = "\
csv, json (one object a line) and parquet write a file for each view of the history: runs, stages, metrics,
results, completions, rewards and cache, with the columns that `orchestrate query --schema` explains, of
the chosen runs. tensorboard writes the metrics of each stage as scalars over its steps, a directory
for each stage: DIR/RUN/STAGE/.

Examples:
  orchestrate export latest --format parquet -o out
  duckdb -c \"SELECT name, max(value) FROM 'out/results.parquet' GROUP BY name\"
  orchestrate export 7Q4XZ1 8R5YA2 --format csv -o out
  orchestrate export latest --format tensorboard -o tb && tensorboard --logdir tb

Files of an earlier export are replaced. --json prints {\"file\",\"rows\"}, one a line; a row of an event file
is a scalar.")]
pub(super) struct ExportArgs {
    /// Ids of runs, beginnings or ends of them, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    runs: Vec<String>,
    /// What is written.
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// Output directory; created if it is missing.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values with a heading (RFC 4180).
    Csv,
    /// One object a line.
    Json,
    /// Apache Parquet.
    Parquet,
    /// Event files with scalars.
    Tensorboard,
}

pub(super) fn export(context: &Context, args: &ExportArgs) -> Result<(), CliError> {
    let all = past_runs(context)?;
    let mut runs = args.runs.iter().map(|wanted| find_run(&all, wanted)).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by(|a, b| a.run.cmp(&b.run));
    runs.dedup_by(|a, b| a.run == b.run);
    fs_err::create_dir_all(&args.output)?;
    let format = match args.format {
        Format::Csv => TableFormat::Csv,
        Format::Json => TableFormat::Json,
        Format::Parquet => TableFormat::Parquet,
        Format::Tensorboard => {
            return block_on(async {
                let store = open_history::open(context, Scope::Runs).await?;
                event_files(context, &store, &runs, &args.output).await
            });
        }
    };
    block_on(async {
        let store = open_history::open(context, Scope::Everything).await?;
        tables(context, &store, &runs, &args.output, format).await
    })
}

/// Writes a file for each view.
async fn tables(
    context: &Context,
    store: &Store,
    runs: &[&PastRun],
    dir: &Path,
    format: TableFormat,
) -> Result<(), CliError> {
    let ids = json!(runs.iter().map(|past| &past.run).collect::<Vec<_>>()).to_string();
    let mut out = Output::stdout();
    for view in VIEWS {
        let of_runs = "run IN (SELECT value FROM json_each(?))";
        let (condition, order) = match view.name {
            "runs" => (of_runs.to_owned(), "run"),
            "stages" => (of_runs.to_owned(), "run, position"),
            name => {
                let order = match name {
                    "metrics" => "key, step, name",
                    "results" => "key, name",
                    "completions" => "key, step, completion_id",
                    "rewards" => "key, step, completion_id, component",
                    _ => "key",
                };
                (format!("key IN (SELECT key FROM stages WHERE {of_runs})"), order)
            }
        };
        let columns: Vec<&str> = view.columns.iter().map(|column| column.name).collect();
        let (columns, name) = (columns.join(", "), view.name);
        let sql = format!("SELECT {columns} FROM {name} WHERE {condition} ORDER BY {order}");
        let mut table = TableWriter::create(dir, view, format)?;
        store.for_each_row(&sql, std::slice::from_ref(&ids), |row| table.push(row).map_err(CliError::from)).await?;
        let (path, rows) = table.finish()?;
        tell(context, &mut out, &path, rows, "row")?;
    }
    out.finish()
}

/// Writes an event file for each stage that has metrics.
async fn event_files(context: &Context, store: &Store, runs: &[&PastRun], dir: &Path) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let mut found = false;
    for past in runs {
        let plan = LoggedPlan::load(&past.log_dir)?;
        for stage in &plan.stages {
            let dir = dir.join(&past.run).join(directory(&plan, stage));
            if let Some((path, scalars)) = event_file(store, stage.key.as_str(), &dir).await? {
                found = true;
                tell(context, &mut out, &path, scalars, "scalar")?;
            }
        }
    }
    out.finish()?;
    if found {
        return Ok(());
    }
    Err(CliError::nothing("no stage of these runs has metrics yet").hint("steps come with training"))
}

/// The scalars of a step, and when it ended in seconds since 1970.
struct Point {
    at: f64,
    step: u64,
    scalars: Vec<(String, f64)>,
}

async fn event_file(store: &Store, key: &str, dir: &Path) -> Result<Option<(PathBuf, u64)>, CliError> {
    // The name is fixed, because TensorBoard would combine several files.
    let path = dir.join("events.out.tfevents.0.orchestrate");
    let part = dir.join("scalars.part");
    let mut file = None;
    let mut point: Option<Point> = None;
    let mut scalars = 0;
    let sql = "SELECT step, name, value, unixepoch(at, 'subsec') FROM metrics WHERE key = ? ORDER BY step, name";
    store
        .for_each_row(sql, &[key.to_owned()], |row| {
            let [number, name, value, at] = row.as_slice() else { return Ok(()) };
            let (number, at) = (number.as_u64().unwrap_or_default(), at.as_f64().unwrap_or_default());
            let scalar = (name.as_str().unwrap_or_default().to_owned(), value.as_f64().unwrap_or(f64::NAN));
            if file.is_none() {
                fs_err::create_dir_all(dir)?;
                file = Some(EventFile::create(&part, at)?);
            }
            let file = file.as_mut().expect("made above");
            scalars += 1;
            match &mut point {
                Some(point) if point.step == number => point.scalars.push(scalar),
                _ => {
                    if let Some(done) = point.replace(Point { at, step: number, scalars: vec![scalar] }) {
                        file.push(done.at, done.step, &done.scalars)?;
                    }
                }
            }
            Ok::<_, CliError>(())
        })
        .await?;
    let (Some(mut file), Some(last)) = (file, point) else { return Ok(None) };
    file.push(last.at, last.step, &last.scalars)?;
    file.finish()?;
    fs_err::rename(&part, &path)?;
    Ok(Some((path, scalars)))
}

/// Returns the name of a stage's directory. If several stages share its name, it includes the variant or the key.
fn directory(plan: &LoggedPlan, stage: &LoggedStage) -> String {
    let shares = plan.stages.iter().filter(|other| other.stage == stage.stage).count() > 1;
    let name = match stage.variants.as_slice() {
        _ if !shares => stage.stage.clone(),
        [variant] => format!("{}.{variant}", stage.stage),
        _ => format!("{}.{}", stage.stage, stage.key.short()),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-=,".contains(c);
    name.chars().map(|c| if is_plain(c) { c } else { '-' }).collect()
}

fn tell(context: &Context, out: &mut Output, path: &Path, rows: u64, noun: &str) -> Result<(), CliError> {
    if context.json {
        return out.json(&json!({"file": path, "rows": rows}));
    }
    let rows = count(usize::try_from(rows).unwrap_or(usize::MAX), noun);
    out.line(format!("{}  {rows}", context.shown(path)))
}
