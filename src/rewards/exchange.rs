//! One request to a server, and what its outcome means: an answer, a reason to ask again, or a reason not to.

use super::judge::shortened;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No answer is as long as that.
const MAX_ANSWER_BYTES: u64 = 8 << 20;

/// A secret. It is sent to its server and shown nowhere.
pub(super) struct ApiKey(String);

impl ApiKey {
    pub(super) fn new(key: String) -> Self {
        Self(key)
    }

    /// `text` without the key: servers repeat what they refuse.
    fn hidden_in(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "[key]") }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

/// How a request ended.
pub(super) enum Outcome<T> {
    Answered(T),
    /// Asking again may help, after this long if the server says so.
    Later(String, Option<Duration>),
    /// Asking again will not help: what is there is no such server.
    Unreachable(String),
    /// This request is not answered, another may be.
    Rejected(String),
    /// No request is answered.
    Refused(String),
}

/// Where requests go.
pub(super) struct Exchange {
    agent: Agent,
    url: String,
    key: Option<ApiKey>,
    timeout_s: f64,
}

impl Exchange {
    /// Requests that are posted to `url`.
    pub(super) fn new(url: String, key: Option<ApiKey>, timeout_s: f64) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // the key goes to the recipe's endpoint and nowhere else
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(Duration::from_secs_f64(timeout_s)))
            .user_agent(concat!("orchestrate/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: agent.into(), url, key, timeout_s }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Sends `request` once. What `parse` does not understand may be understood another time.
    pub(super) fn send<T>(&self, request: &Value, parse: impl Fn(&str) -> Result<T, String>) -> Outcome<T> {
        let mut post = self.agent.post(&self.url);
        if let Some(ApiKey(key)) = &self.key {
            post = post.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let mut response = match post.send_json(request) {
            Ok(response) => response,
            Err(error) => return self.failed(&error),
        };
        let status = response.status();
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
        let body = match body {
            Ok(body) => self.hidden(&body),
            Err(error) if status.is_success() => return self.failed(&error),
            Err(_) => String::new(),
        };
        if status.is_success() {
            return parse(&body).map_or_else(|reason| Outcome::Later(reason, None), Outcome::Answered);
        }
        let reason = format!("it answers {status}: {}", shortened(&said(&body)));
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Outcome::Later(reason, retry_after(&response))
            }
            _ if status.is_server_error() => Outcome::Later(reason, retry_after(&response)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Outcome::Refused(reason),
            _ if status.is_redirection() => {
                Outcome::Refused(format!("it answers {status}, and is not followed elsewhere"))
            }
            _ => Outcome::Rejected(reason),
        }
    }

    fn hidden(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.hidden_in(text))
    }

    fn failed<T>(&self, error: &ureq::Error) -> Outcome<T> {
        let reason = match error {
            ureq::Error::HostNotFound => "its name cannot be resolved".to_owned(),
            ureq::Error::Timeout(_) => format!("it does not answer within {} s", self.timeout_s),
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                "the connection broke in the middle of its answer".to_owned()
            }
            other => self.hidden(&other.to_string()),
        };
        match error {
            // rustls reports through `Io`; a certificate or a protocol does not change by asking again
            ureq::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                Outcome::Unreachable(format!("no secure connection: {reason}"))
            }
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => {
                Outcome::Unreachable(format!("no secure connection: {reason}"))
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Outcome::Unreachable(reason),
            _ => Outcome::Later(reason, None),
        }
    }
}

/// What an error's body says: OpenAI's `error.message`, or the body.
fn said(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let message = parsed.as_ref().and_then(|body| body["error"]["message"].as_str());
    message.unwrap_or(body).to_owned()
}

/// The header `Retry-After`: seconds, or a date.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some((date.with_timezone(&Utc) - Utc::now()).to_std().unwrap_or_default())
}
