//! `orchestrate report`: selects the runs and writes the output.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::find::{find_run, past_runs};
use crate::cli::output::Output;
use crate::report::html::{DEFAULT_COMPLETIONS, Report, html_page};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Which runs, and as what.
#[derive(Debug, Args)]
#[command(after_help = "\
html is one page that needs no network. Problems that limit what the numbers mean come first. Then come the verdict with
its intervals, ratings of arenas, every component of every arm, learning curves and signs of reward hacking. Completions
side by side, stages, costs, recipes and the environment follow.
md and latex have only the tables, for papers (LaTeX needs the package booktabs); svg is a folder of charts.

Examples:
  orchestrate report latest
  orchestrate report 7Q4XZ1 8R5YA2 --baseline sft -o grid.html
  orchestrate report latest --format latex > results.tex
  orchestrate report latest --format svg -o figures

Reports of the same runs are identical. An existing report is replaced once the new one is complete.
--json prints {\"file\",\"bytes\"}, one a line.")]
pub(in crate::cli) struct ReportArgs {
    /// Ids of runs, beginnings or ends of them, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    runs: Vec<String>,
    /// The file, for svg the folder [default: report.html; md and latex go to stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The arm that the others are compared with [default: the recipe's, else `sft`, else `base`, else the first]
    #[arg(long, value_name = "ARM")]
    baseline: Option<String>,
    /// The metric that decides [default: the recipe's, else accuracy, else the first that means the same in all arms]
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// What is written.
    #[arg(long, value_name = "FORMAT", default_value = "html")]
    format: Format,
    /// Largest number of completions in the page; further questions are left out evenly, and the page says so.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_COMPLETIONS)]
    completions: usize,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A page.
    Html,
    /// Tables in Markdown.
    Md,
    /// Tables in LaTeX.
    Latex,
    /// Charts.
    Svg,
}

pub(in crate::cli) fn report(context: &Context, args: &ReportArgs) -> Result<(), CliError> {
    let all = past_runs(context)?;
    let mut runs = args.runs.iter().map(|wanted| find_run(&all, wanted)).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by(|a, b| a.run.cmp(&b.run));
    runs.dedup_by(|a, b| a.run == b.run);
    let wanted = super::gather::Wanted {
        baseline: args.baseline.as_deref(),
        metric: args.metric.as_deref(),
        completions: if args.format == Format::Html { args.completions } else { 1 },
    };
    let report = super::gather::gather(context, &runs, &all, &wanted)?;
    let text = match args.format {
        Format::Html => html_page(&report).map_err(|error| CliError::from_error(Kind::Internal, &error))?,
        Format::Md => super::paper::markdown(&report),
        Format::Latex => super::paper::latex(&report),
        Format::Svg => return charts(context, args, &report),
    };
    let path = match (&args.output, args.format) {
        (Some(path), _) => path.clone(),
        (None, Format::Html) => PathBuf::from("report.html"),
        (None, _) => {
            let mut out = Output::stdout();
            out.bytes(text.as_bytes())?;
            return out.finish();
        }
    };
    super::write::whole(&path, text.as_bytes())?;
    tell_problems(context, &report);
    tell(context, &[(path, text.len())])
}

/// Renders the page of the run with this id, with the default options of `report`.
pub(in crate::cli) fn page(context: &Context, run: &str) -> Result<String, CliError> {
    let all = past_runs(context)?;
    let run = find_run(&all, run)?;
    let wanted = super::gather::Wanted { baseline: None, metric: None, completions: DEFAULT_COMPLETIONS };
    let report = super::gather::gather(context, &[run], &all, &wanted)?;
    html_page(&report).map_err(|error| CliError::from_error(Kind::Internal, &error))
}

/// Writes the charts into a folder.
pub(super) fn charts(context: &Context, args: &ReportArgs, report: &Report) -> Result<(), CliError> {
    let dir = args
        .output
        .as_deref()
        .ok_or_else(|| CliError::new(Kind::Usage, "charts need a folder").hint("name it: `--format svg -o figures`"))?;
    let mut written = Vec::new();
    for (name, chart) in super::paper::charts(report) {
        let path = dir.join(name);
        super::write::whole(&path, chart.as_bytes())?;
        written.push((path, chart.len()));
    }
    tell(context, &written)
}

/// Reports the problems of a report on stderr, one line each.
pub(super) fn tell_problems(context: &Context, report: &Report) {
    if !context.quiet && !report.problems.is_empty() {
        // A failed write to stderr cannot be reported.
        let mut err = std::io::stderr().lock();
        for problem in &report.problems {
            let _ = writeln!(err, "warning: {}", problem.what);
        }
    }
}

pub(super) fn tell(context: &Context, written: &[(PathBuf, usize)]) -> Result<(), CliError> {
    let mut out = Output::stdout();
    for (path, bytes) in written {
        if context.json {
            out.json(&json!({"file": path, "bytes": bytes}))?;
        } else {
            out.line(format!("{}  {}", context.shown(path), size(*bytes)))?;
        }
    }
    out.finish()
}

pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Returns the end of a run's id, as in tables.
pub(super) fn short_run(run: &str) -> String {
    crate::cli::history::short_run(run).to_owned()
}

/// Formats `path` relative to `base`.
pub(super) fn below(path: &Path, base: &Path) -> String {
    path.strip_prefix(base).unwrap_or(path).display().to_string()
}
