//! The axes of a sweep. Each is a list of choices, and a variant makes one choice of each axis.

use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::validate::{NAME_RULE, is_name};
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use std::collections::HashSet;
use toml::{Table, Value};

/// A change that a variant makes: the path, the place of the change, the new value or, to take the key out, none.
#[derive(Clone, Debug)]
pub(in crate::recipe) struct Change {
    pub(in crate::recipe) target: KeyPath,
    pub(in crate::recipe) origin: KeyPath,
    pub(in crate::recipe) value: Option<Value>,
}

/// A choice along one axis of the sweep: its part of the variant's name, and its changes.
pub(in crate::recipe) type Choice = (Option<String>, Vec<Change>);

pub(in crate::recipe) fn both(left: &Choice, right: &Choice) -> Choice {
    let name = match (&left.0, &right.0) {
        (Some(left), Some(right)) => Some(format!("{left},{right}")),
        (left, right) => left.clone().or_else(|| right.clone()),
    };
    (name, left.1.iter().chain(&right.1).cloned().collect())
}

/// The default name of the recipe as written, as a variant. The recipe's own name would change with that of its file.
const BASE: &str = "base";

/// Returns the axis of variants, the recipe as written first.
pub(in crate::recipe) fn listed(base: &Variant<'_>, sweep: &Table, problems: &mut Problems) -> Vec<Choice> {
    let at = KeyPath::dotted("sweep.variants");
    let tables = sweep.get("variants").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let include_base = sweep.get("base").and_then(Value::as_bool);
    let base_name = sweep.get("base_name").and_then(Value::as_str);
    let mut choices: Vec<Choice> = Vec::new();
    if tables.is_empty() {
        for key in ["base", "base_name"].into_iter().filter(|key| sweep.contains_key(*key)) {
            let place = base.key_place(&KeyPath::dotted("sweep").key(key));
            let problem = Problem::at(place, format!("`sweep.{key}` has no effect without variants"), "no effect");
            problems.push(problem.help("remove it, or add a `[[sweep.variants]]`"));
        }
        return vec![(None, Vec::new())];
    }
    if include_base != Some(false) {
        let name = base_name.unwrap_or(BASE);
        if !is_name(name) {
            let place = base.value_place(&KeyPath::dotted("sweep.base_name"));
            problems.push(Problem::at(place, format!("`{name}` is not a valid name"), "not a name").help(NAME_RULE));
        }
        choices.push((Some(name.to_owned()), Vec::new()));
    }
    for (index, variant) in tables.iter().enumerate() {
        let path = at.index(index);
        // Missing keys were reported with the shape.
        let Some(name) = variant.get("name").and_then(Value::as_str) else { continue };
        let set = variant.get("set").and_then(Value::as_table);
        let unset = variant.get("unset").and_then(Value::as_array);
        let place = base.value_place(&path.key("name"));
        if set.is_none_or(Table::is_empty) && unset.is_none_or(Vec::is_empty) {
            let problem =
                Problem::at(place.clone(), format!("the variant `{name}` changes nothing"), "no `set`, no `unset`");
            problems.push(problem.help(
                "the recipe as written is a variant already, called `base` (see `sweep.base`, `sweep.base_name`)",
            ));
        }
        if !is_name(name) {
            problems.push(Problem::at(place, format!("`{name}` is not a valid name"), "not a name").help(NAME_RULE));
        } else if choices.iter().any(|(known, _)| known.as_deref() == Some(name)) {
            let problem = Problem::at(place, format!("two variants are named `{name}`"), "the second");
            problems.push(problem.help("rename one; the recipe as written is a variant too, called `base` (see `sweep.base`, `sweep.base_name`)"));
        }
        let change = |(key, value): (&String, &Value)| Change {
            target: KeyPath::dotted(key),
            origin: path.key("set").key(key),
            value: Some(value.clone()),
        };
        let removal = |(index, key): (usize, &str)| Change {
            target: KeyPath::dotted(key),
            origin: path.key("unset").index(index),
            value: None,
        };
        let removed = unset.into_iter().flatten().filter_map(Value::as_str).enumerate().map(removal);
        choices.push((Some(name.to_owned()), set.into_iter().flatten().map(change).chain(removed).collect()));
    }
    choices
}

/// Returns an axis for each key of the matrix.
pub(in crate::recipe) fn matrix(base: &Variant<'_>, sweep: &Table, problems: &mut Problems) -> Vec<Vec<Choice>> {
    let mut axes = Vec::new();
    for (key, values) in swept(sweep, "matrix") {
        let mut axis: Vec<Choice> = Vec::new();
        let mut names = HashSet::new();
        for index in 0..values.len() {
            let choice = swept_choice(sweep, "matrix", &[(key, values)], index);
            if !names.insert(choice.0.clone()) {
                let place = base.value_place(&choice.1[0].origin);
                let problem = Problem::at(place, format!("`{key}` takes the same value twice"), "again");
                problems.push(problem.help("each value makes one variant"));
            }
            axis.push(choice);
        }
        axes.push(axis);
    }
    axes
}

/// Returns the axis along which the lists of `zip` advance together, if there are any.
pub(in crate::recipe) fn zip(base: &Variant<'_>, sweep: &Table, problems: &mut Problems) -> Option<Vec<Choice>> {
    let lists = swept(sweep, "zip");
    let (first, values) = *lists.first()?;
    let mut axis: Vec<Choice> = Vec::new();
    for (key, other) in &lists[1..] {
        if other.len() != values.len() {
            let place = base.key_place(&KeyPath::dotted("sweep.zip").key(key));
            let message = format!("`{key}` has {} values, but `{first}` has {}", other.len(), values.len());
            let problem = Problem::at(place, message, "not as many");
            problems.push(problem.help("lists of `zip` go together, value by value; `matrix` takes every combination"));
        }
    }
    let together = lists.iter().map(|(_, values)| values.len()).min().unwrap_or_default();
    let mut names = HashSet::new();
    for index in 0..together {
        let choice = swept_choice(sweep, "zip", &lists, index);
        if !names.insert(choice.0.clone()) {
            let place = base.value_place(&choice.1[0].origin);
            let problem = Problem::at(place, "the lists of `zip` take the same values together twice", "again");
            problems.push(problem.help("each place of the lists makes one variant"));
        }
        axis.push(choice);
    }
    Some(axis)
}

/// Returns the keys below `sweep.matrix` or `sweep.zip` with their values.
fn swept<'a>(sweep: &'a Table, group: &str) -> Vec<(&'a str, &'a [Value])> {
    let lists = sweep.get(group).and_then(Value::as_table).into_iter().flatten();
    lists.filter_map(|(key, values)| Some((key.as_str(), values.as_array()?.as_slice()))).collect()
}

/// Returns the choice that sets every key of `lists` to its value at `index`.
fn swept_choice(sweep: &Table, group: &str, lists: &[(&str, &[Value])], index: usize) -> Choice {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let all: Vec<&str> = ["matrix", "zip"].iter().flat_map(|group| swept(sweep, group)).map(|(key, _)| key).collect();
    let part = |(key, values): &(&str, &[Value])| {
        let is_ambiguous = all.iter().filter(|other| last(other) == last(key)).count() > 1;
        let short = if is_ambiguous { (*key).to_owned() } else { last(key) };
        format!("{short}={}", value_name(&values[index], index))
    };
    let change = |(key, values): &(&str, &[Value])| Change {
        target: KeyPath::dotted(key),
        origin: KeyPath::dotted("sweep").key(group).key(key).index(index),
        value: Some(values[index].clone()),
    };
    (Some(lists.iter().map(part).collect::<Vec<_>>().join(",")), lists.iter().map(change).collect())
}

/// Returns the text of a value in a variant's name.
fn value_name(value: &Value, index: usize) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(float) => format!("{float:?}"),
        Value::Array(_) | Value::Table(_) => format!("#{}", index + 1),
        scalar => scalar.to_string(),
    }
}
