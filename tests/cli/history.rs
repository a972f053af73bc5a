//! The history: its output, and its agreement with the files after changes to either.

use crate::env::{Ended, TestEnv};
use crate::harness::signal_child;
use orchestrate::store::Store;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

const VIEWS: [&str; 7] = ["runs", "stages", "metrics", "results", "completions", "rewards", "cache"];

/// Returns all rows of all views, sorted.
fn rows(env: &TestEnv) -> Vec<Vec<String>> {
    let rows = |view: &&str| {
        let found = env.run(&["query", &format!("SELECT * FROM {view}"), "--json"]).ends_with(0);
        let mut found = found.json();
        for row in &mut found {
            row.as_object_mut().unwrap().remove("completion_id");
        }
        let mut found: Vec<String> = found.iter().map(Value::to_string).collect();
        found.sort();
        found
    };
    VIEWS.iter().map(rows).collect()
}

#[track_caller]
fn assert_same(found: &[Vec<String>], before: &[Vec<String>]) {
    for ((view, found), before) in VIEWS.iter().zip(found).zip(before) {
        assert_eq!(found, before, "{view}");
    }
}

/// Returns the events of a worker that samples two completions per step, is resumed after step 2 and repeats step 3.
pub(crate) fn sampled() -> String {
    let started = |resumed: Option<u64>| {
        json!({"started": {
            "host": "test", "pid": 1, "device": "cpu", "libtorch": "none", "threads": 1, "resumed_from_step": resumed,
            "total_steps": 3,
        }})
    };
    let step = |step: u64, reward: f64| {
        let completion = move |index: u64| {
            json!({"completion": {
                "step": step, "row": 7, "index": index, "prompt": "Longest bone?", "completion": format!("femur {reward}"),
                "reference": null, "answer": "A", "tokens": 10, "stop_reason": "stop_token", "reward": reward,
                "advantage": null, "parts": {
                    "format": {"value": reward, "weight": 1.0, "missing": null},
                    "rouge": {"value": null, "weight": 0.0, "missing": "the row has no reference"},
                },
            }})
        };
        let metrics = json!({"step": {"step": step, "total_steps": 3, "metrics": {"reward/mean": reward}}});
        [completion(0), completion(1), metrics]
    };
    let mut events = vec![started(None)];
    events.extend((1..=3).flat_map(|n| step(n, 0.125)));
    events.push(started(Some(2)));
    events.extend(step(3, 0.1));
    events.iter().fold(String::new(), |mut lines, kind| {
        writeln!(lines, "{}", json!({"at": "2026-01-01T00:00:00Z", "kind": kind})).unwrap();
        lines
    })
}

/// Creates a project with all possible outcomes of a stage: done, failed, its descendant skipped, interrupted, killed
/// with its dispatcher, resumed, found in the cache, forced.
fn eventful() -> TestEnv {
    let env = TestEnv::new();
    env.write("events/other", &sampled());
    env.behave("base", "fail");
    env.run(&["run", "small.toml"]).ends_with(4);
    env.behave("base", "wait");
    let _ = fs_err::remove_file(env.path("started-base"));
    let interrupted = env.start(&["run", "small.toml"]);
    env.wait_for("started-base");
    signal_child(&interrupted, rustix::process::Signal::INT);
    Ended::from(interrupted.wait_with_output().unwrap()).ends_with(130);
    killed(&env);
    env.behave("base", "commit");
    env.run(&["resume"]).ends_with(0);
    env.run(&["run", "small.toml", "--only", "other", "--force"]).ends_with(0);
    env
}

fn killed(env: &TestEnv) {
    let _ = fs_err::remove_file(env.path("started-base"));
    let mut child = env.start(&["run", "small.toml"]);
    env.wait_for("started-base");
    child.kill().unwrap();
    child.wait().unwrap();
    let worker = fs_err::read_to_string(env.path("started-base")).unwrap();
    let group = rustix::process::Pid::from_raw(worker.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_rebuilt_database_has_the_same_rows() {
    let env = eventful();
    let asked = env.run(&["query", "SELECT COUNT(*) FROM runs"]).ends_with(0);
    assert!(asked.stdout.contains(" 5 "), "{}", asked.stdout);
    let before = rows(&env);
    for (view, rows) in VIEWS.iter().zip(&before) {
        assert!(!rows.is_empty(), "{view} is empty");
    }
    let [stages, metrics, completions] = [1, 2, 4].map(|i| before[i].join("\n"));
    for status in ["ok", "cached", "failed", "skipped", "interrupted"] {
        assert!(stages.contains(&format!("\"status\":\"{status}\"")), "{status}: {stages}");
    }
    assert!(metrics.contains("\"step\":3,\"name\":\"reward/mean\",\"value\":0.1,"), "{metrics}");
    assert!(completions.contains("femur 0.1\"") && completions.matches("\"step\":3").count() == 2, "{completions}");

    let told = env.run(&["db", "rebuild", "--json"]).ends_with(0).json();
    assert_eq!(
        (&told[0]["runs"], &told[0]["unreadable_lines"], &told[0]["moved"]),
        (&json!(5), &json!(0), &json!(null))
    );
    assert_same(&rows(&env), &before);
    for file in ["runs/history.db", "runs/history.db-wal", "runs/history.db-shm"] {
        let _ = fs_err::remove_file(env.path(file));
    }
    env.run(&["history"]).ends_with(0).says(&["history brought up to date: 5 runs and the events of"]);
    assert_same(&rows(&env), &before);
    let _ = fs_err::remove_file(env.path("runs/history.db-wal")); // it may hold all pages
    env.write("runs/history.db", "not a database, whatever its name says");
    let told =
        env.run(&["db", "rebuild"]).ends_with(0).says(&["damaged database was moved to `runs/history.db.damaged-"]);
    assert!(told.stdout.starts_with("`runs/history.db` rebuilt: 5 runs"), "{}", told.stdout);
    assert_same(&rows(&env), &before);
}

#[test]
fn a_run_leaves_nothing_to_bring_up_to_date() {
    let env = TestEnv::new();
    env.write("events/other", &sampled());
    for _ in 0..2 {
        env.run(&["run", "small.toml"]).ends_with(0);
        for command in [["history", "--json"], ["query", "SELECT * FROM cache"]] {
            assert_eq!(env.run(&command).ends_with(0).stderr, "");
        }
    }
    env.behave("base", "fail");
    env.run(&["run", "small.toml", "--only", "base", "--force"]).ends_with(4);
    assert_eq!(env.run(&["history", "--json"]).ends_with(0).stderr, "");
    // A result that was removed from the cache is missing only in that view.
    fs_err::remove_dir_all(env.path("runs/cache")).unwrap();
    assert_eq!(env.run(&["query", "SELECT * FROM cache", "--json"]).ends_with(0).stdout, "");
    assert!(!env.run(&["query", "SELECT * FROM completions", "--json"]).ends_with(0).stdout.is_empty());
    env.run(&["db", "rebuild"]).ends_with(0).says(&["completions of 2 stages", "removed from the cache"]);
}

#[test]
fn what_a_killed_run_did_not_record_is_read_by_the_next_question() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    killed(&env);
    let rows = env.run(&["history", "--stage", "x"]);
    assert_eq!(rows.code, Some(2), "there is no such flag");
    let rows = env.run(&["history", "--json"]).ends_with(0).json();
    let base = rows.iter().find(|row| row["stage"] == "base").unwrap();
    assert_eq!(base["status"], "interrupted");
    let steps = env.run(&["query", "SELECT COUNT(DISTINCT step) AS steps FROM metrics", "--json"]).ends_with(0).json();
    assert_eq!(steps[0]["steps"], 3);
    let ended = env.run(&["query", "SELECT status, ended_at FROM runs", "--json"]).ends_with(0).json();
    assert!(ended[0]["status"] == "interrupted" && ended[0]["ended_at"].is_string(), "{ended:?}");
}

#[tokio::test]
async fn a_database_that_another_process_holds_costs_a_run_nothing() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "other"]).ends_with(0);
    let store = Store::open(&env.path("runs/history.db"), Duration::from_secs(1)).await.unwrap();
    let held = store.update().await.unwrap();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0).says(&["another process holds the history"]);
    // A query needs the current state, so it reads the files.
    let rows = env.run(&["history", "--json"]).ends_with(0).says(&["locked", "hint: another process"]).json();
    assert_eq!((rows.len(), &rows[0]["stage"], &rows[0]["status"]), (2, &json!("base"), &json!("ok")));
    drop(held);
    let rows = env.run(&["history", "--json"]).ends_with(0).says(&["history brought up to date: 1 run"]).json();
    assert_eq!((rows.len(), &rows[0]["stage"], &rows[0]["status"]), (2, &json!("base"), &json!("ok")));
}

#[test]
fn the_database_may_lie_elsewhere_but_is_that_of_one_project() {
    let (env, other) = (TestEnv::new(), TestEnv::new());
    let database = env.path("elsewhere.db");
    let with = |env: &TestEnv, args: &[&str]| env.run_with(args, "ORCHESTRATE_DB", database.to_str().unwrap());
    with(&env, &["run", "small.toml", "--only", "base"]).ends_with(0);
    assert!(database.is_file() && !env.path("runs/history.db").exists());
    assert_eq!(with(&env, &["history", "--json"]).ends_with(0).stderr, "");
    with(&other, &["run", "small.toml", "--only", "other"]).ends_with(0).says(&["belongs to", "ORCHESTRATE_DB"]);
    let rows = with(&other, &["history", "--json"]).ends_with(0).says(&["warning:", "belongs to", "hint:"]).json();
    assert_eq!((rows.len(), &rows[0]["stage"]), (1, &json!("other")));
    assert_eq!(with(&env, &["history", "--json"]).ends_with(0).json().len(), 1);
}

#[test]
fn a_database_that_cannot_be_made_is_done_without() {
    let env = TestEnv::new();
    let run = |args: &[&str]| env.run_with(args, "ORCHESTRATE_DB", "/proc/self/nowhere/history.db");
    run(&["run", "small.toml"]).ends_with(0).says(&["cannot be opened"]);
    let rows = run(&["history", "--json", "--status", "ok"]).ends_with(0).says(&["warning:", "from the files"]).json();
    assert_eq!(rows.len(), 3);
    run(&["query", "WITH x AS (SELECT 1) DELETE FROM run_rows"]).ends_with(2).says(&["readonly"]);
}

#[test]
fn history_takes_filters_orders_and_columns() {
    let env = eventful();
    let stages = |args: &[&str]| {
        let args = [&["history", "--json"], args].concat();
        let rows = env.run(&args).ends_with(0).json();
        let words = |row: &Value| format!("{} {}", row["stage"].as_str().unwrap(), row["status"].as_str().unwrap());
        rows.iter().map(words).collect::<Vec<_>>()
    };
    assert_eq!(stages(&["--status", "failed"]), ["base failed"]);
    assert_eq!(stages(&["--kind", "sft", "--status", "ok,cached"]), ["tuned ok"]);
    assert_eq!(stages(&["--recipe", "small", "--limit", "1"]), stages(&["--limit", "1"]));
    assert_eq!(stages(&["--where", "train/loss<2", "--where", "seconds>=0", "--kind", "sft"]), ["tuned ok"]);
    assert_eq!(stages(&["--since", "1h"]).len(), 13);
    assert_eq!(stages(&["--sort", "-seconds"]).len(), 13);
    env.run(&["history", "--since", "2100-01-01"]).ends_with(5).says(&["`--since`"]);
    env.run(&["history", "--recipe", "smal"]).ends_with(5).says(&["`--recipe`"]);
    env.run(&["history", "--status", "ok", "--where", "train/loss>2"]).ends_with(5).says(&["`--where`"]);
    env.run(&["history", "--status", "failed", "--kind", "sft"]).ends_with(5).says(&["all the filters"]);
    env.run(&["history", "--where", "train/los>2"]).ends_with(2).says(&["`train/los`", "did you mean `train/loss`?"]);
    env.run(&["history", "--where", "train/loss"]).ends_with(2).says(&["FIELD OPERATOR VALUE"]);
    env.run(&["history", "--where", "train/loss>high"])
        .ends_with(2)
        .says(&["expected a number for `train/loss`, found `high`"]);
    env.run(&["history", "--status", "okay"]).ends_with(2).says(&["interrupted"]);
    env.run(&["history", "--since", "yesterday"]).ends_with(2).says(&["2026-11-01"]);
    env.run(&["history", "--sort", "tim"]).ends_with(2).says(&["did you mean `time`?"]);
    let table = env.run(&["history", "--columns", "kind,train/loss,status", "--status", "ok", "--kind", "sft"]);
    let table = table.ends_with(0).stdout;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((&lines[0], &lines[2]), (&vec!["kind", "train/loss", "status"], &vec!["sft", "1.500", "ok"]), "{table}");
}

#[test]
fn a_question_is_answered_as_a_table_csv_or_json() {
    let env = TestEnv::new();
    env.behave("base", "fail");
    env.run(&["run", "small.toml", "--only", "tuned"]).ends_with(4);
    let sql = "SELECT stage, message, kind, started_at IS NULL AS waited FROM stages ORDER BY position";
    let csv = env.run(&["query", sql, "--format", "csv"]).ends_with(0).stdout;
    assert_eq!(csv, "stage,message,kind,waited\nbase,row 3 has no `question`,cpt,0\ntuned,`base` failed,sft,1\n");
    let json = env.run(&["query", sql, "--json"]).ends_with(0).json();
    assert_eq!(json[1], json!({"stage": "tuned", "message": "`base` failed", "kind": "sft", "waited": 1}));
    assert_eq!(env.run(&["query", sql, "--format", "json"]).ends_with(0).json(), json);
    assert!(env.run(&["query", sql]).ends_with(0).stdout.contains("row 3 has no"));
    let nothing = env.run(&["query", "SELECT run FROM runs WHERE status = 'x'", "--format", "csv"]).ends_with(0).stdout;
    assert_eq!(nothing, "run\n");
    env.run(&["query", "SELECT nowhere FROM stages"]).ends_with(2).says(&["no such column", "query --schema"]);
    let schema = env.run(&["query", "--schema"]).ends_with(0).stdout;
    assert!(VIEWS.iter().all(|view| schema.contains(&format!("{view}: one row"))), "{schema}");
    let columns = env.run(&["query", "--schema", "--json"]).ends_with(0).json();
    assert_eq!(columns[0]["view"], "runs");
    assert!(columns.iter().any(|c| c["view"] == "results" && c["column"] == "low" && c["type"] == "real"));
    env.run(&["query"]).ends_with(2);
}

#[test]
fn the_failure_of_a_try_is_not_that_of_the_stage_that_was_interrupted_later() {
    let env = TestEnv::new();
    env.behave("base", "crash_then_wait");
    let set = ["--set", "runtime.retries.crash=1", "--set", "runtime.retries.backoff_s=0"];
    let mut child = env.start(&[&["run", "small.toml", "--only", "base"][..], &set].concat());
    env.wait_for("again-base");
    env.run(&["cancel"]).ends_with(0);
    child.wait().unwrap();
    let of = |lines: Vec<Value>| (lines[0]["status"].clone(), lines[0]["message"].clone(), lines[0]["tries"].clone());
    let expected = (json!("interrupted"), json!(null), json!(2));
    assert_eq!(of(env.run(&["show", "latest", "--json"]).ends_with(0).json()), expected);
    assert_eq!(of(env.run(&["history", "--json"]).ends_with(0).json()), expected);
}

#[test]
fn a_running_stage_shows_how_far_it_is() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let mut child = env.start(&["run", "small.toml", "--only", "base"]);
    env.wait_for("started-base");
    let shown = env.run(&["show"]).ends_with(0).stdout;
    assert!(shown.contains("running") && shown.contains("step 3/3") && shown.contains("loss 1.500"), "{shown}");
    env.run(&["cancel"]).ends_with(0);
    child.wait().unwrap();
}
