//! Resolves `[data.NAME]`: templates are checked, and paths are expanded to files.

use crate::digest::{Digest, canonical_json};
use crate::recipe::resolve::command_words::is_template;
use crate::recipe::resolve::files::Files;
use crate::recipe::resolve::stage_data::{self, Sources};
use crate::recipe::spec::{DataFile, DataSpec, Join, Keep, OptionsSpec, Selection, Split, Templates, WeightedData};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::recipe::DataTable;
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::{KeyPath, Step};
use crate::recipe::text::stage_reference::StageReference;
use crate::suggestion::did_you_mean;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Returns the templates of a data set, each with its key.
fn templates(table: &DataTable) -> [(&'static str, Option<&String>); 7] {
    [
        ("system", table.system.as_ref()),
        ("prompt", table.prompt.as_ref()),
        ("completion", table.completion.as_ref()),
        ("reference", table.reference.as_ref()),
        ("answer", table.answer.as_ref()),
        ("option", table.option.as_ref()),
        ("text", table.text.as_ref()),
    ]
}

/// The templates that a field with a conversation replaces.
const OF_ONE_TURN: [&str; 3] = ["system", "prompt", "completion"];

/// Reports invalid templates, and templates that have no effect beside `messages`.
pub(in crate::recipe) fn check_templates(
    variant: &Variant<'_>,
    key: &KeyPath,
    table: &DataTable,
    problems: &mut Problems,
) {
    for (name, template) in templates(table) {
        let Some(template) = template else { continue };
        if table.messages.is_some() && OF_ONE_TURN.contains(&name) {
            let message = format!("`{key}` has both `messages` and `{name}`");
            let problem = Problem::at(variant.value_place(&key.key(name)), message, "and `messages` too");
            problems.push(problem.help("keep one: the field `messages` names holds whole conversations"));
        }
        check_syntax(variant, &key.key(name), template, problems);
    }
    check_options(variant, key, table, problems);
    check_selection(variant, key, table, problems);
    check_slices(variant, key, table, problems);
}

/// Reports an invalid `where` or `keep`, and a `keep` that has no answers to choose from.
fn check_selection(variant: &Variant<'_>, key: &KeyPath, table: &DataTable, problems: &mut Problems) {
    if let Some(only) = &table.only {
        check_expression(variant, &key.key("where"), only, "compare fields of a row: `reward > 0.8`", problems);
    }
    let Some(written) = &table.keep else { return };
    let at = key.key("keep");
    if keep(written).is_none() {
        let problem = Problem::at(variant.value_place(&at), format!("`{at}` cannot be `{written}`"), "not understood");
        problems.push(problem.help("write `best 1 per question` or `first 1 per question`, with any number from 1"));
    }
    if !stage_data::is_generated(table) {
        let message = format!("`{at}` has no effect: `{key}.path` names no stage");
        let problem = Problem::at(variant.value_place(&at), message, "no answers to choose from");
        problems.push(problem.help("`keep` chooses among the answers that a stage generated to a question"));
    }
}

/// Reads `best N per question` or `first N per question`.
fn keep(written: &str) -> Option<Keep> {
    let words: Vec<&str> = written.split_whitespace().collect();
    let [which, count, "per", "question"] = words[..] else { return None };
    let count = count.parse().ok().filter(|count| *count > 0)?;
    match which {
        "best" => Some(Keep::Best(count)),
        "first" => Some(Keep::First(count)),
        _ => None,
    }
}

/// Reports at `key` that `expression` is not a valid minijinja expression.
fn check_expression(variant: &Variant<'_>, key: &KeyPath, expression: &str, help: &str, problems: &mut Problems) {
    if let Err(error) = minijinja::Environment::new().compile_expression(expression) {
        let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let message = format!("`{key}` is not an expression: {detail}");
        problems.push(Problem::at(variant.value_place(key), message, "here").help(help));
    }
}

/// Reports an invalid `options` expression, `options` without an `answer`, and an `option` without `options`.
fn check_options(variant: &Variant<'_>, key: &KeyPath, table: &DataTable, problems: &mut Problems) {
    let Some(options) = &table.options else {
        if table.option.is_some() {
            let key = key.key("option");
            let problem =
                Problem::at(variant.value_place(&key), format!("`{key}` has no effect without `options`"), "no effect");
            problems.push(problem.help("`options` names the field that holds a row's options"));
        }
        return;
    };
    let key = key.key("options");
    let help = "name the field that holds them, without braces: `options`, `choices.text`";
    check_expression(variant, &key, options, help, problems);
    if table.answer.is_none() {
        let message = format!("`{key}` lists the options, but no `answer` says which one is right");
        let problem = Problem::at(variant.value_place(&key), message, "none is right");
        problems.push(problem.help("add the template `answer`: the letter or the text of the right option"));
    }
}

/// Reports invalid, empty and repeated expressions of `by`.
fn check_slices(variant: &Variant<'_>, key: &KeyPath, table: &DataTable, problems: &mut Problems) {
    let key = key.key("by");
    for (index, by) in table.by.iter().enumerate() {
        let key = key.index(index);
        let help = "name a field of the rows, without braces, or write an expression: `subject`, `level >= 3`";
        check_expression(variant, &key, by, help, problems);
        if table.by[..index].iter().any(|earlier| earlier.trim() == by.trim()) {
            let problem = Problem::at(variant.value_place(&key), format!("`{key}` repeats `{by}`"), "named before");
            problems.push(problem.help("remove one of them"));
        }
    }
}

/// Returns the expressions by which an evaluation's questions are sliced.
pub(in crate::recipe) fn slices(table: &DataTable) -> BTreeSet<String> {
    table.by.iter().map(|by| by.trim().to_owned()).collect()
}

/// Returns the options of a data set that an evaluation compares.
pub(in crate::recipe) fn options(table: &DataTable) -> Option<OptionsSpec> {
    let option = table.option.clone().unwrap_or_else(|| "{{ option.letter }}".to_owned());
    Some(OptionsSpec { options: table.options.clone()?, option })
}

/// Reports at `key` that `template` is invalid, or uses a name that is not among `variables`.
pub(in crate::recipe) fn check_template(
    variant: &Variant<'_>,
    key: &KeyPath,
    template: &str,
    variables: &[&str],
    problems: &mut Problems,
) {
    if !is_template(template) || !check_syntax(variant, key, template, problems) {
        return;
    }
    let environment = minijinja::Environment::new();
    let template = environment.template_from_str(template).expect("it was checked");
    let mut unknown: Vec<String> =
        template.undeclared_variables(false).into_iter().filter(|name| !variables.contains(&name.as_str())).collect();
    unknown.sort();
    for name in unknown {
        let problem =
            Problem::at(variant.value_place(key), format!("`{key}` names `{name}`, which it cannot"), "in here");
        problems.push(problem.help(did_you_mean(&name, "variables", variables)));
    }
}

/// Whether `template` is valid. An invalid one is reported at `key`.
fn check_syntax(variant: &Variant<'_>, key: &KeyPath, template: &str, problems: &mut Problems) -> bool {
    if !is_template(template) {
        return true;
    }
    let environment = minijinja::Environment::new();
    let Err(error) = environment.template_from_str(template) else { return true };
    let mut place = variant.value_place(key);
    // Without escapes the recipe contains the template as it is, so the caret can point into it.
    let literal = &place.source.inner()[place.span.clone()];
    if let (Some(start), Some(range)) = (literal.find(template), error.range()) {
        let start = place.span.start + start;
        let end = start + template.len();
        place.span = (start + range.start).min(end)..(start + range.end).min(end);
    }
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let problem = Problem::at(place, format!("`{key}` is not a template: {detail}"), "here");
    problems.push(problem.help("templates are Jinja: `{{ field }}`, `{% for x in items %}...{% endfor %}`"));
    false
}

/// A template that a stage needs from its data set.
pub(in crate::recipe) struct TemplateNeed {
    /// The template's key.
    pub(in crate::recipe) template: &'static str,
    /// The part of the stage that needs the template, e.g. "the reward `semantic`".
    pub(in crate::recipe) by: String,
    /// The key that causes the need.
    pub(in crate::recipe) at: KeyPath,
}

/// Reports templates that `needs` requires and the data set `name` lacks.
pub(in crate::recipe) fn check_needs(
    variant: &Variant<'_>,
    name: &str,
    table: &DataTable,
    needs: &[TemplateNeed],
    problems: &mut Problems,
) {
    for need in needs {
        let is_template = templates(table).iter().any(|(key, template)| *key == need.template && template.is_some());
        let is_message = table.messages.is_some() && OF_ONE_TURN.contains(&need.template);
        if !is_template && !is_message {
            let message = format!("{} needs the template `{}`, which `data.{name}` lacks", need.by, need.template);
            let label = format!("needs `data.{name}.{}`", need.template);
            let help = format!("add to `[data.{name}]`: {} = \"{{{{ field }}}}\"", need.template);
            let problem = Problem::at(variant.value_place(&need.at), message, label).help(help);
            problems.push(problem.caused_by(missing_template(name, need.template), &need.by));
        }
    }
}

/// Returns the cause that all problems of a missing template share.
pub(in crate::recipe) fn missing_template(data: &str, template: &str) -> String {
    format!("data.{data}.{template}")
}

/// Returns the data set that the key `at` names. An unknown name is reported.
pub(in crate::recipe) fn named<'t>(
    variant: &Variant<'_>,
    name: &str,
    at: &KeyPath,
    tables: &'t BTreeMap<String, Option<DataTable>>,
    problems: &mut Problems,
) -> Option<&'t DataTable> {
    if let Some(table) = tables.get(name) {
        return table.as_ref();
    }
    if variant.refused.contains(&KeyPath::dotted("data").key(name)) {
        return None;
    }
    let known: Vec<&str> = tables.keys().map(String::as_str).collect();
    let is_key = at.0.last() == Some(&Step::Key(name.to_owned())); // a key of a table of weights
    let place = if is_key { variant.key_place(at) } else { variant.value_place(at) };
    let problem = Problem::at(place, format!("unknown data set `{name}`"), "no such `[data.NAME]`");
    problems.push(problem.help(did_you_mean(name, "data sets", &known)));
    None
}

/// Reports at `key` that a training stage reads a data set that is reserved for out-of-domain measurements.
pub(in crate::recipe) fn check_is_in_domain(
    variant: &Variant<'_>,
    name: &str,
    table: &DataTable,
    key: &KeyPath,
    problems: &mut Problems,
) {
    if table.out_of_domain {
        let message = format!("`{key}` trains on `data.{name}`, which is marked `out_of_domain`");
        let problem = Problem::at(variant.value_place(key), message, "trains on it");
        problems.push(
            problem.help(
                "train on another data set, or remove the mark: data that a model was trained on is in its domain",
            ),
        );
    }
}

/// Returns the side of the split that an evaluation reads. Without an explicit one this is all of a data set on which
/// nothing trains, else the held-out rows, which must exist.
pub(in crate::recipe) fn held_out(
    variant: &Variant<'_>,
    table: &DataTable,
    (name, at): (&str, &KeyPath),
    (split, split_key): (Option<Split>, &KeyPath),
    problems: &mut Problems,
) -> Split {
    let split_name = match split_key.0.last() {
        Some(Step::Key(key)) => key.as_str(),
        _ => "split",
    };
    if table.out_of_domain && split.is_none() {
        return Split::All;
    }
    if table.eval_fraction == 0.0 && matches!(split, None | Some(Split::Eval)) {
        let at = if split.is_some() { split_key } else { at };
        let message = format!("`data.{name}` holds no rows out for evaluation");
        let help = format!(
            "set `eval_fraction` in `[data.{name}]`, or set `{split_name} = \"all\"` to measure on rows that may have \
             been trained on"
        );
        problems.push(Problem::at(variant.value_place(at), message, "its `eval_fraction` is 0").help(help));
    }
    if table.dev_fraction == 0.0 && split == Some(Split::Dev) {
        let message = format!("`data.{name}` has no development rows");
        let help = format!("set `dev_fraction` in `[data.{name}]`, to 0.1 for example");
        problems.push(Problem::at(variant.value_place(at), message, "its `dev_fraction` is 0").help(help));
    }
    split.unwrap_or(Split::Eval)
}

/// Resolves the data set `name`, with the digests of its files.
pub(in crate::recipe) fn resolve(
    files: &mut Files<'_>,
    name: &str,
    table: &DataTable,
    split: Split,
    found: &mut BTreeMap<Digest, PathBuf>,
    sources: &mut Sources<'_>,
) -> Option<DataSpec> {
    // Overlapping patterns name a file twice. The file is read once, at the first key that names it.
    let mut paths: BTreeMap<PathBuf, KeyPath> = BTreeMap::new();
    let mut results: Vec<DataFile> = Vec::new();
    let mut all_found = true;
    for (path, key) in stage_data::paths(name, table) {
        if StageReference::is_meant(path) {
            let result = sources.file(files, path, &key);
            all_found &= result.is_some();
            results.extend(result);
            continue;
        }
        let matching = files.data(path, &key);
        all_found &= !matching.is_empty();
        for path in matching {
            paths.entry(path).or_insert_with(|| key.clone());
        }
    }
    let count = paths.len();
    let mut data_files: Vec<_> = paths.iter().filter_map(|(path, key)| files.data_file(path, key, found)).collect();
    all_found &= data_files.len() == count;
    data_files.extend(results);
    let join = match &table.join {
        Some(join) => {
            let key = KeyPath::dotted("data").key(name).key("join").key("from");
            let from = sources.file(files, &join.from, &key);
            all_found &= from.is_some();
            let column = join.column.clone().unwrap_or_else(|| "completion".to_owned());
            from.map(|from| Join { from, field: join.field.clone(), column })
        }
        None => None,
    };
    let keep = table.keep.as_deref().and_then(keep);
    let selection = Selection { join, only: table.only.clone(), keep, held_out: Vec::new() };
    let templates = Templates {
        system: table.system.clone(),
        prompt: table.prompt.clone(),
        completion: table.completion.clone(),
        reference: table.reference.clone(),
        answer: table.answer.clone(),
        text: table.text.clone(),
    };
    all_found.then_some(DataSpec {
        files: data_files,
        eval_fraction: table.eval_fraction,
        dev_fraction: table.dev_fraction,
        split,
        max_rows: table.max_rows,
        messages: table.messages.clone(),
        templates,
        selection,
        // the evaluation sets are filled in by `leakage`, once every stage is known
        decontaminate: (table.decontaminate && split == Split::Train).then(Vec::new),
    })
}

/// Normalizes weighted data sets to the form in a spec: weights add up to 1, and data sets are sorted by content.
pub(in crate::recipe) fn mixture(sets: Vec<(f64, DataSpec)>) -> Vec<WeightedData> {
    let total: f64 = sets.iter().map(|(weight, _)| weight).sum();
    let mut sets: Vec<WeightedData> =
        sets.into_iter().map(|(weight, data)| WeightedData { weight: weight / total, data }).collect();
    by_content(&mut sets);
    sets
}

/// Sorts data sets by content.
pub(in crate::recipe) fn by_content(sets: &mut [WeightedData]) {
    let content = |set: &WeightedData| {
        canonical_json(&serde_json::to_value(&set.data).expect("a spec has string keys and finite numbers"))
    };
    sets.sort_by(|a, b| content(a).cmp(&content(b)).then(a.weight.total_cmp(&b.weight)));
}
