//! `[stages.NAME.rewards.NAME]` resolved: scopes and tags read, encoders digested.

use super::data_sets::Need;
use super::diagnostic::{Problem, did_you_mean};
use super::files::Files;
use super::located::KeyPath;
use super::reward_file::{
    CommonKeys, CorrectnessTable, CotTable, FormatTable, JudgeModeName, LengthTable, MatchName, RewardTable, RougeTable,
};
use super::spec::{Component, FormatSpec, Grading, Leak, LengthSpec, Match, RewardSpec, RougeTokenizer, Scope};
use super::{reward_judge, reward_program};
use crate::digest::Digest;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The words a scope may be.
const SCOPES: &[&str] = &["completion", "think", "answer", "explanation", "tag:NAME"];

/// What the components at `key` need of the stage's data set.
pub(super) fn needs(key: &KeyPath, rewards: &BTreeMap<String, RewardTable>) -> Vec<Need> {
    let need = |(name, reward): (&String, &RewardTable)| {
        let template = match reward {
            RewardTable::Semantic(_) | RewardTable::Rouge(_) => "reference",
            RewardTable::Correctness(_) => "answer",
            RewardTable::Cot(table) if table.leak != Leak::Ignore => "answer",
            RewardTable::Judge(table) if table.mode == JudgeModeName::PairWithReference => "reference",
            // a judge's template may do without either
            RewardTable::Format(_)
            | RewardTable::Cot(_)
            | RewardTable::Judge(_)
            | RewardTable::Command(_)
            | RewardTable::Http(_)
            | RewardTable::Length(_)
            | RewardTable::Repetition(_) => {
                return None;
            }
        };
        Some(Need { template, by: format!("the reward `{name}`"), at: key.key(name) })
    };
    rewards.iter().filter_map(need).collect()
}

/// The mix at `key`; absent if a component cannot be resolved.
pub(super) fn resolve(
    files: &mut Files<'_>,
    key: &KeyPath,
    rewards: &BTreeMap<String, RewardTable>,
    found: &mut BTreeMap<Digest, PathBuf>,
) -> Option<BTreeMap<String, RewardSpec>> {
    let resolved: BTreeMap<String, RewardSpec> = rewards
        .iter()
        .filter_map(|(name, reward)| {
            let key = key.key(name);
            let CommonKeys { weight, scope: written, clip, scale, on_error } = reward.common();
            let scope = scope(files, &key.key("scope"), written);
            let fits = clip_and_scale_fit(files, &key, clip, scale);
            let component = component(files, &key, reward, found);
            let clip = clip.map(|[low, high]| (low, high));
            let spec = RewardSpec { weight, scope: scope?, clip, scale, on_error, component: component? };
            fits.then_some((name.clone(), spec))
        })
        .collect();
    (resolved.len() == rewards.len()).then_some(resolved)
}

/// Reports bounds without room between them, and a factor that makes every value 0.
fn clip_and_scale_fit(files: &mut Files<'_>, key: &KeyPath, clip: Option<[f64; 2]>, scale: f64) -> bool {
    let before = files.problems.len();
    if let Some([low, high]) = clip.filter(|[low, high]| low >= high) {
        let key = key.key("clip");
        let message = format!("`{key}` is from {low} to {high}: no value is left but one");
        files
            .problems
            .push(Problem::at(files.cell.value_place(&key), message, "no range").help("the lower bound comes first"));
    }
    if scale == 0.0 {
        let key = key.key("scale");
        let problem = Problem::at(files.cell.value_place(&key), format!("`{key}` makes every value 0"), "nothing left");
        files.problems.push(problem.help("`weight = 0` measures a component without rewarding it"));
    }
    files.problems.len() == before
}

/// `pattern` as a regular expression; reports what is none.
fn regex(files: &mut Files<'_>, key: &KeyPath, pattern: &str) -> Option<regex::Regex> {
    match regex::Regex::new(pattern) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("`{key}` is no regular expression: {reason}");
            let problem = Problem::at(files.cell.value_place(key), message, "here");
            files.problems.push(
                problem.help("the syntax is that of https://docs.rs/regex; write it in '...', where `\\` is itself"),
            );
            None
        }
    }
}

fn correctness(files: &mut Files<'_>, key: &KeyPath, table: &CorrectnessTable) -> Option<Component> {
    let before = files.problems.len();
    if table.tolerance.is_some() && table.matching != MatchName::Numeric {
        let key = key.key("tolerance");
        let message = format!("`{key}` has no effect without `match = \"numeric\"`");
        let problem = Problem::at(files.cell.value_place(&key), message, "no effect");
        files.problems.push(problem.help("letters, texts and sets are the same or not"));
    }
    if let Some(pattern) = &table.pattern {
        let key = key.key("pattern");
        let groups = regex(files, &key, pattern).map(|regex| regex.captures_len() - 1);
        if let Some(groups) = groups.filter(|groups| *groups != 1) {
            let message = format!("`{key}` has {groups} groups, not one");
            let problem = Problem::at(files.cell.value_place(&key), message, "which one is the answer?");
            files.problems.push(problem.help("put the answer's part in parentheses, and other groups in `(?:...)`"));
        }
    }
    let matching = match table.matching {
        MatchName::Choice => Match::Choice,
        MatchName::Exact => Match::Exact,
        MatchName::Numeric => Match::Numeric { tolerance: table.tolerance.unwrap_or(0.0) },
        MatchName::Set => Match::Set,
    };
    (files.problems.len() == before).then(|| Component::Correctness { matching, pattern: table.pattern.clone() })
}

fn format(files: &mut Files<'_>, key: &KeyPath, table: &FormatTable) -> Option<FormatSpec> {
    let before = files.problems.len();
    let forms = [
        ("tags", table.tags.is_some()),
        ("pattern", table.pattern.is_some()),
        ("json_schema", table.json_schema.is_some()),
    ];
    let said: Vec<&str> = forms.iter().filter(|(_, is_said)| *is_said).map(|(name, _)| *name).collect();
    if let [first, second, ..] = said[..] {
        let place = files.cell.value_place(&key.key(second));
        let message = format!("`{key}` has both `{first}` and `{second}`");
        let problem = Problem::at(place, message, "a second form");
        files.problems.push(
            problem.help("one of `tags`, `pattern` and `json_schema` says what is right; use two components for two"),
        );
        return None;
    }
    if table.grading.is_some() && table.tags.is_none() {
        let key = key.key("grading");
        let problem =
            Problem::at(files.cell.value_place(&key), format!("`{key}` has no effect without `tags`"), "no effect");
        files.problems.push(problem.help("a pattern matches and a schema is fulfilled, or not"));
    }
    if let Some(answers) = &table.answers {
        let key = key.key("answers");
        let place = files.cell.value_place(&key);
        if !table.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == FormatSpec::ANSWER)) {
            let problem = Problem::at(place, format!("`{key}` has no effect without the tag `answer`"), "no effect");
            files.problems.push(problem.help("add `answer` to `tags`; a pattern says itself what may stand where"));
        } else if answers.iter().any(|answer| answer.trim().is_empty()) {
            let problem = Problem::at(place, format!("`{key}` holds an empty answer"), "an empty text");
            files.problems.push(problem.help("leave it out: an answer without a word has not the form anyway"));
        }
    }
    let spec = match (&table.tags, &table.pattern, &table.json_schema) {
        (Some(tags), _, _) => tags_fit(files, &key.key("tags"), tags).then(|| FormatSpec::Tags {
            tags: tags.clone(),
            grading: table.grading.unwrap_or(Grading::Binary),
            answers: table.answers.clone().unwrap_or_default(),
        }),
        (_, Some(pattern), _) => {
            regex(files, &key.key("pattern"), pattern).map(|_| FormatSpec::Pattern(pattern.clone()))
        }
        (_, _, Some(schema)) => json_schema(files, &key.key("json_schema"), schema).map(FormatSpec::JsonSchema),
        (None, None, None) => None, // the defaults have tags: what was said instead did not fit
    };
    spec.filter(|_| files.problems.len() == before)
}

/// The JSON schema in a file or in the recipe itself.
fn json_schema(files: &mut Files<'_>, key: &KeyPath, written: &toml::Value) -> Option<serde_json::Value> {
    let schema = match written {
        toml::Value::String(path) => files.json("JSON schema", path, key)?,
        table => serde_json::to_value(table).expect("a recipe's numbers are finite"),
    };
    if let Err(error) = jsonschema::validator_for(&schema) {
        let message = format!("`{key}` is no JSON schema: {error}");
        let problem = Problem::at(files.cell.value_place(key), message, "not a schema");
        files.problems.push(
            problem.help(
                "a schema is like { type = \"object\", required = [\"answer\"] }; it cannot refer to other files",
            ),
        );
        return None;
    }
    Some(schema)
}

fn tags_fit(files: &mut Files<'_>, key: &KeyPath, tags: &[String]) -> bool {
    let mut fits = true;
    for (index, tag) in tags.iter().enumerate() {
        fits &= is_tag(files, &key.index(index), tag);
        if tags[..index].contains(tag) {
            let place = files.cell.value_place(&key.index(index));
            let problem = Problem::at(place, format!("the tag `{tag}` is listed twice"), "again");
            files.problems.push(problem.help("each tag stands once in a completion"));
            fits = false;
        }
    }
    fits
}

fn component(
    files: &mut Files<'_>,
    key: &KeyPath,
    reward: &RewardTable,
    found: &mut BTreeMap<Digest, PathBuf>,
) -> Option<Component> {
    Some(match reward {
        RewardTable::Semantic(table) => {
            let encoder = files.directory("encoder", &table.encoder, &key.key("encoder"), found)?;
            Component::Semantic {
                encoder,
                dtype: table.dtype,
                baseline: table.baseline,
                prompt: table.prompt.clone(),
                references: table.references,
                window_sentences: table.window_sentences,
            }
        }
        RewardTable::Rouge(table) => rouge(files, key, table)?,
        RewardTable::Correctness(table) => correctness(files, key, table)?,
        RewardTable::Format(table) => Component::Format(format(files, key, table)?),
        RewardTable::Cot(table) => cot(files, key, table)?,
        RewardTable::Judge(table) => Component::Judge(reward_judge::judge(files, key, table)?),
        RewardTable::Command(table) => Component::Command(reward_program::command(files, key, table, found)?),
        RewardTable::Http(table) => Component::Http(reward_program::http(files, key, table)?),
        RewardTable::Length(table) => Component::Length(length(files, key, table)?),
        RewardTable::Repetition(table) => Component::Repetition { ngram: table.ngram },
    })
}

fn cot(files: &mut Files<'_>, key: &KeyPath, table: &CotTable) -> Option<Component> {
    let CotTable { min_words, max_words, min_tokens, max_tokens, leak, .. } = *table;
    let before = files.problems.len();
    for (unit, fewest, most) in [("words", Some(min_words), max_words), ("tokens", min_tokens, max_tokens)] {
        if let Some((fewest, most)) = fewest.zip(most).filter(|(fewest, most)| most < fewest) {
            let message = format!("`max_{unit}` ({most}) is less than `min_{unit}` ({fewest})");
            let place = files.cell.value_place(&key.key(&format!("max_{unit}")));
            files.problems.push(Problem::at(place, message, "no length fits").help("raise it, or leave it out"));
        }
    }
    let fits = files.problems.len() == before;
    fits.then_some(Component::Cot { min_words, max_words, min_tokens, max_tokens, leak })
}

fn rouge(files: &mut Files<'_>, key: &KeyPath, table: &RougeTable) -> Option<Component> {
    let RougeTable { variant, measure, tokenizer, stemming, .. } = *table;
    if stemming && tokenizer != RougeTokenizer::RougeScore {
        let key = key.key("stemming");
        let message = format!("`{key}` has no rules for the words of `tokenizer = \"unicode\"`");
        let problem = Problem::at(files.cell.value_place(&key), message, "English words alone have stems here");
        files.problems.push(problem.help("write `tokenizer = \"rouge-score\"` beside it, or leave it out"));
        return None;
    }
    Some(Component::Rouge { variant, measure, tokenizer, stemming })
}

fn length(files: &mut Files<'_>, key: &KeyPath, table: &LengthTable) -> Option<LengthSpec> {
    let LengthTable { min_words, max_words, tolerance_words, .. } = *table;
    let (at, message, label) = match (min_words, max_words) {
        (Some(min), Some(max)) if min > max => {
            let message = format!("`max_words` ({max}) is less than `min_words` ({min})");
            (files.cell.value_place(&key.key("max_words")), message, "no range")
        }
        (None, None) => (files.cell.key_place(key), format!("`{key}` has no range"), "every length is 1"),
        _ => return Some(LengthSpec { min_words, max_words, tolerance_words }),
    };
    files.problems.push(Problem::at(at, message, label).help("give `min_words`, `max_words` or both"));
    None
}

pub(super) fn scope(files: &mut Files<'_>, key: &KeyPath, written: &str) -> Option<Scope> {
    match written {
        "completion" => Some(Scope::Completion),
        "think" => Some(Scope::Think),
        "answer" => Some(Scope::Answer),
        "explanation" => Some(Scope::Explanation),
        _ => {
            if let Some(tag) = written.strip_prefix("tag:") {
                return is_tag(files, key, tag).then(|| Scope::Tag(tag.to_owned()));
            }
            let place = files.cell.value_place(key);
            let problem = Problem::at(place, format!("unknown scope `{written}`"), "no such scope");
            files.problems.push(problem.help(did_you_mean(written, "scopes", SCOPES)));
            None
        }
    }
}

fn is_tag(files: &mut Files<'_>, key: &KeyPath, tag: &str) -> bool {
    let starts_well = tag.starts_with(|first: char| first.is_ascii_alphabetic());
    let fits = starts_well && tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !fits {
        let place = files.cell.value_place(key);
        let problem = Problem::at(place, format!("`{tag}` cannot be a tag"), "not a tag's name");
        files.problems.push(
            problem.help("write the name alone, `think` for `<think>`: a letter, then letters, digits, `_` and `-`"),
        );
    }
    fits
}
