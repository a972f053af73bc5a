//! The spec of each kind of stage.

use super::{
    ArenaSpec, Argument, Component, CreditSpec, Dtype, Fractions, GenerateSpec, RewardSpec, Selection, Split, Total,
};
use crate::digest::Digest;
use crate::metric::Direction;
use crate::stage::StageKind;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A resolved stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// The seed from which, with the step and the sample, every random draw of the stage is derived.
    pub seed: u64,
    /// The model from which the stage starts, before the parent's checkpoint is applied; absent: the stage has no
    /// model.
    pub model: Option<ModelSpec>,
    /// The step after which training ends early, so that its result is a snapshot of the whole training; absent: it
    /// goes on to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The work of the stage.
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
    /// Answers to questions, as data for other stages; trains nothing.
    Generate(GenerateSpec),
    /// A program supplied by the user.
    Command(CommandStageSpec),
    /// Comparisons of the models of all variants; trains nothing.
    Arena(ArenaSpec),
}

impl Work {
    /// Returns the stage kind.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Cpt(_) => StageKind::Cpt,
            Self::Sft(_) => StageKind::Sft,
            Self::Grpo(_) => StageKind::Grpo,
            Self::Eval(_) => StageKind::Eval,
            Self::Generate(_) => StageKind::Generate,
            Self::Command(_) => StageKind::Command,
            Self::Arena(_) => StageKind::Arena,
        }
    }

    /// Returns the reward mix that rates the completions, if the stage has one.
    pub fn rewards(&self) -> Option<&BTreeMap<String, RewardSpec>> {
        match self {
            Self::Grpo(spec) => Some(&spec.rewards),
            Self::Eval(spec) => Some(&spec.rewards),
            Self::Generate(spec) => Some(&spec.rewards),
            Self::Cpt(_) | Self::Sft(_) | Self::Command(_) | Self::Arena(_) => None,
        }
    }

    /// Returns the data sets from which a training stage draws.
    pub fn mixture_mut(&mut self) -> Option<&mut Vec<WeightedData>> {
        match self {
            Self::Cpt(spec) => Some(&mut spec.data),
            Self::Sft(spec) => Some(&mut spec.data),
            Self::Grpo(spec) => Some(&mut spec.data),
            Self::Eval(_) | Self::Generate(_) | Self::Command(_) | Self::Arena(_) => None,
        }
    }

    /// Returns the data sets whose rows are used as prompts.
    pub fn prompts(&self) -> Vec<&DataSpec> {
        match self {
            Self::Grpo(spec) => spec.data.iter().map(|set| &set.data).collect(),
            Self::Eval(spec) => vec![&spec.data],
            Self::Generate(spec) => vec![&spec.data],
            Self::Arena(spec) => vec![&spec.data],
            Self::Cpt(_) | Self::Sft(_) | Self::Command(_) => Vec::new(),
        }
    }

    /// Returns every data set that the stage reads.
    pub fn data_sets(&self) -> Vec<&DataSpec> {
        match self {
            Self::Cpt(spec) => spec.data.iter().map(|set| &set.data).collect(),
            Self::Sft(spec) => spec.data.iter().map(|set| &set.data).collect(),
            Self::Eval(spec) => std::iter::once(&spec.data).chain(&spec.text).collect(),
            Self::Grpo(_) | Self::Generate(_) | Self::Arena(_) | Self::Command(_) => self.prompts(),
        }
    }

    /// Returns the rule by which the stage's weighted reward components become a total.
    pub fn total(&self) -> Total {
        match self {
            Self::Grpo(spec) => spec.total.clone(),
            Self::Eval(spec) => spec.total.clone(),
            Self::Cpt(_) | Self::Sft(_) | Self::Generate(_) | Self::Command(_) | Self::Arena(_) => Total::Sum,
        }
    }

    /// Returns the digests of the files of the programs that rate texts.
    pub fn reward_files(&self) -> Vec<&Digest> {
        let programs =
            self.rewards().into_iter().flat_map(BTreeMap::values).filter_map(|reward| match &reward.component {
                Component::Command(program) => Some(&program.files),
                _ => None,
            });
        programs.flatten().collect()
    }
}

/// The model from which a stage starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The digest of the Hugging Face directory (configuration, weights, tokenizer).
    pub files: Digest,
    /// The chat template (Jinja) that replaces the directory's own.
    pub chat_template: Option<String>,
    /// The data type of the frozen weights or, without `LoRA`, of the trained weights.
    pub dtype: Dtype,
    /// The low-rank adapters; absent: all weights are trained.
    pub lora: Option<LoraSpec>,
    /// What happens to the parent stage's adapter.
    pub parent_adapter: ParentAdapter,
}

/// Low-rank adaptation (arXiv:2106.09685): `W x + scale * B A x`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSpec {
    /// The rank r of the update.
    pub rank: u32,
    /// The numerator of the scale: `scale = alpha / rank` (or `alpha / sqrt(rank)` with `rslora`).
    pub alpha: f64,
    /// The probability of dropping an input of the adapter during training.
    pub dropout: f64,
    /// Whether the scale is rank-stabilized (arXiv:2312.03732).
    pub rslora: bool,
    /// The names of the linear layers that get an adapter, sorted, e.g. `q_proj`.
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

/// A data set among those from which a training stage draws. They are sorted by content, never by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedData {
    /// The fraction of the stage's rows that come from this data set; the fractions of a stage add up to 1.
    pub weight: f64,
    /// The data set.
    pub data: DataSpec,
}

/// A data set as a stage reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The files, in the order of their paths.
    pub files: Vec<DataFile>,
    /// The fraction of rows, chosen by content hash, that are held out from training.
    pub eval_fraction: f64,
    /// The fraction of rows, chosen by content hash, on which snapshots are chosen; they are neither trained on nor
    /// among those of `eval_fraction`.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub dev_fraction: f64,
    /// The side of that split which this stage reads.
    pub split: Split,
    /// The maximum number of rows read from the split, in file order.
    pub max_rows: Option<usize>,
    /// The field of a row that holds a conversation, instead of the templates `system`, `prompt` and `completion`.
    pub messages: Option<String>,
    /// The templates that turn a row into text.
    pub templates: Templates,
    /// The rows that are taken, beyond the split.
    #[serde(default, skip_serializing_if = "Selection::is_everything")]
    pub selection: Selection,
    /// The evaluation sets with which rows must have no eight words in a row in common; rows that do are dropped
    /// ([`crate::leakage`]). Sorted by content. Absent: no row is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<Vec<Evaluated>>,
}

/// Whether no rows are kept apart.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_nothing(fraction: &f64) -> bool {
    *fraction == 0.0
}

impl DataSpec {
    /// Returns the fractions of the rows that are held out from training.
    pub fn fractions(&self) -> Fractions {
        Fractions { eval: self.eval_fraction, dev: self.dev_fraction }
    }

    /// Whether rows of the data set come from the results of other stages.
    pub fn is_generated(&self) -> bool {
        self.files.iter().any(|file| matches!(file, DataFile::Result { .. }))
    }

    /// Returns every file that is read for the data set.
    pub fn all_files(&self) -> impl Iterator<Item = &DataFile> {
        let Selection { join, held_out, .. } = &self.selection;
        let of_join = join.iter().map(|join| &join.from);
        self.files.iter().chain(of_join).chain(held_out.iter().flat_map(|set| &set.files))
    }
}

/// A data set that a stage measures on, and the texts of it that training data must not contain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluated {
    /// The data set.
    pub data: DataSpec,
    /// The use of it.
    pub used: TextUse,
}

/// The use of a data set, which determines the fields whose texts count when data sets are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextUse {
    /// Whole documents: the template `text`, or else the field `text`.
    Documents,
    /// Conversations that are trained on: `messages`, or `system`, `prompt` and `completion`.
    Conversations,
    /// Questions with what answers are compared with: `messages`, `prompt`, `completion`, `reference` and `answer`.
    Questions,
}

/// One file of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DataFile {
    /// A file of the user.
    File {
        /// The digest of the file's bytes.
        digest: Digest,
        /// The format of the file.
        format: DataFormat,
    },
    /// A file in the result of a stage. Its content follows from the stage's key, which is among the parents of the
    /// stage that reads it.
    Result {
        /// The stage's place among those whose results are read as data.
        source: usize,
        /// The file's path in the result.
        file: String,
        /// The format of the file.
        format: DataFormat,
    },
}

impl DataFile {
    /// Returns the format of the file.
    pub fn format(&self) -> DataFormat {
        match self {
            Self::File { format, .. } | Self::Result { format, .. } => *format,
        }
    }

    /// Returns the digest by which an assignment names the file's path: that of its content or, for a file in the
    /// result of a stage, that of its place.
    pub fn id(&self) -> Digest {
        match self {
            Self::File { digest, .. } => digest.clone(),
            Self::Result { source, file, .. } => Digest::of(format!("stage {source}: {file}").as_bytes()),
        }
    }
}

/// The format of a data file, derived from its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFormat {
    /// `.txt` or `.md`: paragraphs separated by blank lines, each a document.
    Text,
    /// `.jsonl`: one JSON object a line.
    Jsonl,
    /// `.parquet`: columns; each row is read as a JSON object.
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

/// minijinja templates over a row's fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    /// The system message before the prompt.
    pub system: Option<String>,
    /// The user's turn.
    pub prompt: Option<String>,
    /// The assistant's turn, on which SFT trains.
    pub completion: Option<String>,
    /// The reference text with which rewards compare.
    pub reference: Option<String>,
    /// The correct answer.
    pub answer: Option<String>,
    /// The document text for CPT; default: the field `text`, or a `.txt` file's paragraph.
    pub text: Option<String>,
}

/// The length of a training stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// A number of optimizer steps.
    Steps(u64),
    /// A number of passes over the data.
    Epochs(f64),
}

/// The optimizer settings that all training stages share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// The update rule.
    pub optimizer: Optimizer,
    /// The peak learning rate.
    pub lr: f64,
    /// The decoupled weight decay, applied to matrices only.
    pub weight_decay: f64,
    /// The schedule of the learning rate after warm-up.
    pub schedule: Schedule,
    /// The number of steps of linear warm-up from 0 to `lr`.
    pub warmup_steps: u64,
    /// The maximum norm of the gradients; larger gradients are scaled down to it.
    pub max_grad_norm: f64,
}

/// Update rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// `AdamW` (arXiv:1711.05101).
    Adamw {
        /// The decay rates of the two moments.
        betas: (f64, f64),
        /// The constant that is added to the denominator.
        eps: f64,
    },
    /// Muon (arXiv:2502.16982) for hidden matrices, `AdamW` for the rest.
    Muon {
        /// The decay rate of the momentum.
        momentum: f64,
        /// How the learning rate depends on a matrix's shape.
        adjust_lr: AdjustLr,
        /// The decay rates of `AdamW`'s two moments.
        betas: (f64, f64),
        /// The constant that is added to `AdamW`'s denominator.
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
    /// The learning rate stays at `lr`.
    Constant,
    /// The learning rate falls linearly to 0 at the last step.
    Linear,
    /// The learning rate falls along half a cosine to 0 at the last step.
    Cosine,
    /// Warm-up, stable, decay (arXiv:2404.06395): the learning rate stays at `lr`, then falls linearly to 0 over the
    /// last steps.
    Wsd {
        /// The number of steps of the decay.
        decay_steps: u64,
    },
}

/// The spec of continued pre-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CptSpec {
    /// The documents.
    pub data: Vec<WeightedData>,
    /// The length in tokens of the rows into which documents are packed.
    pub seq_len: usize,
    /// The length of training.
    pub length: Length,
    /// The number of rows per optimizer step.
    pub global_batch_size: usize,
    /// The number of rows per forward pass.
    pub micro_batch_size: usize,
    /// The optimizer settings.
    pub optimizer: OptimizerSpec,
}

/// The spec of supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSpec {
    /// The conversations.
    pub data: Vec<WeightedData>,
    /// The roles whose turns carry loss.
    pub train_on: BTreeSet<Role>,
    /// The maximum length in tokens of a conversation and, with `packing`, of a row.
    pub seq_len: usize,
    /// Whether short conversations share rows of `seq_len` tokens, without attending to each other.
    pub packing: bool,
    /// The length of training.
    pub length: Length,
    /// The number of rows per optimizer step.
    pub global_batch_size: usize,
    /// The number of rows per forward pass.
    pub micro_batch_size: usize,
    /// The optimizer settings.
    pub optimizer: OptimizerSpec,
}

/// The spec of group-relative policy optimization (arXiv:2402.03300).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoSpec {
    /// The data sets of prompts, references and answers.
    pub data: Vec<WeightedData>,
    /// The number of optimizer steps.
    pub steps: u64,
    /// The number of prompts per rollout.
    pub prompts_per_step: usize,
    /// The number of completions per prompt, G.
    pub group_size: usize,
    /// The number of completions per forward pass of the update.
    pub micro_batch_size: usize,
    /// The number of optimizer steps taken on one rollout, mu.
    pub updates_per_rollout: u64,
    /// The number of completions decoded at a time; 0: all completions of a rollout.
    pub rollout_batch_size: usize,
    /// The number of parts among which a rollout's groups are dealt. Update u uses part u modulo this number.
    pub mini_batches: usize,
    /// The settings for sampling completions.
    pub sampling: Sampling,
    /// The penalty of completions whose length comes close to `max_new_tokens`; absent: none.
    pub overlong: Option<OverlongSpec>,
    /// How the components of the reward mix become advantages.
    pub reward_aggregation: RewardAggregation,
    /// The divisor of a component under `NormalizeThenSum`.
    #[serde(default, skip_serializing_if = "ComponentStd::is_default")]
    pub component_std: ComponentStd,
    /// The rule by which weighted components become one reward.
    #[serde(default, skip_serializing_if = "Total::is_sum")]
    pub total: Total,
    /// What happens to groups whose rewards are all equal.
    pub zero_std: ZeroStd,
    /// The pools from which prompts are drawn by their difficulty; absent: all prompts are drawn equally often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<PoolsSpec>,
    /// The rule by which the tokens of a completion get their advantages; absent: all of them get it alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<CreditSpec>,
    /// The objective.
    pub loss: GrpoLossSpec,
    /// The optimizer settings.
    pub optimizer: OptimizerSpec,
    /// The reward mix, by component name.
    pub rewards: BTreeMap<String, RewardSpec>,
    /// The largest fraction of a rollout's completions that may have no reward; above it the stage fails.
    pub max_missing_fraction: f64,
}

impl GrpoSpec {
    /// Whether the log-probabilities of the reference are computed at any step.
    pub fn needs_reference(&self) -> bool {
        self.loss.needs_reference() || matches!(self.credit, Some(CreditSpec::SoftReturn(_)))
    }
}

/// Settings for sampling completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Longest prompt, in tokens; a longer one is an error.
    pub max_prompt_tokens: usize,
    /// Longest completion, in tokens; a longer one is cut.
    pub max_new_tokens: usize,
    /// The number of tokens before which a completion does not end.
    pub min_new_tokens: usize,
    /// The divisor of the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Nucleus sampling: draws come from the smallest set of tokens with this much probability; 1: from all tokens.
    pub top_p: f64,
    /// The number of most likely tokens from which draws come; 0: all tokens.
    pub top_k: usize,
    /// The minimum probability of a token relative to the most likely one; 0: all tokens are drawn from
    /// (arXiv:2407.01082).
    pub min_p: f64,
    /// The penalty of tokens that occurred: it divides their positive logits and multiplies their negative ones; 1: no
    /// penalty (arXiv:1909.05858).
    pub repetition_penalty: f64,
    /// The strings that end a completion, at the first that it contains.
    pub stop_strings: Vec<String>,
}

impl Sampling {
    /// Samples up to `max_new_tokens` from the model's own distribution, after prompts of any length.
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
    /// The number of tokens before the length limit over which the penalty grows.
    pub buffer_tokens: usize,
    /// The amount subtracted from the reward at the limit.
    pub penalty: f64,
}

impl OverlongSpec {
    /// The name of the penalty among the parts of a reward.
    pub const PART: &str = "overlong";
}

/// How the components of the reward mix become advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardAggregation {
    /// Their weighted sum is normalized (arXiv:2402.03300).
    SumThenNormalize,
    /// Each is normalized within its group before the weighted sum is normalized over the rollout (GDPO,
    /// arXiv:2601.05242).
    NormalizeThenSum,
}

/// Divisor of a component's centred values under [`RewardAggregation::NormalizeThenSum`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentStd {
    /// The standard deviation of the component within the group.
    #[default]
    Group,
    /// The average over steps of the component's deviation within groups.
    Running,
    /// None: ranks within the group take the place of values.
    Rank,
}

impl ComponentStd {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What an advantage compares a reward with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageBaseline {
    /// The mean of the group (arXiv:2402.03300).
    #[default]
    Group,
    /// The mean of the other completions of the group (RLOO, arXiv:2402.14740).
    LeaveOneOut,
}

impl AdvantageBaseline {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to groups whose rewards are all equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroStd {
    /// The groups take part, with advantages of 0.
    Keep,
    /// The groups count neither in the loss nor in its divisor.
    Drop,
    /// The groups are replaced by groups of the next prompts (dynamic sampling: DAPO, arXiv:2503.14476, section 3.2).
    /// Groups that still have equal rewards afterwards are dropped.
    Resample {
        /// The maximum number of further prompts drawn in a step.
        max_prompts: usize,
    },
}

/// Pools of prompts by their difficulty, as prime-rl has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolsSpec {
    /// The pass rate from which on a prompt is easy.
    pub easy_threshold: f64,
    /// The pass rate up to which a prompt is hard.
    pub hard_threshold: f64,
    /// The share of draws that are from the easy prompts.
    pub easy_share: f64,
    /// The share of draws that are from the hard prompts.
    pub hard_share: f64,
    /// The weight of the estimate so far when a group is added to it.
    pub decay: f64,
    /// The component whose mean value over a group is its pass rate; absent: the total reward.
    pub component: Option<String>,
}

/// The GRPO objective; formulas in `engine::loss`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoLossSpec {
    /// How per-token losses are reduced to one number.
    pub loss_type: LossType,
    /// The divisor of the centred rewards.
    pub scale_rewards: ScaleRewards,
    /// What rewards are compared with.
    #[serde(default, skip_serializing_if = "AdvantageBaseline::is_default")]
    pub advantage_baseline: AdvantageBaseline,
    /// Weight of the k3 estimate of the KL divergence from the model that the stage starts from.
    pub kl_coef: f64,
    /// The number of steps between measurements of the divergence without `kl_coef`; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kl_every: u64,
    /// The weight of the entropy bonus.
    pub entropy_coef: f64,
    /// The lower clipping range: the ratio is clipped below at `1 - clip_low`.
    pub clip_low: f64,
    /// The upper clipping range: the ratio is clipped above, or with `cispo` capped, at `1 + clip_high`.
    pub clip_high: f64,
    /// Whether completions that hit the length limit are left out of the loss.
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
    /// The ratio is a constant weight capped at `1 + clip_high`; sum over all tokens of the step, divided by their
    /// count (arXiv:2506.13585).
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
    /// The group's mean; advantages are 0 where it is not positive (`MaxRL`, arXiv:2602.02710).
    Mean,
    /// 1.
    None,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl GrpoLossSpec {
    /// Whether the divergence from the reference is computed at `step`.
    pub fn measures_kl(&self, step: u64) -> bool {
        self.kl_coef != 0.0 || (self.kl_every > 0 && step.is_multiple_of(self.kl_every))
    }

    /// Whether the divergence from the reference is computed at any step.
    pub fn needs_reference(&self) -> bool {
        self.kl_coef != 0.0 || self.kl_every > 0
    }
}

/// The spec of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    /// The data set's name in the recipe, which the result contains.
    pub data_set: String,
    /// Whether the recipe marks the data set as out of domain.
    pub out_of_domain: bool,
    /// The data set of questions, references and answers.
    pub data: DataSpec,
    /// The choice of the snapshot that is measured; absent: there is one model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestSpec>,
    /// The options whose likelihoods are compared; absent: none.
    pub options: Option<OptionsSpec>,
    /// The expressions over a row's fields by whose values the measurements are also taken apart, sorted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub by: BTreeSet<String>,
    /// The text whose perplexity is also measured; absent: none.
    pub text: Option<DataSpec>,
    /// The settings for sampling answers.
    pub sampling: Sampling,
    /// The number of answers sampled for each question.
    pub samples_per_question: usize,
    /// The values k for which pass@k is estimated.
    pub pass_at: BTreeSet<usize>,
    /// The values k for which maj@k is estimated.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub maj_at: BTreeSet<usize>,
    /// Whether changes of the answers that hack rewards are rated too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probes: bool,
    /// The number of completions decoded at a time.
    pub batch_size: usize,
    /// The measured components, whether or not they were trained on: the recipe's and, with weight 0, those that only
    /// the data set needs. A weight applies to the component's share of the total.
    pub rewards: BTreeMap<String, RewardSpec>,
    /// The rule by which weighted components become the total.
    #[serde(default, skip_serializing_if = "Total::is_sum")]
    pub total: Total,
    /// The names of the components that this variant's training rewarded, directly or through an equivalent component.
    /// The others are held out.
    pub trained: BTreeSet<String>,
    /// The number of bootstrap resamples behind each 95% interval of an unbounded metric.
    pub bootstrap_resamples: u32,
    /// The largest fraction of a batch's completions for which a component may have no value; above it the stage fails.
    pub max_missing_fraction: f64,
}

impl EvalSpec {
    /// The name of the component whose mean is the accuracy.
    pub const CORRECTNESS: &str = "correctness";
    /// The name of the component that measures whether completions have the required form.
    pub const FORMAT_VALID: &str = "format_valid";
}

/// The choice among the snapshots of a training stage. Those are the parents of the stage that chooses, and the
/// evaluations of them on development rows are its sources, in the order of `steps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestSpec {
    /// The metric on development rows by which the snapshot is chosen, `eval/accuracy` for example.
    pub metric: String,
    /// The direction in which that metric is better.
    pub direction: Direction,
    /// The steps of training after which the snapshots were taken, in ascending order.
    pub steps: Vec<u64>,
}

impl BestSpec {
    /// The file with the measurements in the result of an evaluation.
    pub const MEASURED: &str = "metrics.json";

    /// Returns the id in an assignment of the measurements of the snapshot at this place.
    pub fn measured(place: usize) -> Digest {
        Digest::of(format!("stage {place}: {}", Self::MEASURED).as_bytes())
    }
}

/// The options of a question, one of which is correct.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionsSpec {
    /// The minijinja expression over a row's fields for the options: a list of texts, or a table from letters to texts.
    pub options: String,
    /// The minijinja template of the text by which the assistant chooses an option. It may use the row's fields and
    /// `option`, which has a `letter` and a `text`.
    pub option: String,
}

/// The spec of a program supplied by the user. The stage's seed is 0 and its model is absent, unless the program uses
/// them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandStageSpec {
    /// The program and its arguments; texts are templates ([`crate::recipe::CommandWords`]).
    pub command: Vec<Argument>,
    /// The digests of the program's own files and of the files that it reads.
    pub files: Vec<Digest>,
    /// The files and directories that the program must leave in its output directory, sorted.
    pub outputs: BTreeSet<String>,
    /// Further values for the program.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The names of the environment variables that the program receives.
    pub env: Vec<String>,
    /// The working directory as the recipe writes it, relative to the project directory.
    pub working_directory: String,
}
