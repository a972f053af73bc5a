//! The command line as a whole: every command with its arguments.

use super::args::GlobalArgs;
use super::{
    arena, cache, cancel, check, compare, completions, cost, db, diff, doctor, explain, export, history, init, keys,
    logs, man, metrics, model, plan, query, report, resume, rewards, run, runs, samples, schema, score, serve, show,
    verify,
};
use clap::{Parser, Subcommand};

/// Turns TOML recipes into trained models and trustworthy comparisons.
///
/// A recipe describes stages (cpt, sft, grpo, eval, command, arena) and a sweep over variants. Every stage is cached by
/// the content that goes into it, every run is remembered, and an interrupted stage goes on where it stopped.
#[derive(Debug, Parser)]
#[command(
    name = "orchestrate",
    version,
    max_term_width = 100,
    after_help = "\
Start here:
  orchestrate init                       write a recipe with comments, and data for it
  orchestrate plan recipes/demo.toml     what would run, and what is cached already
  orchestrate run recipes/demo.toml      run it
  orchestrate history                    list past runs
  orchestrate resume                     continue after Ctrl-C, a crash or a failure

Results and logs are in `runs/`. `--runs-dir`, `$ORCHESTRATE_RUNS` or the key `runs_dir` in the project's file
`orchestrate.toml` name another directory.

stdout is data, stderr is status. Exit codes: 0 ok, 1 internal error, 2 usage, 3 recipe,
4 a stage failed, 5 nothing matched, 6 corrupt cache, 7 a rerun differs, 130 interrupted."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run recipes; what is cached is not run again.
    Run(run::RunArgs),
    /// Show the stages of recipes, and which are cached.
    Plan(plan::PlanArgs),
    /// Show how a stage differs from the nearest result in the cache.
    Explain(explain::ExplainArgs),
    /// Check recipes and the files they name; run nothing.
    Check(check::CheckArgs),
    /// Write a commented recipe to start from.
    Init(init::InitArgs),
    /// Continue an interrupted or failed run.
    Resume(resume::ResumeArgs),
    /// Stop a run that another terminal started; it can be resumed.
    Cancel(cancel::CancelArgs),
    /// List the stages of past runs.
    History(history::HistoryArgs),
    /// Show one run: its stages, failures and results.
    Show(show::ShowArgs),
    /// List runs, or remove the records of some.
    Runs(runs::RunsArgs),
    /// Compare two runs: recipes, what they ran on, results.
    Diff(diff::DiffArgs),
    /// Compare arms with a baseline: better, worse, or how many more seeds are needed.
    Compare(compare::CompareArgs),
    /// Show an arena's ratings, the wins of each pair of players, and how far its judges agree.
    Arena(arena::ArenaArgs),
    /// Show what runs cost: time, tokens, judges, and what the cache saved.
    Cost(cost::CostArgs),
    /// Show a run's metrics over its steps.
    Metrics(metrics::MetricsArgs),
    /// Show completions that were sampled and how they were rated.
    Samples(samples::SamplesArgs),
    /// Print what the workers of a run wrote to their logs.
    Logs(logs::LogsArgs),
    /// Show runs in a browser, as they go.
    Serve(serve::ServeArgs),
    /// Write a report of runs: one page, or tables and charts for papers.
    Report(report::ReportArgs),
    /// Query the history in SQL.
    Query(query::QueryArgs),
    /// Write runs in formats of other programs: CSV, JSON, Parquet, TensorBoard.
    Export(export::ExportArgs),
    /// Rebuild the history's database.
    Db(db::DbArgs),
    /// Query a model: log-probabilities, embeddings, completions; or merge an adapter into it.
    Model(model::ModelArgs),
    /// Rate texts with a stage's rewards, before or after training on them.
    Score(score::ScoreArgs),
    /// Explain the reward components: what each measures, and its keys.
    Rewards(rewards::RewardsArgs),
    /// Explain the keys of a recipe: what each does, its values and its default.
    Keys(keys::KeysArgs),
    /// Rerun a stage and compare its result with the cached one.
    Verify(verify::VerifyArgs),
    /// List, verify, pin or remove cached checkpoints.
    Cache(cache::CacheArgs),
    /// Print the JSON schema of recipes.
    Schema(schema::SchemaArgs),
    /// Print the manual, or write a page for each command.
    Man(man::ManArgs),
    /// Print shell completions.
    Completions(completions::CompletionsArgs),
    /// Check that this machine can run stages.
    Doctor(doctor::DoctorArgs),
}
