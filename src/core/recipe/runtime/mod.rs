//! `[runtime]`: settings of how stages run, which do not change a result.

mod http_endpoint;
pub(super) mod judge_server;
pub(super) mod settings;
