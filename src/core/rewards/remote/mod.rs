//! Shared parts of components that use servers or programs: requests, retries, limits, answers and stopping.

pub(super) mod exchange;
pub(super) mod questions;
pub(super) mod reach;
pub(super) mod server;
pub(super) mod stop;
