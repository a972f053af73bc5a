//! `[stages.NAME.rewards.NAME]` resolved: scopes and tags read, encoders digested.

use super::data_sets::Need;
use super::data_sets::check_template;
use super::diagnostic::{Problem, did_you_mean};
use super::files::Files;
use super::located::KeyPath;
use super::reward_file::{JudgeTable, LengthTable, RewardTable};
use super::reward_program;
use super::spec::{Component, JudgeSpec, LengthSpec, RewardSpec, Scope};
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
            let scope = scope(files, &key.key("scope"), reward.scope());
            let component = component(files, &key, reward, found);
            let spec = RewardSpec { weight: reward.weight(), scope: scope?, component: component? };
            Some((name.clone(), spec))
        })
        .collect();
    (resolved.len() == rewards.len()).then_some(resolved)
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
            Component::Semantic { encoder, baseline: table.baseline, prompt: table.prompt.clone() }
        }
        RewardTable::Rouge(table) => {
            Component::Rouge { variant: table.variant, measure: table.measure, tokenizer: table.tokenizer }
        }
        RewardTable::Correctness(_) => Component::Correctness {},
        RewardTable::Format(table) => {
            let key = key.key("tags");
            let mut fits = true;
            for (index, tag) in table.tags.iter().enumerate() {
                fits &= is_tag(files, &key.index(index), tag);
                if table.tags[..index].contains(tag) {
                    let place = files.cell.value_place(&key.index(index));
                    let problem = Problem::at(place, format!("the tag `{tag}` is listed twice"), "again");
                    files.problems.push(problem.help("each tag stands once in a completion"));
                    fits = false;
                }
            }
            if !fits {
                return None;
            }
            Component::Format { tags: table.tags.clone() }
        }
        RewardTable::Cot(table) => Component::Cot { min_words: table.min_words },
        RewardTable::Judge(table) => Component::Judge(judge(files, key, table)?),
        RewardTable::Command(table) => Component::Command(reward_program::command(files, key, table, found)?),
        RewardTable::Http(table) => Component::Http(reward_program::http(files, key, table)?),
        RewardTable::Length(table) => Component::Length(length(files, key, table)?),
        RewardTable::Repetition(table) => Component::Repetition { ngram: table.ngram },
    })
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

/// What a judge's template may name.
const JUDGE_VARIABLES: &[&str] = &["prompt", "completion", "reference", "answer", "min_score", "max_score"];

fn judge(files: &mut Files<'_>, key: &KeyPath, table: &JudgeTable) -> Option<JudgeSpec> {
    let before = files.problems.len();
    let served = files.cell.value.get("runtime").and_then(|runtime| runtime.get("judges")).and_then(|t| t.as_table());
    let known: Vec<&str> = served.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    for (index, name) in table.judges.iter().enumerate() {
        let place = files.cell.value_place(&key.key("judges").index(index));
        if table.judges[..index].contains(name) {
            let problem = Problem::at(place, format!("the judge `{name}` is listed twice"), "again");
            files.problems.push(problem.help("asked the same, a judge answers the same: once is enough"));
        } else if !known.contains(&name.as_str()) {
            let problem = Problem::at(place, format!("nothing says where the judge `{name}` is served"), "not known");
            let help = format!("; add `[runtime.judges.{name:?}]` with its `endpoint`");
            files.problems.push(problem.help(did_you_mean(name, "judges", &known) + &help));
        }
    }
    if table.min_score >= table.max_score {
        let place = files.cell.value_place(&key.key("max_score"));
        let message =
            format!("`max_score` ({}) is not greater than `min_score` ({})", table.max_score, table.min_score);
        files
            .problems
            .push(Problem::at(place, message, "no scale").help("a rubric from 1 to 5 has the scores 1, 2, 3, 4 and 5"));
    }
    check_template(files.cell, &key.key("prompt"), &table.prompt, JUDGE_VARIABLES, files.problems);
    (files.problems.len() == before).then(|| JudgeSpec {
        judges: table.judges.clone(),
        aggregate: table.aggregate,
        prompt: table.prompt.clone(),
        min_score: table.min_score,
        max_score: table.max_score,
        temperature: table.temperature,
        seed: table.seed,
        max_tokens: table.max_tokens,
        on_error: table.on_error,
    })
}

fn scope(files: &mut Files<'_>, key: &KeyPath, written: &str) -> Option<Scope> {
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
