//! The command `generate`: sampled completions of given prompts.

use super::input::{self, Line};
use super::{Answers, adapters_template, decoder};
use crate::error::StageResult;
use crate::generation::{Request, Stop, sample};
use crate::models::{DecoderConfig, load_config};
use crate::policy::kind;
use crate::seed;
use crate::tokenizer::{Message, Tokenizer};
use orchestrate_core::exec::{Input, ModelRequest};
use orchestrate_core::recipe::spec::Sampling;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tch::Device;

/// Maximum number of completions decoded at a time.
const ROWS: usize = 32;
/// Number of completions printed at a time.
const BATCH: usize = 4 * ROWS;

/// The options of sampling.
pub(super) struct GenerateOptions<'a> {
    pub(super) sampling: &'a Sampling,
    pub(super) seed: u64,
    pub(super) samples: usize,
    pub(super) raw: bool,
}

/// A turn of a conversation in a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: String,
    content: String,
}

/// A prompt as given, with its tokens.
struct Prompt {
    given: (&'static str, Value),
    ids: Vec<i64>,
}

pub(super) fn run(
    request: &ModelRequest,
    input: &Input,
    knobs: &GenerateOptions<'_>,
    device: Device,
    answers: &mut Answers,
) -> StageResult<()> {
    let lines = input::read(input, "prompt")?;
    let template = adapters_template(request).map(fs_err::read_to_string).transpose()?;
    let tokenizer = Tokenizer::load_with(&request.model, template.as_deref())?;
    let config = load_config(&request.model)?;
    tokenizer.check_against(usize::try_from(config.vocab_size).unwrap_or(0))?;
    let prompts: Vec<Prompt> =
        lines.iter().map(|line| prompt(line, &tokenizer, &config, knobs)).collect::<StageResult<_>>()?;
    let decoder = decoder(request, kind(request.dtype), device)?;
    // each draw is seeded by the prompt's line and the sample's index, so it does not depend on other rows
    let stop = Stop::new(&tokenizer, knobs.sampling);
    let wanted: Vec<(usize, usize)> =
        (0..prompts.len()).flat_map(|line| (0..knobs.samples).map(move |index| (line, index))).collect();
    for batch in wanted.chunks(BATCH) {
        // samples of one prompt are one request, so the prompt is read once
        let mut requests: Vec<Request<'_>> = Vec::new();
        for samples in batch.chunk_by(|(line, _), (next, _)| line == next) {
            let (line, _) = samples[0];
            let seed = |index: usize| seed::derive(knobs.seed, &["generate", &line.to_string(), &index.to_string()]);
            let seeds = samples.iter().map(|&(_, index)| seed(index)).collect();
            requests.push(Request { prompt_ids: &prompts[line].ids, seeds });
        }
        let sampled = sample(&decoder, &requests, knobs.sampling, &stop, ROWS);
        for (&(line, index), sampled) in batch.iter().zip(&sampled) {
            let end = sampled.ids.iter().position(|id| tokenizer.stop_ids().contains(id));
            let completion = tokenizer.decode(&sampled.ids[..end.unwrap_or(sampled.ids.len())]);
            let (name, given) = &prompts[line].given;
            let mut answer = Map::from_iter([((*name).to_owned(), given.clone())]);
            let more = json!({
                "index": index, "completion": completion, "tokens": sampled.ids.len(),
                "stop_reason": sampled.stop_reason,
            });
            answer.extend(more.as_object().expect("a literal object").clone());
            answers.line(&Value::Object(answer))?;
        }
        answers.flush()?;
    }
    Ok(())
}

/// Returns the prompt of a line with its tokens. A prompt is a user's turn, or with `raw` the text that the model
/// continues.
fn prompt(
    line: &Line,
    tokenizer: &Tokenizer,
    config: &DecoderConfig,
    knobs: &GenerateOptions<'_>,
) -> StageResult<Prompt> {
    let render = |messages: &[Message<'_>]| {
        if !tokenizer.has_chat_template() {
            return Err(line
                .error("the model has no chat template")
                .hinted("`--raw` uses prompts without the chat template"));
        }
        tokenizer.render(messages, true)
    };
    let (given, rendered) = match (line.text("prompt")?, line.field("messages")) {
        (Some(text), None) => {
            let rendered =
                if knobs.raw { text.to_owned() } else { render(&[Message { role: "user", content: text }])? };
            (("prompt", text.into()), rendered)
        }
        (None, Some(_)) if knobs.raw => {
            return Err(line
                .error("`messages` need the chat template")
                .hinted("leave out `--raw`, or give a `prompt`"));
        }
        (None, Some(messages)) => {
            let turns: Vec<Turn> = serde_json::from_value(messages.clone())
                .map_err(|e| line.error(&format!("`messages` is not a list of {{\"role\",\"content\"}}: {e}")))?;
            let turns: Vec<Message<'_>> =
                turns.iter().map(|turn| Message { role: &turn.role, content: &turn.content }).collect();
            (("messages", messages.clone()), render(&turns)?)
        }
        _ => return Err(line.one_of(["prompt", "messages"])),
    };
    let ids = tokenizer.encode(&rendered)?;
    if ids.is_empty() {
        return Err(line.error("the prompt has no tokens"));
    }
    let limit = usize::try_from(config.max_position_embeddings).unwrap_or(usize::MAX);
    if ids.len() + knobs.sampling.max_new_tokens > limit {
        let (prompt, new) = (ids.len(), knobs.sampling.max_new_tokens);
        return Err(line
            .error(&format!("a prompt of {prompt} tokens and {new} new ones are more than the {limit} the model reads"))
            .hinted("lower `--max-new-tokens` or shorten the prompt"));
    }
    Ok(Prompt { given, ids })
}
