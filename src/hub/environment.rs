//! The environment variables of the Hugging Face libraries. Only this module reads them.

use super::error::HubError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use url::Url;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The hub's address, the cache and the token. Variables are read as `huggingface_hub` reads them, so that both find
/// the same files.
#[derive(Clone)]
pub struct HubEnvironment {
    /// `HF_ENDPOINT`, or the public hub.
    pub endpoint: Url,
    /// `HF_HUB_CACHE`, or `hub` below `HF_HOME`, or `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or the token that `hf auth login` left in `HF_TOKEN_PATH` or `HF_HOME/token`.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`: whether the network must not be used.
    pub offline: bool,
}

/// Keeps the token out of logs.
impl std::fmt::Debug for HubEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { endpoint, cache, token, offline } = self;
        let mut shown = f.debug_struct("HubEnvironment");
        shown.field("endpoint", &endpoint.as_str()).field("cache", cache).field("offline", offline);
        shown.field("has_token", &token.is_some()).finish()
    }
}

impl HubEnvironment {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// `HF_ENDPOINT` is not a URL, or the home directory is unknown.
    pub fn of_process() -> Result<Self, HubError> {
        Self::read(|name| std::env::var_os(name))
    }

    /// Reads the variables that `lookup` returns. Empty ones count as unset.
    ///
    /// # Errors
    /// As [`HubEnvironment::of_process`].
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let variable = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let user_home = variable("HOME").map(PathBuf::from);
        let path = |name: &str| variable(name).map(|value| expanded(Path::new(&value), user_home.as_deref()));
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| Some(user_home.as_ref()?.join(".cache/huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home.as_ref()?.join("hub")))
            .ok_or(HubError::NoCache)?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
        let implicit = || {
            let refused = text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value));
            (!refused).then(|| fs_err::read_to_string(token_file?).ok()).flatten()
        };
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).or_else(implicit);
        Ok(Self {
            endpoint: Url::parse(endpoint.trim_end_matches('/'))
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                .ok_or(HubError::BadEndpoint { endpoint })?,
            cache: std::path::absolute(&cache).unwrap_or(cache),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .iter()
                .find_map(|name| text(name))
                .is_some_and(|value| is_true(&value)),
        })
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// Returns `path` with `~` replaced.
fn expanded(path: &Path, user_home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user_home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HubEnvironment, HubError> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        HubEnvironment::read(find)
    }

    #[test]
    fn the_cache_is_where_python_looks() {
        let cache = |variables: &[(&str, &str)]| read(variables).unwrap().cache.display().to_string();
        let home = ("HOME", "/home/me");
        assert_eq!(cache(&[home]), "/home/me/.cache/huggingface/hub");
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/xdg")]), "/xdg/huggingface/hub");
        assert_eq!(cache(&[home, ("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/xdg")]), "/home/me/hf/hub");
        assert_eq!(cache(&[home, ("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/models")]), "/models");
        assert_eq!(cache(&[home, ("HF_HUB_CACHE", "")]), "/home/me/.cache/huggingface/hub");
        assert!(matches!(read(&[]), Err(HubError::NoCache)));
    }

    #[test]
    fn the_token_is_the_variable_or_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        assert_eq!(read(&[home]).unwrap().token, None);
        fs_err::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(read(&[home]).unwrap().token.as_deref(), Some("hf_file"));
        assert_eq!(read(&[home, ("HF_TOKEN", "hf_variable")]).unwrap().token.as_deref(), Some("hf_variable"));
        assert_eq!(read(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap().token, None);
        assert!(!format!("{:?}", read(&[home]).unwrap()).contains("hf_file"));
    }

    #[test]
    fn offline_and_the_endpoint() {
        let home = ("HOME", "/home/me");
        assert!(!read(&[home, ("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        assert!(read(&[home, ("HF_HUB_OFFLINE", "True")]).unwrap().offline);
        assert_eq!(read(&[home]).unwrap().endpoint.as_str(), "https://huggingface.co/");
        assert!(matches!(read(&[home, ("HF_ENDPOINT", "hub.example")]), Err(HubError::BadEndpoint { .. })));
    }
}
