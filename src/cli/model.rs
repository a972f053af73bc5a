//! `orchestrate model logprobs|embed|generate|merge`: direct uses of a model, computed by the worker.

use super::context::Context;
use super::error::{CliError, Kind};
use super::output::Output;
use crate::event::FailureClass;
use crate::exec::{Answered, Input, ModelRequest, ModelTask, WorkerBinary, ask};
use crate::recipe::spec::{Dtype, Sampling};
use crate::workspace::DeviceChoice;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use std::path::PathBuf;

/// Ask a model directly: is an import what it should be, what does a checkpoint say?
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  orchestrate model generate --model models/smollm2-135m-instruct --text 'What does the heart do?'

Each of these commands has examples of its own: `orchestrate model merge --help`.")]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Log-probabilities of the tokens of given texts.
    #[command(after_help = "\
Input lines are {\"text\"} or {\"input_ids\"}; a text is encoded without added special tokens.
Prints {\"input_ids\",\"token_logprobs\"} a line, always JSON: one value for every token but the first.

  orchestrate model logprobs --model models/smollm2-135m-instruct --text 'The heart pumps blood.'
  orchestrate model logprobs --model models/llama --adapter runs/cache/KEY --input texts.jsonl")]
    Logprobs {
        #[command(flatten)]
        model: DecoderArgs,
        #[command(flatten)]
        input: InputArgs,
    },
    /// Unit vectors of given texts, by a sentence encoder.
    #[command(after_help = "\
Input lines are {\"text\"}. Prints {\"text\",\"embedding\"} a line, always JSON; embeddings have length 1.

  orchestrate model embed --model models/all-minilm-l6-v2 --text 'The heart pumps blood.'")]
    Embed {
        #[command(flatten)]
        model: ModelDirArgs,
        #[command(flatten)]
        input: InputArgs,
    },
    /// Completions of given prompts.
    #[command(after_help = "\
Input lines are {\"prompt\"} (a user's turn of the chat template, or with --raw text to go on from) or
{\"messages\":[{\"role\",\"content\"},..]}. The same seed gives the same completions.
--json prints {\"prompt\" or \"messages\",\"index\",\"completion\",\"tokens\",\"stop_reason\"}, one a line.

  orchestrate model generate --model models/smollm2-135m-instruct --text 'What does the heart do?'
  orchestrate model generate --model models/llama --input prompts.jsonl -n 4 --temperature 0.7 --json")]
    Generate(Box<GenerateArgs>),
    /// Write a model with an adapter added to its weights.
    #[command(after_help = "\
Merges in 32 bits, checks that the logits stay within 1e-3, and reads the new weights back. The new directory
appears only after these checks. Works for adapters made here (runs/cache/KEY) and by PEFT.

Prints {\"output\",\"dtype\",\"tensors\",\"device\",\"max_abs_logit_difference\"}, always JSON.

  orchestrate model merge --model models/llama --adapter runs/cache/KEY --output models/llama-sft")]
    Merge {
        /// The model: a Hugging Face directory.
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// The adapter: a PEFT directory, or a checkpoint in runs/cache.
        #[arg(long, value_name = "DIR")]
        adapter: PathBuf,
        /// The new directory; it must not exist.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
        /// What the new weights are saved in [default: as the model's are]
        #[arg(long, value_enum)]
        dtype: Option<DtypeArg>,
        /// Where to compute: `auto`, `cpu` or `cuda:N`.
        #[arg(long, value_parser = super::args::device, default_value = "auto")]
        device: DeviceChoice,
    },
}

#[derive(Debug, Args)]
struct ModelDirArgs {
    /// The model: a Hugging Face directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What the weights are held in.
    #[arg(long, value_enum, default_value = "float32")]
    dtype: DtypeArg,
    /// Where to compute: `auto`, `cpu` or `cuda:N`.
    #[arg(long, value_parser = super::args::device, default_value = "auto")]
    device: DeviceChoice,
}

#[derive(Debug, Args)]
struct DecoderArgs {
    #[command(flatten)]
    model: ModelDirArgs,
    /// An adapter for it: a PEFT directory, or a checkpoint in runs/cache.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct InputArgs {
    /// A file of JSON lines; `-` is stdin.
    #[arg(long, value_name = "F.jsonl")]
    input: Option<PathBuf>,
    /// One text instead of a file.
    #[arg(long)]
    text: Option<String>,
}

#[derive(Debug, Args)]
struct GenerateArgs {
    #[command(flatten)]
    model: DecoderArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Longest completion, in tokens; a longer one is cut.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = super::args::at_least_one)]
    max_new_tokens: usize,
    /// Divides the logits; 0 takes the most likely token.
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = temperature)]
    temperature: f64,
    /// Draws from the smallest set of tokens with this much probability.
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = probability)]
    top_p: f64,
    /// Draws from this many most likely tokens; 0: from all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draws from tokens at least this many times as likely as the most likely one.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share)]
    min_p: f64,
    /// Divides positive logits of tokens that occurred, and multiplies negative ones.
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = penalty)]
    repetition_penalty: f64,
    /// A completion does not end before it has this many tokens.
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_new_tokens: usize,
    /// A completion ends with the first of these texts that occurs in it; can be repeated.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    stop: Vec<String>,
    /// Of all draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Completions of each prompt.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = super::args::at_least_one)]
    samples: usize,
    /// Use prompts as they are, without the chat template.
    #[arg(long)]
    raw: bool,
}

/// The number formats of recipes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DtypeArg {
    Float32,
    Bfloat16,
}

impl From<DtypeArg> for Dtype {
    fn from(dtype: DtypeArg) -> Self {
        match dtype {
            DtypeArg::Float32 => Self::Float32,
            DtypeArg::Bfloat16 => Self::Bfloat16,
        }
    }
}

pub(super) fn model(context: &Context, args: ModelArgs) -> Result<(), CliError> {
    match args.command {
        ModelCommand::Logprobs { model, input } => {
            print_json(&decoder_request(model, ModelTask::Logprobs { input: input.into() }))
        }
        ModelCommand::Embed { model, input } => {
            print_json(&request(model, None, ModelTask::Embed { input: input.into() }))
        }
        ModelCommand::Generate(args) => generate(context, *args),
        ModelCommand::Merge { model, adapter, output, dtype, device } => {
            let task = ModelTask::Merge { output, save_dtype: dtype.map(Dtype::from) };
            let request = ModelRequest { model, adapter: Some(adapter), dtype: Dtype::Float32, device, task };
            if context.json { print_json(&request) } else { print_merged(&request) }
        }
    }
}

fn request(model: ModelDirArgs, adapter: Option<PathBuf>, task: ModelTask) -> ModelRequest {
    ModelRequest { model: model.model, adapter, dtype: model.dtype.into(), device: model.device, task }
}

fn decoder_request(model: DecoderArgs, task: ModelTask) -> ModelRequest {
    request(model.model, model.adapter, task)
}

impl From<InputArgs> for Input {
    fn from(args: InputArgs) -> Self {
        match (args.input, args.text) {
            (Some(path), _) if path.as_os_str() == "-" => Self::Stdin,
            (Some(path), _) => Self::File(path),
            (None, text) => Self::Text(text.unwrap_or_default()), // the group requires one of the two
        }
    }
}

fn generate(context: &Context, args: GenerateArgs) -> Result<(), CliError> {
    let several = args.samples > 1 || args.input.input.is_some();
    let sampling = Sampling {
        max_prompt_tokens: usize::MAX, // the model's own limit applies
        max_new_tokens: args.max_new_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        min_new_tokens: args.min_new_tokens,
        stop_strings: args.stop,
    };
    let (seed, samples, raw) = (args.seed, args.samples, args.raw);
    let task = ModelTask::Generate { input: args.input.into(), sampling, seed, samples, raw };
    let request = decoder_request(args.model, task);
    if context.json {
        return print_json(&request);
    }
    answer(&request, |out, line| {
        let line = parsed(line)?;
        if several {
            let prompt = line["prompt"].as_str().map_or_else(|| line["messages"].to_string(), str::to_owned);
            out.line(format!("# {} (sample {})", prompt.replace('\n', " "), line["index"]))?;
        }
        out.line(line["completion"].as_str().unwrap_or_default())?;
        if line["stop_reason"] == "length" {
            out.line(format!("[cut after {} tokens]", line["tokens"]))?;
        }
        if several { out.line("") } else { Ok(()) }
    })
}

fn print_json(request: &ModelRequest) -> Result<(), CliError> {
    answer(request, |out, line| out.line(line))
}

fn print_merged(request: &ModelRequest) -> Result<(), CliError> {
    answer(request, |out, line| {
        let line = parsed(line)?;
        let output = line["output"].as_str().unwrap_or_default();
        let dtype = line["dtype"].as_str().unwrap_or_default();
        let difference = line["max_abs_logit_difference"].as_f64().unwrap_or(f64::NAN);
        out.line(format!("{output}: {} tensors in {dtype}", line["tensors"]))?;
        out.line(format!("largest difference of a logit, merged and unmerged, in 32 bits: {difference:.1e}"))
    })
}

fn parsed(line: &str) -> Result<Value, CliError> {
    serde_json::from_str(line).map_err(|error| {
        CliError::new(Kind::Internal, format!("cannot parse the worker's answer: {error}"))
            .hint("check with `orchestrate doctor` that `orchestrate` and `orchestrate-worker` have the same version")
    })
}

/// Sends the request to the worker and prints each line of its answer as it arrives.
fn answer(request: &ModelRequest, print: impl Fn(&mut Output, &str) -> Result<(), CliError>) -> Result<(), CliError> {
    let worker = WorkerBinary::find()?;
    let ended = ask(&worker, request, |line| {
        let mut out = Output::stdout();
        print(&mut out, line)?;
        out.finish()
    })?;
    match ended? {
        Answered::Whole => Ok(()),
        Answered::Failed(failure) => {
            let kind = if failure.class == FailureClass::Input { Kind::Usage } else { Kind::Internal };
            let error = CliError::new(kind, failure.message);
            Err(failure.hint.into_iter().fold(error, CliError::hint))
        }
        Answered::Crashed(exit) => {
            let error = CliError::new(Kind::Internal, exit.describe());
            Err(if exit.looks_out_of_memory() { error.hint("memory ran out: try `--dtype bfloat16`") } else { error })
        }
    }
}

fn temperature(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&t: &f64| t >= 0.0 && t.is_finite()).ok_or_else(|| "a number, at least 0".to_owned())
}

fn probability(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&p: &f64| p > 0.0 && p <= 1.0).ok_or_else(|| "a number over 0 and up to 1".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|p: &f64| (0.0..=1.0).contains(p)).ok_or_else(|| "a number from 0 to 1".to_owned())
}

fn penalty(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&p: &f64| p > 0.0 && p.is_finite()).ok_or_else(|| "a number over 0".to_owned())
}
