//! Answers of evaluations that are kept: one more component loads no model and changes no number.

use crate::evaluation::{completions, recipe};
use crate::project::{Project, json_lines};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Options, two samples, and perplexities of completions and of a text.
const EVAL: &str = r#"
[stages.eval]
kind = "eval"
after = "grpo"
data = "mcq"
text = "text"
rewards = "all"
temperature = 1.0
max_prompt_tokens = 200
max_new_tokens = 12
batch_size = 2
samples_per_question = 2
pass_at = [1, 2]
bootstrap_resamples = 50
"#;

/// A component whose name says nothing about its kind.
const SHORT: &str = "short={ kind = \"length\", max_words = 3, tolerance_words = 2 }";

const NO_MODEL: &str = "every answer is kept: no model is loaded";

/// Returns the recipe of two arms with two seeds, whose evaluations also have the keys in `more`.
fn grid(more: &str) -> String {
    recipe(&format!("{EVAL}{more}")).replace("[sweep]\n", "[sweep]\nmatrix = { \"stages.grpo.seed\" = [1, 2] }\n")
}

fn grid_project() -> Project {
    let project = Project::new();
    project.write("recipes/tiny.toml", &grid(""));
    project
}

/// Returns the planned checkpoints of the evaluations by their variants.
fn evals(project: &Project) -> BTreeMap<String, PathBuf> {
    let plan = project.plan();
    let evals = plan.iter().filter(|line| line["stage"] == "eval");
    evals
        .map(|line| (line["variant"].to_string(), project.path("runs/cache").join(line["key"].as_str().unwrap())))
        .collect()
}

fn metrics(checkpoint: &std::path::Path) -> BTreeMap<String, Value> {
    serde_json::from_str(&fs_err::read_to_string(checkpoint.join("metrics.json")).unwrap()).unwrap()
}

fn events(checkpoint: &std::path::Path) -> Vec<Value> {
    json_lines(&fs_err::read_to_string(checkpoint.join("events.jsonl")).unwrap())
}

fn phases(checkpoint: &std::path::Path) -> Vec<String> {
    let phase = |event: Value| event["kind"]["phase"].as_str().map(str::to_owned);
    events(checkpoint).into_iter().filter_map(phase).collect()
}

/// Checks that `after` has every number of `before`, to the bit, and `more` numbers.
#[track_caller]
fn check_only_added(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>, more: &[&str]) {
    for (name, value) in before {
        // the texts of JSON numbers are equal only if their bits are
        assert_eq!(after[name].to_string(), value.to_string(), "{name}");
    }
    let new: BTreeSet<&str> = after.keys().filter(|name| !before.contains_key(*name)).map(String::as_str).collect();
    assert_eq!(new, more.iter().copied().collect());
}

#[test]
fn a_component_added_to_a_finished_grid_loads_no_model_and_changes_no_number() {
    let project = grid_project();
    project.succeed(&["run", "recipes/tiny.toml"]);
    let before: BTreeMap<String, BTreeMap<String, Value>> =
        evals(&project).into_iter().map(|(variant, dir)| (variant, metrics(&dir))).collect();
    assert_eq!(before.len(), 4);
    let sampled: BTreeSet<String> = before.values().map(|metrics| metrics["eval/tokens_mean"].to_string()).collect();
    assert!(before.values().all(|metrics| metrics.contains_key("eval/text_perplexity")), "{sampled:?}");
    let texts = completions(&project, "eval");

    // by the recipe
    project.write("recipes/tiny.toml", &grid("[stages.eval.more_rewards.repetition]\nngram = 2\n"));
    project.succeed(&["run", "recipes/tiny.toml"]);
    for (variant, dir) in evals(&project) {
        let phases = phases(&dir);
        assert!(phases.contains(&NO_MODEL.to_owned()), "{phases:?}");
        assert!(!phases.iter().any(|phase| phase == "loading the model"), "{phases:?}");
        let computed = phases.iter().find_map(|phase| phase.strip_prefix("kept values: ")?.split_once("; computed: "));
        let (kept, computed) = computed.unwrap_or_else(|| panic!("{phases:?}"));
        assert_eq!(computed, "`repetition`");
        assert!(kept.contains("`semantic`") && kept.contains("`rouge`") && kept.contains("`correctness`"), "{kept}");
        check_only_added(&before[&variant], &metrics(&dir), &["eval/reward/repetition"]);
        let steps = events(&dir).into_iter().filter(|event| event["kind"]["step"].is_object());
        let speeds = steps.filter(|event| event["kind"]["step"]["metrics"]["perf/tokens_per_s"].is_number());
        assert_eq!(speeds.count(), 0, "nothing was decoded");
    }
    let again = completions(&project, "eval");
    for (before, after) in texts.iter().zip(&again) {
        for (column, value) in before.as_object().unwrap() {
            assert_eq!(&after[column], value, "{column}");
        }
    }
    assert!(texts.len() == again.len() && again[0]["reward/repetition"].is_number());

    // measured from the start, the component has the same values
    let whole = Project::new();
    whole.write("recipes/tiny.toml", &grid("[stages.eval.more_rewards.repetition]\nngram = 2\n"));
    whole.succeed(&["run", "recipes/tiny.toml"]);
    for (dir, other) in evals(&project).values().zip(evals(&whole).values()) {
        for file in ["metrics.json", "completions.parquet"] {
            assert!(fs_err::read(dir.join(file)).unwrap() == fs_err::read(other.join(file)).unwrap(), "{file}");
        }
    }
    // a rerun from the checkpoints samples by itself
    let verified = project.succeed(&["verify", "latest", "eval", "--variant", "rouge"]);
    assert!(verified.contains("same") && !verified.contains("DIFFERS"), "{verified}");
}

#[test]
fn score_adds_a_component_to_a_past_run_without_editing_the_recipe() {
    let project = grid_project();
    project.succeed(&["run", "recipes/tiny.toml"]);
    let before = evals(&project);
    let runs = || fs_err::read_dir(project.path("runs/log")).unwrap().count();
    assert_eq!(runs(), 1);
    let added = ["score", "latest", "eval", "--add", "rewards.repetition={ ngram = 2 }", "--add", SHORT, "--json"];
    let output = project.orchestrate(&added);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("4 evaluations computed from kept answers; no model was loaded"), "{stderr}");
    let first = String::from_utf8(output.stdout).unwrap();
    let lines = json_lines(&first);
    let cells: BTreeSet<(&str, &str)> =
        lines.iter().map(|line| (line["arm"].as_str().unwrap(), line["component"].as_str().unwrap())).collect();
    let expected = [("rouge", "repetition"), ("rouge", "short"), ("semantic", "repetition"), ("semantic", "short")];
    assert_eq!(cells, expected.into());
    for line in &lines {
        assert_eq!(line["seeds"], serde_json::json!([1, 2]));
        assert!(line["value"].is_number(), "{line}");
    }
    assert_eq!(runs(), 2);
    assert_eq!(project.succeed(&added), first, "the columns are kept");
    assert_eq!(runs(), 2, "nothing had to run");

    let table = project.succeed(&["score", "latest", "eval", "--add", "repetition.ngram=2", "--add", SHORT]);
    assert!(table.contains("semantic") && table.contains('['), "{table}");
    let compared = project.succeed(&["compare", "latest", "--metric", "repetition", "--metric", "semantic", "--json"]);
    let metrics_compared: BTreeSet<String> =
        json_lines(&compared).iter().filter_map(|line| line["metric"].as_str().map(str::to_owned)).collect();
    assert!(metrics_compared.contains("eval/reward/repetition"), "{compared}");
    // the new run's results have the old numbers
    let plan = fs_err::read_to_string(project.path("runs/log").join(newest(&project)).join("plan.json")).unwrap();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let added: Vec<PathBuf> = plan["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|stage| stage["kind"] == "eval")
        .map(|stage| project.path("runs/cache").join(stage["key"].as_str().unwrap()))
        .collect();
    assert_eq!(added.len(), 4);
    let old: BTreeSet<String> = before.values().map(|dir| without(&metrics(dir))).collect();
    let new: BTreeSet<String> = added.iter().map(|dir| without(&metrics(dir))).collect();
    assert_eq!(old, new);

    // bad input is refused before anything runs
    let stderr = project.fail(&["score", "latest", "eval", "--add", "repetitions"], 3);
    assert!(stderr.contains("did you mean `repetition`") || stderr.contains("repetition"), "{stderr}");
    let stderr = project.fail(&["score", "latest", "sft", "--add", "repetition"], 2);
    assert!(stderr.contains("kind `sft`"), "{stderr}");
    assert_eq!(runs(), 2);
}

fn newest(project: &Project) -> String {
    let names = fs_err::read_dir(project.path("runs/log")).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).max().unwrap()
}

/// Returns the metrics without the components that the test adds.
fn without(metrics: &BTreeMap<String, Value>) -> String {
    let own = metrics.iter().filter(|(name, _)| !name.ends_with("/repetition") && !name.ends_with("/short"));
    format!("{:?}", own.map(|(name, value)| (name, value.to_string())).collect::<Vec<_>>())
}

#[test]
fn a_kill_between_answers_and_values_loses_no_answer_and_damaged_files_are_not_served() {
    let project = Project::new();
    project.write("recipes/tiny.toml", &recipe(EVAL));
    let run = ["run", "recipes/tiny.toml", "--variant", "semantic"];
    let killed = project.command(&run).env("ORCHESTRATE_FAULT", "answers-kept").output().unwrap();
    assert!(!killed.status.success(), "the worker was to be killed");
    project.succeed(&["resume"]);
    let dir = &evals(&project)[&evals_of(&project, "semantic")];
    let events_of = events(dir);
    let first = events_of.iter().find(|event| event["kind"]["step"]["step"] == 1).unwrap();
    assert!(first["kind"]["step"]["metrics"].get("perf/tokens_per_s").is_none(), "its answers were kept: {first}");
    let phases = phases(dir);
    assert!(phases.iter().any(|phase| phase == "loading the model"), "the others were not: {phases:?}");
    let whole = Project::new();
    whole.write("recipes/tiny.toml", &recipe(EVAL));
    whole.succeed(&run);
    let other = &evals(&whole)[&evals_of(&whole, "semantic")];
    for file in ["metrics.json", "completions.parquet"] {
        assert!(fs_err::read(dir.join(file)).unwrap() == fs_err::read(other.join(file)).unwrap(), "{file}");
    }

    // damage
    let numbers = metrics(dir);
    let listed = json_lines(&project.succeed(&["cache", "ls", "--answers", "--json"]));
    assert_eq!((listed.len(), &listed[0]["answers"]), (1, &"evaluations".into()), "{listed:?}");
    let kept = project.path("runs/eval-answers");
    let model = fs_err::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    let files = || -> Vec<PathBuf> {
        let paths = fs_err::read_dir(&model).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.file_name().unwrap() != "of.json").collect()
    };
    project.succeed(&["cache", "verify"]);
    for file in files() {
        let text = fs_err::read_to_string(&file).unwrap();
        fs_err::write(&file, text.replacen(['1', '2', '3'], "7", 1)).unwrap();
    }
    let added = |ngram: usize| recipe(&format!("{EVAL}[stages.eval.more_rewards.repetition]\nngram = {ngram}\n"));
    project.write("recipes/tiny.toml", &added(2));
    project.succeed(&run);
    let dir = &evals(&project)[&evals_of(&project, "semantic")];
    let warned = events(dir).iter().any(|event| event["kind"]["warning"].to_string().contains("damaged"));
    assert!(warned, "the log tells");
    check_only_added(&numbers, &metrics(dir), &["eval/reward/repetition"]);
    let one = files().remove(0);
    fs_err::write(&one, "damaged again").unwrap();
    let stderr = project.fail(&["cache", "verify"], 6);
    assert!(stderr.contains("1 file of kept answers damaged") && !one.exists(), "{stderr}");

    // removed answers are sampled again, and are the same
    project.succeed(&["cache", "gc", "--leftovers", "0h", "--delete"]);
    assert_eq!(fs_err::read_dir(&kept).unwrap().count(), 0);
    project.write("recipes/tiny.toml", &added(3));
    project.succeed(&run);
    let dir = &evals(&project)[&evals_of(&project, "semantic")];
    check_only_added(&numbers, &metrics(dir), &["eval/reward/repetition"]);
    assert!(self::phases(dir).iter().any(|phase| phase == "loading the model"));
}

/// Returns the variants of the evaluation of the variant `name`, as the plan prints them.
fn evals_of(project: &Project, name: &str) -> String {
    evals(project).into_keys().find(|variants| variants.contains(name)).unwrap()
}
