//! A decoder-only language model: embedding, layers, final norm, head.

use super::kv_cache::{CacheShape, KvCache};
use super::layers::{Attention, Layer, Linear, Mlp, RmsNorm};
use super::lora::Lora;
use super::packed::Packed;
use super::rotary::{Llama3Scaling, Rotary};
use super::{llama, qwen2, qwen3};
use crate::error::{StageError, StageResult};
use crate::weights::Weights;
use orchestrate::recipe::spec::LoraSpec;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// No model has a size above this one; a file that says so is damaged or hostile.
const LARGEST_SIZE: i64 = 1 << 24;
/// Numbers in the table of rotations: a million positions of heads of 256.
const LARGEST_ROTATION: i64 = 1 << 28;

/// What a decoder's `config.json` says, after its architecture's file has read it.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent field of config.json")]
pub struct DecoderConfig {
    /// C.
    pub hidden_size: i64,
    /// Width inside the feed-forward.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: usize,
    /// H.
    pub num_attention_heads: i64,
    /// K.
    pub num_key_value_heads: i64,
    /// D.
    pub head_dim: i64,
    /// V.
    pub vocab_size: i64,
    /// Longest sequence.
    pub max_position_embeddings: i64,
    /// Added to the mean square in norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether o has a bias.
    pub o_bias: bool,
    /// Whether the feed-forward has biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normed per head.
    pub qk_norm: bool,
}

impl DecoderConfig {
    /// Reads `config.json` of the Hugging Face directory `dir`.
    ///
    /// # Errors
    /// A missing or malformed file, an unsupported architecture, or an unsupported field, by name.
    pub fn load(dir: &Path) -> StageResult<Self> {
        let path = dir.join("config.json");
        let text = fs_err::read_to_string(&path).map_err(|e| StageError::io(&path, &e))?;
        let json: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| StageError::input(format!("`{}` is not JSON: {e}", path.display())))?;
        let model_type = json.get("model_type").and_then(|v| v.as_str()).unwrap_or("absent");
        let config = match model_type {
            "llama" => llama::config(&json),
            "qwen2" => qwen2::config(&json),
            "qwen3" => qwen3::config(&json),
            other => Err(format!("model_type `{other}` is not supported; supported are llama, qwen2, qwen3")),
        };
        config.map_err(|e| StageError::input(format!("`{}`: {e}", path.display())))
    }
}

/// The fields that Llama, Qwen2 and Qwen3 have under the same names, and refusal of what is not implemented.
pub(super) fn common_config(json: &serde_json::Value) -> Result<DecoderConfig, String> {
    let size = |name: &str| match json.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_i64().filter(|size| (1..=LARGEST_SIZE).contains(size)) {
            Some(size) => Ok(Some(size)),
            None => Err(format!("`{name}` is {value}, not a whole number from 1 to {LARGEST_SIZE}")),
        },
    };
    let needed = |name: &str| size(name)?.ok_or_else(|| format!("`{name}` is missing"));
    let positive = |name: &str, value: Option<&serde_json::Value>, default: f64| match value {
        None => Ok(default),
        Some(value) => {
            let number = value.as_f64().filter(|number| *number > 0.0);
            number.ok_or_else(|| format!("`{name}` is {value}, not a positive number"))
        }
    };
    let flag = |name: &str| json.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false);
    let hidden_act = json.get("hidden_act").and_then(|v| v.as_str()).unwrap_or("silu");
    if hidden_act != "silu" {
        return Err(format!("`hidden_act` is `{hidden_act}`; supported is `silu`"));
    }
    if flag("use_sliding_window") {
        return Err("`use_sliding_window` is true; sliding-window attention is not supported".to_owned());
    }
    if json.get("quantization_config").is_some_and(|v| !v.is_null()) {
        return Err("`quantization_config` is present; quantized weights are not supported".to_owned());
    }
    let hidden_size = needed("hidden_size")?;
    let num_attention_heads = needed("num_attention_heads")?;
    let num_key_value_heads = size("num_key_value_heads")?.unwrap_or(num_attention_heads);
    if num_attention_heads % num_key_value_heads != 0 {
        return Err(format!(
            "`num_key_value_heads` is {num_key_value_heads}, which does not divide the {num_attention_heads} attention heads"
        ));
    }
    let head_dim = size("head_dim")?.unwrap_or(hidden_size / num_attention_heads);
    if head_dim == 0 || head_dim % 2 != 0 {
        return Err(format!("`head_dim` is {head_dim}, and rotary positions turn pairs of numbers"));
    }
    let max_position_embeddings = needed("max_position_embeddings")?;
    if max_position_embeddings * head_dim > LARGEST_ROTATION {
        return Err(format!("`max_position_embeddings` is {max_position_embeddings}, more than can be prepared for"));
    }
    // transformers 5 keeps both in `rope_parameters`; before, they stood in `rope_theta` and `rope_scaling`
    let rope = ["rope_parameters", "rope_scaling"].into_iter().find_map(|n| json.get(n).filter(|v| v.is_object()));
    let rope_theta = [json.get("rope_theta"), rope.and_then(|r| r.get("rope_theta"))].into_iter().flatten().next();
    Ok(DecoderConfig {
        hidden_size,
        intermediate_size: needed("intermediate_size")?,
        num_hidden_layers: usize::try_from(needed("num_hidden_layers")?).map_err(|e| e.to_string())?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        vocab_size: needed("vocab_size")?,
        max_position_embeddings,
        rms_norm_eps: positive("rms_norm_eps", json.get("rms_norm_eps"), 1e-6)?,
        rope_theta: positive("rope_theta", rope_theta, 10_000.0)?,
        rope_scaling: rope.map(rope_scaling).transpose()?.flatten(),
        tie_word_embeddings: flag("tie_word_embeddings"),
        qkv_bias: flag("attention_bias"),
        o_bias: flag("attention_bias"),
        mlp_bias: flag("mlp_bias"),
        qk_norm: false,
    })
}

fn rope_scaling(rope: &serde_json::Value) -> Result<Option<Llama3Scaling>, String> {
    let kind = ["rope_type", "type"].into_iter().find_map(|n| rope.get(n)).and_then(|v| v.as_str());
    match kind.unwrap_or("default") {
        "default" => Ok(None),
        "llama3" => serde_json::from_value(rope.clone()).map(Some).map_err(|e| format!("`rope_scaling`: {e}")),
        other => Err(format!("rope type `{other}` is not supported; supported are default and llama3")),
    }
}

fn last_part(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_owned()
}

/// A decoder with its weights.
#[derive(Debug)]
pub struct Decoder {
    /// What its `config.json` says.
    pub config: DecoderConfig,
    pub(super) embed_tokens: Tensor, // (V, C)
    pub(super) layers: Vec<Layer>,
    pub(super) norm: RmsNorm,
    lm_head: Option<Tensor>, // (V, C); absent when tied
    pub(super) rotary: Rotary,
    kind: Kind,
    device: Device,
}

impl Decoder {
    /// Reads a decoder from the Hugging Face directory `dir`; all weights frozen.
    ///
    /// # Errors
    /// See [`DecoderConfig::load`]; and weights that are missing or of another shape.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> StageResult<Self> {
        Self::read(dir, kind, device, true)
    }

    /// Reads a decoder without its head, for its hidden states alone.
    ///
    /// # Errors
    /// See [`Decoder::load`].
    pub(super) fn load_body(dir: &Path, kind: Kind, device: Device) -> StageResult<Self> {
        Self::read(dir, kind, device, false)
    }

    fn read(dir: &Path, kind: Kind, device: Device, with_head: bool) -> StageResult<Self> {
        let config = DecoderConfig::load(dir)?;
        let weights = Weights::open(dir)?;
        // a checkpoint saved without a head has the names of what stands below `model`
        let bare = weights.names().any(|name| name == "embed_tokens.weight");
        let get = |name: &str, shape: &[i64]| {
            let name = if bare { name.strip_prefix("model.").unwrap_or(name) } else { name };
            weights.get_shaped(name, shape, kind, device)
        };
        Self::build(config, kind, device, with_head, get)
    }

    /// A decoder of random weights made on `device`, for measurements: norms 1, biases 0, all else normal with standard
    /// deviation 0.02.
    pub fn random(config: DecoderConfig, kind: Kind, device: Device) -> Self {
        let draw = |name: &str, shape: &[i64]| {
            Ok(match shape {
                [_] if name.contains("norm") => Tensor::ones(shape, (kind, device)),
                [_] => Tensor::zeros(shape, (kind, device)),
                _ => Tensor::randn(shape, (kind, device)) * 0.02,
            })
        };
        Self::build(config, kind, device, true, draw).expect("drawing a weight does not fail")
    }

    /// A decoder whose weights come from `get`, by name and shape.
    fn build(
        config: DecoderConfig,
        kind: Kind,
        device: Device,
        with_head: bool,
        get: impl Fn(&str, &[i64]) -> StageResult<Tensor>,
    ) -> StageResult<Self> {
        let c = &config;
        let linear = |name: String, out: i64, input: i64, bias: bool| -> StageResult<Linear> {
            let weight = get(&format!("{name}.weight"), &[out, input])?;
            let bias = if bias { Some(get(&format!("{name}.bias"), &[out])?) } else { None };
            Ok(Linear { name, weight, bias, lora: None })
        };
        let norm = |name: String, size: i64| -> StageResult<RmsNorm> {
            let weight = get(&format!("{name}.weight"), &[size])?;
            Ok(RmsNorm { name, weight, eps: c.rms_norm_eps })
        };
        let (q_size, kv_size) = (c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim);
        let layers = (0..c.num_hidden_layers)
            .map(|i| {
                let at = |rest: &str| format!("model.layers.{i}.{rest}");
                Ok(Layer {
                    input_layernorm: norm(at("input_layernorm"), c.hidden_size)?,
                    self_attn: Attention {
                        q_proj: linear(at("self_attn.q_proj"), q_size, c.hidden_size, c.qkv_bias)?,
                        k_proj: linear(at("self_attn.k_proj"), kv_size, c.hidden_size, c.qkv_bias)?,
                        v_proj: linear(at("self_attn.v_proj"), kv_size, c.hidden_size, c.qkv_bias)?,
                        o_proj: linear(at("self_attn.o_proj"), c.hidden_size, q_size, c.o_bias)?,
                        q_norm: if c.qk_norm { Some(norm(at("self_attn.q_norm"), c.head_dim)?) } else { None },
                        k_norm: if c.qk_norm { Some(norm(at("self_attn.k_norm"), c.head_dim)?) } else { None },
                        num_heads: c.num_attention_heads,
                        num_key_value_heads: c.num_key_value_heads,
                        head_dim: c.head_dim,
                    },
                    post_attention_layernorm: norm(at("post_attention_layernorm"), c.hidden_size)?,
                    mlp: Mlp {
                        gate_proj: linear(at("mlp.gate_proj"), c.intermediate_size, c.hidden_size, c.mlp_bias)?,
                        up_proj: linear(at("mlp.up_proj"), c.intermediate_size, c.hidden_size, c.mlp_bias)?,
                        down_proj: linear(at("mlp.down_proj"), c.hidden_size, c.intermediate_size, c.mlp_bias)?,
                    },
                })
            })
            .collect::<StageResult<Vec<_>>>()?;
        let vocabulary = [c.vocab_size, c.hidden_size];
        Ok(Self {
            embed_tokens: get("model.embed_tokens.weight", &vocabulary)?,
            layers,
            norm: norm("model.norm".to_owned(), c.hidden_size)?,
            lm_head: if c.tie_word_embeddings || !with_head { None } else { Some(get("lm_head.weight", &vocabulary)?) },
            rotary: Rotary::new(
                c.head_dim,
                c.max_position_embeddings,
                c.rope_theta,
                c.rope_scaling.as_ref(),
                kind,
                device,
            ),
            kind,
            device,
            config,
        })
    }

    /// Gives every layer that `spec.target_modules` names a fresh adapter.
    ///
    /// # Errors
    /// A target that no layer has, by name.
    pub fn add_lora(&mut self, spec: &LoraSpec, seed: u64) -> StageResult<()> {
        let known = self.linear_names();
        if let Some(unknown) = spec.target_modules.iter().find(|target| !known.contains(target)) {
            return Err(StageError::input(format!("`lora.target_modules` names `{unknown}`, which the model lacks"))
                .hinted(format!("its linear layers are {}", known.join(", "))));
        }
        let device = self.device;
        for linear in self.layers.iter_mut().flat_map(Layer::linears_mut) {
            if spec.target_modules.contains(&last_part(&linear.name)) {
                let (out, input) = linear.weight.size2().expect("a linear weight is (out, in)");
                linear.lora = Some(Lora::fresh(spec, &linear.name, input, out, seed, device));
            }
        }
        Ok(())
    }

    /// Names of the linear layers inside a layer, as `target_modules` has them, e.g. `q_proj`.
    pub fn linear_names(&self) -> Vec<String> {
        self.layers
            .first()
            .map(|layer| layer.linears().iter().map(|l| last_part(&l.name)).collect())
            .unwrap_or_default()
    }

    /// Makes every weight trainable, for fine-tuning without adapters.
    pub fn unfreeze(&mut self) {
        for (_, weight) in self.weights() {
            let _ = weight.set_requires_grad(true);
        }
    }

    /// What is trained, by name and in a fixed order: the adapters in PEFT's names when there are any, else all weights
    /// in Hugging Face's.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        let adapters: Vec<(String, Tensor)> = self
            .layers
            .iter()
            .flat_map(Layer::linears)
            .filter_map(|linear| linear.lora.as_ref().map(|lora| (&linear.name, lora)))
            .flat_map(|(name, lora)| {
                let at = |part: &str| format!("base_model.model.{name}.{part}.weight");
                [(at("lora_A"), lora.a.shallow_clone()), (at("lora_B"), lora.b.shallow_clone())]
            })
            .collect();
        if adapters.is_empty() { self.weights() } else { adapters }
    }

    /// Adds each adapter to its weight, in 32 bits, and removes it.
    pub fn merge_lora(&mut self) {
        tch::no_grad(|| {
            for linear in self.layers.iter_mut().flat_map(Layer::linears_mut) {
                if let Some(lora) = linear.lora.take() {
                    let merged = linear.weight.to_kind(Kind::Float) + lora.weight_update();
                    linear.weight = merged.to_kind(self.kind);
                }
            }
        });
    }

    /// The base weights by Hugging Face name, in the order of the layers.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        let mut weights = vec![("model.embed_tokens.weight".to_owned(), self.embed_tokens.shallow_clone())];
        for layer in &self.layers {
            for linear in layer.linears() {
                weights.push((format!("{}.weight", linear.name), linear.weight.shallow_clone()));
                if let Some(bias) = &linear.bias {
                    weights.push((format!("{}.bias", linear.name), bias.shallow_clone()));
                }
            }
            for norm in layer.norms() {
                weights.push((format!("{}.weight", norm.name), norm.weight.shallow_clone()));
            }
        }
        weights.push((format!("{}.weight", self.norm.name), self.norm.weight.shallow_clone()));
        if let Some(head) = &self.lm_head {
            weights.push(("lm_head.weight".to_owned(), head.shallow_clone()));
        }
        weights
    }

    /// The head's weight. // (V, C)
    pub fn head(&self) -> &Tensor {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Hidden states after the final norm, of every token of a packed row. // (T, C)
    pub fn hidden(&self, packed: &Packed) -> Tensor {
        self.forward(packed, None)
    }

    /// Like [`Decoder::hidden`], and fills `cache` with the prompts that `packed` holds.
    pub fn prefill(&self, packed: &Packed, cache: &mut KvCache) -> Tensor {
        self.forward(packed, Some(cache))
    }

    fn forward(&self, packed: &Packed, mut cache: Option<&mut KvCache>) -> Tensor {
        let rotation = self.rotary.at(&packed.positions);
        let mut x = Tensor::embedding(&self.embed_tokens, &packed.input_ids, -1, false, false); // (T, C)
        for (i, layer) in self.layers.iter().enumerate() {
            let layer_cache = cache.as_mut().map(|cache| &mut cache.layers[i]);
            x = layer.forward(&x, &rotation, &packed.lengths, layer_cache, false);
        }
        self.norm.forward(&x)
    }

    /// Hidden states of one new token a row, which are added to `cache`. // (B,) -> (B, C)
    pub fn decode(&self, input_ids: &Tensor, cache: &mut KvCache) -> Tensor {
        let rotation = self.rotary.at(&cache.next_positions());
        let mask = cache.next_mask();
        let mut x = Tensor::embedding(&self.embed_tokens, input_ids, -1, false, false); // (B, C)
        for (layer, layer_cache) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.decode(&x, &rotation, layer_cache, mask.as_ref());
        }
        cache.advance();
        self.norm.forward(&x)
    }

    /// Logits of hidden states. // (N, C) -> (N, V)
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        hidden.linear(self.head(), None::<&Tensor>)
    }

    /// An empty cache for prompts of these `lengths`.
    pub fn new_cache(&self, lengths: &[i64], max_new_tokens: i64) -> KvCache {
        let shape = CacheShape {
            layers: self.layers.len(),
            num_key_value_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            kind: self.kind,
            device: self.device,
        };
        KvCache::new(shape, lengths, max_new_tokens)
    }

    /// Where the weights live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The number format of the weights.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}
