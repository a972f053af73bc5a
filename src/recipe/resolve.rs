//! One cell of a recipe -> its stages, each a whole [`StageSpec`].
//!
//! What the schema cannot say is checked here: names that refer to something, keys that exclude each other, files.

use super::data_sets::{self, Need};
use super::diagnostic::{Problem, Problems, did_you_mean};
use super::file::{DataTable, LoraTable, ModelOverride, ModelTable};
use super::files::Files;
use super::inputs::Inputs;
use super::located::{KeyPath, Step};
use super::order::{self, StageOrder};
use super::reward_mix;
use super::spec::{
    AdjustLr, CptSpec, DataSpec, EvalSpec, GrpoLossSpec, GrpoSpec, Length, LoraSpec, ModelSpec, Optimizer,
    OptimizerSpec, ParentAdapter, Sampling, Schedule, SftSpec, Split, StageSpec, WeightedData, Work,
};
use super::stage_file::{CptTable, EvalTable, GrpoTable, OptimizerName, ScheduleName, SftTable, StageTable};
use super::sweep::Cell;
use crate::digest::Digest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// One stage of one variant.
#[derive(Clone, Debug)]
pub struct ResolvedStage {
    /// Its name in the recipe.
    pub name: String,
    /// The stage it starts from, by name.
    pub after: Option<String>,
    /// What it does.
    pub spec: StageSpec,
    /// Where the content named by digest in `spec` lies (absolute paths).
    pub inputs: BTreeMap<Digest, PathBuf>,
}

/// What `target_modules` says for all of [`LINEAR_LAYERS`].
const ALL_LINEAR: &str = "all-linear";
/// The linear layers of the Llama architecture, which adapters can be put on.
const LINEAR_LAYERS: &[&str] = &["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// The stages of `cell`, parents first. `filled_in` is its value, defaults included, without what does not fit the
/// schema; what was taken out has been reported.
pub(super) fn resolve(
    cell: &Cell<'_>,
    filled_in: &Table,
    project: &Path,
    inputs: &mut dyn Inputs,
    problems: &mut Problems,
) -> Vec<ResolvedStage> {
    let stages: BTreeMap<String, Option<StageTable>> = tables(cell, filled_in, "stages", problems);
    let order = order::parents_first(cell, &stages, problems);
    let data: BTreeMap<String, Option<DataTable>> = tables(cell, filled_in, "data", problems);
    for (name, table) in &data {
        let key = KeyPath::dotted("data").key(name);
        if let Some(table) = table {
            data_sets::check_templates(cell, &key, table, problems);
        }
    }
    let model: Option<ModelTable> = typed(cell, filled_in, &KeyPath::dotted("model"), problems);
    let seed = typed(cell, filled_in, &KeyPath::dotted("seed"), problems);
    let files = Files { cell, project, inputs, problems };
    let mut resolver = Resolver { files, model, seed, data: &data, found: BTreeMap::new() };
    let mut resolved: Vec<ResolvedStage> = Vec::new();
    for StageOrder { name, after } in order {
        let Some(Some(table)) = stages.get(&name) else { continue };
        let key = KeyPath::dotted("stages").key(&name);
        resolver.found = BTreeMap::new();
        if let Some(mut spec) = resolver.stage(&key, table) {
            let parent = after.as_ref().and_then(|after| resolved.iter().find(|stage| stage.name == *after));
            if let (StageTable::Eval(EvalTable { model: None, .. }), Some(parent)) = (table, parent) {
                // what trains nothing takes its parent's adapter as it is
                spec.model.lora.clone_from(&parent.spec.model.lora);
                spec.model.parent_adapter = ParentAdapter::Continue;
            }
            resolver.check_model(&key, &spec, parent);
            resolved.push(ResolvedStage { name, after, spec, inputs: std::mem::take(&mut resolver.found) });
        }
    }
    resolved
}

/// The value at `path` as a `T`.
fn typed<T: for<'de> Deserialize<'de>>(
    cell: &Cell<'_>,
    filled_in: &Table,
    path: &KeyPath,
    problems: &mut Problems,
) -> Option<T> {
    let whole = Value::Table(filled_in.clone());
    let value = path.0.iter().try_fold(&whole, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })?;
    match T::deserialize(value.clone()) {
        Ok(typed) => Some(typed),
        Err(error) => {
            // A value that lacks a key, or had one taken out, fails here and has been reported.
            if problems.is_empty() {
                let problem = Problem::at(cell.key_place(path), format!("`{path}` is not valid: {error}"), "here");
                problems.push(problem.help("`orchestrate schema` describes every key"));
            }
            None
        }
    }
}

fn tables<T: for<'de> Deserialize<'de>>(
    cell: &Cell<'_>,
    filled_in: &Table,
    group: &str,
    problems: &mut Problems,
) -> BTreeMap<String, Option<T>> {
    let named = filled_in.get(group).and_then(Value::as_table).into_iter().flatten();
    named.map(|(name, _)| (name.clone(), typed(cell, filled_in, &KeyPath::dotted(group).key(name), problems))).collect()
}

/// The optimizer's keys of a training table.
macro_rules! optimizer {
    ($resolver:expr, $key:expr, $table:expr) => {{
        $resolver.check_betas($key, $table.betas);
        OptimizerSpec {
            optimizer: $resolver.update_rule(
                $key,
                $table.optimizer,
                &OptimizerKeys {
                    betas: ($table.betas[0], $table.betas[1]),
                    eps: $table.eps,
                    momentum: $table.momentum,
                    adjust_lr: $table.adjust_lr,
                },
            ),
            lr: $table.lr,
            weight_decay: $table.weight_decay,
            schedule: $resolver.schedule($key, $table.schedule, $table.decay_steps),
            warmup_steps: $table.warmup_steps,
            max_grad_norm: $table.max_grad_norm,
        }
    }};
}

/// The sampling keys of a table.
macro_rules! sampling {
    ($table:expr) => {
        Sampling {
            max_prompt_tokens: $table.max_prompt_tokens,
            max_new_tokens: $table.max_new_tokens,
            temperature: $table.temperature,
            top_p: $table.top_p,
            top_k: $table.top_k,
        }
    };
}

/// The keys that say how parameters are updated.
struct OptimizerKeys {
    betas: (f64, f64),
    eps: f64,
    momentum: Option<f64>,
    adjust_lr: Option<AdjustLr>,
}

struct Resolver<'a> {
    files: Files<'a>,
    model: Option<ModelTable>,
    seed: Option<u64>,
    data: &'a BTreeMap<String, Option<DataTable>>,
    /// The files of the stage at hand.
    found: BTreeMap<Digest, PathBuf>,
}

impl Resolver<'_> {
    fn problem(&mut self, key: &KeyPath, message: String, label: &str, help: impl Into<String>) {
        self.files.problems.push(Problem::at(self.files.cell.value_place(key), message, label).help(help));
    }

    fn stage(&mut self, key: &KeyPath, table: &StageTable) -> Option<StageSpec> {
        let (seed, model_override) = match table {
            StageTable::Cpt(table) => (table.seed, table.model.as_ref()),
            StageTable::Sft(table) => (table.seed, table.model.as_ref()),
            StageTable::Grpo(table) => (table.seed, table.model.as_ref()),
            StageTable::Eval(table) => (table.seed, table.model.as_ref()),
        };
        let model = self.model(key, model_override);
        let work = match table {
            StageTable::Cpt(table) => self.cpt(key, table).map(Work::Cpt),
            StageTable::Sft(table) => self.sft(key, table).map(Work::Sft),
            StageTable::Grpo(table) => self.grpo(key, table).map(Work::Grpo),
            StageTable::Eval(table) => self.eval(key, table).map(Work::Eval),
        };
        Some(StageSpec { seed: seed.or(self.seed)?, model: model?, work: work? })
    }

    fn model(&mut self, stage: &KeyPath, over: Option<&ModelOverride>) -> Option<ModelSpec> {
        let recipe = KeyPath::dotted("model");
        let own = stage.key("model");
        let base = self.model.clone();
        let (path, path_key) = match over.and_then(|over| over.path.clone()) {
            Some(path) => (path, own.key("path")),
            None => (base.as_ref()?.path.clone(), recipe.key("path")),
        };
        let (lora, lora_key) = match over.and_then(|over| over.lora.clone()) {
            Some(lora) => (Some(lora), own.key("lora")),
            None => (base.as_ref().and_then(|base| base.lora.clone()), recipe.key("lora")),
        };
        let dtype = over.and_then(|over| over.dtype).or(base.as_ref().map(|base| base.dtype))?;
        let lora = match lora {
            Some(lora) => Some(self.lora(&lora_key, lora)?),
            None => None,
        };
        let files = self.files.directory("model", &path, &path_key, &mut self.found)?;
        let parent_adapter =
            over.and_then(|over| over.parent_adapter).or(base.as_ref().map(|base| base.parent_adapter))?;
        Some(ModelSpec { files, dtype, lora, parent_adapter })
    }

    fn lora(&mut self, key: &KeyPath, table: LoraTable) -> Option<LoraSpec> {
        let LoraTable { rank, alpha, dropout, rslora, target_modules } = table;
        let key = key.key("target_modules");
        let named: Vec<(KeyPath, &str)> = match &target_modules {
            Value::String(all) if all == ALL_LINEAR => LINEAR_LAYERS.iter().map(|&name| (key.clone(), name)).collect(),
            Value::String(name) => vec![(key, name)],
            other => {
                let names = other.as_array().into_iter().flatten().filter_map(Value::as_str);
                names.enumerate().map(|(index, name)| (key.index(index), name)).collect()
            }
        };
        let mut fits = !named.is_empty();
        for (position, (at, module)) in named.iter().enumerate() {
            if !LINEAR_LAYERS.contains(module) {
                let known: Vec<&str> = LINEAR_LAYERS.iter().copied().chain([ALL_LINEAR]).collect();
                let help = did_you_mean(module, "layers", &known);
                self.problem(at, format!("unknown linear layer `{module}`"), "no such layer", help);
                fits = false;
            } else if named[..position].iter().any(|(_, other)| other == module) {
                self.problem(at, format!("the layer `{module}` is listed twice"), "again", "remove one");
                fits = false;
            }
        }
        let mut target_modules: Vec<String> = named.into_iter().map(|(_, name)| name.to_owned()).collect();
        target_modules.sort();
        fits.then_some(LoraSpec { rank, alpha, dropout, rslora, target_modules })
    }

    /// A checkpoint fits the model it was trained from only, and an adapter goes on as it was made or not at all.
    fn check_model(&mut self, key: &KeyPath, spec: &StageSpec, parent: Option<&ResolvedStage>) {
        let Some(parent) = parent else { return };
        let (ours, theirs) = (&spec.model, &parent.spec.model);
        let starts = format!("`{key}` starts from `{}`, which", parent.name);
        if ours.files != theirs.files {
            let help = "a checkpoint fits the model it was trained from";
            self.problem(&key.key("model").key("path"), format!("{starts} has another `model.path`"), "differs", help);
        }
        // dropout is how an adapter is trained, not what it is
        let shape = |lora: &Option<LoraSpec>| lora.clone().map(|lora| LoraSpec { dropout: 0.0, ..lora });
        let goes_on = ours.parent_adapter == ParentAdapter::Continue;
        if theirs.lora.is_some() && goes_on && shape(&ours.lora) != shape(&theirs.lora) {
            let help = "an adapter goes on as it was made; with `parent_adapter = \"merge\"` the stage merges it into the \
                        weights first and trains its own";
            self.problem(&key.key("model").key("lora"), format!("{starts} has another `model.lora`"), "differs", help);
        }
    }

    /// The data sets that a training stage's `data` names, with their weights.
    fn mixture(&mut self, stage: &KeyPath, named: &Value, needs: &[Need]) -> Option<Vec<WeightedData>> {
        let key = stage.key("data");
        let Value::Table(weights) = named else {
            let data = self.data(&key, named.as_str()?, needs, Split::Train)?;
            return Some(data_sets::mixture(vec![(1.0, data)]));
        };
        let refused = |path: &KeyPath| path.0.starts_with(&key.0);
        if weights.is_empty() && !self.files.cell.refused.iter().any(refused) {
            let help = "name data sets with their weights: { textbook = 0.7, general = 0.3 }";
            self.problem(&key, format!("`{key}` names no data set"), "empty", help);
        }
        let sets: Vec<Option<(f64, DataSpec)>> = weights
            .iter()
            .map(|(name, weight)| {
                #[expect(clippy::cast_precision_loss, reason = "weights are small")]
                let weight = weight.as_float().or_else(|| weight.as_integer().map(|weight| weight as f64))?;
                Some((weight, self.data(&key.key(name), name, needs, Split::Train)?))
            })
            .collect();
        let sets: Option<Vec<(f64, DataSpec)>> = sets.into_iter().collect();
        sets.filter(|sets| !sets.is_empty()).map(data_sets::mixture)
    }

    fn data(&mut self, key: &KeyPath, name: &str, needs: &[Need], split: Split) -> Option<DataSpec> {
        let table = data_sets::named(self.files.cell, name, key, self.data, self.files.problems)?;
        data_sets::check_needs(self.files.cell, name, table, needs, self.files.problems);
        data_sets::resolve(&mut self.files, name, table, split, &mut self.found)
    }

    fn length(&mut self, key: &KeyPath, steps: Option<u64>, epochs: Option<f64>, warmup_steps: u64) -> Option<Length> {
        match (steps, epochs) {
            (Some(_), Some(_)) => {
                let message = format!("`{key}` has both `steps` and `epochs`");
                self.problem(&key.key("epochs"), message, "and `steps` too", "keep one of both");
                None
            }
            (Some(steps), None) => {
                self.check_warmup(key, warmup_steps, steps);
                Some(Length::Steps(steps))
            }
            (None, epochs) => epochs.map(Length::Epochs),
        }
    }

    fn check_warmup(&mut self, key: &KeyPath, warmup_steps: u64, steps: u64) {
        if warmup_steps > steps {
            let message = format!("`{key}.warmup_steps` is {warmup_steps}, more than the stage's {steps} steps");
            self.problem(&key.key("warmup_steps"), message, "never ends", "`lr` would never be reached");
        }
    }

    fn check_batches(&mut self, key: &KeyPath, global_batch_size: usize, micro_batch_size: usize) {
        if !global_batch_size.is_multiple_of(micro_batch_size) {
            let message = format!(
                "`global_batch_size` ({global_batch_size}) is not a multiple of `micro_batch_size` ({micro_batch_size})"
            );
            let help = "an optimizer step is a whole number of micro-batches";
            self.problem(&key.key("global_batch_size"), message, "not a multiple", help);
        }
    }

    fn no_effect(&mut self, key: &KeyPath, without: &str) {
        let message = format!("`{key}` has no effect without `{without}`");
        self.problem(key, message, "no effect", format!("remove it, or set `{without}`"));
    }

    fn update_rule(&mut self, key: &KeyPath, name: OptimizerName, keys: &OptimizerKeys) -> Optimizer {
        let OptimizerKeys { betas, eps, momentum, adjust_lr } = *keys;
        if let OptimizerName::Muon = name {
            let (momentum, adjust_lr) = (momentum.unwrap_or(0.95), adjust_lr.unwrap_or(AdjustLr::MatchRmsAdamw));
            return Optimizer::Muon { momentum, adjust_lr, betas, eps };
        }
        for (name, given) in [("momentum", momentum.is_some()), ("adjust_lr", adjust_lr.is_some())] {
            if given {
                self.no_effect(&key.key(name), "optimizer = \"muon\"");
            }
        }
        Optimizer::Adamw { betas, eps }
    }

    fn schedule(&mut self, key: &KeyPath, name: ScheduleName, decay_steps: Option<u64>) -> Schedule {
        match (name, decay_steps) {
            (ScheduleName::Wsd, Some(decay_steps)) => return Schedule::Wsd { decay_steps },
            (ScheduleName::Wsd, None) => {
                let message = format!("`{key}.schedule` is `wsd`, which needs `decay_steps`");
                let help = "a tenth to a fifth of the stage's steps is usual";
                self.problem(&key.key("schedule"), message, "how long is the decay?", help);
            }
            (_, Some(_)) => self.no_effect(&key.key("decay_steps"), "schedule = \"wsd\""),
            (_, None) => {}
        }
        match name {
            ScheduleName::Constant | ScheduleName::Wsd => Schedule::Constant,
            ScheduleName::Linear => Schedule::Linear,
            ScheduleName::Cosine => Schedule::Cosine,
        }
    }

    fn check_betas(&mut self, key: &KeyPath, betas: [f64; 2]) {
        for (index, beta) in betas.into_iter().enumerate() {
            if !(0.0..1.0).contains(&beta) {
                let at = key.key("betas").index(index);
                self.problem(
                    &at,
                    format!("`{at}` must be at least 0 and less than 1, but is {beta}"),
                    "out of range",
                    "AdamW's usual betas are [0.9, 0.999]",
                );
            }
        }
    }

    fn cpt(&mut self, key: &KeyPath, table: &CptTable) -> Option<CptSpec> {
        self.check_batches(key, table.global_batch_size, table.micro_batch_size);
        let length = self.length(key, table.steps, table.epochs, table.warmup_steps);
        let optimizer = optimizer!(self, key, table);
        Some(CptSpec {
            data: self.mixture(key, &table.data, &[])?,
            seq_len: table.seq_len,
            length: length?,
            global_batch_size: table.global_batch_size,
            micro_batch_size: table.micro_batch_size,
            optimizer,
        })
    }

    fn sft(&mut self, key: &KeyPath, table: &SftTable) -> Option<SftSpec> {
        self.check_batches(key, table.global_batch_size, table.micro_batch_size);
        let length = self.length(key, table.steps, table.epochs, table.warmup_steps);
        let optimizer = optimizer!(self, key, table);
        let needs = ["prompt", "completion"].map(|template| stage_need(key, template));
        Some(SftSpec {
            data: self.mixture(key, &table.data, &needs)?,
            train_on: table.train_on.iter().copied().collect(),
            seq_len: table.seq_len,
            packing: table.packing,
            length: length?,
            global_batch_size: table.global_batch_size,
            micro_batch_size: table.micro_batch_size,
            optimizer,
        })
    }

    fn grpo(&mut self, key: &KeyPath, table: &GrpoTable) -> Option<GrpoSpec> {
        self.check_warmup(key, table.warmup_steps, table.steps);
        let optimizer = optimizer!(self, key, table);
        let rewards_key = key.key("rewards");
        let mut needs = vec![stage_need(key, "prompt")];
        needs.extend(reward_mix::needs(&rewards_key, &table.rewards));
        if !table.rewards.is_empty() && table.rewards.values().all(|reward| reward.weight() == 0.0) {
            let message = format!("all weights in `{rewards_key}` are 0");
            self.problem(&rewards_key, message, "rewards nothing", "give one component a weight");
        }
        let data = self.mixture(key, &table.data, &needs);
        let rewards = reward_mix::resolve(&mut self.files, &rewards_key, &table.rewards, &mut self.found);
        Some(GrpoSpec {
            data: data?,
            steps: table.steps,
            prompts_per_step: table.prompts_per_step,
            group_size: table.group_size,
            micro_batch_size: table.micro_batch_size,
            updates_per_rollout: table.updates_per_rollout,
            sampling: sampling!(table),
            loss: GrpoLossSpec {
                loss_type: table.loss_type,
                scale_rewards: table.scale_rewards,
                kl_coef: table.kl_coef,
                clip_low: table.clip_low,
                clip_high: table.clip_high,
                mask_truncated: table.mask_truncated,
            },
            optimizer,
            rewards: rewards?,
        })
    }

    fn eval(&mut self, key: &KeyPath, table: &EvalTable) -> Option<EvalSpec> {
        let rewards_key = key.key("rewards");
        let mut needs = vec![stage_need(key, "prompt")];
        needs.extend(reward_mix::needs(&rewards_key, &table.rewards));
        let split = self.held_out(key, ("data", &table.data), ("split", table.split));
        let data = self.data(&key.key("data"), &table.data, &needs, split);
        let text = table.text.as_ref().map(|name| {
            let split = self.held_out(key, ("text", name), ("text_split", table.text_split));
            self.data(&key.key("text"), name, &[], split)
        });
        if table.text.is_none() && table.text_split.is_some() {
            let message = format!("`{key}.text_split` has no effect without `text`");
            self.problem(&key.key("text_split"), message, "no effect", "remove it, or name a data set in `text`");
        }
        let rewards = reward_mix::resolve(&mut self.files, &rewards_key, &table.rewards, &mut self.found);
        if table.rewards.is_empty() && table.text.is_none() {
            let help = "add `[stages.NAME.rewards.NAME]` tables, or name a data set in `text` for its perplexity";
            self.problem(key, format!("`{key}` measures nothing"), "no `rewards`, no `text`", help);
        }
        Some(EvalSpec {
            data: data?,
            text: text.map_or(Some(None), |text| text.map(Some))?,
            sampling: sampling!(table),
            batch_size: table.batch_size,
            rewards: rewards?,
            bootstrap_resamples: table.bootstrap_resamples,
        })
    }

    /// The split that an evaluation's key `(key, data set)` reads, from its `(split key, value)`.
    fn held_out(&mut self, stage: &KeyPath, data: (&str, &str), split: (&str, Option<Split>)) -> Split {
        let key = stage.key(data.0);
        let split_key = stage.key(split.0);
        let Some(Some(table)) = self.data.get(data.1) else { return split.1.unwrap_or(Split::Eval) };
        data_sets::held_out(self.files.cell, table, (data.1, &key), (split.1, &split_key), self.files.problems)
    }
}

fn stage_need(key: &KeyPath, template: &'static str) -> Need {
    Need { template, by: format!("`{key}`"), at: key.key("data") }
}
