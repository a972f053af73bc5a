//! Executes a run from its request to its summary.

use super::costs::Costs;
use super::dispatch::{Cached, Dispatch, Loop};
use super::machine::Machine;
use super::outcome::{Report, RunError, RunSummary, StageEnd};
use super::recorder::Recorder;
use super::request::RunRequest;
use super::signals::StopSignals;
use crate::exec::Executor;
use crate::plan::{PlannedStage, Scheduler};
use crate::run_update::RunUpdate;
use crate::stage::RunStatus;
use crate::workspace::{RUN_ENDED, Workspace, fault_point};
use std::path::Path;

/// Runs the loop over the stages of `request`.
async fn dispatch(
    request: &RunRequest,
    workspace: &Workspace,
    runs: &Path,
    executor: &mut dyn Executor,
    display: &mut dyn FnMut(&RunUpdate),
    recorder: &mut Recorder,
    signals: &mut StopSignals,
) -> Result<Report, RunError> {
    let plan = &request.plan;
    let cached = Cached::look(plan, workspace, &request.forced)?;
    let will_run = !cached.is_everything();
    let costs = Costs::read(runs);
    let expected_ms = if will_run { costs.expected_ms(plan) } else { vec![0; plan.stages.len()] };
    let machine = Machine::find(plan, request.jobs, will_run);
    let scheduler = Scheduler::new(
        &plan.stages.iter().map(PlannedStage::before).collect::<Vec<_>>(),
        &expected_ms,
        plan.stages.iter().map(|stage| machine.need(stage)).collect(),
        machine.capacity.clone(),
    );
    let dispatch = Dispatch {
        plan,
        workspace,
        executor,
        display,
        recorder,
        costs,
        expected_ms,
        fail_fast: request.fail_fast,
        forced: request.forced.clone(),
        resumes: request.invocation.resumes.is_some(),
    };
    Loop::new(dispatch, machine, scheduler, cached).run(signals).await
}

/// Runs `request` with workers of `executor`. `display` receives all updates.
pub async fn run(
    request: &RunRequest,
    workspace: &Workspace,
    runs: &Path,
    executor: &mut dyn Executor,
    display: &mut dyn FnMut(&RunUpdate),
) -> Result<RunSummary, RunError> {
    let mut signals =
        StopSignals::listen().map_err(|source| RunError::Io { what: "cannot listen for signals", source })?;
    let plan = &request.plan;
    fault_point("run-before-plan");
    // From here on `cache gc` keeps the results that this run needs.
    let lock = workspace.lock_for_planning()?;
    let mut recorder = Recorder::begin(request, runs)?;
    drop(lock);
    fault_point("run-planned");
    let report = dispatch(request, workspace, runs, executor, display, &mut recorder, &mut signals).await;
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            recorder.end(RunStatus::Failed).await;
            return Err(error);
        }
    };
    let mut ends = report.ends;
    let ends: Vec<StageEnd> =
        (0..plan.stages.len()).map(|stage| ends.remove(&stage).unwrap_or(StageEnd::Skipped)).collect();
    let failed = ends.iter().any(|end| matches!(end, StageEnd::Failed(_)));
    recorder
        .end(if report.interrupted {
            RunStatus::Interrupted
        } else if failed {
            RunStatus::Failed
        } else {
            RunStatus::Ok
        })
        .await;
    fault_point(RUN_ENDED);
    let run = recorder.run().to_owned();
    let (unrecorded, alive) = recorder.into_end();
    Ok(RunSummary { run, ends, interrupted: report.interrupted, unrecorded, _alive: alive })
}
