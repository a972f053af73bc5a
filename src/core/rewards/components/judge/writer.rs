//! A judge that answers questions itself, as the author of texts.

use super::panel::{Panel, Questions};
use super::verdict::JudgeReply;
use super::{Expenses, JudgeAccess, JudgeError, JudgePool, is_blank};
use crate::rewards::RewardError;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A question to a judge that answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct WriterQuestion {
    /// The messages of the conversation, each with `role` and `content`.
    pub messages: Value,
    /// The seed of the judge's sampling.
    pub seed: u32,
}

/// The sampling parameters of a judge that answers questions.
#[derive(Clone, Debug, PartialEq)]
pub struct WriterSampling {
    /// The divisor of the judge's logits; 0 for greedy decoding.
    pub temperature: f64,
    /// The probability of the smallest set of tokens from which the judge draws; 1: from all tokens.
    pub top_p: f64,
    /// The largest number of tokens of an answer.
    pub max_tokens: usize,
    /// The texts that end an answer.
    pub stop: Vec<String>,
}

/// The answer of a judge.
#[derive(Clone, Debug, PartialEq)]
pub struct WriterAnswer {
    /// The text of the answer.
    pub text: String,
    /// The number of its tokens, as counted by the server.
    pub tokens: u64,
    /// Whether the answer was cut at its largest number of tokens.
    pub is_cut: bool,
}

/// A judge that answers questions. Its answers are cached as verdicts are.
pub struct JudgeWriter {
    panel: Panel,
    sampling: WriterSampling,
}

impl JudgeWriter {
    /// Sets up the judge `name`.
    ///
    /// # Errors
    /// Fails if the judge cannot be set up.
    pub fn new(name: &str, sampling: WriterSampling, access: JudgeAccess<'_>) -> Result<Self, JudgeError> {
        let panel = Panel::new(&[name.to_owned()], &mut JudgePool::new(access))?;
        Ok(Self { panel, sampling })
    }

    /// Returns the answer to each question, or the reason why it is missing. Equal questions are sent once.
    ///
    /// # Errors
    /// Fails if the judge refuses all requests, or its budget is used up.
    pub fn answers(&mut self, asked: &[WriterQuestion]) -> Result<Vec<Result<WriterAnswer, String>>, RewardError> {
        let mut questions = Questions::new();
        let keys: Vec<_> = asked
            .iter()
            .flat_map(|question| self.panel.put_request(|model| self.sampling.request(model, question), &mut questions))
            .collect();
        let answers = self.panel.answers(questions)?;
        Ok(keys.iter().flat_map(|key| self.panel.read(std::slice::from_ref(key), &answers, written)).collect())
    }

    /// Returns the warnings about the last questions.
    pub fn warnings(&mut self) -> Vec<String> {
        self.panel.take_warnings()
    }

    /// Returns the judge's expenses over all attempts, by its name.
    pub fn expenses(&self) -> BTreeMap<String, Expenses> {
        self.panel.judges().iter().map(|client| (client.model().to_owned(), client.expenses())).collect()
    }
}

impl WriterSampling {
    /// Returns the request to `model` in the format of OpenAI's chat completions. Neutral settings are left out,
    /// because some servers refuse the keys.
    fn request(&self, model: &str, question: &WriterQuestion) -> Value {
        let mut request = json!({
            "model": model,
            "messages": question.messages,
            "temperature": self.temperature,
            "seed": question.seed,
            "max_tokens": self.max_tokens,
        });
        if self.top_p < 1.0 {
            request["top_p"] = json!(self.top_p);
        }
        if !self.stop.is_empty() {
            request["stop"] = json!(self.stop);
        }
        request
    }
}

/// Reads an answer. An empty one and a refusal are missing.
fn written(reply: &JudgeReply) -> Result<WriterAnswer, String> {
    if let Some(refusal) = &reply.refusal {
        return Err(format!("it declines to answer: {refusal}"));
    }
    let text = reply.content.clone().unwrap_or_default();
    if is_blank(&text) {
        return Err("its answer is empty".to_owned());
    }
    let is_cut = reply.finish_reason.as_deref() == Some("length");
    Ok(WriterAnswer { text, tokens: reply.completion_tokens, is_cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(content: Option<&str>, refusal: Option<&str>, finish_reason: &str) -> JudgeReply {
        JudgeReply {
            content: content.map(str::to_owned),
            refusal: refusal.map(str::to_owned),
            finish_reason: Some(finish_reason.to_owned()),
            total_tokens: 9,
            prompt_tokens: 5,
            completion_tokens: 4,
        }
    }

    #[test]
    fn an_answer_is_a_text_or_missing() {
        let answer = |text: &str, is_cut| Ok(WriterAnswer { text: text.to_owned(), tokens: 4, is_cut });
        assert_eq!(written(&reply(Some("B, because"), None, "stop")), answer("B, because", false));
        assert_eq!(written(&reply(Some("B, bec"), None, "length")), answer("B, bec", true));
        assert!(written(&reply(Some(" \n"), None, "stop")).unwrap_err().contains("empty"));
        assert!(written(&reply(None, None, "stop")).unwrap_err().contains("empty"));
        assert!(written(&reply(None, Some("no"), "stop")).unwrap_err().contains("declines"));
    }

    #[test]
    fn a_request_names_only_what_is_set() {
        let question = WriterQuestion { messages: json!([{ "role": "user", "content": "Why?" }]), seed: 7 };
        let plain = WriterSampling { temperature: 0.0, top_p: 1.0, max_tokens: 64, stop: Vec::new() };
        let expected = json!({
            "model": "m", "messages": [{ "role": "user", "content": "Why?" }],
            "temperature": 0.0, "seed": 7, "max_tokens": 64,
        });
        assert_eq!(plain.request("m", &question), expected);
        let all = WriterSampling { top_p: 0.9, stop: vec!["</answer>".to_owned()], ..plain };
        let request = all.request("m", &question);
        assert_eq!((&request["top_p"], &request["stop"]), (&json!(0.9), &json!(["</answer>"])));
    }
}
