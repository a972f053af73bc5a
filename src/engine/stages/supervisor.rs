//! The times of resume points, and requests to stop.

use crate::error::StageResult;
use orchestrate_core::rewards::StopCheck;
use orchestrate_core::workspace::{Runtime, supervisor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A supervisor of a stage, which receives requests to stop and watches the clock.
pub(super) struct Supervisor {
    signalled: Arc<AtomicBool>,
    started_by: Option<u32>,
    resume_interval: Duration,
    last_resume_point: Instant,
    /// Duration of the last write of a resume point.
    last_write: Duration,
}

/// Minimum interval between resume points, as a multiple of the time to write one. Writing then takes less than 3% of
/// the time, for any size of the weights and speed of the disk.
const LEAST_INTERVAL_IN_WRITES: u32 = 40;
/// Maximum factor by which the recipe's interval is extended.
const MOST_STRETCH: u32 = 10;

impl Supervisor {
    /// Creates a supervisor. From now on SIGTERM, SIGINT and SIGUSR1 (Slurm's warning before a time limit) request the
    /// stage to stop.
    pub(super) fn new(runtime: &Runtime) -> StageResult<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGUSR1] {
            signal_hook::flag::register(signal, Arc::clone(&signalled))?;
        }
        Ok(Self {
            signalled,
            started_by: supervisor(),
            resume_interval: Duration::from_secs_f64(runtime.resume_interval_s.max(0.0)),
            last_resume_point: Instant::now(),
            last_write: Duration::ZERO,
        })
    }

    /// Returns whether the stage should write a resume point and end, because of a signal or since its supervising
    /// process is gone.
    pub(super) fn should_stop(&self) -> bool {
        should_stop(&self.signalled, self.started_by)
    }

    /// Returns a check for requests to stop, for code that waits for a server or a program.
    pub(super) fn stop_check(&self) -> StopCheck {
        let (signalled, started_by) = (Arc::clone(&self.signalled), self.started_by);
        StopCheck::new(move || should_stop(&signalled, started_by))
    }

    /// Returns whether the interval between resume points has passed.
    pub(super) fn resume_point_due(&self) -> bool {
        let for_slow_writes = self.last_write * LEAST_INTERVAL_IN_WRITES;
        let interval = for_slow_writes.clamp(self.resume_interval, self.resume_interval * MOST_STRETCH);
        self.last_resume_point.elapsed() >= interval
    }

    /// Records that a resume point, whose write began at `started`, is on disk. The interval starts again.
    pub(super) fn resume_point_written(&mut self, started: Instant) {
        self.last_write = started.elapsed();
        self.last_resume_point = Instant::now();
    }
}

fn should_stop(signalled: &AtomicBool, started_by: Option<u32>) -> bool {
    let orphaned = started_by.is_some_and(|supervisor| parent() != Some(supervisor));
    orphaned || signalled.load(Ordering::Relaxed)
}

fn parent() -> Option<u32> {
    rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_writes_push_resume_points_apart() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let mut supervisor = Supervisor {
            signalled: Arc::default(),
            started_by: None,
            resume_interval: Duration::from_mins(1),
            last_resume_point: ago(61),
            last_write: Duration::ZERO,
        };
        assert!(supervisor.resume_point_due());
        supervisor.resume_point_written(ago(10));
        supervisor.last_resume_point = ago(300);
        assert!(!supervisor.resume_point_due(), "300 s after a write of 10 s");
        supervisor.last_resume_point = ago(401);
        assert!(supervisor.resume_point_due());
        supervisor.resume_point_written(ago(100));
        supervisor.last_resume_point = ago(601);
        assert!(supervisor.resume_point_due(), "ten times the interval is the limit");
    }
}
