//! Checks a recipe's shape against the schema: unknown keys, wrong types, values out of range, missing keys.

use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::defaults::kind_of_name;
use crate::recipe::tables::schema;
use crate::recipe::tables::synonyms::synonym;
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::layers::ENVIRONMENT;
use crate::recipe::text::located::{KeyPath, Step};
use crate::suggestion::{did_you_mean, nearest};
use serde_json::Value as Json;
use toml::{Table, Value};

/// How much a variant has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recipe) enum Demand {
    /// Keys may be missing: the sweep's variants may bring them.
    WhatIsThere,
    /// Every key without a default.
    Complete,
}

/// Reports what does not fit the schema and takes it out of the variant.
pub(in crate::recipe) fn keep_fitting(variant: &mut Variant<'_>, demand: Demand, problems: &mut Problems) {
    let mut whole = Value::Table(std::mem::take(&mut variant.value));
    let mut walk = Walk { variant, demand, problems, refused: Vec::new(), path: KeyPath::default() };
    let fits = walk.check(&mut whole, schema::root());
    let refused = walk.refused;
    variant.refused.extend(refused);
    if let (true, Value::Table(fitting)) = (fits, whole) {
        variant.value = fitting;
    }
}

struct Walk<'a> {
    variant: &'a Variant<'a>,
    demand: Demand,
    problems: &'a mut Problems,
    refused: Vec<KeyPath>,
    /// Where the walk is.
    path: KeyPath,
}

impl Walk<'_> {
    /// Whether `value` fits `schema`; what in it does not is taken out.
    fn check(&mut self, value: &mut Value, schema: &'static Json) -> bool {
        let fits = self.fits(value, schema);
        if !fits {
            self.refused.push(self.path.clone());
        }
        fits
    }

    /// [`Self::check`] of what stands at `step` from here.
    fn check_at(&mut self, step: Step, value: &mut Value, schema: &'static Json) -> bool {
        self.path.0.push(step);
        let fits = self.check(value, schema);
        self.path.0.pop();
        fits
    }

    fn fits(&mut self, value: &mut Value, schema: &'static Json) -> bool {
        if *schema == Json::Bool(true) {
            return true;
        }
        let description = schema.get("description").and_then(Json::as_str);
        let schema = schema::resolved(schema);
        if let Some(branches) = schema.get("anyOf").and_then(Json::as_array) {
            return self.branch(value, branches);
        }
        if !self.has_type(value, schema, description) {
            return false;
        }
        match value {
            Value::Table(table) => {
                self.table(table, schema);
                true
            }
            Value::Array(items) => self.array(items, schema),
            scalar => self.is_known_word(scalar, schema) && self.is_in_range(scalar, schema),
        }
    }

    fn at_value(&mut self, path: &KeyPath, message: String, label: impl Into<String>, help: Option<String>) {
        let mut problem = Problem::at(self.variant.value_place(path), message, label);
        problem.help = help;
        self.problems.push(problem);
    }

    /// Stages and rewards: `kind` names the schema.
    fn branch(&mut self, value: &mut Value, branches: &'static [Json]) -> bool {
        let kind_of = |branch: &'static Json| {
            let branch = schema::resolved(branch);
            branch["properties"]["kind"]["const"].as_str().expect("branches have a constant `kind`")
        };
        let known = || branches.iter().map(kind_of).collect::<Vec<_>>();
        let Value::Table(table) = value else {
            let path = self.path.clone();
            self.at_value(
                &path,
                format!("expected a table for `{path}`, found {}", type_name(value)),
                "not a table",
                None,
            );
            return false;
        };
        let kind_is_required = branches.iter().any(|branch| is_required(schema::resolved(branch), "kind"));
        let is_of_judges = branches.iter().any(|branch| kind_of(branch) == "similarity");
        let (what, singular) = match (kind_is_required, is_of_judges) {
            (true, _) => ("kinds of stage", "kind of stage"),
            (false, true) => ("kinds of judge", "kind of judge"),
            (false, false) => ("reward components", "reward component"),
        };
        let own_name = match self.path.0.last() {
            Some(Step::Key(name)) if !kind_is_required => Some(kind_of_name(name)),
            _ => None,
        };
        let kind = match (table.get("kind"), own_name) {
            (Some(Value::String(kind)), _) => kind.as_str(),
            (Some(other), _) => {
                let path = self.path.key("kind");
                let message = format!("expected a string for `{path}`, found {}", type_name(other));
                self.at_value(&path, message, "not a string", Some(did_you_mean("", what, &known())));
                return false;
            }
            (None, Some(name)) => name,
            (None, None) => {
                if self.demand == Demand::WhatIsThere {
                    return true;
                }
                let path = &self.path;
                let place = self.variant.key_place(path);
                let problem = Problem::at(place, format!("`{path}` is missing the key `kind`"), "needs a `kind`");
                self.problems.push(problem.help(did_you_mean("", what, &known())));
                return false;
            }
        };
        if let Some(branch) = branches.iter().find(|branch| kind_of(branch) == kind) {
            self.table(table, schema::resolved(branch));
            return true;
        }
        let mut help = did_you_mean(kind, what, &known());
        let kind_path = if table.contains_key("kind") {
            self.path.key("kind")
        } else {
            help.push_str(if is_of_judges {
                "; a judge with another name needs a `kind`"
            } else {
                "; a component with another name needs a `kind`"
            });
            self.path.clone()
        };
        let message = format!("unknown {singular} `{kind}`");
        self.at_value(&kind_path, message, format!("not a {singular}"), Some(help));
        false
    }

    fn has_type(&mut self, value: &Value, schema: &Json, description: Option<&str>) -> bool {
        let fits = match schema.get("type") {
            Some(Json::String(name)) => is_of_type(value, name),
            Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).any(|name| is_of_type(value, name)),
            // words with a description each
            None if schema.get("oneOf").is_some() => value.is_str(),
            _ => true,
        };
        if !fits {
            let path = self.path.clone();
            let expected: Vec<&str> = match schema.get("type") {
                Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
                name => vec![name.and_then(Json::as_str).unwrap_or("string")],
            };
            let wanted = expected.into_iter().map(toml_type).collect::<Vec<_>>().join(" or ");
            let message = format!("expected {wanted} for `{path}`, found {}", type_name(value));
            let description = description.or_else(|| schema.get("description").and_then(Json::as_str));
            let help = description.map(|text| format!("`{path}`: {}", one_line(text)));
            self.at_value(&path, message, format!("not {wanted}"), help);
        }
        fits
    }

    /// Takes out of `table` what does not fit.
    fn table(&mut self, table: &mut Table, schema: &'static Json) {
        let properties = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties").filter(|others| others.is_object() || **others == true);
        let missing = if self.demand == Demand::Complete { missing_keys(table, schema) } else { Vec::new() };
        let count = table.len() as u64;
        let stage_kind = match self.path.0.as_slice() {
            [.., Step::Key(above), _] if above == "stages" => table.get("kind").and_then(Value::as_str),
            _ => None,
        };
        let stage_kind = stage_kind.map(str::to_owned);
        let mut unfit: Vec<String> = Vec::new();
        for (key, value) in table.iter_mut() {
            let step = Step::Key(key.clone());
            let fits = if let Some(schema) = properties.and_then(|properties| properties.get(key)) {
                self.check_at(step, value, schema)
            } else if let Some(others) = others {
                if schema.get("propertyNames").is_none_or(|names| self.is_name(key, names)) {
                    self.check_at(step, value, others)
                } else {
                    self.refused.push(self.path.key(key));
                    false
                }
            } else {
                self.unknown_key(key, stage_kind.as_deref(), schema);
                false
            };
            if !fits {
                unfit.push(key.clone());
            }
        }
        for key in unfit {
            table.remove(&key);
        }
        for key in missing {
            self.missing_key(key, schema);
        }
        let fewest = schema.get("minProperties").and_then(Json::as_u64).unwrap_or(0);
        let had_more = || self.variant.refused.iter().any(|refused| refused.0.starts_with(&self.path.0));
        if count < fewest && self.demand == Demand::Complete && !had_more() {
            let path = &self.path;
            let problem = Problem::at(self.variant.key_place(path), format!("`{path}` is empty"), "nothing in here");
            self.problems.push(problem.help(format!("add a table `[{path}.NAME]`")));
        }
    }

    /// `stage_kind` is that of the table, if it is a stage.
    fn unknown_key(&mut self, key: &str, stage_kind: Option<&str>, schema: &Json) {
        let known: Vec<&str> = schema
            .get("properties")
            .and_then(Json::as_object)
            .map(|properties| properties.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let path = &self.path;
        let (of, label) = match stage_kind {
            _ if path.0.is_empty() => ("the recipe".to_owned(), "not a key of a recipe".to_owned()),
            Some(kind) => (format!("`{path}`"), format!("a `{kind}` stage has no such key")),
            None => (format!("`{path}`"), "no such key".to_owned()),
        };
        let place = self.variant.key_place(&path.key(key));
        let what = stage_kind.map_or_else(|| path.to_string(), str::to_owned);
        let mut help = match synonym(key, &known) {
            Some(synonym) => synonym,
            // known keys are listed once a kind of table
            None if self.problems.is_first(&what) => did_you_mean(key, "keys", &known),
            None => nearest(key, &known).map_or_else(
                || "its known keys are listed above".to_owned(),
                |candidate| format!("did you mean `{candidate}`?"),
            ),
        };
        if place.source.name() == ENVIRONMENT {
            help.push_str("; variables named `ORCHESTRATE_...` set recipe keys: unset this one if it is not meant to");
        }
        let problem = Problem::at(place, format!("unknown key `{key}` in {of}"), label);
        self.problems.push(problem.help(help));
    }

    fn missing_key(&mut self, key: &str, schema: &Json) {
        let path = &self.path;
        if self.variant.refused.contains(&path.key(key)) {
            return;
        }
        let description = schema["properties"][key].get("description").and_then(Json::as_str).unwrap_or_default();
        let (of, label) = if path.0.is_empty() {
            ("the recipe".to_owned(), format!("no `{key}` in this file"))
        } else {
            (format!("`{path}`"), format!("needs the key `{key}`"))
        };
        let problem = Problem::at(self.variant.key_place(path), format!("{of} is missing the key `{key}`"), label);
        self.problems.push(problem.help(format!("`{key}`: {}", one_line(description))));
    }

    fn array(&mut self, items: &mut [Value], schema: &'static Json) -> bool {
        let count = items.len() as u64;
        let fewest = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        let most = schema.get("maxItems").and_then(Json::as_u64).unwrap_or(u64::MAX);
        if count < fewest || count > most {
            let path = self.path.clone();
            let wanted = if fewest == most { format!("{fewest}") } else { format!("at least {fewest}") };
            let message =
                format!("`{path}` must hold {wanted} {}", if wanted.ends_with(" 1") { "item" } else { "items" });
            self.at_value(&path, message, format!("holds {count}"), None);
            return false;
        }
        let Some(schema) = schema.get("items") else { return true };
        let mut fits = true;
        for (index, item) in items.iter_mut().enumerate() {
            fits &= self.check_at(Step::Index(index), item, schema);
        }
        fits
    }

    fn is_known_word(&mut self, value: &Value, schema: &Json) -> bool {
        let listed = schema.get("enum").and_then(Json::as_array).map(|words| words.iter().collect::<Vec<_>>());
        let described = || {
            let branches = schema.get("oneOf").and_then(Json::as_array)?;
            Some(branches.iter().filter_map(|branch| branch.get("const")).collect::<Vec<_>>())
        };
        let Some(words) = listed.or_else(described) else { return true };
        let words: Vec<&str> = words.into_iter().filter_map(Json::as_str).collect();
        let word = value.as_str().unwrap_or_default();
        if words.contains(&word) {
            return true;
        }
        let path = self.path.clone();
        let message = format!("`{path}` cannot be `{word}`");
        self.at_value(&path, message, "no such value", Some(did_you_mean(word, "values", &words)));
        false
    }

    fn is_in_range(&mut self, value: &Value, schema: &Json) -> bool {
        let number = match value {
            #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
            Value::Integer(integer) => *integer as f64,
            Value::Float(float) => *float,
            _ => return true,
        };
        let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
        let broken = [
            bound("minimum").filter(|bound| number < *bound).map(|bound| format!("at least {bound}")),
            bound("exclusiveMinimum").filter(|bound| number <= *bound).map(|bound| format!("greater than {bound}")),
            // schemars tells the width of an integer by its format only.
            (schema.get("format").is_some_and(|format| format == "uint32") && number > f64::from(u32::MAX))
                .then(|| format!("at most {}", u32::MAX)),
            bound("maximum").filter(|bound| number > *bound).map(|bound| format!("at most {bound}")),
            bound("exclusiveMaximum").filter(|bound| number >= *bound).map(|bound| format!("less than {bound}")),
        ];
        let Some(wanted) = broken.into_iter().flatten().next() else { return true };
        let path = self.path.clone();
        let description = schema.get("description").and_then(Json::as_str);
        let help = description.map(|text| format!("`{path}`: {}", one_line(text)));
        self.at_value(&path, format!("`{path}` must be {wanted}, but is {value}"), "out of range", help);
        false
    }

    /// Whether `names`, a schema, allows the name. Names of rewards may have a label: `semantic@minilm`.
    fn is_name(&mut self, name: &str, names: &Json) -> bool {
        let may_have_label = names["pattern"].as_str().is_some_and(|pattern| pattern.contains('@'));
        let fits = match name.split_once('@').filter(|_| may_have_label) {
            Some((name, label)) => is_name(name) && is_name(label),
            None => is_name(name),
        };
        if !fits {
            let place = self.variant.key_place(&self.path.key(name));
            let problem = Problem::at(place, format!("`{name}` is not a valid name"), "not a name");
            self.problems.push(problem.help(NAME_RULE));
        }
        fits
    }
}

/// What names are made of.
pub(in crate::recipe) const NAME_RULE: &str = "names are made of a-z, 0-9, `_` and `-`";

/// Whether `text` may name a recipe, a stage, a data set, a reward or a variant.
pub(in crate::recipe) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

/// The keys that `table` has to have and has not.
fn missing_keys(table: &Table, schema: &'static Json) -> Vec<&'static str> {
    let required = schema.get("required").and_then(Json::as_array).map_or(&[] as &[Json], Vec::as_slice);
    required.iter().filter_map(Json::as_str).filter(|key| !table.contains_key(*key)).collect()
}

fn is_required(schema: &Json, key: &str) -> bool {
    schema.get("required").and_then(Json::as_array).is_some_and(|keys| keys.iter().any(|name| name == key))
}

fn is_of_type(value: &Value, schema_type: &str) -> bool {
    match schema_type {
        "object" => value.is_table(),
        "array" => value.is_array(),
        "string" => value.is_str(),
        "boolean" => value.is_bool(),
        "integer" => value.is_integer(),
        "number" => value.is_integer() || value.is_float(),
        _ => false,
    }
}

fn toml_type(schema_type: &str) -> &'static str {
    match schema_type {
        "object" => "a table",
        "array" => "an array",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "an integer",
        _ => "a number",
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
