//! A stem is a word that is not longer than the original; text that is not ASCII stays unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orchestrate_core::rewards::stem;

fuzz_target!(|text: &str| {
    for word in text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())).filter(|word| !word.is_empty()) {
        let stem = stem(word);
        assert!(!stem.is_empty() && stem.len() <= word.len(), "{word}: {stem}");
        assert!(stem.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{word}: {stem}");
    }
    if !text.is_ascii() {
        assert_eq!(stem(text), text);
    }
});
