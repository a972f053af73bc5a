//! Past runs, read from their files: invocations, results, costs, and differences between runs. The database is an
//! index of those files ([`open_history`]).

mod arm_names;
pub(crate) mod checkpoints;
mod differences;
mod evidence;
mod explain;
mod fingerprints;
pub(crate) mod index;
mod open;
mod past_runs;
mod run_diff;
pub(crate) mod run_log;
mod run_process;
mod spending;
mod stage_rows;
mod uses;

pub use arm_names::without_seed;
pub use checkpoints::{arena_result, events_dir, newest_resume_step, results, stage_spec};
pub use evidence::{gather_answers, gather_evidence, reward_mixes};
pub use explain::{CachedResults, Explanation, ParentChange, remember_inputs};
pub use index::{IndexError, Indexed, Scope};
pub use open::{OpenHistory, Rebuilt, open_history, rebuild_history};
pub use past_runs::{CancelError, PastRun, PastRuns, RemovalRefusal, remove_run, resumable};
pub use run_diff::{StageChange, StagePair, environment, stage_change, stage_pairs};
pub use run_log::{Invocation, LogDamage, LoggedPlan, LoggedStage, LoggedVariant, SearchRound};
pub use run_process::Liveness;
pub use spending::gather_cost;
pub use stage_rows::{Series, StageRow, stage_metrics};
pub use uses::{KeyUse, KeyUses, key_uses};
