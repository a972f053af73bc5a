//! A judge as its server lets it be asked: so many requests at a time and a minute, again after a failure, within a budget.

use super::exchange::{ApiKey, Exchange, Outcome};
use super::verdict::Answer;
use crate::digest::Digest;
use crate::recipe::JudgeServer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that wants more patience than this is not available.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// This one has none, another may.
    Question(String),
    /// None will have one: message, and what to do about it.
    Judge(String, String),
}

/// What one question took.
pub(super) struct Asked {
    pub(super) result: Result<Answer, Failure>,
    /// Requests that were sent.
    pub(super) calls: u64,
    /// How long the one took that was answered.
    pub(super) latency: Option<Duration>,
}

/// What a stage spent on a judge, over all attempts at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    calls: u64,
    tokens: u64,
}

pub(super) struct Client {
    model: String,
    server: JudgeServer,
    exchange: Exchange,
    /// The earliest moment of the next request.
    next: Mutex<Instant>,
    /// Nobody answered in the end, and nobody has since: asked once then, no more.
    is_down: AtomicBool,
    spent: Mutex<Spent>,
    ledger: PathBuf,
}

impl Client {
    /// A client of the judge `model`. What it spends is written into the directory `ledgers`, where a later attempt at the
    /// same stage finds it.
    pub(super) fn new(model: &str, server: &JudgeServer, key: Option<ApiKey>, ledgers: &Path) -> Self {
        let ledger = ledgers.join(format!("judge-spent-{}.json", Digest::of(model.as_bytes()).short()));
        let spent = fs_err::read(&ledger).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self {
            model: model.to_owned(),
            server: server.clone(),
            exchange: Exchange::new(&server.endpoint, key, server.timeout_s),
            next: Mutex::new(Instant::now()),
            is_down: AtomicBool::new(false),
            spent: Mutex::new(spent.unwrap_or_default()),
            ledger,
        }
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn concurrency(&self) -> usize {
        self.server.concurrency
    }

    /// A new batch begins: a server that was down may be up again.
    pub(super) fn begin(&self) {
        self.is_down.store(false, Ordering::Relaxed);
    }

    /// Writes down what was spent, if there is a budget to keep.
    pub(super) fn save_spent(&self) -> io::Result<()> {
        if self.server.max_calls.is_none() && self.server.max_total_tokens.is_none() {
            return Ok(());
        }
        let part = self.ledger.with_extension("part");
        fs_err::write(&part, serde_json::to_vec(&*lock(&self.spent)).expect("numbers serialize"))?;
        fs_err::rename(&part, &self.ledger)
    }

    /// Asks until there is an answer, or a reason to give up. `key` is the request's digest.
    pub(super) fn ask(&self, request: &Value, key: &Digest) -> Asked {
        let mut calls = 0;
        loop {
            if let Err(failure) = self.spend_call() {
                return Asked { result: Err(failure), calls, latency: None };
            }
            self.keep_pace();
            let started = Instant::now();
            calls += 1;
            let (reason, wait) = match self.exchange.send(request) {
                Outcome::Answered(answer) => {
                    self.is_down.store(false, Ordering::Relaxed);
                    lock(&self.spent).tokens += answer.total_tokens;
                    return Asked { result: Ok(answer), calls, latency: Some(started.elapsed()) };
                }
                Outcome::Rejected(reason) => return self.without(calls, &reason),
                Outcome::Refused(reason) => {
                    let failure = Failure::Judge(self.said(&reason), self.hint());
                    return Asked { result: Err(failure), calls, latency: None };
                }
                Outcome::Unreachable(reason) => {
                    self.is_down.store(true, Ordering::Relaxed);
                    return self.without(calls, &reason);
                }
                Outcome::Later(reason, wait) => (reason, wait),
            };
            let is_last = calls > u64::from(self.server.retries) || self.is_down.load(Ordering::Relaxed);
            if is_last || wait.is_some_and(|wait| wait > LONGEST_RETRY_AFTER) {
                self.is_down.store(true, Ordering::Relaxed);
                let tries = if calls == 1 { String::new() } else { format!(", {calls} times in a row") };
                return self.without(calls, &format!("{reason}{tries}"));
            }
            match wait {
                // whoever is told to wait waits for everybody
                Some(wait) => self.hold(Instant::now() + wait),
                None => std::thread::sleep(pause(calls, key)),
            }
        }
    }

    fn without(&self, calls: u64, reason: &str) -> Asked {
        Asked { result: Err(Failure::Question(self.said(reason))), calls, latency: None }
    }

    fn said(&self, reason: &str) -> String {
        format!("the judge `{}` at {}: {reason}", self.model, self.exchange.url())
    }

    fn hint(&self) -> String {
        let model = &self.model;
        match &self.server.api_key_env {
            Some(name) if self.exchange.has_key() => {
                format!("check the key in `{name}`, and `endpoint` in `[runtime.judges.\"{model}\"]`")
            }
            _ => format!(
                "check `endpoint` in `[runtime.judges.\"{model}\"]`; `api_key_env` names the variable with a key"
            ),
        }
    }

    /// Takes a call out of the budget.
    fn spend_call(&self) -> Result<(), Failure> {
        let mut spent = lock(&self.spent);
        let over = |what: &str, limit: u64, key: &str| {
            let model = &self.model;
            let message = format!("the judge `{model}` has used up this stage's budget of {limit} {what}");
            Err(Failure::Judge(
                message,
                format!("raise `{key}` in `[runtime.judges.\"{model}\"]`, then `orchestrate resume`"),
            ))
        };
        match (self.server.max_calls, self.server.max_total_tokens) {
            (Some(limit), _) if spent.calls >= limit => over("calls", limit, "max_calls"),
            (_, Some(limit)) if spent.tokens >= limit => over("tokens", limit, "max_total_tokens"),
            _ => {
                spent.calls += 1;
                Ok(())
            }
        }
    }

    /// Waits for this request's turn.
    fn keep_pace(&self) {
        let between =
            self.server.requests_per_minute.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(60.0 / rate));
        loop {
            let now = Instant::now();
            let mut next = lock(&self.next);
            if *next <= now {
                *next = now + between;
                return;
            }
            let wait = *next - now;
            drop(next);
            std::thread::sleep(wait);
        }
    }

    fn hold(&self, until: Instant) {
        let mut next = lock(&self.next);
        *next = (*next).max(until);
    }
}

/// How long to wait after the `calls`th failure in a row: twice as long each time, and not all at the same moment.
fn pause(calls: u64, key: &Digest) -> Duration {
    let doublings = u32::try_from(calls - 1).unwrap_or(u32::MAX).min(16);
    let whole = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
    let spread = key.as_str().as_bytes()[usize::try_from(calls).unwrap_or(0) % 64];
    whole.mul_f64(0.75 + f64::from(spread % 16) / 30.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_differ_between_questions() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        for calls in 1..5 {
            let doubled = FIRST_PAUSE * 2_u32.pow(u32::try_from(calls).unwrap() - 1);
            assert!(pause(calls, &a) >= doubled.mul_f64(0.75) && pause(calls, &a) <= doubled.mul_f64(1.25));
        }
        assert!((1..9).any(|calls| pause(calls, &a) != pause(calls, &b)));
        assert!(pause(1_000_000, &a) <= LONGEST_PAUSE.mul_f64(1.25));
        assert_eq!(pause(3, &a), pause(3, &a));
    }
}
