//! `orchestrate man`.

use super::args::Cli;
use super::context::Context;
use super::error::CliError;
use super::output::Output;
use clap::{Args, CommandFactory as _};
use std::path::PathBuf;

/// Where to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate man -o ~/.local/share/man/man1 && man orchestrate-run
  orchestrate man | man -l -                 the page of the program itself")]
pub(super) struct ManArgs {
    /// Write a page for each command into DIR [default: the program's own page, to stdout]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn man(context: &Context, args: &ManArgs) -> Result<(), CliError> {
    let command = Cli::command();
    let mut out = Output::stdout();
    let Some(directory) = &args.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        out.bytes(&page)?;
        return out.finish();
    };
    fs_err::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)?;
    let pages = fs_err::read_dir(directory)?.count();
    out.line(format!("{} pages in {}", pages, context.shown(directory)))?;
    out.finish()
}
