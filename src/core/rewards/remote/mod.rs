//! Shared parts of components that use servers or programs: requests, retries, limits, answers and stopping.

pub(super) mod health_check;
pub(super) mod http_request;
pub(super) mod questions;
pub(super) mod server;
pub(super) mod stop;
