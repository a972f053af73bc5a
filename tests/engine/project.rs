//! A project directory with everything that a recipe needs, small enough to run in seconds. It has the golden Llama (2
//! layers, width 64) with a byte-level tokenizer, the golden BERT, a few questions, and a little text.

use crate::golden;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) struct Project {
    dir: tempfile::TempDir,
}

/// The recipe of the tests, which rely on its numbers, such as the number of steps of `sft`.
pub(crate) const RECIPE: &str = r#"
name = "tiny"
seed = 7

[model]
path = "models/tiny"
dtype = "float32"
lora = { rank = 4, alpha = 8, dropout = 0.1 }

[data.text]
path = "data/text.txt"
eval_fraction = 0.2

[data.mcq]
path = "data/mcq.jsonl"
eval_fraction = 0.25
prompt = "{{ question }}\n{% for k, v in options|items %}{{ k }}) {{ v }}\n{% endfor %}"
completion = "<think>{{ explanation }}</think><answer>{{ answer }}</answer>"
reference = "{{ explanation }}"
answer = "{{ answer }}"

[stages.cpt]
kind = "cpt"
data = "text"
seq_len = 64
steps = 3
global_batch_size = 4
micro_batch_size = 2
lr = 1e-2

[stages.sft]
kind = "sft"
after = "cpt"
data = "mcq"
seq_len = 256
steps = 6
global_batch_size = 4
micro_batch_size = 2
lr = 1e-2

[stages.grpo]
kind = "grpo"
after = "sft"
data = "mcq"
steps = 5
prompts_per_step = 2
group_size = 3
micro_batch_size = 3
max_prompt_tokens = 200
max_new_tokens = 24
lr = 1e-2
kl_coef = 0.01

[stages.grpo.rewards.semantic]
encoder = "models/tiny-encoder"
scope = "completion"
[stages.grpo.rewards.correctness]
[stages.grpo.rewards.format]
[stages.grpo.rewards.cot]

[stages.eval]
kind = "eval"
after = "grpo"
data = "mcq"
text = "text"
max_prompt_tokens = 200
max_new_tokens = 24
batch_size = 4
bootstrap_resamples = 200

[stages.eval.rewards.semantic]
encoder = "models/tiny-encoder"
scope = "completion"
[stages.eval.rewards.rouge]
scope = "completion"
[stages.eval.rewards.format]

[runtime]
device = "cpu"
threads = 1
resume_interval_s = 1e-6
retries = { oom = 0, crash = 0, judge_unavailable = 0 }

[sweep]
base_name = "semantic"
[[sweep.variants]]
name = "rouge"
set = { "stages.grpo.rewards" = { rouge = { scope = "completion" }, correctness = {}, format = {}, cot = {} } }
"#;

impl Project {
    pub(crate) fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        project.write_model();
        project.write_encoder();
        project.write("data/mcq.jsonl", &questions(24));
        project.write("data/text.txt", &text());
        project.write("recipes/tiny.toml", RECIPE);
        project
    }

    /// Copies the project with its results.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir().unwrap() };
        let copied = Command::new("cp").arg("-a").arg(self.path(".")).arg(copy.dir.path()).status().unwrap();
        assert!(copied.success());
        copy
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }

    /// Writes the recipe with `old`, which must occur, replaced by `new`.
    pub(crate) fn edit_recipe(&self, old: &str, new: &str) {
        assert!(RECIPE.contains(old), "the recipe has no `{old}`");
        self.write("recipes/tiny.toml", &RECIPE.replace(old, new));
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let worker = Path::new(env!("CARGO_BIN_EXE_orchestrate-worker"));
        let binary = worker.with_file_name("orchestrate");
        assert!(binary.exists(), "{} is missing: build the whole workspace first", binary.display());
        let mut command = Command::new(binary);
        command.args(args).current_dir(self.dir.path()).env("NO_COLOR", "1").env("COLUMNS", "140");
        command.env("JUDGE_TEST_KEY", "sk-known-to-two");
        command
    }

    pub(crate) fn orchestrate(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its stdout.
    #[track_caller]
    pub(crate) fn succeed(&self, args: &[&str]) -> String {
        let output = self.orchestrate(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} ended with {}:\n{stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with `code`, and returns its stderr.
    #[track_caller]
    pub(crate) fn fail(&self, args: &[&str], code: i32) -> String {
        let output = self.orchestrate(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}:\n{stderr}");
        stderr
    }

    /// Returns the lines of `plan --json`.
    pub(crate) fn plan(&self) -> Vec<Value> {
        json_lines(&self.succeed(&["plan", "--json", "recipes/tiny.toml"]))
    }

    /// Returns the committed checkpoint of the first planned stage named `stage`.
    pub(crate) fn checkpoint(&self, stage: &str) -> PathBuf {
        let plan = self.plan();
        let found = plan.iter().find(|line| line["stage"] == stage).unwrap_or_else(|| panic!("no stage {stage}"));
        self.path("runs/cache").join(found["key"].as_str().unwrap())
    }

    fn write_model(&self) {
        let dir = self.path("models/tiny");
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::copy(golden::path("decoders/llama/model.safetensors"), dir.join("model.safetensors")).unwrap();
        let mut config = golden::json("decoders/llama/config.json");
        config["eos_token_id"] = 257.into();
        self.write("models/tiny/config.json", &config.to_string());
        let special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];
        self.write("models/tiny/tokenizer.json", &tokenizer(&special, &Value::Null).to_string());
        let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        let settings = json!({"chat_template": template, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"});
        self.write("models/tiny/tokenizer_config.json", &settings.to_string());
    }

    /// Writes `models/classifier`, a golden BERT with the labels `bad`, `fair` and `good`.
    pub(crate) fn write_classifier(&self) {
        let dir = self.path("models/classifier");
        fs_err::create_dir_all(&dir).unwrap();
        for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"] {
            fs_err::copy(golden::path("classifiers/bert").join(name), dir.join(name)).unwrap();
        }
    }

    fn write_encoder(&self) {
        let dir = self.path("models/tiny-encoder");
        fs_err::create_dir_all(dir.join("1_Pooling")).unwrap();
        for name in ["model.safetensors", "config.json"] {
            fs_err::copy(golden::path("encoders/bert").join(name), dir.join(name)).unwrap();
        }
        let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
        let special = |id: &str, number: u32| json!({"id": id, "ids": [number], "tokens": [id]});
        let sequence = json!({"Sequence": {"id": "A", "type_id": 0}});
        let processor = json!({
            "type": "TemplateProcessing", "single": [token("[CLS]"), sequence, token("[SEP]")],
            "pair": [token("[CLS]"), sequence, token("[SEP]"), {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"[CLS]": special("[CLS]", 256), "[SEP]": special("[SEP]", 257)},
        });
        self.write(
            "models/tiny-encoder/tokenizer.json",
            &tokenizer(&["[CLS]", "[SEP]", "[PAD]"], &processor).to_string(),
        );
        self.write("models/tiny-encoder/tokenizer_config.json", "{}");
        self.write("models/tiny-encoder/sentence_bert_config.json", r#"{"max_seq_length": 120}"#);
        let modules = json!([
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]);
        self.write("models/tiny-encoder/modules.json", &modules.to_string());
        let pooling = json!({"word_embedding_dimension": 64, "pooling_mode_mean_tokens": true});
        self.write("models/tiny-encoder/1_Pooling/config.json", &pooling.to_string());
    }
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Returns a byte-level tokenizer with 256 bytes, followed by the special tokens.
pub(crate) fn tokenizer(special: &[&str], post_processor: &Value) -> Value {
    // GPT-2's printable character for every byte
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut next = 256;
    let vocabulary: serde_json::Map<String, Value> = (0..256u32)
        .map(|byte| {
            let code = if printable(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            (char::from_u32(code).unwrap().to_string(), byte.into())
        })
        .collect();
    let added: Vec<Value> = (256..)
        .zip(special)
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": post_processor, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
                  "merges": []},
    })
}

pub(crate) fn questions(count: usize) -> String {
    let mut lines = String::new();
    for i in 0..count {
        let answer = ["A", "B", "C", "D"][i % 4];
        let row = json!({
            "question": format!("Which organ has number {i}?"),
            "options": {"A": "heart", "B": "liver", "C": "lung", "D": format!("bone {i}")},
            "answer": answer,
            "explanation": format!("Number {i} pumps blood."),
        });
        writeln!(lines, "{row}").unwrap();
    }
    lines
}

fn text() -> String {
    let mut text = String::new();
    for i in 0..30 {
        writeln!(text, "Paragraph {i}. The heart pumps blood through vessel {i}.\n").unwrap();
    }
    text
}
