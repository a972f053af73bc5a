//! Encoders compared with Hugging Face, and whole directories compared with sentence-transformers.

use crate::golden::{json, largest_difference, path, tensors};
use orchestrate_core::rewards::TextEncoder;
use orchestrate_engine::encoder::Encoder;
use orchestrate_engine::models::{TextModel, load_text_model};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const ENCODERS: [&str; 4] = ["bert", "xlm_roberta", "modernbert", "qwen3_embedding"];

fn load(dir: &Path) -> Box<dyn TextModel> {
    load_text_model(dir, Kind::Float, Device::Cpu).unwrap()
}

/// Returns hidden states with 0 at padding, where they are undefined.
fn visible(hidden: &Tensor, mask: &Tensor) -> Tensor {
    hidden.masked_fill(&mask.eq(0).unsqueeze(-1), 0.0)
}

/// Returns a copy of a golden model with a changed `config.json`.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let weights = format!("encoders/{name}/model.safetensors");
    fs_err::copy(path(&weights), dir.path().join("model.safetensors")).unwrap();
    let mut config = json(&format!("encoders/{name}/config.json"));
    change(&mut config);
    fs_err::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

/// Returns the largest difference between a model's hidden states and the golden ones of `name`.
fn difference(model: &dyn TextModel, name: &str) -> f64 {
    let golden = tensors(&format!("encoders/{name}/golden.safetensors"));
    let mask = &golden["attention_mask"];
    let hidden = tch::no_grad(|| model.forward(&golden["input_ids"], mask));
    largest_difference(&visible(&hidden, mask), &visible(&golden["last_hidden_state"], mask))
}

#[test]
fn hidden_states_equal_hugging_face() {
    for name in ENCODERS {
        let difference = difference(&*load(&path(&format!("encoders/{name}"))), name);
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

#[test]
fn a_row_alone_has_the_hidden_states_it_has_beside_longer_ones() {
    for name in ENCODERS {
        let model = load(&path(&format!("encoders/{name}")));
        let golden = tensors(&format!("encoders/{name}/golden.safetensors"));
        let (ids, mask) = (&golden["input_ids"], &golden["attention_mask"]);
        let together = tch::no_grad(|| model.forward(ids, mask));
        for row in 0..ids.size()[0] {
            let length = mask.get(row).sum(Kind::Int64).int64_value(&[]);
            let cut = |t: &Tensor| t.narrow(0, row, 1).narrow(1, 0, length);
            let alone = tch::no_grad(|| model.forward(&cut(ids), &cut(mask)));
            let difference = largest_difference(&alone, &cut(&together));
            assert!(difference < 1e-5, "{name}, row {row}: {difference}");
        }
    }
}

#[test]
fn a_decoder_does_not_care_on_which_side_padding_stands() {
    let model = load(&path("encoders/qwen3_embedding"));
    let golden = tensors("encoders/qwen3_embedding/golden.safetensors");
    let (ids, mask) = (&golden["input_ids"], &golden["attention_mask"]);
    let last = mask.get(2).sum(Kind::Int64).int64_value(&[]);
    let left = |t: &Tensor| t.narrow(0, 2, 1).roll([-last], [1]); // tokens at the end, padding at the front
    let hidden = tch::no_grad(|| model.forward(&left(ids), &left(mask)));
    let vector = hidden.select(1, -1);
    let unit = &vector / vector.norm();
    assert!(largest_difference(&unit, &golden["last_pooled"].narrow(0, 2, 1)) < 1e-4);
}

#[test]
fn older_layouts_of_a_config_mean_the_same() {
    let older = changed("modernbert", |config| {
        let fields = config.as_object_mut().unwrap();
        fields.remove("rope_parameters");
        fields.remove("layer_types");
        fields.insert("global_rope_theta".to_owned(), 160_000.0.into());
        fields.insert("local_rope_theta".to_owned(), 10_000.0.into());
        fields.insert("position_embedding_type".to_owned(), "absolute".into());
    });
    assert!(difference(&*load(older.path()), "modernbert") < 1e-4);
    let roberta = changed("xlm_roberta", |config| config["model_type"] = "roberta".into());
    assert!(difference(&*load(roberta.path()), "xlm_roberta") < 1e-4);
}

#[test]
fn every_field_that_shapes_modernbert_is_read() {
    let change = |name: &str, value: Value| {
        let dir = changed("modernbert", |config| config[name] = value);
        difference(&*load(dir.path()), "modernbert")
    };
    assert!(change("local_attention", 4.into()) > 1e-3);
    let types = ["full_attention", "full_attention", "sliding_attention", "full_attention"];
    assert!(change("layer_types", types.as_slice().into()) > 1e-3);
    let theta = |global: f64, local: f64| serde_json::json!({"full_attention": {"rope_theta": global}, "sliding_attention": {"rope_theta": local}});
    assert!(change("rope_parameters", theta(160_000.0, 10_000.0)) < 1e-4);
    assert!(change("rope_parameters", theta(100.0, 10_000.0)) > 1e-3);
    assert!(change("rope_parameters", theta(160_000.0, 100.0)) > 1e-3);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cases: [(&str, &str, Value, &str); 14] = [
        ("bert", "model_type", "nomic_bert".into(), "`nomic_bert`"),
        ("bert", "hidden_act", "gelu_new".into(), "`hidden_act` is \"gelu_new\""),
        ("bert", "position_embedding_type", "relative_key".into(), "`position_embedding_type` is \"relative_key\""),
        ("bert", "is_decoder", true.into(), "`is_decoder` is true"),
        ("bert", "auto_map", serde_json::json!({"AutoModel": "modeling.Model"}), "`auto_map`"),
        ("bert", "num_attention_heads", 5.into(), "`num_attention_heads` 5"),
        ("bert", "type_vocab_size", Value::Null, "invalid type"),
        ("xlm_roberta", "pad_token_id", 129.into(), "`pad_token_id` 129"),
        ("modernbert", "hidden_activation", "silu".into(), "`hidden_activation` is \"silu\""),
        ("modernbert", "norm_bias", true.into(), "`norm_bias` is true"),
        ("modernbert", "layer_types", ["full_attention"].as_slice().into(), "`layer_types` has 1 entries"),
        ("modernbert", "layer_types", ["chunked_attention"; 4].as_slice().into(), "`layer_types`: unknown variant"),
        ("qwen3_embedding", "use_sliding_window", true.into(), "`use_sliding_window` is true"),
        ("qwen3_embedding", "is_causal", false.into(), "`is_causal` is false"),
    ];
    for (name, field, value, expected) in cases {
        let dir = changed(name, |config| config[field] = value);
        let error = load_text_model(dir.path(), Kind::Float, Device::Cpu).unwrap_err().message;
        assert!(error.contains(expected) && error.contains("config.json"), "{name}: {error}");
    }
    let yarn = serde_json::json!({"full_attention": {"rope_type": "yarn"}});
    let dir = changed("modernbert", |config| config["rope_parameters"] = yarn);
    let error = load_text_model(dir.path(), Kind::Float, Device::Cpu).unwrap_err().message;
    assert!(error.contains("rope type `yarn`"), "{error}");
}

fn encoder(dir: &Path) -> Encoder {
    Encoder::load(dir, Device::Cpu, Kind::Float).unwrap()
}

fn vector_difference(a: &[f32], b: &[f32]) -> f64 {
    largest_difference(&Tensor::from_slice(a), &Tensor::from_slice(b))
}

#[test]
fn a_qwen3_embedding_directory_embeds_as_sentence_transformers_does_with_a_prompt_or_without() {
    let dir = path("encoders/qwen3_embedding");
    let cases = json("encoders/qwen3_embedding/embeddings.json");
    let mut embedded = 0;
    for case in cases.as_array().unwrap() {
        let (text, prompt) = (case["text"].as_str().unwrap(), case["prompt"].as_str().unwrap());
        let mut encoder = encoder(&dir).with_prompt(prompt.to_owned()).unwrap();
        let theirs: Vec<f32> = serde_json::from_value(case["embedding"].clone()).unwrap();
        let difference = vector_difference(&encoder.embed(&[text]).unwrap()[0], &theirs);
        assert!(difference < 1e-4, "{prompt:?}, {text:?}: {difference}");
        assert_eq!(encoder.truncated(), usize::from(prompt.len() + text.len() + 1 > 64), "{prompt:?}, {text:?}");
        embedded += 1;
    }
    assert_eq!(embedded, 8);
}

#[test]
fn the_default_prompt_of_a_directory_holds_until_another_is_set() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs_err::copy(path("encoders/qwen3_embedding").join(name), dir.path().join(name)).unwrap();
    }
    let text = ["The heart pumps blood."];
    let bare = encoder(dir.path()).embed(&text).unwrap(); // the default pooling of the architecture is the last token
    let expected = &json("encoders/qwen3_embedding/embeddings.json")[0];
    assert_eq!(expected["prompt"], "");
    let theirs: Vec<f32> = serde_json::from_value(expected["embedding"].clone()).unwrap();
    assert!(vector_difference(&bare[0], &theirs) < 1e-4);

    let prompts = serde_json::json!({"prompts": {"sts": "query: "}, "default_prompt_name": "sts"});
    fs_err::write(dir.path().join("config_sentence_transformers.json"), prompts.to_string()).unwrap();
    let by_default = encoder(dir.path()).embed(&text).unwrap();
    let by_hand = encoder(dir.path()).with_prompt(String::new()).unwrap().embed(&["query: The heart pumps blood."]);
    assert_eq!(by_default, by_hand.unwrap());
    assert!(vector_difference(&by_default[0], &bare[0]) > 1e-3);
    assert_eq!(encoder(dir.path()).with_prompt(String::new()).unwrap().embed(&text).unwrap(), bare);
}

#[test]
fn a_prompt_as_long_as_the_limit_or_kept_out_of_pooling_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs_err::copy(path("encoders/qwen3_embedding").join(name), dir.path().join(name)).unwrap();
    }
    let error = encoder(dir.path()).with_prompt("x".repeat(64)).unwrap_err().message;
    assert!(error.contains("64 tokens at most"), "{error}");
    fs_err::write(dir.path().join("sentence_bert_config.json"), r#"{"max_seq_length": 1}"#).unwrap();
    let error = Encoder::load(dir.path(), Device::Cpu, Kind::Float).unwrap_err().message;
    assert!(error.contains("a limit of 1 tokens"), "{error}");
    fs_err::remove_file(dir.path().join("sentence_bert_config.json")).unwrap();
    fs_err::create_dir(dir.path().join("1_Pooling")).unwrap();
    let pooling = r#"{"pooling_mode": "lasttoken", "include_prompt": false}"#;
    fs_err::write(dir.path().join("1_Pooling/config.json"), pooling).unwrap();
    let error = encoder(dir.path()).with_prompt("query: ".to_owned()).unwrap_err().message;
    assert!(error.contains("`include_prompt`"), "{error}");
}

#[test]
fn do_lower_case_makes_case_mean_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs_err::copy(path("encoders/qwen3_embedding").join(name), dir.path().join(name)).unwrap();
    }
    let texts = ["The Heart PUMPS blood.", "the heart pumps blood."];
    let as_written = encoder(dir.path()).embed(&texts).unwrap();
    assert!(vector_difference(&as_written[0], &as_written[1]) > 1e-3);
    fs_err::write(dir.path().join("sentence_bert_config.json"), r#"{"do_lower_case": true}"#).unwrap();
    let lowered = encoder(dir.path()).embed(&texts).unwrap();
    assert!(vector_difference(&lowered[0], &lowered[1]) < 1e-5);
    assert!(vector_difference(&lowered[0], &as_written[1]) < 1e-5);
}

#[test]
fn a_text_of_no_tokens_is_at_right_angles_to_every_other() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs_err::copy(path("encoders/qwen3_embedding").join(name), dir.path().join(name)).unwrap();
    }
    let mut tokenizer = json("encoders/qwen3_embedding/tokenizer.json");
    tokenizer["post_processor"] = Value::Null; // no token is added to the text
    fs_err::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let vectors = encoder(dir.path()).embed(&["", "blood"]).unwrap();
    assert_eq!(vectors[0], [0.0; 64]);
    assert!((vectors[1].iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
}

/// Returns the directory of the real encoder, if it exists.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn minilm() -> Option<PathBuf> {
    let dir = path("../../models/all-minilm-l6-v2");
    if !dir.exists() {
        eprintln!("skipped: {} is missing; `./justw models` fetches it", dir.display());
        assert!(std::env::var_os("CI").is_none(), "CI must have the real models");
        return None;
    }
    Some(dir)
}

#[test]
fn minilm_embeddings_equal_sentence_transformers_whatever_the_batch() {
    let Some(dir) = minilm() else { return };
    let mut encoder = encoder(&dir);
    let golden = json("real_models.json");
    let cases = golden["encoder"].as_array().unwrap();
    let long = "The heart pumps blood through the arteries. ".repeat(60); // more tokens than a batch of the short texts
    let mut texts: Vec<&str> = cases.iter().map(|case| case["text"].as_str().unwrap()).collect();
    texts.extend([long.as_str(); 12]);
    let together = encoder.embed(&texts).unwrap();
    assert_eq!(encoder.truncated(), 12);
    for (case, ours) in cases.iter().zip(&together) {
        let theirs: Vec<f32> = serde_json::from_value(case["embedding"].clone()).unwrap();
        let difference = vector_difference(ours, &theirs);
        assert!(difference < 1e-4, "{}: {difference}", case["text"]);
    }
    for (text, whole) in texts.iter().zip(&together).take(cases.len() + 1) {
        let alone = &encoder.embed(&[text]).unwrap()[0];
        assert!(vector_difference(alone, whole) < 1e-5, "{text}");
    }
}

/// Returns sentences about anatomy of 3 to about 60 words, some of them similar.
fn sentences() -> Vec<String> {
    let organs = ["heart", "liver", "left kidney", "spleen", "olfactory bulb", "aortic valve", "retina", "thalamus"];
    let says = [
        "pumps blood.",
        "is a muscular organ with four chambers that pumps blood through the arteries of the body.",
        "filters what the blood carries, and makes proteins that it needs to clot.",
        "has an inherited disease in which a protein is missing; children are affected in their first year.",
    ];
    let alone = organs.iter().flat_map(|organ| says.iter().map(move |says| format!("The {organ} {says}")));
    let long = organs.iter().map(|organ| format!("The {organ} {}", says.repeat(2).join(" It also ")));
    alone.chain(long).collect()
}

#[test]
fn cosines_of_minilm_in_16_bits_are_within_two_thousandths_of_those_in_32_bits_but_for_one_in_a_hundred() {
    let Some(dir) = minilm() else { return };
    let sentences = sentences();
    let texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let embed = |kind| Encoder::load(&dir, Device::Cpu, kind).unwrap().embed(&texts).unwrap();
    let (exact, rounded) = (embed(Kind::Float), embed(Kind::BFloat16));
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let (mut largest, mut squares, mut beyond) = (0.0_f64, 0.0, 0);
    for (i, (a, b)) in exact.iter().zip(&rounded).enumerate() {
        assert!((cosine(b, b) - 1.0).abs() < 1e-5, "the length of {:?} is 1 in 32 bits", texts[i]);
        assert!(cosine(a, b) > 1.0 - 1e-4, "{:?} itself: {}", texts[i], cosine(a, b));
        for j in 0..i {
            let off = (cosine(b, &rounded[j]) - cosine(a, &exact[j])).abs();
            assert!(off < 5e-3, "{:?} and {:?}: off by {off}", texts[i], texts[j]);
            beyond += usize::from(off > 2e-3);
            largest = largest.max(off);
            squares += off * off;
        }
    }
    let pairs = texts.len() * (texts.len() - 1) / 2;
    let deviation = (squares / pairs as f64).sqrt();
    assert!(deviation < 1e-3, "{deviation} over {pairs} pairs, at most {largest}");
    assert!(100 * beyond <= pairs, "{beyond} of {pairs} pairs are off by more than 0.002, at most {largest}");
    assert!(largest > 1e-5, "16 bits were asked for, and nothing was rounded");
}

#[test]
fn the_same_texts_have_the_same_bits_in_16_bits_too() {
    let dir = path("encoders/bert");
    let ids = tensors("encoders/bert/golden.safetensors");
    let (ids, mask) = (&ids["input_ids"], &ids["attention_mask"]);
    let hidden = |kind| {
        let model = load_text_model(&dir, kind, Device::Cpu).unwrap();
        tch::no_grad(|| model.forward(ids, mask))
    };
    let (first, second) = (hidden(Kind::BFloat16), hidden(Kind::BFloat16));
    assert_eq!(first, second);
    let off = largest_difference(&visible(&first, mask), &visible(&hidden(Kind::Float), mask));
    assert!(off > 0.0 && off < 0.1, "{off}");
}
