//! `orchestrate cache`: listing, removal and pins.

use crate::env::{Ended, TestEnv};
use chrono::{DateTime, TimeDelta, Utc};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: u64 = 86_400;

/// Returns the cache key of a stage.
fn key(env: &TestEnv, stage: &str) -> String {
    let plan = env.run(&["plan", "small.toml", "--json"]).ends_with(0).json();
    let line = plan.iter().find(|line| line["stage"] == stage).unwrap();
    line["key"].as_str().unwrap().to_owned()
}

fn checkpoint(env: &TestEnv, stage: &str) -> PathBuf {
    env.path("runs/cache").join(key(env, stage))
}

/// Changes the record of a stage as if it was committed so many days ago, and removes the logs of its runs.
fn made_days_ago(env: &TestEnv, stage: &str, days: i64) {
    let dir = checkpoint(env, stage);
    let at: DateTime<Utc> = Utc::now() - TimeDelta::days(days);
    let record = serde_json::json!({"stage": stage, "kind": "cpt", "committed_at": at});
    fs_err::write(dir.join("record.json"), record.to_string()).unwrap();
}

fn forget_runs(env: &TestEnv) {
    fs_err::remove_dir_all(env.path("runs/log")).unwrap();
}

fn touch(path: &Path, at: SystemTime) {
    let file = if path.is_dir() { std::fs::File::open(path) } else { std::fs::File::options().write(true).open(path) };
    file.unwrap().set_modified(at).unwrap();
    if path.is_dir() {
        for entry in fs_err::read_dir(path).unwrap() {
            touch(&entry.unwrap().path(), at);
        }
    }
}

fn days_ago(days: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(days * DAY)
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap()
}

fn stages(ended: &Ended) -> Vec<String> {
    ended.json().iter().map(|line| text(line, "stage").to_owned()).collect()
}

#[test]
fn nothing_goes_unless_it_is_asked_for_twice() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    env.run(&["cache", "gc"]).ends_with(0).says(&["nothing to remove"]);
    let told =
        env.run(&["cache", "gc", "--older-than", "0d"]).ends_with(0).says(&["3 things can be removed", "--delete"]);
    assert!(told.stdout.contains("not used for 0 minutes"), "{}", told.stdout);
    assert_eq!(env.run(&["cache", "ls", "--json"]).json().len(), 3, "a dry run removed something");
    let done = env.run(&["cache", "gc", "--older-than", "0d", "--delete", "--json"]).ends_with(0);
    assert_eq!(done.json().len(), 3);
    assert!(done.json().iter().all(|line| line["removed"] == true && line["what"] == "checkpoint"));
    assert_eq!(env.run(&["cache", "ls", "--json"]).json().len(), 0);
    assert!(!env.path("runs/trash").exists());
    env.run(&["run", "small.toml"]).ends_with(0);
}

#[test]
fn a_pin_keeps_a_checkpoint_and_what_it_was_made_from() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    let (base, tuned) = (key(&env, "base"), key(&env, "tuned"));
    env.run(&["cache", "pin", &tuned[..8], "--note", "figure 2"]).ends_with(0);
    let listed = env.run(&["cache", "ls", "--pinned", "--json"]).ends_with(0).json();
    assert_eq!((listed.len(), text(&listed[0], "key"), text(&listed[0], "note")), (1, &*tuned, "figure 2"));
    assert!(env.run(&["cache", "ls"]).stdout.contains("pinned: figure 2"));
    let args = ["cache", "gc", "--older-than", "0d", "--yes"];
    env.run(&args)
        .ends_with(0)
        .says(&["kept, as pinned: 1 checkpoint", "kept, as needed by checkpoints that are kept: 1"]);
    for (key, stays) in [(&base, true), (&tuned, true), (&key(&env, "other"), false)] {
        assert_eq!(env.path("runs/cache").join(key).exists(), stays);
    }
    env.run(&["cache", "unpin", &tuned[..8]]).ends_with(0);
    env.run(&["cache", "unpin", &tuned[..8]]).ends_with(5).says(&["is not pinned"]);
    env.run(&["cache", "pin", "zzzz"]).ends_with(5).says(&["zzzz", "cache ls"]);
    env.run(&args).ends_with(0).says(&["removed 2 things"]);
}

#[test]
fn what_a_live_run_plans_to_use_stays() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    env.behave("tuned", "wait");
    let mut child = env.start(&["run", "small.toml", "--only", "tuned"]);
    env.wait_for("started-tuned");
    let ended = env.run(&["cache", "gc", "--older-than", "0d", "--leftovers", "0d", "--delete"]).ends_with(0);
    ended.says(&["kept, as used by a live run: 1 checkpoint"]);
    assert!(checkpoint(&env, "base").join("manifest.json").exists());
    assert!(env.path("runs/work").join(key(&env, "tuned")).exists(), "a live attempt was removed");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap(),
        rustix::process::Signal::INT,
    )
    .unwrap();
    child.wait().unwrap();
}

#[test]
fn recipes_or_the_history_refer_to_checkpoints() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    assert_eq!(env.run(&["cache", "gc", "--unreferenced", "--json"]).ends_with(0).json().len(), 0);
    env.write("smaller.toml", &crate::env::RECIPE.replace("steps = 4", "steps = 5"));
    let gone = env.run(&["cache", "gc", "--unreferenced", "smaller.toml", "--json"]).ends_with(0).json();
    assert_eq!(gone.iter().map(|line| text(line, "key")).collect::<Vec<_>>(), [key(&env, "other")]);
    env.run(&["cache", "gc", "smaller.toml"]).ends_with(2).says(&["--unreferenced"]);
    forget_runs(&env);
    assert_eq!(env.run(&["cache", "gc", "--unreferenced", "--json"]).ends_with(0).json().len(), 3);
}

#[test]
fn age_and_size_choose_the_least_recently_used() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    for (stage, days) in [("base", 40), ("tuned", 30), ("other", 20)] {
        made_days_ago(&env, stage, days);
    }
    let older =
        |env: &TestEnv, age: &str| stages(&env.run(&["cache", "gc", "--older-than", age, "--json"]).ends_with(0));
    assert_eq!(older(&env, "10d"), Vec::<String>::new(), "a run has just used them");
    forget_runs(&env);
    assert_eq!(older(&env, "10d"), ["tuned", "base", "other"]);
    assert_eq!(older(&env, "35d"), Vec::<String>::new(), "`tuned` was made from `base`");
    let bytes = |line: &Value| line["bytes"].as_u64().unwrap();
    let all = env.run(&["cache", "ls", "--sort", "used", "--json"]).ends_with(0).json();
    assert_eq!(all.iter().map(|line| text(line, "stage")).collect::<Vec<_>>(), ["base", "tuned", "other"]);
    let limit = (all.iter().map(bytes).sum::<u64>() - 1).to_string();
    assert_eq!(stages(&env.run(&["cache", "gc", "--max-size", &limit, "--json"]).ends_with(0)), ["tuned"]);
    assert_eq!(stages(&env.run(&["cache", "ls", "--older-than", "25d", "--json"])), ["base", "tuned"]);
    env.run(&["cache", "gc", "--max-size", "5 parsecs"]).ends_with(2).says(&["parsecs", "GiB"]);
}

#[test]
fn leftovers_of_killed_processes_go_once_they_are_old_and_nobody_works_in_them() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    let [idle, held, finished] = ["a", "b", "c"].map(|name| name.repeat(64));
    for name in [&idle, &held, &finished] {
        env.write(&format!("runs/work/{name}/assignment.json"), "{}");
        env.write(&format!("runs/work/{name}/resume/step-3/state"), "3");
    }
    env.write(&format!("runs/cache/{finished}/manifest.json"), "{\"format\":1,\"files\":{}}");
    env.write("runs/work/verify-3f2a-01K/work/x", "");
    env.write("runs/quarantine/3f2a-20260101/result.txt", "x");
    env.write("runs/.digests.json.77.part", "x");
    let gone = |env: &TestEnv| -> Vec<String> {
        let ended = env.run(&["cache", "gc", "--json"]).ends_with(0);
        ended.json().iter().map(|line| text(line, "what").to_owned()).collect()
    };
    assert_eq!(gone(&env), Vec::<String>::new(), "all of it is new");
    for path in ["work", "quarantine", ".digests.json.77.part"] {
        touch(&env.path("runs").join(path), days_ago(8));
    }
    let lock = fs_err::File::create(env.path(&format!("runs/work/{held}/lease.lock"))).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    touch(&env.path("runs/work").join(&held), days_ago(8));
    let expected = ["attempt", "attempt", "rerun", "quarantined", "temporary file"];
    assert_eq!(gone(&env), expected);
    env.run(&["cache", "gc", "--delete"]).ends_with(0).says(&["removed 5 things"]);
    assert!(env.path("runs/work").join(&held).exists() && !env.path("runs/work").join(&idle).exists());
    assert_eq!(gone(&env), Vec::<String>::new());
}

#[test]
fn records_of_files_go_with_what_was_made_from_them() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    let records = || fs_err::read_dir(env.path("runs/inputs")).unwrap().count();
    let of_stages = records();
    assert!(of_stages > 0, "a run remembers what it read");
    env.write(&format!("runs/inputs/{}.json", "d".repeat(64)), "{}");
    assert_eq!(env.run(&["cache", "gc", "--json"]).ends_with(0).json().len(), 0, "it may be for a run that begins");
    touch(&env.path("runs/inputs"), days_ago(8));
    let gone = env.run(&["cache", "gc", "--json"]).ends_with(0).json();
    assert_eq!(gone.iter().map(|line| text(line, "what")).collect::<Vec<_>>(), ["input record"]);
    assert_eq!(records(), of_stages + 1, "nothing is removed without `--delete`");
    env.run(&["cache", "gc", "--delete"]).ends_with(0).says(&["removed 1 thing"]);
    assert_eq!(records(), of_stages);
    env.run(&["cache", "gc", "--older-than", "0d", "--delete"]).ends_with(0);
    assert_eq!(records(), 0);
}

#[test]
fn a_clock_that_was_set_back_costs_nothing() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    made_days_ago(&env, "other", -300);
    env.write(&format!("runs/work/{}/assignment.json", "a".repeat(64)), "{}");
    touch(&env.path("runs"), SystemTime::now() + Duration::from_secs(300 * DAY));
    forget_runs(&env);
    let kept = env.run(&["cache", "gc", "--older-than", "0d", "--leftovers", "0d", "--json"]).ends_with(0);
    assert!(!stages(&kept).contains(&"other".to_owned()), "{kept:?}");
    assert!(kept.json().iter().all(|line| line["what"] != "attempt"), "{kept:?}");
    env.run(&["cache", "ls"]).ends_with(0);
    assert_eq!(env.run(&["run", "small.toml", "--json"]).ends_with(0).json().len(), 3);
    assert!(env.run(&["plan", "small.toml"]).ends_with(0).stdout.contains("3 cached"));
}

#[test]
fn the_list_is_filtered_and_sorted() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    for (stage, days) in [("base", 40), ("tuned", 30), ("other", 20)] {
        made_days_ago(&env, stage, days);
    }
    let ls = |args: &[&str]| stages(&env.run(&[&["cache", "ls", "--json"], args].concat()).ends_with(0));
    assert_eq!(ls(&[]), ["base", "tuned", "other"]);
    assert_eq!(ls(&["--reverse"]), ["other", "tuned", "base"]);
    assert_eq!(ls(&["--sort", "stage"]), ["base", "other", "tuned"]);
    assert_eq!(ls(&["--kind", "sft"]), Vec::<String>::new());
    assert_eq!(ls(&["--larger", "1GB"]), Vec::<String>::new());
    assert_eq!(ls(&["--larger", "1B"]).len(), 3);
    assert_eq!(ls(&["--used-by", "latest"]).len(), 3);
    assert_eq!(ls(&["--used-by", "small"]).len(), 3);
    assert_eq!(ls(&["--unused"]), Vec::<String>::new());
    env.run(&["cache", "ls", "--used-by", "rouge"]).ends_with(5).says(&["rouge", "orchestrate history"]);
    let line = &env.run(&["cache", "ls", "--json"]).json()[1];
    assert_eq!((line["runs"].as_array().unwrap().len(), &line["parents"][0]), (1, &key(&env, "base").into()));
}

#[test]
fn damage_is_found_whichever_core_reads_it() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    for jobs in ["1", "4"] {
        let found = env.run(&["cache", "verify", "--json", "-j", jobs]).ends_with(0).json();
        assert_eq!(found.iter().filter(|line| line["status"] == "ok").count(), 3);
    }
    let dir = checkpoint(&env, "tuned");
    let mut bytes = fs_err::read(dir.join("result.txt")).unwrap();
    bytes[3] ^= 1;
    fs_err::write(dir.join("result.txt"), bytes).unwrap();
    let ended = env.run(&["cache", "verify", "--json"]).ends_with(6).says(&["1 checkpoint damaged"]);
    let found = ended.json();
    let damaged: Vec<&Value> = found.iter().filter(|line| line["status"] == "damaged").collect();
    assert!(damaged.len() == 1 && text(damaged[0], "reason").contains("`result.txt` has digest"), "{damaged:?}");
    assert!(!dir.exists());
    env.run(&["cache", "verify", "zzzz"]).ends_with(5).says(&["zzzz"]);
}
