//! A server that is retried after a failure: after the delay it requests, or after increasing delays.

use crate::digest::Digest;
use crate::rewards::remote::http_request::{ApiKey, Exchange, Outcome};
use crate::rewards::remote::stop::StopCheck;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The total delay for one question beyond which a server counts as unavailable.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// The reason why a question has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rewards) enum Unanswered<E> {
    /// This question has no answer, but others may have one.
    Question(String),
    /// The server refuses all questions.
    Refused(String),
    /// `before` stopped the request.
    Stopped(E),
    /// Rating was asked to stop.
    Interrupted,
}

/// The result and cost of one question.
pub(in crate::rewards) struct Attempts<T, E> {
    pub(in crate::rewards) result: Result<T, Unanswered<E>>,
    /// The number of requests sent.
    pub(in crate::rewards) calls: u64,
    /// The duration of the request that was answered; absent without an answer.
    pub(in crate::rewards) latency: Option<Duration>,
}

pub(in crate::rewards) struct Server {
    exchange: Exchange,
    retries: u32,
    /// The interval between requests.
    between: Duration,
    /// The earliest time of the next request.
    next: Mutex<Instant>,
    /// Whether retries were exhausted and no request has been answered since. Each question is then sent only once.
    is_down: AtomicBool,
    stop: StopCheck,
}

impl Server {
    pub(in crate::rewards) fn new(
        url: String,
        key: Option<ApiKey>,
        timeout_s: f64,
        retries: u32,
        requests_per_minute: Option<f64>,
        stop: &StopCheck,
    ) -> Self {
        Self {
            exchange: Exchange::new(url, key, timeout_s, stop.clone()),
            retries,
            between: requests_per_minute.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(60.0 / rate)),
            next: Mutex::new(Instant::now()),
            is_down: AtomicBool::new(false),
            stop: stop.clone(),
        }
    }

    pub(in crate::rewards) fn url(&self) -> &str {
        self.exchange.url()
    }

    pub(in crate::rewards) fn has_key(&self) -> bool {
        self.exchange.has_key()
    }

    /// Starts a new batch: a server that was down may be up again.
    pub(in crate::rewards) fn begin(&self) {
        self.is_down.store(false, Ordering::Relaxed);
    }

    /// Sends a request until `parse` accepts an answer, or until a reason to give up.
    ///
    /// `before` runs ahead of each request and may stop it. `key` is the request's digest.
    pub(in crate::rewards) fn ask<T, E>(
        &self,
        request: &Value,
        key: &Digest,
        parse: impl Fn(&str) -> Result<T, String>,
        before: impl Fn() -> Result<(), E>,
    ) -> Attempts<T, E> {
        let (mut calls, mut waited) = (0, Duration::ZERO);
        let without = |calls, unanswered| Attempts { result: Err(unanswered), calls, latency: None };
        loop {
            if let Err(stopped) = before() {
                return without(calls, Unanswered::Stopped(stopped));
            }
            if !self.keep_pace() {
                return without(calls, Unanswered::Interrupted);
            }
            let started = Instant::now();
            calls += 1;
            let (reason, wait) = match self.exchange.send(request, &parse) {
                Outcome::Answered(answer) => {
                    self.is_down.store(false, Ordering::Relaxed);
                    return Attempts { result: Ok(answer), calls, latency: Some(started.elapsed()) };
                }
                Outcome::Rejected(reason) => return without(calls, Unanswered::Question(reason)),
                Outcome::Refused(reason) => return without(calls, Unanswered::Refused(reason)),
                Outcome::Unreachable(reason) => {
                    self.is_down.store(true, Ordering::Relaxed);
                    return without(calls, Unanswered::Question(reason));
                }
                Outcome::Later(reason, wait) => (reason, wait),
                Outcome::Interrupted => return without(calls, Unanswered::Interrupted),
            };
            let is_last = calls > u64::from(self.retries) || self.is_down.load(Ordering::Relaxed);
            waited += wait.unwrap_or_default();
            if is_last || waited > LONGEST_RETRY_AFTER {
                self.is_down.store(true, Ordering::Relaxed);
                let tries = if calls == 1 { String::new() } else { format!(", {calls} times in a row") };
                return without(calls, Unanswered::Question(format!("{reason}{tries}")));
            }
            match wait {
                // a requested delay applies to all requests
                Some(wait) => self.hold(Instant::now() + wait),
                None if self.stop.wait(Instant::now() + pause(calls, key)) => {}
                None => return without(calls, Unanswered::Interrupted),
            }
        }
    }

    /// Waits for this request's turn; returns `false` when rating should stop first.
    fn keep_pace(&self) -> bool {
        loop {
            let now = Instant::now();
            let mut next = lock(&self.next);
            if *next <= now {
                *next = now + self.between;
                return true;
            }
            let turn = *next;
            drop(next);
            if !self.stop.wait(turn) {
                return false;
            }
        }
    }

    fn hold(&self, until: Instant) {
        let mut next = lock(&self.next);
        *next = (*next).max(until);
    }
}

/// Returns the delay after the `calls`th failure in a row: exponential backoff with jitter.
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
