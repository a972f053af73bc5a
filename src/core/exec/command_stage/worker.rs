//! The worker of a `command` stage.

use super::supervision::{End, supervise};
use crate::digest::ContentChanged;
use crate::energy::EnergyMeter;
use crate::event::{EventKind, Failure, FailureClass, Measurement, PeakMemory, Started};
use crate::exec::exit;
use crate::program::{Program, ProgramEnd};
use crate::recipe::spec::{Argument, CommandStageSpec, Work};
use crate::recipe::{CommandWords, ProgramRun};
use crate::workspace::{Attempt, DeviceChoice, Ending, Meters, PlannedInputs, WorkspaceError, supervisor};
use nix::sys::resource::{UsageWho, getrusage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The subcommand with which `orchestrate` is the worker of a `command` stage.
pub const RUN_COMMAND_STAGE: &str = "run-command-stage";
/// The file in which a program may leave the stage's results, as an object from names to numbers.
pub const METRICS: &str = "metrics.json";
/// The file with the parameters, beside the output directory.
pub(super) const PARAMETERS: &str = "parameters.json";

/// Runs the stage of the attempt directory `dir` to its end and returns its exit code ([`exit`]).
pub fn run_command_stage(dir: &Path) -> u8 {
    let ending = run(dir).unwrap_or_else(|error| {
        report(&format!("error: {error}"));
        Ending::Failed
    });
    if let Err(error) = ending.record(dir) {
        report(&format!("error: {error}"));
    }
    exit::code(ending)
}

/// Returns the peak memory of the largest process of the program that has ended.
pub(super) fn peak_memory() -> Option<PeakMemory> {
    let ended = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let resident_bytes = u64::try_from(ended.max_rss()).ok()? * 1024;
    (resident_bytes > 0).then_some(PeakMemory { resident_bytes, gpu_bytes: None })
}

#[expect(clippy::print_stderr, reason = "a worker's stderr is its log")]
pub(super) fn report(message: &str) {
    eprintln!("{message}");
}

pub(super) fn run(dir: &Path) -> Result<Ending, WorkspaceError> {
    let Some((mut attempt, lease)) = Attempt::begin(dir)? else { return Ok(Ending::LeaseHeld) };
    // A program that outlives this worker keeps the lease, so that no other worker starts beside it.
    lease.share_with_children()?;
    let failure = match work(&mut attempt) {
        Ok(Some(results)) => {
            attempt.append(&EventKind::Finished(results))?;
            match attempt.commit(&lease) {
                Ok(_) => return Ok(Ending::Committed),
                Err(error) => failure_of(&error),
            }
        }
        Ok(None) => {
            attempt.append(&EventKind::Stopped { step: 0 })?;
            return Ok(Ending::Stopped);
        }
        Err(failure) => failure,
    };
    attempt.append(&EventKind::Failed(failure))?;
    Ok(Ending::Failed)
}

pub(super) fn failure_of(error: &WorkspaceError) -> Failure {
    Failure { class: FailureClass::Io, message: error.to_string(), hint: error.hint() }
}

pub(super) fn input(message: String, hint: &str) -> Failure {
    Failure { class: FailureClass::Input, message, hint: Some(hint.to_owned()) }
}

/// Runs the program and returns its measurements; `None` when it was stopped.
pub(super) fn work(attempt: &mut Attempt) -> Result<Option<BTreeMap<String, Measurement>>, Failure> {
    let assignment = attempt.assignment().clone();
    let (Work::Command(spec), Some(run)) = (&assignment.spec.work, &assignment.program) else {
        let kind = assignment.spec.work.kind();
        return Err(input(format!("internal error: a stage of the kind `{kind}` has no program"), "report this"));
    };
    let seen = |error: WorkspaceError| failure_of(&error);
    let resumes = run.resume && attempt.resume_dir().is_dir();
    attempt
        .append(&EventKind::Started(Started {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            device: "none".to_owned(),
            libtorch: "none".to_owned(),
            threads: 0,
            instructions: None,
            bfloat16_products: None,
            gpu: None,
            deterministic: None,
            float32_products: None,
            resumed_from_step: None,
            total_steps: 0,
        }))
        .map_err(seen)?;
    let changed = |changed: ContentChanged| input(changed.to_string(), changed.hint());
    let inputs = PlannedInputs::check(&assignment.inputs, &attempt.digests_file()).map_err(changed)?;
    let energy = match assignment.runtime.device {
        // a processor's energy counter wraps around more often than a program is polled
        DeviceChoice::Cpu => None,
        DeviceChoice::Auto => EnergyMeter::of_gpu(0),
        DeviceChoice::Cuda(index) => EnergyMeter::of_gpu(index),
    };
    attempt.measure(Meters { energy, peak_memory: Some(Box::new(peak_memory)) });
    let places = Places::make(attempt, run).map_err(seen)?;
    let (mut command, shown) = command(attempt, spec, run, &places)?;
    let how = if resumes { "going on with" } else { "running" };
    attempt.append(&EventKind::Phase(format!("{how} {shown}"))).map_err(seen)?;
    let program = command.get_program().to_string_lossy().into_owned();
    match supervise(&mut command, run.timeout_s, supervisor()) {
        Ok(End::Finished) => {}
        Ok(End::Stopped) => return Ok(None),
        Ok(End::Failed(end)) => {
            let message = format!("the program `{program}` {end}");
            let class = match end {
                ProgramEnd::Exited(_) => FailureClass::Program,
                ProgramEnd::Killed(_) => FailureClass::Crash,
            };
            return Err(Failure { class, message, hint: Some(LOG_HINT.to_owned()) });
        }
        Ok(End::TimedOut(seconds)) => {
            let message = format!("the program `{program}` did not end within {seconds} s (`timeout_s`)");
            let hint = "raise `timeout_s`, which changes no cache key, and run the recipe again".to_owned();
            return Err(Failure { class: FailureClass::Timeout, message, hint: Some(hint) });
        }
        Err(error) => {
            let hint = "the first word of `command` is a program in `PATH`, or a path relative to `working_directory`";
            return Err(input(format!("the program `{program}` cannot be started: {error}"), hint));
        }
    }
    inputs.unchanged().map_err(changed)?;
    super::outputs::check(&places.output, &spec.outputs)?;
    super::outputs::metrics(&places.output).map(Some)
}

pub(super) const LOG_HINT: &str = "what it printed is in the stage's log; the end of it is below";

/// The paths that the program gets.
pub(super) struct Places {
    output: PathBuf,
    parameters: PathBuf,
    resume: Option<PathBuf>,
}

impl Places {
    /// Creates an empty output directory, and the resume directory where the recipe wants one; keeps its content.
    fn make(attempt: &mut Attempt, run: &ProgramRun) -> Result<Self, WorkspaceError> {
        let output = attempt.new_out_dir()?;
        let resume = attempt.resume_dir();
        let resume = if run.resume {
            fs_err::create_dir_all(&resume)?;
            Some(resume)
        } else {
            None
        };
        Ok(Self { output, parameters: attempt.dir().join(PARAMETERS), resume })
    }
}

/// Returns the command to start, and its text for display.
pub(super) fn command(
    attempt: &Attempt,
    spec: &CommandStageSpec,
    run: &ProgramRun,
    places: &Places,
) -> Result<(Command, String), Failure> {
    let assignment = attempt.assignment();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (output, parameters_file) = (text(&places.output), text(&places.parameters));
    let resume = places.resume.as_deref().map(text);
    let parents: Vec<String> = assignment.parents.iter().map(|parent| text(parent)).collect();
    let model = match &assignment.spec.model {
        None => None,
        Some(model) => Some(assignment.inputs.get(&model.files).map(|path| text(path)).ok_or_else(|| {
            input("the assignment does not say where the model is".to_owned(), "run `orchestrate run` to plan again")
        })?),
    };
    let words = CommandWords {
        output: &output,
        parent: parents.first().map(String::as_str),
        parents: &parents,
        parameters: &spec.parameters,
        parameters_file: &parameters_file,
        model: model.as_deref(),
        seed: assignment.spec.seed,
        resume: resume.as_deref(),
    };
    let filled_in = spec.command.iter().map(|word| match word {
        Argument::Text(template) => words.fill_in(template).map(Argument::Text),
        file @ Argument::File(_) => Ok(file.clone()),
    });
    let filled_in: Vec<Argument> = filled_in.collect::<Result<_, _>>().map_err(|reason| {
        input(format!("a word of `command` cannot be filled in: {reason}"), "see the stage's recipe")
    })?;
    let place = |digest: &_| assignment.inputs.get(digest).cloned();
    let variable = |name: &str| std::env::var(name).ok();
    let program = Program::new(&filled_in, &spec.files, &spec.env, &place, &variable)
        .map_err(|error| input(error.to_string(), error.hint()))?;
    let json = serde_json::to_vec_pretty(&spec.parameters).expect("JSON values serialize");
    fs_err::write(&places.parameters, json).map_err(|error| failure_of(&error.into()))?;
    let mut command = program.command();
    let named = CommandWords::named(spec.command.iter().filter_map(|word| match word {
        Argument::Text(template) => Some(template.as_str()),
        Argument::File(_) => None,
    }));
    command.current_dir(&run.directory).stdin(Stdio::null()).envs(variables(&words, &named));
    let shown: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let shown = shown.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    Ok((command, shown))
}

/// Returns the values of the templates as environment variables.
pub(super) fn variables(words: &CommandWords<'_>, named: &BTreeSet<String>) -> Vec<(&'static str, String)> {
    let mut variables =
        vec![("STAGE_OUTPUT", words.output.to_owned()), ("STAGE_PARAMETERS", words.parameters_file.to_owned())];
    if let Some(parent) = words.parent {
        variables.push(("STAGE_PARENT", parent.to_owned()));
        variables.push(("STAGE_PARENTS", words.parents.join(":")));
    }
    variables.extend(words.model.map(|model| ("STAGE_MODEL", model.to_owned())));
    if named.contains("seed") {
        variables.push(("STAGE_SEED", words.seed.to_string()));
    }
    variables.extend(words.resume.map(|resume| ("STAGE_RESUME", resume.to_owned())));
    variables
}
