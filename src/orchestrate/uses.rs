//! Which runs used which keys, as their logs tell it.

use super::past_runs::PastRun;
use super::run_log::LoggedPlan;
use crate::digest::Digest;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use ulid::Ulid;

/// What runs have to do with a key.
#[derive(Clone, Debug, Default)]
pub struct KeyUse {
    /// The runs that planned it, the newest first.
    pub runs: Vec<String>,
    /// Labels of the variants that need it.
    pub variants: BTreeSet<String>,
    /// When the newest of the runs began.
    pub last_used: Option<DateTime<Utc>>,
    /// One of them is running.
    pub live: bool,
}

/// The uses of every key that the log of a run below `runs` names.
pub fn key_uses(runs: &Path) -> io::Result<BTreeMap<Digest, KeyUse>> {
    let mut uses: BTreeMap<Digest, KeyUse> = BTreeMap::new();
    for past in PastRun::all(runs)? {
        let Ok(plan) = LoggedPlan::load(&past.log_dir) else { continue }; // killed before it had a plan
        let began: Option<DateTime<Utc>> = Ulid::from_string(&past.run).ok().map(|id| id.datetime().into());
        for stage in plan.stages {
            let found = uses.entry(stage.key).or_default();
            found.runs.push(past.run.clone());
            found.variants.extend(stage.variants);
            found.last_used = found.last_used.max(began);
            found.live |= past.status == "running";
        }
    }
    Ok(uses)
}
