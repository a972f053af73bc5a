//! Runs the program from its command line to its exit code.

use super::commands::{Cli, Command};
use super::context::Context;
use super::error::{CliError, Kind};
use super::{
    arena, cache, cancel, check, compare, completions, cost, db, diff, doctor, explain, export, help, history, init,
    keys, logs, man, metrics, model, plan, query, report, resume, rewards, run, runs, samples, schema, score, serve,
    show, verify,
};
use crate::exec::{RUN_COMMAND_STAGE, run_command_stage};
use clap::FromArgMatches as _;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Runs the command line `args`. The first argument is the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // The dispatcher's call for a `command` stage is not a documented command.
    if let [_, word, dir] = args.as_slice()
        && word == RUN_COMMAND_STAGE
    {
        return ExitCode::from(run_command_stage(Path::new(dir)));
    }
    let parsed = help::command().try_get_matches_from(args);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` take this path too, for stdout. The reader may have closed the pipe.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Kind::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    let json = cli.global.json;
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(json, crate::report::text_width()),
    }
}

fn dispatch(cli: Cli) -> Result<(), CliError> {
    let context = Context::enter(&cli.global)?;
    match cli.command {
        Command::Run(args) => run::run(&context, &args),
        Command::Plan(args) => plan::plan(&context, &args),
        Command::Explain(args) => explain::explain(&context, &args),
        Command::Check(args) => check::check(&context, &args),
        Command::Init(args) => init::init(&context, &args),
        Command::Resume(args) => resume::resume(&context, &args),
        Command::Cancel(args) => cancel::cancel(&context, &args),
        Command::History(args) => history::history(&context, &args),
        Command::Runs(args) => runs::runs(&context, &args),
        Command::Show(args) => show::show(&context, &args),
        Command::Diff(args) => diff::diff(&context, &args),
        Command::Compare(args) => compare::compare(&context, &args),
        Command::Arena(args) => arena::arena(&context, &args),
        Command::Cost(args) => cost::cost(&context, &args),
        Command::Metrics(args) => metrics::metrics(&context, &args),
        Command::Samples(args) => samples::samples(&context, &args),
        Command::Logs(args) => logs::logs(&context, &args),
        Command::Serve(args) => serve::serve(&context, &args),
        Command::Report(args) => report::report(&context, &args),
        Command::Query(args) => query::query(&context, &args),
        Command::Export(args) => export::export(&context, &args),
        Command::Db(args) => db::db(&context, &args),
        Command::Model(args) => model::model(&context, args),
        Command::Score(args) => score::score(&context, args),
        Command::Rewards(args) => rewards::rewards(&context, &args),
        Command::Keys(args) => keys::keys(&context, &args),
        Command::Verify(args) => verify::verify(&context, &args),
        Command::Cache(args) => cache::cache(&context, &args),
        Command::Schema(args) => schema::schema(&args),
        Command::Man(args) => man::man(&context, &args),
        Command::Completions(args) => completions::completions(&args),
        Command::Doctor(args) => doctor::doctor(&context, &args),
    }
}
