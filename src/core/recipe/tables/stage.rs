//! `[stages.NAME]`: one table type for each kind of stage.
//!
//! Keys that several kinds of stage have are structs of their own: [`OptimizerTable`], [`SamplingTable`].

use super::one_or_many::string_or_strings;
use super::recipe::ModelOverride;
use crate::recipe::spec::{AdvantageBaseline, ComponentStd, LossType, RewardAggregation, Role, ScaleRewards, Split};
use crate::recipe::tables::arena::ArenaTable;
use crate::recipe::tables::credit::CreditTable;
use crate::recipe::tables::generate::GenerateTable;
use crate::recipe::tables::optimizer::OptimizerTable;
use crate::recipe::tables::sampling::SamplingTable;
use crate::rewards::RewardTable;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// A stage; its `kind` decides which keys it takes.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum StageTable {
    /// Continued pre-training.
    Cpt(CptTable),
    /// Supervised fine-tuning.
    Sft(SftTable),
    /// Group-relative policy optimization.
    Grpo(Box<GrpoTable>),
    /// Held-out measurements.
    Eval(EvalTable),
    /// Answers as data for other stages.
    Generate(Box<GenerateTable>),
    /// A program of yours.
    Command(CommandStageTable),
    /// Comparisons of the models of all variants.
    Arena(Box<ArenaTable>),
}

impl StageTable {
    /// The stage that a recipe's table describes.
    pub(in crate::recipe) fn of(value: toml::Value) -> Result<Self, toml::de::Error> {
        match value.get("kind").and_then(toml::Value::as_str) {
            Some("cpt") => CptTable::deserialize(value).map(Self::Cpt),
            Some("sft") => SftTable::deserialize(value).map(Self::Sft),
            Some("grpo") => GrpoTable::deserialize(value).map(|table| Self::Grpo(Box::new(table))),
            Some("eval") => EvalTable::deserialize(value).map(Self::Eval),
            Some("generate") => GenerateTable::deserialize(value).map(|table| Self::Generate(Box::new(table))),
            Some("command") => CommandStageTable::deserialize(value).map(Self::Command),
            Some("arena") => ArenaTable::deserialize(value).map(|table| Self::Arena(Box::new(table))),
            _ => Err(toml::de::Error::custom(
                "`kind` must be `cpt`, `sft`, `grpo`, `eval`, `generate`, `command` or `arena`",
            )),
        }
    }
}

impl<'de> Deserialize<'de> for StageTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(toml::Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn name_or_weights(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": ["string", "object"], "additionalProperties": { "type": "number", "exclusiveMinimum": 0 },
    })
}

fn list_or_every(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let step = serde_json::json!({ "type": "integer", "minimum": 1 });
    schemars::json_schema!({
        "type": ["array", "object"], "items": step, "minItems": 1,
        "properties": { "every": step }, "required": ["every"], "additionalProperties": false,
    })
}

fn all_or_steps(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["string", "array"], "items": { "type": "integer", "minimum": 1 }, "minItems": 1 })
}

fn all_or_rewards(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": ["string", "object"],
        "propertyNames": { "pattern": "^[a-z0-9_-]+(@[a-z0-9_-]+)?$" },
        "additionalProperties": generator.subschema_for::<RewardTable>(),
    })
}

/// What happens to groups whose rewards are all equal.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZeroStdName {
    /// They take part, with advantages of 0.
    Keep,
    /// They take part neither in the loss nor in what it is divided by.
    Drop,
    /// They are replaced by groups of the next prompts, up to `max_resampled_prompts` of them (arXiv:2503.14476).
    Resample,
}

/// How the prompts of a rollout are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplerName {
    /// All prompts equally often, in a new order in each epoch.
    Uniform,
    /// By their difficulty: easy and hard prompts have shares of the draws, all others the rest.
    Pools,
}

/// How the weighted components become one reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TotalName {
    /// Their sum.
    Sum,
    /// The least of them.
    Min,
    /// Their product.
    Product,
    /// The least of their mean and the components of `floor` (arXiv:2506.08123).
    FloorMean,
}

/// Continued pre-training: next-token loss on packed text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct CptTable {
    /// Names the kind of stage, and with it the keys it takes.
    #[schemars(extend("const" = "cpt"))]
    pub kind: String,
    /// The stage whose checkpoint this one starts from.
    pub after: Option<String>,
    /// The data set that is read, or a table of data sets with their shares of the packed rows.
    #[schemars(schema_with = "name_or_weights")]
    pub data: toml::Value,
    /// The stage's own seed, instead of the recipe's.
    pub seed: Option<u64>,
    /// The stage's own model, over the recipe's.
    pub model: Option<ModelOverride>,
    /// Documents are packed into rows of this many tokens.
    #[schemars(range(min = 1))]
    pub seq_len: usize,
    /// Optimizer steps; instead of `epochs`.
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// Passes over the data, that is the rows of all its data sets together; instead of `steps`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epochs: Option<f64>,
    /// Keeps the checkpoints after these steps as results of their own, `NAME@STEP`: a list, or `{ every = 50 }`. They
    /// do not change the stage.
    #[serde(default)]
    #[schemars(schema_with = "list_or_every")]
    pub snapshots: Option<toml::Value>,
    /// Rows per optimizer step; a multiple of `micro_batch_size`.
    #[schemars(range(min = 1))]
    pub global_batch_size: usize,
    /// Rows per forward pass.
    #[schemars(range(min = 1))]
    pub micro_batch_size: usize,
    /// How its parameters are updated.
    #[serde(flatten)]
    pub optimizer: OptimizerTable,
}

/// Supervised fine-tuning: next-token loss on the turns of some roles only.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct SftTable {
    /// Names the kind of stage, and with it the keys it takes.
    #[schemars(extend("const" = "sft"))]
    pub kind: String,
    /// The stage whose checkpoint this one starts from.
    pub after: Option<String>,
    /// The data set that is read, or a table of data sets with their shares of the rows.
    #[schemars(schema_with = "name_or_weights")]
    pub data: toml::Value,
    /// The stage's own seed, instead of the recipe's.
    pub seed: Option<u64>,
    /// The stage's own model, over the recipe's.
    pub model: Option<ModelOverride>,
    /// Roles whose turns carry loss, each turn with the token that ends it.
    #[schemars(length(min = 1))]
    pub train_on: Vec<Role>,
    /// Longest conversation, prompt and completion together, in tokens.
    #[schemars(range(min = 1))]
    pub seq_len: usize,
    /// Packs conversations into rows of `seq_len` tokens, in which they do not see each other; batch sizes count those
    /// rows then.
    pub packing: bool,
    /// Optimizer steps; instead of `epochs`.
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// Passes over the data, that is the rows of all its data sets together; instead of `steps`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epochs: Option<f64>,
    /// Keeps the checkpoints after these steps as results of their own, `NAME@STEP`: a list, or `{ every = 50 }`. They
    /// do not change the stage.
    #[serde(default)]
    #[schemars(schema_with = "list_or_every")]
    pub snapshots: Option<toml::Value>,
    /// Rows per optimizer step; a multiple of `micro_batch_size`.
    #[schemars(range(min = 1))]
    pub global_batch_size: usize,
    /// Rows per forward pass.
    #[schemars(range(min = 1))]
    pub micro_batch_size: usize,
    /// How its parameters are updated.
    #[serde(flatten)]
    pub optimizer: OptimizerTable,
}

/// Group-relative policy optimization (arXiv:2402.03300) under a mix of rewards.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct GrpoTable {
    /// Names the kind of stage, and with it the keys it takes.
    #[schemars(extend("const" = "grpo"))]
    pub kind: String,
    /// The stage whose checkpoint this one starts from.
    pub after: Option<String>,
    /// The data set that is read, or a table of data sets with their shares of the prompts.
    #[schemars(schema_with = "name_or_weights")]
    pub data: toml::Value,
    /// The stage's own seed, instead of the recipe's.
    pub seed: Option<u64>,
    /// The stage's own model, over the recipe's.
    pub model: Option<ModelOverride>,
    /// Optimizer steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Keeps the checkpoints after these steps as results of their own, `NAME@STEP`: a list, or `{ every = 50 }`. They
    /// do not change the stage.
    #[serde(default)]
    #[schemars(schema_with = "list_or_every")]
    pub snapshots: Option<toml::Value>,
    /// Prompts per rollout.
    #[schemars(range(min = 1))]
    pub prompts_per_step: usize,
    /// Completions per prompt.
    #[schemars(range(min = 2))]
    pub group_size: usize,
    /// Completions per forward pass of the update.
    #[schemars(range(min = 1))]
    pub micro_batch_size: usize,
    /// Optimizer steps taken on one rollout.
    #[schemars(range(min = 1))]
    pub updates_per_rollout: u64,
    /// Completions decoded at a time, as memory allows; when one ends the next begins. 0: all of a rollout.
    pub rollout_batch_size: usize,
    /// Number of parts that a rollout's prompts are split into; each optimizer step uses one.
    #[schemars(range(min = 1))]
    pub mini_batches: usize,
    /// Divides the logits; greater than 0, as a group of equal completions teaches nothing.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// How completions are sampled.
    #[serde(flatten)]
    pub sampling: SamplingTable,
    /// Subtracts up to `overlong_penalty` from the reward of a completion that ends within this many tokens of
    /// `max_new_tokens`; default: nothing is subtracted.
    #[schemars(range(min = 1))]
    pub overlong_buffer_tokens: Option<usize>,
    /// Penalty of a completion of `max_new_tokens` tokens, with `overlong_buffer_tokens`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub overlong_penalty: Option<f64>,
    /// Whether the weighted sum of the components is normalized, or each component within its group before they are
    /// added.
    pub reward_aggregation: RewardAggregation,
    /// Divisor of each component under `reward_aggregation = "normalize_then_sum"`: its deviation within the `group`,
    /// or that deviation averaged over steps (`running`), or none, as `rank`s take the place of values.
    pub component_std: ComponentStd,
    /// How the weighted components become one reward; `floor_mean` is the least of their mean and the components of
    /// `floor`.
    pub total: TotalName,
    /// Components that the reward does not exceed, with `total = "floor_mean"`.
    #[serde(default)]
    pub floor: Vec<String>,
    /// What happens to groups whose rewards are all equal.
    pub zero_std: ZeroStdName,
    /// At most this many further prompts are drawn in a step under `zero_std = "resample"`.
    #[schemars(range(min = 1))]
    pub max_resampled_prompts: Option<usize>,
    /// How the prompts of a rollout are drawn.
    pub sampler: SamplerName,
    /// Share of the draws that are from easy prompts, with `sampler = "pools"`.
    #[schemars(range(min = 0, max = 1))]
    pub easy_share: Option<f64>,
    /// Share of the draws that are from hard prompts, with `sampler = "pools"`.
    #[schemars(range(min = 0, max = 1))]
    pub hard_share: Option<f64>,
    /// Pass rate from which on a prompt is easy, with `sampler = "pools"`.
    pub easy_threshold: Option<f64>,
    /// Pass rate up to which a prompt is hard, with `sampler = "pools"`.
    pub hard_threshold: Option<f64>,
    /// Weight of a prompt's estimated pass rate when a new group is added to it, with `sampler = "pools"`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub pass_rate_decay: Option<f64>,
    /// Name in `rewards` of the component whose mean over a group is its pass rate, with `sampler = "pools"`; default:
    /// the total reward.
    pub pass_rate_of: Option<String>,
    /// How the advantage of a completion is dealt out to its tokens.
    pub credit: Option<CreditTable>,
    /// How a token's ratio enters the loss, and how per-token losses become one number.
    pub loss_type: LossType,
    /// Divisor of the centred rewards of a group.
    pub scale_rewards: ScaleRewards,
    /// What a completion's reward is compared with.
    pub advantage_baseline: AdvantageBaseline,
    /// Weight of the estimated KL divergence from the model that the stage starts from.
    #[schemars(range(min = 0))]
    pub kl_coef: f64,
    /// Without `kl_coef`, the divergence is measured at every so many steps; 0: never.
    pub kl_every: u64,
    /// Weight of the mean entropy of the tokens, which is subtracted from the loss.
    #[schemars(range(min = 0))]
    pub entropy_coef: f64,
    /// The ratio is clipped below at `1 - clip_low`; `cispo` does not use it.
    #[schemars(range(min = 0, max = 1))]
    pub clip_low: f64,
    /// The ratio is clipped above, or with `cispo` capped, at `1 + clip_high` (TRL's `epsilon_high` is the cap of CISPO
    /// itself, so its 5.0 is 4.0 here); `gspo` wants about 4e-4, as its ratio is a mean.
    #[schemars(range(min = 0))]
    pub clip_high: f64,
    /// Leaves completions that hit the length limit out of the loss.
    pub mask_truncated: bool,
    /// How its parameters are updated.
    #[serde(flatten)]
    pub optimizer: OptimizerTable,
    /// The reward mix, by component name.
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9_-]+(@[a-z0-9_-]+)?$" }, "minProperties" = 1))]
    pub rewards: BTreeMap<String, RewardTable>,
    /// The stage fails when a greater share of a rollout's completions has no reward, as a part of it is missing.
    #[schemars(range(min = 0, max = 1))]
    pub max_missing_fraction: f64,
}

/// Held-out measurements; trains nothing.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct EvalTable {
    /// Names the kind of stage, and with it the keys it takes.
    #[schemars(extend("const" = "eval"))]
    pub kind: String,
    /// The stage whose checkpoint this one starts from.
    pub after: Option<String>,
    /// Measures snapshots of that stage too: `all`, or a list of steps. Each is an evaluation of its own, `NAME@STEP`.
    /// With `best`, the stage measures the snapshot that is best on the rows of `dev_fraction`, instead of the last.
    #[serde(default)]
    #[schemars(schema_with = "all_or_steps")]
    pub at: Option<toml::Value>,
    /// The metric by which `at = "best"` chooses; default: that of `[compare]`, or else `accuracy`.
    pub best_by: Option<String>,
    /// The snapshots among which the stage chooses; empty: it measures one model.
    #[serde(skip)]
    #[schemars(skip)]
    pub candidates: Vec<Candidate>,
    /// The data set that is read.
    pub data: String,
    /// The stage's own seed, instead of the recipe's.
    pub seed: Option<u64>,
    /// The stage's own model, over the recipe's.
    pub model: Option<ModelOverride>,
    /// The side of the data set's split that is read; default: `eval`.
    pub split: Option<Split>,
    /// A data set whose perplexity is measured too.
    pub text: Option<String>,
    /// The side of that data set's split that is read; default: `eval`.
    pub text_split: Option<Split>,
    /// Divides the logits; 0 takes the most likely token.
    #[schemars(range(min = 0))]
    pub temperature: f64,
    /// How completions are sampled.
    #[serde(flatten)]
    pub sampling: SamplingTable,
    /// Answers that are drawn to each question; the mean over them is the question's value.
    #[schemars(range(min = 1))]
    pub samples_per_question: usize,
    /// Estimates how likely one of k answers is right, for each k listed here, at most `samples_per_question`.
    #[schemars(inner(range(min = 1)))]
    pub pass_at: Vec<usize>,
    /// Estimates how likely the most frequent of k answers is right, for each k listed here, at most
    /// `samples_per_question`.
    #[schemars(inner(range(min = 1)))]
    pub maj_at: Vec<usize>,
    /// Rates changes of the answers that hack rewards, and measures how alike the answers to different questions are.
    pub probes: bool,
    /// Completions decoded at a time.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Components that are measured, whether or not they were trained on: a table each, or `all`, every component that
    /// any stage of any variant of the recipe rewards.
    #[serde(default)]
    #[schemars(schema_with = "all_or_rewards")]
    pub rewards: Option<toml::Value>,
    /// Components that are measured beside those of `rewards`. They count for nothing in the total unless they have a
    /// `weight`.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9_-]+(@[a-z0-9_-]+)?$" }))]
    pub more_rewards: BTreeMap<String, RewardTable>,
    /// Bootstrap resamples behind each 95% interval of a metric without a least and a greatest value.
    #[schemars(range(min = 1))]
    pub bootstrap_resamples: u32,
    /// The stage fails when a component has no value for a greater share of a batch's completions.
    #[schemars(range(min = 0, max = 1))]
    pub max_missing_fraction: f64,
}

/// A snapshot among which an evaluation chooses.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The step after which it was taken.
    pub step: u64,
    /// The name of the stage that is the snapshot, `NAME@STEP`.
    pub checkpoint: String,
    /// The name of the stage that measures it on development rows.
    pub measured: String,
}

/// A program of yours: an outside evaluation harness, a converter. It is run without a shell, cached by what goes into
/// it, and its output directory becomes the stage's result.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandStageTable {
    /// Names the kind of stage, and with it the keys it takes.
    #[schemars(extend("const" = "command"))]
    pub kind: String,
    /// The stage whose result the program reads, or several of them.
    #[serde(default)]
    #[schemars(schema_with = "string_or_strings")]
    pub after: Option<toml::Value>,
    /// The program and its arguments. A word that is one of `files` becomes that file's absolute path; in other words
    /// `{{ output }}`, `{{ parent }}`, `{{ parents[1] }}`, `{{ parameters.NAME }}`, `{{ parameters_file }}`, `{{ model
    /// }}`,
    /// `{{ seed }}` and `{{ resume }}` are replaced by the values that they name.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The program's own files and those that it reads; patterns are allowed. Their content is part of the stage's
    /// cache key.
    pub files: Vec<String>,
    /// Files and directories that the program must leave in its output directory (`{{ output }}`, `$STAGE_OUTPUT`).
    pub outputs: Vec<String>,
    /// Values for the program, available as `{{ parameters.NAME }}` and as the JSON file `$STAGE_PARAMETERS`.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub parameters: toml::Table,
    /// Names of variables of the environment that the program is given beside `PATH`, `HOME`, `USER`, `TMPDIR`, `TZ`
    /// and the locale's. Their values are not part of the cache key: what changes a result belongs in `parameters`.
    pub env: Vec<String>,
    /// Where the program starts, relative to the project directory.
    pub working_directory: String,
    /// Seconds that an attempt may take; default: no limit. Not part of the cache key.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub timeout_s: Option<f64>,
    /// Whether the program goes on from what an interrupted attempt left in `{{ resume }}`, `$STAGE_RESUME`. Not part
    /// of the cache key: a resumed program must give the same result.
    pub resume: bool,
    /// The stage's own seed, instead of the recipe's.
    pub seed: Option<u64>,
}
