use super::*;
use crate::event::ComponentScore;

/// A completion of a constructed step.
struct Row {
    text: String,
    tokens: usize,
    score: RewardScore,
}

fn row(text: &str, tokens: usize, parts: &[(&str, f64, f64)]) -> Row {
    let part = |&(name, value, weight): &(&str, f64, f64)| {
        (name.to_owned(), ComponentScore { value: Some(value), weight, missing: None })
    };
    let total = parts.iter().map(|(_, value, weight)| value * weight).sum();
    Row {
        text: text.to_owned(),
        tokens,
        score: RewardScore { total: Some(total), parts: parts.iter().map(part).collect() },
    }
}

/// Watches `steps` steps of one group each and collects the warnings with their steps.
fn watch(steps: u64, group: impl Fn(u64) -> Vec<Row>) -> Vec<(u64, String)> {
    let mut watch = RewardWatch::default();
    let mut said = Vec::new();
    for step in 1..=steps {
        let rows = group(step);
        let watched: Vec<Watched<'_>> =
            rows.iter().map(|row| Watched { completion: &row.text, tokens: row.tokens, score: &row.score }).collect();
        said.extend(watch.observe(step, &watched, rows.len()).into_iter().map(|warning| (step, warning)));
    }
    said
}

/// Small noise, the same in every run and without order.
fn noise(step: u64) -> f64 {
    (step * 7 % 5) as f64 / 100.0
}

/// Two components of equal spread, in two orders, with no repetition and constant lengths.
fn healthy(step: u64) -> Vec<Row> {
    let values = [(0.0, 0.3, 50), (0.4, 0.1, 52), (0.2, 0.4, 51), (0.3, 0.2, 49)];
    let rows = values.into_iter().enumerate();
    rows.map(|(i, (a, b, tokens))| row(&format!("{step} {i}"), tokens, &[("a", a, 1.0), ("b", b + noise(step), 1.0)]))
        .collect()
}

#[test]
fn a_healthy_run_is_left_in_peace() {
    assert_eq!(watch(500, healthy), []);
}

#[test]
fn reward_for_length_is_reported_when_completions_grow() {
    let grow = |step: u64| {
        let group = (0..4u32).map(|i| {
            let tokens = 40 + 10 * i as usize + usize::try_from(step).unwrap();
            let value = f64::from(i) / 10.0;
            row(&format!("{step} {i}"), tokens, &[("a", value, 1.0), ("b", value / 2.0, 1.0)])
        });
        group.collect()
    };
    let said = watch(60, grow);
    let [(20, message)] = &said[..] else { panic!("{said:?}") };
    // 0.15 per ten tokens; mean lengths are 55 + step, over steps 1 to 10 and 11 to 20
    let expected = "steps 1 to 20: the longer a completion, the higher its reward (correlation 1.00, +1.500 per 100 tokens), \
                    and completions grow from 60 to 70 tokens";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn long_completions_that_do_not_grow_and_growth_that_does_not_pay_are_no_sign() {
    let group = |step: u64, tokens: usize, pay: f64| {
        let rows = (0..4u32).map(|i| {
            let value = f64::from(i) / 10.0;
            row(&format!("{step} {i}"), tokens + 10 * i as usize, &[("a", pay * value, 1.0), ("b", 0.3 - value, 1.0)])
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(watch(60, |step| group(step, 40, 3.0)), []);
    assert_eq!(watch(60, |step| group(step, 40 + usize::try_from(step).unwrap(), 0.5)), []);
}

#[test]
fn a_component_that_decides_alone_is_reported() {
    let drowned = |share: f64| {
        move |step: u64| {
            let rows = (0..4u32).map(|i| {
                let value = f64::from(i % 2);
                row(
                    &format!("{step} {i}"),
                    50,
                    &[("correct", share * value, 1.0), ("cosine", (1.0 - share) * value, 1.0)],
                )
            });
            rows.collect()
        }
    };
    assert_eq!(watch(60, drowned(0.89)), []);
    let said = watch(60, drowned(0.92));
    let [(20, message)] = &said[..] else { panic!("{said:?}") };
    assert!(message.contains("`correct` accounts for 92% of the reward's spread within groups"), "{message}");
    // a component that is alone in the mix may dominate
    let alone =
        |step: u64| (0..4u32).map(|i| row(&format!("{step} {i}"), 50, &[("only", f64::from(i), 1.0)])).collect();
    assert_eq!(watch(60, alone), []);
}

#[test]
fn repeated_completions_are_reported() {
    let texts = |texts: [&'static str; 4]| {
        move |step: u64| {
            let mut rows = healthy(step);
            for (row, text) in rows.iter_mut().zip(texts) {
                text.clone_into(&mut row.text);
            }
            rows
        }
    };
    assert_eq!(watch(60, texts(["x", "x", "x", "y"])), [], "half of them is not more than half");
    let said = watch(60, texts(["x", "x", "x", "x"]));
    let [(20, message)] = &said[..] else { panic!("{said:?}") };
    assert!(message.contains("75% of the completions repeat another one of their group"), "{message}");
}

#[test]
fn repeats_are_counted_within_groups() {
    assert_eq!(repeats(["a", "b", "a", "a", "a", "b"].into_iter(), 3), 2);
    assert_eq!(repeats(std::iter::empty(), 3), 0);
}

#[test]
fn a_held_out_component_that_falls_while_the_reward_rises_is_reported() {
    let with = |trained: f64, held_out: f64| {
        move |step: u64| {
            let mut rows = healthy(step);
            for row in &mut rows {
                *row.score.total.as_mut().unwrap() += trained * step as f64;
                let value = Some(0.5 + held_out * step as f64 + noise(step + 2));
                row.score.parts.insert("rouge".to_owned(), ComponentScore { value, weight: 0.0, missing: None });
            }
            rows
        }
    };
    let said = watch(60, with(0.01, -0.01));
    let [(20, message)] = &said[..] else { panic!("{said:?}") };
    assert!(message.contains("while the held-out `rouge` falls from"), "{message}");
    assert_eq!(watch(60, with(0.01, 0.01)), [], "both rise");
    assert_eq!(watch(60, with(-0.01, -0.01)), [], "both fall");
    assert_eq!(watch(60, with(0.01, 0.0)), [], "the held-out component stays");
    assert_eq!(watch(60, with(0.0, -0.01)), [], "the reward stays");
}

#[test]
fn a_sign_is_told_again_only_after_many_steps() {
    let repeat = |step: u64| {
        let mut rows = healthy(step);
        for row in &mut rows {
            "x".clone_into(&mut row.text);
        }
        rows
    };
    let steps: Vec<u64> = watch(500, repeat).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [20, 220, 420]);
}

#[test]
fn what_is_remembered_is_small_and_survives_a_resume_point() {
    let mut watch = RewardWatch::default();
    for step in 1..=300 {
        let rows = healthy(step);
        let watched: Vec<Watched<'_>> =
            rows.iter().map(|row| Watched { completion: &row.text, tokens: row.tokens, score: &row.score }).collect();
        watch.observe(step, &watched, rows.len());
        assert!(watch.window.len() <= WINDOW);
    }
    let text = serde_json::to_string(&watch).unwrap();
    assert!(text.len() < 16_000, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<RewardWatch>(&text).unwrap().window.len(), WINDOW);
}

#[test]
fn steps_without_any_total_are_no_sign_of_anything() {
    let missing = |step: u64| {
        let mut rows = healthy(step);
        for row in &mut rows {
            row.score.total = None;
        }
        rows
    };
    assert_eq!(watch(60, missing), []);
}
