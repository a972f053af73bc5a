//! Rewards by a user's own program or service, and rewards that need the policy's tokenizer, with both binaries.

use crate::project::{Project, RECIPE, json_lines};
use crate::resume::{committed, killed_and_resumed, result, run, uninterrupted_in, wait_for_event};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A program that scores a text by its bytes, as [`Service`] does.
const PROGRAM: &str = r#"
import json, sys
for line in sys.stdin:
    question = json.loads(line)
    value = sum(question["text"].encode()) % 7 / 7
    print(json.dumps({"id": question["id"], "value": value}), flush=True)
"#;

const COMMAND: &str = "[stages.grpo.rewards.bytes]\nkind = \"command\"\ncommand = [\"python3\", \"rewards/bytes.py\"]\n\
                       files = [\"rewards/bytes.py\"]\n";
const HTTP: &str = "[stages.grpo.rewards.bytes]\nkind = \"http\"\nendpoint = \"bytes\"\n";

const SETTINGS: [&str; 4] = [
    "stages.grpo.steps=5",
    "stages.grpo.prompts_per_step=1",
    "stages.grpo.group_size=2",
    "stages.grpo.micro_batch_size=2",
];

/// Returns a project whose GRPO also has `reward`, with `runtime` at the end of the recipe.
fn rewarded_by(reward: &str, runtime: &str) -> Project {
    let project = Project::new();
    project.write("rewards/bytes.py", PROGRAM);
    let before = "[stages.grpo.rewards.correctness]\n";
    let (recipe, _) = RECIPE.split_once("[sweep]").unwrap();
    assert!(recipe.contains(before));
    project.write("recipes/tiny.toml", &(recipe.replace(before, &format!("{reward}{before}")) + runtime));
    project
}

/// Number of requests for each question, as JSON.
type Asked = Arc<Mutex<BTreeMap<String, usize>>>;

/// A service on its own port that scores texts by their bytes. While it is busy, it asks clients to retry after
/// minutes.
struct Service {
    port: u16,
    asked: Asked,
    busy: Arc<Busy>,
}

#[derive(Default)]
struct Busy {
    now: AtomicBool,
    refused: AtomicUsize,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Asked::default();
        let busy: Arc<Busy> = Arc::default();
        let shared = (Arc::clone(&asked), Arc::clone(&busy));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // a killed client has gone before the response
                let _ = serve(&stream, &shared.0, &shared.1);
            }
        });
        Self { port, asked, busy }
    }

    fn endpoint(&self) -> String {
        format!("\n[runtime.endpoints.bytes]\nurl = \"http://127.0.0.1:{}/\"\nbatch_size = 1\n", self.port)
    }
}

fn serve(mut stream: &TcpStream, asked: &Asked, busy: &Busy) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if busy.now.load(Ordering::Relaxed) {
        busy.refused.fetch_add(1, Ordering::Relaxed);
        let headers = "Connection: close\r\nRetry-After: 299\r\nContent-Length: 0\r\n";
        return write!(stream, "HTTP/1.1 429 Busy\r\n{headers}\r\n");
    }
    let questions: Vec<Value> = serde_json::from_slice(&body)?;
    let answer = |question: &Value| {
        *asked.lock().unwrap().entry(question.to_string()).or_default() += 1;
        let sum: u32 = question["text"].as_str().unwrap().bytes().map(u32::from).sum();
        json!({"value": f64::from(sum % 7) / 7.0})
    };
    let body = questions.iter().map(answer).collect::<Value>().to_string();
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Returns the values that the committed GRPO stage recorded for `bytes`.
fn recorded(project: &Project) -> Vec<f64> {
    let samples = project.succeed(&["samples", "latest", "grpo", "--step", "..", "--limit", "0", "--json"]);
    let value = |line: &Value| line["parts"]["bytes"]["value"].as_f64();
    json_lines(&samples).iter().map(|line| value(line).unwrap_or_else(|| panic!("no value: {line}"))).collect()
}

#[test]
fn a_stage_rated_by_a_program_resumes_bitwise() {
    let killed = rewarded_by(COMMAND, "");
    let resumed = killed_and_resumed(&killed, "grpo", &SETTINGS, &[1, 3]);
    let whole = rewarded_by(COMMAND, "");
    assert!(resumed == uninterrupted_in(&whole, "grpo", &SETTINGS), "killed and resumed, it ended with other bytes");
    let values = recorded(&whole);
    assert!(
        values.len() == 10 && values.iter().any(|value| value.to_bits() != values[0].to_bits()),
        "nothing is rated: {values:?}"
    );
}

#[test]
fn a_stage_rated_by_a_service_resumes_bitwise_and_asks_nothing_twice() {
    let service = Service::start();
    let killed = rewarded_by(HTTP, &service.endpoint());
    let resumed = killed_and_resumed(&killed, "grpo", &SETTINGS, &[1, 3]);
    let asked = std::mem::take(&mut *service.asked.lock().unwrap());
    // each of the two kills may lose the answers of the step in which it occurs
    let again: usize = asked.values().map(|count| count - 1).sum();
    assert!(!asked.is_empty() && again <= 4, "{again} questions were asked again");

    let whole = rewarded_by(HTTP, &service.endpoint());
    assert!(resumed == uninterrupted_in(&whole, "grpo", &SETTINGS), "killed and resumed, it ended with other bytes");
    let values = recorded(&whole);
    assert!(
        values.len() == 10 && values.iter().any(|value| value.to_bits() != values[0].to_bits()),
        "nothing is rated: {values:?}"
    );
    let asked = std::mem::take(&mut *service.asked.lock().unwrap());
    assert!(asked.values().all(|count| *count == 1), "{asked:?}");
}

#[test]
fn a_request_to_stop_is_heard_while_a_service_is_waited_for() {
    let service = Service::start();
    let stopped = rewarded_by(HTTP, &service.endpoint());
    let mut run =
        stopped.command(&run("grpo", &SETTINGS)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_event(&stopped, &mut run, "grpo", "\"step\":{\"step\":2,");
    service.busy.now.store(true, Ordering::Relaxed);
    while service.busy.refused.load(Ordering::Relaxed) == 0 {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before the service was asked");
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = Instant::now();
    kill_process(Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    service.busy.now.store(false, Ordering::Relaxed);
    stopped.succeed(&["resume"]);
    let resumed = result(&stopped, "grpo").expect("the resumed run committed");
    let whole = rewarded_by(HTTP, &service.endpoint());
    assert!(resumed == uninterrupted_in(&whole, "grpo", &SETTINGS), "stopped and resumed, it ended with other bytes");
}

fn line(completion: &str) -> String {
    json!({"prompt": "Q", "completion": completion, "reference": "It pumps.", "answer": "B"}).to_string()
}

fn scored(project: &Project, args: &[&str]) -> Vec<Value> {
    json_lines(&project.succeed(&[&["score", "recipes/tiny.toml", "grpo", "--json"], args].concat()))
}

#[test]
fn texts_are_rated_and_explained_without_training() {
    let service = Service::start();
    for (reward, runtime, kept) in [(COMMAND, String::new(), false), (HTTP, service.endpoint(), true)] {
        let project = rewarded_by(reward, &runtime);
        project.write("texts.jsonl", &[line("<think>a b</think>"), line("a")].join("\n"));
        let explain = || scored(&project, &["--input", "texts.jsonl", "--explain"]);
        let found = explain();
        let parts = [0, 1].map(|row: usize| found[row]["parts"]["bytes"].clone());
        let told = parts[1]["explanation"].as_str().unwrap();
        assert_eq!(parts[1]["value"].as_f64(), Some(f64::from(b'a' % 7) / 7.0), "{parts:?}");
        for words in [
            "looks at the whole completion; it is sent `{\"prompt\":\"Q\",\"completion\":\"a\",\"text\":\"a\"",
            "answers `{",
        ] {
            assert!(told.contains(words), "{told}");
        }
        let again = explain();
        assert_eq!(again[0]["parts"]["bytes"]["value"], parts[0]["value"]);
        assert_eq!(again[0]["parts"]["bytes"]["explanation"].as_str().unwrap().contains("which is kept"), kept);

        let calibrated = &scored(&project, &["--calibrate", "--limit", "4"])[0];
        let bytes = &calibrated["components"]["bytes"];
        assert_eq!((&bytes["missing"], &bytes["true"]["count"]), (&json!(0), &json!(4)), "{calibrated}");
    }
}

#[test]
fn rows_steps_and_groups_arrive_and_numbers_come_back() {
    let program = r#"
import json, sys
for line in sys.stdin:
    question = json.loads(line)
    row, step, group = question["row"], question["step"], question["group"]
    assert question["completion"] == group["completions"][group["index"]]
    numbers = {"options": len(row["options"]), "step": step, "group": len(group["completions"])}
    print(json.dumps({"id": question["id"], "value": group["index"] / 2, "metrics": numbers}), flush=True)
"#;
    let sent = format!("{COMMAND}send = [\"row\", \"step\", \"group\"]\n");
    let project = rewarded_by(&sent, "");
    project.write("rewards/bytes.py", program);
    project.succeed(&run("grpo", &SETTINGS));
    let text = fs_err::read_to_string(committed(&project, "grpo").unwrap().join("events.jsonl")).unwrap();
    let mut steps = Vec::new();
    for event in json_lines(&text) {
        let metrics = &event["kind"]["step"]["metrics"];
        if metrics.is_object() {
            assert_eq!((&metrics["reward/bytes/options"], &metrics["reward/bytes/group"]), (&json!(4.0), &json!(2.0)));
            steps.push(metrics["reward/bytes/step"].as_f64().unwrap());
        }
    }
    assert_eq!(steps, [1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn the_step_is_not_sent_to_a_service_whose_answers_are_kept() {
    let service = Service::start();
    let step = format!("{HTTP}send = [\"step\"]\n");
    let project = rewarded_by(&step, &service.endpoint());
    let stderr = project.fail(&run("grpo", &SETTINGS), 3);
    for words in ["has `step`, so no answer can be kept", "write `cache = false`", "tiny.toml:"] {
        assert!(stderr.contains(words), "{words}:\n{stderr}");
    }
    let project = rewarded_by(&format!("{HTTP}send = [\"step\"]\ncache = false\n"), &service.endpoint());
    project.succeed(&run("grpo", &SETTINGS));
    let asked: Vec<Value> =
        service.asked.lock().unwrap().keys().map(|key| serde_json::from_str(key).unwrap()).collect();
    let steps: std::collections::BTreeSet<u64> =
        asked.iter().map(|question| question["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=5).collect());
    // a row that is sent belongs to the question whose answer is kept
    service.asked.lock().unwrap().clear();
    let project = rewarded_by(&format!("{HTTP}send = [\"row\"]\n"), &service.endpoint());
    project.succeed(&run("grpo", &SETTINGS));
    let asked: Vec<Value> =
        service.asked.lock().unwrap().keys().map(|key| serde_json::from_str(key).unwrap()).collect();
    assert!(!asked.is_empty() && asked.iter().all(|question| question["row"]["options"].is_object()), "{asked:?}");
}

#[test]
fn reasoning_is_measured_in_the_policys_own_tokens() {
    // the tiny tokenizer has a token for every byte
    let limits = "[stages.grpo.rewards.long]\nkind = \"cot\"\nmin_words = 1\nmin_tokens = 6\nmax_tokens = 9\n";
    let project = rewarded_by(limits, "");
    let thoughts = ["heart", "a heart", "è così", "the hearts"];
    let lines: Vec<String> = thoughts.iter().map(|text| line(&format!("<think> {text} </think>"))).collect();
    project.write("texts.jsonl", &lines.join("\n"));
    let found = scored(&project, &["--input", "texts.jsonl", "--explain"]);
    let values: Vec<Option<f64>> = found.iter().map(|line| line["parts"]["long"]["value"].as_f64()).collect();
    assert_eq!(values, [0.0, 1.0, 1.0, 0.0].map(Some));
    let told = found[2]["parts"]["long"]["explanation"].as_str().unwrap();
    assert!(told.ends_with("2 words of reasoning, at least 1 are wanted; 8 tokens, 6 to 9 are wanted"), "{told}");
    project.succeed(&["run", "recipes/tiny.toml", "--only", "grpo", "--set", "stages.grpo.steps=1"]);
}
