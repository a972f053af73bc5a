//! The frame around the loop of every stage: the attempt, its events, and its end.

use crate::cuda;
use crate::data;
use crate::device;
use crate::error::{StageError, StageResult};
use crate::libraries::Libraries;
use crate::products::{self, ProductCounter};
use crate::rendering;
use orchestrate_core::digest::ContentChanged;
use orchestrate_core::event::{EventKind, Failure, FailureClass, Measurement, Started, StepPart};
use orchestrate_core::exec::DataReport;
use orchestrate_core::recipe::spec::Work;
use orchestrate_core::workspace::{Attempt, Ending, PlannedInputs, WorkspaceError, fault_within_step};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tch::Device;

/// The way a stage's loop ended.
pub(super) enum Outcome {
    /// The output directory is complete. The measurements are the stage's results.
    Finished(BTreeMap<String, Measurement>),
    /// The stage stopped with a resume point after this step on disk.
    Stopped {
        /// Number of steps done; 0 without a resume point.
        step: u64,
    },
}

/// The state that every stage's loop uses.
pub(super) struct Context<'a> {
    pub(super) attempt: &'a mut Attempt,
    pub(super) device: Device,
    pub(super) supervisor: super::supervisor::Supervisor,
    pub(super) inputs: PlannedInputs,
    /// Time of the last event about a part of a step.
    part_written: Instant,
    /// Step of the newest resume point on disk.
    pub(super) resume_point: Option<u64>,
}

/// Minimum interval between events about parts of a step.
pub(super) const WRITE_PARTS_EVERY: Duration = Duration::from_secs(1);

impl Context<'_> {
    pub(super) fn emit(&mut self, event: &EventKind) -> StageResult<()> {
        self.attempt.append(event).map_err(cache_error)
    }

    pub(super) fn phase(&mut self, what: &str) -> StageResult<()> {
        self.emit(&EventKind::Phase(what.to_owned()))
    }

    /// Records the progress within a step, and returns whether the stage should stop and discard the step. It is called
    /// between two parts of a step (micro-batches, tokens of a rollout). Events are at least [`WRITE_PARTS_EVERY`]
    /// apart.
    pub(super) fn should_drop_step(&mut self, part: StepPart) -> StageResult<bool> {
        fault_within_step(part.step);
        if self.part_written.elapsed() >= WRITE_PARTS_EVERY {
            self.part_written = Instant::now();
            self.emit(&EventKind::StepPart(part))?;
        }
        Ok(self.supervisor.should_stop())
    }

    /// Runs `work` within a step. `work` receives a function of the fraction that is done, which returns whether to
    /// continue. `part` converts the fraction into the part of the step.
    pub(super) fn until_stopped<T>(
        &mut self,
        part: impl Fn(f64) -> StepPart,
        work: impl FnOnce(&mut dyn FnMut(f64) -> bool) -> T,
    ) -> StageResult<T> {
        let mut written = Ok(());
        let result = work(&mut |share| match self.should_drop_step(part(share)) {
            Ok(drops) => !drops,
            Err(error) => {
                written = Err(error);
                false
            }
        });
        written.map(|()| result)
    }

    /// Writes a resume point after `step`; `write` fills its directory.
    pub(super) fn write_resume_point<E: std::fmt::Display>(
        &mut self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> StageResult<()> {
        let started = Instant::now();
        self.attempt.save_resume_point(step, write).map_err(cache_error)?;
        self.supervisor.resume_point_written(started);
        self.resume_point = Some(step);
        self.emit(&EventKind::ResumePoint { step })
    }

    /// Ends a stage that was requested to stop within a step. The step is discarded and repeated on resume. If there is
    /// no resume point after `step`, the last complete one, `write` fills it.
    pub(super) fn stop_within_step<E: std::fmt::Display>(
        &mut self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> StageResult<Outcome> {
        if step > 0 && self.resume_point != Some(step) {
            self.write_resume_point(step, write)?;
        }
        Ok(Outcome::Stopped { step })
    }

    /// Reports the data that the stage is about to read, and rejects implausible data.
    pub(super) fn preflight(&mut self, reports: &[DataReport]) -> StageResult<()> {
        for report in reports {
            let trained = report.trained_share().map(|share| format!(", {:.1}% trained", 100.0 * share));
            let dropped = (report.decontaminated_rows > 0)
                .then(|| format!(", {} dropped by `decontaminate`", report.decontaminated_rows));
            let DataReport { rows, left_out, tokens, tokens_max, duplicate_rows, files, .. } = report;
            let first = files.first().and_then(|file| Path::new(file).file_name()).unwrap_or_default();
            self.phase(&format!(
                "{}: {rows} rows, {tokens} tokens{}, longest {tokens_max}, {duplicate_rows} duplicates{}",
                first.display(),
                trained.unwrap_or_default(),
                dropped.unwrap_or_default(),
            ))?;
            if *left_out > 0 {
                self.emit(&EventKind::Warning(format!(
                    "{left_out} rows answer questions that the recipe measures, and are left out"
                )))?;
            }
            if let Some(share) = report.eos_trained.filter(|&share| share < 1.0) {
                self.emit(&EventKind::Warning(format!(
                    "{:.1}% of the rows do not train the token that ends a turn: `orchestrate check --show-data`",
                    100.0 * (1.0 - share),
                )))?;
            }
        }
        data::check(reports)
    }

    /// Records the start of a stage, after it has read its inputs and before its first step. Checks that the inputs are
    /// still those of the plan, and writes the event with the place and the length of the stage.
    pub(super) fn started(&mut self, resumed_from_step: Option<u64>, total_steps: u64) -> StageResult<()> {
        self.inputs.unchanged().map_err(changed)?;
        self.resume_point = resumed_from_step;
        let on_cpu = self.device == Device::Cpu;
        self.emit(&EventKind::Started(Started {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            device: device::name(self.device),
            gpu: cuda::name(self.device),
            deterministic: (!on_cpu).then(|| self.attempt.assignment().runtime.deterministic),
            libtorch: Libraries::of_this_process().to_string(),
            threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
            instructions: on_cpu.then(orchestrate_core::cpu::instructions),
            bfloat16_products: on_cpu.then(products::bfloat16_products),
            float32_products: on_cpu.then(orchestrate_core::cpu::float32_products),
            resumed_from_step,
            total_steps,
        }))
    }
}

/// Environment variable that makes a worker count the bfloat16 products that libtorch computes on the CPU. The worker
/// writes the count to its log.
pub(super) const COUNT_PRODUCTS: &str = "ORCHESTRATE_COUNT_PRODUCTS";

#[expect(clippy::print_stderr, reason = "the worker's stderr is its log")]
pub(super) fn log(line: &str) {
    eprintln!("{line}");
}

/// Runs the stage of the attempt directory `dir` to its end. Every failure is recorded in the attempt's events.
///
/// # Errors
/// Returns an error for an attempt directory that cannot be read or written.
pub fn run(dir: &Path) -> StageResult<Ending> {
    let Some((mut attempt, lease)) = Attempt::begin(dir).map_err(cache_error)? else { return Ok(Ending::LeaseHeld) };
    let own = dir.to_owned();
    rendering::on_too_much_memory(move |message| {
        let failure = Failure::from(StageError::input(message).hinted(rendering::HINT));
        // errors are ignored, since the process ends in any case
        let _ = Attempt::open(&own).and_then(|mut attempt| attempt.append(&EventKind::Failed(failure)));
        let _ = Ending::Failed.record(&own);
    });
    let counter = std::env::var_os(COUNT_PRODUCTS).map(|_| ProductCounter::start());
    let worked = work(&mut attempt);
    if let Some(counter) = counter {
        log(&format!("bfloat16 products on the CPU: {}", counter.count()));
    }
    match worked {
        Ok(Outcome::Finished(results)) => {
            attempt.append(&EventKind::Finished(results)).map_err(cache_error)?;
            match attempt.commit(&lease) {
                Ok(_) => Ok(Ending::Committed),
                Err(error) => fail(&mut attempt, cache_error(error)),
            }
        }
        Ok(Outcome::Stopped { step }) => {
            attempt.append(&EventKind::Stopped { step }).map_err(cache_error)?;
            Ok(Ending::Stopped)
        }
        Err(error) => fail(&mut attempt, error),
    }
}

pub(super) fn fail(attempt: &mut Attempt, error: StageError) -> StageResult<Ending> {
    attempt.append(&EventKind::Failed(Failure::from(error))).map_err(cache_error)?;
    Ok(Ending::Failed)
}

pub(super) fn work(attempt: &mut Attempt) -> StageResult<Outcome> {
    let mut assignment = attempt.assignment().clone();
    // first: libtorch's CUDA libraries must be loaded before libtorch is used
    let device = device::choose(&assignment.runtime.device)?;
    if let Some(threads) = assignment.runtime.threads {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    }
    products::choose(assignment.runtime.bfloat16_products)?;
    attempt.measure(device::meters(device));
    let supervisor = super::supervisor::Supervisor::new(&assignment.runtime)?;
    let inputs = PlannedInputs::check(&assignment.inputs, &attempt.digests_file()).map_err(changed)?;
    assignment.inputs = assignment.data_files(); // results of other stages cannot change
    let mut context = Context { attempt, device, supervisor, inputs, part_written: Instant::now(), resume_point: None };
    if let Some(warning) = device::warning(&assignment.runtime.device) {
        context.emit(&EventKind::Warning(warning))?;
    }
    let outcome = match &assignment.spec.work {
        Work::Cpt(spec) => super::cpt::run(&mut context, &assignment, spec),
        Work::Sft(spec) => super::sft::run(&mut context, &assignment, spec),
        Work::Grpo(spec) => super::grpo::run(&mut context, &assignment, spec),
        Work::Eval(spec) => super::eval::run(&mut context, &assignment, spec),
        Work::Generate(spec) => super::generate::run(&mut context, &assignment, spec),
        Work::Arena(spec) => super::arena::run(&mut context, &assignment, spec),
        Work::Command(_) => Err(StageError::no_worker_for(&assignment.stage)),
    }?;
    // a reward's program may read its files at any time
    context.inputs.unchanged_of(assignment.spec.work.reward_files()).map_err(changed)?;
    Ok(outcome)
}

#[expect(clippy::needless_pass_by_value, reason = "it is the function that `map_err` is given")]
pub(super) fn changed(changed: ContentChanged) -> StageError {
    StageError::input(changed.to_string()).hinted(changed.hint())
}

#[expect(clippy::needless_pass_by_value, reason = "it is the function that `map_err` is given")]
pub(super) fn cache_error(error: WorkspaceError) -> StageError {
    let hint = error.hint();
    StageError { class: FailureClass::Io, message: error.to_string(), hint }
}
