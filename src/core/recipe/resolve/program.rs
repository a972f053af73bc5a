//! Resolves a user's program, of a stage or of a reward, and digests all its files.

use crate::digest::Digest;
use crate::recipe::resolve::files::Files;
use crate::recipe::runtime::judge_server::is_variable;
use crate::recipe::spec::Argument;
use crate::recipe::text::diagnostic::Problem;
use crate::recipe::text::layers::io_reason;
use crate::recipe::text::located::KeyPath;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The keys that the tables of a `command` stage and of a `command` reward share.
pub(in crate::recipe) struct ProgramKeys<'a> {
    pub(in crate::recipe) command: &'a [String],
    pub(in crate::recipe) files: &'a [String],
    pub(in crate::recipe) env: &'a [String],
    /// The working directory of the program.
    pub(in crate::recipe) directory: &'a Path,
}

/// Returns the program of the table `key`: its words and the digests of its files. Returns `None` if something is
/// invalid.
pub(in crate::recipe) fn program(
    files: &mut Files<'_>,
    key: &KeyPath,
    keys: &ProgramKeys<'_>,
    found: &mut BTreeMap<Digest, PathBuf>,
) -> Option<(Vec<Argument>, Vec<Digest>)> {
    let before = files.problems.len();
    let mut digests = Vec::new();
    let mut declared: BTreeMap<PathBuf, Digest> = BTreeMap::new();
    for (index, named) in keys.files.iter().enumerate() {
        for path in paths(files, &key.key("files").index(index), named) {
            match files.digest(&path) {
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
    for (index, word) in keys.command.iter().enumerate() {
        if let Some(digest) = declared.get(&files.project.join(word)) {
            words.push(Argument::File(digest.clone()));
            continue;
        }
        let mut is_forgotten = |path: &Path| files.known.is_file(path) && (index > 0 || is_script(path));
        if is_forgotten(&files.project.join(word)) || is_forgotten(&keys.directory.join(word)) {
            let message = format!("`{word}` is a file that `{}` does not name", key.key("files"));
            let help = format!("add it, `files = [{word:?}]`: then the stage runs again when the file changes");
            problem(files, &key.key("command").index(index), message, "its changes would go unnoticed", &help);
        }
        words.push(Argument::Text(word.clone()));
    }
    if keys.command.first().is_some_and(String::is_empty) {
        let help = "the first word is the program: `[\"python3\", \"rewards/units.py\"]`";
        problem(files, &key.key("command").index(0), "the program's name must not be empty".to_owned(), "empty", help);
    }
    for (index, name) in keys.env.iter().enumerate() {
        if !is_variable(name) {
            // The problem points at the table and does not show the value, which might be a secret.
            let message = format!("`{}` is not the name of an environment variable", key.key("env").index(index));
            let help = "write only the variable's name; its value stays in the environment";
            files.problems.push(Problem::at(files.variant.key_place(key), message, "its `env`").help(help));
        }
    }
    (files.problems.len() == before).then_some((words, digests))
}

/// Returns the files of `named`, which is a path or a pattern.
fn paths(files: &mut Files<'_>, key: &KeyPath, named: &str) -> Vec<PathBuf> {
    let path = files.project.join(named);
    if !named.contains(['*', '?', '[']) {
        if files.known.is_file(&path) {
            return vec![path];
        }
        let (message, label) = match fs_err::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return vec![path],
            Ok(_) => (format!("`{named}` is not a file"), "a directory"),
            Err(error) => (format!("cannot read the file `{named}`: {}", io_reason(&error)), "no such file"),
        };
        let help = "name files, or patterns such as `rewards/*.py`; paths are relative to the project directory";
        problem(files, key, message, label, help);
        return Vec::new();
    }
    let (message, label) = match files.glob(named) {
        Ok(found) if found.is_empty() => (format!("no file matches the pattern `{named}`"), "matches nothing"),
        Ok(found) => return found,
        Err(error) => (format!("cannot list the pattern `{named}`: {error}"), "not a pattern"),
    };
    problem(files, key, message, label, "paths are relative to the project directory");
    Vec::new()
}

/// Whether the file begins with `#!`, so that it names its interpreter.
fn is_script(path: &Path) -> bool {
    let mut first = [0; 2];
    fs_err::File::open(path).is_ok_and(|mut file| file.read_exact(&mut first).is_ok()) && first == *b"#!"
}

pub(in crate::recipe) fn problem(files: &mut Files<'_>, key: &KeyPath, message: String, label: &str, help: &str) {
    files.problems.push(Problem::at(files.variant.value_place(key), message, label).help(help));
}
