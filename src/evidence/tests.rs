//! Comparisons of evidence that is made by hand.

use super::*;

/// Numbers that look drawn from the uniform distribution between -1 and 1.
fn noise(words: [usize; 3]) -> f64 {
    let mixed = words.into_iter().fold(0x9e37_79b9_7f4a_7c15_u64, |mixed, word| {
        let mixed = (mixed ^ word as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb)
    });
    (mixed >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// An arm that answered `questions` with these seeds, `lead` above the others.
fn arm(name: &str, lead: f64, seeds: &[u64], questions: usize) -> Arm {
    let trial = |&seed: &u64| {
        let score = |question| {
            let own = [name.len() * 100 + usize::from(name.as_bytes()[0]), usize::try_from(seed).unwrap(), question];
            Score::of(0.5 + lead + 0.2 * noise([0, 0, question]) + 0.1 * noise(own))
        };
        Trial {
            seed,
            run: "run".to_owned(),
            variant: format!("r/{name},seed={seed}"),
            stage: "eval".to_owned(),
            kind: "eval".to_owned(),
            evaluation: "eval".to_owned(),
            key: Digest::of(format!("{name}{seed}").as_bytes()),
            answers: (0..questions).map(|question| Answer { question, completions: Vec::new() }).collect(),
            scores: [("eval/reward/rouge".to_owned(), (0..questions).map(score).collect())].into(),
            measurements: BTreeMap::new(),
        }
    };
    Arm { name: name.to_owned(), trials: seeds.iter().map(trial).collect(), ..Arm::default() }
}

fn compared(arms: Vec<Arm>) -> Comparisons {
    let evidence = Evidence { arms, ..Evidence::default() };
    let request = ComparisonRequest { baseline: "sft".to_owned(), metrics: Vec::new(), resamples: 2000, seed: 1 };
    compare(&evidence, &request)
}

fn row(arms: Vec<Arm>) -> ArmComparison {
    compared(arms).metrics[0].arms[0].clone()
}

#[test]
fn seeds_that_have_nothing_in_common_are_not_paired() {
    let found = row(vec![arm("sft", 0.0, &[1, 2, 3], 50), arm("rouge", 0.2, &[4, 5], 50)]);
    assert_eq!((found.verdict, found.over), (Verdict::Better, Some(Over::SeedsAndQuestions)));
    assert_eq!((found.seeds, found.baseline_seeds), (vec![4, 5], vec![1, 2, 3]));
    assert!((found.difference.unwrap() - 0.2).abs() < 0.03, "{:?}", found.difference);
}

#[test]
fn a_baseline_of_one_seed_is_compared_with_all_seeds_of_an_arm() {
    let found = row(vec![arm("sft", 0.0, &[1], 50), arm("rouge", 0.2, &[1, 2, 3], 50)]);
    assert_eq!((found.verdict, found.seeds.len(), found.baseline_seeds.len()), (Verdict::Better, 3, 1));
}

#[test]
fn one_question_or_a_value_that_is_no_number_is_no_comparison() {
    let found = row(vec![arm("sft", 0.0, &[1, 2], 1), arm("rouge", 0.2, &[1, 2], 1)]);
    assert_eq!((found.verdict, found.p_value), (Verdict::NotSeparable, None));
    assert_eq!(found.note.as_deref(), Some("one question: nothing to tell chance by"));
    let mut broken = arm("rouge", 0.2, &[1], 9);
    broken.trials[0].scores.values_mut().flatten().for_each(|score| *score = Score::of(f64::NAN));
    let found = row(vec![arm("sft", 0.0, &[1], 9), broken]);
    assert_eq!(found.note.as_deref(), Some("no value: not a finite number"));
}

#[test]
fn the_correction_counts_the_arms_of_a_metric() {
    let others = |count: usize| (0..count).map(|i| arm(&format!("{i}same"), 0.0, &[1, 2, 3], 60));
    let weak = || vec![arm("sft", 0.0, &[1, 2, 3], 60), arm("weak", 0.03, &[1, 2, 3], 60)];
    let alone = row(weak());
    let among = row(weak().into_iter().chain(others(8)).collect());
    assert_eq!(alone.p_value, among.p_value, "the test itself does not change");
    assert_eq!(alone.p_corrected, alone.p_value);
    assert!(among.p_corrected > alone.p_corrected, "{among:?}");
}

#[test]
fn the_seeds_that_are_needed_are_those_that_then_suffice() {
    let few = row(vec![arm("sft", 0.0, &[1, 2], 40), arm("rouge", 0.015, &[1, 2], 40)]);
    assert_eq!(few.verdict, Verdict::NotSeparable, "{few:?}");
    let more = few.needs_more_seeds.expect("more seeds would do");
    let seeds: Vec<u64> = (1..=2 + 2 * more).collect();
    let many = row(vec![arm("sft", 0.0, &seeds, 40), arm("rouge", 0.015, &seeds, 40)]);
    assert_eq!((many.verdict, many.needs_more_seeds), (Verdict::Better, None), "{more} more: {many:?}");
}

#[test]
fn an_interval_ends_where_a_metric_does() {
    let arms = vec![arm("sft", 0.0, &[1, 2], 40), arm("rouge", 0.01, &[1, 2], 40)];
    let free = compare_by_rouge(&Evidence { arms: arms.clone(), ..Evidence::default() });
    let (low, high) = free.interval.unwrap();
    // of values that differ by 0.01 at most, no difference is more
    let ranges = [("eval/reward/rouge".to_owned(), (0.5, 0.51))].into();
    let bounded = compare_by_rouge(&Evidence { arms, ranges, ..Evidence::default() });
    assert!(low < -0.01 && high > 0.01, "{free:?}");
    assert_eq!(bounded.interval, Some((0.5 - 0.51, 0.51 - 0.5)));
    assert_eq!((bounded.p_value, bounded.verdict), (free.p_value, free.verdict));
}

fn compare_by_rouge(evidence: &Evidence) -> ArmComparison {
    let metrics = vec![("eval/reward/rouge".to_owned(), None)];
    let request = ComparisonRequest { baseline: "sft".to_owned(), metrics, resamples: 500, seed: 1 };
    compare(evidence, &request).metrics[0].arms[0].clone()
}

#[test]
fn where_seeds_alone_would_not_do_questions_are_needed_too() {
    let few = row(vec![arm("sft", 0.0, &[1, 2], 6), arm("rouge", 0.004, &[1, 2], 6)]);
    assert_eq!(few.verdict, Verdict::NotSeparable, "{few:?}");
    assert!(few.needs_more_seeds > Some(10) && few.needs_more_questions > Some(10), "{few:?}");
}

#[test]
fn less_is_better_where_that_is_said() {
    let evidence = Evidence {
        arms: vec![arm("sft", 0.0, &[1, 2, 3], 50), arm("rouge", 0.2, &[1, 2, 3], 50)],
        ..Evidence::default()
    };
    let metrics = vec![("eval/reward/rouge".to_owned(), Some(Direction::Lower))];
    let request = ComparisonRequest { baseline: "sft".to_owned(), metrics, resamples: 500, seed: 1 };
    assert_eq!(compare(&evidence, &request).metrics[0].arms[0].verdict, Verdict::Worse);
}

#[test]
fn a_baseline_without_results_compares_nothing_and_says_so() {
    let found = compared(vec![Arm { name: "sft".to_owned(), ..Arm::default() }, arm("rouge", 0.1, &[1], 5)]);
    assert!(found.problems.iter().any(|problem| problem.message.contains("`sft` has no result of `eval`")));
    assert!(found.metrics[0].arms.iter().all(|row| row.verdict == Verdict::NotCompared));
}

#[test]
fn evidence_and_comparisons_are_the_same_after_json() {
    let evidence =
        Evidence { arms: vec![arm("sft", 0.0, &[1, 2], 5), arm("rouge", 0.2, &[1, 2], 5)], ..Evidence::default() };
    let text = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    let found = compared(evidence.arms);
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Comparisons>(&text).unwrap(), found);
}
