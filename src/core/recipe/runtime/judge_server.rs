//! `[runtime.judges.NAME]`: the address of the judge whose model has this name. None of its keys may change an answer.

use crate::recipe::sweep::variant::Variant;
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::rewards::JudgeServer;
use std::collections::BTreeMap;
use url::Url;

/// Reports invalid endpoints and invalid names of environment variables.
pub(in crate::recipe) fn check(variant: &Variant<'_>, judges: &BTreeMap<String, JudgeServer>, problems: &mut Problems) {
    for (name, server) in judges {
        let key = KeyPath::dotted("runtime.judges").key(name);
        if let Err((reason, help)) = check_endpoint(&server.endpoint) {
            let place = variant.value_place(&key.key("endpoint"));
            let problem =
                Problem::at(place, format!("`{}` is not a valid endpoint: {reason}", key.key("endpoint")), "here");
            problems.push(problem.help(help));
        }
        check_api_key_env(variant, &key, server.api_key_env.as_deref(), "JUDGE_KEY", problems);
    }
}

/// Reports an `api_key_env` of the table at `key` that is not a valid variable name. `example` is a valid one for the
/// message.
pub(in crate::recipe) fn check_api_key_env(
    variant: &Variant<'_>,
    key: &KeyPath,
    variable: Option<&str>,
    example: &str,
    problems: &mut Problems,
) {
    if variable.is_some_and(|name| !is_variable(name)) {
        // The problem points at the table and does not show the value, which might be the API key itself.
        let message = format!("`{}` is not the name of an environment variable", key.key("api_key_env"));
        let help = format!("export the key, as in `{example}=...`, and write `api_key_env = \"{example}\"`");
        problems.push(Problem::at(variant.key_place(key), message, "its `api_key_env`").help(help));
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), (String, &'static str)> {
    const FORM: &str = "give the server's base address, e.g. \"http://127.0.0.1:8099/v1\"";
    let url = check_url(endpoint, FORM)?;
    if url.path().trim_end_matches('/').ends_with("/chat/completions") {
        return Err(("`/chat/completions` is added to it".to_owned(), FORM));
    }
    Ok(())
}

/// `text` as the URL of a server; or what is wrong with it, and what to do, which is `form` if it is not a URL.
pub(in crate::recipe) fn check_url(text: &str, form: &'static str) -> Result<Url, (String, &'static str)> {
    let url = Url::parse(text).map_err(|error| (error.to_string(), form))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err((format!("it begins with `{}:`", url.scheme()), form));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        let help = "put the key into an environment variable, and name that in `api_key_env`";
        return Err(("it holds more than a host and a path".to_owned(), help));
    }
    Ok(url)
}

/// Whether `name` is valid as the name of an environment variable.
pub(in crate::recipe) fn is_variable(name: &str) -> bool {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
