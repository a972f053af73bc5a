//! Checks of a program's output directory.

use super::{METRICS, input};
use crate::event::{Failure, Measurement};
use crate::workspace::{WorkspaceError, is_bookkeeping};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Checks that all wanted outputs exist and that a checkpoint can hold every entry.
pub(super) fn check(output: &Path, wanted: &BTreeSet<String>) -> Result<(), Failure> {
    let missing: Vec<String> =
        wanted.iter().filter(|name| !output.join(name).exists()).map(|name| format!("`{name}`")).collect();
    if !missing.is_empty() {
        let message = format!("the program succeeded but left no {} in its output directory", missing.join(", "));
        return Err(input(message, "`outputs` are relative to `{{ output }}`, which is `$STAGE_OUTPUT` too"));
    }
    check_kinds(output, "")
}

fn check_kinds(dir: &Path, prefix: &str) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| super::failure_of(&WorkspaceError::from(error));
    for entry in fs_err::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(unreadable)?;
        if is_bookkeeping(&name) {
            let message = format!("the program wrote `{name}`, a name that is reserved in every result");
            return Err(input(message, "let it use another name, or a directory below `{{ output }}`"));
        }
        if kind.is_dir() {
            check_kinds(&entry.path(), &format!("{name}/"))?;
        } else if !kind.is_file() {
            let message = format!("the program left `{name}`, which is neither a file nor a directory");
            return Err(input(message, "a result holds contents, not links: let the program copy what it links to"));
        }
    }
    Ok(())
}

/// Returns the numbers of `metrics.json`; empty without that file.
pub(super) fn metrics(output: &Path) -> Result<BTreeMap<String, Measurement>, Failure> {
    let path = output.join(METRICS);
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let refused = |reason: String| {
        input(format!("cannot parse `{METRICS}` of the program: {reason}"), "write `{\"name\": number, ...}`")
    };
    let text = fs_err::read_to_string(&path).map_err(|error| refused(error.to_string()))?;
    let values: Map<String, Value> = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    let measured = |(name, value): (String, Value)| match value.as_f64() {
        Some(value) => Ok((name, Measurement { value, interval: None, count: None })),
        None => Err(refused(format!("`{name}` is {value}, not a number"))),
    };
    values.into_iter().map(measured).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_results_and_anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(metrics(dir.path()).unwrap(), BTreeMap::new());
        fs_err::write(dir.path().join(METRICS), "{\"accuracy\": 0.5, \"rows\": 3}").unwrap();
        let found = metrics(dir.path()).unwrap();
        assert_eq!(
            found.iter().map(|(name, m)| (name.as_str(), m.value)).collect::<Vec<_>>(),
            [("accuracy", 0.5), ("rows", 3.0)]
        );
        for wrong in ["{\"accuracy\": \"0.5\"}", "[0.5]", "{\"accuracy\": null}", "0.5", "{"] {
            fs_err::write(dir.path().join(METRICS), wrong).unwrap();
            assert!(metrics(dir.path()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_and_names_of_the_cache_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = BTreeSet::from(["scores".to_owned()]);
        assert!(check(dir.path(), &wanted).unwrap_err().message.contains("`scores`"));
        fs_err::create_dir(dir.path().join("scores")).unwrap();
        fs_err::write(dir.path().join("scores/key.json"), "below, any name will do").unwrap();
        check(dir.path(), &wanted).unwrap();
        fs_err::os::unix::fs::symlink("/etc/passwd", dir.path().join("scores/link")).unwrap();
        assert!(check(dir.path(), &wanted).unwrap_err().message.contains("`scores/link`"));
        fs_err::remove_file(dir.path().join("scores/link")).unwrap();
        fs_err::write(dir.path().join("events.jsonl"), "").unwrap();
        assert!(check(dir.path(), &wanted).unwrap_err().message.contains("`events.jsonl`"));
    }
}
