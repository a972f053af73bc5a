//! `[stages.NAME.rewards.NAME]` of the kinds `command`, its files digested, none of them forgotten, and `http`.

use super::diagnostic::{Problem, did_you_mean};
use super::files::Files;
use super::judge_server::is_variable;
use super::layers::io_reason;
use super::located::KeyPath;
use super::reward_file::{CommandTable, HttpTable};
use super::spec::{Argument, CommandSpec, HttpSpec};
use crate::digest::Digest;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The command of `table`; absent if something about it is wrong.
pub(super) fn command(
    files: &mut Files<'_>,
    key: &KeyPath,
    table: &CommandTable,
    found: &mut BTreeMap<Digest, PathBuf>,
) -> Option<CommandSpec> {
    let before = files.problems.len();
    let mut digests = Vec::new();
    let mut declared: BTreeMap<PathBuf, Digest> = BTreeMap::new();
    for (index, named) in table.files.iter().enumerate() {
        for path in paths(files, &key.key("files").index(index), named) {
            match files.inputs.file(&path) {
                Ok(digest) => {
                    found.insert(digest.clone(), path.clone());
                    declared.insert(path, digest.clone());
                    digests.push(digest);
                }
                Err(error) => {
                    let message = format!("cannot read the file `{named}`: {error}");
                    problem(files, &key.key("files").index(index), message, "unreadable", "check its permissions");
                }
            }
        }
    }
    let mut words = Vec::new();
    for (index, word) in table.command.iter().enumerate() {
        let path = files.project.join(word);
        if let Some(digest) = declared.get(&path) {
            words.push(Argument::File(digest.clone()));
            continue;
        }
        if path.is_file() && (index > 0 || is_script(&path)) {
            let message = format!("`{word}` is a file that `{}` does not name", key.key("files"));
            let help = format!("add it, `files = [{word:?}]`: then the stage runs again when the file changes");
            problem(files, &key.key("command").index(index), message, "its changes would go unnoticed", &help);
        }
        words.push(Argument::Text(word.clone()));
    }
    if table.command.first().is_some_and(String::is_empty) {
        let help = "the first word is the program: `[\"python3\", \"rewards/units.py\"]`";
        problem(files, &key.key("command").index(0), "a program has no empty name".to_owned(), "empty", help);
    }
    for (index, name) in table.env.iter().enumerate() {
        if !is_variable(name) {
            // without its value: it might be a secret
            let key = key.key("env");
            let message = format!("`{}` is not the name of an environment variable", key.index(index));
            let help = "name the variable alone; its value stays in the environment";
            files.problems.push(Problem::at(files.cell.key_place(&key), message, "in here").help(help));
        }
    }
    (files.problems.len() == before).then(|| CommandSpec {
        command: words,
        files: digests,
        env: table.env.clone(),
        timeout_s: table.timeout_s,
    })
}

/// The service of `table`; absent if nothing says where it is served.
pub(super) fn http(files: &mut Files<'_>, key: &KeyPath, table: &HttpTable) -> Option<HttpSpec> {
    let served =
        files.cell.value.get("runtime").and_then(|runtime| runtime.get("endpoints")).and_then(|t| t.as_table());
    let known: Vec<&str> = served.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let HttpTable { endpoint: name, version, cache, .. } = table;
    if !known.contains(&name.as_str()) {
        let message = format!("nothing says where the endpoint `{name}` is served");
        let help =
            did_you_mean(name, "endpoints", &known) + &format!("; add `[runtime.endpoints.{name:?}]` with its `url`");
        problem(files, &key.key("endpoint"), message, "not known", &help);
        return None;
    }
    Some(HttpSpec { endpoint: name.clone(), version: version.clone(), cache: *cache })
}

/// The files that `named` stands for: a file, or a pattern.
fn paths(files: &mut Files<'_>, key: &KeyPath, named: &str) -> Vec<PathBuf> {
    let path = files.project.join(named);
    if !named.contains(['*', '?', '[']) {
        let (message, label) = match fs_err::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return vec![path],
            Ok(_) => (format!("`{named}` is not a file"), "a directory"),
            Err(error) => (format!("cannot read the file `{named}`: {}", io_reason(&error)), "no such file"),
        };
        let help = "name files, or patterns such as `rewards/*.py`; paths are relative to the project directory";
        problem(files, key, message, label, help);
        return Vec::new();
    }
    let pattern = format!("{}/{named}", glob::Pattern::escape(&files.project.display().to_string()));
    let (message, label) = match files.inputs.glob(&pattern) {
        Ok(found) if found.is_empty() => (format!("no file matches the pattern `{named}`"), "matches nothing"),
        Ok(found) => return found,
        Err(error) => (format!("cannot list the pattern `{named}`: {error}"), "not a pattern"),
    };
    problem(files, key, message, label, "paths are relative to the project directory");
    Vec::new()
}

/// Whether the file names the program that runs it.
fn is_script(path: &Path) -> bool {
    let mut first = [0; 2];
    fs_err::File::open(path).is_ok_and(|mut file| file.read_exact(&mut first).is_ok()) && first == *b"#!"
}

fn problem(files: &mut Files<'_>, key: &KeyPath, message: String, label: &str, help: &str) {
    files.problems.push(Problem::at(files.cell.value_place(key), message, label).help(help));
}
