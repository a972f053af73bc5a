//! The variants of a recipe's sweep: `variants` x `zip` x `matrix`, restricted by `include` and `exclude`. Each
//! variant is a whole recipe.
//!
//! A variant's name consists of its name in `variants` and the swept values: `rouge`, `seed=1`, `rouge,seed=1`. With
//! `variants`, the recipe as written is one of them, unless `base = false`; its name is `base_name`, by default `base`.
//! Without a sweep the only variant has the name of the recipe.

use crate::recipe::sweep::axes::{Change, Choice, both, listed, matrix, zip};
use crate::recipe::sweep::pattern::VariantPattern;
use crate::recipe::sweep::variant::{Variant, strip_index};
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::{KeyPath, Step};
use crate::suggestion::did_you_mean;
use toml::{Table, Value};

/// The maximum number of variants. A larger sweep is a mistake, because each variant is a whole recipe that is checked
/// and planned.
const MAX_VARIANTS: usize = 10_000;

/// Returns all variants of `base`, which holds the recipe with its `sweep`. The value of `base` is taken.
pub(in crate::recipe) fn all_variants<'a>(base: &mut Variant<'a>, problems: &mut Problems) -> Vec<Variant<'a>> {
    let sweep = base.value.remove("sweep");
    let Some(Value::Table(sweep)) = sweep else {
        let value = std::mem::take(&mut base.value);
        return vec![Variant { value, ..base.clone() }];
    };
    let base: &Variant<'a> = base;
    let mut axes = vec![listed(base, &sweep, problems)];
    axes.extend(zip(base, &sweep, problems));
    axes.extend(matrix(base, &sweep, problems));
    for (_, changes) in axes.iter_mut().flatten() {
        changes.retain(|change| is_possible(base, change, problems));
    }
    let count = axes.iter().fold(1, |count: usize, axis| count.saturating_mul(axis.len()));
    if count > MAX_VARIANTS {
        let place = base.key_place(&KeyPath::dotted("sweep"));
        let message = format!("the sweep has more than {MAX_VARIANTS} variants: {count}");
        let problem = Problem::at(place, message, "the product of all its axes");
        problems.push(problem.help("sweep fewer values at once; recipes can share stages across files (`extends`)"));
        return Vec::new();
    }
    check_paths(base, &axes, problems);
    let mut combined: Vec<Choice> = vec![(None, Vec::new())];
    for axis in &axes {
        combined = combined.iter().flat_map(|left| axis.iter().map(|right| both(left, right))).collect();
    }
    let named = combined.into_iter().map(|(name, changes)| (name.unwrap_or_else(|| base.name.clone()), changes));
    let kept = included(base, &sweep, named.collect(), problems);
    check_overrides(base, &kept, problems);
    kept.into_iter()
        .map(|(name, changes)| {
            let mut variant = Variant { name, ..base.clone() };
            for change in changes {
                match change.value {
                    Some(value) => replace(&mut variant.value, &change.target.0, value),
                    None => remove(&mut variant.value, &change.target.0),
                }
                variant.swept.push((change.target, change.origin));
            }
            variant
        })
        .collect()
}

/// Reports a key that two axes change, or that one axis changes twice.
fn check_paths(base: &Variant<'_>, axes: &[Vec<Choice>], problems: &mut Problems) {
    let mut together: Vec<(&Change, &Change)> = Vec::new();
    for (index, axis) in axes.iter().enumerate() {
        for (_, changes) in axis {
            let others = axes[index + 1..].iter().flatten().flat_map(|(_, changes)| changes);
            together.extend(changes.iter().flat_map(|change| others.clone().map(move |other| (change, other))));
            for (index, change) in changes.iter().enumerate() {
                together.extend(changes[index + 1..].iter().map(|other| (change, other)));
            }
        }
    }
    for (one, other) in together {
        if one.target.overlaps(&other.target) {
            let place = base.key_place(&strip_index(&other.origin));
            let message = format!("`{}` and `{}` set the same key in one variant", one.target, other.target);
            let problem = Problem::at(place, message, "set here, and there");
            problems.push(problem.help("let one of them do it, so that none is overridden silently"));
        }
    }
}

/// Returns the variants that remain after `include` and `exclude`.
fn included(
    base: &Variant<'_>,
    sweep: &Table,
    mut variants: Vec<(String, Vec<Change>)>,
    problems: &mut Problems,
) -> Vec<(String, Vec<Change>)> {
    for (key, keep) in [("include", true), ("exclude", false)] {
        let Some(listed) = sweep.get(key).and_then(Value::as_array) else { continue };
        let at = KeyPath::dotted("sweep").key(key);
        let mut patterns = Vec::new();
        // Items that are not strings were reported with the shape.
        for (index, text) in listed.iter().enumerate().filter_map(|(index, item)| Some((index, item.as_str()?))) {
            let place = base.value_place(&at.index(index));
            match VariantPattern::new(text) {
                Ok(pattern) if variants.iter().any(|(name, _)| pattern.matches(name)) => patterns.push(pattern),
                Ok(_) => problems.push(
                    Problem::at(place, format!("`{text}` matches no variant of the sweep"), "matches nothing")
                        .help(did_you_mean(text, "parts of variants", &parts(&variants))),
                ),
                Err(reason) => {
                    let problem =
                        Problem::at(place, format!("`{text}` is not a valid variant pattern: {reason}"), "here");
                    problems.push(problem.help("for example `rouge`, `seed=1` or `rouge,seed=*`"));
                }
            }
        }
        if patterns.len() < listed.len() {
            continue; // a pattern was invalid
        }
        variants.retain(|(name, _)| patterns.iter().any(|pattern| pattern.matches(name)) == keep);
        if variants.is_empty() {
            let problem =
                Problem::at(base.key_place(&at), format!("`sweep.{key}` leaves no variant"), "nothing is left");
            problems.push(problem.help("leave at least one variant, or the recipe does nothing"));
        }
    }
    variants
}

/// Returns the distinct parts of the names of `variants`.
fn parts(variants: &[(String, Vec<Change>)]) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in variants.iter().flat_map(|(name, _)| name.split(',')) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}

/// Reports overrides that every variant replaces.
fn check_overrides(base: &Variant<'_>, variants: &[(String, Vec<Change>)], problems: &mut Problems) {
    for (path, place) in base.layers.overridden() {
        let replaced = |changes: &[Change]| changes.iter().any(|change| path.0.starts_with(&change.target.0));
        if !variants.is_empty() && variants.iter().all(|(_, changes)| replaced(changes)) {
            let message = format!("setting `{path}` has no effect: the sweep sets it in every variant");
            let help = format!("leave it out, or set `sweep.matrix.\"{path}\"` in the recipe");
            problems.push(Problem::at(place, message, "overridden by the sweep").help(help));
        }
    }
}

/// Whether a sweep can make the change. An impossible change is reported.
fn is_possible(base: &Variant<'_>, change: &Change, problems: &mut Problems) -> bool {
    let Some(Step::Key(first)) = change.target.0.first() else { return false };
    let place = base.key_place(&strip_index(&change.origin));
    let fixed = ["name", "extends", "sweep", "compare", "runtime"];
    if fixed.contains(&first.as_str()) {
        let problem = Problem::at(place, format!("a sweep cannot vary `{}`", change.target), "not part of a result");
        problems.push(problem.help("a sweep varies `seed`, `model`, `data` and `stages`"));
        return false;
    }
    if change.value.is_none() && lookup(&base.value, &change.target.0).is_none() {
        let message = format!("`{}` cannot be unset: the recipe does not set it", change.target);
        let problem = Problem::at(base.value_place(&change.origin), message, "not in the recipe");
        problems.push(problem.help("name a key or a table of the recipe, or of what it extends, dotted"));
        return false;
    }
    if change.target.0.len() == 1 && change.value.as_ref().is_some_and(Value::is_table) {
        let problem = Problem::at(place, format!("this replaces all of `{first}`"), "a whole table");
        problems.push(problem.help(format!("quote the dotted key, for example `\"{first}.NAME.KEY\" = VALUE`")));
        return false;
    }
    base.layers.is_of_something(&change.target, place, problems)
}

/// Returns the value at `path`.
fn lookup<'a>(table: &'a Table, path: &[Step]) -> Option<&'a Value> {
    let (Step::Key(key), rest) = path.split_first()? else { return None };
    let value = table.get(key)?;
    if rest.is_empty() { Some(value) } else { lookup(value.as_table()?, rest) }
}

/// Removes the value at `path`.
fn remove(table: &mut Table, path: &[Step]) {
    let Some((Step::Key(key), rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.remove(key);
    } else if let Some(Value::Table(inner)) = table.get_mut(key) {
        remove(inner, rest);
    }
}

/// Sets the value at `path` to `value`.
fn replace(table: &mut Table, path: &[Step], value: Value) {
    let Some((Step::Key(key), rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(key.clone(), value);
        return;
    }
    let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
    if !inner.is_table() {
        *inner = Value::Table(Table::new());
    }
    if let Value::Table(inner) = inner {
        replace(inner, rest, value);
    }
}
