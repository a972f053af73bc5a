//! The client of a judge, with the limits on concurrent requests and on the budget (`server` sends the requests).

use super::chat;
use super::verdict::JudgeReply;
use crate::digest::Digest;
use crate::event::FailureClass;
use crate::rewards::JudgeServer;
use crate::rewards::RewardError;
use crate::rewards::StopCheck;
use crate::rewards::remote::http_request::ApiKey;
use crate::rewards::remote::server::{Attempts, Server, Unanswered};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The reason why a question has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// This question has no answer, but others may have one.
    Question(String),
    /// The judge answers no questions.
    Judge(RewardError),
}

/// The result and cost of one question.
pub(super) struct Asked {
    pub(super) result: Result<JudgeReply, Failure>,
    /// The number of requests sent.
    pub(super) calls: u64,
    /// The duration of the request that was answered; absent without an answer.
    pub(super) latency: Option<Duration>,
}

/// The spending of a stage on a judge, over all attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    calls: u64,
    tokens: u64,
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    cache_hits: u64,
}

/// The expenses of a stage for a judge, over all attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Expenses {
    /// The number of requests sent, including those that failed.
    pub calls: u64,
    /// The number of answers from the cache.
    pub cache_hits: u64,
    /// The number of prompt tokens of answered requests.
    pub prompt_tokens: u64,
    /// The number of completion tokens of answered requests.
    pub completion_tokens: u64,
    /// The cost in US dollars; absent when the recipe states no price.
    pub cost_usd: Option<f64>,
}

impl Expenses {
    /// Returns the expenses since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            cache_hits: self.cache_hits - before.cache_hits,
            prompt_tokens: self.prompt_tokens - before.prompt_tokens,
            completion_tokens: self.completion_tokens - before.completion_tokens,
            cost_usd: self.cost_usd.zip(before.cost_usd).map(|(all, before)| all - before),
        }
    }
}

/// The spending, with the part that is already saved to disk.
#[derive(Default)]
struct Ledger {
    spent: Spent,
    written: Spent,
    path: PathBuf,
}

impl Ledger {
    fn write(&mut self) -> io::Result<()> {
        if self.spent != self.written {
            let part = self.path.with_extension("part");
            fs_err::write(&part, serde_json::to_vec(&self.spent).expect("numbers serialize"))?;
            fs_err::rename(&part, &self.path)?;
            self.written = self.spent;
        }
        Ok(())
    }
}

pub(in crate::rewards) struct Client {
    model: String,
    limits: JudgeServer,
    server: Server,
    ledger: Mutex<Ledger>,
}

impl Client {
    /// Creates a client of the judge `model`.
    ///
    /// Its spending is saved in the directory `ledgers`, where a later attempt at the same stage finds it.
    pub(super) fn new(
        model: &str,
        server: &JudgeServer,
        key: Option<ApiKey>,
        ledgers: &Path,
        stop: &StopCheck,
    ) -> Self {
        let path = ledgers.join(format!("judge-spent-{}.json", Digest::of(model.as_bytes()).short()));
        let written = fs_err::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let spent: Spent = written.unwrap_or_default();
        let url = format!("{}/chat/completions", server.endpoint.trim_end_matches('/'));
        Self {
            model: model.to_owned(),
            limits: server.clone(),
            server: Server::new(url, key, server.timeout_s, server.retries, server.requests_per_minute, stop),
            ledger: Mutex::new(Ledger { spent, written: spent, path }),
        }
    }

    pub(in crate::rewards) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn concurrency(&self) -> usize {
        self.limits.concurrency
    }

    /// Starts a new batch: a server that was down may be up again.
    pub(super) fn begin(&self) {
        self.server.begin();
    }

    /// Saves the spending to disk.
    pub(super) fn save_spent(&self) -> io::Result<()> {
        lock(&self.ledger).write()
    }

    /// Counts an answer from the cache.
    pub(super) fn count_cached(&self) {
        lock(&self.ledger).spent.cache_hits += 1;
    }

    /// The expenses so far, over all attempts.
    pub(in crate::rewards) fn expenses(&self) -> Expenses {
        let Spent { calls, cache_hits, prompt_tokens, completion_tokens, .. } = lock(&self.ledger).spent;
        let cost_usd = self.limits.cost_usd(prompt_tokens, completion_tokens);
        Expenses { calls, cache_hits, prompt_tokens, completion_tokens, cost_usd }
    }

    /// Returns the cost of `answer` in US dollars; `None` without a price.
    pub(super) fn cost_usd(&self, answer: &JudgeReply) -> Option<f64> {
        self.limits.cost_usd(answer.prompt_tokens, answer.completion_tokens)
    }

    /// Sends a request until it has an answer, or until a reason to give up. `key` is the request's digest.
    pub(super) fn ask(&self, request: &Value, key: &Digest) -> Asked {
        let Attempts { result, calls, latency } = self.server.ask(request, key, chat::answer, || self.spend_call());
        if let Ok(answer) = &result {
            let mut ledger = lock(&self.ledger);
            ledger.spent.tokens += answer.total_tokens;
            ledger.spent.prompt_tokens += answer.prompt_tokens;
            ledger.spent.completion_tokens += answer.completion_tokens;
            let _ = ledger.write(); // `save_spent` reports an error
        }
        let result = result.map_err(|unanswered| match unanswered {
            Unanswered::Question(reason) => Failure::Question(self.said(&reason)),
            Unanswered::Refused(reason) => Failure::Judge(RewardError {
                message: self.said(&reason),
                hint: Some(self.hint()),
                class: FailureClass::JudgeUnavailable,
            }),
            Unanswered::Stopped(failure) => failure,
            Unanswered::Interrupted => Failure::Judge(RewardError::interrupted()),
        });
        Asked { result, calls, latency }
    }

    fn said(&self, reason: &str) -> String {
        format!("the judge `{}` at {}: {reason}", self.model, self.server.url())
    }

    fn hint(&self) -> String {
        let model = &self.model;
        match &self.limits.api_key_env {
            Some(name) if self.server.has_key() => {
                format!("check the key in `{name}`, and `endpoint` in `[runtime.judges.\"{model}\"]`")
            }
            _ => format!(
                "check `endpoint` in `[runtime.judges.\"{model}\"]`; `api_key_env` names the variable with a key"
            ),
        }
    }

    /// Takes a call out of the budget.
    fn spend_call(&self) -> Result<(), Failure> {
        let mut ledger = lock(&self.ledger);
        let spent = ledger.spent;
        let over = |what: &str, limit: u64, key: &str| {
            let model = &self.model;
            let message = format!("the judge `{model}` has used up this stage's budget of {limit} {what}");
            let hint =
                format!("raise `{key}` in `[runtime.judges.\"{model}\"]` and run the recipe again: the stage goes on");
            Err(Failure::Judge(RewardError { message, hint: Some(hint), class: FailureClass::JudgeBudget }))
        };
        match (self.limits.max_calls, self.limits.max_total_tokens) {
            (Some(limit), _) if spent.calls >= limit => over("calls", limit, "max_calls"),
            (_, Some(limit)) if spent.tokens >= limit => over("tokens", limit, "max_total_tokens"),
            _ => {
                ledger.spent.calls += 1;
                // before the call: if the worker is killed during it, the call counts
                let _ = ledger.write(); // `save_spent` reports an error
                Ok(())
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
