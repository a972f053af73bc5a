//! Evaluation questions in training data: `check` and `plan` find them, and `max_overlap` and `decontaminate` act.

use crate::env::TestEnv;
use serde_json::{Value, json};

const RECIPE: &str = r#"
name = "leak"

[model]
path = "models/tiny"

[data.web]
path = "data/web.jsonl"
text = "{{ text }}"

[data.bench]
path = "data/bench.jsonl"
out_of_domain = true
prompt = "Answer this question with one letter, please, and nothing else: {{ question }}"
answer = "{{ answer }}"

[stages.cpt]
kind = "cpt"
data = "web"
steps = 3

[stages.eval]
kind = "eval"
after = "cpt"
data = "bench"
rewards = { correctness = {} }
"#;

const QUESTION: &str = "Which of the large vessels carries blood from the heart to the lungs?";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("leak.toml", RECIPE);
    let lines = |rows: Vec<Value>| rows.iter().flat_map(|row| [row.to_string(), "\n".to_owned()]).collect::<String>();
    let filler = |i: usize| (0..20).map(|word| format!("w{i}x{word}")).collect::<Vec<_>>().join(" ");
    let mut web: Vec<Value> = (0..50).map(|i| json!({ "text": filler(i) })).collect();
    web[30] = json!({ "text": format!("A quiz. {} The answer is B.", QUESTION.to_lowercase()) });
    env.write("data/web.jsonl", &lines(web));
    let mut bench: Vec<Value> = (50..59).map(|i| json!({ "question": filler(i), "answer": "A" })).collect();
    bench.push(json!({ "question": QUESTION, "answer": "B" }));
    env.write("data/bench.jsonl", &lines(bench));
    env
}

#[test]
fn check_and_plan_show_what_training_and_evaluation_have_in_common() {
    let env = project();
    let text = env.run(&["check", "leak.toml"]).ends_with(0).stdout.replace("\n  ", " ");
    let sentence =
        "1 of 10 questions of `bench` (10.0%) have eight words in a row in common with 1 of 50 training rows of `web`";
    assert!(text.replace('\n', " ").contains(sentence), "{text}");
    assert!(
        text.contains("data/bench.jsonl:10 in data/web.jsonl:31, 6 of 6 runs: which of the large vessels"),
        "{text}"
    );
    let checked = env.run(&["check", "leak.toml", "--json"]).ends_with(0).json();
    let pair = &checked[0]["overlaps"][0];
    assert_eq!(
        (&pair["trained"], &pair["evaluated"], &pair["dropped"]),
        (&json!("web"), &json!("bench"), &json!(false))
    );
    assert_eq!((&pair["overlapping_questions"], &pair["overlapping_rows"]), (&json!(1), &json!(1)));
    assert_eq!(pair["worst"][0]["row"], "data/web.jsonl:31");
    let planned = env.run(&["plan", "leak.toml", "--json"]).ends_with(0).json();
    let of = |stage: &str| planned.iter().find(|line| line["stage"] == stage).unwrap()["overlaps"].clone();
    assert_eq!((&of("cpt")[0], &of("eval")), (pair, &json!([])));
    assert!(env.run(&["plan", "leak.toml"]).ends_with(0).stdout.replace("\n  ", " ").contains("1 of 10 questions"));
    // the result is kept by digests: the files are not read again
    let memo = fs_err::read_to_string(env.path("runs/overlaps.json")).unwrap();
    env.write("runs/overlaps.json", &memo.replace("\"overlapping_questions\":1", "\"overlapping_questions\":7"));
    assert!(env.run(&["plan", "leak.toml"]).ends_with(0).stdout.contains("7 of 10 questions"));
}

#[test]
fn max_overlap_refuses_with_the_worst_example_and_decontaminate_drops() {
    let env = project();
    let key = |env: &TestEnv| {
        let lines = env.run(&["plan", "leak.toml", "--json"]).ends_with(0).json();
        lines.iter().find(|line| line["stage"] == "cpt").unwrap()["key"].clone()
    };
    let plain = key(&env);
    let recipe = fs_err::read_to_string(env.path("leak.toml")).unwrap();
    let with = |line: &str| recipe.replace("text = \"{{ text }}\"\n", &format!("text = \"{{{{ text }}}}\"\n{line}\n"));
    env.write("leak.toml", &with("max_overlap = 0.1"));
    assert_eq!(key(&env), plain, "a limit is no part of the key");
    env.write("leak.toml", &with("max_overlap = 0.05"));
    for command in ["check", "plan", "run"] {
        let error = env.run(&[command, "leak.toml"]).ends_with(3);
        error.says(&[
            "`max_overlap` allows 5.0%",
            "leak.toml:10",
            "max_overlap = 0.05",
            "data/bench.jsonl:10 in data/web.jsonl:31",
        ]);
    }
    env.write("leak.toml", &with("max_overlap = 0.0\ndecontaminate = true"));
    assert_ne!(key(&env), plain, "other rows are trained on");
    let text = env.run(&["check", "leak.toml"]).ends_with(0).stdout.replace("\n  ", " ");
    assert!(text.contains("which `decontaminate` drops"), "{text}");
    let bench = fs_err::read_to_string(env.path("data/bench.jsonl")).unwrap();
    let before = key(&env);
    env.write("data/bench.jsonl", &format!("{bench}{}\n", json!({ "question": "Another one?", "answer": "C" })));
    assert_ne!(key(&env), before, "the evaluation sets are part of the key");
}

#[test]
fn keys_without_effect_are_refused() {
    let env = project();
    let recipe = fs_err::read_to_string(env.path("leak.toml")).unwrap();
    env.write("leak.toml", &recipe.replace("out_of_domain = true", "out_of_domain = true\ndecontaminate = true"));
    env.run(&["plan", "leak.toml"])
        .ends_with(3)
        .says(&["`data.bench.decontaminate` has no effect: no stage trains on it"]);
    let (training, _) = recipe.split_once("[stages.eval]").unwrap();
    env.write("leak.toml", &training.replace("text = \"{{ text }}\"", "text = \"{{ text }}\"\nmax_overlap = 0.0"));
    env.run(&["plan", "leak.toml"])
        .ends_with(3)
        .says(&["`data.web.max_overlap` has no effect", "no stage of the kind `eval`"]);
}

#[test]
fn slices_that_are_no_expressions_or_repeat_are_refused() {
    let env = project();
    let recipe = fs_err::read_to_string(env.path("leak.toml")).unwrap();
    let by = "out_of_domain = true\nby = [\"subject\", \"level >=\", \"subject \"]";
    env.write("leak.toml", &recipe.replace("out_of_domain = true", by));
    env.run(&["plan", "leak.toml"]).ends_with(3).says(&[
        "`data.bench.by[1]` is not an expression",
        "`data.bench.by[2]` repeats `subject `",
        "level >= 3",
    ]);
}
