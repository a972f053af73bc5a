//! Starts workers and reports how they ended.
//!
//! A stage runs as `orchestrate-worker ATTEMPT_DIR`, started by an [`Executor`]. The worker writes to files of the
//! attempt directory: `events.jsonl`, `worker.log` and, when it ends, `exit-*.json`
//! ([`Ending`](crate::workspace::Ending)). Its exit code repeats the ending for people and scripts; the run loop does
//! not read it:
//!
//! | code | constant                | meaning                                                                         |
//! |-----:|-------------------------|---------------------------------------------------------------------------------|
//! |    0 | [`exit::COMMITTED`]     | the checkpoint is in the cache                                                  |
//! |    2 | [`exit::USAGE`]         | started with unknown arguments                                                  |
//! |   10 | [`exit::FAILED`]        | the stage failed; a `failed` event says why                                     |
//! |   11 | [`exit::LEASE_HELD`]    | another process works on the same key, or has already committed it              |
//! |   12 | [`exit::STOPPED`]       | stopped on request (SIGTERM, SIGINT, supervisor gone); a resume point is left   |
//! | else | -                       | crashed; SIGKILL or 137 that `orchestrate` did not send suggests out of memory  |
//!
//! On this machine, a worker is asked to stop by SIGTERM to its process group; [`Cancel::Kill`] sends SIGKILL. A worker
//! also stops by itself when the process that started it (`workspace::supervisor`) is gone. One that hangs is ended by
//! the next run that needs its stage ([`Orphans`]).
//!
//! A worker that runs on a specific GPU sees only that one: `CUDA_VISIBLE_DEVICES` is set for it.
//!
//! The worker of a `command` stage is `orchestrate run-command-stage ATTEMPT_DIR`, which needs no libtorch. It has the
//! same files and the same codes ([`run_command_stage`]).
//!
//! `orchestrate-worker model REQUEST` answers a question about a model instead ([`ModelRequest`]), with the codes 0, 2
//! and 10. `orchestrate-worker score REQUEST` rates texts ([`ScoreRequest`]) with the same codes.

mod binary;
mod command_stage;
mod executor;
pub mod exit;
mod inspection;
mod local;
mod orphans;
mod outcome;
mod process_group;
mod request;
mod score_request;

pub use binary::{CpuReport, CudaProblem, ExecError, WorkerBinary, WorkerVersion, worker_version};
pub use command_stage::{METRICS, RUN_COMMAND_STAGE, run_command_stage};
pub use executor::{Cancel, Executor, JobState, Left, Submission, SystemEnd, WorkerProgram};
pub use inspection::{DataReport, ExampleRow, ExampleSpan, Inspection, inspect_data};
pub use local::LocalExecutor;
pub use orphans::Orphans;
pub use outcome::WorkerExit;
pub use request::{Answered, Input, ModelRequest, ModelTask, ask};
pub use score_request::{ScoreRequest, ScoreTask, ask_score};
