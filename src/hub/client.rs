//! Requests to the hub: authentication, redirects, retries, and errors.

use super::environment::HubEnvironment;
use super::error::HubError;
use super::folder::Folder;
use super::listing::{Listing, RepoInfo};
use crate::recipe::{HubReference, HubRepoKind, is_commit};
use std::io::ErrorKind;
use std::time::Duration;
use ureq::http::{Method, Request, Response, StatusCode, header};
use ureq::{Agent, Body, Timeout};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that is silent for this long has stalled.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 8;
/// The number of tries of a request before the hub counts as unreachable.
pub(super) const MAX_TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Data sets of many files have long listings.
const MAX_LISTING_BYTES: u64 = 256 << 20;

/// Why a request failed.
pub(super) enum Failure {
    /// The hub gave no answer, or one that asks to come back later.
    Unreachable(String),
    /// The hub gave an answer that is an error, or a local operation failed.
    Hub(Box<HubError>),
}

impl<E: Into<HubError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Hub(Box::new(error.into()))
    }
}

pub(super) struct Client {
    agent: Agent,
    endpoint: Url,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(environment: &HubEnvironment) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // followed here, where the token is known
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .accept_encoding("identity") // a range of a file is a range of its bytes
            .user_agent(concat!("orchestrate/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: agent.into(), endpoint: environment.endpoint.clone(), token: environment.token.clone() }
    }

    /// Returns the host of `HF_ENDPOINT`, with its port; by default `huggingface.co`.
    pub(super) fn host(&self) -> String {
        let host = self.endpoint.host_str().unwrap_or_default();
        self.endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns the current commit of `reference`, and its files.
    pub(super) fn listing(&self, folder: &Folder, reference: &HubReference) -> Result<(String, Listing), Failure> {
        let url = self.parse(&format!("{}/api/{}?blobs=true", self.base(), folder.repo.api_url()))?;
        let mut answer = self.patiently(&Method::GET, &url, None)?;
        if !answer.status().is_success() {
            return Err(self.refusal(&answer, reference, None).into());
        }
        let nonsense = |what: String| HubError::Answer { url: url.to_string(), what };
        let info: RepoInfo = answer
            .body_mut()
            .with_config()
            .limit(MAX_LISTING_BYTES)
            .read_json()
            .map_err(|error| nonsense(format!("not a description of a repository: {error}")))?;
        if !is_commit(&info.sha) || (reference.is_pinned() && info.sha != reference.revision) {
            return Err(nonsense(format!("with `{}` for a commit", info.sha)).into());
        }
        Ok((info.sha.clone(), info.into()))
    }

    /// Returns the URL of the file `name` of `folder` at `commit`.
    pub(super) fn file_url(&self, folder: &Folder, commit: &str, name: &str) -> Result<Url, HubError> {
        let name = name.replace('%', "%25").replace('#', "%23").replace('?', "%3F");
        self.parse(&format!("{}/{}/resolve/{commit}/{name}", self.base(), folder.repo.url()))
    }

    /// Returns the hub's address without a trailing slash.
    fn base(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }

    fn parse(&self, url: &str) -> Result<Url, HubError> {
        Url::parse(url).map_err(|error| HubError::BadEndpoint { endpoint: format!("{}: {error}", self.endpoint) })
    }

    /// Sends a request until the hub is not busy, at most [`MAX_TRIES`] times.
    pub(super) fn patiently(&self, method: &Method, url: &Url, from: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut tries = 1;
        loop {
            let (reason, is_hopeless) = match self.ask(method, url, from) {
                Ok(answer) if !is_busy(answer.status()) => return Ok(answer),
                Ok(answer) => (format!("it answers {}", answer.status()), false),
                Err(error) => (self.reason(&error), is_hopeless(&error)),
            };
            if is_hopeless || tries == MAX_TRIES {
                return Err(Failure::Unreachable(reason));
            }
            pause(tries);
            tries += 1;
        }
    }

    /// Sends one request and follows its redirects. The token goes only to the hub's own host. A HEAD request stops
    /// where the hub answers about the file, because the storage behind the redirect does not know the file's hash.
    fn ask(&self, method: &Method, url: &Url, from: Option<u64>) -> Result<Response<Body>, ureq::Error> {
        let mut url = url.clone();
        for _ in 0..MAX_REDIRECTS {
            let mut request = Request::builder().method(method).uri(url.as_str());
            if let Some(from) = from.filter(|&from| from > 0) {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let answer = self.agent.run(request.body(())?)?;
            let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            match location.filter(|_| answer.status().is_redirection()) {
                Some(_) if method == Method::HEAD && text(&answer, "x-linked-etag").is_some() => return Ok(answer),
                Some(location) => {
                    url = url.join(location).map_err(|error| ureq::Error::BadUri(format!("{location}: {error}")))?;
                }
                None => return Ok(answer),
            }
        }
        Err(ureq::Error::TooManyRedirects)
    }

    fn reason(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::HostNotFound => format!("the name `{}` cannot be resolved", self.host()),
            ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
            other => other.to_string(),
        }
    }

    /// Converts an unsuccessful answer about `reference`, or about its file `name`, to an error.
    pub(super) fn refusal(&self, answer: &Response<Body>, reference: &HubReference, name: Option<&str>) -> HubError {
        let status = answer.status();
        let page = self.page(reference);
        let wanted = name.map_or_else(|| format!("`{reference}`"), |name| format!("`{name}` of `{}`", reference.repo));
        match (status, text(answer, "x-error-code").as_deref()) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => HubError::Refused {
                wanted,
                status: status.as_u16(),
                had_token: self.token.is_some(),
                page,
                said: text(answer, "x-error-message"),
            },
            (StatusCode::NOT_FOUND, Some("EntryNotFound")) => HubError::NoFile { wanted, some: Vec::new() },
            (StatusCode::NOT_FOUND, Some("RevisionNotFound")) => no_revision(reference),
            (StatusCode::NOT_FOUND, None) if name.is_none() && self.has_repository(reference) => no_revision(reference),
            (StatusCode::NOT_FOUND, _) => HubError::NoRepository { repo: reference.repo.clone(), host: self.host() },
            _ => HubError::Answer { url: page, what: format!("{status} for {wanted}") },
        }
    }

    /// Whether the repository exists. A mirror's answer does not always distinguish a missing repository from a missing
    /// revision.
    fn has_repository(&self, reference: &HubReference) -> bool {
        let kind = match reference.kind {
            HubRepoKind::Model => "models",
            HubRepoKind::Dataset => "datasets",
        };
        let url = format!("{}/api/{kind}/{}", self.base(), reference.repo);
        let Ok(url) = self.parse(&url) else { return false };
        self.patiently(&Method::GET, &url, None).is_ok_and(|answer| answer.status().is_success())
    }

    fn page(&self, reference: &HubReference) -> String {
        let folder = if reference.kind == HubRepoKind::Dataset { "datasets/" } else { "" };
        format!("{}/{folder}{}", self.base(), reference.repo)
    }
}

fn no_revision(reference: &HubReference) -> HubError {
    HubError::NoRevision { repo: reference.repo.clone(), revision: reference.revision.clone() }
}

/// Returns the value of a header.
pub(super) fn text(answer: &Response<Body>, name: &str) -> Option<String> {
    answer.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Waits after the `tries`th failure in a row, longer each time.
pub(super) fn pause(tries: u32) {
    std::thread::sleep(FIRST_PAUSE * 3u32.pow(tries - 1));
}

fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
}

/// Whether another try would not help, e.g. because no server is listening. Lost connections are worth another try.
fn is_hopeless(error: &ureq::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    match error {
        ureq::Error::Io(error) => {
            !matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof)
        }
        ureq::Error::Timeout(timeout) => matches!(timeout, Timeout::Connect | Timeout::Resolve),
        ureq::Error::Protocol(_) | ureq::Error::ConnectionFailed => false,
        _ => true,
    }
}
