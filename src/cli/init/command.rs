//! `orchestrate init [RECIPE]`.

use super::fields::{Fields, of_file};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::Output;
use clap::Args;
use std::path::{Path, PathBuf};

const RECIPE: &str = include_str!("recipe.toml");
const QUESTIONS: &str = include_str!("questions.jsonl");
const QUESTIONS_PATH: &str = "data/questions.jsonl";

/// A model of 135 million parameters: small enough for a laptop without a GPU.
const MODEL: &str = "hf://HuggingFaceTB/SmolLM2-135M-Instruct";

/// What to write.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes a commented recipe of three stages (sft, grpo, eval) and 24 questions for it to train on. The schema
beside it lets an editor complete and explain its keys. Existing recipes and data are never overwritten.

With --data the recipe reads your file, and its templates name the fields of its first row.

Examples:
  orchestrate init && orchestrate run recipe.toml
  orchestrate init recipes/second.toml --data data/mine.jsonl
  orchestrate init recipes/mine.toml --model models/smollm2-135m-instruct")]
pub(in crate::cli) struct InitArgs {
    /// The recipe file to write.
    #[arg(value_name = "RECIPE", default_value = "recipe.toml")]
    recipe: PathBuf,
    /// The model: a Hugging Face directory, or a model on the hub.
    #[arg(long, value_name = "MODEL", default_value = MODEL)]
    model: String,
    /// Your own data: a file with one JSON object a line, each with a question and an answer.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

pub(in crate::cli) fn init(context: &Context, args: &InitArgs) -> Result<(), CliError> {
    let name = args.recipe.file_stem().unwrap_or_default().to_string_lossy();
    if args.recipe.extension().is_none_or(|extension| extension != "toml") || name.is_empty() {
        return Err(CliError::new(Kind::Usage, format!("`{}` is not a valid recipe name", args.recipe.display()))
            .hint("a recipe is a file that ends in `.toml`, for example `orchestrate init recipes/first.toml`"));
    }
    // The serializer escapes quotes and backslashes.
    let model = serde_json::to_string(&args.model).expect("a text is JSON");
    let schema = Path::new("orchestrate.schema.json");
    let depth = args.recipe.components().count() - 1;
    let above = if args.recipe.is_absolute() { context.project().display().to_string() } else { up(depth) };
    let recipe = RECIPE
        .replace("\"MODEL\"", &model)
        .replace("./orchestrate.schema.json", &format!("{above}/{}", schema.display()))
        .replace("RECIPE.toml", &args.recipe.display().to_string());
    let recipe = match &args.data {
        Some(data) => over_data(&recipe, data)?,
        None => recipe,
    };
    if args.recipe.exists() {
        return Err(CliError::new(
            Kind::Usage,
            format!("`{}` already exists; nothing was written", args.recipe.display()),
        )
        .hint("name another file, for example `orchestrate init recipes/second.toml`"));
    }
    let questions = Path::new(QUESTIONS_PATH);
    let mut files = vec![(args.recipe.as_path(), recipe), (schema, format!("{:#}\n", crate::recipe::schema()))];
    if args.data.is_none() {
        let is_other = questions.exists() && fs_err::read_to_string(questions).ok().as_deref() != Some(QUESTIONS);
        if is_other {
            let message = format!("`{QUESTIONS_PATH}` already exists, with other rows than the example's");
            return Err(CliError::new(Kind::Usage, message)
                .hint(format!("`--data {QUESTIONS_PATH}` writes a recipe that reads it")));
        }
        files.push((questions, QUESTIONS.to_owned()));
    }
    let mut out = Output::stdout();
    for (path, text) in &files {
        if fs_err::read_to_string(path).ok().as_ref() == Some(text) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::write(path, text)?;
        out.line(format!("wrote {}", path.display()))?;
    }
    out.line(format!("\nnow: orchestrate run {}", args.recipe.display()))?;
    out.finish()
}

/// Replaces the questions of the example recipe by the file `data`.
fn over_data(recipe: &str, data: &Path) -> Result<String, CliError> {
    let Fields { templates, rewards } = of_file(data)?;
    let path = serde_json::to_string(&data.display().to_string()).expect("a text is JSON");
    let mut lines: Vec<String> = Vec::new();
    // Comments on the example's rows are left out, up to the next stage.
    let mut is_left_out = false;
    for line in recipe.lines() {
        match line {
            _ if line.starts_with(&format!("path = \"{QUESTIONS_PATH}\"")) => lines.push(format!("path = {path}")),
            _ if line.starts_with("prompt = ") => {
                lines.push(templates.trim_end().to_owned());
                is_left_out = true;
            }
            _ if line.starts_with("[stages.") && line.contains(".rewards.correctness]") => {
                let stage = line.split('.').nth(1).unwrap_or_default();
                lines.push(rewards.trim_end().replace("STAGE", stage));
                is_left_out = true;
            }
            _ if line.is_empty() => {
                is_left_out = false;
                lines.push(String::new());
            }
            _ if is_left_out => {}
            _ => lines.push(line.to_owned()),
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// Returns the relative path of the directory `levels` levels up.
fn up(levels: usize) -> String {
    if levels == 0 { ".".to_owned() } else { vec![".."; levels].join("/") }
}
