//! What components that ask others share: requests, retries, limits, answers, and how waiting is stopped.

pub(super) mod exchange;
pub(super) mod questions;
pub(super) mod reach;
pub(super) mod server;
pub(super) mod stop;
