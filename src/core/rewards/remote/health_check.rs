//! Checks that the servers in a recipe can be reached before a stage depends on them. No texts are rated.

use crate::rewards::components::judge::shortened;
use crate::rewards::remote::http_request::read_decoded;
use crate::rewards::{HttpEndpoint, JudgeServer};
use serde_json::Value;
use std::time::Duration;
use ureq::Agent;

/// The time limit of a request. A server that needs longer for such a simple request is of no use.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Checks whether the judge `model` is served, by the server's list of models; returns a description.
///
/// # Errors
/// Fails with the reason, in one sentence, if the judge is not available.
pub fn reach_judge(model: &str, server: &JudgeServer) -> Result<String, String> {
    let url = format!("{}/models", server.endpoint.trim_end_matches('/'));
    let (status, body) = get(&url, server.api_key_env.as_deref())?;
    let listed = serde_json::from_str::<Value>(&body).ok();
    let listed = listed.as_ref().and_then(|body| body["data"].as_array()).filter(|_| status == 200);
    let Some(models) = listed else {
        return Ok(format!("answers at {}, without a list of its models", server.endpoint));
    };
    let names: Vec<&str> = models.iter().filter_map(|entry| entry["id"].as_str()).collect();
    if names.contains(&model) {
        return Ok(format!("served at {}", server.endpoint));
    }
    Err(format!("{} serves no model of this name, but {}", server.endpoint, shortened(&names.join(", "))))
}

/// Checks whether the service answers at its address; returns a description.
///
/// # Errors
/// Fails with the reason, in one sentence, if the service is not available.
pub fn reach_service(endpoint: &HttpEndpoint) -> Result<String, String> {
    get(&endpoint.url, endpoint.api_key_env.as_deref())?;
    Ok(format!("answers at {}", endpoint.url))
}

/// Requests `url`; returns the status and body. The key is sent only there and appears in no message.
fn get(url: &str, key_variable: Option<&str>) -> Result<(u16, String), String> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let mut request = agent.get(url);
    if let Some(variable) = key_variable {
        let key = std::env::var(variable).map_err(|_| format!("the variable `{variable}` with its key is not set"))?;
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    let mut response = request.call().map_err(|error| format!("{url} cannot be reached: {error}"))?;
    match response.status().as_u16() {
        401 | 403 => Err(match key_variable {
            Some(variable) => format!("{url} refuses the key in `{variable}`"),
            None => format!("{url} wants a key; `api_key_env` names the variable with it"),
        }),
        status @ 500.. => Err(format!("{url} answers with status {status}")),
        status => Ok((status, read_decoded(response.body_mut()).unwrap_or_default())),
    }
}
