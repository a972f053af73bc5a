//! Settings of an encoder, from the files that sentence-transformers puts beside it.

use super::pooling::Pooling;
use crate::error::{StageError, StageResult};
use crate::tokenizer::optional_json;
use serde_json::Value;
use std::path::Path;

/// The settings of an encoder. The architecture's defaults replace missing ones.
#[derive(Debug)]
pub(super) struct Settings {
    /// The pooling method.
    pub(super) pooling: Option<Pooling>,
    /// Whether pooling includes the prompt's tokens.
    pub(super) include_prompt: bool,
    /// Maximum number of tokens of a text.
    pub(super) max_tokens: Option<usize>,
    /// Whether texts are converted to lower case first.
    pub(super) lower_case: bool,
    /// The prompt before every text.
    pub(super) prompt: String,
}

impl Settings {
    /// Reads `modules.json` and the configurations it points to, `sentence_bert_config.json`,
    /// `config_sentence_transformers.json` and `tokenizer_config.json`. Each of them may be missing.
    ///
    /// # Errors
    /// Returns an error for a malformed file, and for an unsupported module or setting, by name.
    pub(super) fn load(dir: &Path) -> StageResult<Self> {
        let pooling_path = dir.join(pooling_folder(dir)?).join("config.json");
        let pooling = optional_json(&pooling_path)?;
        let transformer = transformer(dir)?;
        let tokenizer = optional_json(&dir.join("tokenizer_config.json"))?;
        let limit =
            [&transformer["max_seq_length"], &tokenizer["model_max_length"]].into_iter().find_map(Value::as_f64);
        #[expect(clippy::cast_sign_loss, reason = "1e30 means no limit and becomes the largest number, -1 becomes 0")]
        let max_tokens = limit.map(|limit| limit as usize);
        Ok(Self {
            include_prompt: pooling["include_prompt"] != false,
            pooling: if pooling.is_null() { None } else { Some(Pooling::read(&pooling_path, &pooling)?) },
            max_tokens,
            lower_case: transformer["do_lower_case"] == true,
            prompt: default_prompt(&dir.join("config_sentence_transformers.json"))?,
        })
    }
}

/// Returns the folder of the Pooling module. Modules that the engine does not implement are rejected.
fn pooling_folder(dir: &Path) -> StageResult<String> {
    let path = dir.join("modules.json");
    let modules = optional_json(&path)?;
    if modules.is_null() {
        return Ok("1_Pooling".to_owned());
    }
    let refused = |what: String| {
        StageError::input(format!("`{}`: {what}", path.display()))
            .hinted("supported are Transformer, Pooling and, optionally, Normalize, in this order")
    };
    let modules = modules.as_array().ok_or_else(|| refused("not a list of modules".to_owned()))?;
    let mut names = Vec::new();
    for module in modules {
        let kind = module["type"].as_str().unwrap_or("absent");
        // the class path differs between versions
        let name = kind.rsplit('.').next().filter(|_| kind.starts_with("sentence_transformers."));
        match name {
            Some(name @ ("Transformer" | "Pooling" | "Normalize")) => names.push(name),
            _ => return Err(refused(format!("the module `{kind}` is not supported"))),
        }
    }
    if !matches!(names[..], ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"]) {
        return Err(refused(format!("the modules {} are not supported", names.join(", "))));
    }
    let folder = |i: usize| modules[i]["path"].as_str().unwrap_or("");
    if !folder(0).is_empty() {
        return Err(refused(format!("the model lies in `{}`", folder(0)))
            .hinted("move its files beside `modules.json`, and make its `path` empty"));
    }
    // the digest of a model's directory covers folders with such names
    let pooling = folder(1);
    if !pooling.starts_with(|c: char| c.is_ascii_digit()) || pooling.contains(['/', '\\']) {
        return Err(refused(format!("the folder of Pooling is `{pooling}`"))
            .hinted("its name begins with the module's number, as in `1_Pooling`"));
    }
    Ok(pooling.to_owned())
}

/// Reads `sentence_bert_config.json`. Settings that request more than hidden states of texts are rejected.
fn transformer(dir: &Path) -> StageResult<Value> {
    let path = dir.join("sentence_bert_config.json");
    let json = optional_json(&path)?;
    for (name, expected) in [("transformer_task", "feature-extraction"), ("module_output_name", "token_embeddings")] {
        if !json[name].is_null() && json[name] != expected {
            let message = format!("`{}`: `{name}` is {}; supported is \"{expected}\"", path.display(), json[name]);
            return Err(StageError::input(message));
        }
    }
    if json["processing_kwargs"].as_object().is_some_and(|settings| !settings.is_empty()) {
        return Err(StageError::input(format!("`{}`: `processing_kwargs` is not supported", path.display())));
    }
    Ok(json)
}

/// Returns the prompt in `prompts` that `default_prompt_name` selects.
fn default_prompt(path: &Path) -> StageResult<String> {
    let json = optional_json(path)?;
    let Some(name) = json["default_prompt_name"].as_str() else { return Ok(String::new()) };
    json["prompts"][name].as_str().map(str::to_owned).ok_or_else(|| {
        StageError::input(format!("`{}`: `default_prompt_name` is `{name}`, which `prompts` lacks", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TRANSFORMER: &str = "sentence_transformers.models.Transformer";
    const POOLING: &str = "sentence_transformers.sentence_transformer.modules.pooling.Pooling";

    /// Loads the settings from a directory of these files.
    fn load(files: &[(&str, Value)]) -> StageResult<Settings> {
        let dir = tempfile::tempdir().unwrap();
        for (name, json) in files {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, json.to_string()).unwrap();
        }
        Settings::load(dir.path())
    }

    fn modules(list: &[(&str, &str)]) -> (&'static str, Value) {
        ("modules.json", list.iter().map(|(path, kind)| json!({"path": path, "type": kind})).collect())
    }

    fn refusal(files: &[(&str, Value)]) -> String {
        load(files).unwrap_err().message
    }

    #[test]
    fn without_files_everything_is_left_to_the_architecture() {
        let settings = load(&[]).unwrap();
        assert_eq!((settings.pooling, settings.max_tokens), (None, None));
        assert!(settings.include_prompt && !settings.lower_case && settings.prompt.is_empty());
    }

    #[test]
    fn pooling_is_read_where_modules_json_says() {
        let settings = load(&[
            modules(&[("", TRANSFORMER), ("1_Pool", POOLING)]),
            ("1_Pooling/config.json", json!({"pooling_mode": "cls"})),
            ("1_Pool/config.json", json!({"pooling_mode": "lasttoken", "include_prompt": false})),
        ]);
        let settings = settings.unwrap();
        assert_eq!((settings.pooling, settings.include_prompt), (Some(Pooling::LastToken), false));
    }

    #[test]
    fn modules_that_do_more_are_refused_by_name() {
        let dense =
            modules(&[("", TRANSFORMER), ("1_Pooling", POOLING), ("2_Dense", "sentence_transformers.models.Dense")]);
        assert!(refusal(&[dense]).contains("`sentence_transformers.models.Dense`"));
        let own = modules(&[("", "custom_st.Transformer"), ("1_Pooling", POOLING)]);
        assert!(refusal(&[own]).contains("`custom_st.Transformer`"));
        assert!(refusal(&[modules(&[("", TRANSFORMER)])]).contains("the modules Transformer"));
        let elsewhere = modules(&[("0_Transformer", TRANSFORMER), ("1_Pooling", POOLING)]);
        assert!(refusal(&[elsewhere]).contains("`0_Transformer`"));
        for folder in ["../1_Pooling", "pooling", "1_Pooling/../../x"] {
            assert!(refusal(&[modules(&[("", TRANSFORMER), (folder, POOLING)])]).contains(folder));
        }
    }

    #[test]
    fn limits_come_from_the_transformer_else_from_the_tokenizer() {
        let tokenizer = |limit: f64| ("tokenizer_config.json", json!({"model_max_length": limit}));
        let transformer = ("sentence_bert_config.json", json!({"max_seq_length": 256, "do_lower_case": true}));
        let settings = load(&[tokenizer(512.0), transformer]).unwrap();
        assert_eq!((settings.max_tokens, settings.lower_case), (Some(256), true));
        assert_eq!(load(&[tokenizer(512.0)]).unwrap().max_tokens, Some(512));
        assert_eq!(load(&[tokenizer(1e30)]).unwrap().max_tokens, Some(usize::MAX));
        let task = ("sentence_bert_config.json", json!({"transformer_task": "fill-mask"}));
        assert!(refusal(&[task]).contains("`transformer_task` is \"fill-mask\""));
    }

    #[test]
    fn the_default_prompt_is_the_one_named() {
        let prompts = |name: &str| {
            let json = json!({"prompts": {"query": "query: "}, "default_prompt_name": name});
            ("config_sentence_transformers.json", json)
        };
        assert_eq!(load(&[prompts("query")]).unwrap().prompt, "query: ");
        assert!(refusal(&[prompts("passage")]).contains("`passage`"));
    }
}
