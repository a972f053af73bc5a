//! `orchestrate completions SHELL`.

use super::error::CliError;
use super::help;
use super::output::Output;
use clap::Args;
use clap_complete::Shell;

/// Which shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  orchestrate completions bash > ~/.local/share/bash-completion/completions/orchestrate"
)]
pub(super) struct CompletionsArgs {
    /// The shell that completes.
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command(), "orchestrate", &mut script);
    let mut out = Output::stdout();
    out.bytes(&script)?;
    out.finish()
}
