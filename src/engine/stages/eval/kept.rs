//! A cache of answers, likelihoods and values of components below the results of evaluations. With one more component,
//! no model answers again, and only the new component is computed.
//!
//! `runs/eval-answers/<digest>/` belongs to a model with its sampling. Each file in it has one part of a batch, and its
//! name is the digest of everything else that the part depends on: prompts for answers, options or texts for
//! likelihoods, and the rows and the component's settings for values. Floating-point numbers are stored as their bits.

use super::batches::Batch;
use crate::data::{Example, Options, Sequence};
use crate::error::StageResult;
use crate::generation::Sampled;
use orchestrate_core::digest::{Digest, canonical_json};
use orchestrate_core::event::StopReason;
use orchestrate_core::recipe::spec::{Component, EvalSpec, RewardSpec};
use orchestrate_core::rewards::Columns;
use orchestrate_core::workspace::{Assignment, Attempt, KEPT_OF, Kept, write_file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::Device;

/// Version of the code that samples answers and measures likelihoods and components, incremented whenever a result
/// changes.
const VERSION: u32 = 1;

/// What is known of one batch before anything is computed.
#[derive(Default)]
pub(super) struct KeptBatch {
    /// The answers, `samples_per_question` to each question.
    pub(super) answers: Option<Vec<Sampled>>,
    /// The log-likelihoods of each question's options.
    pub(super) options: Option<Vec<Vec<f64>>>,
    /// The negative log-likelihood and the number of tokens of each sequence.
    pub(super) likelihoods: Option<Vec<(f64, u64)>>,
    /// The values of components. Known only if the answers were.
    pub(super) columns: Columns,
}

impl KeptBatch {
    /// Whether nothing of `batch` needs the model.
    pub(super) fn needs_no_model(&self, batch: &Batch<'_>) -> bool {
        match batch {
            Batch::Questions(_, options) => self.answers.is_some() && (options.is_empty() || self.options.is_some()),
            Batch::Likelihood(..) => self.likelihoods.is_some(),
        }
    }
}

/// The kept files of one model with its sampling.
pub(super) struct KeptFiles {
    dir: PathBuf,
    of: String,
    /// The data set.
    data: Value,
    /// Whether kept files are read. A stage that is forced to run again computes everything.
    is_read: bool,
    damaged: usize,
}

impl KeptFiles {
    /// Returns the files for the model that `assignment` loads.
    pub(super) fn of(attempt: &Attempt, assignment: &Assignment, spec: &EvalSpec, device: Device) -> Self {
        let of = canonical_json(&json!({
            "version": VERSION,
            "parent": assignment.parents.first().map(|dir| produced_by(dir)),
            "model": assignment.spec.model,
            "sampling": spec.sampling,
            "samples_per_question": spec.samples_per_question,
            "batch_size": spec.batch_size,
            "seed": assignment.spec.seed,
            "device": if device == Device::Cpu { "cpu" } else { "cuda" },
        }));
        let dir = attempt.eval_answers_dir().join(Digest::of(of.as_bytes()).as_str());
        Self { dir, of, data: json!(spec.data), is_read: !attempt.replaces(), damaged: 0 }
    }

    /// Returns what is known of each batch.
    pub(super) fn read(&mut self, batches: &[Batch<'_>], rewards: &BTreeMap<String, RewardSpec>) -> Vec<KeptBatch> {
        batches.iter().map(|batch| self.batch(batch, rewards)).collect()
    }

    fn batch(&mut self, batch: &Batch<'_>, rewards: &BTreeMap<String, RewardSpec>) -> KeptBatch {
        let mut known = KeptBatch::default();
        match batch {
            Batch::Questions(questions, options) => {
                let answers: Option<Vec<KeptAnswer>> = self.read_file(&of_answers(questions));
                known.answers = answers.map(|answers| answers.into_iter().map(Into::into).collect());
                if !options.is_empty() {
                    let sums: Option<Vec<Vec<Bits>>> = self.read_file(&of_options(questions, options));
                    known.options = sums.map(|sums| sums.into_iter().map(floats).collect());
                }
                if known.answers.is_some() {
                    let rows = rows(questions, &self.data);
                    for (name, reward) in rewards {
                        let column: Option<Vec<KeptValue>> = self.read_file(&of_column(&rows, reward));
                        let column = column.map(|column| column.into_iter().map(Into::into).collect());
                        known.columns.extend(column.map(|column| (name.clone(), column)));
                    }
                    let samples_again = |(name, reward): (&String, &RewardSpec)| {
                        reward.component.measure().reads_the_policy() && !known.columns.contains_key(name)
                    };
                    if rewards.iter().any(samples_again) {
                        // distributions are not kept; the same answers are sampled again, with them
                        known.answers = None;
                    }
                }
            }
            Batch::Likelihood(sequences, _) => {
                let measured: Option<Vec<(Bits, u64)>> = self.read_file(&of_likelihoods(sequences));
                known.likelihoods =
                    measured.map(|all| all.into_iter().map(|(nll, tokens)| (nll.into(), tokens)).collect());
            }
        }
        known
    }

    /// Returns the number of files that were read and are damaged.
    pub(super) fn damaged(&self) -> usize {
        self.damaged
    }

    pub(super) fn keep_answers(&self, questions: &[Example], answers: &[Sampled]) -> StageResult<()> {
        let kept = |answer: &Sampled| KeptAnswer { ids: answer.ids.clone(), stop_reason: answer.stop_reason };
        self.write_file(&of_answers(questions), &answers.iter().map(kept).collect::<Vec<_>>())
    }

    pub(super) fn keep_options(
        &self,
        questions: &[Example],
        options: &[Options],
        loglikelihoods: &[Vec<f64>],
    ) -> StageResult<()> {
        let kept: Vec<Vec<Bits>> =
            loglikelihoods.iter().map(|sums| sums.iter().copied().map(Bits::from).collect()).collect();
        self.write_file(&of_options(questions, options), &kept)
    }

    pub(super) fn keep_likelihoods(&self, sequences: &[Sequence], measured: &[(f64, u64)]) -> StageResult<()> {
        let kept: Vec<(Bits, u64)> = measured.iter().map(|&(nll, tokens)| (nll.into(), tokens)).collect();
        self.write_file(&of_likelihoods(sequences), &kept)
    }

    /// Keeps the values in `columns` of components that were not `known`, except those that another attempt may compute
    /// differently.
    pub(super) fn keep_columns(
        &self,
        questions: &[Example],
        rewards: &BTreeMap<String, RewardSpec>,
        known: &BTreeSet<String>,
        columns: &Columns,
    ) -> StageResult<()> {
        let rows = rows(questions, &self.data);
        for (name, column) in columns.iter().filter(|(name, _)| !known.contains(*name)) {
            let reward = &rewards[name];
            if is_lasting(reward, column) {
                let kept: Vec<KeptValue> = column.iter().cloned().map(Into::into).collect();
                self.write_file(&of_column(&rows, reward), &kept)?;
            }
        }
        Ok(())
    }

    fn path(&self, part: &Value) -> PathBuf {
        self.dir.join(format!("{}.json", Digest::of(canonical_json(part).as_bytes())))
    }

    fn read_file<T: DeserializeOwned>(&mut self, part: &Value) -> Option<T> {
        if !self.is_read {
            return None;
        }
        match Kept::read(&self.path(part)) {
            Kept::Absent => None,
            Kept::Whole(bytes) if let Ok(read) = serde_json::from_slice(&bytes) => Some(read),
            Kept::Whole(_) | Kept::Damaged => {
                self.damaged += 1;
                None
            }
        }
    }

    fn write_file(&self, part: &Value, content: &impl Serialize) -> StageResult<()> {
        let about = self.dir.join(KEPT_OF);
        if !about.exists() {
            fs_err::create_dir_all(&self.dir)?;
            write_file(&about, self.of.as_bytes())?;
        }
        Kept::write(&self.path(part), &serde_json::to_vec(content).expect("numbers and texts serialize"))?;
        Ok(())
    }
}

/// Returns the identity of a parent's result: its key and, for a part of a result, the path below it.
fn produced_by(dir: &Path) -> String {
    let parts: Vec<_> = dir.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let key = parts.iter().rposition(|part| Digest::parse(part).is_some()).unwrap_or(0);
    parts[key..].join("/")
}

fn of_answers(questions: &[Example]) -> Value {
    let asked: Vec<Value> = questions.iter().map(|question| json!([question.row, question.prompt_ids])).collect();
    json!({ "answers": asked })
}

fn of_options(questions: &[Example], options: &[Options]) -> Value {
    let asked = questions.iter().zip(options).map(|(question, options)| json!([question.prompt_ids, options.ids]));
    json!({ "options": asked.collect::<Vec<_>>() })
}

fn of_likelihoods(sequences: &[Sequence]) -> Value {
    let read: Vec<Value> = sequences.iter().map(|sequence| json!([sequence.ids, sequence.trained()])).collect();
    json!({ "likelihoods": read })
}

/// Returns the digest of everything that a component reads besides the answers. A component may read other rows of the
/// data set.
fn rows(questions: &[Example], data: &Value) -> Digest {
    let row = |q: &Example| json!([q.row, q.id, q.prompt, q.prompt_ids, q.reference, q.answer]);
    let rows: Vec<Value> = questions.iter().map(row).collect();
    Digest::of(canonical_json(&json!([data, rows])).as_bytes())
}

fn of_column(rows: &Digest, reward: &RewardSpec) -> Value {
    // the weight has no effect on the values
    json!({ "values": rows, "reward": RewardSpec { weight: 0.0, ..reward.clone() } })
}

/// Whether another attempt would compute the same values. A server or a program may answer what it did not answer now.
fn is_lasting(reward: &RewardSpec, column: &[Result<f64, String>]) -> bool {
    let is_outside = reward.component.measure().asks_a_server() || matches!(reward.component, Component::Command(_));
    let may_be_kept = !matches!(&reward.component, Component::Http(http) if !http.cache);
    may_be_kept && !(is_outside && column.iter().any(Result::is_err))
}

#[derive(Serialize, Deserialize)]
struct KeptAnswer {
    ids: Vec<i64>,
    stop_reason: StopReason,
}

impl From<KeptAnswer> for Sampled {
    fn from(KeptAnswer { ids, stop_reason }: KeptAnswer) -> Self {
        Self { ids, logprobs: Vec::new(), entropies: Vec::new(), stop_reason }
    }
}

/// A number, as its bits.
#[derive(Serialize, Deserialize)]
struct Bits(u64);

impl From<f64> for Bits {
    fn from(number: f64) -> Self {
        Self(number.to_bits())
    }
}

impl From<Bits> for f64 {
    fn from(Bits(bits): Bits) -> Self {
        Self::from_bits(bits)
    }
}

fn floats(bits: Vec<Bits>) -> Vec<f64> {
    bits.into_iter().map(f64::from).collect()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptValue {
    Value(Bits),
    Missing(String),
}

impl From<Result<f64, String>> for KeptValue {
    fn from(rated: Result<f64, String>) -> Self {
        match rated {
            Ok(value) => Self::Value(value.into()),
            Err(reason) => Self::Missing(reason),
        }
    }
}

impl From<KeptValue> for Result<f64, String> {
    fn from(kept: KeptValue) -> Self {
        match kept {
            KeptValue::Value(bits) => Ok(bits.into()),
            KeptValue::Missing(reason) => Err(reason),
        }
    }
}
