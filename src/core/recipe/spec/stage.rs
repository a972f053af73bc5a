//! What each kind of stage does.

use super::{ArenaSpec, Argument, Component, Dtype, RewardSpec};
use crate::digest::Digest;
use crate::stage::StageKind;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One stage, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// The seed every random draw of the stage is derived from, with the step and the sample.
    pub seed: u64,
    /// The model the stage starts from, before the parent's checkpoint is applied; absent: it knows of none.
    pub model: Option<ModelSpec>,
    /// The work itself.
    pub work: Work,
}

/// The work of a stage, by kind.
#[allow(clippy::large_enum_variant, reason = "there is one a stage")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Continued pre-training: next-token loss on packed text.
    Cpt(CptSpec),
    /// Supervised fine-tuning: next-token loss on the turns of some roles only.
    Sft(SftSpec),
    /// Group-relative policy optimization under a mix of rewards.
    Grpo(GrpoSpec),
    /// Held-out measurements; trains nothing.
    Eval(EvalSpec),
    /// A program of the user's.
    Command(CommandStageSpec),
    /// Comparisons of the models of all variants; trains nothing.
    Arena(ArenaSpec),
}

impl Work {
    /// The recipe's word for the kind.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Cpt(_) => StageKind::Cpt,
            Self::Sft(_) => StageKind::Sft,
            Self::Grpo(_) => StageKind::Grpo,
            Self::Eval(_) => StageKind::Eval,
            Self::Command(_) => StageKind::Command,
            Self::Arena(_) => StageKind::Arena,
        }
    }

    /// The mix that its completions are rated with.
    pub fn rewards(&self) -> Option<&BTreeMap<String, RewardSpec>> {
        match self {
            Self::Grpo(spec) => Some(&spec.rewards),
            Self::Eval(spec) => Some(&spec.rewards),
            Self::Cpt(_) | Self::Sft(_) | Self::Command(_) | Self::Arena(_) => None,
        }
    }

    /// The data sets whose rows its prompts are.
    pub fn prompts(&self) -> Vec<&DataSpec> {
        match self {
            Self::Grpo(spec) => spec.data.iter().map(|set| &set.data).collect(),
            Self::Eval(spec) => vec![&spec.data],
            Self::Arena(spec) => vec![&spec.data],
            Self::Cpt(_) | Self::Sft(_) | Self::Command(_) => Vec::new(),
        }
    }

    /// Digests of the files of the programs that rate its texts.
    pub fn reward_files(&self) -> Vec<&Digest> {
        let programs =
            self.rewards().into_iter().flat_map(BTreeMap::values).filter_map(|reward| match &reward.component {
                Component::Command(program) => Some(&program.files),
                _ => None,
            });
        programs.flatten().collect()
    }
}

/// The model a stage starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Digest of the Hugging Face directory (configuration, weights, tokenizer).
    pub files: Digest,
    /// The chat template (Jinja) that takes the place of the directory's own.
    pub chat_template: Option<String>,
    /// What the frozen (or, without `LoRA`, trained) weights are held in.
    pub dtype: Dtype,
    /// Low-rank adapters; absent: all weights are trained.
    pub lora: Option<LoraSpec>,
    /// What happens to the parent stage's adapter.
    pub parent_adapter: ParentAdapter,
}

/// Low-rank adaptation (arXiv:2106.09685): `W x + scale * B A x`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSpec {
    /// Rank r of the update.
    pub rank: u32,
    /// `scale = alpha / rank` (or `alpha / sqrt(rank)` with `rslora`).
    pub alpha: f64,
    /// Probability of dropping an input of the adapter while training.
    pub dropout: f64,
    /// Rank-stabilized scale (arXiv:2312.03732).
    pub rslora: bool,
    /// Names of the linear layers that get an adapter, sorted, e.g. `q_proj`.
    pub target_modules: Vec<String>,
}

/// What happens to the adapter that the parent stage trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParentAdapter {
    /// This stage continues to train it.
    Continue,
    /// It is merged into the weights first; this stage trains an adapter of its own, or all weights.
    Merge,
}

/// A data set among those that a training stage draws from. They are sorted by what they hold, never by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedData {
    /// Share of the stage's rows that come from it; the shares of a stage add up to 1.
    pub weight: f64,
    /// What is drawn from.
    pub data: DataSpec,
}

/// A data set as a stage sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The files, in the order of their paths.
    pub files: Vec<DataFile>,
    /// Share of rows, chosen by content hash, that are held out from training.
    pub eval_fraction: f64,
    /// Which side of that split this stage reads.
    pub split: Split,
    /// Reads at most this many rows of the split, in file order.
    pub max_rows: Option<usize>,
    /// Field of a row that holds a conversation, instead of the templates `system`, `prompt` and `completion`.
    pub messages: Option<String>,
    /// How a row becomes text.
    pub templates: Templates,
}

/// One file of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Digest of the file's bytes.
    pub digest: Digest,
    /// How the bytes are read.
    pub format: DataFormat,
}

/// Format of a data file, from its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// `.txt` or `.md`: paragraphs separated by blank lines, each a document.
    Text,
    /// `.jsonl`: one JSON object a line.
    Jsonl,
    /// `.parquet`: columns, of which each row is read as a JSON object.
    Parquet,
}

/// Who speaks in a turn of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What the conversation is about and how to answer.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool that the model called.
    Tool,
}

/// Side of the train / eval split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Rows that are trained on.
    Train,
    /// Rows that are held out.
    Eval,
    /// Every row.
    All,
}

/// minijinja templates over a row's fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    /// A system message before the prompt.
    pub system: Option<String>,
    /// The user's turn.
    pub prompt: Option<String>,
    /// The assistant's turn, which SFT trains.
    pub completion: Option<String>,
    /// The reference text that rewards compare with.
    pub reference: Option<String>,
    /// The right answer.
    pub answer: Option<String>,
    /// The document text for CPT; default: the field `text`, or a `.txt` file's paragraph.
    pub text: Option<String>,
}

/// How long a training stage goes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// This many optimizer steps.
    Steps(u64),
    /// This many passes over the data.
    Epochs(f64),
}

/// What every training stage has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// Which update rule.
    pub optimizer: Optimizer,
    /// Peak learning rate.
    pub lr: f64,
    /// Decoupled weight decay; matrices only.
    pub weight_decay: f64,
    /// Shape of the learning rate after warm-up.
    pub schedule: Schedule,
    /// Linear warm-up from 0 to `lr`.
    pub warmup_steps: u64,
    /// Gradients are scaled down to this norm.
    pub max_grad_norm: f64,
}

/// Update rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// `AdamW` (arXiv:1711.05101).
    Adamw {
        /// Decay rates of the two moments.
        betas: (f64, f64),
        /// Added to the denominator.
        eps: f64,
    },
    /// Muon (arXiv:2502.16982) for hidden matrices, `AdamW` for the rest.
    Muon {
        /// Decay rate of the momentum.
        momentum: f64,
        /// How the learning rate depends on a matrix's shape.
        adjust_lr: AdjustLr,
        /// `AdamW`'s decay rates of the two moments.
        betas: (f64, f64),
        /// Added to `AdamW`'s denominator.
        eps: f64,
    },
}

/// How Muon's learning rate depends on the shape (M, N) of a matrix; names as in `PyTorch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustLr {
    /// Times `sqrt(max(1, M / N))`.
    Original,
    /// Times `0.2 sqrt(max(M, N))`: updates as large as `AdamW`'s, whose learning rates then fit (arXiv:2502.16982).
    MatchRmsAdamw,
}

/// Learning-rate schedules, as in transformers' `get_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays at `lr`.
    Constant,
    /// Falls linearly to 0 at the last step.
    Linear,
    /// Falls along half a cosine to 0 at the last step.
    Cosine,
    /// Warm-up, stable, decay (arXiv:2404.06395): stays at `lr`, then falls linearly to 0 over the last steps.
    Wsd {
        /// Steps of the decay.
        decay_steps: u64,
    },
}

/// Continued pre-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CptSpec {
    /// The documents.
    pub data: Vec<WeightedData>,
    /// Documents are packed into rows of this many tokens.
    pub seq_len: usize,
    /// When to stop.
    pub length: Length,
    /// Rows per optimizer step.
    pub global_batch_size: usize,
    /// Rows per forward pass.
    pub micro_batch_size: usize,
    /// Update rule.
    pub optimizer: OptimizerSpec,
}

/// Supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSpec {
    /// Conversations.
    pub data: Vec<WeightedData>,
    /// Roles whose turns carry loss.
    pub train_on: BTreeSet<Role>,
    /// Longest conversation, and with `packing` longest row, in tokens.
    pub seq_len: usize,
    /// Whether short conversations share rows of `seq_len` tokens, without seeing each other.
    pub packing: bool,
    /// When to stop.
    pub length: Length,
    /// Rows per optimizer step.
    pub global_batch_size: usize,
    /// Rows per forward pass.
    pub micro_batch_size: usize,
    /// Update rule.
    pub optimizer: OptimizerSpec,
}

/// Group-relative policy optimization (arXiv:2402.03300).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoSpec {
    /// Prompts, references and answers.
    pub data: Vec<WeightedData>,
    /// Optimizer steps.
    pub steps: u64,
    /// Prompts per rollout.
    pub prompts_per_step: usize,
    /// Completions per prompt, G.
    pub group_size: usize,
    /// Completions per forward pass of the update.
    pub micro_batch_size: usize,
    /// Optimizer steps taken on one rollout, mu.
    pub updates_per_rollout: u64,
    /// Completions decoded at a time; 0: all of a rollout.
    pub rollout_batch_size: usize,
    /// Parts that a rollout's groups are dealt into; update u uses part u modulo their number.
    pub mini_batches: usize,
    /// How completions are drawn.
    pub sampling: Sampling,
    /// What a completion loses that comes close to `max_new_tokens`; absent: nothing.
    pub overlong: Option<OverlongSpec>,
    /// How the components of the reward mix become advantages.
    pub reward_aggregation: RewardAggregation,
    /// What happens to groups whose rewards are all equal.
    pub zero_std: ZeroStd,
    /// The objective.
    pub loss: GrpoLossSpec,
    /// Update rule.
    pub optimizer: OptimizerSpec,
    /// The reward mix, by component name.
    pub rewards: BTreeMap<String, RewardSpec>,
    /// The stage fails when a greater share of a rollout's completions has no reward.
    pub max_missing_fraction: f64,
}

/// How completions are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Longest prompt, in tokens; a longer one is an error.
    pub max_prompt_tokens: usize,
    /// Longest completion, in tokens; a longer one is cut.
    pub max_new_tokens: usize,
    /// A completion does not end before it has this many tokens.
    pub min_new_tokens: usize,
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Draws from the smallest set of tokens with this much probability; 1: from all.
    pub top_p: f64,
    /// Draws from this many most likely tokens; 0: from all.
    pub top_k: usize,
    /// Draws from tokens at least this many times as likely as the most likely one; 0: from all (arXiv:2407.01082).
    pub min_p: f64,
    /// Divides positive logits of tokens that occurred, and multiplies negative ones; 1: none (arXiv:1909.05858).
    pub repetition_penalty: f64,
    /// A completion ends with the first of these it comes to hold.
    pub stop_strings: Vec<String>,
}

impl Sampling {
    /// Draws of up to `max_new_tokens` from the model's own distribution, after prompts of any length.
    pub const fn plain(max_new_tokens: usize) -> Self {
        Self {
            max_prompt_tokens: usize::MAX,
            max_new_tokens,
            min_new_tokens: 0,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop_strings: Vec::new(),
        }
    }
}

/// Soft overlong punishment (DAPO, arXiv:2503.14476, eq. 13).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlongSpec {
    /// It grows over this many tokens before the length limit.
    pub buffer_tokens: usize,
    /// What is taken from the reward at the limit.
    pub penalty: f64,
}

impl OverlongSpec {
    /// Its name among the parts of a reward.
    pub const PART: &str = "overlong";
}

/// How the components of the reward mix become advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardAggregation {
    /// Their weighted sum is normalized (arXiv:2402.03300).
    SumThenNormalize,
    /// Each is normalized within its group before the weighted sum is normalized over the rollout (GDPO, arXiv:2601.05242).
    NormalizeThenSum,
}

/// What happens to groups whose rewards are all equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroStd {
    /// They take part, with advantages of 0.
    Keep,
    /// They take part neither in the loss nor in what it is divided by.
    Drop,
    /// They are replaced by groups of the next prompts (dynamic sampling: DAPO, arXiv:2503.14476, section 3.2); what is left
    /// without spread is dropped.
    Resample {
        /// At most this many further prompts are drawn in a step.
        max_prompts: usize,
    },
}

/// The GRPO objective; formulas in `engine::loss`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoLossSpec {
    /// How per-token losses become one number.
    pub loss_type: LossType,
    /// What the centred rewards are divided by.
    pub scale_rewards: ScaleRewards,
    /// Weight of the k3 estimate of the KL divergence from the model that the stage starts from.
    pub kl_coef: f64,
    /// Weight of the entropy bonus.
    pub entropy_coef: f64,
    /// The ratio is clipped below at `1 - clip_low`.
    pub clip_low: f64,
    /// The ratio is clipped above, or with `cispo` capped, at `1 + clip_high`.
    pub clip_high: f64,
    /// Leaves completions that hit the length limit out of the loss.
    pub mask_truncated: bool,
}

/// How the ratio of a token enters the loss, and how per-token losses become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over sequences of the mean over tokens (arXiv:2402.03300).
    Grpo,
    /// Sum over all tokens of the step, divided by their count (arXiv:2503.14476).
    Dapo,
    /// Sum divided by sequences times `max_new_tokens` (arXiv:2503.20783).
    DrGrpo,
    /// One ratio for a whole completion, then the mean over sequences (arXiv:2507.18071).
    Gspo,
    /// The ratio is a constant weight capped at `1 + clip_high`; sum over all tokens of the step, divided by their count
    /// (arXiv:2506.13585).
    Cispo,
}

/// Divisor of the centred rewards of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The group's standard deviation.
    Group,
    /// The whole rollout's standard deviation.
    Batch,
    /// 1.
    None,
}

/// Held-out measurements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    /// The data set's name in the recipe, by which the result names it.
    pub data_set: String,
    /// Whether the recipe marks the data set as out of domain.
    pub out_of_domain: bool,
    /// Questions, references and answers.
    pub data: DataSpec,
    /// The options whose likelihoods are compared; absent: none are.
    pub options: Option<OptionsSpec>,
    /// Text whose perplexity is measured too.
    pub text: Option<DataSpec>,
    /// How answers are drawn.
    pub sampling: Sampling,
    /// Answers that are drawn to each question.
    pub samples_per_question: usize,
    /// The k of each pass@k that is estimated.
    pub pass_at: BTreeSet<usize>,
    /// Completions decoded at a time.
    pub batch_size: usize,
    /// Components that are measured, whether or not they were trained on: the recipe's, and with weight 0 those that the data
    /// set alone asks for. A weight is the component's in the total.
    pub rewards: BTreeMap<String, RewardSpec>,
    /// Names of the components that the training of this variant rewarded, by themselves or by their like; the others are held
    /// out.
    pub trained: BTreeSet<String>,
    /// Bootstrap resamples behind each 95% interval of a metric without a least and a greatest value.
    pub bootstrap_resamples: u32,
    /// The stage fails when a component has no value for a greater share of a batch's completions.
    pub max_missing_fraction: f64,
}

impl EvalSpec {
    /// The component that accuracy is the mean of.
    pub const CORRECTNESS: &str = "correctness";
    /// The component that tells whether completions have their form.
    pub const FORMAT_VALID: &str = "format_valid";
}

/// The options of a question, of which one is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionsSpec {
    /// minijinja expression over a row's fields: a list of texts, or a table of texts by their letters.
    pub options: String,
    /// minijinja template of what the assistant writes to choose one, over the row's fields and `option`, which has a `letter`
    /// and a `text`.
    pub option: String,
}

/// A program of the user's and what it is to make. The stage's seed is 0, and its model absent, unless the program asks for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandStageSpec {
    /// The program and its arguments; texts are templates ([`crate::recipe::CommandWords`]).
    pub command: Vec<Argument>,
    /// Digests of the files that it is made of and reads.
    pub files: Vec<Digest>,
    /// Files and directories that it must leave in its output directory, sorted.
    pub outputs: BTreeSet<String>,
    /// Further values for the program.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Names of the variables of the environment that it is given.
    pub env: Vec<String>,
    /// Where it starts, as the recipe says it: relative to the project directory.
    pub working_directory: String,
}
