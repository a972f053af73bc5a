//! Tests the page of a report in which every text is hostile.

use super::*;
use crate::event::Measurement;
use crate::report::chart::{Bucket, CurveLine, GraphNode, NodeStatus, Whisker};
use crate::stage::{RunStatus, StageStatus};

const HOSTILE: &str =
    "</script><script>alert(1)</script><!--<script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}\u{2028}";

#[expect(clippy::too_many_lines, reason = "every field of a report is told once")]
fn hostile() -> Report {
    let text = || HOSTILE.to_owned();
    let measured = Measurement { value: 0.41, interval: Some((0.33, 0.49)), count: Some(31) };
    let whisker = Whisker { name: text(), value: 1500.0, low: 1450.0, high: 1540.0 };
    Report {
        title: text(),
        runs: vec![RunLine { run: text(), status: RunStatus::Ok, host: text(), ..RunLine::default() }],
        problems: vec![Problem { severity: Severity::Problem, what: text(), details: vec![text(); 5] }],
        arms: vec![
            Arm {
                name: text(),
                seeds: vec!["1".into()],
                is_baseline: true,
                trained_on: [(text(), 0.5)].into(),
                differs: vec![text()],
            },
            Arm { name: "rouge".into(), seeds: vec!["1".into()], is_baseline: false, ..Arm::default() },
        ],
        inputs: vec![(text(), text())],
        verdicts: vec![VerdictView {
            metric: text(),
            title: text(),
            direction: text(),
            role: text(),
            line: text(),
            sentences: vec![text()],
            rows: vec![VerdictRow {
                arm: 1,
                value: Some(measured),
                difference: Some(measured),
                p_value: Some(0.0001),
                effect: Some(-0.2),
                word: "better".into(),
                class: "better".into(),
                remark: text(),
            }],
        }],
        ratings: vec![Rating {
            title: text(),
            rows: vec![whisker.clone(), whisker],
            wins: vec![vec![None, Some(0.5)], vec![Some(0.5), None]],
            slices: vec![RatingSlices {
                by: text(),
                rows: vec![
                    RatingSlice {
                        value: text(),
                        questions: 12,
                        comparisons: 24,
                        ratings: vec![Some(measured), None],
                        first: Some(0),
                        too_few: String::new(),
                    },
                    RatingSlice { value: text(), too_few: text(), ..RatingSlice::default() },
                ],
            }],
            remarks: vec![text()],
        }],
        scores: Scores {
            components: vec![Component { metric: text(), name: text(), held_out: true }],
            rows: vec![vec![None], vec![Some(ScoreCell { measured, verdict: "better".into(), trained: true })]],
        },
        slices: vec![SliceMap {
            title: text(),
            by: text(),
            rows: vec![SliceRow {
                value: text(),
                questions: 3,
                cells: vec![None, Some(ScoreCell { measured, verdict: "worse".into(), trained: false })],
            }],
        }],
        controls: vec![text()],
        choices: vec![text()],
        mixes: vec![MixView {
            arm: 0,
            stage: text(),
            rows: vec![MixRow { name: text(), share: Some(0.5), correlations: vec![None] }],
        }],
        curves: vec![Curve {
            stage: text(),
            metric: text(),
            lines: vec![CurveLine {
                arm: 0,
                name: text(),
                seeds: 1,
                steps: 2,
                points: vec![
                    Bucket { step: 1, mean: 1.0, low: 0.5, high: 1.5 },
                    Bucket { step: 2, mean: 2.0, low: 1.5, high: 2.5 },
                ],
            }],
        }],
        behaviour: vec![Behaviour {
            arm: 0,
            completions: 3,
            points: vec![(3.0, 0.1), (5.0, 0.2)],
            over_kl: vec![OverKl {
                stage: text(),
                metric: text(),
                held_out: true,
                points: vec![(0.1, 0.2), (0.3, 0.1)],
            }],
            ..Behaviour::default()
        }],
        probes: vec![ProbeTable {
            title: text(),
            rows: vec![ProbeRow {
                name: text(),
                text: text(),
                cells: vec![None, Some(ProbeCell { measured, exploited: true })],
            }],
            boilerplate: vec![None, Some(measured)],
        }],
        completions: Completions {
            components: vec![text()],
            ranges: vec![(0.0, 1.0)],
            questions: vec![QuestionView {
                row: 4,
                prompt: text(),
                reference: Some(text()),
                answer: Some(text()),
                answers: vec![CompletionView {
                    arm: 0,
                    seed: "1".into(),
                    text: text(),
                    parts: vec![None],
                    ..CompletionView::default()
                }],
            }],
            left_out: 7,
        },
        stages: Stages {
            nodes: vec![GraphNode { name: text(), note: text(), status: NodeStatus::Failed, parents: vec![] }],
            rows: vec![StageRow {
                stage: text(),
                status: StageStatus::Failed,
                message: Some(text()),
                ..StageRow::default()
            }],
        },
        cost: Cost {
            kinds: vec![CostRow { name: text(), trained_tokens: Some(1234.0), ..CostRow::default() }],
            ..Cost::default()
        },
        recipes: vec![RecipeText { run: text(), path: text(), text: text() }],
        environment: vec![(text(), vec![text()])],
        methods: vec![text()],
    }
}

#[test]
fn nothing_that_a_model_or_a_recipe_says_is_html() {
    let page = html_page(&hostile()).unwrap();
    assert!(!page.contains("<script>alert") && !page.contains("<img") && !page.contains("<!--"));
    // The page's own two scripts: the data and the code.
    assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (2, 2));
    assert!(!page.contains("49{") && page.contains("{{ 7 * 7 }}"));
    let start = page.find("id=\"completions-data\">").unwrap() + "id=\"completions-data\">".len();
    let data = &page[start..start + page[start..].find("</script>").unwrap()];
    assert!(!data.contains(['<', '>', '&', '\u{2028}']));
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["questions"][0]["answers"][0]["text"], HOSTILE);
}

#[test]
fn the_page_refers_to_nothing_outside_of_itself() {
    let page = html_page(&hostile()).unwrap();
    for reference in ["http://", "https://", "//cdn", "@import", "url("] {
        let found = page.match_indices(reference).filter(|(at, _)| !page[..*at].ends_with("xmlns=\"")).count();
        assert_eq!(found, 0, "{reference}");
    }
    let policy = page.split("http-equiv=\"Content-Security-Policy\" content=\"").nth(1).unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{}", &policy[..300]);
    assert!(!page.contains(" style=\"") && !page.contains(" onclick"), "the policy forbids them");
}

#[test]
fn the_same_report_is_the_same_page() {
    assert_eq!(html_page(&hostile()).unwrap(), html_page(&hostile()).unwrap());
}

#[test]
fn an_empty_report_is_a_page_too() {
    let page = html_page(&Report::default()).unwrap();
    assert!(page.contains("Every stage ended"));
    assert!(!page.contains("id=\"scores\"") && !page.contains("id=\"probes\"") && !page.contains("id=\"completions\""));
}

#[test]
fn every_section_has_a_heading_and_a_place_in_the_list() {
    let page = html_page(&hostile()).unwrap();
    for id in [
        "problems",
        "summary",
        "arms",
        "ratings",
        "scores",
        "mix",
        "curves",
        "behaviour",
        "probes",
        "completions",
        "stages",
        "cost",
        "recipes",
    ] {
        assert!(page.contains(&format!("href=\"#{id}\"")), "{id}");
        assert_eq!(page.matches(&format!("id=\"h-{id}\"")).count(), 1, "{id}");
    }
}
