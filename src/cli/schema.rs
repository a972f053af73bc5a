//! `orchestrate schema`.

use super::error::CliError;
use super::output::Output;
use clap::Args;

/// Of what.
#[derive(Debug, Args)]
#[command(after_help = "\
Editors that know the schema complete keys, explain them and mark what is wrong. taplo and VS Code's Even
Better TOML look for it in the first line of a recipe: #:schema ./orchestrate.schema.json

A file that extends another, or that another extends, need not have the keys that a recipe must have: --layer prints a schema
for such files.

Examples:
  orchestrate schema > orchestrate.schema.json
  orchestrate schema --layer > orchestrate.layer.schema.json")]
pub(super) struct SchemaArgs {
    /// The schema of a file that is one of several layers: no key is required.
    #[arg(long)]
    layer: bool,
}

pub(super) fn schema(args: &SchemaArgs) -> Result<(), CliError> {
    let schema = if args.layer { crate::recipe::layer_schema() } else { crate::recipe::schema() };
    let mut out = Output::stdout();
    out.line(format!("{schema:#}"))?;
    out.finish()
}
