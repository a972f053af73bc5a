//! Failure messages of stages.

use crate::event::{Failure, FailureClass};
use crate::exec::WorkerExit;
use crate::workspace::Ending;
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// The number of lines of the worker's log that are shown.
const TAIL_LINES: usize = 15;
/// The number of bytes that are read from the log's end.
const TAIL_BYTES: u64 = 64 * 1024;

/// What a log says in which memory ran out: of libtorch (GPU, CPU, cuBLAS), of the CUDA runtime, of C++, of Rust.
const OUT_OF_MEMORY: [&str; 7] = [
    "CUDA out of memory",
    "DefaultCPUAllocator: ",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED", // its handle is made late, when the allocator may hold everything
    "CUDA error: out of memory",
    "std::bad_alloc",
    "memory allocation of ",
];

/// Returns the failure of a worker that exited with `exit`. `said` is the failure that it reported, if any.
/// `memory_ran_out` is whether its log reports exhausted memory.
pub(super) fn failure_of(exit: WorkerExit, said: Option<Failure>, memory_ran_out: bool) -> Failure {
    if let (WorkerExit::Said(Ending::Failed), Some(failure)) = (exit, &said) {
        return failure.clone();
    }
    if exit.looks_out_of_memory() || (said.is_none() && memory_ran_out) {
        return Failure {
            class: FailureClass::OutOfMemory,
            message: format!("{}, most likely because memory ran out", exit.describe()),
            hint: Some("lower `micro_batch_size`, `seq_len` or `-j`, or use `dtype = \"bfloat16\"`".into()),
        };
    }
    // A failure that the worker reported before it crashed is the best explanation.
    said.unwrap_or_else(|| Failure {
        class: FailureClass::Crash,
        message: format!("{} without giving a reason", exit.describe()),
        hint: Some("the end of its log is below; `orchestrate logs latest` has all of it".into()),
    })
}

/// Whether the log at `path` reports exhausted memory. The first `start` bytes are an earlier worker's and are
/// ignored.
pub(super) fn memory_ran_out(path: &Path, start: u64) -> bool {
    let read = || {
        let mut file = fs_err::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    OUT_OF_MEMORY.iter().any(|words| text.contains(words))
}

/// Returns the last lines of the log at `path`; empty if it cannot be read.
pub(super) fn log_tail(path: &Path) -> Vec<String> {
    let Ok(mut file) = fs_err::File::open(path) else { return Vec::new() };
    let start = file.metadata().map_or(0, |metadata| metadata.len().saturating_sub(TAIL_BYTES));
    if file.seek(SeekFrom::Start(start)).is_err() {
        return Vec::new();
    }
    let mut tail = VecDeque::with_capacity(TAIL_LINES);
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
    tail.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::SystemEnd;

    #[test]
    fn a_killed_worker_is_taken_for_exhausted_memory() {
        let failure = failure_of(WorkerExit::Crashed(SystemEnd { code: None, signal: Some(9) }), None, false);
        assert_eq!(failure.class, FailureClass::OutOfMemory);
        assert!(failure.message.contains("SIGKILL"), "{}", failure.message);
    }

    #[test]
    fn what_the_worker_said_is_what_is_reported() {
        let said = Failure { class: FailureClass::Input, message: "row 3 has no `question`".into(), hint: None };
        assert_eq!(failure_of(WorkerExit::Said(Ending::Failed), Some(said.clone()), false), said);
        assert_eq!(failure_of(WorkerExit::Said(Ending::Failed), None, false).class, FailureClass::Crash);
    }

    #[test]
    fn a_crash_is_one_of_memory_when_its_own_log_says_so() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("worker.log");
        assert!(!memory_ran_out(&path, 0), "there is no log");
        let first = "panicked: Torch(\"CUDA out of memory. Tried to allocate 20.00 MiB.\")\n";
        fs_err::write(&path, first.to_owned() + &"frame\n".repeat(500)).expect("written");
        assert!(memory_ran_out(&path, 0));
        assert!(!memory_ran_out(&path, first.len() as u64), "that was the worker before");
        let panicked = WorkerExit::Crashed(SystemEnd { code: Some(101), signal: None });
        assert_eq!(failure_of(panicked, None, true).class, FailureClass::OutOfMemory);
        assert_eq!(failure_of(panicked, None, false).class, FailureClass::Crash);
    }

    #[test]
    fn the_tail_is_the_end_of_the_log() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("worker.log");
        let text: Vec<String> = (0..100).map(|i| format!("line {i}")).collect();
        fs_err::write(&path, text.join("\n")).expect("written");
        let tail = log_tail(&path);
        assert_eq!(tail.len(), TAIL_LINES);
        assert_eq!(tail.last().map(String::as_str), Some("line 99"));
    }
}
