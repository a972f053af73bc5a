//! A real judge over HTTP: llama.cpp's server with a small real model scores completions while a policy trains. The
//! tests show that requests and answers are sent and cached, not that the model judges well.

use crate::project::{Project, RECIPE};
use crate::resume::{killed_and_resumed, uninterrupted_in};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const KEY: &str = "sk-known-to-two";
/// Environment variable that allows the test to be skipped without the files of `./justw models`.
const SKIP_VARIABLE: &str = "WITHOUT_JUDGE_SERVER";

struct JudgeServer {
    child: Child,
    endpoint: String,
}

impl JudgeServer {
    /// Starts the server. Returns `None` if it is not installed and not required.
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

/// Returns a project whose policy is rewarded by the judge at `endpoint`, with a rubric.
fn judged_by(endpoint: &str) -> Project {
    let prompt = "prompt = \"Rate from {{ min_score }} to {{ max_score }}: {{ completion[:40] }}\"";
    judged(endpoint, prompt)
}

/// Returns a project whose policy is rewarded by the judge at `endpoint`, in the mode that `keys` sets.
fn judged(endpoint: &str, keys: &str) -> Project {
    let project = Project::new();
    let rewards = "[stages.grpo.rewards.correctness]\n";
    let judge = format!("[stages.grpo.rewards.judge]\njudges = [\"smollm2\"]\nmax_tokens = 64\n{keys}\n");
    let server = format!(
        "\n[runtime.judges.smollm2]\nendpoint = \"{endpoint}\"\napi_key_env = \"JUDGE_TEST_KEY\"\nretries = 1\nmax_calls = 200\n\
         price_per_million_input_tokens_usd = 1000\n"
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

/// Returns the events of the committed stage with a judge.
fn events(project: &Project) -> Vec<Value> {
    let committed = files(&project.path("runs/cache")).into_iter().filter(|path| path.ends_with("events.jsonl"));
    let text = committed.map(|path| fs_err::read_to_string(path).unwrap()).find(|text| text.contains("reward/judge"));
    text.expect("the stage was judged").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the sum of a counting metric over all steps.
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

    // when called again, the same judge gives the same answers
    let whole = judged_by(&server.endpoint);
    let uninterrupted = uninterrupted_in(&whole, "grpo", &SETTINGS);
    assert!(resumed == uninterrupted, "killed and resumed, the stage ended with other bytes");
    let kept = files(&whole.path("runs/judge-cache"));
    let calls = count(&events(&whole), "reward/judge_calls");
    assert_eq!(calls, kept.len(), "each answer that was asked for is kept");

    // with all answers cached, no server is needed
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

/// A prompt of few words: the server reads 50 tokens in a second.
const PAIRS: &str = r#"mode = "pair_within_group"
pair_prompt = '''
Which organ pumps blood?
first: {{ first[:20] }}
second: {{ second[:20] }}
Reply with JSON: {"reason": a few words, "verdict": "first", "second" or "tie"}'''"#;

#[test]
fn a_judge_of_pairs_rewards_a_stage_and_is_measured() {
    let Some(server) = JudgeServer::start() else { return };
    let project = judged(&server.endpoint, PAIRS);
    let plan = project.succeed(&["plan", "recipes/tiny.toml", "--set", "stages.grpo.steps=3"]);
    // 3 steps, 2 groups, 3 pairs, 2 orders
    assert!(plan.contains("`grpo` asks the judge `smollm2` up to 36 times"), "{plan}");
    // such a small model does not always reach the end of its answer
    uninterrupted_in(&project, "grpo", &[&SETTINGS[..], &["stages.grpo.max_missing_fraction=1"]].concat());
    let events = events(&project);
    let parts: Vec<&Value> = events.iter().map(|event| &event["kind"]["completion"]["parts"]["judge"]).collect();
    let values: Vec<f64> = parts.iter().filter_map(|part| part["value"].as_f64()).collect();
    assert!(values.iter().all(|value| [0.0, 0.25, 0.5, 0.75, 1.0].contains(value)), "{values:?}");
    assert!(!values.is_empty(), "no pair has a verdict: {parts:?}");
    let (calls, tokens) = (count(&events, "reward/judge_calls"), count(&events, "reward/judge_prompt_tokens"));
    assert!(calls > 0 && tokens > 0);
    // the sums over steps equal the stage's results
    let finished = events.iter().find_map(|event| event["kind"].get("finished")).expect("the stage ends");
    let total = |what: &str| finished[format!("judge/smollm2/{what}")]["value"].as_f64().unwrap();
    assert_eq!((total("calls"), total("prompt_tokens")), (calls as f64, tokens as f64));
    assert!((total("cost_usd") - tokens as f64 / 1000.0).abs() < 1e-9);

    let texts = ["It pumps blood.", "The liver.", "It pumps blood."].map(|completion| {
        serde_json::json!({"prompt": "Which organ?", "completion": completion, "reference": "The heart."}).to_string()
    });
    project.write("texts.jsonl", &texts.join("\n"));
    let args = ["score", "recipes/tiny.toml", "grpo", "--judges", "--input", "texts.jsonl", "--repeats", "2"];
    let json = project.succeed(&[&args[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&json).unwrap();
    let report = &report["components"]["judge"];
    assert_eq!(
        (&report["mode"], &report["items"], &report["repeats"]),
        (&"pair_within_group".into(), &2.into(), &2.into())
    );
    let measured = &report["judges"]["smollm2"];
    // the two pairs are one question in each order, as two of the texts are equal
    assert_eq!(measured["calls"], 4, "{json}");
    let missing: u64 = measured["missing"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    if missing == 0 {
        assert_eq!(measured["position"]["pairs"], 2, "{json}");
        assert_eq!(measured["repeat"]["items"], 2, "{json}");
    }
    let table = project.succeed(&args);
    assert!(table.contains("── judge (pair_within_group): 2 pairs, judged 2 times"), "{table}");
    assert!(table.contains("position") && table.contains("smollm2") && table.contains('$'), "{table}");
    let again: Value = serde_json::from_str(&project.succeed(&[&args[..], &["--json"]].concat())).unwrap();
    assert_eq!(again["components"]["judge"]["judges"]["smollm2"]["calls"], 0, "what was asked is kept");
}

#[test]
fn a_judge_compares_the_answers_of_an_arena() {
    let Some(server) = JudgeServer::start() else { return };
    let (_, prompt) = PAIRS.split_once('\n').unwrap();
    let judge = format!(
        "[stages.arena.judges.judge]\njudges = [\"smollm2\"]\nmax_tokens = 64\n{prompt}\n\
         [runtime.judges.smollm2]\nendpoint = \"{}\"\napi_key_env = \"JUDGE_TEST_KEY\"\nretries = 1\n",
        server.endpoint
    );
    let project = crate::arena::project(&judge);
    // such a small model does not always reach the end of its answer
    let settings = ["stages.arena.questions=2", "stages.arena.max_missing_fraction=1"];
    let mut args = vec!["run", "recipes/tiny.toml", "--only", "arena"];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    project.succeed(&args);
    let found: Value = serde_json::from_str(&project.succeed(&["arena", "latest", "--json"])).unwrap();
    let judge = &found["judges"][0];
    let missing: u64 = judge["missing"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let [verdicts, settled] = ["verdicts", "settled"].map(|what| judge[what].as_u64().unwrap());
    assert_eq!((verdicts + settled + missing, &found["comparisons"]), (10, &10.into()), "{found}");
    if verdicts > 0 {
        assert_eq!(judge["position"]["pairs"], verdicts, "{found}");
    }
    let kept = files(&project.path("runs/judge-cache")).len();
    assert!(kept > 0, "nobody was asked: {found}");
    // with all answers cached, no server is needed
    drop(server);
    project.succeed(&[&args[..], &["--force"]].concat());
    let again: Value = serde_json::from_str(&project.succeed(&["arena", "latest", "--json"])).unwrap();
    if missing == 0 {
        assert_eq!(again["pooled"], found["pooled"]);
    }
}

#[test]
fn without_judges_there_is_nothing_to_measure() {
    let project = Project::new();
    let args = ["score", "recipes/tiny.toml", "grpo", "--variant", "semantic", "--judges"];
    assert!(project.fail(&args, 2).contains("no reward of `grpo` is a judge"));
}

#[test]
fn a_service_that_is_down_fails_a_stage_as_a_judge_does() {
    let project = judged_by("http://127.0.0.1:9/v1");
    let recipe = fs_err::read_to_string(project.path("recipes/tiny.toml")).unwrap();
    let http = "[stages.grpo.rewards.spelling]\nkind = \"http\"\nendpoint = \"spelling\"\non_error = \"fail\"\n";
    let recipe =
        recipe.replace("[stages.grpo.rewards.correctness]\n", &format!("{http}[stages.grpo.rewards.correctness]\n"));
    let served = "[runtime.endpoints.spelling]\nurl = \"http://127.0.0.1:9/\"\nretries = 0\n";
    project.write("recipes/tiny.toml", &(recipe + served));
    for on_error in ["fail", "missing"] {
        let on_error = format!("stages.grpo.rewards.spelling.on_error={on_error}");
        let weight = "stages.grpo.rewards.judge.weight=0"; // held out, so the stage cannot fail because of it
        let mut args = vec!["run", "recipes/tiny.toml", "--only", "grpo", "--set", "runtime.judges.smollm2.retries=0"];
        args.extend(["--set", on_error.as_str(), "--set", weight]);
        args.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
        let stderr = project.fail(&args, 4);
        assert!(stderr.contains("spelling") && stderr.contains("connection refused"), "{stderr}");
    }
    let logs: Vec<PathBuf> =
        files(&project.path("runs/work")).into_iter().filter(|path| path.ends_with("events.jsonl")).collect();
    let failed: Vec<String> = logs.iter().map(|log| fs_err::read_to_string(log).unwrap()).collect();
    let failed: Vec<&String> = failed.iter().filter(|text| text.contains("\"failed\"")).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|text| text.contains("\"class\":\"judge_unavailable\"")), "{failed:?}");
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

#[test]
fn an_evaluation_without_its_judge_is_no_result() {
    let project = judged_by("http://127.0.0.1:9/v1");
    let recipe = fs_err::read_to_string(project.path("recipes/tiny.toml")).unwrap();
    let judge = "[stages.eval.rewards.judge]\njudges = [\"smollm2\"]\n";
    project.write(
        "recipes/tiny.toml",
        &recipe.replace("[stages.eval.rewards.rouge]\n", &format!("{judge}[stages.eval.rewards.rouge]\n")),
    );
    let mut args = vec!["run", "recipes/tiny.toml", "--only", "eval", "--set", "runtime.judges.smollm2.retries=0"];
    let grpo = "stages.grpo.rewards={ correctness = {} }";
    args.extend(["--set", grpo, "--set", "stages.eval.after=sft"]);
    let stderr = project.fail(&args, 4);
    let flat = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("6 of 6 completions have no `judge`") && flat.contains("max_missing_fraction"), "{stderr}");
    args.extend(["--set", "stages.eval.max_missing_fraction=1"]);
    project.succeed(&args); // the rest is measured
}

const GUIDED: &str = r#"
[data.guided]
path = "data/mcq.jsonl"
eval_fraction = 0.25
max_rows = 12
prompt = "{{ question }}\n{% for k, v in options|items %}{{ k }}) {{ v }}\n{% endfor %}"
reference = "{{ theirs }}"
join = { from = "stage:parent", field = "theirs" }

[stages.parent]
kind = "generate"
judge = "smollm2"
data = "mcq"
max_new_tokens = 6
batch_size = 2
"#;

#[test]
fn a_judge_answers_questions_and_its_answers_are_references() {
    let Some(server) = JudgeServer::start() else { return };
    let guided = |endpoint: &str| {
        let project = judged(endpoint, "");
        let recipe = fs_err::read_to_string(project.path("recipes/tiny.toml")).unwrap();
        let start = recipe.find("[stages.grpo.rewards.judge]").unwrap();
        let end = recipe.find("[stages.grpo.rewards.correctness]").unwrap();
        let recipe =
            format!("{}{}", &recipe[..start], &recipe[end..]).replace("[stages.grpo.rewards.correctness]\n", "");
        let recipe =
            recipe.replace("kind = \"grpo\"\nafter = \"sft\"\ndata = \"mcq\"", "kind = \"grpo\"\ndata = \"guided\"");
        let recipe = recipe.replace("[data.mcq]\n", "[data.mcq]\nmax_rows = 12\n");
        project.write("recipes/tiny.toml", &recipe.replace("[stages.cpt]", &format!("{GUIDED}\n[stages.cpt]")));
        project.succeed(&["run", "recipes/tiny.toml", "--only", "grpo", "--set", "stages.grpo.steps=2"]);
        project
    };
    let project = guided(&server.endpoint);
    let committed = files(&project.path("runs/cache"));
    let answers = committed.iter().find(|path| path.ends_with("generations.jsonl")).expect("the judge has answered");
    let text = fs_err::read_to_string(answers).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(answers.len() == 12 && answers.iter().all(|answer| answer["tokens"].as_u64() <= Some(6)), "{text}");
    let of_question = |question: &str| {
        let found = answers.iter().find(|answer| question.starts_with(answer["question"].as_str().unwrap()));
        found.map(|answer| answer["completion"].clone())
    };
    let events = committed.iter().filter(|path| path.ends_with("events.jsonl"));
    let events: Vec<Value> = events
        .flat_map(|path| fs_err::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    let trained: Vec<&Value> = events
        .iter()
        .map(|event| &event["kind"]["completion"])
        .filter(|completion| !completion["advantage"].is_null())
        .collect();
    assert!(!trained.is_empty());
    for completion in trained {
        let expected = of_question(completion["prompt"].as_str().unwrap()).expect("the question was answered");
        assert_eq!(completion["reference"], expected);
    }

    // with all answers cached, no server is needed
    drop(server);
    let kept = files(&project.path("runs/judge-cache"));
    assert_eq!(kept.len(), answers.len(), "each question is asked once");
}
