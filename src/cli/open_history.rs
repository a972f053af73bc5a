//! Opens the history for commands.

use super::context::Context;
use super::error::CliError;
use super::find::warn_of;
use super::plan::count;
use crate::history::{Indexed, Scope, open_history};
use crate::store::Store;
use crate::workspace::Workspace;
use std::io::Write as _;

/// Opens the history, up to date with the files. Reports updates and problems on stderr.
pub(super) async fn open(context: &Context, scope: Scope) -> Result<Store, CliError> {
    let opened = open_history(&Workspace::open(context.runs())?, scope).await?;
    for damage in &opened.indexed.damage {
        warn_of(damage);
    }
    let mut err = std::io::stderr().lock();
    // A failed write to stderr cannot be reported.
    if let Some(problem) = opened.problem {
        let problem = CliError::from(problem);
        let _ = writeln!(err, "warning: {}", problem.sentence());
        let _ = writeln!(err, "  everything was read from the files instead; queries do so until this is solved");
        for hint in problem.hints() {
            let _ = writeln!(err, "hint: {hint}");
        }
    } else if !context.quiet && (opened.indexed.runs > 0 || opened.indexed.stages > 0) {
        let _ = writeln!(err, "history brought up to date: {}", read(&opened.indexed));
    }
    Ok(opened.store)
}

/// Formats the counts: `2 runs and the events of 5 stages read`.
pub(super) fn read(indexed: &Indexed) -> String {
    let &Indexed { runs, stages, unreadable_lines, .. } = indexed;
    let unreadable = match unreadable_lines {
        0 => String::new(),
        n => format!("; {n} unreadable lines were left out"),
    };
    format!("{} and the events of {} read{unreadable}", count(runs, "run"), count(stages, "stage"))
}
