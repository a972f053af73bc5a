//! `orchestrate score` with both binaries: its scores of texts equal those of a run.

use crate::project::{Project, json_lines};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

const RECIPE: &str = "recipes/tiny.toml";
/// Arguments that select the recipe's own variant.
const VARIANT: [&str; 2] = ["--variant", "semantic"];

fn score(stage: &str, args: &[&str]) -> Vec<String> {
    let all = [&["score", RECIPE, stage], args].concat();
    all.into_iter().map(str::to_owned).collect()
}

#[track_caller]
fn scored(project: &Project, stage: &str, args: &[&str]) -> String {
    let args = score(stage, args);
    project.succeed(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn line(completion: &str, reference: Option<&str>) -> String {
    json!({"prompt": "Which organ?", "completion": completion, "reference": reference, "answer": "B"}).to_string()
}

#[test]
fn completions_of_a_run_are_rated_again_as_the_run_rated_them() {
    let project = Project::new();
    project.succeed(&["run", RECIPE, "--only", "grpo", "--set", "stages.grpo.steps=2"]);
    let args = ["samples", "latest", "grpo", "--step", "..", "--limit", "0", "--json"];
    let text = project.succeed(&args);
    let of_variant = |line: &&str| line.contains("\"tiny/semantic\"");
    let text = text.lines().filter(of_variant).collect::<Vec<_>>().join("\n");
    let recorded = json_lines(&text);
    assert_eq!(recorded.len(), 12, "two steps of two prompts, three completions each");
    project.write("samples.jsonl", &text);
    let found = json_lines(&scored(&project, "grpo", &["--input", "samples.jsonl", "--json", VARIANT[0], VARIANT[1]]));
    assert_eq!(found.len(), recorded.len());
    for (found, recorded) in found.iter().zip(&recorded) {
        for (name, part) in recorded["parts"].as_object().unwrap() {
            let again = &found["parts"][name];
            assert_eq!(again["status"], "ok");
            assert_eq!(again["weight"], part["weight"]);
            assert_near(&again["value"], &part["value"]);
        }
        assert_near(&found["total"], &recorded["reward"]);
    }
    let distinct: std::collections::BTreeSet<String> = found.iter().map(|line| line["total"].to_string()).collect();
    assert!(distinct.len() > 1, "nothing is compared when all are rated alike: {distinct:?}");
}

/// Compares values to 1e-6, since an encoder's batch may change the last bits of a 32-bit cosine.
#[track_caller]
fn assert_near(found: &Value, expected: &Value) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

#[test]
fn scores_do_not_depend_on_the_lines_around_them() {
    let project = Project::new();
    let mut lines = String::new();
    for i in 0..150 {
        writeln!(lines, "{}", line(&format!("<think>it pumps {i}</think><answer>B</answer>"), Some("It pumps.")))
            .unwrap();
    }
    project.write("many.jsonl", &lines);
    project.write("last.jsonl", lines.lines().last().unwrap());
    let [many, last] =
        ["many.jsonl", "last.jsonl"].map(|file| json_lines(&scored(&project, "eval", &["--input", file, "--json"])));
    assert_eq!((many.len(), last.len()), (150, 1));
    for (name, part) in last[0]["parts"].as_object().unwrap() {
        assert_near(&many[149]["parts"][name]["value"], &part["value"]);
    }
}

#[test]
fn explanations_say_what_was_found() {
    let project = Project::new();
    let lines = [
        line("<think>it pumps the blood</think><answer>(b) heart</answer>", Some("The heart pumps blood.")),
        line("so <think>it pumps</think>", None),
    ];
    project.write("texts.jsonl", &lines.join("\n"));
    let found = json_lines(&scored(&project, "eval", &["--input", "texts.jsonl", "--explain", "--json"]));
    let explanation = |row: usize, name: &str| found[row]["parts"][name]["explanation"].as_str().unwrap().to_owned();
    assert!(found[0]["total"].is_number());
    assert_eq!(explanation(0, "correctness"), "<answer> holds `(b) heart`; the letter is `B`, the row's answer is `B`");
    assert!(explanation(0, "rouge").contains("2 words match in order: `"), "{}", explanation(0, "rouge"));
    assert!(explanation(0, "semantic").contains("the cosine is"), "{}", explanation(0, "semantic"));
    assert!(
        explanation(1, "format").contains("text at the beginning, before <think>: `so`"),
        "{}",
        explanation(1, "format")
    );
    assert_eq!(found[1]["total"], Value::Null);
    assert_eq!(found[1]["parts"]["rouge"]["status"], "missing");
    assert_eq!(found[1]["parts"]["rouge"]["reason"], "the row has no reference");
    assert_eq!(found[1]["parts"]["rouge"]["value"], Value::Null);

    let shown = scored(&project, "eval", &["--input", "texts.jsonl", "--explain"]);
    for words in ["── texts.jsonl:2  total –", "missing: the row has no reference", "the letter is `B`"] {
        assert!(shown.contains(words), "{words}:\n{shown}");
    }
    let table = scored(&project, "eval", &["--input", "texts.jsonl"]);
    let heading = table.lines().next().unwrap();
    for column in ["line", "total", "correctness", "format", "rouge", "semantic", "completion"] {
        assert!(heading.contains(column), "{table}");
    }
    assert!(table.contains("– missing in 1 of 2: rouge: the row has no reference"), "{table}");
}

#[test]
fn calibration_separates_what_the_components_see() {
    let project = Project::new();
    let args = ["--calibrate", "--limit", "12", "--json"];
    let found: Value = serde_json::from_str(&scored(&project, "eval", &args)).unwrap();
    assert_eq!(found["rows"].as_u64().unwrap().min(12), found["rows"], "{found}");
    let component = |name: &str| &found["components"][name];
    assert_eq!(component("format")["true"]["mean"], 1.0);
    assert_eq!(component("format")["shuffled"]["mean"], 1.0);
    assert_eq!(component("format")["auc_shuffled"], 0.5);
    assert_eq!(component("format")["auc_empty"], 1.0);
    // the reference is part of the true completion
    assert!(component("rouge")["auc_shuffled"].as_f64().unwrap() > 0.8, "{found}");
    assert!(component("rouge")["true"]["mean"].as_f64() > component("rouge")["shuffled"]["mean"].as_f64());
    assert_eq!(component("correctness")["true"]["mean"], 1.0, "{found}");
    assert_eq!(component("correctness")["empty"]["mean"], 0.0);
    assert_eq!(component("correctness")["weight"], 0.0, "held out, as in the stage");
    assert_eq!(component("correctness")["share"], Value::Null);
    let shares = ["format", "rouge", "semantic"].map(|name| component(name)["share"].as_f64().unwrap());
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let again: Value = serde_json::from_str(&scored(&project, "eval", &args)).unwrap();
    assert_eq!(again, found, "the shuffle is seeded");
    let table = scored(&project, "eval", &["--calibrate", "--limit", "12"]);
    assert!(table.contains("AUC true/shuffled") && table.contains("\ntotal"), "{table}");
}

#[test]
fn probes_are_rated_beside_the_true_texts() {
    let project = Project::new();
    let args = ["--probe", "--limit", "12", "--json"];
    let found: Value = serde_json::from_str(&scored(&project, "eval", &args)).unwrap();
    assert_eq!(found["rows"], 6, "the held-out rows");
    let of = |component: &str, probe: &str| &found["components"][component]["probes"][probe];
    // every reference is the true thought, so no other thought is nearer to it
    for probe in ["echo", "keywords", "vacuous", "neighbour", "halved", "climbed"] {
        let rouge = of("rouge", probe);
        assert!(rouge["exploit"].as_f64().unwrap() < 0.5 && rouge["rows"].as_u64().unwrap() > 5, "{probe}: {rouge}");
        assert!(rouge["gap"].as_f64().unwrap() < 0.0, "{probe}: {rouge}");
    }
    // <answer> is its scope, which only this probe changes
    let correctness = found["components"]["correctness"]["probes"].as_object().unwrap();
    assert_eq!(correctness.keys().collect::<Vec<_>>(), ["swapped"]);
    assert_eq!(
        (&of("correctness", "swapped")["exploit"], &of("correctness", "swapped")["probe"]),
        (&json!(0.0), &json!(0.0))
    );
    assert_eq!(of("format", "echo")["equal"], 1.0);
    assert!(of("semantic", "climbed")["probe"].as_f64() >= of("semantic", "neighbour")["probe"].as_f64());
    let again: Value = serde_json::from_str(&scored(&project, "eval", &args)).unwrap();
    assert_eq!(again, found, "probes are seeded");
    let table = scored(&project, "eval", &["--probe", "--limit", "12"]);
    for words in ["── rouge, weight", "── total", "exploit", "keywords", "6 rows. exploit:"] {
        assert!(table.contains(words), "{words}:\n{table}");
    }
}

#[test]
fn a_component_that_teaches_nothing_or_drowns_the_rest_is_warned_of() {
    let project = Project::new();
    let sets = ["stages.grpo.rewards.correctness.weight=1000", "stages.grpo.rewards.cot.min_words=90"];
    let args = ["--calibrate", VARIANT[0], VARIANT[1], "--set", sets[0], "--set", sets[1]];
    let args = score("grpo", &args);
    let output = project.orchestrate(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("warning: `cot` is 0 for every text, so it teaches nothing"), "{stderr}");
    assert!(stderr.contains("% of the spread within rows and dominates the other components"), "{stderr}");
}

#[test]
fn stages_variants_and_lines_that_do_not_fit_are_named() {
    let project = Project::new();
    project.write("texts.jsonl", &format!("{}\n\n{{\"prompt\": \"a\", \"completion\": 3}}\n", line("so", None)));
    let refused = |stage: &str, args: &[&str], code: i32, words: &[&str]| {
        let args = score(stage, args);
        let stderr = project.fail(&args.iter().map(String::as_str).collect::<Vec<_>>(), code);
        for word in words {
            assert!(stderr.contains(word), "{args:?} lacks {word}:\n{stderr}");
        }
    };
    let input = ["--input", "texts.jsonl"];
    refused("eval", &input, 2, &["texts.jsonl:3", "`completion` is 3"]);
    refused("grpo", &input, 2, &["differ between variants", "--variant", "`semantic`", "`rouge`"]);
    refused("grpo", &[&input[..], &["--variant", "roug"]].concat(), 5, &["`roug`", "`rouge`"]);
    refused("sft", &input, 2, &["`sft`", "without rewards"]);
    refused("gropo", &input, 5, &["`gropo`", "`grpo`", "`eval`"]);
    refused("eval", &["--input", "none.jsonl"], 2, &["none.jsonl"]);
    refused("eval", &[], 2, &["--input"]);
    project.write("empty.jsonl", "\n");
    refused("eval", &["--input", "empty.jsonl"], 2, &["empty.jsonl has no lines"]);
    project.write("short.jsonl", "{\"prompt\": \"a\"}");
    refused("eval", &["--input", "short.jsonl"], 2, &["short.jsonl:1", "no `completion`"]);
}

#[test]
fn lines_come_from_stdin_and_those_before_a_bad_one_are_rated() {
    let project = Project::new();
    let args = score("eval", &["--input", "-", "--json"]);
    let mut child = project
        .command(&args.iter().map(String::as_str).collect::<Vec<_>>())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = format!("{}\n[]\n", line("<think>a</think><answer>B</answer>", Some("a")));
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let found = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["parts"]["format"], json!({"value": 1.0, "weight": 1.0, "status": "ok"}));
    assert!(String::from_utf8(output.stderr).unwrap().contains("stdin:2: the line is JSON, but not an object"));
}

#[test]
fn credits_say_which_sentence_earned_the_value() {
    let project = Project::new();
    let reference = "The heart pumps blood.";
    project.write("texts.jsonl", &line("<think>Cats are nice. The heart pumps blood.</think>", Some(reference)));
    let args = ["--input", "texts.jsonl", "--explain", "--credit"];
    let found = json_lines(&scored(&project, "eval", &[&args[..], &["--json"]].concat()));
    let rouge = &found[0]["parts"]["rouge"];
    let credits: Vec<(&str, f64)> = rouge["credit"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| (segment["text"].as_str().unwrap(), segment["credit"].as_f64().unwrap()))
        .collect();
    let (cats, heart) = (
        credits.iter().find(|(text, _)| text.contains("Cats")),
        credits.iter().find(|(text, _)| text.contains("heart")),
    );
    let (cats, heart) = (cats.unwrap().1, heart.unwrap().1);
    assert!(heart > 0.5 && cats < 0.0, "{credits:?}");
    // the credits add up to the value
    let sum: f64 = credits.iter().map(|(_, credit)| credit).sum();
    assert!((sum - rouge["value"].as_f64().unwrap()).abs() < 1e-9, "{credits:?} {rouge}");
    let shown = scored(&project, "eval", &args);
    assert!(shown.lines().any(|line| line.contains("+0.") && line.contains("The heart pumps blood.")), "{shown}");
}
