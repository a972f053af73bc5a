//! The self-test from its device to its verdict.

use super::{parity, pipeline, project};
use crate::device;
use crate::error::{StageError, StageResult};
use orchestrate_core::workspace::DeviceChoice;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Prints a line for each check; true when all passed.
///
/// # Errors
/// A device that is not there, golden values or a temporary directory that cannot be read or written.
pub fn run(choice: &DeviceChoice, golden: &Path) -> StageResult<bool> {
    let device = device::choose(choice)?;
    let mut report = Report { passed: true };
    line(&format!("device {}, libtorch {}", device::name(device), crate::stages::LIBTORCH_VERSION))?;
    let scratch = Scratch::new()?;
    project::write(&scratch.0, golden, device)?;
    parity::run(&mut report, golden, &scratch.0, device)?;
    pipeline::run(&mut report, &scratch.0, device)?;
    line(if report.passed { "every check passed" } else { "a check FAILED" })?;
    Ok(report.passed)
}

/// What the checks found.
pub(super) struct Report {
    passed: bool,
}

impl Report {
    pub(super) fn check(&mut self, name: &str, ok: bool, found: &str) -> StageResult<()> {
        self.passed &= ok;
        line(&format!("{}  {name}: {found}", if ok { "ok  " } else { "FAIL" }))
    }
}

pub(super) fn line(text: &str) -> StageResult<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> StageResult<Self> {
        let dir = std::env::temp_dir().join(format!("orchestrate-self-test-{}", std::process::id()));
        fs_err::create_dir_all(&dir)
            .map_err(|e| StageError::input(e.to_string()).hinted("`TMPDIR` names another place"))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // what cannot be removed costs space, no more
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
