//! Chooses the checkpoints and leftovers that may be removed. The choice is a pure function of the inventory
//! ([`super::inventory`]), the keys that are needed ([`Needs`]) and the user's request ([`Policy`]).
//!
//! Input records are removed with the last item that was made from the inputs. A checkpoint is kept under any policy if
//! it is pinned, a live run plans to use it, or a process works on it. The same holds for the ancestors of every item
//! that is kept. A time in the future (a clock that was set back) has age zero, so that no item is removed because of
//! an uncertain age.

use super::inventory::{Leftover, LeftoverKind, StoredCheckpoint};
use crate::digest::Digest;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

/// The user's request. Without an age, a size or `unreferenced`, no checkpoint is removed.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The age of the last use from which checkpoints are removed. With `unreferenced`, both conditions must hold.
    pub unused_for: Option<TimeDelta>,
    /// Whether checkpoints to which nothing refers are removed.
    pub unreferenced: bool,
    /// The maximum size in bytes of the remaining checkpoints; the least recently used ones are removed until it is
    /// reached.
    pub max_bytes: Option<u64>,
    /// The age of the last write from which attempts, reruns and quarantined items are removed.
    pub leftovers_untouched_for: TimeDelta,
}

/// The keys that runs and recipes need, and when they were used.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The keys that a live run plans to use or to make.
    pub live: BTreeSet<Digest>,
    /// The keys to which something refers.
    pub referenced: BTreeSet<Digest>,
    /// The time of the last use of each key by a run.
    pub last_used: BTreeMap<Digest, DateTime<Utc>>,
}

/// An item that may be removed, and the reason.
#[derive(Clone, Debug, PartialEq)]
pub enum Removal {
    /// A checkpoint.
    Checkpoint {
        /// The checkpoint.
        checkpoint: StoredCheckpoint,
        /// The reason why it may be removed.
        reason: String,
    },
    /// A leftover.
    Leftover {
        /// The leftover.
        leftover: Leftover,
        /// The reason why it may be removed.
        reason: String,
    },
}

impl Removal {
    /// Returns the size of the item in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Checkpoint { checkpoint, .. } => checkpoint.bytes,
            Self::Leftover { leftover, .. } => leftover.bytes,
        }
    }

    /// Returns the reason why the item may be removed.
    pub fn reason(&self) -> &str {
        match self {
            Self::Checkpoint { reason, .. } | Self::Leftover { reason, .. } => reason,
        }
    }
}

/// The need because of which a checkpoint is kept against the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The checkpoint is pinned.
    Pinned,
    /// A live run plans to use the checkpoint.
    LiveRun,
    /// A process works on the checkpoint's key.
    Held,
    /// An item that is kept was made from the checkpoint.
    Parent,
}

/// The choice of items to remove.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemovalChoice {
    /// The items to remove.
    pub removals: Vec<Removal>,
    /// The checkpoints that the policy would remove but for this need.
    pub needed: Vec<(Digest, Need)>,
    /// The bytes of the checkpoints that are kept.
    pub kept_bytes: u64,
}

/// Chooses the items to remove.
pub fn choose(
    checkpoints: &[StoredCheckpoint],
    leftovers: &[Leftover],
    needs: &Needs,
    policy: &Policy,
    now: DateTime<Utc>,
) -> RemovalChoice {
    let mut choice = RemovalChoice::default();
    let mut stay: Vec<&Leftover> = Vec::new();
    let (records, leftovers): (Vec<_>, Vec<_>) =
        leftovers.iter().partition(|leftover| leftover.kind == LeftoverKind::InputRecord);
    for leftover in leftovers {
        match leftover_reason(leftover, needs, policy, now) {
            Some(reason) => choice.removals.push(Removal::Leftover { leftover: leftover.clone(), reason }),
            None => stay.push(leftover),
        }
    }
    let mut shelf = Shelf::new(checkpoints, needs);
    for parent in stay.iter().flat_map(|leftover| &leftover.parents) {
        shelf.need(parent);
    }
    // Children come first: a parent may be removed once no remaining item was made from it.
    let by_policy = |checkpoint: &StoredCheckpoint| policy_reason(checkpoint, needs, policy, now);
    shelf.take_while_possible(by_policy, |_| true);
    for (&key, checkpoint) in &shelf.kept {
        if by_policy(checkpoint).is_some() {
            choice.needed.push((key.clone(), shelf.need_of(checkpoint)));
        }
    }
    if let Some(max_bytes) = policy.max_bytes {
        let reason = |_: &StoredCheckpoint| Some("least recently used, above the size limit".to_owned());
        shelf.take_while_possible(reason, |kept_bytes| kept_bytes > max_bytes);
    }
    let of_checkpoints = shelf.kept.values().flat_map(|checkpoint| &checkpoint.inputs);
    let used: BTreeSet<&Digest> = of_checkpoints.chain(stay.iter().flat_map(|leftover| &leftover.inputs)).collect();
    // A live run may be about to make something from any of the inputs.
    for record in
        records.into_iter().filter(|record| needs.live.is_empty() && record.inputs.iter().all(|of| !used.contains(of)))
    {
        if let Some(reason) = leftover_reason(record, needs, policy, now) {
            choice.removals.push(Removal::Leftover { leftover: record.clone(), reason });
        }
    }
    choice.kept_bytes = shelf.kept_bytes;
    choice.needed.sort();
    choice.removals.extend(
        shelf
            .taken
            .into_iter()
            .map(|(checkpoint, reason)| Removal::Checkpoint { checkpoint: checkpoint.clone(), reason }),
    );
    choice
}

/// The checkpoints that have not been removed yet.
struct Shelf<'a> {
    needs: &'a Needs,
    kept: BTreeMap<&'a Digest, &'a StoredCheckpoint>,
    kept_bytes: u64,
    /// The number of remaining items that were made from a key.
    made_from: HashMap<&'a Digest, usize>,
    taken: Vec<(&'a StoredCheckpoint, String)>,
}

impl<'a> Shelf<'a> {
    fn new(checkpoints: &'a [StoredCheckpoint], needs: &'a Needs) -> Self {
        let mut shelf = Self {
            needs,
            kept: checkpoints.iter().map(|checkpoint| (&checkpoint.key, checkpoint)).collect(),
            kept_bytes: checkpoints.iter().map(|checkpoint| checkpoint.bytes).sum(),
            made_from: HashMap::new(),
            taken: Vec::new(),
        };
        for parent in checkpoints.iter().flat_map(|checkpoint| &checkpoint.parents) {
            shelf.need(parent);
        }
        shelf
    }

    fn need(&mut self, key: &'a Digest) {
        *self.made_from.entry(key).or_default() += 1;
    }

    /// Returns the need for `checkpoint`, the most obvious one first.
    fn need_of(&self, checkpoint: &StoredCheckpoint) -> Need {
        self.own_need(checkpoint).unwrap_or(Need::Parent)
    }

    fn own_need(&self, checkpoint: &StoredCheckpoint) -> Option<Need> {
        if checkpoint.pin.is_some() {
            Some(Need::Pinned)
        } else if self.needs.live.contains(&checkpoint.key) {
            Some(Need::LiveRun)
        } else {
            checkpoint.held.then_some(Need::Held)
        }
    }

    /// Removes the checkpoints that have a `reason`, the least recently used first and children before parents, while
    /// `more` holds for the remaining bytes.
    fn take_while_possible(
        &mut self,
        reason: impl Fn(&StoredCheckpoint) -> Option<String>,
        more: impl Fn(u64) -> bool,
    ) {
        let may_go = |shelf: &Self, checkpoint: &StoredCheckpoint| {
            shelf.own_need(checkpoint).is_none() && shelf.made_from.get(&checkpoint.key).is_none_or(|&count| count == 0)
        };
        let used = |checkpoint: &StoredCheckpoint| last_used(checkpoint, self.needs);
        let mut queue: BTreeSet<(DateTime<Utc>, &Digest)> = self
            .kept
            .values()
            .filter(|checkpoint| may_go(self, checkpoint))
            .map(|checkpoint| (used(checkpoint), &checkpoint.key))
            .collect();
        while more(self.kept_bytes) {
            let Some((_, key)) = queue.pop_first() else { return };
            let checkpoint = self.kept[key];
            let Some(reason) = reason(checkpoint) else { continue };
            self.kept.remove(key);
            self.kept_bytes -= checkpoint.bytes;
            self.taken.push((checkpoint, reason));
            for parent in &checkpoint.parents {
                *self.made_from.get_mut(parent).expect("it was counted") -= 1;
                if let Some(&parent) = self.kept.get(parent)
                    && may_go(self, parent)
                {
                    queue.insert((last_used(parent, self.needs), &parent.key));
                }
            }
        }
    }
}

/// Returns the time of the last use by a run, or of the commit.
fn last_used(checkpoint: &StoredCheckpoint, needs: &Needs) -> DateTime<Utc> {
    needs.last_used.get(&checkpoint.key).map_or(checkpoint.committed_at, |&used| used.max(checkpoint.committed_at))
}

fn policy_reason(checkpoint: &StoredCheckpoint, needs: &Needs, policy: &Policy, now: DateTime<Utc>) -> Option<String> {
    let unused_for = now - last_used(checkpoint, needs);
    if policy.unused_for.is_some_and(|limit| unused_for < limit) {
        return None;
    }
    let unreferenced = policy.unreferenced && !needs.referenced.contains(&checkpoint.key);
    match (policy.unused_for, policy.unreferenced) {
        (Some(_), false) => Some(format!("not used for {}", age(unused_for))),
        (None, true) if unreferenced => Some("nothing refers to it".to_owned()),
        (Some(_), true) if unreferenced => Some(format!("nothing refers to it, not used for {}", age(unused_for))),
        _ => None,
    }
}

fn leftover_reason(leftover: &Leftover, needs: &Needs, policy: &Policy, now: DateTime<Utc>) -> Option<String> {
    /// A temporary file is renamed within seconds, a commit is followed at once by the cleanup, and an input record is
    /// written for a run that is about to begin.
    const SURELY_DEAD: TimeDelta = TimeDelta::hours(1);
    if leftover.held || leftover.key.as_ref().is_some_and(|key| needs.live.contains(key)) {
        return None;
    }
    let untouched_for = now - leftover.touched_at;
    let limit = match leftover.kind {
        LeftoverKind::Trash => TimeDelta::MIN,
        LeftoverKind::Temporary | LeftoverKind::FinishedAttempt | LeftoverKind::InputRecord => SURELY_DEAD,
        LeftoverKind::Attempt
        | LeftoverKind::Rerun
        | LeftoverKind::Quarantined
        | LeftoverKind::Answers
        | LeftoverKind::EvalAnswers => policy.leftovers_untouched_for,
    };
    if untouched_for < limit {
        return None;
    }
    Some(match leftover.kind {
        LeftoverKind::Trash => "left by an interrupted removal".to_owned(),
        LeftoverKind::Temporary => "a temporary file of a killed process".to_owned(),
        LeftoverKind::InputRecord => "no remaining checkpoint was made from that file".to_owned(),
        LeftoverKind::FinishedAttempt => "its result is in the cache".to_owned(),
        LeftoverKind::Attempt => format!("unused for {}", age(untouched_for)),
        LeftoverKind::Rerun => format!("a rerun of `verify`, kept for {}", age(untouched_for)),
        LeftoverKind::Answers => format!("answers of an arena's player, {} old", age(untouched_for)),
        LeftoverKind::EvalAnswers => format!("answers of evaluations, {} old", age(untouched_for)),
        LeftoverKind::Quarantined => format!("damaged, in quarantine for {}", age(untouched_for)),
    })
}

/// `45 minutes`, `7 hours`, `30 days`; a time in the future counts as 0.
fn age(span: TimeDelta) -> String {
    let (count, unit) = match (span.num_days(), span.num_hours(), span.num_minutes()) {
        (2.., _, _) => (span.num_days(), "days"),
        (_, 2.., _) => (span.num_hours(), "hours"),
        (_, _, minutes) => (minutes.max(0), "minutes"),
    };
    format!("{count} {unit}")
}

/// Returns the path of the item that a removal removes.
pub(super) fn place(removal: &Removal, workspace: &std::path::Path) -> PathBuf {
    match removal {
        Removal::Checkpoint { checkpoint, .. } => workspace.join(checkpoint.key.as_str()),
        Removal::Leftover { leftover, .. } => leftover.path.clone(),
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
