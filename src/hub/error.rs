//! Errors of the hub, each with a suggestion.

use thiserror::Error;

/// An error of the hub.
#[derive(Clone, Debug, Error)]
pub enum HubError {
    /// `HF_ENDPOINT` is not a URL.
    #[error("`HF_ENDPOINT` is not the URL of a hub: `{endpoint}`")]
    BadEndpoint {
        /// The value of the variable.
        endpoint: String,
    },
    /// The directory to keep files in is unknown.
    #[error("there is no directory to keep files of the hub in: neither `HF_HUB_CACHE` nor `HOME` is set")]
    NoCache,
    /// The network must not be used, and files are missing.
    #[error("{wanted} is incomplete in `{cache}`, and `HF_HUB_OFFLINE` forbids downloading it")]
    Offline {
        /// The requested model, data set or file.
        wanted: String,
        /// The cache that was searched.
        cache: String,
        /// The repository's directory in the cache.
        folder: String,
    },
    /// The hub does not answer, and files are missing.
    #[error("cannot reach `{host}` to download {wanted}: {reason}")]
    Unreachable {
        /// The requested model, data set or file.
        wanted: String,
        /// The host that does not answer.
        host: String,
        /// The reason for the failure.
        reason: String,
        /// The cache that was searched too.
        cache: String,
        /// The repository's directory in the cache.
        folder: String,
    },
    /// The hub requires a token (401), or refuses it (403).
    #[error("the hub refuses {wanted} ({status}){}", .said.as_ref().map(|said| format!(": {said}")).unwrap_or_default())]
    Refused {
        /// The requested model, data set or file.
        wanted: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        had_token: bool,
        /// The page of the repository.
        page: String,
        /// The hub's message.
        said: Option<String>,
    },
    /// The repository does not exist.
    #[error("there is no repository `{repo}` at `{host}`")]
    NoRepository {
        /// `owner/name`.
        repo: String,
        /// The hub's host.
        host: String,
    },
    /// The repository has no such revision.
    #[error("the repository `{repo}` has no revision `{revision}`")]
    NoRevision {
        /// `owner/name`.
        repo: String,
        /// The requested revision.
        revision: String,
    },
    /// The repository has no such file.
    #[error("{wanted} names no file of the repository")]
    NoFile {
        /// The requested model, data set or file.
        wanted: String,
        /// Some files of the repository.
        some: Vec<String>,
    },
    /// The repository is not a model that can be read.
    #[error("the repository `{repo}` lacks {}", quoted(.missing))]
    NotAModel {
        /// `owner/name`.
        repo: String,
        /// The missing files.
        missing: Vec<String>,
    },
    /// The repository has its weights as pickles only, which run code when they are read.
    #[error("the repository `{repo}` has its weights only as pickles ({}), which are never loaded", quoted(.found))]
    OnlyPickles {
        /// `owner/name`.
        repo: String,
        /// Some of the pickles.
        found: Vec<String>,
    },
    /// A file differs from the hub's size or hash.
    #[error("`{file}` of `{repo}` arrived damaged: its {what} should be {expected}, but is {found}")]
    Damaged {
        /// The file's name in the repository.
        file: String,
        /// `owner/name`.
        repo: String,
        /// The property that differs.
        what: &'static str,
        /// The hub's value.
        expected: String,
        /// The file's value.
        found: String,
    },
    /// The hub's answer is invalid.
    #[error("`{url}` answered {what}")]
    Answer {
        /// The requested URL.
        url: String,
        /// A description of the answer.
        what: String,
    },
    /// The cache cannot be written or read.
    #[error("cannot keep files of the hub: {0}")]
    Cache(String),
}

impl HubError {
    /// Returns a suggestion for how to fix the error.
    pub fn hint(&self) -> String {
        match self {
            Self::BadEndpoint { .. } => "unset it, or set it to a URL such as `https://huggingface.co`".to_owned(),
            Self::NoCache => "set `HF_HUB_CACHE` to a directory with room for models".to_owned(),
            Self::Offline { cache, folder, .. } => {
                format!("unset `HF_HUB_OFFLINE` where there is a network, or {}", by_hand(cache, folder))
            }
            Self::Unreachable { cache, folder, .. } => {
                format!(
                    "a mirror can be named in `HF_ENDPOINT`, a proxy in `HTTPS_PROXY`; without a network, {}",
                    by_hand(cache, folder)
                )
            }
            Self::Refused { status: 401, had_token: false, page, .. } => format!(
                "check the name; a private or gated repository needs a token with read access in `HF_TOKEN` (or `hf auth \
                 login`), and its terms accepted at {page}"
            ),
            Self::Refused { status: 401, page, .. } => {
                format!("check the name at {page} and the token in `HF_TOKEN`: it may be wrong or expired")
            }
            Self::Refused { page, .. } => {
                format!("accept the terms at {page} with the account whose token is in `HF_TOKEN`")
            }
            Self::NoRepository { .. } => {
                "check owner and name; a private repository needs a token in `HF_TOKEN`".to_owned()
            }
            Self::NoRevision { .. } => {
                "a revision is a branch, a tag or a commit of 40 digits; without `@...` it is `main`".to_owned()
            }
            Self::NoFile { some, .. } if some.is_empty() => "`*` matches any part of a name".to_owned(),
            Self::NoFile { some, .. } => format!("it has {}; `*` matches any part of a name", quoted(some)),
            Self::NotAModel { .. } => {
                "a model needs `config.json`, `tokenizer.json` and `model.safetensors`, or its parts with their index"
                    .to_owned()
            }
            Self::OnlyPickles { repo, .. } => format!(
                "look for a conversion among its pull requests (`hf://{repo}@refs/pr/1`), or convert it where the pickle is \
                 trusted: `AutoModel.from_pretrained(...).save_pretrained(DIR)`, and name DIR"
            ),
            Self::Damaged { .. } => {
                "the damaged file was removed; retry, and if the problem persists, contact the operator of the mirror \
                 or proxy"
                    .to_owned()
            }
            Self::Answer { .. } => "check that `HF_ENDPOINT` is the address of a hub, and that no proxy answers in \
                 its place"
                .to_owned(),
            Self::Cache(_) => "`HF_HUB_CACHE` can name another directory".to_owned(),
        }
    }
}

fn by_hand(cache: &str, folder: &str) -> String {
    format!(
        "download it elsewhere (`hf download`), copy its folder `{folder}` into `{cache}` (`HF_HUB_CACHE` names another \
         place), or name a local directory here"
    )
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl From<std::io::Error> for HubError {
    fn from(error: std::io::Error) -> Self {
        Self::Cache(error.to_string())
    }
}
