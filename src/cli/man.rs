//! `orchestrate man`.

use super::context::Context;
use super::error::CliError;
use super::help;
use super::output::Output;
use crate::recipe::key_sections;
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Where to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate man -o ~/.local/share/man/man1 && man orchestrate-run
  orchestrate man | man -l -                 the page of the program itself
  orchestrate man --recipe | man -l -        every key of a recipe")]
pub(super) struct ManArgs {
    /// Write a page for each command into DIR [default: the program's own page, to stdout]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print the page about recipes, orchestrate-recipe(5).
    #[arg(long, conflicts_with = "output")]
    recipe: bool,
}

pub(super) fn man(context: &Context, args: &ManArgs) -> Result<(), CliError> {
    let command = help::command();
    let mut out = Output::stdout();
    let Some(directory) = &args.output else {
        let mut page = Vec::new();
        if args.recipe {
            page.extend(recipe_page().as_bytes());
        } else {
            clap_mangen::Man::new(command).render(&mut page)?;
        }
        out.bytes(&page)?;
        return out.finish();
    };
    fs_err::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)?;
    fs_err::write(directory.join("orchestrate-recipe.5"), recipe_page())?;
    let pages = fs_err::read_dir(directory)?.count();
    out.line(format!("{} pages in {}", pages, context.shown(directory)))?;
    out.finish()
}

/// Returns the manual page about recipes, from their schema.
fn recipe_page() -> String {
    let mut page = format!(
        ".TH orchestrate-recipe 5 \"\" \"orchestrate {}\"\n.SH NAME\norchestrate-recipe \\- the keys of a recipe\n\
         .SH DESCRIPTION\nA recipe is a TOML file: a model, data sets, and stages that train and measure it. A key that has no default \
         and is not required may be absent.\n",
        env!("CARGO_PKG_VERSION")
    );
    for section in key_sections() {
        let _ = writeln!(page, ".SH {}\n{}", escaped(&section.heading), escaped(&section.description));
        for key in &section.keys {
            let _ = writeln!(
                page,
                ".TP\n\\fB{}\\fR ({}; default: {})\n{}",
                escaped(&key.name),
                escaped(&key.value),
                escaped(&key.default),
                escaped(&key.meaning)
            );
            for (word, meaning) in &key.words {
                let _ = writeln!(page, ".br\n\\fB\"{}\"\\fR: {}", escaped(word), escaped(meaning));
            }
        }
    }
    page
}

/// Escapes `text` for roff, whose requests begin with a dot or an apostrophe at the beginning of a line.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
