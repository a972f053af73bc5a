//! The `judge` component: one request per judge and sample, or two per pair.

use super::client::Client;
use super::pairs::PairJudges;
use super::panel::Panel;
use super::scores::Scorers;
use super::spec::{JudgeMode, JudgeSpec};
use super::verdict::{aggregated, spread};
use super::versus::{Against, Versus};
use crate::rewards::JudgeServer;
use crate::rewards::remote::http_request::ApiKey;
use crate::rewards::{ComponentMetric, Reward, RewardError, RewardValue, Sample, StopCheck};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// The access to judges and to the cache of their answers.
#[derive(Clone, Copy)]
pub struct JudgeAccess<'a> {
    /// The servers of judges, by the names of their models.
    pub servers: &'a BTreeMap<String, JudgeServer>,
    /// The directory of cached answers, which all stages share; created with the first answer.
    pub cache: &'a Path,
    /// The directory in which this stage's spending is saved.
    pub ledgers: &'a Path,
    /// The value of an environment variable; API keys come only from variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The check that ends waiting for a judge.
    pub stop: &'a StopCheck,
}

/// The reason why a judge cannot be set up.
#[derive(Debug, Error)]
pub enum JudgeError {
    /// The judge has no server in the recipe.
    #[error("the judge `{model}` has no address")]
    NoServer {
        /// The name of the model.
        model: String,
    },
    /// The environment variable with the key is not set.
    #[error("the environment variable `{variable}`, the key of the judge `{model}`, is not set")]
    NoKey {
        /// The name of the model.
        model: String,
        /// The name of the variable.
        variable: String,
    },
    /// The template of the prompt cannot be compiled.
    #[error("its prompt is not a template")]
    Prompt(#[from] minijinja::Error),
}

/// The judges of a mix. Components that use the same judge share its limits and its budget.
pub(in crate::rewards) struct JudgePool<'a> {
    pub(super) access: JudgeAccess<'a>,
    clients: BTreeMap<String, Arc<Client>>,
}

impl<'a> JudgePool<'a> {
    pub(in crate::rewards) fn new(access: JudgeAccess<'a>) -> Self {
        Self { access, clients: BTreeMap::new() }
    }

    /// The access to judges.
    pub(in crate::rewards) fn access(&self) -> &JudgeAccess<'a> {
        &self.access
    }

    /// The clients of all judges that the components use.
    pub(in crate::rewards) fn clients(self) -> Vec<Arc<Client>> {
        self.clients.into_values().collect()
    }

    pub(super) fn client(&mut self, model: &str) -> Result<Arc<Client>, JudgeError> {
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
        let client = Arc::new(Client::new(model, server, key, self.access.ledgers, self.access.stop));
        self.clients.insert(model.to_owned(), Arc::clone(&client));
        Ok(client)
    }
}

/// The `judge` component. A completion without the text, or with an empty one, has the value 0 without a request.
pub(in crate::rewards::components) struct Judge {
    spec: JudgeSpec,
    asking: Asking,
    /// The mean difference between the highest and the lowest judge in the last batch.
    spread: Option<f64>,
}

/// The questions to the judges: scores or pairs.
pub(super) enum Asking {
    Scores(Scorers),
    Pairs(Versus),
}

/// The result for a sample.
pub(super) enum Case {
    /// A value, or a missing one, without a request.
    Settled(RewardValue),
    /// Each judge's value, in the order of the judges, or the reason why it is missing.
    Judged(Vec<Result<f64, String>>),
}

pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

impl Judge {
    pub(in crate::rewards::components) fn new(spec: &JudgeSpec, bench: &mut JudgePool<'_>) -> Result<Self, JudgeError> {
        Ok(Self { spec: spec.clone(), asking: Asking::new(spec, bench)?, spread: None })
    }
}

impl Asking {
    pub(super) fn new(spec: &JudgeSpec, bench: &mut JudgePool<'_>) -> Result<Self, JudgeError> {
        let JudgeSpec { judges, sampling, .. } = spec;
        let mut versus = |prompt: &str, against| {
            let judges = PairJudges::of(prompt, *sampling, judges, bench)?;
            Ok(Self::Pairs(Versus::new(judges, against)))
        };
        match &spec.mode {
            JudgeMode::Rubric(scale) => Scorers::new(scale, *sampling, judges, bench).map(Self::Scores),
            JudgeMode::PairWithReference { prompt } => versus(prompt, Against::Reference),
            JudgeMode::PairWithinGroup { prompt, opponents } => versus(prompt, Against::Group(*opponents)),
        }
    }

    pub(super) fn panel(&self) -> &Panel {
        match self {
            Self::Scores(scorers) => &scorers.panel,
            Self::Pairs(versus) => &versus.judges.panel,
        }
    }

    pub(super) fn panel_mut(&mut self) -> &mut Panel {
        match self {
            Self::Scores(scorers) => &mut scorers.panel,
            Self::Pairs(versus) => &mut versus.judges.panel,
        }
    }
}

impl Reward for Judge {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        self.spread = None;
        let cases = match &mut self.asking {
            Asking::Scores(scorers) => scorers.measure(samples, texts, 0)?,
            Asking::Pairs(versus) => versus.measure(samples, texts)?,
        };
        let mut spreads = Vec::new();
        let verdicts = cases.into_iter().map(|case| match case {
            Case::Settled(verdict) => verdict,
            Case::Judged(values) => match values.into_iter().collect::<Result<Vec<f64>, String>>() {
                Ok(values) => {
                    spreads.push(spread(&values));
                    RewardValue::Value(aggregated(&values, self.spec.aggregate))
                }
                // an aggregate of fewer judges would be a different reward
                Err(reason) => RewardValue::Missing(reason),
            },
        });
        let verdicts: Vec<RewardValue> = verdicts.collect();
        if self.spec.judges.len() > 1 {
            self.spread = crate::stats::mean(&spreads);
        }
        Ok(verdicts)
    }

    /// Explains the value by the cached answers of the judges, or by the pairs of the last batch; sends no requests.
    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let text = text.filter(|text| !is_blank(text))?;
        match &self.asking {
            Asking::Scores(scorers) => scorers.explain(sample, text),
            Asking::Pairs(versus) => versus.explain(sample, text),
        }
    }

    fn metrics(&self) -> Vec<ComponentMetric> {
        let spread = self.spread.map(|spread| ComponentMetric::mean("spread", spread));
        self.asking.panel().metrics().iter().cloned().chain(spread).collect()
    }

    fn warnings(&mut self) -> Vec<String> {
        self.asking.panel_mut().take_warnings()
    }
}
