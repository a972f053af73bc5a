//! An attempt at a stage: the directory `runs/work/<key>`, from its assignment to its commit.

use super::assignment::Assignment;
use super::error::WorkspaceError;
use super::fault::{REPLACE_FAULT, fault_point, is_asked_for};
use super::job::Job;
use super::lease::{Lease, LeaseOwner};
use super::manifest::{MANIFEST, Manifest};
use super::objects::{CACHE, Checkpoint, DIGESTS, Lookup, REPLACE, REPLACED, Workspace};
use super::sync_dir;
use crate::digest::Digest;
use crate::energy::EnergyMeter;
use crate::event::{Event, EventKind, PeakMemory};
use chrono::Utc;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The directory of the answers of judges, in the run directory.
pub const JUDGE_CACHE: &str = "judge-cache";
/// The directory of the answers of arenas' players, in the run directory.
pub(super) const ARENA_ANSWERS: &str = "arena-answers";
/// The directory of the answers and measurements of evaluations, in the run directory.
pub(super) const EVAL_ANSWERS: &str = "eval-answers";
/// The environment variable that tells a worker which process started it. When two dispatchers prepare the same
/// attempt, the one that wrote the assignment last may not be the one whose worker gets the lease.
pub const SUPERVISOR_VARIABLE: &str = "ORCHESTRATE_SUPERVISOR";
pub(super) const OUT: &str = "out";
const RESUME: &str = "resume";
pub(super) const ASSIGNMENT: &str = "assignment.json";
pub(super) const KEY: &str = "key.json";
pub(super) const EVENTS: &str = "events.jsonl";
const LOG: &str = "worker.log";
pub(super) const RECORD: &str = "record.json";
/// The files that a commit adds to a stage's output. They describe the attempt (times, host, log), so they differ
/// between attempts.
pub(super) const BOOKKEEPING: [&str; 4] = [KEY, EVENTS, LOG, RECORD];

/// Whether `name` is reserved at the top level of a checkpoint.
pub fn is_bookkeeping(name: &str) -> bool {
    name == MANIFEST || BOOKKEEPING.contains(&name)
}

/// The process that started this one as a worker; absent: it is not supervised. It is not part of the assignment, which
/// two processes that race for a key may both write.
pub fn supervisor() -> Option<u32> {
    std::env::var(SUPERVISOR_VARIABLE).ok()?.parse().ok()
}

/// An attempt directory, as its worker uses it.
#[derive(Debug)]
pub struct Attempt {
    dir: PathBuf,
    /// The directory in which the checkpoint is made.
    out: PathBuf,
    assignment: Assignment,
    events: Option<fs_err::File>,
    meters: Meters,
}

/// The meters that are read for every event, except for events of completions.
#[derive(Default)]
pub struct Meters {
    /// The meter of the device's energy; absent where the device does not report it.
    pub energy: Option<EnergyMeter>,
    /// A function that returns the peak memory of the worker.
    pub peak_memory: Option<Box<dyn Fn() -> Option<PeakMemory>>>,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Meters").field("energy", &self.energy).finish_non_exhaustive()
    }
}

impl Attempt {
    /// Opens the attempt directory `dir`.
    pub fn open(dir: &Path) -> Result<Self, WorkspaceError> {
        let path = dir.join(ASSIGNMENT);
        let bytes = fs_err::read(&path)?;
        let assignment: Assignment = serde_json::from_slice(&bytes)
            .map_err(|source| WorkspaceError::Malformed { path: path.clone(), source })?;
        Ok(Self { dir: dir.to_owned(), out: dir.join(OUT), assignment, events: None, meters: Meters::default() })
    }

    /// Opens the attempt directory `dir` and takes its lease. Returns `None` when another process has the lease, or has
    /// committed the stage meanwhile.
    pub fn begin(dir: &Path) -> Result<Option<(Self, Lease)>, WorkspaceError> {
        let attempt = match Self::open(dir) {
            // The process that has just committed the stage moved the directory away.
            Err(WorkspaceError::Io(error)) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let lease = match Lease::acquire(dir) {
            Err(WorkspaceError::Leased { .. }) => return Ok(None),
            acquired => acquired?,
        };
        if attempt.is_committed() {
            attempt.clear_away();
            return Ok(None);
        }
        Ok(Some((attempt, lease)))
    }

    /// Opens the attempt at `assignment`, a snapshot of this stage, with the events of this attempt so far, and takes
    /// its lease. Returns `None` when the snapshot is in the cache, or another process works on it.
    pub fn branch(
        &self,
        assignment: &Assignment,
        key_json: &serde_json::Value,
    ) -> Result<Option<(Self, Lease)>, WorkspaceError> {
        let workspace = Workspace::open(self.runs())?;
        if matches!(workspace.lookup(&assignment.key)?, Lookup::Hit(_)) {
            return Ok(None);
        }
        let prepared = workspace.prepare(assignment, key_json)?;
        let Some((attempt, lease)) = Self::begin(&prepared.dir)? else { return Ok(None) };
        remove_dir(&attempt.out)?;
        fs_err::copy(self.dir.join(EVENTS), attempt.dir.join(EVENTS))?;
        Ok(Some((attempt, lease)))
    }

    /// Whether the result with this key is in the cache.
    pub fn has_result(&self, key: &Digest) -> Result<bool, WorkspaceError> {
        Ok(matches!(Workspace::open(self.runs())?.lookup(key)?, Lookup::Hit(_)))
    }

    /// Returns the assignment.
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// Returns the attempt directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the lease of the attempt directory.
    ///
    /// # Errors
    /// [`WorkspaceError::Leased`] when another live process has the lease.
    pub fn acquire(&self) -> Result<Lease, WorkspaceError> {
        Lease::acquire(&self.dir)
    }

    /// Whether an earlier holder of the lease committed the stage's checkpoint. A checkpoint that this attempt replaces
    /// does not count.
    pub fn is_committed(&self) -> bool {
        !self.replaces() && Manifest::read(&self.committed_dir()).is_ok_and(|manifest| manifest.is_some())
    }

    /// Whether this attempt's result replaces one in the cache (`run --force`).
    pub fn replaces(&self) -> bool {
        self.dir.join(REPLACE).exists()
    }

    /// Sets the meters for all later events.
    pub fn measure(&mut self, meters: Meters) {
        self.meters = meters;
    }

    /// Appends an event. The first call removes an incomplete last line that a killed worker left.
    pub fn append(&mut self, kind: &EventKind) -> Result<(), WorkspaceError> {
        if self.events.is_none() {
            self.events = Some(open_events(&self.dir.join(EVENTS))?);
        }
        // There may be thousands of completions between two steps.
        let (energy_j, peak_memory) = if matches!(kind, EventKind::Completion(_)) {
            (None, None)
        } else {
            let Meters { energy, peak_memory } = &mut self.meters;
            (energy.as_mut().and_then(EnergyMeter::joules), peak_memory.as_ref().and_then(|peak| peak()))
        };
        let event = Event { at: Utc::now(), kind: kind.clone(), energy_j, peak_memory };
        let mut line = serde_json::to_vec(&event).expect("an event serializes");
        line.push(b'\n');
        let file = self.events.as_mut().expect("opened above");
        file.write_all(&line)?;
        Ok(())
    }

    /// Returns the directory in which the checkpoint is made. It is empty at the start of a stage.
    pub fn out_dir(&self) -> Result<PathBuf, WorkspaceError> {
        fs_err::create_dir_all(&self.out)?;
        Ok(self.out.clone())
    }

    /// Creates an empty directory for the checkpoint that no earlier try used, so that a surviving program of an
    /// earlier try cannot write into it. The directories of earlier tries stay, empty, until the commit.
    pub fn new_out_dir(&mut self) -> Result<PathBuf, WorkspaceError> {
        let mut tries = 0;
        for entry in fs_err::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some(number) = try_number(&entry.file_name()) {
                tries = tries.max(number);
                remove_dir(&entry.path())?;
                fs_err::create_dir_all(entry.path())?;
            }
        }
        self.out = self.dir.join(format!("{OUT}-{}", tries + 1));
        self.out_dir()
    }

    /// Returns the directory that outlives an interrupted attempt, until the commit. It holds resume points, or the
    /// files that the program of a `command` stage keeps. It may not exist.
    pub fn resume_dir(&self) -> PathBuf {
        self.dir.join(RESUME)
    }

    /// Saves the resume point after `step`. `write` fills an empty directory, which becomes visible only when complete.
    /// The newest resume points are kept; older ones, and parts that a killed worker left, are removed.
    pub fn save_resume_point<E: std::fmt::Display>(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), WorkspaceError> {
        let resume = self.dir.join(RESUME);
        fs_err::create_dir_all(&resume)?;
        let part = resume.join(format!(".step-{step}.part"));
        remove_dir(&part)?;
        fs_err::create_dir(&part)?;
        write(&part).map_err(|e| WorkspaceError::Content(e.to_string()))?;
        fault_point("resume-before-manifest");
        Manifest::seal(&part)?;
        fault_point("resume-before-rename");
        let whole = resume.join(step_name(step));
        remove_dir(&whole)?;
        fs_err::rename(&part, &whole)?;
        sync_dir(&resume)?;
        fault_point("resume-after-rename");
        let mut points = resume_points(&resume)?;
        points.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
        for (_, dir) in points.into_iter().skip(self.assignment.runtime.keep_resume_points.max(1)) {
            remove_dir(&dir)?;
        }
        Ok(())
    }

    /// Returns the newest complete resume point, with its step. Damaged ones are removed.
    pub fn latest_resume_point(&self) -> Result<Option<(u64, PathBuf)>, WorkspaceError> {
        self.latest_resume_point_until(u64::MAX)
    }

    /// Returns the newest complete resume point after at most `step` steps, with its step. Damaged ones are removed.
    pub fn latest_resume_point_until(&self, step: u64) -> Result<Option<(u64, PathBuf)>, WorkspaceError> {
        let resume = self.dir.join(RESUME);
        if !resume.exists() {
            return Ok(None);
        }
        for entry in fs_err::read_dir(&resume)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(".part") {
                remove_dir(&entry.path())?;
            }
        }
        let mut points = resume_points(&resume)?;
        points.retain(|(after, _)| *after <= step);
        points.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
        for (step, dir) in points {
            if Manifest::read(&dir)?.is_some_and(|manifest| manifest.check_digests(&dir).is_ok()) {
                return Ok(Some((step, dir)));
            }
            remove_dir(&dir)?;
        }
        Ok(None)
    }

    /// Commits `out/` as the stage's checkpoint: adds the key, the events and the record of the attempt, flushes and
    /// seals the directory, and renames it into the cache. An existing checkpoint is kept, unless this attempt replaces
    /// it.
    pub fn commit(&mut self, lease: &Lease) -> Result<Checkpoint, WorkspaceError> {
        let _: &Lease = lease; // only the holder of the lease commits
        let out = self.out_dir()?;
        fault_point("commit-before-record");
        for name in [KEY, EVENTS, LOG] {
            if self.dir.join(name).exists() {
                fs_err::copy(self.dir.join(name), out.join(name))?;
            }
        }
        let record = serde_json::json!({
            "stage": self.assignment.stage,
            "kind": self.assignment.spec.work.kind(),
            "committed_at": Utc::now(),
            "by": LeaseOwner::this_process(),
            "job": Job::of_this_process(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        let text = serde_json::to_vec_pretty(&record).expect("a record serializes");
        fs_err::write(out.join(RECORD), &text)?; // flushed with the rest
        fault_point("commit-before-manifest");
        let manifest = Manifest::seal(&out)?;
        fault_point("commit-before-rename");
        let committed = self.committed_dir();
        if !self.is_committed() {
            if self.replaces() && committed.exists() {
                replace(&out, &committed, &self.dir.join(REPLACED))?;
            } else {
                fs_err::rename(&out, &committed)?;
            }
            fault_point("commit-before-sync");
            sync_dir(committed.parent().expect("a checkpoint lies in the cache"))?;
        }
        fault_point("commit-after-rename");
        self.events = None;
        self.clear_away();
        fault_point("commit-after-cleanup");
        Ok(Checkpoint { key: self.assignment.key.clone(), dir: committed, manifest })
    }

    /// Removes the attempt, whose result is in the cache: what stays of it costs space, until `cache gc`, and nothing
    /// else. It is moved away first, so that no process begins to work in a directory that is being removed.
    fn clear_away(&self) {
        let name = format!(".{}-{}", self.assignment.key.as_str(), std::process::id());
        let aside = self.dir.with_file_name(name);
        if fs_err::rename(&self.dir, &aside).is_ok() {
            fault_point("commit-in-cleanup");
            let _ = remove_dir(&aside);
        }
    }

    /// Returns the path of the memo of file digests ([`super::Workspace::digests`]).
    pub fn digests_file(&self) -> PathBuf {
        self.runs().join(DIGESTS)
    }

    /// Returns the directory of judges' answers, which all stages share.
    pub fn judge_cache_dir(&self) -> PathBuf {
        self.runs().join(JUDGE_CACHE)
    }

    /// Returns the directory of players' answers, which all arenas share.
    pub fn arena_answers_dir(&self) -> PathBuf {
        self.runs().join(ARENA_ANSWERS)
    }

    /// Returns the directory of models' answers and their measurements, which all evaluations share.
    pub fn eval_answers_dir(&self) -> PathBuf {
        self.runs().join(EVAL_ANSWERS)
    }

    fn committed_dir(&self) -> PathBuf {
        self.runs().join(CACHE).join(self.assignment.key.as_str())
    }

    fn runs(&self) -> &Path {
        self.dir.parent().and_then(Path::parent).expect("an attempt lies in runs/work")
    }
}

/// Replaces `committed` by `out`. Where the file system can exchange two names, this is atomic. Elsewhere (NFS) the old
/// result is set aside in between, and [`super::Workspace::lookup`] puts it back if this process dies there.
fn replace(out: &Path, committed: &Path, aside: &Path) -> Result<(), WorkspaceError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    if !is_asked_for(REPLACE_FAULT) {
        match renameat_with(CWD, out, CWD, committed, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    remove_dir(aside)?;
    fs_err::rename(committed, aside)?;
    fault_point(REPLACE_FAULT);
    if let Err(error) = fs_err::rename(out, committed) {
        fs_err::rename(aside, committed)?;
        return Err(error.into());
    }
    Ok(())
}

/// Returns the number in a directory name from [`Attempt::new_out_dir`].
fn try_number(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_prefix(OUT)?.strip_prefix('-')?.parse().ok()
}

fn step_name(step: u64) -> String {
    format!("step-{step}")
}

fn resume_points(resume: &Path) -> Result<Vec<(u64, PathBuf)>, WorkspaceError> {
    let mut points = Vec::new();
    for entry in fs_err::read_dir(resume)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(step) = name.to_str().and_then(|name| name.strip_prefix("step-")).and_then(|n| n.parse().ok()) {
            points.push((step, entry.path()));
        }
    }
    Ok(points)
}

pub(super) fn remove_dir(dir: &Path) -> Result<(), WorkspaceError> {
    match fs_err::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Opens the events for appending, after removing an incomplete last line.
fn open_events(path: &Path) -> Result<fs_err::File, WorkspaceError> {
    let mut file = fs_err::OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    let whole = whole_lines(&mut file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(file)
}

/// Returns the length in bytes of the complete lines in the first `length` bytes of `file`. It reads from the end,
/// because the file may be long.
fn whole_lines(file: &mut fs_err::File, length: u64) -> std::io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut bytes = vec![0; usize::try_from(end - start).expect("a block fits memory")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|&b| b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// A reader that follows the events of an attempt or a checkpoint.
#[derive(Debug)]
pub struct EventReader {
    path: PathBuf,
    offset: u64,
}

impl EventReader {
    /// Creates a reader at the start of the events in the directory `dir`, which may not exist yet.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(EVENTS), offset: 0 }
    }

    /// Returns the events added since the last call. An incomplete line is left for a later call.
    pub fn poll(&mut self) -> Result<Vec<Event>, WorkspaceError> {
        let mut file = match fs_err::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut events = Vec::new();
        for line in bytes.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n")) {
            self.offset += line.len() as u64;
            let malformed = |source| WorkspaceError::Malformed { path: self.path.clone(), source };
            events.push(serde_json::from_slice(line).map_err(malformed)?);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_worker_left_of_a_line_is_cut_off_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EVENTS);
        let long = "x".repeat(200_000);
        for (written, kept) in [
            (String::new(), 0),
            ("half".to_owned(), 0),
            ("one\ntwo\n".to_owned(), 8),
            (format!("one\n{long}"), 4),
            (format!("{long}\nhalf"), 200_001),
            (long.clone(), 0),
        ] {
            fs_err::write(&path, &written).unwrap();
            open_events(&path).unwrap();
            assert_eq!(fs_err::read_to_string(&path).unwrap(), written[..kept]);
        }
    }
}
