//! When to write a resume point, and when to stop.

use crate::error::StageResult;
use orchestrate::cache::Runtime;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Listens for requests to stop and watches the clock.
pub(super) struct Supervisor {
    signalled: Arc<AtomicBool>,
    started_by: Option<u32>,
    resume_interval: Duration,
    last_resume_point: Instant,
}

impl Supervisor {
    /// From now on SIGTERM, SIGINT and SIGUSR1 (Slurm's warning before a time limit) ask the stage to stop.
    pub(super) fn new(runtime: &Runtime) -> StageResult<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGUSR1] {
            signal_hook::flag::register(signal, Arc::clone(&signalled))?;
        }
        Ok(Self {
            signalled,
            started_by: runtime.supervisor_pid,
            resume_interval: Duration::from_secs_f64(runtime.resume_interval_s.max(0.0)),
            last_resume_point: Instant::now(),
        })
    }

    /// Whether the stage should leave a resume point and end: it was asked to, or who started it is gone.
    pub(super) fn should_stop(&self) -> bool {
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        let orphaned = self.started_by.is_some_and(|supervisor| parent != Some(supervisor));
        orphaned || self.signalled.load(Ordering::Relaxed)
    }

    /// Whether the interval has passed; if so, it starts again.
    pub(super) fn resume_point_due(&mut self) -> bool {
        let due = self.last_resume_point.elapsed() >= self.resume_interval;
        if due {
            self.last_resume_point = Instant::now();
        }
        due
    }
}
