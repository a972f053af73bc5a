#![doc = include_str!("docs/http.md")]

use crate::digest::Digest;
use crate::event::FailureClass;
use crate::rewards::HttpEndpoint;
use crate::rewards::component::{Kind, Measure};
use crate::rewards::components::judge::{Cache, JudgeAccess, cache_key};
use crate::rewards::remote::http_request::ApiKey;
use crate::rewards::remote::questions::{Extras, RewardQuestion, Sent, in_order, metrics, verdict};
use crate::rewards::remote::server::{Attempts, Server, Unanswered};
use crate::rewards::table::At;
use crate::rewards::text::explain::excerpt;
use crate::rewards::{
    BuildError, ComponentMetric, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext,
};
use crate::suggestion::did_you_mean;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use thiserror::Error;

/// What a service of yours says of it. It is posted a JSON array of completions, each as `command` gets it but for the
/// `id`, and answers with an array of `{"value": number}` or `{"missing": "why"}`, as long and in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    /// Name of the service; `[runtime.endpoints.NAME]` says where it is served.
    pub endpoint: String,
    /// Which version of the service is asked: when it changes, stages run again and kept answers are not used. Default:
    /// none.
    pub version: Option<String>,
    /// Keeps every answer in `runs/judge-cache`, as equal completions have equal answers, whatever is asked beside
    /// them. A resume or a rerun is the same to the bit only with it.
    pub cache: bool,
    /// What a question has besides: `row`, all fields of the row; `step`, the training step, which needs `cache =
    /// false`; `group`, the completions of the row that are rated together, with the place of this one. Default: `[]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub send: Vec<Sent>,
}

impl Kind for HttpSpec {
    const NAME: &'static str = "http";
    const PAGE: &'static str = include_str!("docs/http.md");
    const DEFAULTS: &'static str = r#"
scope = "completion" # a service can read tags
cache = true # else a resume would not be the same to the bit
send = [] # most services need texts alone
"#;

    type Table = Self;

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        if table.cache && table.send.contains(&Sent::Step) {
            let message = format!("`{}` has `step`, so no answer can be kept", recipe.name(At::Key("send")));
            let help =
                "the same completion has another answer at another step; write `cache = false`, or leave `step` out";
            recipe.problem(At::Key("send"), message, "changes with the step", help);
            return None;
        }
        let known = recipe.served("endpoints");
        let name = &table.endpoint;
        if known.contains(name) {
            return Some(Self { send: in_order(&table.send), ..table.clone() });
        }
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let message = format!("the endpoint `{name}` has no address");
        let help =
            did_you_mean(name, "endpoints", &known) + &format!("; add `[runtime.endpoints.{name:?}]` with its `url`");
        recipe.problem(At::Key("endpoint"), message, "not known", &help);
        None
    }
}

impl Measure for HttpSpec {
    fn build(&self, _scope: &Scope, setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        let extras = Extras::new(&self.send, setup.row_fields)?;
        Ok(Box::new(Http::new(self, extras, setup.endpoints, setup.judges.access())?))
    }

    fn range(&self) -> Option<(f64, f64)> {
        None
    }

    fn asks_a_server(&self) -> bool {
        true
    }

    fn reads_the_row(&self) -> bool {
        true
    }
}

/// The reason why a service cannot be set up.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The service has no endpoint in the recipe.
    #[error("the endpoint `{name}` has no address")]
    NoEndpoint {
        /// The name of the endpoint.
        name: String,
    },
    /// The environment variable with the key is not set.
    #[error("the environment variable `{variable}`, the key of the endpoint `{name}`, is not set")]
    NoKey {
        /// The name of the endpoint.
        name: String,
        /// The name of the variable.
        variable: String,
    },
}

/// The `http` component.
pub(super) struct Http {
    spec: HttpSpec,
    server: Server,
    batch_size: usize,
    concurrency: usize,
    cache: Cache,
    /// The questions of the last batch with their answers, and whether each answer came from the cache.
    said: HashMap<String, (String, bool)>,
    metrics: Vec<ComponentMetric>,
    extras: Extras,
    /// The service's own numbers in the answers of the last batch, by the key of the question.
    numbers: HashMap<Digest, BTreeMap<String, f64>>,
    /// Those numbers by sample.
    sample_metrics: Vec<BTreeMap<String, f64>>,
    warnings: Vec<String>,
    /// Whether numbers that cannot be used have been reported.
    warned: bool,
}

/// A question about a sample, with the cache key of its answer.
struct Asked {
    key: Digest,
    /// The JSON whose digest is the key.
    identity: Value,
    /// The question with nothing but texts, for explanations.
    plain: String,
}

/// The attempts at one request, with the questions in it.
type Posted<'a> = (&'a [Asked], Attempts<Vec<Value>, Infallible>);

impl Http {
    /// Sets up the service of `spec`, at its address in `endpoints`.
    pub(super) fn new(
        spec: &HttpSpec,
        extras: Extras,
        endpoints: &BTreeMap<String, HttpEndpoint>,
        access: &JudgeAccess<'_>,
    ) -> Result<Self, HttpError> {
        let name = &spec.endpoint;
        let endpoint = endpoints.get(name).ok_or_else(|| HttpError::NoEndpoint { name: name.clone() })?;
        let HttpEndpoint { url, api_key_env, batch_size, concurrency, timeout_s, retries, requests_per_minute } =
            endpoint;
        let key = match api_key_env {
            Some(variable) => {
                let key = (access.variable)(variable)
                    .filter(|key| !key.is_empty())
                    .ok_or_else(|| HttpError::NoKey { name: name.clone(), variable: variable.clone() })?;
                Some(ApiKey::new(key))
            }
            None => None,
        };
        Ok(Self {
            spec: spec.clone(),
            server: Server::new(url.clone(), key, *timeout_s, *retries, *requests_per_minute, access.stop),
            batch_size: *batch_size,
            concurrency: *concurrency,
            cache: Cache::new(access.cache),
            said: HashMap::new(),
            metrics: Vec::new(),
            extras,
            numbers: HashMap::new(),
            sample_metrics: Vec::new(),
            warnings: Vec::new(),
            warned: false,
        })
    }

    fn asked(&self, index: usize, question: &RewardQuestion<'_>, plain: String) -> Asked {
        let mut identity = json!({"endpoint": self.spec.endpoint, "version": self.spec.version, "question": question});
        if !self.spec.cache {
            // without a cache, equal questions are sent separately
            identity["index"] = json!(index);
        }
        Asked { key: cache_key(&identity), identity, plain }
    }

    /// Returns the cached answer; `None` without one.
    fn kept(&mut self, Asked { key, plain, .. }: &Asked) -> Option<RewardValue> {
        if !self.spec.cache {
            return None;
        }
        match self.cache.get::<Value>(key) {
            Ok(answer) => {
                let answer = answer?;
                let verdict = verdict(&answer).ok()?;
                self.note_numbers(key, &answer);
                self.said.insert(plain.clone(), (answer.to_string(), true));
                Some(verdict)
            }
            Err(error) => {
                self.warnings.push(format!("it is asked again, as a kept answer cannot be read: {error}"));
                None
            }
        }
    }

    /// Sends all questions in batches, with the endpoint's limit of concurrent requests.
    ///
    /// After a refusal, no further requests are sent.
    fn post<'a>(&self, questions: &'a [Asked]) -> Vec<Posted<'a>> {
        let requests: Vec<&[Asked]> = questions.chunks(self.batch_size).collect();
        let (next, is_over) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        let work = || {
            let mut done = Vec::new();
            while !is_over.load(Ordering::Relaxed)
                && let Some(&asked) = requests.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let body: Value = asked.iter().map(|asked| asked.identity["question"].clone()).collect();
                let parse = |body: &str| answers(body, asked.len());
                let attempts = self.server.ask(&body, &asked[0].key, parse, || Ok(()));
                if matches!(attempts.result, Err(Unanswered::Refused(_) | Unanswered::Interrupted)) {
                    is_over.store(true, Ordering::Relaxed);
                }
                done.push((asked, attempts));
            }
            done
        };
        self.server.begin();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.concurrency.min(requests.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("asking does not panic")).collect()
        })
    }

    /// Adds the values of the `posted` requests to `verdicts`, by key.
    fn add_answers(
        &mut self,
        posted: Vec<Posted<'_>>,
        verdicts: &mut HashMap<Digest, RewardValue>,
    ) -> Result<(), RewardError> {
        let (mut calls, mut failed_calls, mut latencies) = (0, 0, Vec::new());
        let (mut refused, mut interrupted) = (None, false);
        for (asked, attempts) in posted {
            calls += attempts.calls;
            failed_calls += attempts.calls - u64::from(attempts.latency.is_some());
            latencies.extend(attempts.latency.map(|latency| latency.as_secs_f64()));
            match attempts.result {
                Ok(answers) => {
                    for (asked, answer) in asked.iter().zip(answers) {
                        verdicts.insert(asked.key.clone(), self.settle(asked, answer));
                    }
                }
                Err(Unanswered::Question(reason)) => {
                    let missing = RewardValue::Missing(self.said(&reason));
                    verdicts.extend(asked.iter().map(|asked| (asked.key.clone(), missing.clone())));
                }
                Err(Unanswered::Refused(reason)) => refused = Some(reason),
                Err(Unanswered::Interrupted) => interrupted = true,
                Err(Unanswered::Stopped(never)) => match never {},
            }
        }
        self.metrics.push(ComponentMetric::count("calls", calls as f64));
        self.metrics.push(ComponentMetric::count("failed_calls", failed_calls as f64));
        if !latencies.is_empty() {
            let mean = latencies.iter().sum::<f64>() / latencies.len() as f64;
            self.metrics.push(ComponentMetric::mean("latency_s", mean));
        }
        if interrupted {
            return Err(RewardError::interrupted());
        }
        match refused {
            Some(reason) => {
                let table = format!("[runtime.endpoints.{:?}]", self.spec.endpoint);
                let hint = format!("check `url` in `{table}`; `api_key_env` names the variable with a key");
                Err(RewardError {
                    message: self.said(&reason),
                    hint: Some(hint),
                    class: FailureClass::JudgeUnavailable,
                })
            }
            None => Ok(()),
        }
    }

    /// Returns the value of an answer. A valid answer is cached; if another one was cached first, that one counts.
    fn settle(&mut self, Asked { key, identity, plain }: &Asked, answer: Value) -> RewardValue {
        self.said.insert(plain.clone(), (answer.to_string(), false));
        self.note_numbers(key, &answer);
        let now = match verdict(&answer) {
            Ok(verdict) => verdict,
            Err(reason) => return RewardValue::Missing(self.said(&reason)),
        };
        if !self.spec.cache {
            return now;
        }
        match self.cache.store(key, identity, answer) {
            Ok(counts) => {
                self.note_numbers(key, &counts);
                verdict(&counts).unwrap_or(now)
            }
            Err(error) => {
                let text = format!("an answer cannot be kept, so a resume would ask again: {error}");
                if !self.warnings.contains(&text) {
                    self.warnings.push(text);
                }
                now
            }
        }
    }

    /// Notes the service's own numbers in an answer. The first that cannot be used is warned of.
    fn note_numbers(&mut self, key: &Digest, answer: &Value) {
        match metrics(answer) {
            Ok(numbers) => drop(self.numbers.insert(key.clone(), numbers)),
            Err(reason) if !self.warned => {
                self.warned = true;
                self.warnings.push(format!("numbers are left out: {reason}"));
            }
            Err(_) => {}
        }
    }

    fn said(&self, reason: &str) -> String {
        format!("the endpoint `{}` at {}: {reason}", self.spec.endpoint, self.server.url())
    }
}

/// Parses the answers in `body`, which must be `count` many.
fn answers(body: &str, count: usize) -> Result<Vec<Value>, String> {
    match serde_json::from_str::<Vec<Value>>(body) {
        Ok(answers) if answers.len() == count => Ok(answers),
        Ok(answers) => Err(format!("it sends {} answers to {count} questions", answers.len())),
        Err(_) => Err(format!("its answer is not a JSON array: {}", super::judge::shortened(body))),
    }
}

impl Reward for Http {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        let questions = self.extras.questions(samples, texts);
        let pairs = samples.iter().zip(texts).zip(&questions).enumerate();
        let asked: Vec<Asked> = pairs
            .map(|(index, ((sample, text), question))| self.asked(index, question, plain(sample, *text)))
            .collect();
        let keys: Vec<Digest> = asked.iter().map(|asked| asked.key.clone()).collect();
        self.said.clear();
        self.numbers.clear();
        let mut verdicts = HashMap::new();
        let mut new: Vec<Asked> = Vec::new();
        for asked in asked {
            if verdicts.contains_key(&asked.key) || new.iter().any(|other| other.key == asked.key) {
                continue;
            }
            match self.kept(&asked) {
                Some(verdict) => drop(verdicts.insert(asked.key, verdict)),
                None => new.push(asked),
            }
        }
        self.metrics = vec![ComponentMetric::count("cache_hits", verdicts.len() as f64)];
        let posted = self.post(&new);
        self.add_answers(posted, &mut verdicts)?;
        self.sample_metrics = keys.iter().map(|key| self.numbers.get(key).cloned().unwrap_or_default()).collect();
        Ok(keys.iter().map(|key| verdicts[key].clone()).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let sent = RewardQuestion::new(sample, text).shown();
        Some(match self.said.get(&plain(sample, text)) {
            Some((answer, true)) => format!("to {sent} it once answered {}, which is kept", excerpt(answer)),
            Some((answer, false)) => format!("it is sent {sent} and answers {}", excerpt(answer)),
            None => format!("it is sent {sent} and gives no answer"),
        })
    }

    fn metrics(&self) -> Vec<ComponentMetric> {
        self.metrics.clone()
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn set_step(&mut self, step: u64) {
        self.extras.set_step(step);
    }

    fn sample_metrics(&self) -> &[BTreeMap<String, f64>] {
        &self.sample_metrics
    }
}

/// Returns the question with nothing but texts, as JSON.
fn plain(sample: &Sample<'_>, text: Option<&str>) -> String {
    json!(RewardQuestion::new(sample, text)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_body_is_as_many_answers_as_questions_or_a_short_reason(
            body in r#"(\[|\]|\{|"value": ?|"missing": ?|"so"|-|[0-9]{1,3}|e999|NaN|null|, ?|\}|\PC)*"#, count in 0..4_usize
        ) {
            match answers(&body, count) {
                Ok(answers) => {
                    prop_assert_eq!(answers.len(), count);
                    for answer in answers {
                        match verdict(&answer) {
                            Ok(RewardValue::Value(value)) => prop_assert!(value.is_finite()),
                            Ok(RewardValue::Missing(_)) => {}
                            Err(reason) => prop_assert!(reason.chars().count() < 300),
                        }
                    }
                }
                Err(reason) => prop_assert!(reason.chars().count() < 300),
            }
        }

        #[test]
        fn answers_keep_their_number_and_order(values in prop::collection::vec(-1e6..1e6, 0..9), others in 1..3_usize) {
            let body = values.iter().map(|value| json!({"value": value})).collect::<Value>().to_string();
            let read = answers(&body, values.len()).unwrap();
            let read: Vec<RewardValue> = read.iter().map(|answer| verdict(answer).unwrap()).collect();
            prop_assert_eq!(read, values.iter().copied().map(RewardValue::Value).collect::<Vec<_>>());
            prop_assert!(answers(&body, values.len() + others).is_err());
        }
    }
}
