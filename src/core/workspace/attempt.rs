//! An attempt at a stage: the directory `runs/work/<key>` from its assignment to its commit.

use super::assignment::Assignment;
use super::error::WorkspaceError;
use super::fault::{REPLACE_FAULT, fault_point, is_asked_for};
use super::job::Job;
use super::lease::{Lease, LeaseOwner};
use super::manifest::{MANIFEST, Manifest};
use super::objects::{CACHE, Checkpoint, DIGESTS, REPLACE, REPLACED};
use super::sync_dir;
use crate::energy::EnergyMeter;
use crate::event::{Event, EventKind, PeakMemory};
use chrono::Utc;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The answers of judges, in the directory of the cache.
pub const JUDGE_CACHE: &str = "judge-cache";
/// The answers of an arena's players, in the directory of the cache.
pub(super) const ARENA_ANSWERS: &str = "arena-answers";
/// The process that started a worker, in the worker's environment. Of two dispatchers that prepare the same attempt at the same
/// time, the one that wrote the assignment last need not be the one whose worker gets the lease.
pub const SUPERVISOR_VARIABLE: &str = "ORCHESTRATE_SUPERVISOR";
pub(super) const OUT: &str = "out";
const RESUME: &str = "resume";
pub(super) const ASSIGNMENT: &str = "assignment.json";
pub(super) const KEY: &str = "key.json";
pub(super) const EVENTS: &str = "events.jsonl";
const LOG: &str = "worker.log";
pub(super) const RECORD: &str = "record.json";
/// What a commit adds to a stage's output: it tells of the attempt (times, host, log), so two attempts differ in it.
pub(super) const BOOKKEEPING: [&str; 4] = [KEY, EVENTS, LOG, RECORD];

/// Whether the top of a checkpoint has `name` for itself.
pub fn is_bookkeeping(name: &str) -> bool {
    name == MANIFEST || BOOKKEEPING.contains(&name)
}

/// The process that started this one as a worker; absent: it is not supervised. It is not part of the assignment, which
/// two processes that race for a key may both write.
pub fn supervisor() -> Option<u32> {
    std::env::var(SUPERVISOR_VARIABLE).ok()?.parse().ok()
}

/// An attempt directory, as its worker sees it.
#[derive(Debug)]
pub struct Attempt {
    dir: PathBuf,
    /// Where the checkpoint is made.
    out: PathBuf,
    assignment: Assignment,
    events: Option<fs_err::File>,
    meters: Meters,
}

/// What is measured with every event, but for those of completions.
#[derive(Default)]
pub struct Meters {
    /// What the device takes; absent where it does not say.
    pub energy: Option<EnergyMeter>,
    /// Asks for the most memory that the worker has held.
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

    /// Opens the attempt directory `dir` and takes the right to work there; absent when another process has it, or has
    /// committed the stage by now.
    pub fn begin(dir: &Path) -> Result<Option<(Self, Lease)>, WorkspaceError> {
        let attempt = match Self::open(dir) {
            // the process that has just committed the stage moved the directory away
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

    /// What to do.
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the right to work here.
    ///
    /// # Errors
    /// [`WorkspaceError::Leased`] when another live process has it.
    pub fn acquire(&self) -> Result<Lease, WorkspaceError> {
        Lease::acquire(&self.dir)
    }

    /// Whether the stage's checkpoint is committed already, by whoever had the lease before; one that this attempt is to
    /// replace does not count.
    pub fn is_committed(&self) -> bool {
        !self.replaces() && Manifest::read(&self.committed_dir()).is_ok_and(|manifest| manifest.is_some())
    }

    /// Whether this attempt's result takes the place of one that is in the cache (`run --force`).
    fn replaces(&self) -> bool {
        self.dir.join(REPLACE).exists()
    }

    /// Measures with these from now on.
    pub fn measure(&mut self, meters: Meters) {
        self.meters = meters;
    }

    /// Appends an event. The first append cuts off what a killed worker left of a line.
    pub fn append(&mut self, kind: &EventKind) -> Result<(), WorkspaceError> {
        if self.events.is_none() {
            self.events = Some(open_events(&self.dir.join(EVENTS))?);
        }
        // there may be thousands of completions between two steps
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

    /// Where the checkpoint is made; empty at the start of a stage.
    pub fn out_dir(&self) -> Result<PathBuf, WorkspaceError> {
        fs_err::create_dir_all(&self.out)?;
        Ok(self.out.clone())
    }

    /// Makes the checkpoint in an empty directory that no earlier try at this stage had, so that what is left of an
    /// earlier try's program cannot write into it. The directories of earlier tries stay, empty, until the commit.
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

    /// What outlives an interrupted attempt, until the commit: resume points, or what the program of a `command` stage keeps.
    /// It need not be there.
    pub fn resume_dir(&self) -> PathBuf {
        self.dir.join(RESUME)
    }

    /// Saves the resume point after `step`: `write` fills an empty directory, which becomes visible only whole. Keeps the
    /// newest few and removes older ones and what a killed worker left.
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

    /// The newest resume point that is whole; broken ones are removed.
    pub fn latest_resume_point(&self) -> Result<Option<(u64, PathBuf)>, WorkspaceError> {
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
        points.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
        for (step, dir) in points {
            if Manifest::read(&dir)?.is_some_and(|manifest| manifest.check_digests(&dir).is_ok()) {
                return Ok(Some((step, dir)));
            }
            remove_dir(&dir)?;
        }
        Ok(None)
    }

    /// Makes `out/` the stage's checkpoint: adds the key, the events and the record of the attempt, flushes and seals it,
    /// and renames it into the cache. If the checkpoint is there already, that one stays, unless this attempt is to replace it.
    pub fn commit(&mut self, lease: &Lease) -> Result<Checkpoint, WorkspaceError> {
        let _: &Lease = lease; // who commits holds the lease
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

    /// Removes the attempt, whose result is in the cache: what stays of it costs space, until `cache gc`, and nothing else. It is
    /// moved away first, so that no process begins to work in a directory that is being removed.
    fn clear_away(&self) {
        let name = format!(".{}-{}", self.assignment.key.as_str(), std::process::id());
        let aside = self.dir.with_file_name(name);
        if fs_err::rename(&self.dir, &aside).is_ok() {
            fault_point("commit-in-cleanup");
            let _ = remove_dir(&aside);
        }
    }

    /// The memo of file digests ([`super::Workspace::digests`]).
    pub fn digests_file(&self) -> PathBuf {
        self.runs().join(DIGESTS)
    }

    /// Where the answers of judges are kept, for all stages.
    pub fn judge_cache_dir(&self) -> PathBuf {
        self.runs().join(JUDGE_CACHE)
    }

    /// Where the answers of an arena's players are kept, for all arenas.
    pub fn arena_answers_dir(&self) -> PathBuf {
        self.runs().join(ARENA_ANSWERS)
    }

    fn committed_dir(&self) -> PathBuf {
        self.runs().join(CACHE).join(self.assignment.key.as_str())
    }

    fn runs(&self) -> &Path {
        self.dir.parent().and_then(Path::parent).expect("an attempt lies in runs/work")
    }
}

/// Puts `out` in the place of `committed`: at once where the file system can exchange two names; where it cannot (NFS), the old
/// result is set aside in between, from where [`super::Workspace::lookup`] puts it back if this process dies there.
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

/// The number in the name that [`Attempt::new_out_dir`] gave a directory.
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

/// Opens the events for appending, after cutting off an unfinished last line.
fn open_events(path: &Path) -> Result<fs_err::File, WorkspaceError> {
    let mut file = fs_err::OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    let whole = whole_lines(&mut file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(file)
}

/// How many of the `length` bytes of `file` are whole lines; read from the end, since the file may be long.
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

/// Follows the events of an attempt or a checkpoint.
#[derive(Debug)]
pub struct EventReader {
    path: PathBuf,
    offset: u64,
}

impl EventReader {
    /// A reader at the start of the events in the directory `dir`; they need not be there yet.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(EVENTS), offset: 0 }
    }

    /// The events that were added since the last call; an unfinished line waits for its rest.
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
