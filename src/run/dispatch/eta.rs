//! The estimated time left of a run.

use super::run_loop::Loop;
use crate::run_update::RunUpdate;
use chrono::Utc;
use std::time::{Duration, Instant};

/// How often the time left is estimated; each estimate simulates the whole schedule.
const ESTIMATE_EVERY: Duration = Duration::from_secs(2);

impl Loop<'_> {
    /// Reports the passing of time and, every [`ESTIMATE_EVERY`], the time left.
    pub(super) async fn show(&mut self) {
        let now = Instant::now();
        let (ended, stages) = self.scheduler.ended();
        if self.estimated_at.is_none_or(|at| now - at >= ESTIMATE_EVERY) {
            self.estimated_at = Some(now);
            let eta_s = self.eta_s();
            self.dispatch.tell(RunUpdate::Overall { ended, stages, eta_s }).await;
        }
        self.dispatch.tell(RunUpdate::Tick).await;
    }

    /// Returns the seconds until the whole run ends. It needs, for each unfinished stage, a measured kind or the
    /// stage's own progress.
    fn eta_s(&self) -> Option<f64> {
        let now = Utc::now();
        let mut left = self.dispatch.expected_ms.clone();
        for (stage, planned) in self.dispatch.plan.stages.iter().enumerate() {
            if self.scheduler.outcome(stage).is_some() {
                continue;
            }
            let known = self.dispatch.costs.knows(planned);
            if let Some(running) = self.running.get(&stage) {
                let spent = u64::try_from((now - running.started_at).num_milliseconds()).unwrap_or(0);
                let estimate = running.pace.eta_s(now).map(|s| Duration::from_secs_f64(s).as_millis());
                left[stage] = match estimate.map(u64::try_from) {
                    Some(Ok(estimate)) => estimate,
                    _ if known => left[stage].saturating_sub(spent),
                    _ => return None,
                };
            } else if !known {
                return None;
            }
        }
        Some(Duration::from_millis(self.scheduler.time_left(&left)).as_secs_f64())
    }
}
