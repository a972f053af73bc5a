//! `orchestrate run-command-stage ATTEMPT_DIR`: the worker of a `command` stage.
//!
//! It keeps the contract of every worker (lease, events, commit, exit code) around a user's program. The program is
//! started without a shell and gets:
//!
//! | variable | template | value |
//! |---|---|---|
//! | `STAGE_OUTPUT` | `output` | an empty directory for this attempt, which becomes the stage's result |
//! | `STAGE_PARAMETERS` | `parameters_file` | a JSON file with the table `parameters` |
//! | `STAGE_PARENT` | `parent` | the result of the first parent stage |
//! | `STAGE_PARENTS` | `parents` | the results of all parent stages, separated as in `PATH` |
//! | `STAGE_MODEL` | `model` | the model's directory, for a command that names it |
//! | `STAGE_SEED` | `seed` | the seed, for a command that names it |
//! | `STAGE_RESUME` | `resume` | a directory that survives an interrupted attempt, with `resume = true` |
//!
//! The program's output goes to `worker.log`. The numbers in `metrics.json` are the stage's results.

mod outputs;
mod supervision;
mod worker;

pub use worker::*;
