//! A project that runs in seconds: the golden Llama and BERT with a byte-level tokenizer, and rows to learn.

use crate::device;
use crate::error::{StageError, StageResult};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;
use tch::Device;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

const RECIPE: &str = include_str!("recipe.toml");

/// Writes the project into the empty directory `dir`.
pub(super) fn write(dir: &Path, golden: &Path, device: Device) -> StageResult<()> {
    let (policy, encoder) = (dir.join("policy"), dir.join("encoder"));
    let mut config = copy_model(&golden.join("decoders/llama"), &policy)?;
    config["eos_token_id"] = 257.into();
    write_json(&policy.join("config.json"), &config)?;
    write_tokenizer(&policy, &["<|im_start|>", "<|im_end|>"])?;
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    write_json(&policy.join("tokenizer_config.json"), &json!({"chat_template": template, "eos_token": "<|im_end|>"}))?;

    let config = copy_model(&golden.join("encoders/bert"), &encoder)?;
    write_json(&encoder.join("config.json"), &config)?;
    write_tokenizer(&encoder, &[])?;
    write_json(&encoder.join("sentence_bert_config.json"), &json!({"max_seq_length": 120}))?;

    let (mut rows, mut text) = (String::new(), String::new());
    for i in 0..24 {
        let answer = if i % 2 == 0 { "A" } else { "B" };
        let row = json!({"question": format!("Which organ has number {i}?"), "answer": answer,
                         "explanation": format!("Number {i} pumps blood.")});
        writeln!(rows, "{row}").expect("writing to a string succeeds");
        writeln!(text, "Paragraph {i}. The heart pumps blood through vessel {i}.\n").expect("likewise");
    }
    fs_err::write(dir.join("rows.jsonl"), rows)?;
    fs_err::write(dir.join("text.txt"), text)?;
    Ok(fs_err::write(dir.join("recipe.toml"), RECIPE.replace("DEVICE", &device::name(device)))?)
}

/// Copies the weights and returns the configuration.
fn copy_model(from: &Path, to: &Path) -> StageResult<Value> {
    fs_err::create_dir_all(to)?;
    let hint = "`--golden` takes the directory `tests/golden` of the repository";
    fs_err::copy(from.join("model.safetensors"), to.join("model.safetensors"))
        .map_err(|e| StageError::input(e.to_string()).hinted(hint))?;
    let path = from.join("config.json");
    serde_json::from_str(&fs_err::read_to_string(&path)?)
        .map_err(|e| StageError::input(format!("`{}` is not JSON: {e}", path.display())))
}

/// Writes a tokenizer with one token for each byte, followed by the special tokens.
fn write_tokenizer(dir: &Path, special: &[&str]) -> StageResult<()> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocabulary: Map<String, Value> =
        (0..).zip(alphabet).map(|(id, letter)| (letter.to_string(), Value::from(id))).collect();
    let added: Vec<Value> = (vocabulary.len()..)
        .zip(special)
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "added_tokens": added, "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    write_json(&dir.join("tokenizer.json"), &tokenizer)
}

fn write_json(path: &Path, value: &Value) -> StageResult<()> {
    Ok(fs_err::write(path, value.to_string())?)
}
