//! The runs that used each key, read from their logs.

use crate::digest::Digest;
use crate::history::past_runs::PastRuns;
use crate::history::run_log::{LogDamage, LoggedPlan};
use crate::history::run_process::Liveness;
use crate::stage::RunStatus;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use ulid::Ulid;

/// The use of a key by runs.
#[derive(Clone, Debug, Default)]
pub struct KeyUse {
    /// The runs that planned it, newest first.
    pub runs: Vec<String>,
    /// Labels of the variants that need it.
    pub variants: BTreeSet<String>,
    /// When the newest of the runs began.
    pub last_used: Option<DateTime<Utc>>,
    /// Whether one of the runs is running.
    pub live: bool,
}

/// The use of keys, from the logs of runs.
#[derive(Clone, Debug, Default)]
pub struct KeyUses {
    /// The uses of every key that a log names.
    pub by_key: BTreeMap<Digest, KeyUse>,
    /// Unreadable logs, which may name more keys.
    pub damage: Vec<LogDamage>,
}

/// Returns the uses of every key that the log of a run below `runs` names.
pub fn key_uses(runs: &Path) -> io::Result<KeyUses> {
    let PastRuns { runs, damage } = PastRuns::all(runs)?;
    let mut uses = KeyUses { by_key: BTreeMap::new(), damage };
    for past in runs {
        let plan = match LogDamage::of(&past.log_dir.join("plan.json"), LoggedPlan::load(&past.log_dir)) {
            Ok(plan) => plan,
            Err(damage) => {
                uses.damage.push(damage);
                continue;
            }
        };
        // A run also counts as live if it has recorded its end and still shows its results.
        let lives = past.status == RunStatus::Running || past.liveness() == Liveness::Alive;
        let began: Option<DateTime<Utc>> = Ulid::from_string(&past.run).ok().map(|id| id.datetime().into());
        for stage in plan.stages {
            let found = uses.by_key.entry(stage.key).or_default();
            found.runs.push(past.run.clone());
            found.variants.extend(stage.variants);
            found.last_used = found.last_used.max(began);
            found.live |= lives;
        }
    }
    Ok(uses)
}
