//! Stop requests for code that waits for a server or a program.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The interval at which stop requests are checked.
pub(in crate::rewards) const HEARD_WITHIN: Duration = Duration::from_millis(100);

/// A check whether rating should stop.
#[derive(Clone)]
pub struct StopCheck(Arc<dyn Fn() -> bool + Send + Sync>);

impl StopCheck {
    /// Creates a check that calls `should_stop`.
    pub fn new(should_stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(should_stop))
    }

    /// Creates a check that never stops.
    pub fn never() -> Self {
        Self::new(|| false)
    }

    /// Whether rating should stop.
    pub(in crate::rewards) fn is_due(&self) -> bool {
        (self.0)()
    }

    /// Waits until `until`; returns `false` when rating should stop first.
    pub(in crate::rewards) fn wait(&self, until: Instant) -> bool {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if self.is_due() {
                return false;
            }
            std::thread::sleep(left.min(HEARD_WITHIN));
        }
    }
}

impl fmt::Debug for StopCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopCheck")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_wait_ends_when_it_is_over_or_when_rating_should_stop() {
        let start = Instant::now();
        assert!(StopCheck::never().wait(start + Duration::from_millis(250)));
        assert!(start.elapsed() >= Duration::from_millis(250));
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let stop = StopCheck::new(move || flag.load(Ordering::Relaxed));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                asked.store(true, Ordering::Relaxed);
            });
            assert!(!stop.wait(Instant::now() + Duration::from_mins(5)));
        });
    }
}
