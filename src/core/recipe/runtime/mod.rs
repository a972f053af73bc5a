//! `[runtime]`: how stages are run, which changes no result.

mod http_endpoint;
pub(super) mod judge_server;
pub(super) mod settings;
