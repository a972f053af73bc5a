//! `orchestrate keys [TABLE[.KEY]]`.

use super::context::Context;
use super::error::CliError;
use super::output::Output;
use crate::recipe::{KeySection, RecipeKey, key_sections};
use crate::report::{Column, Table, filled, width};
use crate::suggestion::did_you_mean;
use clap::Args;
use serde_json::{Value, json};

/// Which keys to explain.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate keys                   the tables of a recipe
  orchestrate keys grpo              every key of a stage of the kind grpo
  orchestrate keys grpo.zero_std     one key, with its allowed values
  orchestrate keys kl_coef           a key in every table that has it

`orchestrate rewards NAME` has the formula of a reward component beside its keys.

--json prints {\"table\",\"heading\",\"key\",\"value\",\"default\",\"meaning\",\"words\":{WORD:MEANING}}, one a line; a default is in TOML, or
`none` or `required`.")]
pub(super) struct KeysArgs {
    /// A table (`grpo`, `model`, `semantic`), a key of it (`grpo.zero_std`), or a key [default: list the tables]
    #[arg(value_name = "TABLE[.KEY]")]
    name: Option<String>,
}

pub(super) fn keys(context: &Context, args: &KeysArgs) -> Result<(), CliError> {
    let found = match &args.name {
        None => key_sections().iter().map(|section| (section, None)).collect(),
        Some(name) => find(name)?,
    };
    let mut out = Output::stdout();
    if context.json {
        for (section, only) in &found {
            for key in section.keys.iter().filter(|key| only.is_none_or(|only| std::ptr::eq(only, *key))) {
                out.json(&in_json(section, key))?;
            }
        }
        return out.finish();
    }
    if args.name.is_none() {
        let mut table = Table::new(vec![
            Column::left("table"),
            Column::left("how it is written"),
            Column::left("what it is").wrapped(),
        ]);
        for section in key_sections() {
            table.push(vec![section.name.clone(), section.heading.clone(), section.description.clone()]);
        }
        out.line(table.render(width()))?;
        out.line("\n`orchestrate keys TABLE` explains the keys of a table, `orchestrate keys TABLE.KEY` one of them.")?;
        return out.finish();
    }
    for (place, (section, only)) in found.iter().enumerate() {
        if place > 0 {
            out.line("")?;
        }
        match only {
            Some(key) => out.line(one(section, key))?,
            None => out.line(all(section))?,
        }
    }
    out.finish()
}

type Found = (&'static KeySection, Option<&'static RecipeKey>);

/// Finds `name`: a table, a key of a table, or a key of any table.
fn find(name: &str) -> Result<Vec<Found>, CliError> {
    let name = name.strip_prefix("stages.").unwrap_or(name);
    let sections = key_sections();
    if let Some(section) = sections.iter().find(|section| section.name == name) {
        return Ok(vec![(section, None)]);
    }
    let (table, key) = name.rsplit_once('.').unwrap_or(("", name));
    let of_table = |section: &&'static KeySection| table.is_empty() || section.name == table;
    let found: Vec<Found> = sections
        .iter()
        .filter(of_table)
        .filter_map(|section| Some((section, Some(section.keys.iter().find(|known| known.name == key)?))))
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let (what, known): (String, Vec<&str>) = match sections.iter().find(|section| section.name == table) {
        Some(section) => (format!("keys of `{table}`"), section.keys.iter().map(|key| key.name.as_str()).collect()),
        None => ("tables".to_owned(), sections.iter().map(|section| section.name.as_str()).collect()),
    };
    let word = if table.is_empty() || known.is_empty() { name } else { key };
    Err(CliError::nothing(format!("a recipe has no `{name}`")).hint(did_you_mean(word, &what, &known)))
}

/// Formats every key of a table.
fn all(section: &KeySection) -> String {
    let mut table = Table::new(vec![
        Column::left("key"),
        Column::left("value").dropped(1),
        Column::left("default"),
        Column::left("meaning").wrapped(),
    ]);
    for key in &section.keys {
        let value = if key.words.is_empty() { key.value.clone() } else { words(key) };
        table.push(vec![key.name.clone(), value, key.default.clone(), key.meaning.clone()]);
    }
    format!("{}\n{}\n\n{}", section.heading, section.description, table.render(width()))
}

/// Formats one key, with the meaning of each of its words.
fn one(section: &KeySection, key: &RecipeKey) -> String {
    let value = if key.words.is_empty() { key.value.clone() } else { words(key) };
    let head = format!("{} in {}: {value}; default: {}", key.name, section.heading, key.default);
    let mut lines = vec![filled(&head, ""), filled(&key.meaning, "")];
    for (word, meaning) in &key.words {
        lines.push(filled(&format!("  \"{word}\"  {meaning}"), "      "));
    }
    lines.join("\n")
}

fn words(key: &RecipeKey) -> String {
    key.words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
}

fn in_json(section: &KeySection, key: &RecipeKey) -> Value {
    let words: serde_json::Map<String, Value> =
        key.words.iter().map(|(word, meaning)| (word.clone(), Value::from(meaning.clone()))).collect();
    json!({
        "table": section.name, "heading": section.heading, "key": key.name, "value": key.value,
        "default": key.default, "meaning": key.meaning, "words": words,
    })
}
