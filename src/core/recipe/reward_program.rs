//! `[stages.NAME.rewards.NAME]` of the kinds `command` and `http`.

use super::diagnostic::did_you_mean;
use super::files::Files;
use super::located::KeyPath;
use super::program::{ProgramKeys, problem, program};
use super::reward_file::{CommandTable, HttpTable};
use super::spec::{CommandSpec, HttpSpec};
use crate::digest::Digest;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The command of `table`; absent if something about it is wrong.
pub(super) fn command(
    files: &mut Files<'_>,
    key: &KeyPath,
    table: &CommandTable,
    found: &mut BTreeMap<Digest, PathBuf>,
) -> Option<CommandSpec> {
    let CommandTable { command, files: named, env, timeout_s, .. } = table;
    let keys = ProgramKeys { command, files: named, env, directory: files.project };
    let (command, digests) = program(files, key, &keys, found)?;
    Some(CommandSpec { command, files: digests, env: env.clone(), timeout_s: *timeout_s })
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
