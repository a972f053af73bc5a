//! The response format of OpenAI's chat completions.

use super::verdict::{JudgeReply, shortened};
use serde::Deserialize;

#[derive(Deserialize)]
struct ChatCompletion {
    choices: Vec<ChatChoice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct ChatChoice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the protocol's names")]
struct Usage {
    #[serde(default)]
    total_tokens: u64,
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Parses the answer in a response's `body`.
pub(super) fn answer(body: &str) -> Result<JudgeReply, String> {
    let completion: ChatCompletion =
        serde_json::from_str(body).map_err(|_| format!("its answer is not a chat completion: {}", shortened(body)))?;
    let Usage { total_tokens, prompt_tokens, completion_tokens } = completion.usage.unwrap_or_default();
    match completion.choices.into_iter().next() {
        Some(ChatChoice { message: Message { content, refusal }, finish_reason }) => {
            Ok(JudgeReply { content, refusal, finish_reason, total_tokens, prompt_tokens, completion_tokens })
        }
        None => Err("it sends a chat completion without a choice".to_owned()),
    }
}
