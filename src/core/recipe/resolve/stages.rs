//! Resolves one variant of a recipe to its stages, each a complete [`StageSpec`].
//!
//! The checks here are those that the schema cannot express: references to names, keys that exclude each other, and
//! files.

use crate::recipe::resolve::data_sets::{self, TemplateNeed};
use crate::recipe::resolve::files::{Files, KnownFiles};
use crate::recipe::resolve::inputs::Inputs;
use crate::recipe::resolve::leakage;
use crate::recipe::resolve::measured;
use crate::recipe::resolve::order::{self, StageOrder};
use crate::recipe::resolve::resolved::ResolvedStage;
use crate::recipe::resolve::resolver::{Resolver, stage_need};
use crate::recipe::resolve::reward_mix;
use crate::recipe::resolve::snapshots;
use crate::recipe::resolve::stage_data::Sources;
use crate::recipe::spec::{
    CptSpec, DataFile, DataSpec, EvalSpec, GrpoLossSpec, GrpoSpec, Length, ParentAdapter, RewardSpec, SftSpec, Split,
    StageSpec, Total, WeightedData, Work,
};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::defaults::kind_of_name;
use crate::recipe::tables::recipe::{DataTable, ModelTable};
use crate::recipe::tables::stage::{CptTable, EvalTable, GrpoTable, SftTable, StageTable};
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::stage::snapshot_of;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use toml::Value;

/// Returns the stages of `variant`, parents first. Its value contains the defaults. Parts that do not fit the schema
/// have been reported and removed.
pub(in crate::recipe) fn resolve(
    variant: &Variant<'_>,
    project: &Path,
    (known, inputs): (&mut KnownFiles, &mut dyn Inputs),
    problems: &mut Problems,
) -> Vec<ResolvedStage> {
    let mut stages: BTreeMap<String, Option<StageTable>> = tables(variant, "stages", StageTable::of, problems);
    let data: BTreeMap<String, Option<DataTable>> = tables(variant, "data", DataTable::deserialize, problems);
    snapshots::expand(variant, &mut stages, problems);
    let order = order::parents_first(variant, &stages, &data, problems);
    for (name, table) in &data {
        let key = KeyPath::dotted("data").key(name);
        if let Some(table) = table {
            data_sets::check_templates(variant, &key, table, problems);
        }
    }
    let model: Option<ModelTable> = of_recipe(variant, "model", problems);
    let has_model = variant.value.contains_key("model") || variant.refused.contains(&KeyPath::dotted("model"));
    let seed = of_recipe(variant, "seed", problems);
    let files = Files { variant, project, known, inputs, problems };
    let sources = Sources { stages: &stages, named: Vec::new() };
    let mut resolver =
        Resolver { files, model, has_model, seed, data: &data, sources, found: BTreeMap::new(), met: Vec::new() };
    let mut resolved: Vec<ResolvedStage> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for StageOrder { name, after, follows, .. } in order {
        let Some(Some(table)) = stages.get(&name) else { continue };
        let key = snapshots::key(&name);
        resolver.found = BTreeMap::new();
        resolver.sources.named = Vec::new();
        resolver.met = Vec::new();
        let parent = after.first().and_then(|after| places.get(after)).map(|place| &resolved[*place]);
        let found = match table {
            StageTable::Command(table) => {
                resolver.command_stage(&key, table, &after, parent).map(|(spec, run)| (spec, Some(run), None))
            }
            StageTable::Arena(table) => {
                resolver.arena_stage(&key, table).map(|(spec, players)| (spec, None, Some(players)))
            }
            table => resolver.stage(&key, table, parent).map(|spec| (spec, None, None)),
        };
        let Some((mut spec, program, fan_in)) = found else { continue };
        // The snapshot after the last step is the stage itself.
        spec.until = snapshot_of(&name)
            .map(|(_, step)| step)
            .filter(|_| is_training(table))
            .filter(|step| snapshots::steps_of(table) != Some(*step));
        places.insert(name.clone(), resolved.len());
        let inputs = std::mem::take(&mut resolver.found);
        let data_sets = leakage::named(&spec.work, std::mem::take(&mut resolver.met));
        let mut sources = std::mem::take(&mut resolver.sources.named);
        if let StageTable::Eval(eval) = table {
            sources.extend(eval.candidates.iter().map(|candidate| candidate.measured.clone()));
        }
        resolved.push(ResolvedStage { name, after, sources, follows, spec, inputs, program, fan_in, data_sets });
    }
    leakage::complete(&mut resolved);
    resolved
}

/// Returns the deserialized value at `path`, and reports an error.
fn typed<T>(
    variant: &Variant<'_>,
    read: Result<T, toml::de::Error>,
    path: impl FnOnce() -> KeyPath,
    problems: &mut Problems,
) -> Option<T> {
    match read {
        Ok(typed) => Some(typed),
        Err(error) => {
            // A value without a required key, or with a key removed, fails here and has been reported.
            if problems.is_empty() {
                let path = path();
                let problem = Problem::at(variant.key_place(&path), format!("`{path}` is not valid: {error}"), "here");
                problems.push(problem.help("`orchestrate schema` describes every key"));
            }
            None
        }
    }
}

/// Returns the top-level value `key` of the recipe.
fn of_recipe<T: for<'de> Deserialize<'de>>(variant: &Variant<'_>, key: &str, problems: &mut Problems) -> Option<T> {
    typed(variant, T::deserialize(variant.value.get(key)?.clone()), || KeyPath::dotted(key), problems)
}

/// Returns the tables below `group`, each as a `T`.
fn tables<T>(
    variant: &Variant<'_>,
    group: &str,
    read: impl Fn(Value) -> Result<T, toml::de::Error>,
    problems: &mut Problems,
) -> BTreeMap<String, Option<T>> {
    let named = variant.value.get(group).and_then(Value::as_table).into_iter().flatten();
    let mut typed_table = |(name, value): (&String, &Value)| {
        let table = typed(variant, read(value.clone()), || KeyPath::dotted(group).key(name), problems);
        (name.clone(), table)
    };
    named.map(&mut typed_table).collect()
}

/// Whether the stage trains a model.
pub(in crate::recipe) fn is_training(table: &StageTable) -> bool {
    matches!(table, StageTable::Cpt(_) | StageTable::Sft(_) | StageTable::Grpo(_))
}

impl Resolver<'_> {
    /// Resolves a stage of the engine, which starts from `parent`.
    fn stage(&mut self, key: &KeyPath, table: &StageTable, parent: Option<&ResolvedStage>) -> Option<StageSpec> {
        let (seed, model_override) = match table {
            StageTable::Cpt(table) => (table.seed, table.model.as_ref()),
            StageTable::Sft(table) => (table.seed, table.model.as_ref()),
            StageTable::Grpo(table) => (table.seed, table.model.as_ref()),
            StageTable::Eval(table) => (table.seed, table.model.as_ref()),
            StageTable::Generate(table) => (table.seed, table.model.as_ref()),
            StageTable::Command(_) | StageTable::Arena(_) => return None,
        };
        let by_judge = matches!(table, StageTable::Generate(table) if table.judge.is_some());
        let model = if by_judge { Some(None) } else { self.model(key, model_override).map(Some) };
        let work = match table {
            StageTable::Cpt(table) => self.cpt(key, table).map(Work::Cpt),
            StageTable::Sft(table) => self.sft(key, table).map(Work::Sft),
            StageTable::Grpo(table) => self.grpo(key, table).map(Work::Grpo),
            StageTable::Eval(table) => self.eval(key, table).map(Work::Eval),
            StageTable::Generate(table) => self.generate(key, table).map(Work::Generate),
            StageTable::Command(_) | StageTable::Arena(_) => None,
        };
        let (seed, mut model, work) = (seed.or(self.seed)?, model?, work?);
        if let Some(model) = &mut model
            && let Some((parent, theirs)) = parent.and_then(|parent| Some((parent, parent.spec.model.as_ref()?)))
        {
            if !is_training(table) && model_override.is_none() {
                // A stage that does not train takes its parent's adapter as it is.
                model.lora.clone_from(&theirs.lora);
                model.parent_adapter = ParentAdapter::Continue;
            }
            self.check_model(key, model, &parent.name, theirs);
        }
        Some(StageSpec { seed, model, until: None, work })
    }

    /// Returns the data sets that a training stage's `data` names, with their weights.
    fn mixture(&mut self, stage: &KeyPath, named: &Value, needs: &[TemplateNeed]) -> Option<Vec<WeightedData>> {
        let key = stage.key("data");
        let Value::Table(weights) = named else {
            let data = self.trained_on(&key, named.as_str()?, needs)?;
            return Some(data_sets::mixture(vec![(1.0, data)]));
        };
        let refused = |path: &KeyPath| path.0.starts_with(&key.0);
        if weights.is_empty() && !self.files.variant.refused.iter().any(refused) {
            let help = "name data sets with their weights: { textbook = 0.7, general = 0.3 }";
            self.problem(&key, format!("`{key}` names no data set"), "empty", help);
        }
        let sets: Vec<Option<(f64, DataSpec)>> = weights
            .iter()
            .map(|(name, weight)| {
                #[expect(clippy::cast_precision_loss, reason = "weights are small")]
                let weight = weight.as_float().or_else(|| weight.as_integer().map(|weight| weight as f64))?;
                Some((weight, self.trained_on(&key.key(name), name, needs)?))
            })
            .collect();
        let sets: Option<Vec<(f64, DataSpec)>> = sets.into_iter().collect();
        sets.filter(|sets| !sets.is_empty()).map(data_sets::mixture)
    }

    /// Resolves a data set that a stage trains on. Of answers that another stage generated, those to questions of the
    /// recipe's evaluations are left out.
    fn trained_on(&mut self, key: &KeyPath, name: &str, needs: &[TemplateNeed]) -> Option<DataSpec> {
        let mut data = self.data(key, name, needs, Split::Train)?;
        if data.files.iter().any(|file| matches!(file, DataFile::Result { .. })) {
            data.selection.held_out = self.held_out_questions();
        }
        Some(data)
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

    fn check_mini_batches(&mut self, key: &KeyPath, table: &GrpoTable) {
        let mini_batches = table.mini_batches;
        let counts = [
            (
                "updates_per_rollout",
                table.updates_per_rollout,
                "every prompt then takes part in as many updates as any other",
            ),
            ("prompts_per_step", table.prompts_per_step as u64, "every update then has as many prompts as any other"),
        ];
        for (name, count, help) in counts {
            if !count.is_multiple_of(mini_batches as u64) {
                let message = format!("`{name}` ({count}) is not a multiple of `mini_batches` ({mini_batches})");
                self.problem(&key.key("mini_batches"), message, "not a divisor", help);
            }
        }
    }

    fn cpt(&mut self, key: &KeyPath, table: &CptTable) -> Option<CptSpec> {
        self.check_batches(key, table.global_batch_size, table.micro_batch_size);
        let length = self.length(key, table.steps, table.epochs, table.optimizer.warmup_steps);
        let optimizer = table.optimizer.resolve(self, key);
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
        let length = self.length(key, table.steps, table.epochs, table.optimizer.warmup_steps);
        let optimizer = table.optimizer.resolve(self, key);
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
        self.check_warmup(key, table.optimizer.warmup_steps, table.steps);
        self.check_mini_batches(key, table);
        let optimizer = table.optimizer.resolve(self, key);
        let rewards_key = key.key("rewards");
        let mut needs = vec![stage_need(key, "prompt")];
        needs.extend(reward_mix::needs(&rewards_key, &table.rewards));
        if !table.rewards.is_empty() && table.rewards.values().all(|reward| reward.common.weight.never_counts()) {
            let message = format!("all weights in `{rewards_key}` are 0");
            self.problem(&rewards_key, message, "rewards nothing", "give one component a weight");
        }
        self.check_aggregation(key, table);
        let overlong = self.overlong(key, table);
        let total = self.total(key, table);
        let zero_std = self.zero_std(key, table);
        let pools = self.pools(key, table);
        reward_mix::check_group(&mut self.files, &rewards_key, &table.rewards, table.group_size, &mut self.found);
        let data = self.mixture(key, &table.data, &needs);
        let rewards = reward_mix::resolve(&mut self.files, &rewards_key, &table.rewards, &mut self.found);
        let credit = rewards.as_ref().and_then(|rewards| self.credit(key, table, rewards));
        Some(GrpoSpec {
            data: data?,
            steps: table.steps,
            prompts_per_step: table.prompts_per_step,
            group_size: table.group_size,
            micro_batch_size: table.micro_batch_size,
            updates_per_rollout: table.updates_per_rollout,
            rollout_batch_size: table.rollout_batch_size,
            mini_batches: table.mini_batches,
            sampling: table.sampling.resolve(self, key, table.temperature),
            overlong,
            reward_aggregation: table.reward_aggregation,
            component_std: table.component_std,
            total: total?,
            zero_std: zero_std?,
            pools,
            credit,
            loss: GrpoLossSpec {
                loss_type: table.loss_type,
                scale_rewards: table.scale_rewards,
                advantage_baseline: table.advantage_baseline,
                kl_coef: table.kl_coef,
                kl_every: table.kl_every,
                entropy_coef: table.entropy_coef,
                clip_low: table.clip_low,
                clip_high: table.clip_high,
                mask_truncated: table.mask_truncated,
            },
            optimizer,
            rewards: rewards?,
            max_missing_fraction: table.max_missing_fraction,
        })
    }

    fn eval(&mut self, key: &KeyPath, table: &EvalTable) -> Option<EvalSpec> {
        let rewards_key = key.key("rewards");
        let rewards_table = measured::named(&mut self.files, &rewards_key, table.rewards.as_ref())?;
        let mut needs = vec![stage_need(key, "prompt")];
        needs.extend(reward_mix::needs(&rewards_key, &rewards_table));
        let more_key = key.key("more_rewards");
        needs.extend(reward_mix::needs(&more_key, &table.more_rewards));
        for (name, list) in [("pass_at", &table.pass_at), ("maj_at", &table.maj_at)] {
            if !list.is_empty() {
                needs.push(TemplateNeed { template: "answer", by: format!("`{key}.{name}`"), at: key.key(name) });
            }
        }
        self.check_samples(key, table);
        let split = self.held_out(key, ("data", &table.data), ("split", table.split));
        let best = self.best(key, table, split);
        let data = self.data(&key.key("data"), &table.data, &needs, split);
        let text = table.text.as_ref().map(|name| {
            let split = self.held_out(key, ("text", name), ("text_split", table.text_split));
            self.data(&key.key("text"), name, &[], split)
        });
        if table.text.is_none() && table.text_split.is_some() {
            let message = format!("`{key}.text_split` has no effect without `text`");
            self.problem(&key.key("text_split"), message, "no effect", "remove it, or name a data set in `text`");
        }
        let samples_per_question = table.samples_per_question;
        reward_mix::check_group(&mut self.files, &rewards_key, &rewards_table, samples_per_question, &mut self.found);
        reward_mix::check_group(&mut self.files, &more_key, &table.more_rewards, samples_per_question, &mut self.found);
        reward_mix::check_no_schedules(&mut self.files, &rewards_key, &rewards_table);
        reward_mix::check_no_schedules(&mut self.files, &more_key, &table.more_rewards);
        let rewards = reward_mix::resolve(&mut self.files, &rewards_key, &rewards_table, &mut self.found);
        let more = reward_mix::resolve(&mut self.files, &more_key, &table.more_rewards, &mut self.found);
        let rewards = rewards.zip(more).and_then(|(rewards, more)| self.with_more(&more_key, rewards, more));
        let set = self.data.get(&table.data).and_then(Option::as_ref);
        let options = set.and_then(data_sets::options);
        let out_of_domain = set.is_some_and(|set| set.out_of_domain);
        let wants_all = table.rewards.as_ref().is_some_and(Value::is_str);
        let has_rewards = !rewards_table.is_empty() || !table.more_rewards.is_empty();
        if !has_rewards && !wants_all && table.text.is_none() && options.is_none() {
            let help = "add `[stages.NAME.rewards.NAME]` tables, or name a data set in `text` for its perplexity";
            self.problem(key, format!("`{key}` measures nothing"), "no `rewards`, no `text`", help);
        }
        Some(EvalSpec {
            data_set: table.data.clone(),
            out_of_domain,
            data: data?,
            best,
            options,
            by: set.map(data_sets::slices).unwrap_or_default(),
            text: text.map_or(Some(None), |text| text.map(Some))?,
            sampling: table.sampling.resolve(self, key, table.temperature),
            samples_per_question,
            pass_at: table.pass_at.iter().copied().collect(),
            maj_at: table.maj_at.iter().copied().collect(),
            probes: table.probes,
            batch_size: table.batch_size,
            rewards: rewards?,
            total: Total::Sum,        // as `trained`
            trained: BTreeSet::new(), // filled in by `measured`, once every stage is known
            bootstrap_resamples: table.bootstrap_resamples,
            max_missing_fraction: table.max_missing_fraction,
        })
    }

    /// Adds `more` components to `rewards`. A name that is in both is a problem.
    fn with_more(
        &mut self,
        key: &KeyPath,
        mut rewards: BTreeMap<String, RewardSpec>,
        more: BTreeMap<String, RewardSpec>,
    ) -> Option<BTreeMap<String, RewardSpec>> {
        for (name, spec) in more {
            if rewards.contains_key(&name) {
                let message = format!("the stage already measures a component `{name}`");
                let help = format!("give this one another name and `kind = \"{}\"`", kind_of_name(&name));
                self.problem(&key.key(&name), message, "named twice", &help);
                return None;
            }
            rewards.insert(name, spec);
        }
        Some(rewards)
    }

    fn check_samples(&mut self, key: &KeyPath, table: &EvalTable) {
        let samples = table.samples_per_question;
        if samples > 1 && table.temperature == 0.0 {
            let at = key.key("samples_per_question");
            let message = format!("`{at}` is {samples}, but at `temperature = 0` they are all the same");
            self.problem(&at, message, "all the same", "set a `temperature`, 0.8 for instance, or sample once");
        }
        for (name, list) in [("pass_at", &table.pass_at), ("maj_at", &table.maj_at)] {
            for (index, k) in list.iter().enumerate().filter(|(_, k)| **k > samples) {
                let message = format!("`{key}.{name}` asks for {k} answers to a question, but {samples} are drawn");
                let help = format!("set `samples_per_question` to {k} or more: more samples give a better estimate");
                self.problem(&key.key(name).index(index), message, "more than there are", help);
            }
        }
    }
}
