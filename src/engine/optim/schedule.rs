//! Learning-rate schedules.

use orchestrate_core::recipe::spec::Schedule;
use std::f64::consts::PI;

/// Returns the factor of the peak learning rate at `step` (from 0) of `total_steps`, as transformers' `get_scheduler`
/// does. It rises linearly from 0 over `warmup_steps` and then has the schedule's shape. All but the constant one reach
/// 0 at `total_steps`.
pub fn lr_multiplier(schedule: Schedule, step: u64, warmup_steps: u64, total_steps: u64) -> f64 {
    if step < warmup_steps {
        return step as f64 / warmup_steps.max(1) as f64;
    }
    let progress = |start: u64| {
        let steps = total_steps.saturating_sub(start).max(1) as f64;
        (step.saturating_sub(start) as f64 / steps).min(1.0)
    };
    match schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => 1.0 - progress(warmup_steps),
        Schedule::Cosine => 0.5 * (1.0 + (PI * progress(warmup_steps)).cos()),
        Schedule::Wsd { decay_steps } => 1.0 - progress(total_steps.saturating_sub(decay_steps).max(warmup_steps)),
    }
}
