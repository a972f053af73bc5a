//! An answer is right, wrong or missing; an answer that is not a single letter is right when compared with itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orchestrate_core::recipe::spec::{CorrectnessSpec, Match, RewardSpec, Scope};
use orchestrate_core::rewards::{JudgeAccess, RewardMix, Sample, StopCheck, RewardContext, Total};
use std::collections::BTreeMap;
use std::path::Path;

fuzz_target!(|input: (&str, &str)| {
    let (answer, completion) = input;
    let component = CorrectnessSpec { matching: Match::Choice, pattern: None };
    let spec = RewardSpec::plain(1.0, Scope::Completion, component.into());
    let nowhere = Path::new("/nonexistent");
    let judges = JudgeAccess { servers: &BTreeMap::new(), cache: nowhere, ledgers: nowhere, variable: &|_| None, stop: &StopCheck::never() };
    let surroundings = RewardContext {
        encoder: &mut |_, _, _| unreachable!("no encoder"),
        classifier: &mut |_, _, _| unreachable!("no classifier"),
        count_tokens: &|| unreachable!("no tokenizer"),
        judges,
        file: &|_| None,
        endpoints: &BTreeMap::new(),
        total: &Total::Sum,
        seed: 1,
        rows: &|| Err("no rows here".into()),
        row_fields: &|| Err("no rows here".into()),
    };
    let mut reward_mix = RewardMix::new(&[("right".to_owned(), spec)].into(), surroundings).unwrap();
    let sample = |completion| Sample { prompt: "", completion, reference: None, answer: Some(answer), index: 0, policy: None, row: None };
    let scores = reward_mix.score(&[sample(completion), sample(answer)]).unwrap();
    let value = |index: usize| scores[index].parts["right"].value;
    assert!(matches!(value(0), None | Some(0.0 | 1.0)));
    assert_eq!(value(0).is_none(), answer.trim().is_empty());
    assert!(matches!(value(1), None | Some(1.0)), "{answer:?} is not right about itself");
});
