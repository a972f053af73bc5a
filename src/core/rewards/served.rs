//! The servers of judges and services: `[runtime.judges.NAME]` and `[runtime.endpoints.NAME]`.
//!
//! These settings do not change answers, so they are not part of cache keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a judge is served, and the limits on its requests; never changes an answer, so it is not part of a cache key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeServer {
    /// Base address of a server of OpenAI's chat completions, e.g. `http://127.0.0.1:8099/v1`.
    pub endpoint: String,
    /// Name of the environment variable with the key; default: no key. Do not write the key itself into a file.
    pub api_key_env: Option<String>,
    /// Requests at the same time.
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: usize,
    /// Largest number of requests a minute; default: no limit.
    #[schemars(range(min = 0.01))]
    pub requests_per_minute: Option<f64>,
    /// A request fails after this many seconds.
    #[schemars(range(max = 86400), extend("exclusiveMinimum" = 0))]
    pub timeout_s: f64,
    /// How often a request that failed is sent again, with growing pauses, or those that the server asks for.
    #[schemars(range(max = 100))]
    pub retries: u32,
    /// Requests that one stage may send before it fails; default: no limit.
    pub max_calls: Option<u64>,
    /// Tokens, of questions and answers, that one stage may use before it fails; default: no limit. Requests that are
    /// under way when it is reached are not counted in advance.
    pub max_total_tokens: Option<u64>,
    /// US dollars for a million tokens of questions; default: 0 if the other price is given, else the cost is unknown.
    #[schemars(range(min = 0))]
    pub price_per_million_input_tokens_usd: Option<f64>,
    /// US dollars for a million tokens of answers; default: 0 if the other price is given, else the cost is unknown.
    #[schemars(range(min = 0))]
    pub price_per_million_output_tokens_usd: Option<f64>,
}

impl JudgeServer {
    /// Returns the cost of these tokens in US dollars; `None` when the price is unknown.
    pub fn cost_usd(&self, prompt_tokens: u64, completion_tokens: u64) -> Option<f64> {
        let prices = (self.price_per_million_input_tokens_usd, self.price_per_million_output_tokens_usd);
        let (input, output) = match prices {
            (None, None) => return None,
            (input, output) => (input.unwrap_or(0.0), output.unwrap_or(0.0)),
        };
        Some((input * prompt_tokens as f64 + output * completion_tokens as f64) / 1e6)
    }
}

/// Where a service that rates completions is served, and the limits on its requests; never changes an answer, so it is
/// not part of a cache key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpEndpoint {
    /// Where requests are posted to, e.g. `http://127.0.0.1:8080/rate`.
    pub url: String,
    /// Name of the environment variable with the key, which is sent as a bearer token; default: no key. Do not write
    /// the key itself into a file.
    pub api_key_env: Option<String>,
    /// Largest number of completions in one request.
    #[schemars(range(min = 1, max = 65536))]
    pub batch_size: usize,
    /// Requests at the same time.
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: usize,
    /// Largest number of requests a minute; default: no limit.
    #[schemars(range(min = 0.01))]
    pub requests_per_minute: Option<f64>,
    /// A request fails after this many seconds.
    #[schemars(range(max = 86400), extend("exclusiveMinimum" = 0))]
    pub timeout_s: f64,
    /// How often a request that failed is sent again, with growing pauses, or those that the server asks for.
    #[schemars(range(max = 100))]
    pub retries: u32,
}
