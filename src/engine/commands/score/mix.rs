//! The reward mix of a score request.

use super::{calibrate, judges, probe, texts};
use crate::commands::Answers;
use crate::device;
use crate::error::{StageError, StageResult};
use crate::stages::{judge_access, load_reward_mix};
use orchestrate_core::exec::{ScoreRequest, ScoreTask};
use orchestrate_core::recipe::spec::RewardSpec;
use orchestrate_core::rewards::{RewardMix, StopCheck};
use orchestrate_core::workspace::Assignment;
use std::collections::BTreeMap;

/// Answers `request` on stdout.
///
/// # Errors
/// Returns an error for a line, an encoder or a judge that cannot be used.
pub fn run(request: &ScoreRequest) -> StageResult<()> {
    let mut answers = Answers::begin();
    if let Some(threads) = request.assignment.runtime.threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    }
    match &request.task {
        ScoreTask::Texts { input, explain, credit, repeat } => {
            let asked = texts::Asked { explain: *explain, credit: *credit, repeat: *repeat };
            texts::run(request, input, asked, &mut answers)
        }
        ScoreTask::Calibrate { limit } => calibrate::run(request, *limit, &mut answers),
        ScoreTask::Probe { limit } => probe::run(request, *limit, &mut answers),
        ScoreTask::Judges { input, limit, repeats } => {
            judges::run(request, input.as_ref(), *limit, *repeats, &mut answers)
        }
    }
}

/// Returns the rewards of the stage.
pub(super) fn rewards(assignment: &Assignment) -> StageResult<BTreeMap<String, RewardSpec>> {
    let work = &assignment.spec.work;
    let none = || StageError::input(format!("a stage of the kind `{}` has no rewards", work.kind()));
    work.rewards().cloned().ok_or_else(none)
}

/// A reward mix with its temporary files. Each request to the mix has its own budget for judges.
pub(super) struct Mix {
    pub(super) reward_mix: RewardMix,
    /// Directory of the judges' expenses, removed with this value.
    _ledgers: tempfile::TempDir,
}

impl Mix {
    pub(super) fn load(request: &ScoreRequest, rewards: &BTreeMap<String, RewardSpec>) -> StageResult<Self> {
        let assignment = &request.assignment;
        let device = device::choose(&assignment.runtime.device)?;
        let ledgers = tempfile::tempdir()?;
        let never = StopCheck::never();
        let judges = judge_access(assignment, &request.judge_cache, ledgers.path(), &never);
        let reward_mix = load_reward_mix(assignment, rewards, device, judges)?;
        Ok(Self { reward_mix, _ledgers: ledgers })
    }

    /// Prints the mix's warnings on stderr.
    pub(super) fn warn(&mut self) {
        tell(self.reward_mix.warnings());
    }
}

/// Prints warnings on stderr.
pub(super) fn tell(warnings: Vec<String>) {
    for warning in warnings {
        #[expect(clippy::print_stderr, reason = "the worker's stderr is its log")]
        {
            eprintln!("warning: {warning}");
        }
    }
}
