//! `[stages.NAME.rewards.NAME]`: the keys that all components share, and the context in which component tables are
//! read.

use super::component::{KINDS, KindEntry, OwnKeys};
use super::spec::{OnError, WeightRamp};
use crate::digest::Digest;
use crate::program::Argument;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value as Json, json};
use std::borrow::Cow;
use std::sync::Arc;

/// A reward component of a recipe; its `kind` (default: its name) determines which keys it takes.
#[derive(Clone, Debug)]
pub struct RewardTable {
    /// The keys that all components share.
    pub common: CommonTable,
    /// The component's own keys.
    pub own: Arc<dyn OwnKeys>,
}

/// The keys that every component has.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommonTable {
    /// Factor in the total, or `{ from, to, over_steps }`: a factor that goes from one value to another in a straight
    /// line. With 0 the component is held out: measured, but not part of the reward.
    #[schemars(schema_with = "weight_schema")]
    pub weight: WeightTable,
    /// First step at which the component counts; before it, its weight is 0. Default: the first.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub start_step: Option<u64>,
    /// The part of the completion that is read: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// `[low, high]`: a value outside is set to the nearer bound; default: no bounds.
    pub clip: Option<[f64; 2]>,
    /// Exponent of the value, after `clip`; its sign is kept.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub exponent: f64,
    /// Factor of the value, after `clip` and `exponent`. Unlike `weight`, it is part of the value that is logged and
    /// normalized.
    pub scale: f64,
    /// Names of components that must be greater than 0; otherwise the value is 0.
    pub requires: Vec<String>,
    /// Compares each completion with another row's reference and answer, as a control: for components that compare with
    /// the row.
    pub shuffle_references: bool,
    /// What happens to a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
}

/// A weight in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum WeightTable {
    /// The same at every step.
    Constant(f64),
    /// From one value to another.
    Ramp {
        /// The weight at the first step.
        from: f64,
        /// The weight from `over_steps` steps later.
        to: f64,
        /// The number of steps between them.
        over_steps: u64,
    },
}

impl WeightTable {
    /// The weight at the end of training.
    pub fn last(self) -> f64 {
        match self {
            Self::Constant(weight) | Self::Ramp { to: weight, .. } => weight,
        }
    }

    /// Whether the weight is 0 at every step.
    pub fn never_counts(self) -> bool {
        match self {
            Self::Constant(weight) => weight == 0.0,
            Self::Ramp { from, to, .. } => from == 0.0 && to == 0.0,
        }
    }

    /// The change of the weight; `None` for a constant one.
    pub fn ramp(self) -> Option<WeightRamp> {
        match self {
            Self::Constant(_) => None,
            Self::Ramp { from, over_steps, .. } => Some(WeightRamp { from, over_steps }),
        }
    }
}

fn weight_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["number", "object"],
        "properties": {
            "from": { "description": "Weight at the first step.", "type": "number" },
            "to": { "description": "Weight from `over_steps` steps later.", "type": "number" },
            "over_steps": { "description": "Steps between them.", "type": "integer", "minimum": 1 },
        },
        "required": ["from", "to", "over_steps"],
        "additionalProperties": false,
    })
}

impl CommonTable {
    const KEYS: [&str; 9] =
        ["weight", "start_step", "scope", "clip", "exponent", "scale", "requires", "shuffle_references", "on_error"];
}

impl<'de> Deserialize<'de> for RewardTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut own = toml::Table::deserialize(deserializer)?;
        let kind = own.remove("kind");
        let kind = kind.as_ref().and_then(toml::Value::as_str).and_then(KindEntry::named);
        let kind = kind.ok_or_else(|| D::Error::custom("`kind` must name a reward component"))?;
        let common = CommonTable::KEYS.into_iter().filter_map(|key| own.remove_entry(key)).collect();
        let common = CommonTable::deserialize(toml::Value::Table(common)).map_err(D::Error::custom)?;
        let own = (kind.read)(toml::Value::Table(own)).map_err(D::Error::custom)?;
        Ok(Self { common, own })
    }
}

impl JsonSchema for RewardTable {
    fn schema_name() -> Cow<'static, str> {
        "RewardTable".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let branches: Vec<Json> = KINDS.iter().map(|kind| branch(kind, generator)).collect();
        json_schema!({
            "description": "A reward component; its `kind` (default: its name) decides which keys it takes.",
            "anyOf": branches,
        })
    }
}

/// Returns the name of a component's table in the schema.
pub fn table_name(kind: &str) -> String {
    let (first, rest) = kind.split_at(1);
    format!("{}{rest}Table", first.to_uppercase())
}

/// Adds the definition of a component's table to the schema and returns a reference to it.
fn branch(kind: &KindEntry, generator: &mut SchemaGenerator) -> Json {
    let common = CommonTable::json_schema(generator).to_value();
    let mut table = (kind.schema)(generator).to_value();
    let mut properties = serde_json::Map::new();
    let what = json!({ "description": "What is computed; default: the component's name.", "type": "string", "const": kind.name });
    properties.insert("kind".to_owned(), what);
    let mut required = vec![json!("kind")];
    for part in [common, table.take()] {
        let Json::Object(mut part) = part else { unreachable!("a table's schema is an object") };
        if let Some(Json::Object(own)) = part.remove("properties") {
            properties.extend(own);
        }
        if let Some(Json::Array(own)) = part.remove("required") {
            required.extend(own);
        }
        table = Json::Object(part);
    }
    table["properties"] = Json::Object(properties);
    table["required"] = Json::Array(required);
    let name = table_name(kind.name);
    let reference = format!("#/$defs/{name}");
    generator.definitions_mut().insert(name, table);
    json!({ "$ref": reference })
}

/// A position in a component's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At<'a> {
    /// The table itself.
    Table,
    /// The value of a key.
    Key(&'a str),
    /// An item of the array under a key.
    Item(&'a str, usize),
}

/// The recipe around a component's table, which resolves values and collects problems.
pub trait TableContext {
    /// Returns the name of the position in messages, for instance `stages.grpo.rewards.rouge.variant`.
    fn name(&self, at: At<'_>) -> String;

    /// Reports a problem with the value at this position.
    fn problem(&mut self, at: At<'_>, message: String, label: &str, help: &str);

    /// The number of problems reported so far, here and elsewhere.
    fn problems(&self) -> usize;

    /// Returns the digest of the Hugging Face directory that `key` names; `None` after a reported problem.
    fn directory(&mut self, what: &str, named: &str, key: &str) -> Option<Digest>;

    /// Returns the `config.json` in a directory that [`Self::directory`] found under `key`; `None` after a reported
    /// problem.
    fn config(&mut self, directory: &Digest, key: &str) -> Option<Json>;

    /// Returns the JSON in the file that `key` names; `None` after a reported problem.
    fn json(&mut self, what: &str, named: &str, key: &str) -> Option<Json>;

    /// Returns the words of a program and the digests of its files, from the keys `command`, `files` and `env`.
    fn program(&mut self, command: &[String], files: &[String], env: &[String])
    -> Option<(Vec<Argument>, Vec<Digest>)>;

    /// Reports an invalid template, or one that uses other than the `variables`.
    fn check_template(&mut self, key: &str, template: &str, variables: &[&str]);

    /// Returns the names of the tables in `[runtime.GROUP]`, where the group is `judges` or `endpoints`.
    fn served(&self, group: &str) -> Vec<String>;
}

/// Compiles the value of `key` as a regular expression; reports an invalid one.
pub(super) fn regular_expression(recipe: &mut dyn TableContext, key: &str, pattern: &str) -> Option<regex::Regex> {
    regex::Regex::new(pattern)
        .map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("`{}` is not a valid regular expression: {reason}", recipe.name(At::Key(key)));
            let help = "the syntax is that of https://docs.rs/regex; write it in '...', where `\\` is itself";
            recipe.problem(At::Key(key), message, "here", help);
        })
        .ok()
}
