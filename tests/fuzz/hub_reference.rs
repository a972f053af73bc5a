//! A parsed `hf://...` is equal after formatting and parsing again, and stays inside the cache.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orchestrate_core::recipe::HubReference;
use std::path::{Component, Path};

fuzz_target!(|text: &str| {
    let Ok(reference) = HubReference::parse(text) else { return };
    assert_eq!(HubReference::parse(&reference.to_string()).as_ref(), Ok(&reference));
    let parts = [Some(&reference.repo), Some(&reference.revision), reference.file.as_ref()];
    for part in parts.into_iter().flatten() {
        assert!(Path::new(part).components().all(|part| matches!(part, Component::Normal(_))), "{part}");
    }
});
