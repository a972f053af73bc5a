//! A span is a trimmed part of the completion, whatever the completion.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orchestrate_core::recipe::spec::Scope;
use orchestrate_core::rewards::span;
use std::borrow::Cow;

fuzz_target!(|input: (&str, &str)| {
    let (tag, completion) = input;
    let scopes = [Scope::Completion, Scope::Think, Scope::Answer, Scope::Explanation, Scope::Tag(tag.to_owned())];
    for scope in scopes {
        match span(completion, &scope) {
            Some(Cow::Borrowed(part)) => {
                assert!(completion.contains(part));
                assert_eq!(part, part.trim());
            }
            Some(Cow::Owned(joined)) => {
                assert_eq!(scope, Scope::Explanation);
                assert!(joined.len() <= completion.len());
            }
            None => assert_ne!(scope, Scope::Completion),
        }
    }
});
