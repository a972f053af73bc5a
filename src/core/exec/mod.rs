//! Starts workers and says how they ended.
//!
//! A stage runs as `orchestrate-worker ATTEMPT_DIR`, started by an [`Executor`]. What it has to say goes into files of the attempt
//! directory: `events.jsonl`, `worker.log` and, when it ends, `exit-*.json` ([`Ending`](crate::workspace::Ending)). Its exit code
//! says the same to people and scripts; the run loop does not read it:
//!
//! | code | constant                | meaning                                                                            |
//! |-----:|-------------------------|------------------------------------------------------------------------------------|
//! |    0 | [`exit::COMMITTED`]     | the checkpoint is in the cache                                                     |
//! |    2 | [`exit::USAGE`]         | started with arguments it does not know                                            |
//! |   10 | [`exit::FAILED`]        | the stage failed; a `failed` event says why                                        |
//! |   11 | [`exit::LEASE_HELD`]    | another process works on the same key, or has committed it by now                  |
//! |   12 | [`exit::STOPPED`]       | stopped on request (SIGTERM, SIGINT, supervisor gone); a resume point is left      |
//! | else | -                       | crashed; an unexpected SIGKILL (or 137) most likely means that memory ran out      |
//!
//! On this machine, asking a worker to stop is SIGTERM to its process group, and [`Cancel::Kill`] is SIGKILL. A worker also stops
//! by itself when the process that started it (`workspace::supervisor`) is gone; one that hangs is ended by the next run that
//! needs its stage ([`Orphans`]).
//!
//! A worker that is to run on a certain GPU sees no other: `CUDA_VISIBLE_DEVICES` is set for it.
//!
//! A `command` stage needs no libtorch: `orchestrate run-command-stage ATTEMPT_DIR` is its worker, with the same files and the
//! same codes ([`run_command_stage`]).
//!
//! `orchestrate-worker model REQUEST` answers a question about a model instead ([`ModelRequest`]), with the codes 0, 2 and
//! 10; `orchestrate-worker score REQUEST` rates texts ([`ScoreRequest`]) in the same manner.

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
