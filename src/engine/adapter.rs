//! PEFT adapter directories: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! PEFT supports more settings than this module. An unsupported setting that changes the adapter's output is an error
//! that names the setting. It is never ignored.

use crate::checkpoint;
use crate::error::{StageError, StageResult};
use crate::models::Decoder;
use orchestrate_core::recipe::spec::LoraSpec;
use serde_json::{Map, Value};
use std::path::Path;

/// Settings about an adapter's origin or training, which do not change its output.
const DESCRIPTIVE: [&str; 11] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size", // has an effect with `use_qalora` only
    "revision",
    "runtime_config",
    "task_type",
    "loftq_config", // matters with `init_lora_weights = "loftq"` only
];
/// Settings that are supported.
const READ: [&str; 6] = ["peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "init_lora_weights"];
/// Initializations that do not change the base weights.
const PLAIN_INITIALIZATIONS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Adds the adapter in the PEFT directory `dir` to `decoder`. PEFT or this program wrote the directory.
///
/// # Errors
/// Returns an error for a missing or malformed file, for an unsupported setting, and for tensors that do not fit the
/// model.
pub fn attach(dir: &Path, decoder: &mut Decoder) -> StageResult<()> {
    let spec = read_config(dir, &decoder.linear_names())?;
    if !dir.join(checkpoint::ADAPTER).exists() {
        let error = StageError::input(format!("`{}` has no `{}`", dir.display(), checkpoint::ADAPTER));
        return Err(if dir.join("adapter_model.bin").exists() {
            error.hinted("it has pickled weights, which can run code and are never read; save it again with PEFT")
        } else {
            error.hinted("check that the download is complete")
        });
    }
    decoder.add_lora(&spec, 0)?; // all of the new adapter is overwritten, so its seed does not matter
    checkpoint::load(dir, decoder)
}

/// Reads `adapter_config.json`. `linear_names` are the layers that `"all-linear"` selects.
///
/// # Errors
/// Returns an error for a missing or malformed file, and for an unsupported setting, by name.
pub fn read_config(dir: &Path, linear_names: &[String]) -> StageResult<LoraSpec> {
    let path = dir.join(checkpoint::ADAPTER_CONFIG);
    let text = fs_err::read_to_string(&path).map_err(|e| {
        StageError::input(e.to_string()).hinted("an adapter is a directory with adapter_config.json, as PEFT saves it")
    })?;
    let fields: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|e| StageError::input(format!("`{}` is not a JSON object: {e}", path.display())))?;
    parse(&fields, linear_names).map_err(|e| StageError::input(format!("`{}`: {e}", path.display())))
}

fn parse(fields: &Map<String, Value>, linear_names: &[String]) -> Result<LoraSpec, String> {
    let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    if field("peft_type") != "LORA" {
        return Err(format!("`peft_type` is {}; supported is \"LORA\"", field("peft_type")));
    }
    let initialization = field("init_lora_weights");
    if initialization.as_str().is_some_and(|name| !PLAIN_INITIALIZATIONS.contains(&name)) {
        return Err(format!(
            "`init_lora_weights` is {initialization}, which changes the base weights too; convert the adapter with PEFT's \
             `path_initial_model_for_weight_conversion`"
        ));
    }
    let known = |name: &str| DESCRIPTIVE.contains(&name) || READ.contains(&name);
    if let Some((name, value)) = fields.iter().find(|(name, value)| !known(name) && !is_off(value)) {
        return Err(format!("`{name}` is {value}, which is not supported"));
    }
    let rank = field("r").as_u64().and_then(|r| u32::try_from(r).ok()).filter(|&r| r > 0);
    Ok(LoraSpec {
        rank: rank.ok_or_else(|| format!("`r` is {}, not a positive integer", field("r")))?,
        alpha: field("lora_alpha").as_f64().ok_or("`lora_alpha` is missing or not a number")?,
        dropout: 0.0,
        rslora: field("use_rslora").as_bool().unwrap_or(false),
        target_modules: target_modules(field("target_modules"), linear_names)?,
    })
}

/// Returns whether a setting has the value with which it has no effect.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text == "none", // `bias`
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn target_modules(value: &Value, linear_names: &[String]) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = match value {
        Value::String(text) if text == "all-linear" => linear_names.to_vec(),
        Value::String(pattern) => {
            return Err(format!(
                "`target_modules` is the pattern {pattern:?}; supported are a list of names and \"all-linear\""
            ));
        }
        Value::Array(items) => items
            .iter()
            .map(|item| {
                item.as_str().map(str::to_owned).ok_or_else(|| format!("`target_modules` holds {item}, not a name"))
            })
            .collect::<Result<_, _>>()?,
        other => return Err(format!("`target_modules` is {other}; supported are a list of names and \"all-linear\"")),
    };
    if let Some(path) = names.iter().find(|name| name.contains('.')) {
        return Err(format!("`target_modules` names {path:?} by its path; supported are names such as \"q_proj\""));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(changes: &Value) -> Result<LoraSpec, String> {
        let mut fields =
            json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["v", "q"]});
        fields.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        parse(fields.as_object().unwrap(), &["a".to_owned(), "b".to_owned()])
    }

    #[test]
    fn what_is_supported_is_read() {
        let spec = parsed(&json!({"use_rslora": true, "use_dora": false, "rank_pattern": {}, "modules_to_save": null}))
            .unwrap();
        assert_eq!((spec.rank, spec.alpha, spec.rslora), (4, 8.0, true));
        assert_eq!(spec.target_modules, ["q", "v"]);
        assert_eq!(parsed(&json!({"target_modules": "all-linear"})).unwrap().target_modules, ["a", "b"]);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (name, value) in [
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("fan_in_fan_out", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("rank_pattern", json!({"q": 8})),
            ("alpha_pattern", json!({"q": 8})),
            ("layers_to_transform", json!([0])),
            ("target_modules", json!(".*q_proj")),
            ("target_modules", json!(["self_attn.q_proj"])),
            ("target_modules", json!(null)),
            ("init_lora_weights", json!("pissa")),
            ("peft_type", json!("IA3")),
            ("some_setting_of_tomorrow", json!(3)),
            ("r", json!(0)),
        ] {
            let mut changes = Map::new();
            changes.insert(name.to_owned(), value);
            let error = parsed(&Value::Object(changes)).unwrap_err();
            assert!(error.contains(&format!("`{name}`")), "{name}: {error}");
        }
    }
}
