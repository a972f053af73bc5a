use super::*;
use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::event::ComponentScore;
use crate::rewards::testing::LetterEncoder;
use crate::rewards::{
    Component, CorrectnessSpec, FormatSpec, Grading, JudgeAccess, Match, RewardContext, RewardMix, RewardScore,
    RewardSpec, RougeMeasure, RougeSpec, RougeTokenizer, RougeVariant, Sample, Scope, SemanticSpec, StopCheck,
};
use std::collections::BTreeMap;
use std::path::Path;

const PROMPT: &str = "Which organ pumps blood through arteries?\nA) liver\nB) heart\nC) lung";
const REFERENCE: &str = "The heart has 4 chambers. It is the heart that pumps blood. Valves keep its direction.";
const COMPLETION: &str = "<think>The heart has 4 chambers. It pumps blood.</think>\n<answer>B</answer>";

fn row() -> Row<'static> {
    Row {
        prompt: PROMPT,
        completion: COMPLETION,
        reference: Some(REFERENCE),
        answer: Some("B"),
        neighbour: Some("The liver makes bile."),
    }
}

#[track_caller]
fn thought(probe: Probe) -> String {
    let completion = probe.completion(&row(), 7).expect("the probe applies");
    let inside = completion.strip_prefix("<think>").and_then(|rest| rest.strip_suffix("</think>\n<answer>B</answer>"));
    inside.expect("tags and answer stay").to_owned()
}

#[test]
fn each_probe_changes_the_prose_and_keeps_the_form() {
    assert_eq!(thought(Probe::Echo), PROMPT);
    let mut keywords: Vec<String> = thought(Probe::Keywords).split(' ').map(str::to_owned).collect();
    assert_eq!(thought(Probe::Keywords), thought(Probe::Keywords), "the shuffle is seeded");
    keywords.sort();
    assert_eq!(keywords, ["4", "Valves", "blood", "chambers", "direction", "heart", "heart", "keep", "pumps"]);
    let vacuous = thought(Probe::Vacuous);
    assert!(vacuous.starts_with("arteries is an important concept. There are many factors"), "{vacuous}");
    assert!(vacuous.contains("arteries and organ"), "the two longest words: {vacuous}");
    let padded = thought(Probe::Padded);
    assert!(padded.starts_with("The heart has 4 chambers. It pumps blood. arteries is"), "{padded}");
    assert!(padded.split(' ').count() >= 24, "three times 8 words: {padded}");
    assert_eq!(
        thought(Probe::Repeated),
        "The heart has 4 chambers. The heart has 4 chambers. The heart has 4 chambers."
    );
    assert_eq!(thought(Probe::Negated), "The heart has not 4 chambers. It pumps blood.");
    assert_eq!(thought(Probe::Halved), "The heart has 4 chambers.");
    assert_eq!(thought(Probe::Neighbour), "The liver makes bile.");
    assert_eq!(thought(Probe::Unanswered), "Valves keep its direction.");
    let swapped = "<think>The heart has 5 chambers. It pumps blood.</think>\n<answer>A</answer>";
    assert_eq!(Probe::Swapped.completion(&row(), 7).as_deref(), Some(swapped));
    assert_eq!(Probe::Climbed.completion(&row(), 7), None, "it needs the component");
}

#[test]
fn negation_is_inserted_and_removed() {
    for (text, expected) in [
        ("The valve is open.", "The valve is not open."),
        ("The valve is not open.", "The valve is open."),
        ("It can't close, it isn't able.", "It can close, it isn't able."),
        ("It cannot close.", "It can close."),
        ("It doesn\u{2019}t. They are.", "It does. They are not."),
        ("Blood flows.", "It is not true that Blood flows."),
    ] {
        let found = Probe::Negated.completion(&Row { completion: text, ..row() }, 0);
        assert_eq!(found.as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn a_probe_without_its_texts_does_not_apply() {
    let bare = Row { reference: None, answer: None, neighbour: None, ..row() };
    for probe in [Probe::Keywords, Probe::Neighbour, Probe::Unanswered] {
        assert_eq!(probe.completion(&bare, 0), None, "{probe:?}");
    }
    let unheld = Row { answer: Some("C"), ..row() };
    assert_eq!(Probe::Unanswered.completion(&unheld, 0), None, "no sentence holds `lung`");
    let only_answer = Row { completion: "<answer>heart</answer>", ..row() };
    for probe in Probe::ALL {
        assert_eq!(probe.completion(&only_answer, 0), None, "{probe:?}");
    }
}

#[test]
fn the_nearest_other_row_is_another_text() {
    let texts = ["the heart pumps blood", "the liver makes bile", "the heart pumps blood", "a heart pumps"].map(Some);
    assert_eq!(neighbours::nearest(&texts, None, 9), [Some(3), Some(0), Some(3), Some(0)]);
    let vectors = [vec![1.0, 0.0], vec![0.8, 0.6], vec![1.0, 0.0], vec![0.0, 1.0]];
    assert_eq!(neighbours::nearest(&texts, Some(&vectors), 9), [Some(1), Some(0), Some(1), Some(1)]);
    assert_eq!(neighbours::nearest(&[Some("a"), None, Some("a")], None, 9), [None; 3]);
}

#[test]
fn a_climb_adds_the_sentence_that_raises_most_until_none_does() {
    let rate = |texts: &[String]| {
        let value = |text: &String| Some(f64::from(u8::from(text.contains("xx"))) + text.len() as f64 / 100.0);
        Ok::<_, ()>(texts.iter().map(value).collect())
    };
    assert_eq!(climb::climbed(&["a", "xx", "bbbb"], rate).unwrap().as_deref(), Some("xx bbbb bbbb"));
    let falls = |texts: &[String]| Ok::<_, ()>(texts.iter().map(|text| Some(-(text.len() as f64))).collect());
    assert_eq!(climb::climbed(&["aa", "b"], falls).unwrap().as_deref(), Some("b"));
    assert_eq!(climb::climbed(&["a"], |texts| Ok::<_, ()>(vec![None; texts.len()])).unwrap(), None);
}

fn letter_mix() -> BTreeMap<String, RewardSpec> {
    let semantic = SemanticSpec {
        encoder: Digest::of(b"letters"),
        dtype: Dtype::Float32,
        baseline: None,
        prompt: None,
        references: None,
        window_sentences: None,
    };
    let rouge = RougeSpec {
        variant: RougeVariant::L,
        measure: RougeMeasure::F1,
        tokenizer: RougeTokenizer::Unicode,
        stemming: false,
    };
    let tags = vec!["think".to_owned(), "answer".to_owned()];
    let format = FormatSpec::Tags { tags, grading: Grading::Binary, answers: Vec::new() };
    [
        ("correctness", Scope::Answer, CorrectnessSpec { matching: Match::Choice, pattern: None }.into()),
        ("format", Scope::Completion, Component::Format(format)),
        ("letters", Scope::Think, Component::Semantic(semantic)),
        ("rouge", Scope::Think, Component::Rouge(rouge)),
    ]
    .map(|(name, scope, component)| (name.to_owned(), RewardSpec::plain(1.0, scope, component)))
    .into()
}

/// Rows whose references have content words only, and completions that equal them.
fn report() -> ProbeReport {
    let spec = letter_mix();
    let nowhere = Path::new("/nonexistent");
    let mut mix = RewardMix::new(
        &spec,
        RewardContext {
            total: &crate::rewards::Total::Sum,
            encoder: &mut |_, _, _| Ok(Box::new(LetterEncoder::default())),
            classifier: &mut |_, _, _| Err("no classifier".into()),
            count_tokens: &|| Err("no tokenizer".into()),
            judges: JudgeAccess {
                servers: &BTreeMap::new(),
                cache: nowhere,
                ledgers: nowhere,
                variable: &|_| None,
                stop: &StopCheck::never(),
            },
            file: &|_| None,
            endpoints: &BTreeMap::new(),
            seed: 1,
            rows: &|| Err("no rows".into()),
            row_fields: &|| Err("no rows".into()),
        },
    )
    .unwrap();
    let texts = [
        "heart pumps oxygenated blood",
        "liver makes bile salts",
        "kidneys filter plasma water",
        "lungs exchange carbon dioxide",
        "stomach churns swallowed food",
        "spleen stores red cells",
    ];
    let completions: Vec<String> = texts.iter().map(|t| format!("<think>{t}</think><answer>C</answer>")).collect();
    let samples: Vec<Sample<'_>> = texts
        .iter()
        .zip(&completions)
        .map(|(text, completion)| Sample {
            prompt: "Which organ?",
            completion,
            reference: Some(text),
            answer: Some("C"),
            ..crate::rewards::testing::sample("")
        })
        .collect();
    let scores = mix.score(&samples).unwrap();
    let probing = Probing::new(&mut mix, &spec, &texts.map(Some)).unwrap();
    let mut tally = ProbeTally::default();
    tally.add_group(&scores.iter().collect::<Vec<_>>());
    let probed = samples.iter().zip(&scores).enumerate();
    let probed: Vec<Probed<'_>> =
        probed.map(|(row, (&sample, score))| Probed { row, seed: row as u64 + 1, sample, score }).collect();
    probing.add(&mut mix, &probed, &mut tally).unwrap();
    tally.report(texts.len(), &spec)
}

#[test]
fn a_bag_of_letters_is_caught_by_keywords_and_rouge_is_not() {
    let report = report();
    let of = |component: &str, probe: &str| &report.components[component].probes[probe];
    let letters = of("letters", "keywords");
    assert!(letters.rows >= 5, "a shuffle may leave a text as it is: {letters:?}");
    assert_eq!((letters.exploit, letters.equal, letters.low), (0.5, 1.0, None), "{letters:?}");
    let rouge = of("rouge", "keywords");
    assert_eq!((rouge.exploit, rouge.equal), (0.0, 0.0), "{rouge:?}");
    assert!(rouge.high.unwrap() < 0.5, "{rouge:?}");
    let warned = |component: &str| {
        report
            .warnings
            .iter()
            .any(|w| w.starts_with(&format!("`{component}` does not")) && w.contains("`keywords` (0.50)"))
    };
    assert!(warned("letters") && !warned("rouge"), "{:?}", report.warnings);
}

#[test]
fn correctness_is_caught_by_swapped_only() {
    let report = report();
    let correctness = &report.components["correctness"].probes;
    assert_eq!(correctness.keys().copied().collect::<Vec<_>>(), ["swapped"], "nothing else changes the answer");
    assert_eq!((correctness["swapped"].exploit, correctness["swapped"].probe), (0.0, 0.0));
    assert_eq!((correctness["swapped"].truth, correctness["swapped"].rows), (1.0, 6));
}

#[test]
fn a_form_that_stays_is_not_warned_of() {
    let report = report();
    let format = &report.components["format"].probes;
    assert!(format.values().all(|found| (found.exploit, found.equal) == (0.5, 1.0)), "{format:?}");
    assert!(!report.warnings.iter().any(|warning| warning.contains("`format`")), "{:?}", report.warnings);
    assert!(report.total.probes["swapped"].exploit < 0.5);
}

#[test]
fn chosen_sentences_reach_less_than_an_equal_text() {
    let report = report();
    for component in ["letters", "rouge"] {
        let climbed = &report.components[component].probes["climbed"];
        assert_eq!((climbed.exploit, climbed.rows, climbed.truth > 0.99), (0.0, 6, true), "{component}: {climbed:?}");
        let neighbour = &report.components[component].probes["neighbour"];
        assert!(climbed.probe >= neighbour.probe - 1e-9, "{component}: the climb may choose the neighbour");
    }
}

fn score(total: Option<f64>, value: Option<f64>) -> RewardScore {
    let missing = value.is_none().then(|| "no reference".to_owned());
    let part = ComponentScore { value, weight: 1.0, missing };
    RewardScore { total, parts: BTreeMap::from([("rouge".to_owned(), part)]) }
}

#[test]
fn a_rate_counts_ties_half_and_a_gap_is_in_deviations_within_groups() {
    let mut tally = ProbeTally::default();
    // variances 0.02 and 0.08: root mean variance 0.05 ** 0.5
    for values in [[0.2, 0.4], [0.1, 0.5]] {
        let scores = values.map(|value| score(Some(value), Some(value)));
        tally.add_group(&scores.iter().collect::<Vec<_>>());
    }
    tally.add_group(&[&score(None, None), &score(Some(1.0), Some(1.0))]); // one value has no spread
    for (truth, probe) in [(0.2, 0.4), (0.5, 0.5 + 1e-9), (0.9, 0.1), (0.4, 0.2)] {
        tally.add("rouge", Probe::Echo, truth, probe);
    }
    let exploits = tally.exploits();
    let found = &exploits["rouge"][&Probe::Echo];
    assert_eq!((found.exploit, found.equal, found.rows), (1.5 / 4.0, 0.25, 4));
    assert!((found.gap.unwrap() - (0.3 - 0.5) / 0.05_f64.sqrt()).abs() < 1e-6, "{found:?}");
    let (low, high) = (found.low.unwrap(), found.high.unwrap());
    assert!(0.0 < low && low < found.exploit && found.exploit < high && high < 1.0, "{found:?}");
}

#[test]
fn a_rate_above_a_half_warns_and_padding_may_be_equal() {
    let warned = |component: &str, probe: Probe, pairs: &[(f64, f64)]| {
        let mut tally = ProbeTally::default();
        for &(truth, probed) in pairs {
            tally.add(component, probe, truth, probed);
        }
        tally.report(pairs.len(), &letter_mix()).warnings.len()
    };
    assert_eq!(warned("rouge", Probe::Padded, &[(0.5, 0.5), (0.5, 0.5)]), 0);
    assert_eq!(warned("rouge", Probe::Echo, &[(0.5, 0.5), (0.5, 0.5)]), 1);
    assert_eq!(warned("format", Probe::Echo, &[(0.5, 0.5), (0.5, 0.5)]), 0);
    assert_eq!(warned("format", Probe::Echo, &[(0.5, 0.6), (0.5, 0.5)]), 1);
    assert_eq!(warned("total", Probe::Padded, &[(0.5, 0.6), (0.5, 0.5)]), 1);
}

#[test]
fn a_tally_comes_back_from_a_resume_point() {
    let mut tally = ProbeTally::default();
    tally.add("rouge", Probe::Echo, 0.1 + 0.2, 0.3);
    tally.add_group(&[&score(Some(0.1), Some(0.2)), &score(Some(0.3), Some(0.7))]);
    let back: ProbeTally = serde_json::from_str(&serde_json::to_string(&tally).unwrap()).unwrap();
    assert_eq!(back, tally);
}
