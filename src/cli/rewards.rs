//! `orchestrate rewards [NAME]`.

use super::context::Context;
use super::error::CliError;
use super::output::Output;
use crate::report::{Column, Table, width};
use crate::rewards::{Page, pages};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

/// Which component to explain.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate rewards
  orchestrate rewards rouge
  orchestrate rewards cot --json | jq '.keys[] | {key, default}'

--json prints {\"reward\",\"summary\",\"keys\":[{\"key\",\"default\",\"meaning\"}],\"page\"}, one a line; a default is in TOML, or
`none`, `required` or what it is in words.")]
pub(super) struct RewardsArgs {
    /// The component [default: list all]
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(pages().map(|page| page.name)))]
    name: Option<String>,
}

pub(super) fn rewards(context: &Context, args: &RewardsArgs) -> Result<(), CliError> {
    let asked = |page: &Page| args.name.as_ref().is_none_or(|name| name == page.name);
    let pages = pages().filter(asked);
    let mut out = Output::stdout();
    if context.json {
        for page in pages {
            out.json(&in_json(&page))?;
        }
    } else if args.name.is_some() {
        for page in pages {
            out.line(page.text().trim_end())?;
        }
    } else {
        let mut table = Table::new(vec![Column::left("reward"), Column::left("what it measures").wrapped()]);
        for page in pages {
            table.push(vec![page.name.to_owned(), page.summary().trim_end_matches('.').to_owned()]);
        }
        out.line(table.render(width()))?;
        out.line("\n`orchestrate rewards NAME` explains a component's formula, keys and missing values.")?;
    }
    out.finish()
}

fn in_json(page: &Page) -> Value {
    let keys = page.keys();
    let keys: Vec<Value> =
        keys.iter().map(|key| json!({"key": key.name, "default": key.default, "meaning": key.meaning})).collect();
    json!({"reward": page.name, "summary": page.summary(), "keys": keys, "page": page.text()})
}
