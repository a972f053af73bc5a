//! Exit codes of `orchestrate-worker`; the table is in [`crate::exec`].

use crate::workspace::Ending;

/// The checkpoint is in the cache.
pub const COMMITTED: u8 = 0;
/// The stage failed; a `failed` event has the reason.
pub const FAILED: u8 = 10;
/// Another process holds the key's lease, or has already committed its result.
pub const LEASE_HELD: u8 = 11;
/// Stopped on request, with a resume point on disk.
pub const STOPPED: u8 = 12;
/// The worker was started with unknown arguments.
pub const USAGE: u8 = 2;

/// Returns the exit code of a worker's end.
pub fn code(ending: Ending) -> u8 {
    match ending {
        Ending::Committed => COMMITTED,
        Ending::Failed => FAILED,
        Ending::LeaseHeld => LEASE_HELD,
        Ending::Stopped => STOPPED,
    }
}

/// Returns the end of a worker with this exit code; `None` for a code that no worker uses.
pub fn ending(exit_code: u8) -> Option<Ending> {
    [Ending::Committed, Ending::Failed, Ending::LeaseHeld, Ending::Stopped]
        .into_iter()
        .find(|&ending| code(ending) == exit_code)
}
