//! The programs under `recipes/rewards/`, each with its table of right and wrong texts, through the component
//! `command`.

use crate::project::{Project, json_lines};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn repository(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(relative)
}

fn read(relative: &str) -> String {
    fs_err::read_to_string(repository(relative)).unwrap()
}

/// Returns a project whose evaluation is rated by the program alone, with the place of `send`.
fn rated_by(program: &str) -> Project {
    let project = Project::new();
    let path = format!("recipes/rewards/{program}");
    project.write(&path, &read(&path));
    let component = format!(
        "[stages.eval.rewards.program]\nkind = \"command\"\ncommand = [\"python3\", \"{path}\"]\nfiles = [\"{path}\"]\n"
    );
    project.edit_recipe("[stages.eval.rewards.format]\n", &component);
    project
}

/// Rates the lines of `table` and returns each with what the program says.
fn rated(project: &Project, table: &[Value]) -> Vec<(Value, Value)> {
    let lines: Vec<String> = table.iter().map(Value::to_string).collect();
    project.write("table.jsonl", &lines.join("\n"));
    let found =
        json_lines(&project.succeed(&["score", "recipes/tiny.toml", "eval", "--input", "table.jsonl", "--json"]));
    assert_eq!(found.len(), table.len());
    table.iter().cloned().zip(found.into_iter().map(|line| line["parts"]["program"].clone())).collect()
}

#[track_caller]
fn assert_table(project: &Project, table: &[Value]) {
    for (row, found) in rated(project, table) {
        assert_eq!(found["value"].as_f64(), row["value"].as_f64(), "{row} is rated {found}");
        assert_eq!(found["reason"].is_string(), row["value"].is_null(), "{found}");
    }
}

#[test]
fn mathematical_answers_are_told_apart() {
    let table = json_lines(&read("tests/rewards/math.jsonl"));
    for value in [0.0, 1.0] {
        assert!(table.iter().filter(|row| row["value"] == value).count() > 40);
    }
    assert_table(&rated_by("math_answer.py"), &table);
}

#[test]
fn hostile_answers_are_wrong_and_do_not_take_long() {
    let wrong = |text: String| json!({"prompt": "Q", "completion": text, "answer": "5", "value": 0.0});
    let fractions: Vec<String> = (2..300).map(|n| format!("\\frac{{1}}{{{n}!}}")).collect();
    let table = [
        "9^{9^{9^{9}}}".to_owned(),
        "1000000!".to_owned(),
        "9".repeat(50_000),
        format!("{}5", "(".repeat(3000)),
        format!("\\boxed{{{}5", "{".repeat(100_000)),
        format!("{}5", "\\boxed{".repeat(3000)),
        "\\frac{".repeat(1000),
        format!("{}2", "x^".repeat(500)),
        format!("{}1", "2^{30000}*".repeat(80)),
        fractions.join("+"),
        format!("{}1{}", "\\sin(".repeat(40), ")".repeat(40)),
        "$".repeat(200_000),
        "answer is ".repeat(20_000),
        "\\{1, ".repeat(700),
    ];
    let began = std::time::Instant::now();
    assert_table(&rated_by("math_answer.py"), &table.map(wrong));
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[test]
fn instructions_are_checked_as_published() {
    let table = json_lines(&(read("tests/rewards/ifeval.jsonl") + &read("tests/rewards/ifeval_more.jsonl")));
    let project = rated_by("ifeval.py");
    assert_table(&project, &table);
    let hostile = ["\n", "a. ", "<", "[", "*", "* ", "\"", "-\n"].map(|part| {
        let kinds =
            ["length_constraints:number_sentences", "detectable_format:title", "detectable_format:number_bullet_lists"];
        let arguments = json!([{"num_sentences": 1_000_000, "relation": "at least"}, {}, {"num_bullets": 0}]);
        let answer = json!({"instruction_id_list": kinds, "kwargs": arguments}).to_string();
        json!({"prompt": "Q", "completion": part.repeat(200_000 / part.len()), "answer": answer})
    });
    let began = std::time::Instant::now();
    assert!(rated(&project, &hostile).iter().all(|(_, found)| found["value"].is_number()));
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}
