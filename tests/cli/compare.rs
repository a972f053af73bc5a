//! `compare`: arms of real runs, with a worker that answers as the tests set it up.

use crate::env::{Ended, TestEnv};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(crate) const GRID: &str = r#"
name = "grid"

[model]
path = "models/tiny"

[data.rows]
path = "data/rows.jsonl"
prompt = "{{ q }}"
completion = "{{ a }}"
reference = "{{ a }}"
answer = "{{ a }}"

[stages.sft]
kind = "sft"
data = "rows"
steps = 3

[stages.eval]
kind = "eval"
after = "sft"
data = "rows"
split = "train"
[stages.eval.rewards.rouge]

[sweep]
base_name = "sft"
matrix = { seed = [1, 2, 3] }
[[sweep.variants]]
name = "good"
set = { "stages.sft.lr" = 1e-5 }
[[sweep.variants]]
name = "bad"
set = { "stages.sft.lr" = 2e-5 }
[[sweep.variants]]
name = "same"
set = { "stages.sft.lr" = 3e-5 }
"#;

/// The score of an arm with a seed on a question; `None` for a missing score.
pub(crate) type Scores<'a> = &'a dyn Fn(&str, u64, usize) -> Option<f64>;

/// Returns a number between 0 and 1 that looks random but is the same every time.
fn noise(words: &str) -> f64 {
    let mixed = words.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24)
}

#[expect(clippy::unnecessary_wraps, reason = "other tests have arms that return nothing")]
/// The usual scores: `good` is ahead of `sft`, `bad` behind, `same` neither.
pub(crate) fn usual(arm: &str, seed: u64, question: usize) -> Option<f64> {
    let lead = match arm {
        "good" => 0.2,
        "bad" => -0.2,
        _ => 0.0,
    };
    Some(0.4 + lead + 0.2 * noise(&format!("q{question}")) + 0.1 * noise(&format!("{arm} {seed} {question}")))
}

/// Creates a project with the recipe `grid.toml`.
pub(crate) fn project(recipe: &str) -> TestEnv {
    let env = TestEnv::new();
    env.write("grid.toml", recipe);
    env
}

/// Prepares the worker's answers for the evaluations of `recipe`: `questions` questions for each evaluation, named by
/// `text`.
pub(crate) fn prepare(
    env: &TestEnv,
    recipe: &str,
    questions: usize,
    text: &dyn Fn(&str, u64, usize) -> String,
    scores: Scores<'_>,
) {
    for line in env.run(&["plan", recipe, "--json"]).ends_with(0).json() {
        if line["kind"] != "eval" {
            continue;
        }
        let label = line["variant"][0].as_str().unwrap();
        let name = label.split_once('/').unwrap().1;
        let (arm, seed) = name.split_once(",seed=").unwrap_or((name, "1"));
        let seed: u64 = seed.parse().unwrap();
        let mut events = String::new();
        for row in 0..questions {
            let rouge = scores(arm, seed, row);
            let missing = rouge.is_none().then_some("the judge returned nothing");
            let right = f64::from(u8::from(rouge.unwrap_or(0.5) > 0.5));
            let completion = json!({"completion": {
                "step": 1, "row": row, "index": 0, "prompt": text(arm, seed, row), "completion": "a bone",
                "reference": "femur", "answer": "A", "tokens": 3, "stop_reason": "stop_token",
                "reward": rouge, "advantage": null,
                "parts": {
                    "rouge": {"value": rouge, "weight": 1.0, "missing": missing},
                    "correctness": {"value": right, "weight": 0.0, "missing": null},
                },
            }});
            writeln!(events, "{}", json!({"at": "2026-01-01T00:00:00Z", "kind": completion})).unwrap();
        }
        let key = line["key"].as_str().unwrap();
        env.write(&format!("events/{key}"), &events);
        env.write(&format!("measured/{key}"), "{\"eval/perplexity\":{\"value\":2.5,\"interval\":null,\"count\":9}}");
    }
}

pub(crate) fn asked(_: &str, _: u64, question: usize) -> String {
    format!("Question {question}?")
}

/// Returns the rows of a metric, by arm.
fn rows(ended: &Ended, metric: &str) -> BTreeMap<String, Value> {
    let lines = ended.json();
    let rows = lines.into_iter().filter(|line| line["what"] == "comparison" && line["metric"] == metric);
    rows.map(|row| (row["arm"].as_str().unwrap().to_owned(), row)).collect()
}

/// Returns the messages of a kind of problem.
fn problems(ended: &Ended, kind: &str) -> Vec<String> {
    let lines = ended.json();
    let found = lines.iter().filter(|line| line["what"] == "problem" && line["kind"] == kind);
    found.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn arms_are_better_worse_or_not_separable() {
    let env = project(GRID);
    prepare(&env, "grid.toml", 40, &asked, &usual);
    env.run(&["run", "grid.toml", "-q"]).ends_with(0);
    let found = env.run(&["compare", "--baseline", "sft", "--all", "--json"]).ends_with(0);
    let rouge = rows(&found, "eval/reward/rouge");
    for (arm, verdict, difference) in [("good", "better", 0.2), ("bad", "worse", -0.2), ("same", "not_separable", 0.0)]
    {
        let row = &rouge[arm];
        assert_eq!(row["verdict"], verdict, "{row}");
        let found = row["difference"].as_f64().unwrap();
        assert!((found - difference).abs() < 0.03, "{arm} {found}");
        let (low, high) = (row["interval"][0].as_f64().unwrap(), row["interval"][1].as_f64().unwrap());
        assert!(low < found && found < high && high - low < 0.15, "{row}");
        assert_eq!((&row["over"], &row["questions"]), (&json!("seeds_and_questions"), &json!(40)));
        assert_eq!((&row["seeds"], &row["baseline_seeds"]), (&json!([1, 2, 3]), &json!([1, 2, 3])));
        assert!(row["p_corrected"].as_f64() >= row["p_value"].as_f64(), "{row}");
        assert_eq!((&row["direction"], &row["trained_on"]), (&json!("higher"), &json!(false)));
    }
    assert!(rouge["good"]["cliffs_delta"].as_f64() > Some(0.9) && rouge["good"]["hedges_g"].as_f64() > Some(1.0));
    assert!(rouge["same"]["needs_more_seeds"]["least"].is_u64() || rouge["same"]["needs_more_questions"].is_u64());
    assert_eq!(rouge["good"]["needs_more_seeds"], Value::Null);
    let accuracy = rows(&found, "eval/accuracy");
    assert_eq!(accuracy["bad"]["verdict"], "worse");
    assert!(rows(&found, "eval/reward/correctness").is_empty(), "accuracy is its mean");

    let text = env.run(&["compare", "--baseline", "sft", "--metric", "rouge"]).ends_with(0).stdout;
    assert!(text.starts_with("rouge: good better than sft; bad worse; 1 not separable\n"), "{text}");
    let below = text.split("\nsame").nth(1).expect("the arm has a row");
    assert!(below.contains("not separable, needs ") && below.contains(" more "), "{text}");
    // The output is the same, however the run and the baseline are named.
    let again = env.run(&["compare", "latest", "--baseline", "grid/sft", "--metric", "eval/reward/rouge"]).ends_with(0);
    assert_eq!(again.stdout, text);
}

#[test]
fn the_primary_metric_is_shown_and_the_others_are_exploratory() {
    let env = project(GRID);
    prepare(&env, "grid.toml", 40, &asked, &usual);
    let ended = env.run(&["run", "grid.toml", "--set", "compare.metric=rouge"]).ends_with(0);
    // A row for each arm, the verdict, and suggested commands.
    assert!(ended.stdout.contains("good (3 seeds)") && !ended.stdout.contains("seed=1"), "{}", ended.stdout);
    assert!(ended.stdout.contains("\nrouge: good better than sft; bad worse; 1 not separable\n"), "{}", ended.stdout);
    assert!(ended.stderr.contains("orchestrate compare ") && ended.stderr.contains("orchestrate report "));
    let found = env.run(&["compare", "--json"]).ends_with(0);
    assert_eq!(rows(&found, "eval/reward/rouge")["good"]["role"], "primary");
    assert!(rows(&found, "eval/accuracy").is_empty());
    let found = env.run(&["compare", "--all", "--json"]).ends_with(0);
    assert_eq!(rows(&found, "eval/accuracy")["good"]["role"], "exploratory");
    let text = env.run(&["compare", "--all"]).ends_with(0).stdout;
    assert!(text.contains("accuracy (higher is better, exploratory)"), "{text}");
}

#[test]
fn rewards_of_different_mixes_are_not_compared() {
    let mixed = GRID.replace("1e-5 }", "1e-5, \"stages.eval.rewards.rouge.weight\" = 2.0 }");
    let env = project(&mixed);
    prepare(&env, "grid.toml", 40, &asked, &usual);
    let ended = env.run(&["run", "grid.toml"]).ends_with(0);
    assert!(!ended.stdout.contains("\nreward "), "sums of different things stand in no table:\n{}", ended.stdout);
    let found = env.run(&["compare", "--all", "--json"]).ends_with(0);
    let total = rows(&found, "eval/reward/total");
    assert_eq!(total["good"]["verdict"], "not_compared");
    assert_eq!(total["good"]["note"], "the arms' reward mixes differ");
    assert_eq!(total["bad"]["verdict"], "worse", "its mix is the baseline's");
    assert_eq!(rows(&found, "eval/common_score")["good"]["verdict"], "better");
    assert_eq!(rows(&found, "eval/reward/rouge")["good"]["verdict"], "better", "the component is the same");
    assert!(problems(&found, "different_mixes")[0].contains("`common_score` is 1.000 rouge"), "{}", found.stdout);
}

#[test]
fn what_measures_one_number_a_seed_is_compared_by_its_seeds() {
    let env = project(GRID);
    prepare(&env, "grid.toml", 4, &asked, &usual);
    env.run(&["run", "grid.toml", "-q"]).ends_with(0);
    let found = env.run(&["compare", "--baseline", "sft", "--metric", "perplexity", "--json"]).ends_with(0);
    let row = &rows(&found, "eval/perplexity")["good"];
    assert_eq!((&row["over"], &row["verdict"]), (&json!("seeds"), &json!("not_separable")));
    assert_eq!((&row["note"], &row["difference"]), (&json!("every seed measured the same"), &json!(0.0)));
}

#[test]
fn programs_are_compared_by_what_their_seeds_measure() {
    let env = TestEnv::new();
    env.write(
        "made.toml",
        r#"
name = "made"
[stages.made]
kind = "command"
command = ["sh", "-c", "echo \"{\\\"latency\\\": $0$1}\" > $STAGE_OUTPUT/metrics.json", "1.", "{{ seed }}"]
outputs = ["metrics.json"]
[sweep]
base_name = "slow"
matrix = { seed = [1, 2, 3] }
[[sweep.variants]]
name = "fast"
set = { "stages.made.command" = ["sh", "-c", "echo \"{\\\"latency\\\": $0$1}\" > $STAGE_OUTPUT/metrics.json", "0.", "{{ seed }}"] }
"#,
    );
    env.run(&["run", "made.toml", "-q"]).ends_with(0);
    let compared = |metric: &str| {
        let found = env.run(&["compare", "--baseline", "slow", "--metric", metric, "--json"]).ends_with(0);
        rows(&found, "latency")["fast"].clone()
    };
    let row = compared("latency");
    assert_eq!(row["seeds"], json!([1, 2, 3]));
    assert!((row["difference"].as_f64().unwrap() + 1.0).abs() < 1e-9, "{row}");
    // 1.1, 1.2, 1.3 against 0.1, 0.2, 0.3: all differences are 1, so a test has no variance to use.
    assert_eq!((&row["p_value"], &row["direction"]), (&Value::Null, &Value::Null));
    assert_eq!(compared("latency=lower")["direction"], "lower");
    let told = env.run(&["compare", "--metric", "latency", "--baseline", "slow"]).ends_with(0).stdout;
    assert!(told.contains("no known direction: set `compare.higher` or `lower`"), "{told}");
    env.run(&["compare", "--baseline", "slow", "--metric", "latency=up"])
        .ends_with(2)
        .says(&["expected `higher` or `lower`"]);
}

#[test]
fn missing_seeds_are_reported_and_the_common_ones_compared() {
    let env = project(GRID);
    prepare(&env, "grid.toml", 20, &asked, &usual);
    env.run(&["run", "grid.toml", "-q", "--variant", "sft", "--variant", "good,seed=1", "--variant", "good,seed=3"])
        .ends_with(0);
    let found = env.run(&["compare", "--baseline", "sft", "--all", "--json"]).ends_with(0);
    let row = &rows(&found, "eval/reward/rouge")["good"];
    assert_eq!((&row["seeds"], &row["baseline_seeds"]), (&json!([1, 3]), &json!([1, 3])));
    assert_eq!(problems(&found, "missing_seeds"), ["`good` has 2 of 3 seeds in `eval`: it lacks 2"]);
    // A later run adds the seed, and both runs together are complete.
    let first = env.run(&["show", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    env.run(&["run", "grid.toml", "-q", "--variant", "good,seed=2"]).ends_with(0);
    let found = env.run(&["compare", &first, "latest", "--baseline", "sft", "--all", "--json"]).ends_with(0);
    assert_eq!(rows(&found, "eval/reward/rouge")["good"]["seeds"], json!([1, 2, 3]));
    assert!(problems(&found, "missing_seeds").is_empty(), "{}", found.stdout);
}

#[test]
fn a_failed_evaluation_is_reported_with_its_reason() {
    let env = project(GRID);
    prepare(&env, "grid.toml", 20, &asked, &usual);
    env.run(&["run", "grid.toml", "-q", "--variant", "sft", "--variant", "good,seed=1"]).ends_with(0);
    env.behave("eval", "fail");
    env.run(&["run", "grid.toml", "-q"]).ends_with(4);
    let found = env.run(&["compare", "--baseline", "sft", "--all", "--json"]).ends_with(0);
    let told = problems(&found, "missing_trial");
    assert!(
        told.iter().any(|message| message.contains("grid/bad,seed=1") && message.contains("failed: row 3")),
        "{told:?}"
    );
    assert_eq!(rows(&found, "eval/reward/rouge").into_keys().collect::<Vec<_>>(), ["good"]);
}

#[test]
fn different_questions_are_compared_on_what_is_common_or_not_at_all() {
    let env = project(GRID);
    let text = |arm: &str, _: u64, question: usize| match arm {
        "good" => format!("Question {}?", question + 8),
        "bad" => format!("Another question {question}?"),
        _ => format!("Question {question}?"),
    };
    prepare(&env, "grid.toml", 20, &text, &usual);
    env.run(&["run", "grid.toml", "-q"]).ends_with(0);
    let found = env.run(&["compare", "--baseline", "sft", "--all", "--json"]).ends_with(0);
    let rouge = rows(&found, "eval/reward/rouge");
    let good = &rouge["good"];
    assert_eq!((&good["questions"], &good["only_arm"], &good["only_baseline"]), (&json!(12), &json!(8), &json!(8)));
    assert_eq!(
        (&rouge["bad"]["verdict"], &rouge["bad"]["note"]),
        (&json!("not_compared"), &json!("no question in common"))
    );
    let told = problems(&found, "different_questions");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("compared on the 12 questions they share"), "{told:?}");
    assert!(told[1].contains("no question in common"), "{told:?}");

    env.run(&["run", "grid.toml", "-q", "--variant", "sft", "--variant", "bad"]).ends_with(0);
    env.run(&["compare", "--baseline", "sft", "--metric", "rouge"]).ends_with(5).says(&["no question in common"]);
}

#[test]
fn what_judges_did_not_return_is_never_averaged() {
    let env = project(GRID);
    let scores = |arm: &str, seed: u64, question: usize| match (arm, question) {
        ("bad", _) => None,
        ("good", 0..5) if seed == 2 => None,
        _ => usual(arm, seed, question),
    };
    prepare(&env, "grid.toml", 20, &asked, &scores);
    env.run(&["run", "grid.toml", "-q"]).ends_with(0);
    let found = env.run(&["compare", "--baseline", "sft", "--all", "--json"]).ends_with(0);
    let rouge = rows(&found, "eval/reward/rouge");
    assert_eq!((&rouge["good"]["questions"], &rouge["good"]["without_value"]), (&json!(15), &json!(5)));
    assert_eq!(rouge["good"]["verdict"], "better");
    assert_eq!(rouge["bad"]["note"], "no value: the judge returned nothing");
    assert_eq!((&rouge["bad"]["verdict"], &rouge["bad"]["difference"]), (&json!("not_compared"), &Value::Null));
    let told = problems(&found, "missing_values");
    for words in [
        "`eval/reward/rouge` has no value for any answer of `bad`: the judge",
        "has no value for 5 of 60 answers of `good`",
    ] {
        assert!(told.iter().any(|message| message.contains(words)), "{words}: {told:?}");
    }
    let text = env.run(&["compare", "--baseline", "sft", "--metric", "rouge"]).ends_with(0).stdout;
    assert!(text.contains("1 not compared") && text.contains("note: `eval/reward/rouge` has no value"), "{text}");
}

#[test]
fn one_seed_has_intervals_over_questions_only_and_says_so() {
    let env = project(&GRID.replace("seed = [1, 2, 3]", "seed = [1]"));
    prepare(&env, "grid.toml", 40, &asked, &usual);
    env.run(&["run", "grid.toml", "-q"]).ends_with(0);
    let found = env.run(&["compare", "--baseline", "sft", "--all", "--json"]).ends_with(0);
    let rouge = rows(&found, "eval/reward/rouge");
    assert_eq!(
        (&rouge["good"]["over"], &rouge["good"]["verdict"]),
        (&json!("questions"), &json!("better_on_these_questions"))
    );
    assert_eq!(rouge["same"]["needs_more_seeds"], Value::Null, "one seed says nothing of others");
    assert!(rouge["same"]["needs_more_questions"].as_u64() > Some(0));
    assert!(problems(&found, "single_seed")[0].contains("over questions only"));
    // Every answer has 3 tokens.
    let tokens = &rows(&found, "eval/tokens_mean")["good"];
    assert_eq!((&tokens["verdict"], &tokens["p_value"]), (&json!("not_separable"), &Value::Null));
    assert_eq!(tokens["note"], "every answer scores the same");
}

#[test]
fn runs_of_different_recipes_are_compared_where_their_questions_are_the_same() {
    let env = project(GRID);
    env.write(
        "other.toml",
        &GRID
            .replace("name = \"grid\"", "name = \"other\"")
            .replace("base_name = \"sft\"", "base_name = \"tuned\"")
            .replace("[stages.sft]", "[stages.sft]\nlr = 7e-5"),
    );
    for recipe in ["grid.toml", "other.toml"] {
        prepare(&env, recipe, 20, &asked, &usual);
        env.run(&["run", recipe, "-q", "--variant", "seed=1"]).ends_with(0);
    }
    let runs = env.run(&["history", "--json"]).json();
    let first = runs.last().unwrap()["run"].as_str().unwrap().to_owned();
    let found = env.run(&["compare", &first, "latest", "--baseline", "sft", "--all", "--json"]).ends_with(0);
    assert_eq!(problems(&found, "different_recipes"), ["the runs are of 2 recipes: grid, other"]);
    let arms: Vec<String> = rows(&found, "eval/reward/rouge").into_keys().collect();
    assert_eq!(arms, ["grid/bad", "grid/good", "grid/same", "other/bad", "other/good", "other/same", "tuned"]);
}

#[test]
fn settings_that_changed_under_one_name_are_told_apart() {
    let env = project(GRID);
    prepare(&env, "grid.toml", 20, &asked, &usual);
    env.run(&["run", "grid.toml", "-q", "--variant", "good", "--variant", "sft"]).ends_with(0);
    let first = env.run(&["show", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    env.write("grid.toml", &GRID.replace("1e-5", "9e-5"));
    prepare(&env, "grid.toml", 20, &asked, &usual);
    env.run(&["run", "grid.toml", "-q", "--variant", "good"]).ends_with(0);
    let second = env.run(&["show", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    let found = env.run(&["compare", &first, &second, "--baseline", "sft", "--all", "--json"]).ends_with(0);
    let arms: Vec<String> = rows(&found, "eval/reward/rouge").into_keys().collect();
    let mut expected = [&first, &second].map(|run| format!("good@{}", &run[run.len() - 6..])).to_vec();
    expected.sort();
    assert_eq!(arms, expected);
    assert_eq!(problems(&found, "different_settings").len(), 2);
}

#[test]
fn an_unknown_baseline_run_or_metric_is_reported_with_what_is_known() {
    let env = project(GRID);
    env.run(&["compare", "--baseline", "sft"]).ends_with(5).says(&["nothing has been run"]);
    prepare(&env, "grid.toml", 5, &asked, &usual);
    env.run(&["run", "grid.toml", "-q", "--variant", "seed=1"]).ends_with(0);
    assert!(env.run(&["compare"]).ends_with(0).stdout.starts_with("accuracy: "), "`sft` is the baseline");
    env.run(&["compare", "--baseline", "godo"]).ends_with(5).says(&["no arm is called `godo`", "did you mean `good`?"]);
    env.run(&["compare", "--baseline", "sft", "--metric", "rogue"]).ends_with(5).says(&["did you mean `rouge`?"]);
    env.run(&["compare", "nowhere", "--baseline", "sft"]).ends_with(5).says(&["no run is called"]);
    env.run(&["run", "grid.toml", "-q", "--variant", "sft,seed=1"]).ends_with(0);
    env.run(&["compare", "--baseline", "sft"]).ends_with(5).says(&["there is only one arm, `sft`"]);
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    env.run(&["compare", "--baseline", "sft"]).ends_with(5).says(&["no evaluation has a result yet"]);
}

#[test]
fn stages_of_one_variant_that_answer_the_same_questions_are_arms() {
    let recipe = GRID.split("[sweep]").next().unwrap().to_owned()
        + "[stages.before]\nkind = \"eval\"\ndata = \"rows\"\nsplit = \"train\"\n[stages.before.rewards.rouge]\n";
    let env = project(&recipe);
    prepare(&env, "grid.toml", 20, &asked, &usual);
    env.run(&["run", "grid.toml", "-q"]).ends_with(0);
    let found = env.run(&["compare", "--baseline", "before", "--all", "--json"]).ends_with(0);
    assert_eq!(rows(&found, "eval/reward/rouge").into_keys().collect::<Vec<_>>(), ["eval"]);
}
