//! Exit codes of `orchestrate-worker`; the table is in [`crate::exec`].

/// The checkpoint is in the cache.
pub const COMMITTED: u8 = 0;
/// The stage failed and a `failed` event says why.
pub const FAILED: u8 = 10;
/// Another process holds the key's lease, or has committed its result by now.
pub const LEASE_HELD: u8 = 11;
/// Stopped on request, with a resume point on disk.
pub const STOPPED: u8 = 12;
/// The worker was started with arguments it does not know.
pub const USAGE: u8 = 2;
