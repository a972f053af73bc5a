//! Starts a program and stays with it: until it ends, its time is over, or somebody wants the stage to stop.

use crate::program::{ProgramEnd, ProgramProcess};
use std::future::pending;
use std::io;
use std::process::Command;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// How long a program may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether whoever started this process is still there.
const ORPHAN_POLL: Duration = Duration::from_millis(250);

/// How a program came to its end.
pub(super) enum End {
    /// With exit code 0.
    Finished,
    /// With another, or by a signal.
    Failed(ProgramEnd),
    /// After this many seconds, which is more than it may take.
    TimedOut(f64),
    /// On request.
    Stopped,
}

/// Runs `command` for at most `timeout_s`. Nothing of it is left when this returns.
pub(super) fn supervise(command: &mut Command, timeout_s: Option<f64>, started_by: Option<u32>) -> io::Result<End> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // before the program is there: a signal in between would leave it alone
        let mut stops = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::user_defined1()].map(signal);
        let process = ProgramProcess::start(command)?;
        let mut ended = tokio::task::spawn_blocking(process.waiter());
        let over = async {
            match timeout_s {
                Some(seconds) => {
                    sleep(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)).await;
                    End::TimedOut(seconds)
                }
                None => pending().await,
            }
        };
        let stop = async {
            let [terminate, interrupt, warning] = &mut stops;
            let (Ok(terminate), Ok(interrupt), Ok(warning)) = (terminate, interrupt, warning) else {
                return pending().await;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = warning.recv() => {}
                () = orphaned(started_by) => {}
            }
        };
        let end = tokio::select! {
            end = &mut ended => {
                return Ok(match end?? {
                    ProgramEnd::Exited(0) => End::Finished,
                    end => End::Failed(end),
                });
            }
            end = over => end,
            () = stop => End::Stopped,
        };
        process.terminate();
        let _ = timeout(GRACE, &mut ended).await;
        // what is left of the group is killed here, before the runtime waits for the thread that waits for it
        drop(process);
        Ok(end)
    })
}

/// Ends when the process `started_by`, which was the parent, is gone.
async fn orphaned(started_by: Option<u32>) {
    let mut tick = interval(ORPHAN_POLL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        if started_by.is_some_and(|supervisor| parent != Some(supervisor)) {
            return;
        }
    }
}
