//! A real judge over a real wire: llama.cpp's server with a real (small) model scores completions while a policy trains.
//! It shows that requests and answers travel and are kept, not that the model judges well.

use crate::project::{Project, RECIPE};
use crate::resume::{killed_and_resumed, uninterrupted_in};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const KEY: &str = "sk-known-to-two";
/// The test needs what `./justw models` fetches; this variable lets it be skipped.
const SKIP_VARIABLE: &str = "WITHOUT_JUDGE_SERVER";

struct JudgeServer {
    child: Child,
    endpoint: String,
}

impl JudgeServer {
    /// Starts the server; absent if it is not installed and need not be.
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let installed = root.join(".tools/judge/.checked");
        if !installed.exists() {
            eprintln!("skipped: {} is missing; `./justw models` makes it", installed.display());
            assert!(
                std::env::var_os(SKIP_VARIABLE).is_some(),
                "no local judge: `./justw models`, or {SKIP_VARIABLE}=1"
            );
            return None;
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new("python3")
            .arg(root.join("scripts/judge_server.py"))
            .args(["serve", "--threads", "1", "--api-key", KEY, "--port", &free.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let listening = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let found = listening.into_iter().find_map(|line| line.strip_prefix("listening ").map(str::to_owned));
        let endpoint = format!("{}/v1", found.expect("the server says where it listens"));
        Some(Self { child, endpoint })
    }
}

impl Drop for JudgeServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A project whose policy is rewarded by the judge at `endpoint`.
fn judged_by(endpoint: &str) -> Project {
    let project = Project::new();
    let rewards = "[stages.grpo.rewards.correctness]\n";
    let judge = "[stages.grpo.rewards.judge]\njudges = [\"smollm2\"]\nmax_tokens = 64\n\
                 prompt = \"Rate from {{ min_score }} to {{ max_score }}: {{ completion[:40] }}\"\n";
    let server = format!(
        "\n[runtime.judges.smollm2]\nendpoint = \"{endpoint}\"\napi_key_env = \"JUDGE_TEST_KEY\"\nretries = 1\nmax_calls = 200\n"
    );
    let (recipe, _) = RECIPE.split_once("[sweep]").unwrap();
    assert!(recipe.contains(rewards));
    project.write("recipes/tiny.toml", &(recipe.replace(rewards, &format!("{judge}{rewards}")) + &server));
    project
}

const SETTINGS: [&str; 4] = [
    "stages.grpo.steps=4",
    "stages.grpo.prompts_per_step=1",
    "stages.grpo.group_size=2",
    "stages.grpo.micro_batch_size=2",
];

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The events of the committed stage that was judged.
fn events(project: &Project) -> Vec<Value> {
    let committed = files(&project.path("runs/cache")).into_iter().filter(|path| path.ends_with("events.jsonl"));
    let text = committed.map(|path| fs_err::read_to_string(path).unwrap()).find(|text| text.contains("reward/judge"));
    text.expect("the stage was judged").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sum of a metric that counts, over all steps.
fn count(events: &[Value], metric: &str) -> usize {
    let values = events.iter().filter_map(|event| event["kind"]["step"]["metrics"][metric].as_f64());
    format!("{}", values.sum::<f64>()).parse().expect("a count is a whole number")
}

#[test]
fn a_judged_stage_that_was_killed_resumes_bitwise_and_a_rerun_asks_nobody() {
    let Some(server) = JudgeServer::start() else { return };
    let project = judged_by(&server.endpoint);
    let resumed = killed_and_resumed(&project, "grpo", &SETTINGS, &[2]);
    let of_resumed = events(&project);
    let judged = of_resumed.iter().map(|event| &event["kind"]["completion"]["parts"]["judge"]);
    let judged: Vec<&Value> = judged.filter(|part| part.is_object()).collect();
    assert!(judged.iter().any(|part| part["value"].is_number()), "no completion has a score: {judged:?}");
    assert!(count(&of_resumed, "reward/judge_tokens") > 0);

    // asked anew, the same judge says the same
    let whole = judged_by(&server.endpoint);
    let uninterrupted = uninterrupted_in(&whole, "grpo", &SETTINGS);
    assert!(resumed == uninterrupted, "killed and resumed, the stage ended with other bytes");
    let kept = files(&whole.path("runs/judge-cache"));
    let calls = count(&events(&whole), "reward/judge_calls");
    assert_eq!(calls, kept.len(), "each answer that was asked for is kept");

    // with the answers at hand, nobody needs to be there
    drop(server);
    let later = judged_by("http://127.0.0.1:9/v1");
    for path in &kept {
        let relative = path.strip_prefix(whole.path("runs")).unwrap();
        later.write(&format!("runs/{}", relative.display()), &fs_err::read_to_string(path).unwrap());
    }
    assert!(uninterrupted_in(&later, "grpo", &SETTINGS) == uninterrupted, "kept answers lead to other bytes");
    let of_later = events(&later);
    assert_eq!(count(&of_later, "reward/judge_calls"), 0);
    assert_eq!(count(&of_later, "reward/judge_cache_hits"), kept.len());
    let verified = later.succeed(&["verify", "latest", "grpo"]);
    assert!(verified.contains("same") && !verified.contains("DIFFERS"), "{verified}");
    for path in files(&project.path("runs")) {
        let bytes = fs_err::read(&path).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{} holds the key", path.display());
    }
}

#[test]
fn without_its_judge_a_stage_fails_and_says_so() {
    let project = judged_by("http://127.0.0.1:9/v1");
    let mut args = vec!["run", "recipes/tiny.toml", "--only", "grpo", "--set", "runtime.judges.smollm2.retries=0"];
    args.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
    let stderr = project.fail(&args, 4);
    let flat = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("2 of 2 completions have no reward, mostly because of `judge`"), "{stderr}");
    assert!(flat.contains("connection refused"), "{stderr}");
    let log = files(&project.path("runs/work")).into_iter().find(|path| path.ends_with("events.jsonl")).unwrap();
    let text = fs_err::read_to_string(log).unwrap();
    assert!(text.contains("\"class\":\"judge_unavailable\""), "{text}");
}
