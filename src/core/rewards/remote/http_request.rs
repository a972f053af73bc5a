//! A request to a server and its outcome: an answer, a reason to retry, or a reason not to.

use crate::rewards::components::judge::shortened;
use crate::rewards::remote::stop::{HEARD_WITHIN, StopCheck};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::fmt;
use std::io::{ErrorKind, Read as _};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest size of an answer.
const MAX_ANSWER_BYTES: u64 = 8 << 20;

/// An API key. It is sent to its server and hidden in all messages.
pub(in crate::rewards) struct ApiKey(String);

impl ApiKey {
    pub(in crate::rewards) fn new(key: String) -> Self {
        Self(key)
    }

    /// Replaces the key in `text`, including occurrences with escaped characters.
    ///
    /// Servers quote rejected values in their messages, most of them as JSON.
    fn hidden_in(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(first) = rest.chars().next() {
            if let Some(after) = self.0.chars().try_fold(rest, after_char) {
                shown.push_str("[key]");
                rest = after;
            } else {
                shown.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        shown
    }
}

/// Returns the rest of `text` after `wanted`, which may be escaped once or more, as in nested JSON strings.
fn after_char(text: &str, wanted: char) -> Option<&str> {
    let bare = text.trim_start_matches('\\');
    let is_escaped = bare.len() < text.len();
    let code = bare.strip_prefix('u').and_then(|code| code.split_at_checked(4)).filter(|_| is_escaped);
    match code {
        Some((code, after)) if u32::from_str_radix(code, 16) == Ok(wanted.into()) => Some(after),
        _ => text.strip_prefix(wanted).or_else(|| bare.strip_prefix(wanted)),
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

/// The outcome of a request.
pub(in crate::rewards) enum Outcome<T> {
    Answered(T),
    /// A retry may help, after this delay if the server requests one.
    Later(String, Option<Duration>),
    /// A retry will not help: no such server can be reached.
    Unreachable(String),
    /// The server rejects this request, but may answer others.
    Rejected(String),
    /// The server refuses all requests.
    Refused(String),
    /// Rating was asked to stop while waiting for the answer.
    Interrupted,
}

/// A server's response.
struct Received {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Result<String, ureq::Error>,
}

/// A connection to one address of a server.
pub(in crate::rewards) struct Exchange {
    agent: Agent,
    url: String,
    key: Option<ApiKey>,
    timeout_s: f64,
    stop: StopCheck,
}

impl Exchange {
    /// Creates an exchange that posts requests to `url`.
    pub(in crate::rewards) fn new(url: String, key: Option<ApiKey>, timeout_s: f64, stop: StopCheck) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // the key is only sent to the recipe's endpoint
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(Duration::from_secs_f64(timeout_s)))
            .user_agent(concat!("orchestrate/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: agent.into(), url, key, timeout_s, stop }
    }

    pub(in crate::rewards) fn url(&self) -> &str {
        &self.url
    }

    pub(in crate::rewards) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Sends `request` once. An answer that `parse` rejects is worth a retry.
    pub(in crate::rewards) fn send<T>(&self, request: &Value, parse: impl Fn(&str) -> Result<T, String>) -> Outcome<T> {
        let Some(received) = self.post(request) else { return Outcome::Interrupted };
        let Received { status, retry_after, body } = match received {
            Ok(received) => received,
            Err(error) => return self.failed(&error),
        };
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
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Outcome::Later(reason, retry_after),
            _ if status.is_server_error() => Outcome::Later(reason, retry_after),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Outcome::Refused(reason),
            _ if status.is_redirection() => {
                Outcome::Refused(format!("it answers {status}, and is not followed elsewhere"))
            }
            _ => Outcome::Rejected(reason),
        }
    }

    /// Sends `request` from its own thread. Returns `None` and abandons the thread when rating should stop.
    fn post(&self, request: &Value) -> Option<Result<Received, ureq::Error>> {
        let mut post = self.agent.post(&self.url);
        if let Some(ApiKey(key)) = &self.key {
            post = post.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let (request, (sender, received)) = (request.clone(), channel());
        std::thread::spawn(move || {
            let sent = post.send_json(&request).map(|mut response| Received {
                status: response.status(),
                retry_after: retry_after(&response),
                body: read_decoded(response.body_mut()),
            });
            let _ = sender.send(sent);
        });
        loop {
            match received.recv_timeout(HEARD_WITHIN) {
                Err(RecvTimeoutError::Timeout) if self.stop.is_due() => return None,
                Err(RecvTimeoutError::Timeout) => {}
                sent => return Some(sent.expect("sending does not panic")),
            }
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
            // rustls reports errors as `Io`; certificates and protocols do not change on a retry
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

/// Reads the text of a response. The limit counts decompressed bytes, because a few bytes may expand to a gigabyte.
pub(in crate::rewards) fn read_decoded(body: &mut Body) -> Result<String, ureq::Error> {
    let mut bytes = Vec::new();
    body.as_reader().take(MAX_ANSWER_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ANSWER_BYTES {
        return Err(ureq::Error::BodyExceedsLimit(MAX_ANSWER_BYTES));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the message of an error response: OpenAI's `error.message`, or the whole body.
fn said(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let message = parsed.as_ref().and_then(|body| body["error"]["message"].as_str());
    message.unwrap_or(body).to_owned()
}

/// Returns the delay of the header `Retry-After`, which holds seconds or a date.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some((date.with_timezone(&Utc) - Utc::now()).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hidden_however_a_server_escapes_it() {
        let key = ApiKey::new("sk-SE/u=77".to_owned());
        for (text, shown) in [
            ("bad key sk-SE/u=77!", "bad key [key]!"),
            (r"bad key sk\u002dSE\/u\u003d77!", "bad key [key]!"),
            (r"\u0073k-SE/\u0075\u003D77", "[key]"),
            (r#"{"content": "{\"key\": \"sk\\u002dSE\\/u=77\"}"}"#, r#"{"content": "{\"key\": \"[key]\"}"}"#),
            ("sk-SE/u=7", "sk-SE/u=7"),
            (r"sk\u002", r"sk\u002"),
            (r"\u00e9sk-SE/u=77é", r"\u00e9[key]é"),
            ("sk-sk-SE/u=77", "sk-[key]"),
        ] {
            assert_eq!(key.hidden_in(text), shown, "{text}");
        }
        assert_eq!(ApiKey::new(String::new()).hidden_in("text"), "text");
    }
}
