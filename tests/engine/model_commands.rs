//! `orchestrate model ...` with both binaries, compared with values of other implementations.

use crate::golden;
use crate::project::{Project, json_lines};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tch::{Kind, Tensor};

const DEVICE: [&str; 2] = ["--device", "cpu"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs `orchestrate model` with `args` on the CPU, and returns the lines it prints.
#[track_caller]
fn answers(project: &Project, args: &[&str]) -> Vec<Value> {
    json_lines(&project.succeed(&[&["model"], args, &DEVICE].concat()))
}

#[track_caller]
fn refusal(project: &Project, args: &[&str], words: &[&str]) {
    let stderr = project.fail(&[&["model"], args, &DEVICE].concat(), 2);
    for word in words {
        assert!(stderr.contains(word), "the message lacks `{word}`:\n{stderr}");
    }
}

/// Writes a file of lines with the golden `input_ids`.
fn ids_file(project: &Project, ids: &Tensor) -> PathBuf {
    let mut lines = String::new();
    for row in Vec::<Vec<i64>>::try_from(ids).unwrap() {
        writeln!(lines, "{}", json!({"input_ids": row})).unwrap();
    }
    project.write("ids.jsonl", &lines);
    project.path("ids.jsonl")
}

/// Returns the `token_logprobs` of every line. // (B, T - 1)
fn logprobs(lines: &[Value]) -> Tensor {
    let rows: Vec<Vec<f64>> =
        lines.iter().map(|line| serde_json::from_value(line["token_logprobs"].clone()).unwrap()).collect();
    Tensor::from_slice2(&rows)
}

/// Returns the log-probabilities that logits (B, T, V) give to the next tokens. // (B, T - 1)
fn expected(logits: &Tensor, ids: &Tensor) -> Tensor {
    let t = ids.size()[1];
    let next = ids.narrow(1, 1, t - 1).unsqueeze(-1);
    logits.log_softmax(-1, Kind::Double).narrow(1, 0, t - 1).gather(-1, &next, false).squeeze_dim(-1)
}

#[test]
fn logprobs_equal_hugging_face_and_with_an_adapter_peft() {
    let project = Project::new();
    for name in ["llama", "llama_tied", "llama3_rope", "qwen2", "qwen3"] {
        let golden = golden::tensors(&format!("decoders/{name}/golden.safetensors"));
        let file = ids_file(&project, &golden["input_ids"]);
        let model = golden::path(&format!("decoders/{name}"));
        let lines = answers(&project, &["logprobs", "--model", text(&model), "--input", text(&file)]);
        let difference =
            golden::largest_difference(&logprobs(&lines), &expected(&golden["logits"], &golden["input_ids"]));
        assert!(difference < 1e-4, "{name}: {difference}");
    }
    let golden = golden::tensors("lora/golden.safetensors");
    let file = ids_file(&project, &golden["input_ids"]);
    let (model, adapter) = (golden::path("decoders/llama"), golden::path("lora"));
    let args = ["logprobs", "--model", text(&model), "--adapter", text(&adapter), "--input", text(&file)];
    let lines = answers(&project, &args);
    let difference = golden::largest_difference(&logprobs(&lines), &expected(&golden["logits"], &golden["input_ids"]));
    assert!(difference < 1e-4, "with an adapter: {difference}");
}

#[test]
fn logprobs_read_texts_from_stdin_and_the_command_line_alike() {
    let project = Project::new();
    let args = ["model", "logprobs", "--model", "models/tiny", "--device", "cpu"];
    let mut child = project
        .command(&[&args[..], &["--input", "-"]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"text\":\"blood\"}\n\n{\"input_ids\":[98]}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let piped = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(piped[0]["input_ids"], json!([98, 108, 111, 111, 100]));
    assert_eq!(piped[1]["token_logprobs"], json!([]), "one token has nothing before it");
    let typed = json_lines(&project.succeed(&[&args[..], &["--text", "blood"]].concat()));
    let difference = golden::largest_difference(&logprobs(&piped[..1]), &logprobs(&typed));
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn a_malformed_line_is_named_by_file_and_line() {
    let project = Project::new();
    for (line, words) in [
        ("{\"text\":", &["lines.jsonl:2", "not JSON"][..]),
        ("[1]", &["lines.jsonl:2", "not an object"]),
        ("{\"txt\":\"a\"}", &["lines.jsonl:2", "`text` or `input_ids`", "`txt`"]),
        ("{\"text\":\"a\",\"input_ids\":[1]}", &["lines.jsonl:2", "`text` or `input_ids`"]),
        ("{\"text\":3}", &["lines.jsonl:2", "`text` is 3"]),
        ("{\"text\":\"\"}", &["lines.jsonl:2", "no tokens"]),
        ("{\"input_ids\":[1,\"a\"]}", &["lines.jsonl:2", "`input_ids`"]),
        ("{\"input_ids\":[1,320]}", &["lines.jsonl:2", "320"]),
        ("{\"input_ids\":[-1]}", &["lines.jsonl:2", "-1"]),
    ] {
        project.write("lines.jsonl", &format!("{{\"text\":\"fine\"}}\n{line}\n"));
        refusal(&project, &["logprobs", "--model", "models/tiny", "--input", "lines.jsonl"], words);
    }
    project.write("lines.jsonl", "\n");
    refusal(&project, &["logprobs", "--model", "models/tiny", "--input", "lines.jsonl"], &["lines.jsonl has no lines"]);
    refusal(&project, &["logprobs", "--model", "models/tiny", "--input", "absent.jsonl"], &["absent.jsonl"]);
    refusal(&project, &["logprobs", "--model", "absent", "--text", "a"], &["`absent` is not a directory"]);
    project.write("lines.jsonl", "{\"prompt\":\"a\"}\n{\"messages\":[{\"role\":\"user\"}]}\n");
    let generate = ["generate", "--model", "models/tiny", "--input", "lines.jsonl"];
    refusal(&project, &generate, &["lines.jsonl:2", "`content`"]);
    refusal(&project, &[&generate[..], &["--raw"]].concat(), &["lines.jsonl:2", "chat template"]);
    project.write("lines.jsonl", "{\"prompt\":\"a\"}\n{\"text\":\"b\"}\n");
    refusal(&project, &generate, &["lines.jsonl:2", "`prompt` or `messages`"]);
    project.write("lines.jsonl", "{\"prompt\":\"a\"}\n");
    refusal(&project, &[&generate[..], &["--max-new-tokens", "510"]].concat(), &["lines.jsonl:1", "512"]);
}

#[test]
fn a_directory_with_pickled_weights_only_is_refused() {
    let project = Project::new();
    fs_err::rename(project.path("models/tiny/model.safetensors"), project.path("models/tiny/pytorch_model.bin"))
        .unwrap();
    refusal(&project, &["logprobs", "--model", "models/tiny", "--text", "a"], &["model.safetensors", "pickled"]);
}

#[test]
fn generation_depends_on_the_seed_alone_and_greedy_takes_the_likeliest_token() {
    let project = Project::new();
    project
        .write("prompts.jsonl", "{\"prompt\":\"heart\"}\n{\"messages\":[{\"role\":\"user\",\"content\":\"liver\"}]}\n");
    let args = ["generate", "--model", "models/tiny", "--json"];
    let run = |more: &[&str]| answers(&project, &[&args[..], more].concat());
    let sampled = |seed: &str| run(&["--input", "prompts.jsonl", "-n", "2", "--seed", seed, "--max-new-tokens", "12"]);
    let first = sampled("5");
    assert_eq!(first, sampled("5"));
    assert_ne!(first, sampled("6"));
    assert_eq!(first.len(), 4);
    assert_ne!(first[0]["completion"], first[1]["completion"], "samples of one prompt draw for themselves");
    assert_eq!((&first[0]["prompt"], &first[1]["index"]), (&json!("heart"), &json!(1)));
    assert_eq!(first[2]["messages"][0]["content"], "liver");
    for line in &first {
        assert_eq!(line["stop_reason"] == json!("length"), line["tokens"] == json!(12), "{line}");
    }

    // greedy: no other token of the vocabulary is likelier after the prompt than the sampled one
    let greedy = &run(&["--text", "bone", "--raw", "--temperature", "0", "--max-new-tokens", "1"])[0];
    let first_id = greedy_id(&project, "bone");
    assert_eq!(greedy["completion"], String::from_utf8_lossy(&[u8::try_from(first_id).unwrap()]).as_ref());
}

/// Returns the likeliest token after `prompt`, from the log-probability of each token.
fn greedy_id(project: &Project, prompt: &str) -> usize {
    let mut lines = String::new();
    for id in 0..320 {
        let ids: Vec<u32> = prompt.bytes().map(u32::from).chain([id]).collect();
        writeln!(lines, "{}", json!({"input_ids": ids})).unwrap();
    }
    project.write("next.jsonl", &lines);
    let lines = answers(project, &["logprobs", "--model", "models/tiny", "--input", "next.jsonl"]);
    let last = |line: &Value| line["token_logprobs"].as_array().unwrap().last().unwrap().as_f64().unwrap();
    (0..lines.len()).max_by(|&a, &b| last(&lines[a]).total_cmp(&last(&lines[b]))).unwrap()
}

#[test]
fn people_get_the_completion_and_nothing_else() {
    let project = Project::new();
    let args = ["model", "generate", "--model", "models/tiny", "--device", "cpu", "--text", "heart", "--seed", "1"];
    let shown = project.succeed(&args);
    let line = &json_lines(&project.succeed(&[&args[..], &["--json"]].concat()))[0];
    assert!(shown.starts_with(line["completion"].as_str().unwrap()), "{shown}");
}

#[test]
fn an_adapter_merges_into_a_directory_of_its_own() {
    let project = Project::new();
    let (adapter, golden) = (golden::path("lora"), golden::tensors("lora/golden.safetensors"));
    let merge = ["merge", "--model", "models/tiny", "--adapter", text(&adapter)];
    let line = &answers(&project, &[&merge[..], &["--output", "models/merged", "--json"]].concat())[0];
    assert!(line["max_abs_logit_difference"].as_f64().unwrap() < 1e-3, "{line}");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        assert!(project.path("models/merged").join(name).exists(), "{name} is missing");
    }
    let file = ids_file(&project, &golden["input_ids"]);
    let lines = answers(&project, &["logprobs", "--model", "models/merged", "--input", text(&file)]);
    let theirs = expected(&golden["merged_logits"], &golden["input_ids"]);
    let difference = golden::largest_difference(&logprobs(&lines), &theirs);
    assert!(difference < 1e-4, "{difference}");

    // another format, which config.json declares
    answers(&project, &[&merge[..], &["--output", "models/half", "--dtype", "bfloat16", "--json"]].concat());
    let weights = orchestrate_engine::weights::load_tensors(&project.path("models/half/model.safetensors")).unwrap();
    assert!(weights.values().all(|tensor| tensor.kind() == Kind::BFloat16));
    let config: Value =
        serde_json::from_str(&fs_err::read_to_string(project.path("models/half/config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "bfloat16");

    // nothing is overwritten, and no incomplete directory remains
    refusal(&project, &[&merge[..], &["--output", "models/half"]].concat(), &["models/half", "exists"]);
    let models: Vec<String> = fs_err::read_dir(project.path("models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(models.iter().all(|name| !name.contains(".part")), "{models:?}");
}

#[test]
fn a_stages_checkpoint_is_an_adapter() {
    let project = Project::new();
    project.succeed(&["run", "recipes/tiny.toml", "--only", "sft"]);
    let adapter = project.checkpoint("sft");
    let trained = "<think>Number 4 pumps blood.</think><answer>A</answer>";
    let ask = |more: &[&str]| {
        let args = [&["logprobs", "--model", "models/tiny", "--text", trained][..], more].concat();
        logprobs(&answers(&project, &args)).sum(Kind::Double).double_value(&[])
    };
    assert!(ask(&["--adapter", text(&adapter)]) > ask(&[]) + 0.1, "six steps of SFT did not help");
}

#[test]
fn an_adapter_that_is_not_supported_is_refused_by_the_setting_and_never_unpickled() {
    let project = Project::new();
    let dir = project.path("adapter");
    fs_err::create_dir(&dir).unwrap();
    let mut config = golden::json("lora/adapter_config.json");
    project.write("adapter/adapter_config.json", &config.to_string());
    let args = ["logprobs", "--model", "models/tiny", "--adapter", "adapter", "--text", "a"];
    refusal(&project, &args, &["adapter_model.safetensors"]);
    project.write("adapter/adapter_model.bin", "pickle");
    refusal(&project, &args, &["pickled"]);
    config["use_dora"] = true.into();
    project.write("adapter/adapter_config.json", &config.to_string());
    refusal(&project, &args, &["adapter_config.json", "`use_dora` is true"]);
    refusal(
        &project,
        &["logprobs", "--model", "models/tiny", "--adapter", "models", "--text", "a"],
        &["adapter_config"],
    );
    let output = project.command(&[&["model"], &args[..], &["--json"]].concat()).output().unwrap();
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["code"], 2, "with --json the error is an object: {error}");
}

#[test]
fn whoever_stops_reading_stops_the_worker() {
    let project = Project::new();
    let mut lines = String::new();
    for i in 0..3000 {
        writeln!(lines, "{}", json!({"input_ids": vec![i % 256; 400]})).unwrap();
    }
    project.write("many.jsonl", &lines);
    let command = project.command(&["model", "logprobs", "--model", "models/tiny", "--input", "many.jsonl"]);
    let program = command.get_program().to_owned();
    let status = Command::new("sh")
        .args(["-c", "\"$0\" \"$@\" | head -n 1 > /dev/null"])
        .arg(program)
        .args(command.get_args())
        .current_dir(project.path(""))
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn embeddings_and_greedy_completions_of_the_real_models_equal_their_peers() {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models");
    if !models.join("all-minilm-l6-v2").exists() {
        eprintln!("skipped: {} is empty; `./justw test` fetches the models", models.display());
        assert!(std::env::var_os("CI").is_none(), "CI must have the real models");
        return;
    }
    let project = Project::new();
    let golden = golden::json("real_models.json");
    let mut lines = String::new();
    for case in golden["encoder"].as_array().unwrap() {
        writeln!(lines, "{}", json!({"text": case["text"]})).unwrap();
    }
    project.write("texts.jsonl", &lines);
    let encoder = models.join("all-minilm-l6-v2");
    let embedded = answers(&project, &["embed", "--model", text(&encoder), "--input", "texts.jsonl"]);
    let vector =
        |line: &Value| Tensor::from_slice(&serde_json::from_value::<Vec<f64>>(line["embedding"].clone()).unwrap());
    for (ours, theirs) in embedded.iter().zip(golden["encoder"].as_array().unwrap()) {
        assert_eq!(ours["text"], theirs["text"]);
        let difference = golden::largest_difference(&vector(ours), &vector(theirs));
        assert!(difference < 1e-5, "{}: {difference}", theirs["text"]);
        let length = vector(ours).square().sum(Kind::Double).sqrt().double_value(&[]);
        assert!((length - 1.0).abs() < 1e-5, "length {length}");
    }
    let policy = models.join("smollm2-135m-instruct");
    let case = &golden["greedy"];
    let (prompt, new) = (case["prompt"].as_str().unwrap(), case["max_new_tokens"].to_string());
    let args = ["generate", "--model", text(&policy), "--text", prompt, "--temperature", "0", "--json"];
    let line = &answers(&project, &[&args[..], &["--max-new-tokens", &new]].concat())[0];
    assert_eq!(line["completion"], case["completion"]);
}
