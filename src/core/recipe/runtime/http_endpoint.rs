//! `[runtime.endpoints.NAME]`: the address of a service that rates completions. None of its keys may change an answer.

use crate::recipe::runtime::judge_server::{check_api_key_env, check_url};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::rewards::HttpEndpoint;
use std::collections::BTreeMap;

/// Reports invalid URLs and invalid names of environment variables.
pub(in crate::recipe) fn check(
    variant: &Variant<'_>,
    endpoints: &BTreeMap<String, HttpEndpoint>,
    problems: &mut Problems,
) {
    for (name, endpoint) in endpoints {
        let key = KeyPath::dotted("runtime.endpoints").key(name);
        if let Err((reason, help)) = check_url(&endpoint.url, "give an address, e.g. \"http://127.0.0.1:8080/rate\"") {
            let message = format!("`{}` is not a valid URL: {reason}", key.key("url"));
            problems.push(Problem::at(variant.value_place(&key.key("url")), message, "here").help(help));
        }
        check_api_key_env(variant, &key, endpoint.api_key_env.as_deref(), "RATE_KEY", problems);
    }
}
