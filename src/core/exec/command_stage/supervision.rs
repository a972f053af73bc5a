//! Starts a program and supervises it until it ends, its time is over, or a stop is requested.

use crate::program::{ProgramEnd, ProgramProcess};
use std::future::pending;
use std::io;
use std::process::Command;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// The time that a program has to end after a request.
const GRACE: Duration = Duration::from_secs(10);
/// The interval at which the parent process is checked.
const ORPHAN_POLL: Duration = Duration::from_millis(250);

/// The end of a program.
pub(super) enum End {
    /// The program exited with code 0.
    Finished,
    /// The program exited with another code, or was killed by a signal.
    Failed(ProgramEnd),
    /// The program exceeded its time limit, in seconds.
    TimedOut(f64),
    /// The program was stopped on request.
    Stopped,
}

/// Runs `command` for at most `timeout_s` seconds. None of its processes is left when this returns.
pub(super) fn supervise(command: &mut Command, timeout_s: Option<f64>, started_by: Option<u32>) -> io::Result<End> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // Signals are handled before the program starts: one in between would leave the program without supervision.
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
        // The rest of the group is killed here, before the runtime waits for the thread that waits for the program.
        drop(process);
        Ok(end)
    })
}

/// Resolves when the process `started_by`, which was the parent, is gone.
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
