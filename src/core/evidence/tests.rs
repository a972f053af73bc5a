//! Tests of comparisons on constructed evidence.

use super::*;
use crate::digest::Digest;
use crate::event::Measurement;
use crate::metric::COMMON_SCORE;
use crate::metric::Direction;
use crate::metric::TOTAL;
use crate::recipe::CompareSettings;
use crate::stage::StageKind;
use std::collections::BTreeMap;

const BETTER: Verdict = Verdict::Separable(Way::Better, Basis::Seeds);

/// Returns numbers that look uniform between -1 and 1.
fn noise(words: [usize; 3]) -> f64 {
    let mixed = words.into_iter().fold(0x9e37_79b9_7f4a_7c15_u64, |mixed, word| {
        let mixed = (mixed ^ word as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb)
    });
    (mixed >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// An arm that answered `questions` questions with these seeds, `lead` above the others.
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
            kind: StageKind::Eval,
            evaluation: "eval".to_owned(),
            key: Digest::of(format!("{name}{seed}").as_bytes()),
            answers: (0..questions).map(|question| QuestionCompletions { question, completions: Vec::new() }).collect(),
            scores: [("eval/reward/rouge".to_owned(), (0..questions).map(score).collect())].into(),
            mix: BTreeMap::new(),
            measurements: BTreeMap::new(),
        }
    };
    Arm { name: name.to_owned(), trials: seeds.iter().map(trial).collect(), ..Arm::default() }
}

fn request() -> ComparisonRequest {
    ComparisonRequest { baseline: "sft".to_owned(), ..ComparisonRequest::default() }
}

fn compared(arms: Vec<Arm>) -> Comparisons {
    let evidence = Evidence { arms, ..Evidence::default() };
    compare(&evidence, &request())
}

fn row(arms: Vec<Arm>) -> ArmComparison {
    compared(arms).metrics[0].arms[0].clone()
}

#[test]
fn seeds_that_have_nothing_in_common_are_not_paired() {
    let found = row(vec![arm("sft", 0.0, &[1, 2, 3], 50), arm("rouge", 0.2, &[4, 5], 50)]);
    assert_eq!((found.verdict, found.over), (BETTER, Some(Over::SeedsAndQuestions)));
    assert_eq!((found.seeds, found.baseline_seeds), (vec![4, 5], vec![1, 2, 3]));
    assert!((found.difference.unwrap() - 0.2).abs() < 0.03, "{:?}", found.difference);
}

#[test]
fn a_baseline_of_one_seed_is_compared_with_all_seeds_of_an_arm() {
    let found = row(vec![arm("sft", 0.0, &[1], 50), arm("rouge", 0.2, &[1, 2, 3], 50)]);
    assert_eq!((found.verdict, found.seeds.len(), found.baseline_seeds.len()), (BETTER, 3, 1));
}

#[test]
fn one_question_or_a_value_that_is_no_number_is_no_comparison() {
    let found = row(vec![arm("sft", 0.0, &[1, 2], 1), arm("rouge", 0.2, &[1, 2], 1)]);
    assert_eq!((found.verdict, found.p_value), (Verdict::NotSeparable, None));
    assert_eq!(found.note.as_deref(), Some("one question: the variance is unknown"));
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
    let Needed { least, most } = few.needs_more_seeds.expect("more seeds would do");
    assert!(most.is_none_or(|most| most > least), "two seeds tell little of the variance between them");
    let seeds: Vec<u64> = (1..=2 + 2 * most.unwrap_or(20)).collect();
    let many = row(vec![arm("sft", 0.0, &seeds, 40), arm("rouge", 0.015, &seeds, 40)]);
    assert_eq!((many.verdict, many.needs_more_seeds), (BETTER, None), "{} seeds: {many:?}", seeds.len());
}

#[test]
fn an_interval_ends_where_a_metric_does() {
    let arms = vec![arm("sft", 0.0, &[1, 2], 40), arm("rouge", 0.01, &[1, 2], 40)];
    let free = compare_by_rouge(&Evidence { arms: arms.clone(), ..Evidence::default() });
    let (low, high) = free.interval.unwrap();
    // for values within a range of 0.01, no difference is larger
    let ranges = [("eval/reward/rouge".to_owned(), (0.5, 0.51))].into();
    let bounded = compare_by_rouge(&Evidence { arms, ranges, ..Evidence::default() });
    assert!(low < -0.01 && high > 0.01, "{free:?}");
    assert_eq!(bounded.interval, Some((0.5 - 0.51, 0.51 - 0.5)));
    assert_eq!((bounded.p_value, bounded.verdict), (free.p_value, free.verdict));
}

fn compare_by_rouge(evidence: &Evidence) -> ArmComparison {
    let request = ComparisonRequest { metrics: vec![("eval/reward/rouge".to_owned(), None)], ..request() };
    compare(evidence, &request).metrics[0].arms[0].clone()
}

#[test]
fn where_seeds_alone_would_not_do_questions_are_needed_too() {
    let few = row(vec![arm("sft", 0.0, &[1, 2], 6), arm("rouge", 0.004, &[1, 2], 6)]);
    assert_eq!(few.verdict, Verdict::NotSeparable, "{few:?}");
    assert!(few.needs_more_seeds.is_some_and(|needed| needed.least > 10), "{few:?}");
    assert!(few.needs_more_questions > Some(10), "{few:?}");
}

#[test]
fn less_is_better_where_that_is_said() {
    let evidence = Evidence {
        arms: vec![arm("sft", 0.0, &[1, 2, 3], 50), arm("rouge", 0.2, &[1, 2, 3], 50)],
        ..Evidence::default()
    };
    let metrics = vec![("eval/reward/rouge".to_owned(), Some(Direction::Lower))];
    let worse = Verdict::Separable(Way::Worse, Basis::Seeds);
    let found = compare(&evidence, &ComparisonRequest { metrics, ..request() });
    assert_eq!(found.metrics[0].arms[0].verdict, worse);
    let settings = CompareSettings { lower: vec!["rouge".to_owned()], ..CompareSettings::default() };
    let found = compare(&Evidence { settings, ..evidence }, &request());
    assert_eq!(found.metrics[0].arms[0].verdict, worse, "the recipe says so");
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

/// An arm with these component weights; each answer scores `value` for each component, and the total is the weighted
/// sum.
fn mixed(name: &str, seeds: &[u64], mix: &[(&str, f64)], value: f64) -> Arm {
    let mut arm = arm(name, 0.0, seeds, 30);
    for trial in &mut arm.trials {
        let scores = |value: f64| -> Vec<Score> {
            (0..30).map(|question| Score::of(value + 0.1 * noise([1, 1, question]))).collect()
        };
        trial.scores.clear();
        let mut total = 0.0;
        for (component, weight) in mix {
            total += weight * value;
            trial.scores.insert(format!("eval/reward/{component}"), scores(value));
            let part = MixPart { weight: *weight, settings: Digest::of(component.as_bytes()) };
            trial.mix.insert((*component).to_owned(), part);
        }
        trial.scores.insert(TOTAL.to_owned(), scores(total));
    }
    arm
}

#[test]
fn sums_of_different_rewards_are_not_compared_and_a_common_score_is() {
    let rouge = mixed("rouge", &[1, 2, 3], &[("format", 1.0), ("rouge", 1.0), ("semantic", 0.0)], 0.5);
    let semantic = mixed("sft", &[1, 2, 3], &[("format", 0.5), ("rouge", 0.0), ("semantic", 2.0)], 0.5);
    let mut evidence = Evidence { arms: vec![semantic, rouge], ..Evidence::default() };
    evidence.add_common_score();
    let found = compare(&evidence, &request());
    let of = |metric: &str| found.metrics.iter().find(|of| of.metric == metric).unwrap().arms[0].clone();
    assert_eq!((of(TOTAL).verdict, of(TOTAL).difference), (Verdict::NotCompared, None));
    assert_eq!(of(TOTAL).note.as_deref(), Some("the arms' reward mixes differ"));
    // the answers are the same
    assert_eq!((of(COMMON_SCORE).verdict, of(COMMON_SCORE).difference), (Verdict::NotSeparable, Some(0.0)));
    assert_eq!(evidence.common_score, [("format".to_owned(), 1.0)].into(), "what both mixes share");
    assert!(evidence.problems.iter().any(|problem| problem.kind == ProblemKind::DifferentMixes));
    assert_eq!(found.metrics.iter().find(|of| of.role == Role::Primary).unwrap().metric, COMMON_SCORE);
}

#[test]
fn the_recipes_mix_scores_every_arm() {
    let mix = [("format", 1.0), ("rouge", 1.0)];
    let arms = vec![mixed("sft", &[1, 2], &mix, 0.5), mixed("rouge", &[1, 2], &mix, 0.7)];
    let mut evidence = Evidence { arms, ..Evidence::default() };
    evidence.add_common_score();
    assert!(evidence.common_score.is_empty(), "the sum of the rewards is one already");
    assert_eq!(evidence.problems, []);
    evidence.settings.score = [("rouge".to_owned(), 3.0)].into();
    evidence.add_common_score();
    let found = compare(&evidence, &request());
    let of = found.metrics.iter().find(|of| of.metric == COMMON_SCORE).unwrap();
    assert!((of.arms[0].difference.unwrap() - 0.6).abs() < 1e-12);
}

#[test]
fn a_component_that_is_made_otherwise_is_another_one() {
    let mut other = mixed("rouge", &[1, 2], &[("semantic", 1.0)], 0.7);
    for trial in &mut other.trials {
        trial.mix.get_mut("semantic").unwrap().settings = Digest::of(b"another encoder");
    }
    let found = compared(vec![mixed("sft", &[1, 2], &[("semantic", 1.0)], 0.5), other]);
    let row = &found.metrics.iter().find(|of| of.metric == "eval/reward/semantic").unwrap().arms[0];
    assert_eq!(row.note.as_deref(), Some("the arms measure `semantic` with different settings"));
    assert_eq!(row.verdict, Verdict::NotCompared);
}

#[test]
fn what_a_program_measures_is_neither_better_nor_worse_until_somebody_says() {
    let measured = |name: &str, values: [f64; 3]| {
        let mut arm = arm(name, 0.0, &[1, 2, 3], 0);
        for (trial, value) in arm.trials.iter_mut().zip(values) {
            (trial.scores, trial.answers) = (BTreeMap::new(), Vec::new());
            let measurement = Measurement { value, interval: None, count: None };
            trial.measurements.insert("invalid_frac".to_owned(), measurement);
        }
        arm
    };
    let arms = vec![measured("sft", [0.1, 0.12, 0.11]), measured("rouge", [0.4, 0.42, 0.43])];
    let found = compared(arms.clone());
    assert_eq!(found.metrics[0].arms[0].verdict, Verdict::Separable(Way::Higher, Basis::Seeds));
    let settings = CompareSettings { lower: vec!["invalid_frac".to_owned()], ..CompareSettings::default() };
    let found = compare(&Evidence { arms, settings, ..Evidence::default() }, &request());
    assert_eq!(found.metrics[0].arms[0].verdict, Verdict::Separable(Way::Worse, Basis::Seeds));
}

#[test]
fn one_seed_is_a_verdict_on_these_questions() {
    let found = row(vec![arm("sft", 0.0, &[1], 50), arm("rouge", 0.2, &[1], 50)]);
    assert_eq!(found.verdict, Verdict::Separable(Way::Better, Basis::OneSeed));
    assert_eq!(found.over, Some(Over::Questions));
}

#[test]
fn a_verdict_never_contradicts_its_interval() {
    for lead in 0..60 {
        let lead = f64::from(lead) * 0.001;
        for seeds in [&[1][..], &[1, 2], &[1, 2, 3]] {
            let found = row(vec![arm("sft", 0.0, seeds, 25), arm("rouge", lead, seeds, 25)]);
            let (low, high) = found.interval.unwrap();
            assert_eq!(found.verdict.way().is_some(), low > 0.0 || high < 0.0, "{lead} {found:?}");
        }
    }
}

/// Evidence of two arms whose question i has the value `slice(i)` of `subject`.
fn sliced(lead: f64, questions: usize, slice: &dyn Fn(usize) -> &'static str) -> Evidence {
    let question = |place: usize| Question {
        id: place.to_string(),
        data_set: "mcq".to_owned(),
        out_of_domain: false,
        row: place,
        prompt: String::new(),
        reference: None,
        answer: None,
        slices: [("subject".to_owned(), slice(place).to_owned())].into(),
    };
    Evidence {
        arms: vec![arm("sft", 0.0, &[1, 2, 3], questions), arm("rouge", lead, &[1, 2, 3], questions)],
        questions: (0..questions).map(question).collect(),
        ..Evidence::default()
    }
}

#[test]
fn slices_are_compared_on_their_questions_and_corrected_together() {
    let evidence =
        sliced(0.2, 60, &|question| if question == 0 { "rare" } else { ["art", "law", "bio"][question % 3] });
    let whole = compare(&evidence, &request());
    assert_eq!(whole.metrics.len(), 1, "without the request, no slice is compared");
    let found = compare(&evidence, &ComparisonRequest { by: vec!["subject".to_owned()], ..request() });
    assert_eq!(found.metrics[0], whole.metrics[0], "the whole is compared as without slices");
    let slices = &found.metrics[1..];
    let names: Vec<&str> = slices.iter().map(|metric| metric.metric.as_str()).collect();
    let expected = ["art", "bio", "law", "rare"].map(|value| format!("eval/reward/rouge{{subject={value}}}"));
    assert_eq!(names, expected);
    let rows: Vec<&ArmComparison> = slices.iter().map(|metric| &metric.arms[0]).collect();
    assert_eq!(rows.iter().map(|row| row.questions).collect::<Vec<_>>(), [19, 20, 20, 1]);
    assert!(slices.iter().all(|metric| metric.role == Role::Exploratory));
    assert!(rows[..3].iter().all(|row| row.verdict == BETTER), "{rows:?}");
    assert_eq!((rows[3].p_value, rows[3].note.as_deref()), (None, Some("one question: the variance is unknown")));
    // Holm over the three slices with a p-value: the smallest is multiplied by three
    let smallest = rows[..3].iter().min_by(|a, b| a.p_value.partial_cmp(&b.p_value).unwrap()).unwrap();
    assert!((smallest.p_corrected.unwrap() - 3.0 * smallest.p_value.unwrap()).abs() < 1e-12, "{smallest:?}");
    // the means weighted by questions are those of the whole
    let weighted = |value: &dyn Fn(&ArmComparison) -> Option<f64>| {
        rows.iter().map(|row| value(row).unwrap() * row.questions as f64).sum::<f64>() / 60.0
    };
    let all = &found.metrics[0].arms[0];
    assert!((weighted(&|row| row.value) - all.value.unwrap()).abs() < 1e-12);
    assert!((weighted(&|row| row.baseline) - all.baseline.unwrap()).abs() < 1e-12);
    assert!((weighted(&|row| row.difference) - all.difference.unwrap()).abs() < 1e-12);
}

#[test]
fn many_slices_without_a_difference_find_none() {
    let evidence = sliced(0.0, 120, &|question| {
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"]
            [question % 20]
    });
    let found = compare(&evidence, &ComparisonRequest { by: vec!["subject".to_owned()], ..request() });
    let rows: Vec<&ArmComparison> = found.metrics[1..].iter().map(|metric| &metric.arms[0]).collect();
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| row.verdict == Verdict::NotSeparable), "{rows:?}");
}

#[test]
fn slices_that_a_program_reports_are_compared_over_seeds() {
    let mut evidence = sliced(0.0, 10, &|_| "x");
    evidence.questions.clear();
    for (arm, lead) in evidence.arms.iter_mut().zip([0.0, 0.3]) {
        for (trial, noise) in arm.trials.iter_mut().zip([0.0, 0.01, 0.02]) {
            trial.answers.clear();
            trial.scores.clear();
            let measured =
                |value: f64| Measurement { value: value + lead + noise * (1.0 + lead), interval: None, count: None };
            trial.measurements = [("acc".to_owned(), measured(0.4)), ("acc{lang=de}".to_owned(), measured(0.2))].into();
        }
    }
    assert_eq!(slice_names(&evidence).into_iter().collect::<Vec<_>>(), ["lang"]);
    let found = compare(&evidence, &ComparisonRequest { by: vec!["lang".to_owned()], ..request() });
    let row = &found.metrics[1].arms[0];
    assert_eq!((found.metrics[1].metric.as_str(), row.over), ("acc{lang=de}", Some(Over::Seeds)));
    assert!((row.difference.unwrap() - 0.303).abs() < 1e-9, "{row:?}");
}
