//! The self-test, from the choice of its device to its result.

use super::{kernels, parity, pipeline, project, widths};
use crate::error::{StageError, StageResult};
use crate::libraries::Libraries;
use crate::{cuda, device};
use orchestrate_core::workspace::DeviceChoice;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Device;

/// Runs the checks whose name contains `only`, all of them without it. Prints a line for each, and returns whether all
/// passed. A check that fails does not end the others, except those that need its result.
///
/// # Errors
/// Returns an error if the device cannot be used, if the golden values cannot be read, or if a temporary directory
/// cannot be written.
pub fn run(choice: &DeviceChoice, golden: &Path, only: Option<&str>) -> StageResult<bool> {
    let device = device::choose(choice)?;
    let mut report = Report { passed: true, only: only.map(str::to_owned), checked: 0 };
    line(&format!("device {}, libtorch {}", device::name(device), Libraries::of_this_process()))?;
    if device != Device::Cpu {
        line(&format!("attention: {:?}", cuda::attention_kernels(device)))?;
    }
    let mut scratch = Scratch::new()?;
    project::write(&scratch.dir, golden, device)?;
    parity::run(&mut report, golden, &scratch.dir, device)?;
    widths::run(&mut report, device)?;
    kernels::run(&mut report, device)?;
    pipeline::run(&mut report, &scratch.dir, device)?;
    if report.checked == 0 {
        return Err(StageError::input(format!("no check has a name with `{}`", only.unwrap_or_default())));
    }
    if !report.passed {
        scratch.is_kept = true;
        line(&format!("the stages' events and logs stay in {}", scratch.dir.display()))?;
    }
    line(if report.passed { "every check passed" } else { "a check FAILED" })?;
    Ok(report.passed)
}

/// The outcome of the checks so far.
pub(super) struct Report {
    passed: bool,
    only: Option<String>,
    checked: usize,
}

impl Report {
    /// Whether the check called `name` is asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Runs the check called `name` if it is asked for.
    pub(super) fn check(&mut self, name: &str, check: impl FnOnce() -> StageResult<(bool, String)>) -> StageResult<()> {
        if self.wants(name) {
            self.prove(name, check)?;
        }
        Ok(())
    }

    /// Runs a check, which returns whether it passed and what it found. Returns whether it passed. An error and a panic
    /// are failures; libtorch's exceptions are panics.
    pub(super) fn prove(
        &mut self,
        name: &str,
        check: impl FnOnce() -> StageResult<(bool, String)>,
    ) -> StageResult<bool> {
        let began = Instant::now();
        // what a check changes is not used after its panic
        let (passed, found) = match catch_unwind(AssertUnwindSafe(check)) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => (false, error.to_string()),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                (false, text.unwrap_or_else(|| "it panicked; see stderr".to_owned()))
            }
        };
        self.passed &= passed;
        self.checked += 1;
        let word = if passed { "ok  " } else { "FAIL" };
        line(&format!("{word} {:6.1} s  {name}: {found}", began.elapsed().as_secs_f64()))?;
        Ok(passed)
    }
}

pub(super) fn line(text: &str) -> StageResult<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// A temporary directory, removed with this value unless it is kept.
struct Scratch {
    dir: PathBuf,
    is_kept: bool,
}

impl Scratch {
    fn new() -> StageResult<Self> {
        let dir = std::env::temp_dir().join(format!("orchestrate-self-test-{}", std::process::id()));
        fs_err::create_dir_all(&dir)
            .map_err(|e| StageError::input(e.to_string()).hinted("`TMPDIR` names another place"))?;
        Ok(Self { dir, is_kept: false })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.is_kept {
            // a directory that cannot be removed costs space, no more
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
