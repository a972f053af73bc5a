//! A decoder-only language model: embedding, layers, final norm, head.

use super::kv_cache::{LayerCache, NextToken, PromptCache, SlotCache, by_prompt};
use super::layers::{Attention, Calls, Layer, Layout, Linear, Mlp, RmsNorm};
use super::load_config;
use super::lora::{self, Lora};
use super::packed::Packed;
use super::rotary::Rotary;
use super::sequences::{Sequences, together};
use super::shared_prefix;
use crate::error::{StageError, StageResult};
use crate::products;
use crate::weights::Weights;
use orchestrate_core::architecture::{
    DOWN_PROJ, DecoderConfig, GATE_PROJ, K_PROJ, LinearLayer, O_PROJ, Q_PROJ, UP_PROJ, V_PROJ,
};
use orchestrate_core::recipe::spec::LoraSpec;
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn last_part(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_owned()
}

/// A decoder with its weights.
#[derive(Debug)]
pub struct Decoder {
    /// The configuration from `config.json`.
    pub config: DecoderConfig,
    pub(super) embed_tokens: Tensor, // (V, C)
    pub(super) layers: Vec<Layer>,
    pub(super) norm: RmsNorm,
    lm_head: Option<Tensor>, // (V, C); absent if tied to the embedding
    pub(super) rotary: Rotary,
    kind: Kind,
    /// Number format of hidden states.
    activations: Kind,
    device: Device,
    /// Whether layers compute in as few launches as they can, as a GPU needs. A CPU has no launches to save.
    few_launches: bool,
    /// Whether the step of a token is recorded and then repeated, where it can be.
    records_steps: bool,
}

impl Decoder {
    /// Loads a decoder from the Hugging Face directory `dir`, with all weights frozen.
    ///
    /// # Errors
    /// Returns the errors of [`DecoderConfig::read`], and an error for weights that are missing or of another shape.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> StageResult<Self> {
        Self::read(dir, kind, device, true)
    }

    /// Loads a decoder without its head, for its hidden states only.
    ///
    /// # Errors
    /// See [`Decoder::load`].
    pub(super) fn load_body(dir: &Path, kind: Kind, device: Device) -> StageResult<Self> {
        Self::read(dir, kind, device, false)
    }

    fn read(dir: &Path, kind: Kind, device: Device, with_head: bool) -> StageResult<Self> {
        let config = load_config(dir)?;
        let weights = Weights::open(dir)?;
        // a checkpoint that was saved without a head has names without the prefix `model.`
        let bare = weights.names().any(|name| name == "embed_tokens.weight");
        let get = |name: &str, shape: &[i64]| {
            let name = if bare { name.strip_prefix("model.").unwrap_or(name) } else { name };
            weights.get_shaped(name, shape, kind, device)
        };
        Self::build(config, kind, device, with_head, get)
    }

    /// Creates a decoder with random weights on `device`, for measurements. Norms are 1, biases 0, and other weights
    /// normal with standard deviation 0.02.
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

    /// Creates a decoder whose weights `get` returns, by name and shape.
    fn build(
        config: DecoderConfig,
        kind: Kind,
        device: Device,
        with_head: bool,
        get: impl Fn(&str, &[i64]) -> StageResult<Tensor>,
    ) -> StageResult<Self> {
        let c = &config;
        let linear = |index: usize, layer: LinearLayer| -> StageResult<Linear> {
            let name = format!("model.layers.{index}.{}.{}", layer.module, layer.name);
            let (out, input) = ((layer.out_features)(c), (layer.in_features)(c));
            let weight = get(&format!("{name}.weight"), &[out, input])?;
            let bias = if (layer.bias)(c) { Some(get(&format!("{name}.bias"), &[out])?) } else { None };
            Ok(Linear { name, weight, bias, lora: None })
        };
        let norm = |name: String, size: i64| -> StageResult<RmsNorm> {
            let weight = get(&format!("{name}.weight"), &[size])?;
            Ok(RmsNorm { name, weight, eps: c.rms_norm_eps })
        };
        let layers = (0..c.num_hidden_layers)
            .map(|i| {
                let at = |rest: &str| format!("model.layers.{i}.{rest}");
                Ok(Layer {
                    input_layernorm: norm(at("input_layernorm"), c.hidden_size)?,
                    self_attn: Attention {
                        q_proj: linear(i, Q_PROJ)?,
                        k_proj: linear(i, K_PROJ)?,
                        v_proj: linear(i, V_PROJ)?,
                        o_proj: linear(i, O_PROJ)?,
                        q_norm: if c.qk_norm { Some(norm(at("self_attn.q_norm"), c.head_dim)?) } else { None },
                        k_norm: if c.qk_norm { Some(norm(at("self_attn.k_norm"), c.head_dim)?) } else { None },
                        num_heads: c.num_attention_heads,
                        num_key_value_heads: c.num_key_value_heads,
                        head_dim: c.head_dim,
                    },
                    post_attention_layernorm: norm(at("post_attention_layernorm"), c.hidden_size)?,
                    mlp: Mlp {
                        gate_proj: linear(i, GATE_PROJ)?,
                        up_proj: linear(i, UP_PROJ)?,
                        down_proj: linear(i, DOWN_PROJ)?,
                    },
                })
            })
            .collect::<StageResult<Vec<_>>>()?;
        let vocabulary = [c.vocab_size, c.hidden_size];
        let activations = products::activations(kind, device);
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
                activations,
                device,
            ),
            kind,
            activations,
            device,
            few_launches: device.is_cuda(),
            records_steps: false,
            config,
        })
    }

    /// Makes the layers compute in few launches or not, whatever the device, for comparisons of both ways. They differ
    /// in the last bits.
    pub fn set_few_launches(&mut self, few_launches: bool) {
        self.few_launches = few_launches;
        self.keep_casts();
    }

    /// Makes decoding record the step of a token and repeat it, or not. The bits are the same.
    pub fn set_records_steps(&mut self, records_steps: bool) {
        self.records_steps = records_steps;
    }

    /// Makes room for the casts of adapters where they are kept. Weights that are widened at each use have no casts.
    fn keep_casts(&mut self) {
        let kind = (self.few_launches && self.kind == self.activations).then_some(self.activations);
        for lora in self.linears_mut().filter_map(|linear| linear.lora.as_mut()) {
            lora.keep_casts(kind);
        }
    }

    /// Makes the casts of adapters that the layers compute with. This comes before a pass, and before tokens are
    /// decoded.
    pub(super) fn cast_adapters(&self) {
        lora::cast_all(self.layers.iter().flat_map(Layer::linears).filter_map(|linear| linear.lora.as_ref()));
    }

    /// Adds a new adapter to every layer that `spec.target_modules` names.
    ///
    /// # Errors
    /// Returns an error for a target that no layer has, by name.
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
        self.keep_casts();
        Ok(())
    }

    /// Returns the names of the linear layers inside a layer as in `target_modules`, e.g. `q_proj`.
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

    /// Returns the trained tensors by name, in a fixed order. With adapters, these are the adapters in PEFT's names.
    /// Without, they are all weights in Hugging Face's names.
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

    /// Computes `compute` on the model without its adapters.
    pub fn without_adapters<T>(&mut self, compute: impl FnOnce(&Self) -> T) -> T {
        let adapters: Vec<Option<Lora>> = self.linears_mut().map(|linear| linear.lora.take()).collect();
        let result = compute(self);
        for (linear, adapter) in self.linears_mut().zip(adapters) {
            linear.lora = adapter;
        }
        result
    }

    /// Returns whether there are adapters and none of them has an effect, as when they are new.
    pub fn adapters_are_neutral(&self) -> bool {
        let mut adapters =
            self.layers.iter().flat_map(Layer::linears).filter_map(|linear| linear.lora.as_ref()).peekable();
        adapters.peek().is_some() && adapters.all(Lora::is_neutral)
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(Layer::linears_mut)
    }

    /// Adds each adapter's update to its weight, in 32 bits, and removes the adapter.
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

    /// Returns the base weights by their Hugging Face names, in the order of the layers.
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

    /// Returns the head's weight. // (V, C)
    pub fn head(&self) -> &Tensor {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Computes the hidden states of every token of a packed row, after the final norm. // (T, C)
    pub fn hidden(&self, packed: &Packed) -> Tensor {
        self.forward(packed, None)
    }

    /// Computes the hidden states like [`Decoder::hidden`], and the keys and values of the sequences of `packed`.
    pub(super) fn prefill(&self, packed: &Packed) -> (Tensor, Vec<PromptCache>) {
        let mut layers: Vec<LayerCache> = self.layers.iter().map(|_| LayerCache::default()).collect();
        let hidden = self.forward(packed, Some(&mut layers));
        (hidden, by_prompt(layers, packed.lengths.len()))
    }

    fn forward(&self, packed: &Packed, mut cache: Option<&mut [LayerCache]>) -> Tensor {
        self.cast_adapters();
        let layout = self.layout(packed);
        let mut x = self.embed(&packed.input_ids); // (T, C)
        for (i, layer) in self.layers.iter().enumerate() {
            let layer_cache = cache.as_mut().map(|cache| &mut cache[i]);
            x = layer.forward(&x, &layout, layer_cache, false);
        }
        self.norm.forward(&x)
    }

    /// Computes the hidden states below the first layer. // (T,) -> (T, C)
    pub(super) fn embed(&self, input_ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.embed_tokens, input_ids, -1, false, false).to_kind(self.activations)
    }

    /// Returns the structure of a packed row, as the layers need it.
    pub(super) fn layout<'a>(&self, packed: &'a Packed) -> Layout<'a> {
        let heads_per_key = self.config.num_attention_heads / self.config.num_key_value_heads;
        let calls = if self.few_launches && together(self.activations, self.config.head_dim, self.device) {
            Calls::One(Sequences::of(packed))
        } else if packed.completions.is_empty() {
            Calls::OfSequences
        } else {
            Calls::OfGroups(shared_prefix::groups(packed, heads_per_key, self.activations, self.device))
        };
        let few_launches = self.few_launches;
        Layout { rotation: self.rotary.at(&packed.positions), lengths: &packed.lengths, calls, few_launches }
    }

    /// Computes the hidden states of one new token in each slot, and writes its keys and values to `cache`. // (S, C)
    pub(super) fn decode(&self, next: &NextToken, cache: &mut SlotCache) -> Tensor {
        let rotation = self.rotary.at(&next.positions);
        let mut x = self.embed(&next.input_ids); // (S, C)
        for (layer, layer_cache) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.decode(&x, &rotation, layer_cache, next);
        }
        self.norm.forward(&x)
    }

    /// Computes the logits of hidden states. // (N, C) -> (N, V)
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        products::linear(hidden, self.head(), None)
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The number format of the weights.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the step of a token is recorded.
    pub(super) fn records_steps(&self) -> bool {
        self.records_steps
    }

    /// Whether layers compute in few launches.
    pub(super) fn few_launches(&self) -> bool {
        self.few_launches
    }

    /// The number format of hidden states: that of the weights, or 32 bits if bfloat16 weights are widened.
    pub fn activations(&self) -> Kind {
        self.activations
    }
}
