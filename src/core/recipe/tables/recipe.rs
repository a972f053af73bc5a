//! What a user may write: the TOML tables as types. Their doc comments are the descriptions in `orchestrate schema`.
//!
//! A field that is neither an `Option` nor in `defaults.toml` is a key the user must write. These types know nothing of
//! files or of other tables; `resolve` turns them into [`crate::recipe::spec`].

use super::one_or_many::string_or_strings;
use crate::recipe::runtime::settings::RuntimeSettings;
use crate::recipe::spec::{Dtype, ParentAdapter};
use crate::recipe::tables::compare::CompareSettings;
use crate::recipe::tables::stage::StageTable;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A recipe: a model, data sets, and stages that train and measure it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// Names the recipe in tables and labels; default: the file's name without `.toml`. Not inherited by `extends`.
    pub name: Option<String>,
    /// The seed every random draw is derived from.
    #[schemars(range(min = 0))]
    pub seed: u64,
    /// Another recipe, relative to this file, which this one is deep-merged over; or several, each over the one before.
    #[serde(default)]
    #[schemars(schema_with = "string_or_strings")]
    pub extends: Option<toml::Value>,
    /// The model that stages start from; a `command` stage only if its words name it, an `arena` only with `base`.
    pub model: Option<ModelTable>,
    /// Data sets by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9_-]+$" }))]
    pub data: BTreeMap<String, DataTable>,
    /// Stages by name.
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9_-]+$" }, "minProperties" = 1))]
    pub stages: BTreeMap<String, StageTable>,
    /// Variants of the recipe: `variants` x `zip` x `matrix`.
    pub sweep: Option<SweepTable>,
    /// What the arms of the sweep are compared by; never changes a result, so it is not part of a cache key.
    pub compare: Option<CompareSettings>,
    /// How stages are run; never changes a result, so it is not part of a cache key.
    pub runtime: RuntimeSettings,
}

/// The model every stage starts from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// A Hugging Face directory with `config.json`, `tokenizer.json` and `*.safetensors`, or `hf://owner/name@revision`
    /// on the Hugging Face hub (without a revision: `main`).
    pub path: String,
    /// A file with the chat template to use instead of the model's own, in Hugging Face's dialect of Jinja.
    pub chat_template: Option<String>,
    /// Number format of weights and activations.
    pub dtype: Dtype,
    /// Low-rank adapters; without this table all weights are trained.
    pub lora: Option<LoraTable>,
    /// Whether a stage continues the adapter of the stage before it (`continue`), or merges it into the weights and
    /// trains its own adapter or all weights (`merge`).
    pub parent_adapter: ParentAdapter,
}

/// A stage's own model, over the recipe's `[model]`: a key that is absent is taken from there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelOverride {
    /// A Hugging Face directory with `config.json`, `tokenizer.json` and `*.safetensors`, or `hf://owner/name@revision`
    /// on the Hugging Face hub (without a revision: `main`).
    pub path: Option<String>,
    /// A file with the chat template to use instead of the model's own.
    pub chat_template: Option<String>,
    /// Number format of weights and activations.
    pub dtype: Option<Dtype>,
    /// Low-rank adapters; replaces the whole of `model.lora`.
    pub lora: Option<LoraTable>,
    /// Whether the stage goes on with the adapter of the stage before it, or merges it into the weights first.
    pub parent_adapter: Option<ParentAdapter>,
}

/// Low-rank adaptation (arXiv:2106.09685).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraTable {
    /// Rank of the update.
    #[schemars(range(min = 1))]
    pub rank: u32,
    /// The update is scaled by `alpha / rank` (with `rslora`: `alpha / sqrt(rank)`).
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Probability of dropping an input of the adapter while training.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Rank-stabilized scale (arXiv:2312.03732).
    pub rslora: bool,
    /// Names of the linear layers that get an adapter, or `all-linear`: all but the head.
    #[schemars(schema_with = "string_or_strings")]
    pub target_modules: toml::Value,
}

/// A data set: files, how they are split, and how a row becomes text.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataTable {
    /// A file, a glob, or an array of them: `.txt`, `.md`, `.jsonl` or `.parquet`, relative to the project directory,
    /// or
    /// `hf://datasets/owner/name@revision/file.jsonl` on the Hugging Face hub, or `stage:NAME` for the answers of a
    /// stage of this recipe (`stage:NAME/FILE` for a file of its result).
    #[schemars(schema_with = "string_or_strings")]
    pub path: toml::Value,
    /// Share of rows, chosen by content hash, that are held out from training.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub eval_fraction: f64,
    /// Share of rows, chosen by content hash, on which `at = "best"` chooses a snapshot. They are neither trained on
    /// nor among those of `eval_fraction`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dev_fraction: f64,
    /// Marks a data set that measures generalization to another domain: no stage may train on it, `eval` reads all of
    /// it, and results say so.
    pub out_of_domain: bool,
    /// Drops the rows that have eight words in a row in common with a question or reference of an evaluation of the
    /// recipe. A stage that trains on the data set counts them.
    pub decontaminate: bool,
    /// Largest share of an evaluation set's questions that may have eight words in a row in common with rows that are
    /// trained on; above it, the recipe is refused. Never changes a result, so it is not part of a cache key.
    #[schemars(range(min = 0, max = 1))]
    pub max_overlap: Option<f64>,
    /// Reads at most this many rows of either side of the split, in file order.
    #[schemars(range(min = 1))]
    pub max_rows: Option<usize>,
    /// Keeps only the rows for which this expression over their fields is true, e.g. `reward > 0.8`.
    #[serde(rename = "where")]
    pub only: Option<String>,
    /// Keeps some of the answers that a stage generated to each question: `best 1 per question`, those with the highest
    /// `reward`, or `first 1 per question`.
    pub keep: Option<String>,
    /// Gives each row a field with the answer that a stage generated to it.
    pub join: Option<JoinTable>,
    /// Field of a row that holds a conversation, a list of `{role, content}`; instead of `system`, `prompt` and
    /// `completion`.
    pub messages: Option<String>,
    /// Template of a system message before the prompt.
    pub system: Option<String>,
    /// Template of the user's turn.
    pub prompt: Option<String>,
    /// Template of the assistant's turn, which `sft` trains.
    pub completion: Option<String>,
    /// Template of the text that the rewards `semantic` and `rouge` compare with.
    pub reference: Option<String>,
    /// Template of the right answer, which the reward `correctness` compares with.
    pub answer: Option<String>,
    /// The options of a multiple-choice row, whose likelihoods `eval` compares: an expression over the row's fields,
    /// for example the name of a field. It gives a list of texts, which have the letters A, B, C, ..., or a table of
    /// texts by their letters. The right one is that whose letter, or else whose text, is the row's `answer`.
    pub options: Option<String>,
    /// Template of what the assistant writes to choose an option, over the row's fields and `option.letter` and
    /// `option.text`; default: the letter.
    pub option: Option<String>,
    /// Slices of an evaluation's questions: fields of a row, or expressions over them. `eval` also reports every metric
    /// for each value of each, as `eval/accuracy{subject=biology}`, and `arena` the ratings. A field has at most 200
    /// different values.
    #[serde(default)]
    #[schemars(extend("minItems" = 1))]
    pub by: Vec<String>,
    /// Template of a document for `cpt`; default: the field `text`, or a paragraph of a text file.
    pub text: Option<String>,
}

/// The answers of another stage as a field of a data set's rows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTable {
    /// The stage that generated them, `stage:NAME`, from the same rows. Answers and rows are matched by the content of
    /// the rows; of several answers the first is taken. A row without an answer has no text where a template names it.
    pub from: String,
    /// Name of the new field.
    #[schemars(extend("pattern" = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub field: String,
    /// Field of the generated rows that it holds; default: `completion`.
    pub column: Option<String>,
}

/// Variants of the recipe: `variants` x `zip` x `matrix`, as far as `include` and `exclude` leave them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepTable {
    /// Dotted keys, each with the values it takes, e.g. `{ "seed" = [1, 2, 3] }`.
    #[serde(default)]
    #[schemars(
        with = "BTreeMap<String, Vec<serde_json::Value>>",
        extend("additionalProperties" = { "type": "array", "minItems": 1 })
    )]
    pub matrix: BTreeMap<String, Vec<toml::Value>>,
    /// Dotted keys whose values go together, the first with the first, e.g.
    /// `{ "stages.sft.lr" = [1e-4, 3e-4], "stages.sft.steps" = [200, 100] }`; the lists have the same length.
    #[serde(default)]
    #[schemars(
        with = "BTreeMap<String, Vec<serde_json::Value>>",
        extend("additionalProperties" = { "type": "array", "minItems": 1 })
    )]
    pub zip: BTreeMap<String, Vec<toml::Value>>,
    /// Keeps only the variants that match one of these patterns: parts of a variant's name, separated by commas, all of
    /// which it must have, e.g. `rouge`, `seed=1` or `rouge,seed=*`.
    #[serde(default)]
    #[schemars(extend("minItems" = 1))]
    pub include: Vec<String>,
    /// Leaves out the variants that match one of these patterns.
    #[serde(default)]
    #[schemars(extend("minItems" = 1))]
    pub exclude: Vec<String>,
    /// Named changes of the recipe.
    #[serde(default)]
    pub variants: Vec<VariantTable>,
    /// With `variants`: whether the recipe as written is a variant too; `false` leaves it out.
    pub base: bool,
    /// Name of that variant; default: `base`.
    pub base_name: Option<String>,
}

/// A named change of the recipe.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VariantTable {
    /// Names the variant.
    pub name: String,
    /// Dotted keys and their values; a table replaces the whole table at that key.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub set: BTreeMap<String, toml::Value>,
    /// Dotted keys or tables of the recipe that the variant goes without: a reward, a stage.
    #[serde(default)]
    pub unset: Vec<String>,
}
