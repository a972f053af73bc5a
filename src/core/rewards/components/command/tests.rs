//! Tests with real programs, most of which misbehave.

use super::*;
use crate::digest::Digest;
use crate::event::FailureClass;
use crate::program::Argument;
use crate::rewards::Reward;
use crate::rewards::RewardValue;
use crate::rewards::Sample;
use crate::rewards::StopCheck;
use crate::rewards::remote::questions::Extras;
use crate::rewards::testing::sample;
use proptest::prelude::*;
use rustix::process::{Pid, test_kill_process};
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// A directory with a Python script that is the command.
struct Scripted {
    dir: TempDir,
    spec: CommandSpec,
}

/// The beginning of every script: `say(line, value=1)` answers the question of the line.
const SAY: &str = r#"
import json, sys
def say(line, **answer):
    print(json.dumps({"id": json.loads(line)["id"], **answer}))
"#;
const ECHO: &str = r#"
for line in sys.stdin:
    say(line, value=len(json.loads(line)["text"] or ""))
"#;

impl Scripted {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("{SAY}{script}");
        fs_err::write(dir.path().join("rate.py"), &script).unwrap();
        let digest = Digest::of(script.as_bytes());
        let spec = CommandSpec {
            command: vec![Argument::Text("python3".to_owned()), Argument::File(digest.clone())],
            files: vec![digest],
            env: Vec::new(),
            timeout_s: 20.0,
            send: Vec::new(),
        };
        Self { dir, spec }
    }

    fn within(mut self, seconds: f64) -> Self {
        self.spec.timeout_s = seconds;
        self
    }

    fn command(&self) -> Command {
        let variable = |name: &str| (name == "SECRET").then(|| "4711".to_owned());
        Command::new(
            &self.spec,
            Extras::default(),
            &|_| Some(self.dir.path().join("rate.py")),
            &variable,
            &StopCheck::never(),
        )
        .unwrap()
    }

    fn file(&self, name: &str) -> String {
        fs_err::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

fn rate(command: &mut Command, completions: &[&str]) -> Vec<RewardValue> {
    let samples: Vec<Sample<'_>> = completions.iter().map(|completion| sample(completion)).collect();
    let texts: Vec<Option<&str>> = completions.iter().copied().map(Some).collect();
    command.rate(&samples, &texts).unwrap()
}

#[track_caller]
fn reason(verdict: &RewardValue) -> &str {
    match verdict {
        RewardValue::Missing(reason) => reason,
        RewardValue::Value(value) => panic!("{value} is a value"),
    }
}

fn restarts(command: &Command) -> Option<f64> {
    command.metrics().into_iter().find(|metric| metric.name == "restarts").map(|metric| metric.value)
}

fn values(of: &[f64]) -> Vec<RewardValue> {
    of.iter().copied().map(RewardValue::Value).collect()
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
        "import sys\nfor line in sys.stdin:\n    open(__file__ + '.in', 'w').write(line)\n    say(line, missing='no idea')",
    );
    let rated = Sample { prompt: "Q", reference: Some("r"), answer: Some("B"), ..sample("c") };
    let verdicts = scripted.command().rate(&[rated], &[None]).unwrap();
    assert_eq!(verdicts, [RewardValue::Missing("no idea".to_owned())]);
    let told = "{\"id\":0,\"prompt\":\"Q\",\"completion\":\"c\",\"text\":null,\"reference\":\"r\",\"answer\":\"B\"}\n";
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
                time.sleep(60 if q['text'] == 'slow' else 0)\n    say(line, value=1)";
    let scripted = Scripted::new(slow).within(1.5);
    let mut command = scripted.command();
    let began = Instant::now();
    let verdicts = rate(&mut command, &["quick", "slow", "quick"]);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(verdicts[0], RewardValue::Value(1.0), "what was answered stands");
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
                    if q['text'] == 'bad': raise ValueError('no such unit')\n    say(line, value=1)";
    let scripted = Scripted::new(crashing);
    let mut command = scripted.command();
    let verdicts = rate(&mut command, &["good", "bad", "good"]);
    assert_eq!(verdicts[0], RewardValue::Value(1.0));
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
    let once = "say(sys.stdin.readline(), value=2)";
    let scripted = Scripted::new(once);
    let mut command = scripted.command();
    assert_eq!(rate(&mut command, &["a"]), values(&[2.0]));
    assert_eq!(rate(&mut command, &["a"]), values(&[2.0]));
    assert_eq!(restarts(&command), Some(1.0));
}

#[test]
fn garbage_leaves_the_rest_of_the_batch_without_answers() {
    let chatty = "import sys\nfor i, line in enumerate(sys.stdin):\n    \
                  print('loading...') if i == 1 else say(line, value=1)";
    let verdicts = rate(&mut Scripted::new(chatty).command(), &["a", "b", "c"]);
    assert_eq!(verdicts[0], RewardValue::Value(1.0));
    for verdict in &verdicts[1..] {
        assert_eq!(reason(verdict), "line 2 of 3 is not a JSON object: `loading...`");
    }
}

#[test]
fn an_object_that_is_no_answer_is_missing_alone() {
    let answers = ["\"value\": NaN}", "\"value\": 1}", "\"value\": -Infinity}", "\"score\": 3}", "\"value\": 1e999}"];
    let script =
        format!("answers = {answers:?}\nfor i, line in enumerate(sys.stdin): print('{{\"id\": %d, ' % i + answers[i])");
    let scripted = Scripted::new(&script);
    let mut command = scripted.command();
    let verdicts = rate(&mut command, &["a"; 5]);
    assert_eq!(verdicts[1], RewardValue::Value(1.0));
    for (answer, verdict) in answers.iter().zip(&verdicts).filter(|(_, verdict)| **verdict != RewardValue::Value(1.0)) {
        assert!(reason(verdict).starts_with("its answer is not {\"value\": number}"), "{answer}: {verdict:?}");
    }
    assert_eq!(verdicts.iter().filter(|verdict| matches!(verdict, RewardValue::Missing(_))).count(), 4);
}

#[test]
fn a_line_too_many_ends_the_batch() {
    let twice = "for line in sys.stdin:\n    say(line, value=1)\n    say(line, value=0)";
    let scripted = Scripted::new(twice);
    let mut command = scripted.command();
    for first in [0, 2] {
        let verdicts = rate(&mut command, &["a", "b"]);
        let told = format!("its line 2 of 2 has the `id` {first}, not that of its question, {}: ", first + 1);
        assert!(reason(&verdicts[1]).starts_with(&told), "{verdicts:?}");
    }
    assert_eq!(reason(&rate(&mut command, &["a"])[0]), "it writes more than 1 lines for 1 questions");
}

#[test]
fn a_line_that_comes_late_answers_no_question_of_the_next_batch() {
    let late =
        "import time\nfor line in sys.stdin:\n    say(line, value=1)\n    time.sleep(0.2)\n    say(line, value=0)";
    let scripted = Scripted::new(late);
    let mut command = scripted.command();
    assert_eq!(rate(&mut command, &["a"]), values(&[1.0]));
    // while the program is still writing surplus lines of the first batch
    let told = "its line 1 of 1 has the `id` 0, not that of its question, 1: `{\"id\": 0, \"value\": 0}`";
    assert_eq!(reason(&rate(&mut command, &["b"])[0]), told);
    assert_eq!(rate(&mut command, &["c"]), values(&[1.0]));
    assert_eq!(restarts(&command), Some(1.0));
    // after the program has written them
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(rate(&mut command, &["d"]), values(&[1.0]));
    assert_eq!(restarts(&command), Some(1.0));
}

#[test]
fn an_answer_repeats_the_id_of_its_question() {
    let mute = "for line in sys.stdin: print('{\"value\": 1}')";
    let verdicts = rate(&mut Scripted::new(mute).command(), &["a", "b"]);
    let told = "its line 1 of 2 does not repeat the `id` of its question, 0: `{\"value\": 1}`";
    assert_eq!((reason(&verdicts[0]), reason(&verdicts[1])), (told, told));
    let swapped = "first = sys.stdin.readline()\nsay(sys.stdin.readline(), value=1)\nsay(first, value=0)";
    let verdicts = rate(&mut Scripted::new(swapped).command(), &["a", "b"]);
    assert!(
        reason(&verdicts[0]).starts_with("its line 1 of 2 has the `id` 1, not that of its question, 0"),
        "{verdicts:?}"
    );
}

#[test]
fn an_explanation_shows_what_was_sent_and_answered() {
    let once = "say(sys.stdin.readline(), value=2, note='well')";
    let scripted = Scripted::new(once);
    let mut command = scripted.command();
    let of = |completion: &'static str| Sample { answer: Some("B"), ..sample(completion) };
    command.rate(&[of("a"), of("b")], &[Some("a"), None]).unwrap();
    let sent = r#"`{"prompt":"","completion":"a","text":"a","reference":null,"answer":"B"}`"#;
    let answer = r#"`{"id": 0, "value": 2, "note": "well"}`"#;
    let told = format!("it is sent {sent}, besides the `id`, and answers {answer}");
    assert_eq!(command.explain(&of("a"), Some("a")), Some(told));
    assert!(command.explain(&of("b"), None).unwrap().ends_with("and gives no answer"));
    assert_eq!(command.explain(&of("c"), None), None, "it was not asked");
}

#[test]
fn too_few_lines_are_missing_after_the_time_limit() {
    let lazy = "import sys\nfor i, line in enumerate(sys.stdin):\n    if i % 2 == 0: say(line, value=1)";
    let verdicts = rate(&mut Scripted::new(lazy).within(1.0).command(), &["a", "b"]);
    assert_eq!(verdicts[0], RewardValue::Value(1.0));
    assert!(reason(&verdicts[1]).starts_with("it has given 1 of 2 answers within 1 s"), "{verdicts:?}");
}

#[test]
fn endless_output_is_cut_off() {
    let line = "import sys\nwhile True: sys.stdout.write('{' * 65536)";
    let verdicts = rate(&mut Scripted::new(line).command(), &["a"]);
    assert_eq!(reason(&verdicts[0]), "its line 1 of 1 cannot be read: it is longer than 1048576 bytes");
    let lines = "i = 0\nwhile True:\n    print('{\"id\": %d, \"value\": 1}' % i)\n    i += 1";
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
                  open(__file__ + '.pid', 'w').write(str(child.pid))\nfor line in sys.stdin: say(line, value=1)";
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

/// Whether the process is running, and not a zombie that waits to be reaped.
fn is_running(process: Pid) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[test]
fn only_declared_variables_reach_it() {
    let script = "import json, os, sys\nfor line in sys.stdin:\n    \
                  say(line, missing=' '.join(sorted(os.environ)))";
    let mut scripted = Scripted::new(script);
    let names = |scripted: &Scripted| reason(&rate(&mut scripted.command(), &["a"])[0]).to_owned();
    let before = names(&scripted);
    assert!(before.split(' ').any(|name| name == "PATH") && !before.contains("SECRET"), "{before}");
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok() && !before.contains("CARGO"), "{before}");
    scripted.spec.env = vec!["SECRET".to_owned()];
    assert!(names(&scripted).contains("SECRET"));
    scripted.spec.env = vec!["OTHER".to_owned()];
    let error =
        Command::new(&scripted.spec, Extras::default(), &|_| None, &|_| None, &StopCheck::never()).err().unwrap();
    assert!(error.to_string().starts_with("the assignment names no path for its file"), "{error}");
    let error =
        Command::new(&scripted.spec, Extras::default(), &|_| Some(PathBuf::new()), &|_| None, &StopCheck::never())
            .err()
            .unwrap();
    assert_eq!(error.to_string(), "the environment variable `OTHER`, which its `env` names, is not set");
}

#[test]
fn a_script_that_changed_since_it_was_hashed_is_not_run() {
    let scripted = Scripted::new(ECHO);
    fs_err::write(scripted.dir.path().join("rate.py"), format!("{SAY}{ECHO}\n")).unwrap();
    let error = scripted.command().rate(&[sample("a")], &[Some("a")]).unwrap_err();
    assert!(error.message.ends_with("rate.py` has changed since this stage was planned"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Runs one program for a dozen batches each time, so that the rest of a batch would show up in the next.
    #[test]
    fn any_text_comes_through_and_answers_keep_their_order(batches in prop::collection::vec(prop::collection::vec(any::<String>(), 1..9), 1..13)) {
        let scripted = Scripted::new(ECHO);
        let mut command = scripted.command();
        for texts in &batches {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let lengths: Vec<f64> = texts.iter().map(|text| text.chars().count() as f64).collect();
            prop_assert_eq!(rate(&mut command, &texts), values(&lengths));
            prop_assert_eq!(restarts(&command), Some(0.0));
        }
    }

    #[test]
    fn whatever_it_writes_every_question_has_a_finite_value_or_a_reason(
        lines in prop::collection::vec(r#"(\{|"id": ?0|"id": ?1|, ?|"value": ?|"missing": ?|-|[0-9]{1,3}|e999|NaN|null|"|\}|x)*"#, 0..4)
    ) {
        // the program answers nothing else and ends
        let script = format!("print({:?})", lines.join("\n"));
        let verdicts = rate(&mut Scripted::new(&script).command(), &["a", "b"]);
        prop_assert_eq!(verdicts.len(), 2);
        for verdict in verdicts {
            match verdict {
                RewardValue::Value(value) => prop_assert!(value.is_finite()),
                RewardValue::Missing(reason) => prop_assert!(!reason.is_empty() || lines.iter().any(|line| line.contains("missing"))),
            }
        }
    }
}

#[test]
fn whoever_waits_for_a_program_hears_a_request_to_stop() {
    let scripted = Scripted::new("import time\ntime.sleep(60)\n");
    let began = Instant::now();
    let stop = StopCheck::new(move || began.elapsed() >= Duration::from_millis(500));
    let mut command = Command::new(
        &scripted.spec,
        Extras::default(),
        &|_| Some(scripted.dir.path().join("rate.py")),
        &|_| None,
        &stop,
    )
    .unwrap();
    let error = command.rate(&[sample("so")], &[Some("so")]).unwrap_err();
    assert_eq!(error.class, FailureClass::Interrupted);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
