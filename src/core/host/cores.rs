//! Load of the processor cores.

use procfs::{CpuTime, CurrentSI as _, KernelStats};
use std::time::Duration;

/// The duration of the observation.
const LOOK: Duration = Duration::from_millis(60);

/// Whether other processes keep a core busy for more than half of a short observation.
pub fn are_busy() -> bool {
    let before = ticks();
    std::thread::sleep(LOOK);
    let (Some(before), Some(after)) = (before, ticks()) else { return false };
    let (busy, idle) = (after.busy.saturating_sub(before.busy), after.idle.saturating_sub(before.idle));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    2 * busy * cores > busy + idle // more than half a core
}

/// The time that all cores together have spent, in clock ticks.
#[derive(Debug, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    idle: u64,
}

fn ticks() -> Option<Ticks> {
    Some(sum(&KernelStats::current().ok()?.total))
}

fn sum(time: &CpuTime) -> Ticks {
    let more = [time.irq, time.softirq, time.steal].into_iter().flatten().sum::<u64>();
    Ticks { busy: time.user + time.nice + time.system + more, idle: time.idle + time.iowait.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_by() {
        let before = ticks().expect("Linux tells");
        std::thread::sleep(Duration::from_millis(50));
        let after = ticks().expect("Linux tells");
        assert!(after.busy + after.idle > before.busy + before.idle);
    }
}
