//! Verifies every byte of checkpoints against their manifests, on all cores. A unit of work is a file, and large files
//! come first, so that the last core to finish does not hold a whole checkpoint.

use super::digests::digest_file_counting;
use super::error::WorkspaceError;
use super::objects::{Checkpoint, Lookup, Workspace};
use crate::digest::Digest;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

impl Workspace {
    /// Verifies these checkpoints with `threads` threads and moves damaged ones to the quarantine. `read` is called on
    /// any thread with numbers of bytes that were read. The results are in the order of `keys`.
    pub fn verify_all(
        &self,
        keys: &[&Digest],
        threads: usize,
        read: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<Lookup>, WorkspaceError> {
        let found: Vec<Lookup> = keys.iter().map(|key| self.lookup(key)).collect::<Result<_, _>>()?;
        let problems = damaged_files(&found, threads, read);
        let mut answers = Vec::with_capacity(found.len());
        for ((key, lookup), problem) in keys.iter().zip(found).zip(problems) {
            answers.push(match problem {
                None => lookup,
                Some(reason) => Lookup::Quarantined { dir: self.quarantine(key)?, reason },
            });
        }
        Ok(answers)
    }
}

/// Returns, for each of `found`, the description of the first damaged file of its manifest.
fn damaged_files(found: &[Lookup], threads: usize, read: &(dyn Fn(u64) + Sync)) -> Vec<Option<String>> {
    let checkpoints: Vec<Option<&Checkpoint>> = found
        .iter()
        .map(|lookup| match lookup {
            Lookup::Hit(checkpoint) => Some(checkpoint),
            Lookup::Miss | Lookup::Quarantined { .. } => None,
        })
        .collect();
    let mut files: Vec<(usize, &Checkpoint, &str)> = Vec::new();
    for (index, checkpoint) in checkpoints.iter().enumerate() {
        let Some(checkpoint) = checkpoint else { continue };
        files.extend(checkpoint.manifest.files.keys().map(|name| (index, *checkpoint, name.as_str())));
    }
    files.sort_by_key(|(_, checkpoint, name)| std::cmp::Reverse(checkpoint.manifest.files[*name].bytes));
    let problems: Mutex<Vec<Option<(&str, String)>>> = Mutex::new(vec![None; found.len()]);
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&(index, checkpoint, name)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Err(reason) = check(checkpoint, name, read) else { continue };
            let mut problems = problems.lock().expect("no thread panics with it");
            if problems[index].as_ref().is_none_or(|(other, _)| name < *other) {
                problems[index] = Some((name, reason));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    let problems = problems.into_inner().expect("no thread panics with it");
    problems.into_iter().map(|problem| Some(problem?.1)).collect()
}

fn check(checkpoint: &Checkpoint, name: &str, read: &(dyn Fn(u64) + Sync)) -> Result<(), String> {
    let recorded = &checkpoint.manifest.files[name].sha256;
    let digest = digest_file_counting(&checkpoint.dir.join(name), read).map_err(|error| error.to_string())?;
    if digest == *recorded {
        return Ok(());
    }
    Err(format!("`{name}` has digest {}, not {}", digest.short(), recorded.short()))
}
