//! Jobs: workers that a dispatcher submits, and the records of how each ended.
//!
//! A worker reads the name of its job from its environment. It records its end in the attempt directory, in a file of
//! that name. The checkpoint that it commits also contains the name (`record.json`). A process that follows a job reads
//! its end from files, so it need not be the worker's parent or on its host.

use super::attempt::RECORD;
use super::objects::REPLACE;
use super::write_volatile;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// The environment variable with the name of a worker's job.
pub const JOB_VARIABLE: &str = "ORCHESTRATE_JOB";

/// The name of one worker on one attempt: `<key>.<unique>`. Jobs on the same key share the part before the dot, so that
/// an executor can find them by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Job(String);

impl Job {
    /// Creates a job on `key` with a new name.
    pub fn new(key: &Digest) -> Self {
        Self(format!("{}.{}", key.as_str(), Ulid::generate()))
    }

    /// Returns the job of this worker, or `None` for a worker that was started manually.
    pub fn of_this_process() -> Option<Self> {
        std::env::var(JOB_VARIABLE).ok().map(Self)
    }

    /// Returns the job's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path of the file in the attempt directory `dir` that records how the job ended.
    fn exit_file(&self, dir: &Path) -> PathBuf {
        let unique = self.0.rsplit('.').next().unwrap_or(&self.0);
        dir.join(format!("exit-{unique}.json"))
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The end of a worker, as it recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The checkpoint is in the cache.
    Committed,
    /// The stage failed; its last event contains the reason.
    Failed,
    /// Another process holds the lease, or has committed the stage.
    LeaseHeld,
    /// The worker stopped on request and left a resume point.
    Stopped,
}

/// The content of an exit file.
#[derive(Serialize, Deserialize)]
struct Exit {
    ending: Ending,
}

/// The part of a checkpoint's record that names its worker.
#[derive(Deserialize)]
struct RecordedJob {
    #[serde(default)]
    job: Option<Job>,
}

impl Ending {
    /// Records how this process, a worker on the attempt directory `dir`, ended. A worker that was started manually
    /// records nothing. A worker that committed does not either, because its checkpoint is the proof.
    pub fn record(self, dir: &Path) -> io::Result<()> {
        let Some(job) = Job::of_this_process().filter(|_| self != Self::Committed && dir.is_dir()) else {
            return Ok(());
        };
        let text = serde_json::to_vec(&Exit { ending: self }).expect("an ending serializes");
        write_volatile(&job.exit_file(dir), &text)
    }

    /// Returns how `job` ended on the attempt directory `dir`, whose checkpoint is or would be `committed`. Returns
    /// `None` without a record: the worker is still running, or it crashed.
    pub fn of(job: &Job, dir: &Path, committed: &Path) -> Option<Self> {
        let exit = fs_err::read(job.exit_file(dir)).ok().and_then(|bytes| serde_json::from_slice::<Exit>(&bytes).ok());
        if let Some(Exit { ending }) = exit {
            return Some(ending);
        }
        let record = fs_err::read(committed.join(RECORD)).ok();
        let recorded = record.and_then(|bytes| serde_json::from_slice::<RecordedJob>(&bytes).ok());
        if recorded.and_then(|record| record.job).as_ref() == Some(job) {
            return Some(Self::Committed);
        }
        // Another worker committed the stage and moved the directory away; a third may have created it again.
        let is_another_s = committed.is_dir() && !dir.join(REPLACE).exists();
        (is_another_s || !dir.is_dir()).then_some(Self::LeaseHeld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_has_its_own_end_on_the_same_attempt() {
        let runs = tempfile::tempdir().unwrap();
        let (dir, committed) = (runs.path().join("work"), runs.path().join("cache"));
        fs_err::create_dir_all(&dir).unwrap();
        let key = Digest::of(b"stage");
        let (one, other) = (Job::new(&key), Job::new(&key));
        assert_ne!(one, other);
        fs_err::write(one.exit_file(&dir), r#"{"ending":"lease_held"}"#).unwrap();
        assert_eq!(Ending::of(&one, &dir, &committed), Some(Ending::LeaseHeld));
        assert_eq!(Ending::of(&other, &dir, &committed), None, "it works, or it crashed");
        fs_err::create_dir_all(&committed).unwrap();
        assert_eq!(Ending::of(&other, &dir, &committed), Some(Ending::LeaseHeld), "another committed it");
        fs_err::write(dir.join(REPLACE), b"").unwrap();
        assert_eq!(Ending::of(&other, &dir, &committed), None, "what is there is to be replaced");
        fs_err::write(committed.join(RECORD), format!(r#"{{"stage":"sft","job":"{other}"}}"#)).unwrap();
        fs_err::remove_dir_all(&dir).unwrap();
        assert_eq!(Ending::of(&other, &dir, &committed), Some(Ending::Committed));
        assert_eq!(Ending::of(&one, &dir, &committed), Some(Ending::LeaseHeld), "the other was faster");
    }
}
