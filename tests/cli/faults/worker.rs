//! The worker of these tests.

use orchestrate::digest::{ContentChanged, Digest};
use orchestrate::event::{EventKind, Failure, FailureClass, Started, Step};
use orchestrate::exec::exit;
use orchestrate::workspace::{Attempt, Ending, PlannedInputs, WorkspaceError, supervisor};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

const STEPS: u64 = 3;

/// The worker's entry point; does nothing in a normal run of the tests.
#[test]
#[expect(clippy::exit, reason = "a worker tells how it ended by its exit code")]
fn worker() {
    if let (Some(attempt), Some(project)) = (std::env::var_os("FAULTS_ATTEMPT"), std::env::var_os("FAULTS_PROJECT")) {
        let ending = run(Path::new(&attempt), Path::new(&project)).unwrap_or(Ending::Failed);
        let _ = ending.record(Path::new(&attempt));
        std::process::exit(exit::code(ending).into());
    }
}

fn run(dir: &Path, project: &Path) -> Result<Ending, WorkspaceError> {
    let Some((mut attempt, lease)) = Attempt::begin(dir)? else { return Ok(Ending::LeaseHeld) };
    let worked = work(&mut attempt, project);
    match worked.and_then(
        |ending| if ending == Ending::Committed { attempt.commit(&lease).map(|_| ending) } else { Ok(ending) },
    ) {
        Ok(ending) => Ok(ending),
        Err(error) => {
            let hint = error.hint();
            attempt.append(&EventKind::Failed(Failure {
                class: FailureClass::Io,
                message: error.to_string(),
                hint,
            }))?;
            Ok(Ending::Failed)
        }
    }
}

/// Computes a chain of digests over the parent's result. Another parent or a lost step would give another result.
fn work(attempt: &mut Attempt, project: &Path) -> Result<Ending, WorkspaceError> {
    let assignment = attempt.assignment().clone();
    let stage = &assignment.stage;
    let mut begun =
        fs_err::OpenOptions::new().create(true).append(true).open(project.join(format!("workers-{stage}")))?;
    writeln!(begun, "{}", std::process::id())?;
    let changed = |changed: ContentChanged| WorkspaceError::Content(changed.to_string());
    let inputs = PlannedInputs::check(&assignment.inputs, &attempt.digests_file()).map_err(changed)?;
    inputs.unchanged().map_err(changed)?;
    let resumed = attempt.latest_resume_point()?;
    let (done, mut state) = match &resumed {
        Some((step, dir)) => (*step, fs_err::read_to_string(dir.join("state"))?),
        None => (
            0,
            match assignment.parents.first() {
                Some(parent) => fs_err::read_to_string(parent.join("result"))?,
                None => assignment.key.to_string(),
            },
        ),
    };
    attempt.append(&EventKind::Started(Started {
        host: "test".to_owned(),
        pid: std::process::id(),
        device: "cpu".to_owned(),
        libtorch: "none".to_owned(),
        threads: 1,
        instructions: None,
        bfloat16_products: None,
        gpu: None,
        deterministic: None,
        float32_products: None,
        resumed_from_step: resumed.map(|(step, _)| step),
        total_steps: STEPS,
    }))?;
    // Tests with full disks set the size of a resume point.
    let ballast = fs_err::read_to_string(project.join("ballast-bytes")).map_or(0, |text| text.trim().parse().unwrap());
    for step in done + 1..=STEPS {
        state = Digest::of(format!("{state} {step}").as_bytes()).to_string();
        attempt.append(&EventKind::Step(Step { step, total_steps: STEPS, metrics: BTreeMap::new() }))?;
        attempt.save_resume_point(step, |dir| {
            fs_err::write(dir.join("ballast"), vec![0; ballast])?;
            fs_err::write(dir.join("state"), &state)
        })?;
        while project.join(format!("hold-{stage}")).exists() && !orphaned() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if orphaned() {
            attempt.append(&EventKind::Stopped { step })?;
            return Ok(Ending::Stopped);
        }
    }
    fs_err::write(attempt.out_dir()?.join("result"), &state)?;
    attempt.append(&EventKind::Finished(BTreeMap::new()))?;
    Ok(Ending::Committed)
}

/// Whether the worker is orphaned, as in the engine's supervisor.
fn orphaned() -> bool {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    supervisor().is_some_and(|supervisor| parent != Some(supervisor))
}
