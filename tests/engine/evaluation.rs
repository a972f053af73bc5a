//! The measurements of an evaluation and its records for pairing, on the tiny project.

use crate::project::{Project, RECIPE, json_lines};
use crate::resume::{kill, wait_for_event};
use orchestrate_core::digest::{Digest, canonical_json};
use orchestrate_core::slice::Slice;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

/// Returns the tiny recipe without its sweep and with little training; `eval` has the evaluation stages.
pub(crate) fn recipe(eval: &str) -> String {
    let (training, _) = RECIPE.split_once("[stages.eval]").unwrap();
    let training = training
        .replace("answer = \"{{ answer }}\"", "answer = \"{{ answer }}\"\noptions = \"options\"")
        .replace("steps = 5", "steps = 1")
        .replace("[stages.grpo.rewards.cot]\n", "");
    let runtime = RECIPE.split_once("[runtime]").unwrap().1.split_once("[sweep]").unwrap().0;
    format!(
        "{training}{eval}\n[runtime]{runtime}
        [sweep]\nbase_name = \"semantic\"\n[[sweep.variants]]\nname = \"rouge\"
        set = {{ \"stages.grpo.rewards\" = {{ rouge = {{ scope = \"completion\" }}, length = {{ max_words = 9, tolerance_words = 3 }} }} }}\n"
    )
}

const EVAL: &str = r#"
[stages.eval]
kind = "eval"
after = "grpo"
data = "mcq"
rewards = "all"
temperature = 1.0
max_prompt_tokens = 200
max_new_tokens = 12
batch_size = 2
bootstrap_resamples = 50
"#;

const FAR: &str = r#"
[data.far]
path = "data/mcq.jsonl"
out_of_domain = true
prompt = "{{ question }}"
answer = "{{ options[answer] }}"
options = "options"
option = "{{ option.text }}"

[stages.far]
kind = "eval"
after = "sft"
data = "far"
max_prompt_tokens = 200
max_new_tokens = 4
bootstrap_resamples = 50
"#;

pub(crate) fn completions(project: &Project, stage: &str) -> Vec<Value> {
    let file = std::fs::File::open(project.checkpoint(stage).join("completions.parquet")).unwrap();
    let rows = SerializedFileReader::new(file).unwrap();
    rows.get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value()).collect()
}

fn metrics(project: &Project, stage: &str) -> Value {
    let path = project.checkpoint(stage).join("metrics.json");
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    assert!(!values.is_empty());
    values.iter().sum::<f64>() / values.len() as f64
}

fn yes(value: &Value) -> f64 {
    f64::from(u8::from(value.as_bool().unwrap()))
}

/// Returns the votes for each question: the answer, and whether it is right.
fn votes(project: &Project, stage: &str) -> BTreeMap<u64, Vec<(Option<String>, bool)>> {
    let text = fs_err::read_to_string(project.checkpoint(stage).join("events.jsonl")).unwrap();
    let mut votes: BTreeMap<u64, Vec<(Option<String>, bool)>> = BTreeMap::new();
    for event in json_lines(&text) {
        let completion = &event["kind"]["completion"];
        let Some(row) = completion["row"].as_u64() else { continue };
        let answer = completion["eval"]["vote"].as_str().map(str::to_owned);
        votes.entry(row).or_default().push((answer, completion["parts"]["correctness"]["value"] == 1.0));
    }
    assert!(votes.len() > 2, "no completions in the events");
    votes
}

/// The mean over all subsets of `k` votes of whether the most frequent answer is right, ties by their share.
fn by_all_subsets(votes: &[(Option<String>, bool)], k: usize) -> f64 {
    let subsets = (0..1_u32 << votes.len()).filter(|subset| subset.count_ones() as usize == k);
    mean(subsets.map(|subset| {
        let mut counts: BTreeMap<(&str, bool), usize> = BTreeMap::new();
        for (_, (answer, right)) in votes.iter().enumerate().filter(|(i, _)| subset & (1 << i) != 0) {
            if let Some(answer) = answer {
                *counts.entry((answer, *right)).or_default() += 1;
            }
        }
        let most = counts.values().max().copied().unwrap_or_default();
        let tied: Vec<f64> =
            counts.iter().filter(|(_, n)| **n == most).map(|((_, right), _)| f64::from(u8::from(*right))).collect();
        tied.iter().sum::<f64>() / tied.len().max(1) as f64
    }))
}

#[test]
fn every_number_is_the_mean_over_questions_of_what_the_parquet_file_holds() {
    let project = Project::new();
    project.write(
        "recipes/tiny.toml",
        &recipe(&format!("{EVAL}samples_per_question = 3\npass_at = [1, 3]\nmaj_at = [1, 2, 3]\n{FAR}")),
    );
    let out = project.succeed(&["run", "recipes/tiny.toml", "--json"]);
    let lines = json_lines(&out);
    let evals: Vec<&Value> = lines.iter().filter(|line| line["stage"] == "eval").collect();
    let components: Vec<&Value> = evals.iter().map(|line| &line["components"]).collect();
    for (found, trained) in components.iter().zip([["semantic", "format"], ["rouge", "length"]]) {
        let names = ["semantic", "format", "rouge", "length"];
        for name in names {
            let expected = if trained.contains(&name) { "trained" } else { "held_out" };
            assert_eq!(found[name], expected, "{name} of {found}");
        }
    }
    let far = lines.iter().find(|line| line["stage"] == "far").unwrap();
    assert_eq!((&far["data_set"], &far["out_of_domain"]), (&"far".into(), &true.into()));

    let rows = completions(&project, "eval");
    let results = metrics(&project, "eval");
    let mut questions: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for row in &rows {
        questions.entry(row["question_id"].as_str().unwrap()).or_default().push(row);
        assert_eq!((&row["data_set"], &row["out_of_domain"]), (&"mcq".into(), &false.into()));
        let words = row["completion"].as_str().unwrap().split_whitespace().count();
        assert_eq!(row["words"], words);
        assert!(row["tokens"].as_u64().unwrap() <= 12);
    }
    // ids are digests of the rows' content
    let text = fs_err::read_to_string(project.path("data/mcq.jsonl")).unwrap();
    let hashes: BTreeSet<String> = json_lines(&text)
        .iter()
        .map(|row| Digest::of(canonical_json(row).as_bytes()).as_str()[..16].to_owned())
        .collect();
    assert!(questions.len() > 2 && questions.keys().all(|id| hashes.contains(*id)), "{:?}", questions.keys());
    for answers in questions.values() {
        let indices: Vec<u64> = answers.iter().map(|row| row["index"].as_u64().unwrap()).collect();
        assert_eq!(indices, [0, 1, 2]);
        assert!(answers.iter().all(|row| row["loglikelihood_correct"] == answers[0]["loglikelihood_correct"]));
    }
    let over_questions = |value: &dyn Fn(&[&Value]) -> f64| mean(questions.values().map(|answers| value(answers)));
    let of =
        |column: &'static str| over_questions(&|answers| mean(answers.iter().map(|row| row[column].as_f64().unwrap())));
    // the untrained policy chooses no option, or each answer its own
    let votes = votes(&project, "eval");
    let elected = |k: usize| mean(votes.values().map(|votes| by_all_subsets(votes, k)));
    let right = |answers: &[&Value]| answers.iter().filter(|row| row["reward/correctness"] == 1.0).count();
    let expected = [
        ("eval/accuracy", of("reward/correctness")),
        ("eval/format_valid", of("reward/format_valid")),
        ("eval/reward/semantic", of("reward/semantic")),
        ("eval/tokens_mean", over_questions(&|a| mean(a.iter().map(|row| row["tokens"].as_f64().unwrap())))),
        ("eval/words_mean", over_questions(&|a| mean(a.iter().map(|row| row["words"].as_f64().unwrap())))),
        ("eval/pass_at_1", over_questions(&|answers| right(answers) as f64 / 3.0)),
        ("eval/pass_at_3", over_questions(&|answers| f64::from(u8::from(right(answers) > 0)))),
        ("eval/maj_at_1", elected(1)),
        ("eval/maj_at_2", elected(2)),
        ("eval/maj_at_3", elected(3)),
        ("eval/loglikelihood_accuracy", over_questions(&|answers| yes(&answers[0]["loglikelihood_correct"]))),
        ("eval/loglikelihood_accuracy_norm", over_questions(&|answers| yes(&answers[0]["loglikelihood_correct_norm"]))),
    ];
    for (name, value) in expected {
        let found = &results[name];
        assert!((found["value"].as_f64().unwrap() - value).abs() < 1e-12, "{name}: {found}, the rows say {value}");
        assert_eq!(found["count"], questions.len(), "{name}");
        // lengths that are all equal, as those of truncated answers, have no interval
        assert!(found["interval"].is_array() || name.ends_with("_mean"), "{name}");
    }
    assert_eq!(results["eval/reward/semantic"]["training"], "trained");
    assert_eq!(results["eval/reward/rouge"]["training"], "held_out");
    assert_eq!(results["eval/tokens_mean"].get("training"), None);

    let far = completions(&project, "far");
    assert_eq!(far.len(), 24, "all of a data set that nothing trains on");
    assert!(far.iter().all(|row| row["out_of_domain"] == true && row["loglikelihood_correct"].is_boolean()));
    // without a reward of non-zero weight there is no total
    assert_eq!(metrics(&project, "far").get("eval/reward/total"), None);
    let table = project.succeed(&["run", "recipes/tiny.toml"]);
    assert!(table.contains('*') && table.contains("out of domain") && table.contains("held out"), "{table}");
}

#[test]
fn more_samples_change_none_that_fewer_would_draw() {
    let texts = |samples: usize| -> Vec<(Value, Value)> {
        let project = Project::new();
        project.write("recipes/tiny.toml", &recipe(&format!("{EVAL}samples_per_question = {samples}\n")));
        project.succeed(&["run", "recipes/tiny.toml", "--variant", "semantic"]);
        let rows = completions(&project, "eval");
        rows.into_iter()
            .filter(|row| row["index"] == 0)
            .map(|row| (row["row"].clone(), row["completion"].clone()))
            .collect()
    };
    let (one, four) = (texts(1), texts(4));
    assert!(one.len() > 2);
    assert_eq!(one, four);
}

#[test]
fn an_answer_that_is_no_option_is_named_by_its_row() {
    let project = Project::new();
    let far = FAR.replace("{{ options[answer] }}", "E");
    project.write("recipes/tiny.toml", &recipe(&format!("{EVAL}{far}")));
    let stderr = project.fail(&["run", "recipes/tiny.toml", "--only", "far"], 3);
    assert!(stderr.contains("mcq.jsonl:1: the answer `E` is none of the options A, B, C, D"), "{stderr}");
    assert!(stderr.contains("hint: the template `answer` gives the letter or the text of one of them"), "{stderr}");
}

/// Slices by a field, by an expression with odd characters, and by a field that differs in every row.
const SLICED: &str = r#"by = ["answer", "'{hard=100%}' if answer in ['A', 'B'] else ''", "question"]"#;

fn sliced_project() -> Project {
    let project = Project::new();
    let eval = format!("{EVAL}split = \"all\"\nsamples_per_question = 2\npass_at = [1, 2]\n");
    let recipe = recipe(&eval).replace("options = \"options\"", &format!("options = \"options\"\n{SLICED}"));
    project.write("recipes/tiny.toml", &recipe);
    project
}

#[test]
fn the_weighted_mean_of_the_slices_is_the_whole() {
    let project = sliced_project();
    project.succeed(&["run", "recipes/tiny.toml"]);
    let results = metrics(&project, "eval");
    let results = results.as_object().unwrap();
    let mut by: BTreeMap<(String, String), Vec<(String, &Value)>> = BTreeMap::new();
    for (name, measured) in results {
        if let Some((whole, slice)) = Slice::of_metric(name) {
            by.entry((whole.to_owned(), slice.by)).or_default().push((slice.value, measured));
        }
    }
    let wholes: Vec<&String> = results.keys().filter(|name| Slice::of_metric(name).is_none()).collect();
    assert!(wholes.iter().any(|name| *name == "eval/accuracy") && wholes.iter().any(|name| *name == "eval/perplexity"));
    for whole in wholes {
        let (value, count) = (results[whole]["value"].as_f64().unwrap(), results[whole]["count"].as_f64());
        for (expression, slices) in by.iter().filter(|((name, _), _)| name == whole).map(|((_, by), of)| (by, of)) {
            let counts: Vec<f64> = slices.iter().filter_map(|(_, measured)| measured["count"].as_f64()).collect();
            let values = slices.iter().map(|(_, measured)| measured["value"].as_f64().unwrap());
            match count {
                // a count, such as missing values, is a sum
                None => assert!((values.sum::<f64>() - value).abs() < 1e-9, "{whole} by {expression}"),
                // perplexity is weighted by tokens, so it is between those of the slices
                Some(count) if whole.ends_with("perplexity") => {
                    let values: Vec<f64> = values.collect();
                    assert!(values.iter().any(|of| *of <= value) && values.iter().any(|of| *of >= value), "{whole}");
                    assert!((counts.iter().sum::<f64>() - count).abs() < 1e-9);
                }
                Some(count) => {
                    let mean = values.zip(&counts).map(|(value, count)| value * count).sum::<f64>() / count;
                    assert!((mean - value).abs() < 1e-9, "{whole} by {expression}: {mean}, the whole is {value}");
                    assert!((counts.iter().sum::<f64>() - count).abs() < 1e-9, "{whole} by {expression}");
                }
            }
        }
        assert!(by.keys().filter(|(name, _)| name == whole).count() == 3, "{whole} is sliced by all three");
    }
    let accuracy = |expression: &str| by[&("eval/accuracy".to_owned(), expression.to_owned())].clone();
    let values: Vec<String> = accuracy("answer").into_iter().map(|(value, _)| value).collect();
    assert_eq!(values, ["A", "B", "C", "D"]);
    let odd = accuracy("'{hard=100%}' if answer in ['A', 'B'] else ''");
    assert_eq!(
        odd.iter().map(|(value, _)| value.as_str()).collect::<BTreeSet<_>>(),
        BTreeSet::from(["", "{hard=100%}"])
    );
    assert_eq!(odd.iter().map(|(_, measured)| measured["count"].as_u64().unwrap()).sum::<u64>(), 24);
    let training = &results["eval/accuracy"]["training"];
    assert!(odd.iter().all(|(_, measured)| measured["interval"].is_array() && measured["training"] == *training));
    // one question says nothing about others
    let single = accuracy("question");
    assert_eq!(single.len(), 24);
    assert!(single.iter().all(|(_, measured)| measured["count"] == 1 && measured["interval"].is_null()));

    // every completion has its slices, and the history, exports and the report take the names
    let rows = completions(&project, "eval");
    assert!(rows.iter().all(|row| row["slice/answer"] == row["answer"] && row["slice/question"].is_string()));
    let name = Slice { by: "answer".to_owned(), value: "A".to_owned() }.metric("eval/accuracy");
    let found = project.succeed(&["query", &format!("SELECT name FROM results WHERE name = '{name}'")]);
    assert!(found.contains(&name), "{found}");
    let shown = project.succeed(&["show", "latest"]);
    assert!(shown.contains("accuracy by answer") && !shown.contains("accuracy{"), "{shown}");
    for format in ["csv", "json", "parquet", "tensorboard"] {
        project.succeed(&["export", "latest", "--format", format, "-o", &format!("export-{format}")]);
    }
    let compared = project.succeed(&["compare", "latest", "--by", "answer"]);
    assert!(compared.contains("accuracy by answer: 4 slices"), "{compared}");
    project.succeed(&["report", "latest", "-o", "report.html"]);
    let page = fs_err::read_to_string(project.path("report.html")).unwrap();
    assert!(page.contains("<h3>accuracy by answer</h3>") && page.contains("<th scope=\"row\">{hard=100%}</th>"));
}

#[test]
fn a_killed_evaluation_resumes_with_its_slices() {
    let project = sliced_project();
    let args = ["run", "recipes/tiny.toml", "--only", "eval", "--variant", "semantic"];
    let mut child = project.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    kill(wait_for_event(&project, &mut child, "eval", "\"resume_point\":{\"step\":2}"));
    child.wait().unwrap();
    project.succeed(&["resume"]);
    let whole = sliced_project();
    whole.succeed(&args);
    let bytes = |project: &Project| fs_err::read(project.checkpoint("eval").join("metrics.json")).unwrap();
    assert!(bytes(&project) == bytes(&whole));
}

#[test]
fn a_field_with_too_many_values_and_one_that_is_missing_are_refused() {
    let project = sliced_project();
    project.write("data/mcq.jsonl", &crate::project::questions(300));
    let stderr = project.fail(&["check", "recipes/tiny.toml"], 3);
    assert!(stderr.contains("mcq.jsonl:201: `question` has more than 200 different values"), "{stderr}");
    let project = sliced_project();
    let lacks =
        std::fs::read_to_string(project.path("recipes/tiny.toml")).unwrap().replace(SLICED, "by = [\"subject\"]");
    project.write("recipes/tiny.toml", &lacks);
    let stderr = project.fail(&["check", "recipes/tiny.toml"], 3);
    assert!(stderr.contains("mcq.jsonl:1: the row lacks `subject`, which the template `by` needs"), "{stderr}");
}
