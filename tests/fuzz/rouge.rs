//! ROUGE is in [0, 1]. Precision in one direction is recall in the other, except for `Lsum`, whose union of lines is
//! one-sided.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orchestrate_core::recipe::spec::{RougeTokenizer, RougeVariant};
use orchestrate_core::rewards::rouge;

fuzz_target!(|texts: (&str, &str)| {
    let (one, other) = texts;
    for variant in [RougeVariant::One, RougeVariant::Two, RougeVariant::L, RougeVariant::Lsum] {
        for tokenizer in [RougeTokenizer::Unicode, RougeTokenizer::RougeScore] {
            let there = rouge(one, other, variant, tokenizer);
            let back = rouge(other, one, variant, tokenizer);
            for value in [there.precision, there.recall, there.f1] {
                assert!((0.0..=1.0).contains(&value), "{there:?}");
            }
            if variant != RougeVariant::Lsum {
                assert_eq!((there.precision, there.recall), (back.recall, back.precision));
            }
            let same = rouge(one, one, variant, tokenizer).f1;
            assert!(same == 0.0 || same == 1.0, "{same}");
        }
    }
});
