//! `command` stages: real programs, run by the binary itself.

use crate::env::{Ended, TestEnv};
use crate::harness::{signal_child, wait_until};
use crate::orphans::lives;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Creates a project with one command stage, `made`, of this table.
fn project(table: &str) -> TestEnv {
    let env = TestEnv::new();
    env.write("made.toml", &format!("[stages.made]\nkind = \"command\"\n{table}\n"));
    env
}

/// Returns the content of the file that `made` left in the cache.
fn made(env: &TestEnv, file: &str) -> String {
    let found = fs_err::read_dir(env.path("runs/cache")).unwrap().map(|entry| entry.unwrap().path().join(file));
    let texts: Vec<String> = found.filter_map(|path| fs_err::read_to_string(path).ok()).collect();
    assert_eq!(texts.len(), 1, "{file}: {texts:?}");
    texts.into_iter().next().unwrap()
}

/// Formats a shell script as the program's arguments.
fn shell(script: &str) -> String {
    format!("command = [\"sh\", \"-c\", '''{script}''']\n")
}

fn status(ended: &Ended) -> String {
    ended.json()[0]["status"].as_str().unwrap().to_owned()
}

fn pid(env: &TestEnv, file: &str) -> Pid {
    env.wait_for(file);
    let read = || fs_err::read_to_string(env.path(file)).unwrap().trim().parse().ok().and_then(Pid::from_raw);
    wait_until("the program got there", || read().is_some());
    read().unwrap()
}

#[test]
fn a_program_runs_once_and_its_output_and_metrics_are_the_result() {
    let script = "echo hello; mkdir $STAGE_OUTPUT/samples; echo 7 > $STAGE_OUTPUT/samples/one; \
                  echo '{\"accuracy\": 0.5}' > $STAGE_OUTPUT/metrics.json; echo x >> ran";
    let env = project(&(shell(script) + "outputs = [\"samples/\", \"metrics.json\"]"));
    let first = env.run_with(&["run", "made.toml", "--json"], "ORCHESTRATE_WORKER", "/nowhere").ends_with(0);
    assert_eq!(status(&first), "ok", "{first:?}");
    assert_eq!(made(&env, "samples/one"), "7\n");
    assert_eq!(made(&env, "worker.log"), "hello\n");
    assert!(made(&env, "key.json").contains("\"kind\": \"command\""));
    let second = env.run(&["run", "made.toml", "--json"]).ends_with(0);
    assert_eq!(status(&second), "cached");
    assert_eq!(fs_err::read_to_string(env.path("ran")).unwrap(), "x\n", "it ran once");
    let history = env.run(&["history", "--json"]).ends_with(0);
    assert!(history.json().iter().any(|line| line["metrics"]["accuracy"]["value"] == 0.5), "{history:?}");
}

#[test]
fn a_program_gets_what_it_is_reported_and_nothing_else() {
    let env = project(
        "command = [\"sh\", \"dump.sh\", \"{{ parameters.shots }}\", \"{{ output }}\", \"{{ seed }}\", \"a b; echo $HOME\"]
         files = [\"dump.sh\"]
         parameters = { shots = 5, size = [1.5, \"x\"] }
         env = [\"GIVEN\"]
         working_directory = \"data\"",
    );
    env.write(
        "dump.sh",
        "env > $STAGE_OUTPUT/env\ncp $STAGE_PARAMETERS $STAGE_OUTPUT/given.json\npwd > $2/pwd\n\
                          printf '%s|' \"$@\" > $STAGE_OUTPUT/words\n",
    );
    env.run(&["run", "made.toml"]).ends_with(4).says(&["environment variable `GIVEN`", "hint: set it"]);
    env.run_with(&["run", "made.toml", "--set", "seed=9"], "GIVEN", "secret").ends_with(0);
    let parameters: Value = serde_json::from_str(&made(&env, "given.json")).unwrap();
    assert_eq!(parameters, serde_json::json!({ "shots": 5, "size": [1.5, "x"] }));
    let words = made(&env, "words");
    assert!(words.starts_with("5|/") && words.ends_with("/out-1|9|a b; echo $HOME|"), "{words}");
    assert!(made(&env, "pwd").trim().ends_with("/data"));
    let variables = made(&env, "env");
    for variable in ["GIVEN=secret", "STAGE_SEED=9", "PATH="] {
        assert!(variables.lines().any(|line| line.starts_with(variable)), "{variable}: {variables}");
    }
    for variable in ["ORCHESTRATE_", "COLUMNS=", "STAGE_MODEL", "STAGE_PARENT", "STAGE_RESUME"] {
        assert!(!variables.contains(variable), "{variable}: {variables}");
    }
    assert!(!made(&env, "key.json").contains("secret"), "values of variables are recorded nowhere");
    assert!(!made(&env, "events.jsonl").contains("secret"));
}

#[test]
fn programs_read_the_results_of_the_stages_they_go_after() {
    let env = TestEnv::new();
    let table = |name: &str, after: &str, script: &str| {
        format!("[stages.{name}]\nkind = \"command\"\n{after}\ncommand = [\"sh\", \"-c\", '''{script}''']\n")
    };
    let recipe = [
        table("one", "", "echo 1 > $STAGE_OUTPUT/value"),
        table("two", "", "echo 2 > $STAGE_OUTPUT/value"),
        table("sum", "after = [\"two\", \"one\"]", "cat {{ parent }}/value {{ parents[1] }}/value > $STAGE_OUTPUT/sum"),
    ];
    env.write("made.toml", &recipe.concat());
    env.run(&["run", "made.toml"]).ends_with(0);
    assert_eq!(made(&env, "sum"), "2\n1\n", "in the order of `after`");
    let other = env.run(&["plan", "made.toml", "--json", "--set", "stages.sum.after=[\"one\", \"two\"]"]).ends_with(0);
    let misses: Vec<Value> = other.json().into_iter().filter(|line| line["status"] == "pending").collect();
    assert_eq!(misses.len(), 1, "another order is another stage: {misses:?}");
    // A program reads a trained model like any other result, and also receives the model's directory.
    let of_model = table(
        "look",
        "after = \"base\"",
        "ls {{ model }} > $STAGE_OUTPUT/model; ls $STAGE_PARENT > $STAGE_OUTPUT/parent",
    );
    let trained = crate::env::RECIPE.to_owned() + &of_model;
    env.write("trained.toml", &trained);
    env.run(&["run", "trained.toml"]).ends_with(0);
    assert!(made(&env, "model").contains("config.json"));
    assert!(made(&env, "parent").contains("manifest.json"));
}

#[test]
fn programs_that_fail_are_reported_with_the_end_of_their_log() {
    for (script, more, said) in [
        ("echo loading; echo no such task >&2; exit 3", "", ["`sh` ended with exit code 3", "| no such task"]),
        ("kill -9 $$", "", ["`sh` was killed by signal 9", "log"]),
        ("echo > $STAGE_OUTPUT/other", "outputs = [\"scores\", \"other\"]", ["left no `scores`", "$STAGE_OUTPUT"]),
        ("echo '{\"a\": []}' > $STAGE_OUTPUT/metrics.json", "", ["`metrics.json`", "`a` is [], not a number"]),
        ("ln -s /etc/passwd $STAGE_OUTPUT/x", "", ["`x`, which is neither a file nor a directory", "copy"]),
        ("echo > $STAGE_OUTPUT/key.json", "", ["`key.json`", "another name"]),
        ("sleep 60 & echo $! > sleeping; wait", "timeout_s = 0.3", ["did not end within 0.3 s", "raise `timeout_s`"]),
    ] {
        let env = project(&(shell(script) + more));
        let ended = env.run(&["run", "made.toml"]).ends_with(4);
        ended.says(&said);
        assert_eq!(fs_err::read_dir(env.path("runs/cache")).unwrap().count(), 0, "{script}");
        if script.starts_with("sleep") {
            let sleeping = pid(&env, "sleeping");
            wait_until("the program got there", || !lives(sleeping));
        }
    }
    let env = project("command = [\"no-such-program\"]");
    env.run(&["run", "made.toml"]).ends_with(4).says(&["`no-such-program` cannot be started", "PATH"]);
}

#[test]
fn a_program_that_says_it_failed_is_not_run_again_and_one_that_was_killed_is() {
    for (end, runs) in [("exit 3", 1), ("kill -9 $$", 2)] {
        let env = project(&shell(&format!("echo x >> ran; {end}")));
        env.run(&["run", "made.toml", "--set", "runtime.retries.backoff_s=0"]).ends_with(4);
        assert_eq!(fs_err::read_to_string(env.path("ran")).unwrap().lines().count(), runs, "{end}");
    }
}

#[test]
fn a_file_that_changes_after_planning_is_noticed() {
    let env = project("command = [\"sh\", \"script.sh\"]\nfiles = [\"script.sh\"]\nafter = \"first\"");
    let first = "[stages.first]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"echo exit 0 > script.sh\"]\n";
    env.write("made.toml", &(fs_err::read_to_string(env.path("made.toml")).unwrap() + first));
    env.write("script.sh", "exit 1\n");
    env.run(&["run", "made.toml"]).ends_with(4).says(&[
        "`",
        "script.sh` has changed since this stage was planned",
        "to plan again",
    ]);
    env.run(&["run", "made.toml"]).ends_with(0);
}

#[test]
fn a_file_that_changes_while_the_program_runs_is_noticed() {
    let script = "echo > begun; until test -e go; do sleep 0.01; done; cp f.txt $STAGE_OUTPUT/copied";
    let env = project(&(shell(script) + "files = [\"f.txt\"]"));
    env.write("f.txt", "one\n");
    let child = env.start(&["run", "made.toml"]);
    env.wait_for("begun");
    env.write("f.txt", "two\n");
    env.write("go", "");
    let ended = Ended::from(child.wait_with_output().unwrap()).ends_with(4);
    ended.says(&["f.txt` was written to while this stage read it", "to plan again"]);
    for content in ["one\n", "two\n"] {
        env.write("f.txt", content);
        let plan = env.run(&["plan", "made.toml", "--json"]).ends_with(0);
        assert_eq!(status(&plan), "pending", "something was cached under the key of {content:?}");
    }
    env.run(&["resume"]).ends_with(0);
    assert_eq!(made(&env, "copied"), "two\n");
}

/// Resumes where it left off: ends at once if it finds its own file.
const PATIENT: &str = "trap 'echo asked > asked; exit 1' TERM; echo $$ > running; \
                       test -f $STAGE_RESUME/half && cp $STAGE_RESUME/half $STAGE_OUTPUT/whole && exit 0; \
                       echo half > $STAGE_RESUME/half; sleep 60 & wait";

#[test]
fn a_stopped_program_is_asked_to_end_and_goes_on_from_what_it_left() {
    let env = project(&(shell(PATIENT) + "resume = true"));
    let run = env.start(&["run", "made.toml"]);
    let program = pid(&env, "running");
    env.wait_for("running");
    wait_until("the program got there", || made_half(&env));
    signal_child(&run, Signal::INT);
    Ended::from(run.wait_with_output().unwrap()).ends_with(130);
    assert!(env.path("asked").exists(), "it got SIGTERM");
    assert!(!lives(program), "it is gone");
    env.run(&["resume"]).ends_with(0);
    assert_eq!(made(&env, "whole"), "half\n");
}

fn made_half(env: &TestEnv) -> bool {
    let work = fs_err::read_dir(env.path("runs/work")).unwrap();
    work.into_iter().any(|entry| entry.unwrap().path().join("resume/half").exists())
}

#[test]
fn a_program_without_resume_begins_anew_in_an_empty_directory() {
    let script = "test -e $STAGE_OUTPUT/part && exit 9; echo 1 > $STAGE_OUTPUT/part; test -e again && exit 0; \
                  touch again; exit 1";
    let env = project(&shell(script));
    env.run(&["run", "made.toml", "--set", "runtime.retries.crash=0"]).ends_with(4);
    env.run(&["run", "made.toml"]).ends_with(0);
}

#[test]
fn a_program_dies_with_its_children_when_the_worker_or_the_dispatcher_is_killed() {
    let env = project(&shell("sleep 60 & echo $! > sleeping; echo $PPID > worker; wait"));
    for kill_worker in [true, false] {
        let mut run = env.start(&["run", "made.toml"]);
        let (sleeping, worker) = (pid(&env, "sleeping"), pid(&env, "worker"));
        if kill_worker {
            kill_process(worker, Signal::KILL).unwrap();
            Ended::from(run.wait_with_output().unwrap()).ends_with(4);
        } else {
            run.kill().unwrap();
            run.wait().unwrap();
        }
        wait_until("the program got there", || !lives(sleeping));
        for file in ["sleeping", "worker"] {
            fs_err::remove_file(env.path(file)).unwrap();
        }
    }
}

/// Finds the guard of the program in the process group `group`. A guard kills the group when the worker is gone.
fn guard_of(group: Pid) -> Pid {
    let group = group.as_raw_nonzero().to_string();
    let is_guard = |id: &i32| {
        let words = fs_err::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|&byte| byte == 0).collect();
        words.get(2).is_some_and(|script| script.starts_with(b"read _;")) && words.contains(&group.as_bytes())
    };
    let find = || {
        let processes = fs_err::read_dir("/proc").unwrap();
        processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).find(is_guard)
    };
    wait_until("the program got there", || find().is_some()); // the guard starts after the program
    find().and_then(Pid::from_raw).unwrap()
}

#[test]
fn a_program_that_outlives_its_worker_and_its_guard_writes_into_no_later_result() {
    let count = "for i in 1 2 3 4 5; do echo $i >> $STAGE_OUTPUT/counted; sleep 0.3; done";
    for hindered in [Signal::STOP, Signal::KILL] {
        let env = project(&shell(&format!("echo $PPID > worker; echo $$ > program; {count}")));
        let mut run = env.start(&["run", "made.toml", "--set", "runtime.stop_grace_s=0.5"]);
        let (worker, program) = (pid(&env, "worker"), pid(&env, "program"));
        let guard = guard_of(program);
        kill_process(guard, hindered).unwrap();
        run.kill().unwrap();
        kill_process(worker, Signal::KILL).unwrap();
        run.wait().unwrap();
        assert!(lives(program), "there is something to outlive");
        let resumed = env.run(&["resume"]).ends_with(0).says(&["to end, whose worker has died"]);
        assert_eq!(made(&env, "counted"), "1\n2\n3\n4\n5\n", "{resumed:?}");
        assert!(!lives(program) && !lives(guard), "nothing is left");
    }
}

#[test]
fn every_try_of_a_program_has_an_output_directory_of_its_own() {
    let env = project(&shell(
        "echo $STAGE_OUTPUT >> places; touch $STAGE_OUTPUT/made; test -e again || { touch again; exit 1; }",
    ));
    env.run(&["run", "made.toml", "--set", "runtime.retries.crash=0"]).ends_with(4);
    env.run(&["run", "made.toml"]).ends_with(0);
    let places = fs_err::read_to_string(env.path("places")).unwrap();
    let [first, second] = places.lines().collect::<Vec<_>>()[..] else { panic!("{places}") };
    assert!(first.ends_with("/out-1") && second.ends_with("/out-2"), "{places}");
}
