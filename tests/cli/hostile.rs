//! Hostile texts, names and queries: they do not control a terminal, are not ignored, and write nothing.

use crate::env::TestEnv;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::{Duration, Instant};

#[test]
fn a_project_whose_path_is_not_utf8_is_refused_before_anything_is_written() {
    let env = TestEnv::new();
    let inside = env.path("").join(OsStr::from_bytes(b"n\xff\xfeu"));
    fs_err::create_dir(&inside).unwrap();
    fs_err::copy(env.path("small.toml"), inside.join("small.toml")).unwrap();
    let mut args = vec![OsString::from("-C"), inside.clone().into_os_string()];
    args.extend(["run", "small.toml"].map(OsString::from));
    env.run_os(&args).ends_with(2).says(&[r"n\xFF\xFEu", "is not UTF-8", "hint: rename the directory"]);
    assert!(!inside.join("runs").exists());
    env.run_with_os(&["check", "small.toml"], "ORCHESTRATE_RUNS", &OsString::from_vec(b"r\xff".to_vec())).ends_with(2);
}

#[test]
fn a_data_file_is_not_passed_over_because_of_its_name() {
    let env = TestEnv::new();
    let recipe = fs_err::read_to_string(env.path("small.toml")).unwrap();
    env.write("small.toml", &recipe.replace("data/rows.jsonl", "data/mix/*.jsonl"));
    env.write("data/mix/a.jsonl", "{\"q\": \"Q\", \"a\": \"A\"}\n");
    env.run(&["check", "small.toml"]).ends_with(0);
    fs_err::write(env.path("data/mix").join(OsStr::from_bytes(b"b\xff.jsonl")), "{}\n").unwrap();
    env.run(&["check", "small.toml"]).ends_with(3).says(&[r"b\xFF.jsonl", "not UTF-8: rename it", "data/mix/*.jsonl"]);
}

#[test]
fn no_text_of_others_steers_the_terminal() {
    let env = TestEnv::new();
    let script = r"printf '\033]0;pwned\007\033[2J\nstep 1\rstep 2\n' >&2; exit 3";
    env.write("bad.toml", &format!("[stages.made]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n"));
    let run = env.run(&["run", "bad.toml"]).ends_with(4);
    let logs = env.run(&["logs", "latest"]).ends_with(0);
    for text in [&run.stderr, &logs.stdout] {
        assert!(text.contains(r"\u{1b}]0;pwned") && !text.contains(['\x1b', '\x07', '\r']), "{text:?}");
        let last_state = text.lines().any(|line| line.trim_start_matches([' ', '|']) == "step 2");
        assert!(last_state, "of a line that was written over: {text:?}");
    }
    env.write("key.toml", "name = \"x\"\n\"\\u001b]0;pwned\\u202e\" = 1\n");
    let check = env.run(&["check", "key.toml"]).ends_with(3);
    assert!(check.stderr.contains("pwned") && !check.stderr.contains(['\x1b', '\u{202e}']), "{:?}", check.stderr);
}

#[test]
fn a_question_writes_nothing_and_ends() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let copy = env.path("copy.db");
    let vacuum = format!("VACUUM INTO '{}'", copy.display());
    for (sql, said) in [
        (vacuum.as_str(), "found `VACUUM`"),
        (&format!("SELECT 1; {vacuum}"), "expected one SQL statement, found 2"),
        ("BEGIN EXCLUSIVE", "found `BEGIN`"),
        ("CREATE TEMP TABLE x (y)", "found `CREATE`"),
    ] {
        env.run(&["query", sql]).ends_with(2).says(&[said, "hint: a query begins with"]);
    }
    assert!(!copy.exists());
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n";
    let began = Instant::now();
    env.run(&["query", endless, "--timeout", "0.5"]).ends_with(130).says(&["did not finish within 0.5 s"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let blob = env.run(&["query", "SELECT x'ff00' AS bytes, 'text' AS text", "--json"]).ends_with(0).json();
    assert_eq!((blob[0]["bytes"].as_str(), blob[0]["text"].as_str()), (Some("x'ff00'"), Some("text")));
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2500) SELECT i FROM n";
    let table = env.run(&["query", many]).ends_with(0).stdout;
    assert!(table.lines().filter(|line| line.trim() == "2500").count() == 1 && table.lines().count() < 2520, "{table}");
}

#[test]
fn csv_holds_no_formula() {
    let env = TestEnv::new();
    let script = r#"echo '{"=cmd|x": 1}' > $STAGE_OUTPUT/metrics.json"#;
    env.write("made.toml", &format!("[stages.made]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n"));
    env.run(&["run", "made.toml"]).ends_with(0);
    let answer = env.run(&["query", "SELECT name FROM results", "--format", "csv"]).ends_with(0);
    assert_eq!(answer.stdout, "name\n\"'=cmd|x\"\n");
    env.run(&["export", "latest", "--format", "csv", "-o", "out"]).ends_with(0);
    assert!(fs_err::read_to_string(env.path("out/results.csv")).unwrap().contains("\"'=cmd|x\""));
}
