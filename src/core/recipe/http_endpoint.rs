//! `[runtime.endpoints.NAME]`: where a service that rates completions is served. Nothing of it may change an answer.

use super::diagnostic::{Problem, Problems};
use super::judge_server::{check_api_key_env, check_url};
use super::located::KeyPath;
use super::sweep::Cell;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a service that rates completions is served, and how it lets itself be asked; never changes an answer, so it is no part
/// of a cache key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpEndpoint {
    /// Where requests are posted to, e.g. `http://127.0.0.1:8080/rate`.
    pub url: String,
    /// Name of the environment variable with the key, which is sent as a bearer token; default: no key. The key itself
    /// belongs into no file.
    pub api_key_env: Option<String>,
    /// Completions in a request at most.
    #[schemars(range(min = 1, max = 65536))]
    pub batch_size: usize,
    /// Requests at the same time.
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: usize,
    /// Requests a minute at most; default: no limit.
    #[schemars(range(min = 0.01))]
    pub requests_per_minute: Option<f64>,
    /// A request that takes longer has failed.
    #[schemars(range(max = 86400), extend("exclusiveMinimum" = 0))]
    pub timeout_s: f64,
    /// How often a request that failed is sent again, with growing pauses, or those that the server asks for.
    #[schemars(range(max = 100))]
    pub retries: u32,
}

/// Reports what cannot be a URL or the name of a variable.
pub(super) fn check(cell: &Cell<'_>, endpoints: &BTreeMap<String, HttpEndpoint>, problems: &mut Problems) {
    for (name, endpoint) in endpoints {
        let key = KeyPath::dotted("runtime.endpoints").key(name);
        if let Err((reason, help)) = check_url(&endpoint.url, "give an address, e.g. \"http://127.0.0.1:8080/rate\"") {
            let message = format!("`{}` cannot be a URL: {reason}", key.key("url"));
            problems.push(Problem::at(cell.value_place(&key.key("url")), message, "here").help(help));
        }
        check_api_key_env(cell, &key, endpoint.api_key_env.as_deref(), "RATE_KEY", problems);
    }
}
