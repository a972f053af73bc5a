//! Starts of workers.

use super::run_loop::{Loop, WORKER_LOG};
use super::running::{Running, TimeLimit};
use crate::event::EventKind;
use crate::exec::{ExecError, Left, Submission, WorkerProgram};
use crate::plan::Start;
use crate::run::RunError;
use crate::run::assignment::assignment;
use crate::run_update::RunUpdate;
use crate::workspace::{DeviceChoice, EventReader, Job, WorkspaceError, fault_point};
use std::path::PathBuf;

/// A stage that is ready to be submitted.
struct Prepared {
    stage: usize,
    submission: Submission,
    reader: EventReader,
    /// The number of events that earlier workers wrote.
    seen: usize,
    /// Bytes of the log that earlier workers wrote.
    log_start: u64,
}

impl Loop<'_> {
    /// Starts workers for these stages. Follows jobs that already run, and waits for stages that another process works
    /// on.
    pub(super) async fn start(&mut self, starts: &[Start]) -> Result<(), RunError> {
        let key = |start: &Start| &self.dispatch.plan.stages[start.stage].key;
        let dirs: Vec<PathBuf> = starts.iter().map(|start| self.dispatch.workspace.attempt_dir(key(start))).collect();
        let left = self.dispatch.executor.find(&dirs.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        let mut prepared = Vec::new();
        for (start, left) in starts.iter().zip(left) {
            match left {
                Some(Left::Job(job)) => self.follow_job(start.stage, job).await?,
                Some(Left::Orphans(_)) | None => prepared.extend(self.prepare(start).await?),
            }
        }
        let batch: Vec<Submission> = prepared.iter().map(|prepared| prepared.submission.clone()).collect();
        let submitted = self.dispatch.executor.submit(&batch);
        fault_point("worker-started");
        let mut failed = Ok(());
        for (Prepared { stage, submission, reader, seen, log_start }, submitted) in prepared.into_iter().zip(submitted)
        {
            match submitted {
                Ok(()) => {
                    let running = Running::new(submission.job, &submission.dir, reader, seen, log_start);
                    self.started(stage, running).await;
                }
                // The process that has just committed the stage moved the directory away.
                Err(ExecError::AttemptGone) => self.wait_instead(stage, "another process").await,
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        Ok(failed?)
    }

    /// Prepares the attempt for a worker. Returns `None` if another process works on it.
    async fn prepare(&mut self, &Start { stage, gpu }: &Start) -> Result<Option<Prepared>, RunError> {
        let planned = &self.dispatch.plan.stages[stage];
        if let Some(owner) = self.dispatch.workspace.holder(&planned.key) {
            self.wait_for(stage, &owner.to_string()).await;
            return Ok(None);
        }
        let tries = self.tries.entry(stage).or_default();
        // A second try continues from the first one's resume point.
        if tries.begun == 0 && self.dispatch.forced.contains(&stage) {
            self.dispatch.workspace.begin_again(&planned.key, self.dispatch.resumes)?;
        }
        tries.begun += 1;
        let mut assignment = assignment(planned, self.dispatch.plan, self.dispatch.workspace);
        assignment.runtime.gradient_checkpointing |= tries.checkpointing;
        assignment.runtime.threads = self.machine.threads(planned);
        let environment = gpu.map(|slot| self.machine.environment(slot)).unwrap_or_default();
        if gpu.is_some() && assignment.runtime.device != DeviceChoice::Auto {
            assignment.runtime.device = DeviceChoice::Cuda(0); // the only one that the worker sees
        }
        let attempt = self.dispatch.workspace.prepare(&assignment, &planned.key_json())?;
        let mut reader = EventReader::new(attempt.dir());
        // Events of an earlier attempt were recorded with that attempt.
        let seen = match reader.poll() {
            Err(error @ WorkspaceError::Malformed { .. }) => {
                let aside = match self.dispatch.workspace.set_attempt_aside(&planned.key) {
                    Err(WorkspaceError::Leased { owner }) => {
                        self.wait_instead(stage, &owner.to_string()).await;
                        return Ok(None);
                    }
                    moved => moved?.display().to_string(),
                };
                self.dispatch.note(stage, format!("{error}: moved to {aside}, and started again")).await;
                self.dispatch.workspace.prepare(&assignment, &planned.key_json())?;
                reader = EventReader::new(attempt.dir());
                0
            }
            polled => polled?.len(),
        };
        let program = if planned.program.is_some() { WorkerProgram::CommandStage } else { WorkerProgram::Engine };
        let dir = attempt.dir().to_owned();
        let log_start = dir.join(WORKER_LOG).metadata().map_or(0, |metadata| metadata.len());
        let submission = Submission { job: Job::new(&planned.key), dir, program, environment };
        Ok(Some(Prepared { stage, submission, reader, seen, log_start }))
    }

    /// Follows a job that an earlier dispatcher submitted, from its current events on.
    async fn follow_job(&mut self, stage: usize, job: Job) -> Result<(), RunError> {
        let dir = self.dispatch.workspace.attempt_dir(&self.dispatch.plan.stages[stage].key);
        let mut reader = EventReader::new(&dir);
        let events = reader.poll()?;
        let begun = events.iter().rposition(|event| matches!(event.kind, EventKind::Started(_))).unwrap_or(0);
        let mut running = Running::new(job, &dir, reader, events.len(), 0);
        for event in &events[begun..] {
            running.apply(event);
        }
        running.resumed = true; // its seconds here are not those of the whole stage
        self.tries.entry(stage).or_default().begun += 1;
        self.dispatch.note(stage, "following the worker that an earlier run started".to_owned()).await;
        self.started(stage, running).await;
        Ok(())
    }

    /// Records that a worker has started on the stage.
    async fn started(&mut self, stage: usize, mut running: Running) {
        self.dispatch.tell(RunUpdate::Started { stage }).await;
        let planned = &self.dispatch.plan.stages[stage];
        let timeout_s = planned.runtime.timeout_s(&planned.name, planned.spec.work.kind());
        running.limit = timeout_s.map(|seconds| TimeLimit::new(seconds, planned.runtime.stop_grace_s));
        self.running.insert(stage, running);
    }

    /// Waits for the process `owner`, which was faster. The attempt does not count as a try.
    async fn wait_instead(&mut self, stage: usize, owner: &str) {
        self.tries.entry(stage).or_default().begun -= 1;
        self.wait_for(stage, owner).await;
    }
}
