//! `orchestrate verify`: its comparison, its output, and that it only reads the cache.

use crate::env::TestEnv;
use std::path::PathBuf;

/// Returns the checkpoint directory of `stage`.
fn checkpoint(env: &TestEnv, stage: &str) -> PathBuf {
    let plan = env.run(&["plan", "small.toml", "--json"]).ends_with(0).json();
    let line = plan.iter().find(|line| line["stage"] == stage).unwrap();
    env.path("runs/cache").join(line["key"].as_str().unwrap())
}

/// Returns the names below `runs/work`.
fn work(env: &TestEnv) -> Vec<String> {
    let entries = fs_err::read_dir(env.path("runs/work")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_rerun_that_makes_the_same_is_reported_and_leaves_nothing() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    let manifest = checkpoint(&env, "tuned").join("manifest.json");
    let before = (fs_err::read(&manifest).unwrap(), fs_err::metadata(&manifest).unwrap().modified().unwrap());
    let runs = env.run(&["history", "--json"]).ends_with(0).json().len();

    let found = env.run(&["verify", "latest", "tuned", "--json"]).ends_with(0).json();
    assert_eq!(found[0]["same"], true);
    let files: Vec<&str> =
        found[0]["files"].as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["result.txt"], "only what the stage made is compared");
    assert_eq!(found[0]["recorded_on"][0]["device"], "cpu");
    env.run(&["verify", "latest", "tuned"]).ends_with(0).says(&["started"]);
    let by_cache = env.run(&["cache", "verify", "--rerun", "tuned", "--json"]).ends_with(0).json();
    assert_eq!((&by_cache[0]["stage"], &by_cache[0]["same"]), (&found[0]["stage"], &found[0]["same"]));

    assert_eq!((fs_err::read(&manifest).unwrap(), fs_err::metadata(&manifest).unwrap().modified().unwrap()), before);
    assert!(work(&env).is_empty(), "{:?}", work(&env));
    assert_eq!(env.run(&["history", "--json"]).ends_with(0).json().len(), runs, "a rerun is no run of the history");
}

#[test]
fn a_rerun_that_differs_ends_with_7_names_the_file_and_stays() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    let dir = checkpoint(&env, "tuned");
    let manifest = fs_err::read_to_string(dir.join("manifest.json")).unwrap();
    let at = manifest.find("result.txt").unwrap();
    let at = at + manifest[at..].find("\"sha256\":\"").unwrap() + "\"sha256\":\"".len();
    let other = if manifest.as_bytes()[at] == b'0' { "1" } else { "0" };
    let flipped = format!("{}{other}{}", &manifest[..at], &manifest[at + 1..]);
    fs_err::write(dir.join("manifest.json"), flipped).unwrap();

    let ended = env.run(&["verify", "latest", "tuned"]).ends_with(7).says(&["tuned"]);
    for word in ["result.txt", "DIFFERS", "device, libtorch and threads were the same", "runs/work/verify-"] {
        assert!(ended.stdout.contains(word), "no `{word}` in:\n{}", ended.stdout);
    }
    assert!(work(&env)[0].starts_with("verify-"), "{:?}", work(&env));

    // Other conditions are reported.
    let events = fs_err::read_to_string(dir.join("events.jsonl")).unwrap();
    let elsewhere =
        events.replace("\"device\":\"cpu\"", "\"device\":\"cuda:0\"").replace("\"threads\":1", "\"threads\":8");
    fs_err::write(dir.join("events.jsonl"), &elsewhere).unwrap();
    let manifest = fs_err::read_to_string(dir.join("manifest.json")).unwrap();
    let sizes = |length: usize| format!("\"bytes\":{length}");
    fs_err::write(dir.join("manifest.json"), manifest.replace(&sizes(events.len()), &sizes(elsewhere.len()))).unwrap();
    let ended = env.run(&["verify", "latest", "tuned"]).ends_with(7);
    for words in ["device: recorded cuda:0, rerun cpu", "threads: recorded 8, rerun 1"] {
        assert!(ended.stdout.contains(words), "no `{words}` in:\n{}", ended.stdout);
    }
}

#[test]
fn what_cannot_be_rerun_is_reported() {
    let env = TestEnv::new();
    env.run(&["verify", "latest", "tuned"]).ends_with(5).says(&["nothing has been run"]);
    env.run(&["run", "small.toml"]).ends_with(0);
    env.run(&["verify", "latest", "absent"]).ends_with(5).says(&["absent", "tuned"]);
    env.run(&["verify", "latest", "tuned", "--variant", "rouge"]).ends_with(5).says(&["small"]);

    env.behave("tuned", "fail");
    env.run(&["verify", "latest", "tuned"]).ends_with(4).says(&["row 3 has no `question`", "tuned"]);
    assert!(checkpoint(&env, "tuned").join("manifest.json").exists(), "a rerun that fails costs the result");

    let rows = fs_err::read_to_string(env.path("data/rows.jsonl")).unwrap();
    env.write("data/rows.jsonl", "{\"q\": \"Shortest bone?\", \"a\": \"stirrup\"}\n");
    env.run(&["verify", "latest", "tuned"]).ends_with(5).says(&["data file has changed"]);
    env.write("data/rows.jsonl", &rows);
    fs_err::remove_dir_all(checkpoint(&env, "base")).unwrap();
    env.run(&["verify", "latest", "tuned"]).ends_with(5).says(&["`base` is not in the cache"]);
}
