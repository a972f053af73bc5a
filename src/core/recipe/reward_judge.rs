//! `[stages.NAME.rewards.NAME]` of the kind `judge`.

use super::data_sets::check_template;
use super::defaults;
use super::diagnostic::{Problem, did_you_mean};
use super::files::Files;
use super::located::KeyPath;
use super::reward_file::{JudgeModeName, JudgeTable, RewardTable};
use super::spec::{JudgeMode, JudgeSampling, JudgeSpec, RubricScale};
use std::collections::BTreeMap;

/// What the template of a rubric may name.
const OF_A_RUBRIC: &[&str] = &["prompt", "completion", "reference", "answer", "min_score", "max_score"];
/// What the template of a pair may name; the reference is not told of where it is one of both.
const OF_A_PAIR: &[&str] = &["prompt", "first", "second", "answer", "reference"];
const WITH_REFERENCE: &[&str] = &["prompt", "first", "second", "answer"];

/// The judges of `table`; absent if something about them is wrong.
pub(super) fn judge(files: &mut Files<'_>, key: &KeyPath, table: &JudgeTable) -> Option<JudgeSpec> {
    let before = files.problems.len();
    check_served(files, &key.key("judges"), &table.judges);
    no_stray_keys(files, key, table);
    let mode = match table.mode {
        JudgeModeName::Rubric => rubric(files, key, table).map(JudgeMode::Rubric),
        JudgeModeName::PairWithReference => {
            pair_prompt(files, key, table, WITH_REFERENCE).map(|prompt| JudgeMode::PairWithReference { prompt })
        }
        JudgeModeName::PairWithinGroup => pair_prompt(files, key, table, OF_A_PAIR)
            .map(|prompt| JudgeMode::PairWithinGroup { prompt, opponents: table.opponents }),
    };
    let JudgeTable { temperature, seed, max_tokens, .. } = *table;
    let sampling = JudgeSampling { temperature, seed, max_tokens };
    let (judges, aggregate) = (table.judges.clone(), table.aggregate);
    (files.problems.len() == before).then_some(JudgeSpec { judges, aggregate, mode: mode?, sampling })
}

/// Reports judges in the list at `key` that nothing says the server of, or that stand there twice.
pub(super) fn check_served(files: &mut Files<'_>, key: &KeyPath, judges: &[String]) {
    let served = files.cell.value.get("runtime").and_then(|runtime| runtime.get("judges")).and_then(|t| t.as_table());
    let known: Vec<&str> = served.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    for (index, name) in judges.iter().enumerate() {
        let place = files.cell.value_place(&key.index(index));
        if judges[..index].contains(name) {
            let problem = Problem::at(place, format!("the judge `{name}` is listed twice"), "again");
            files.problems.push(problem.help("asked the same, a judge answers the same: once is enough"));
        } else if !known.contains(&name.as_str()) {
            let problem = Problem::at(place, format!("nothing says where the judge `{name}` is served"), "not known");
            let help = format!("; add `[runtime.judges.{name:?}]` with its `endpoint`");
            files.problems.push(problem.help(did_you_mean(name, "judges", &known) + &help));
        }
    }
}

/// The template `pair_prompt` of the judges of an arena at `key`, or the built-in one.
pub(super) fn prompt_of_pairs(files: &mut Files<'_>, key: &KeyPath, written: Option<&str>) -> String {
    if let Some(prompt) = written {
        check_template(files.cell, &key.key("pair_prompt"), prompt, OF_A_PAIR, files.problems);
    }
    let built_in = || defaults::built_in()["rewards"]["judge"]["pair_prompt"].as_str();
    written.or_else(built_in).expect("defaults.toml has a text for pairs").to_owned()
}

/// Reports keys that belong to another mode.
fn no_stray_keys(files: &mut Files<'_>, key: &KeyPath, table: &JudgeTable) {
    use JudgeModeName::{PairWithReference, PairWithinGroup, Rubric};
    let keys: [(&str, bool, &[JudgeModeName]); 5] = [
        ("prompt", table.prompt.is_some(), &[Rubric]),
        ("min_score", table.min_score.is_some(), &[Rubric]),
        ("max_score", table.max_score.is_some(), &[Rubric]),
        ("pair_prompt", table.pair_prompt.is_some(), &[PairWithReference, PairWithinGroup]),
        ("opponents", table.opponents.is_some(), &[PairWithinGroup]),
    ];
    for (name, is_said, modes) in keys {
        if is_said && !modes.contains(&table.mode) {
            let key = key.key(name);
            let wanted = match modes {
                [Rubric] => "rubric",
                _ => "pair_within_group",
            };
            let message = format!("`{key}` has no effect without `mode = \"{wanted}\"`");
            let problem = Problem::at(files.cell.value_place(&key), message, "no effect");
            files.problems.push(problem.help(match name {
                "prompt" => "pairs are asked about with `pair_prompt`",
                "pair_prompt" => {
                    "a rubric is asked about with `prompt`; pairs have `mode = \"pair_with_reference\"` too"
                }
                "opponents" => "only the completions of a group can be compared with several",
                _ => "of a pair, judges say which one is better",
            }));
        }
    }
}

/// Absent only where a problem was reported.
fn rubric(files: &mut Files<'_>, key: &KeyPath, table: &JudgeTable) -> Option<RubricScale> {
    let (min_score, max_score) = (table.min_score?, table.max_score?);
    if min_score >= max_score {
        let place = files.cell.value_place(&key.key("max_score"));
        let message = format!("`max_score` ({max_score}) is not greater than `min_score` ({min_score})");
        let problem = Problem::at(place, message, "no scale");
        files.problems.push(problem.help("a rubric from 1 to 5 has the scores 1, 2, 3, 4 and 5"));
    }
    let prompt = table.prompt.clone()?;
    check_template(files.cell, &key.key("prompt"), &prompt, OF_A_RUBRIC, files.problems);
    Some(RubricScale { prompt, min_score, max_score })
}

fn pair_prompt(files: &mut Files<'_>, key: &KeyPath, table: &JudgeTable, variables: &[&str]) -> Option<String> {
    let prompt = table.pair_prompt.clone()?;
    // the built-in template asks for a reference where there is one, and so fits both modes
    let key = key.key("pair_prompt");
    let is_built_in = defaults::built_in()["rewards"]["judge"]["pair_prompt"].as_str() == Some(&prompt);
    check_template(files.cell, &key, &prompt, if is_built_in { OF_A_PAIR } else { variables }, files.problems);
    Some(prompt)
}

/// Reports judges that are to compare more completions than the `group_size` of the stage whose rewards are at `key`.
pub(super) fn check_opponents(
    files: &mut Files<'_>,
    key: &KeyPath,
    rewards: &BTreeMap<String, RewardTable>,
    group_size: usize,
) {
    for (name, reward) in rewards {
        let RewardTable::Judge(table) = reward else { continue };
        if table.mode != JudgeModeName::PairWithinGroup {
            continue;
        }
        let key = key.key(name);
        if group_size < 2 {
            let message = format!("`{key}` has nobody to compare with: an evaluation samples one completion a prompt");
            let problem = Problem::at(files.cell.value_place(&key.key("mode")), message, "no group");
            files.problems.push(problem.help("`mode = \"pair_with_reference\"` compares with the row's reference; an evaluation with `samples_per_question` has groups"));
        } else if let Some(opponents) = table.opponents.filter(|opponents| *opponents >= group_size) {
            let key = key.key("opponents");
            let message = format!("`{key}` is {opponents}, but a group of {group_size} has {} others", group_size - 1);
            let problem = Problem::at(files.cell.value_place(&key), message, "more than there are");
            files.problems.push(problem.help("leave it out to compare with all of them"));
        }
    }
}
