//! Real programs, most of which misbehave.

use super::*;
use crate::rewards::testing::sample;
use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;

/// A directory with a Python script that is the command.
struct Scripted {
    dir: TempDir,
    spec: CommandSpec,
}

const ECHO: &str = r#"
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    print(json.dumps({"value": len(q["text"] or "")}))
"#;

impl Scripted {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("rate.py"), script).unwrap();
        let digest = Digest::of(script.as_bytes());
        let spec = CommandSpec {
            command: vec![Argument::Text("python3".to_owned()), Argument::File(digest.clone())],
            files: vec![digest],
            env: Vec::new(),
            timeout_s: 20.0,
        };
        Self { dir, spec }
    }

    fn within(mut self, seconds: f64) -> Self {
        self.spec.timeout_s = seconds;
        self
    }

    fn command(&self) -> Command {
        let variable = |name: &str| (name == "SECRET").then(|| "4711".to_owned());
        Command::new(&self.spec, &|_| Some(self.dir.path().join("rate.py")), &variable).unwrap()
    }

    fn file(&self, name: &str) -> String {
        fs_err::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

fn rate(command: &mut Command, completions: &[&str]) -> Vec<Verdict> {
    let samples: Vec<Sample<'_>> = completions.iter().map(|completion| sample(completion)).collect();
    let texts: Vec<Option<&str>> = completions.iter().copied().map(Some).collect();
    command.rate(&samples, &texts).unwrap()
}

#[track_caller]
fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Missing(reason) => reason,
        Verdict::Value(value) => panic!("{value} is a value"),
    }
}

fn restarts(command: &Command) -> Option<f64> {
    command.metrics().into_iter().find(|(name, _)| *name == "restarts").map(|(_, count)| count)
}

fn values(of: &[f64]) -> Vec<Verdict> {
    of.iter().copied().map(Verdict::Value).collect()
}

#[test]
fn a_program_is_asked_batch_after_batch_and_started_once() {
    let scripted = Scripted::new(&format!("import os\nopen(__file__ + '.starts', 'a').write('x')\n{ECHO}"));
    let mut command = scripted.command();
    assert!(!scripted.dir.path().join("rate.py.starts").exists(), "it is started when it is needed");
    assert!(rate(&mut command, &[]).is_empty());
    assert!(!scripted.dir.path().join("rate.py.starts").exists());
    for _ in 0..5 {
        assert_eq!(rate(&mut command, &["a", "bcd", "è\n"]), values(&[1.0, 3.0, 2.0]));
        assert_eq!(restarts(&command), Some(0.0));
    }
    assert_eq!(scripted.file("rate.py.starts"), "x");
}

#[test]
fn it_is_told_the_whole_sample() {
    let scripted = Scripted::new(
        "import sys\nfor line in sys.stdin:\n    open(__file__ + '.in', 'w').write(line)\n    print('{\"missing\": \"no idea\"}')",
    );
    let rated = Sample { prompt: "Q", reference: Some("r"), answer: Some("B"), ..sample("c") };
    let verdicts = scripted.command().rate(&[rated], &[None]).unwrap();
    assert_eq!(verdicts, [Verdict::Missing("no idea".to_owned())]);
    let told = "{\"prompt\":\"Q\",\"completion\":\"c\",\"text\":null,\"reference\":\"r\",\"answer\":\"B\"}\n";
    assert_eq!(scripted.file("rate.py.in"), told);
}

#[test]
fn many_long_questions_and_answers_do_not_block_each_other() {
    let scripted = Scripted::new(ECHO).within(60.0);
    let mut command = scripted.command();
    let long = "x".repeat(20_000);
    let verdicts = rate(&mut command, &vec![long.as_str(); 300]);
    assert_eq!(verdicts, values(&[20_000.0; 300]));
}

#[test]
fn what_is_not_answered_in_time_is_missing_and_the_next_batch_has_a_new_process() {
    let slow = "import json, sys, time\nfor line in sys.stdin:\n    q = json.loads(line)\n    \
                time.sleep(60 if q['text'] == 'slow' else 0)\n    print('{\"value\": 1}')";
    let scripted = Scripted::new(slow).within(1.5);
    let mut command = scripted.command();
    let began = Instant::now();
    let verdicts = rate(&mut command, &["quick", "slow", "quick"]);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(verdicts[0], Verdict::Value(1.0), "what was answered stands");
    for verdict in &verdicts[1..] {
        assert!(reason(verdict).starts_with("it has given 1 of 3 answers within 1.5 s"), "{verdict:?}");
    }
    assert_eq!(restarts(&command), Some(0.0));
    assert_eq!(rate(&mut command, &["quick"]), values(&[1.0]));
    assert_eq!(restarts(&command), Some(1.0));
}

#[test]
fn a_crash_is_missing_with_the_programs_last_words() {
    let crashing = "import json, sys\nfor line in sys.stdin:\n    q = json.loads(line)\n    \
                    if q['text'] == 'bad': raise ValueError('no such unit')\n    print('{\"value\": 1}')";
    let scripted = Scripted::new(crashing);
    let mut command = scripted.command();
    let verdicts = rate(&mut command, &["good", "bad", "good"]);
    assert_eq!(verdicts[0], Verdict::Value(1.0));
    let told = "it ended with exit code 1 after 1 of 3 answers: `ValueError: no such unit`";
    assert_eq!((reason(&verdicts[1]), reason(&verdicts[2])), (told, told));
    assert_eq!(rate(&mut command, &["good"]), values(&[1.0]));
    assert_eq!(restarts(&command), Some(1.0));
}

#[test]
fn a_program_that_cannot_run_is_missing_every_time() {
    let mut scripted = Scripted::new("");
    let mut command = scripted.command();
    for _ in 0..2 {
        let verdicts = rate(&mut command, &["a", "b"]);
        assert!(reason(&verdicts[1]).starts_with("it ended with exit code 0 after 0 of 2 answers"), "{verdicts:?}");
    }
    scripted.spec.command[0] = Argument::Text("/nonexistent/python".to_owned());
    let verdicts = rate(&mut scripted.command(), &["a", "b"]);
    assert!(reason(&verdicts[0]).starts_with("it cannot be started: No such file"), "{verdicts:?}");
}

#[test]
fn a_program_that_ends_after_each_batch_is_started_for_the_next() {
    let once = "import sys\nsys.stdin.readline()\nprint('{\"value\": 2}')";
    let scripted = Scripted::new(once);
    let mut command = scripted.command();
    assert_eq!(rate(&mut command, &["a"]), values(&[2.0]));
    assert_eq!(rate(&mut command, &["a"]), values(&[2.0]));
    assert_eq!(restarts(&command), Some(1.0));
}

#[test]
fn garbage_leaves_the_rest_of_the_batch_without_answers() {
    let chatty = "import sys\nfor i, line in enumerate(sys.stdin):\n    \
                  print('loading...' if i == 1 else '{\"value\": 1}')";
    let verdicts = rate(&mut Scripted::new(chatty).command(), &["a", "b", "c"]);
    assert_eq!(verdicts[0], Verdict::Value(1.0));
    for verdict in &verdicts[1..] {
        assert_eq!(reason(verdict), "its line 2 of 3 is no JSON object: `loading...`");
    }
}

#[test]
fn an_object_that_is_no_answer_is_missing_alone() {
    let answers =
        ["{\"value\": NaN}", "{\"value\": 1}", "{\"value\": -Infinity}", "{\"score\": 3}", "{\"value\": 1e999}"];
    let script = format!("import sys\nanswers = {answers:?}\nfor i, line in enumerate(sys.stdin): print(answers[i])");
    let scripted = Scripted::new(&script);
    let mut command = scripted.command();
    let verdicts = rate(&mut command, &["a"; 5]);
    assert_eq!(verdicts[1], Verdict::Value(1.0));
    for (answer, verdict) in answers.iter().zip(&verdicts).filter(|(_, verdict)| **verdict != Verdict::Value(1.0)) {
        assert!(reason(verdict).starts_with("its answer is no {\"value\": number}"), "{answer}: {verdict:?}");
    }
    assert_eq!(verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Missing(_))).count(), 4);
}

#[test]
fn too_many_lines_void_the_batch() {
    let twice = "import sys\nfor line in sys.stdin:\n    print('{\"value\": 1}\\n{\"value\": 0}')";
    let scripted = Scripted::new(twice);
    let mut command = scripted.command();
    for _ in 0..2 {
        for verdict in rate(&mut command, &["a", "b"]) {
            assert_eq!(reason(&verdict), "it writes more than 2 lines for 2 questions");
        }
    }
}

#[test]
fn a_line_that_comes_late_answers_no_question_of_the_next_batch() {
    let late = "import sys, time\nfor line in sys.stdin:\n    print('{\"value\": 1}')\n    \
                time.sleep(0.2)\n    print('{\"value\": 0}')";
    let scripted = Scripted::new(late);
    let mut command = scripted.command();
    assert_eq!(rate(&mut command, &["a"]), values(&[1.0]));
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(rate(&mut command, &["a"]), values(&[1.0]));
    assert_eq!(restarts(&command), Some(1.0));
}

#[test]
fn too_few_lines_are_missing_after_the_time_limit() {
    let lazy = "import sys\nfor i, line in enumerate(sys.stdin):\n    if i % 2 == 0: print('{\"value\": 1}')";
    let verdicts = rate(&mut Scripted::new(lazy).within(1.0).command(), &["a", "b"]);
    assert_eq!(verdicts[0], Verdict::Value(1.0));
    assert!(reason(&verdicts[1]).starts_with("it has given 1 of 2 answers within 1 s"), "{verdicts:?}");
}

#[test]
fn endless_output_is_cut_off() {
    let line = "import sys\nwhile True: sys.stdout.write('{' * 65536)";
    let verdicts = rate(&mut Scripted::new(line).command(), &["a"]);
    assert_eq!(reason(&verdicts[0]), "its line 1 of 1 cannot be read: it is longer than 1048576 bytes");
    let lines = "while True: print('{\"value\": 1}')";
    let verdicts = rate(&mut Scripted::new(lines).command(), &["a", "b"]);
    assert_eq!(reason(&verdicts[0]), "it writes more than 2 lines for 2 questions");
}

#[test]
fn a_program_that_reads_nothing_does_not_block() {
    let deaf = "import time\ntime.sleep(60)";
    let verdicts = rate(&mut Scripted::new(deaf).within(0.5).command(), &["x".repeat(1 << 20).as_str()]);
    assert!(reason(&verdicts[0]).starts_with("it has given 0 of 1 answers within 0.5 s"), "{verdicts:?}");
}

#[test]
fn it_is_killed_with_its_children() {
    let parent = "import subprocess, sys\nchild = subprocess.Popen(['sleep', '300'])\n\
                  open(__file__ + '.pid', 'w').write(str(child.pid))\nfor line in sys.stdin: print('{\"value\": 1}')";
    let scripted = Scripted::new(parent);
    let mut command = scripted.command();
    assert_eq!(rate(&mut command, &["a"]), values(&[1.0]));
    let child = Pid::from_raw(scripted.file("rate.py.pid").parse().unwrap()).unwrap();
    assert!(test_kill_process(child).is_ok(), "it is there");
    drop(command);
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_running(child) {
        assert!(Instant::now() < deadline, "the program's child is left behind");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the process is there, and not only waits to be reaped by whoever takes in orphans.
fn is_running(process: Pid) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[test]
fn only_declared_variables_reach_it() {
    let script = "import json, os, sys\nfor line in sys.stdin:\n    \
                  print(json.dumps({'missing': ' '.join(sorted(os.environ))}))";
    let mut scripted = Scripted::new(script);
    let names = |scripted: &Scripted| reason(&rate(&mut scripted.command(), &["a"])[0]).to_owned();
    let before = names(&scripted);
    assert!(before.split(' ').any(|name| name == "PATH") && !before.contains("SECRET"), "{before}");
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok() && !before.contains("CARGO"), "{before}");
    scripted.spec.env = vec!["SECRET".to_owned()];
    assert!(names(&scripted).contains("SECRET"));
    scripted.spec.env = vec!["OTHER".to_owned()];
    let error = Command::new(&scripted.spec, &|_| None, &|_| None).err().unwrap();
    assert!(error.to_string().starts_with("nothing says where its file"), "{error}");
    let error = Command::new(&scripted.spec, &|_| Some(PathBuf::new()), &|_| None).err().unwrap();
    assert_eq!(error.to_string(), "the environment variable `OTHER`, which its `env` names, is not set");
}

#[test]
fn a_script_that_changed_since_it_was_hashed_is_not_run() {
    let scripted = Scripted::new(ECHO);
    fs_err::write(scripted.dir.path().join("rate.py"), format!("{ECHO}\n")).unwrap();
    let error = scripted.command().rate(&[sample("a")], &[Some("a")]).unwrap_err();
    assert!(error.message.ends_with("rate.py` has changed since the stage was planned"), "{error}");
}
