//! `judge`: what language models say of a text, by a rubric.
//!
//! Any server of OpenAI's chat completions may judge. Each sample becomes one request for each judge (`prompt`); those
//! that were asked before are answered from disk (`cache`), the others are sent, several at a time (`client`, over a `server`, which is
//! asked again after a failure). An answer is a score or nothing (`verdict`).
//!
//! Values depend on the answers alone, never on their order or timing: equal requests are sent once, and results are put
//! together in the order of the samples.
#![doc = include_str!("../docs/judge.md")]

mod cache;
mod chat;
mod client;
mod prompt;
mod verdict;

pub(super) use self::cache::{Cache, key as cache_key};
use self::client::{Asked, Client, Failure};
use self::prompt::{Prompt, request};
pub(super) use self::verdict::shortened;
use self::verdict::{Answer, aggregated, spread};
use super::exchange::ApiKey;
use super::{Reward, RewardError, Sample, Verdict};
use crate::digest::Digest;
use crate::recipe::JudgeServer;
use crate::recipe::spec::JudgeSpec;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use thiserror::Error;

/// How judges are reached, and where their answers are kept.
#[derive(Clone, Copy)]
pub struct JudgeAccess<'a> {
    /// Where each judge is served, by the name of its model.
    pub servers: &'a BTreeMap<String, JudgeServer>,
    /// The directory of answers, which all stages share; made when there is one to keep.
    pub cache: &'a Path,
    /// The directory that remembers what this stage spent.
    pub ledgers: &'a Path,
    /// The value of an environment variable: keys come from there alone.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Why a judge cannot be set up.
#[derive(Debug, Error)]
pub enum JudgeError {
    /// Nobody says where it is served.
    #[error("nothing says where the judge `{model}` is served")]
    NoServer {
        /// Name of the model.
        model: String,
    },
    /// The environment lacks its key.
    #[error("the environment variable `{variable}`, the key of the judge `{model}`, is not set")]
    NoKey {
        /// Name of the model.
        model: String,
        /// Name of the variable.
        variable: String,
    },
    /// The template does not compile.
    #[error("its prompt is not a template")]
    Prompt(#[from] minijinja::Error),
}

/// The judges of a mix: components that ask the same judge share its limits and its budget.
pub(super) struct Bench<'a> {
    access: JudgeAccess<'a>,
    clients: BTreeMap<String, Arc<Client>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(access: JudgeAccess<'a>) -> Self {
        Self { access, clients: BTreeMap::new() }
    }

    fn client(&mut self, model: &str) -> Result<Arc<Client>, JudgeError> {
        if let Some(client) = self.clients.get(model) {
            return Ok(Arc::clone(client));
        }
        let server = self.access.servers.get(model).ok_or_else(|| JudgeError::NoServer { model: model.to_owned() })?;
        let key = match &server.api_key_env {
            Some(variable) => {
                let key = (self.access.variable)(variable)
                    .filter(|key| !key.is_empty())
                    .ok_or_else(|| JudgeError::NoKey { model: model.to_owned(), variable: variable.clone() })?;
                Some(ApiKey::new(key))
            }
            None => None,
        };
        let client = Arc::new(Client::new(model, server, key, self.access.ledgers));
        self.clients.insert(model.to_owned(), Arc::clone(&client));
        Ok(client)
    }
}

/// The component. A completion without the text, or with an empty one, is 0 and not asked about.
pub(super) struct Judge {
    spec: JudgeSpec,
    prompt: Prompt,
    judges: Vec<Arc<Client>>,
    cache: Cache,
    metrics: Vec<(&'static str, f64)>,
    warnings: Vec<String>,
}

/// A request to one of the judges.
struct Question {
    /// Which judge.
    judge: usize,
    request: Value,
    key: Digest,
}

/// What is known of a sample before anybody is asked.
enum Case {
    Settled(Verdict),
    /// The key of the request to each judge, in the judges' order.
    Asked(Vec<Digest>),
}

/// The answers, or why there are none, by the key of the request.
type Answers = HashMap<Digest, Result<Answer, String>>;

impl Judge {
    pub(super) fn new(spec: &JudgeSpec, bench: &mut Bench<'_>) -> Result<Self, JudgeError> {
        let judges = spec.judges.iter().map(|model| bench.client(model)).collect::<Result<_, _>>()?;
        Ok(Self {
            spec: spec.clone(),
            prompt: Prompt::new(spec)?,
            judges,
            cache: Cache::new(bench.access.cache),
            metrics: Vec::new(),
            warnings: Vec::new(),
        })
    }

    fn case(&self, sample: &Sample<'_>, text: Option<&str>, questions: &mut BTreeMap<Digest, Question>) -> Case {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Case::Settled(Verdict::Value(0.0)) };
        let message = match self.prompt.render(sample, text) {
            Ok(message) => message,
            Err(reason) => return Case::Settled(Verdict::Missing(reason)),
        };
        let to_each = self.judges.iter().enumerate().map(|(judge, client)| {
            let request = request(&self.spec, client.model(), &message);
            let key = cache::key(&request);
            questions.entry(key.clone()).or_insert_with(|| Question { judge, request, key: key.clone() });
            key
        });
        Case::Asked(to_each.collect())
    }

    /// Answers to `questions`, from the cache or from the judges.
    fn answers(&mut self, questions: BTreeMap<Digest, Question>) -> Result<Answers, RewardError> {
        let mut answers = Answers::new();
        let mut new = Vec::new();
        for question in questions.into_values() {
            match self.cache.get(&question.key) {
                Ok(Some(answer)) => {
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
        let (mut calls, mut failed_calls, mut tokens, mut latencies) = (0, 0, 0, Vec::new());
        let mut end = None;
        for (question, asked) in new.iter().zip(asked) {
            let Some(Asked { result, calls: of_this, latency }) = asked else { continue };
            calls += of_this;
            failed_calls += of_this - u64::from(latency.is_some());
            latencies.extend(latency.map(|latency| latency.as_secs_f64()));
            let result = match result {
                Ok(answer) => {
                    tokens += answer.total_tokens;
                    Ok(answer)
                }
                Err(Failure::Question(reason)) => Err(reason),
                Err(Failure::Judge(message, hint)) => {
                    end.get_or_insert(RewardError { message, hint: Some(hint), is_judge: true });
                    continue;
                }
            };
            answers.insert(question.key.clone(), result);
        }
        self.metrics = vec![
            ("calls", calls as f64),
            ("cache_hits", cache_hits as f64),
            ("failed_calls", failed_calls as f64),
            ("tokens", tokens as f64),
        ];
        if !latencies.is_empty() {
            self.metrics.push(("latency_s", latencies.iter().sum::<f64>() / latencies.len() as f64));
        }
        end.map_or(Ok(answers), Err)
    }

    /// Asks every question, each judge as many at a time as it lets. One result a question, in order; absent where a
    /// failure that ends the stage came before.
    fn ask(&mut self, questions: &[Question]) -> Vec<Option<Asked>> {
        let mut results: Vec<Option<Asked>> = questions.iter().map(|_| None).collect();
        let (cache, is_over) = (&self.cache, &AtomicBool::new(false));
        let mut unkept = Vec::new();
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (judge, client) in self.judges.iter().enumerate() {
                let own = questions.iter().enumerate().filter(|(_, question)| question.judge == judge);
                let own: Arc<Vec<(usize, &Question)>> = Arc::new(own.collect());
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
                                // kept at once: a worker that is killed now need not ask again
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

    /// Each judge's value of a sample whose requests have `keys`; or why one of them is lacking.
    fn values(&self, keys: &[Digest], answers: &Answers) -> Result<Vec<f64>, String> {
        let value = |(key, client): (&Digest, &Arc<Client>)| {
            let answer = answers[key].as_ref().map_err(String::clone)?;
            answer.value(&self.spec).map_err(|reason| format!("the judge `{}`: {reason}", client.model()))
        };
        keys.iter().zip(&self.judges).map(value).collect()
    }
}

impl Reward for Judge {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<Verdict>, RewardError> {
        let mut questions = BTreeMap::new();
        let cases: Vec<Case> =
            samples.iter().zip(texts).map(|(sample, text)| self.case(sample, *text, &mut questions)).collect();
        let answers = self.answers(questions)?;
        let mut spreads = Vec::new();
        let verdicts = cases.into_iter().map(|case| match case {
            Case::Settled(verdict) => verdict,
            Case::Asked(keys) => match self.values(&keys, &answers) {
                Ok(values) => {
                    spreads.push(spread(&values));
                    Verdict::Value(aggregated(&values, self.spec.aggregate))
                }
                // an aggregate of fewer judges would be another reward
                Err(reason) => Verdict::Missing(reason),
            },
        });
        let verdicts: Vec<Verdict> = verdicts.collect();
        if self.judges.len() > 1 && !spreads.is_empty() {
            self.metrics.push(("spread", spreads.iter().sum::<f64>() / spreads.len() as f64));
        }
        Ok(verdicts)
    }

    /// What each judge wrote; nobody is asked.
    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let Case::Asked(keys) = self.case(sample, text, &mut BTreeMap::new()) else { return None };
        let wrote = |(key, client): (&Digest, &Arc<Client>)| {
            let answer: Option<Answer> = self.cache.get(key).ok().flatten();
            let text = answer.map(|answer| shortened(&answer.refusal.or(answer.content).unwrap_or_default()));
            format!("`{}` wrote {}", client.model(), text.as_deref().unwrap_or("nothing that was kept"))
        };
        Some(keys.iter().zip(&self.judges).map(wrote).collect::<Vec<_>>().join(", "))
    }

    fn metrics(&self) -> Vec<(&'static str, f64)> {
        self.metrics.clone()
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::recipe::spec::Aggregate;

    pub(super) fn spec() -> JudgeSpec {
        JudgeSpec {
            judges: vec!["m".to_owned()],
            aggregate: Aggregate::Mean,
            prompt: "Rate from {{ min_score }} to {{ max_score }}: {{ completion }}".to_owned(),
            min_score: 1,
            max_score: 5,
            temperature: 0.0,
            seed: 0,
            max_tokens: 64,
        }
    }
}
