//! `orchestrate run-command-stage ATTEMPT_DIR`: the worker of a `command` stage.
//!
//! It keeps the contract of every worker (lease, events, commit, exit code) around a program of the user's, which is started
//! without a shell and gets:
//!
//! | variable | template | what |
//! |---|---|---|
//! | `STAGE_OUTPUT` | `output` | an empty directory, of this try alone, that becomes the stage's result |
//! | `STAGE_PARAMETERS` | `parameters_file` | a JSON file with the table `parameters` |
//! | `STAGE_PARENT` | `parent` | the result of the stage it goes after |
//! | `STAGE_PARENTS` | `parents` | the results of all of them, separated as in `PATH` |
//! | `STAGE_MODEL` | `model` | the model's directory, for a program whose words name it |
//! | `STAGE_SEED` | `seed` | the seed, for a program whose words name it |
//! | `STAGE_RESUME` | `resume` | a directory that outlives an interrupted attempt, with `resume = true` |
//!
//! What it prints goes to `worker.log`; numbers that it leaves in `metrics.json` are the stage's results.

mod outputs;
mod supervision;
mod worker;

pub use worker::*;
