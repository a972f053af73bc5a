//! Damaged logs of runs are reported, and nothing that they may need is removed.

use crate::env::TestEnv;
use std::path::PathBuf;

/// Creates a project with two runs, and changes one byte of a file of the newest run's log.
fn damaged(file: &str) -> (TestEnv, PathBuf) {
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let path = env.path("runs/log").join(env.newest_run()).join(file);
    let mut bytes = fs_err::read(&path).unwrap();
    bytes[2] = b'x';
    fs_err::write(&path, bytes).unwrap();
    (env, path)
}

fn results(env: &TestEnv) -> usize {
    fs_err::read_dir(env.path("runs/cache")).unwrap().count()
}

#[test]
fn nothing_is_removed_while_a_log_cannot_be_read() {
    for file in ["invocation.json", "plan.json"] {
        let (env, path) = damaged(file);
        for args in [["--unreferenced"].as_slice(), &["--older-than", "0s"]] {
            for delete in [[].as_slice(), &["--delete"]] {
                let gc = env.run(&[["cache", "gc"].as_slice(), args, delete].concat()).ends_with(6);
                gc.says(&[
                    &format!("`{}` is damaged", path.display()),
                    "at line ",
                    "nothing was removed",
                    "orchestrate runs rm",
                ]);
            }
        }
        assert_eq!(results(&env), 3);
        // The suggested remedy.
        fs_err::remove_dir_all(path.parent().unwrap()).unwrap();
        env.run(&["cache", "gc", "--unreferenced", "--delete"]).ends_with(0);
        assert_eq!(results(&env), 3, "the other run needs them");
    }
}

#[test]
fn a_missing_invocation_or_plan_of_a_run_that_began_is_damage_too() {
    for file in ["invocation.json", "plan.json"] {
        let (env, path) = damaged(file);
        fs_err::remove_file(&path).unwrap();
        let gc = env.run(&["cache", "gc", "--unreferenced", "--delete"]).ends_with(6);
        gc.says(&[&format!("`{}` is damaged", path.display()), "not found"]);
        assert_eq!(results(&env), 3);
    }
}

#[test]
fn every_command_names_a_log_that_it_cannot_read() {
    let commands: &[&[&str]] = &[
        &["show"],
        &["logs", "latest"],
        &["metrics", "latest"],
        &["samples", "latest"],
        &["cost"],
        &["report"],
        &["compare", "latest"],
        &["export", "latest", "--format", "csv", "-o", "out"],
        &["diff", "latest"],
        &["resume"],
        &["cancel"],
        &["cache", "ls"],
    ];
    let (env, path) = damaged("invocation.json");
    for args in commands {
        let ended = env.run(args);
        assert!(ended.stderr.contains(&path.display().to_string()), "{args:?}: {ended:?}");
        assert!(ended.code.is_some(), "{args:?}: {ended:?}");
    }
    assert!(env.run(&["show", "latest"]).ends_with(0).stdout.contains("tuned"), "the other run is shown");
    fs_err::remove_file(path.with_file_name("run.jsonl")).unwrap();
    env.run(&["show", "latest"]).ends_with(0);

    let (env, path) = damaged("plan.json");
    fs_err::remove_file(env.path("runs/history.db")).unwrap();
    for args in
        commands.iter().copied().filter(|args| !matches!(args[0], "resume" | "cancel")).chain([&["history"][..]])
    {
        let ended = env.run(args);
        assert!(ended.stderr.contains(&path.display().to_string()), "{args:?}: {ended:?}");
    }
    assert!(env.run(&["history"]).ends_with(0).stdout.contains("tuned"), "the other run is shown");
}

#[test]
fn lines_that_are_no_events_are_counted() {
    let (env, path) = damaged("run.jsonl");
    let shown = env.run(&["show", "latest"]).ends_with(0);
    shown.says(&["1 line of `", &path.display().to_string(), "cannot be read"]);
    env.run(&["cache", "gc", "--unreferenced", "--delete"]).ends_with(0);
    assert_eq!(results(&env), 3, "its plan says what it needs");
}

#[test]
fn when_no_log_can_be_read_the_damage_is_the_answer() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let path = env.path("runs/log").join(env.newest_run()).join("invocation.json");
    fs_err::write(&path, "{").unwrap();
    for args in [["show", "latest"].as_slice(), &["resume"], &["cost"]] {
        env.run(args)
            .ends_with(6)
            .says(&[&format!("error: `{}` is damaged", path.display()), "hint: restore the file"]);
    }
}
