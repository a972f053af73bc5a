//! `orchestrate init [RECIPE]`.

use super::context::Context;
use super::error::{CliError, Kind};
use super::output::Output;
use clap::Args;
use std::path::{Path, PathBuf};

const RECIPE: &str = include_str!("init/recipe.toml");
const QUESTIONS: &str = include_str!("init/questions.jsonl");

/// A model of 135 million parameters: small enough for a laptop without a GPU.
const MODEL: &str = "hf://HuggingFaceTB/SmolLM2-135M-Instruct";

/// What to write.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes a commented recipe of three stages (sft, grpo, eval), 24 questions for it to train on, and the
schema that lets an editor complete and explain its keys. Asks nothing, and overwrites nothing.

Examples:
  orchestrate init && orchestrate run recipe.toml
  orchestrate init recipes/mine.toml --model models/smollm2-135m-instruct")]
pub(super) struct InitArgs {
    /// The recipe file to write.
    #[arg(value_name = "RECIPE", default_value = "recipe.toml")]
    recipe: PathBuf,
    /// The model: a Hugging Face directory, or a model on the hub.
    #[arg(long, value_name = "MODEL", default_value = MODEL)]
    model: String,
}

pub(super) fn init(context: &Context, args: &InitArgs) -> Result<(), CliError> {
    let name = args.recipe.file_stem().unwrap_or_default().to_string_lossy();
    if args.recipe.extension().is_none_or(|extension| extension != "toml") || name.is_empty() {
        return Err(CliError::new(Kind::Usage, format!("`{}` is no name of a recipe", args.recipe.display()))
            .hint("a recipe is a file that ends in `.toml`, for example `orchestrate init recipes/first.toml`"));
    }
    // Written by its serializer, a path may hold quotes and backslashes.
    let model = serde_json::to_string(&args.model).expect("a text is JSON");
    let schema = Path::new("orchestrate.schema.json");
    let depth = args.recipe.components().count() - 1;
    let above = if args.recipe.is_absolute() { context.project().display().to_string() } else { up(depth) };
    let recipe = RECIPE
        .replace("\"MODEL\"", &model)
        .replace("./orchestrate.schema.json", &format!("{above}/{}", schema.display()))
        .replace("RECIPE.toml", &args.recipe.display().to_string());
    let files = [
        (args.recipe.as_path(), recipe),
        (Path::new("data/questions.jsonl"), QUESTIONS.to_owned()),
        (schema, format!("{:#}\n", crate::recipe::schema())),
    ];
    let there: Vec<String> =
        files.iter().filter(|(path, _)| path.exists()).map(|(path, _)| path.display().to_string()).collect();
    if !there.is_empty() {
        let (files, verb) = (there.join("`, `"), if there.len() == 1 { "is" } else { "are" });
        return Err(CliError::new(Kind::Usage, format!("`{files}` {verb} there already; nothing was written"))
            .hint("begin in another directory (`-C DIR`), or move what is there away"));
    }
    let mut out = Output::stdout();
    for (path, text) in &files {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::write(path, text)?;
        out.line(format!("wrote {}", path.display()))?;
    }
    out.line(format!("\nnow: orchestrate run {}", args.recipe.display()))?;
    out.finish()
}

/// The directory that many levels up.
fn up(levels: usize) -> String {
    if levels == 0 { ".".to_owned() } else { vec![".."; levels].join("/") }
}
