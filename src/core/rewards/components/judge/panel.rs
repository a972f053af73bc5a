//! A panel of judges that get the same questions, answered from the cache or by concurrent requests.

use super::cache::{self, Cache};
use super::client::{Asked, Client, Failure};
use super::prompt::request;
use super::verdict::JudgeReply;
use super::{JudgeError, JudgePool};
use crate::digest::Digest;
use crate::rewards::JudgeSampling;
use crate::rewards::{ComponentMetric, RewardError};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A request to one of the judges.
pub(super) struct JudgeQuestion {
    /// The index of the judge.
    judge: usize,
    request: Value,
    key: Digest,
}

/// The questions by key, each once.
pub(super) type Questions = BTreeMap<Digest, JudgeQuestion>;

/// The answers by the request's key, or the reasons why they are missing.
pub(super) type Answers = HashMap<Digest, Result<JudgeReply, String>>;

pub(super) struct Panel {
    judges: Vec<Arc<Client>>,
    cache: Cache,
    /// The metrics of the last questions.
    metrics: Vec<ComponentMetric>,
    warnings: Vec<String>,
}

impl Panel {
    /// Sets up the judges with these names.
    pub(super) fn new(names: &[String], bench: &mut JudgePool<'_>) -> Result<Self, JudgeError> {
        let judges = names.iter().map(|name| bench.client(name)).collect::<Result<_, _>>()?;
        Ok(Self { judges, cache: Cache::new(bench.access.cache), metrics: Vec::new(), warnings: Vec::new() })
    }

    /// The judges in the order of their answers.
    pub(super) fn judges(&self) -> &[Arc<Client>] {
        &self.judges
    }

    pub(super) fn metrics(&self) -> &[ComponentMetric] {
        &self.metrics
    }

    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Adds `message` to each judge to `questions`; returns the keys of the answers, in the order of the judges.
    pub(super) fn put(
        &self,
        message: &str,
        sampling: JudgeSampling,
        schema: &Value,
        questions: &mut Questions,
    ) -> Vec<Digest> {
        self.put_request(|model| request(sampling, model, message, schema), questions)
    }

    /// Adds the request to each judge, by the judge's name, to `questions`; returns the keys of the answers, in the
    /// order of the judges.
    pub(super) fn put_request(&self, request: impl Fn(&str) -> Value, questions: &mut Questions) -> Vec<Digest> {
        let to_each = self.judges.iter().enumerate().map(|(judge, client)| {
            let request = request(client.model());
            let key = cache::key(&request);
            questions.entry(key.clone()).or_insert_with(|| JudgeQuestion { judge, request, key: key.clone() });
            key
        });
        to_each.collect()
    }

    /// Applies `read` to each judge's answer to the requests with `keys`; returns its result or the reason for failure.
    pub(super) fn read<T>(
        &self,
        keys: &[Digest],
        answers: &Answers,
        read: impl Fn(&JudgeReply) -> Result<T, String>,
    ) -> Vec<Result<T, String>> {
        let of_one = |(key, client): (&Digest, &Arc<Client>)| {
            let answer = answers[key].as_ref().map_err(String::clone)?;
            read(answer).map_err(|reason| format!("the judge `{}`: {reason}", client.model()))
        };
        keys.iter().zip(&self.judges).map(of_one).collect()
    }

    /// Returns the cached answer to the request with this key.
    pub(super) fn kept(&self, key: &Digest) -> Option<JudgeReply> {
        self.cache.get(key).ok().flatten()
    }

    /// Answers `questions` from the cache or by the judges.
    ///
    /// # Errors
    /// Fails if a judge refuses all requests, or its budget is used up.
    pub(super) fn answers(&mut self, questions: Questions) -> Result<Answers, RewardError> {
        let mut answers = Answers::new();
        let mut new = Vec::new();
        for question in questions.into_values() {
            match self.cache.get(&question.key) {
                Ok(Some(answer)) => {
                    self.judges[question.judge].count_cached();
                    answers.insert(question.key, Ok(answer));
                }
                Ok(None) => new.push(question),
                Err(error) => {
                    self.warnings.push(format!("a judge is asked again, as its kept answer cannot be read: {error}"));
                    new.push(question);
                }
            }
        }
        let cache_hits = answers.len();
        let asked = self.ask(&new);
        let (mut calls, mut failed_calls, mut latencies) = (0, 0, Vec::new());
        let (mut tokens, mut prompt_tokens, mut completion_tokens, mut cost_usd) = (0, 0, 0, None);
        let mut end = None;
        for (question, asked) in new.iter().zip(asked) {
            let Some(Asked { result, calls: of_this, latency }) = asked else { continue };
            calls += of_this;
            failed_calls += of_this - u64::from(latency.is_some());
            latencies.extend(latency.map(|latency| latency.as_secs_f64()));
            let result = match result {
                Ok(answer) => {
                    tokens += answer.total_tokens;
                    prompt_tokens += answer.prompt_tokens;
                    completion_tokens += answer.completion_tokens;
                    if let Some(cost) = self.judges[question.judge].cost_usd(&answer) {
                        *cost_usd.get_or_insert(0.0) += cost;
                    }
                    Ok(answer)
                }
                Err(Failure::Question(reason)) => Err(reason),
                Err(Failure::Judge(error)) => {
                    end.get_or_insert(error);
                    continue;
                }
            };
            answers.insert(question.key.clone(), result);
        }
        let counts = [
            ("calls", calls as f64),
            ("cache_hits", cache_hits as f64),
            ("failed_calls", failed_calls as f64),
            ("tokens", tokens as f64),
            ("prompt_tokens", prompt_tokens as f64),
            ("completion_tokens", completion_tokens as f64),
        ];
        let counts = counts.into_iter().chain(cost_usd.map(|cost| ("cost_usd", cost)));
        self.metrics = counts.map(|(name, value)| ComponentMetric::count(name, value)).collect();
        if !latencies.is_empty() {
            let mean = latencies.iter().sum::<f64>() / latencies.len() as f64;
            self.metrics.push(ComponentMetric::mean("latency_s", mean));
        }
        end.map_or(Ok(answers), Err)
    }

    /// Sends every question, within each judge's limit of concurrent requests.
    ///
    /// Returns one result per question, in order. It is `None` for questions that were not sent after a failure that
    /// ends the stage.
    fn ask(&mut self, questions: &[JudgeQuestion]) -> Vec<Option<Asked>> {
        let mut results: Vec<Option<Asked>> = questions.iter().map(|_| None).collect();
        let (cache, is_over) = (&self.cache, &AtomicBool::new(false));
        let mut unkept = Vec::new();
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (judge, client) in self.judges.iter().enumerate() {
                let own = questions.iter().enumerate().filter(|(_, question)| question.judge == judge);
                let own: Arc<Vec<(usize, &JudgeQuestion)>> = Arc::new(own.collect());
                let next = Arc::new(AtomicUsize::new(0));
                if !own.is_empty() {
                    client.begin();
                }
                for _ in 0..client.concurrency().min(own.len()) {
                    let (own, next) = (Arc::clone(&own), Arc::clone(&next));
                    threads.push(scope.spawn(move || {
                        let mut done = Vec::new();
                        while !is_over.load(Ordering::Relaxed)
                            && let Some(&(index, question)) = own.get(next.fetch_add(1, Ordering::Relaxed))
                        {
                            let mut asked = client.ask(&question.request, &question.key);
                            let mut unkept = None;
                            match &mut asked.result {
                                // cached immediately: if the worker is killed now, the request need not be repeated
                                Ok(answer) => match cache.store(&question.key, &question.request, answer.clone()) {
                                    Ok(kept) => *answer = kept,
                                    Err(error) => unkept = Some(error),
                                },
                                Err(Failure::Judge(..)) => is_over.store(true, Ordering::Relaxed),
                                Err(Failure::Question(_)) => {}
                            }
                            done.push((index, asked, unkept));
                        }
                        done
                    }));
                }
            }
            for thread in threads {
                for (index, asked, error) in thread.join().expect("asking a judge does not panic") {
                    results[index] = Some(asked);
                    unkept.extend(error);
                }
            }
        });
        for client in &self.judges {
            unkept.extend(client.save_spent().err());
        }
        if let Some(error) = unkept.first() {
            self.warnings.push(format!("a judge's answer cannot be kept, so a resume would ask again: {error}"));
        }
        results
    }
}
