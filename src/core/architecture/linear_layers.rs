//! The linear layers of a decoder layer, to which adapters can be added.

use super::DecoderConfig;

/// A linear layer of each decoder layer.
#[derive(Clone, Copy, Debug)]
pub struct LinearLayer {
    /// The name in `target_modules`.
    pub name: &'static str,
    /// The name in checkpoints of the module that contains the layer.
    pub module: &'static str,
    /// The number of rows of the weight.
    pub out_features: fn(&DecoderConfig) -> i64,
    /// The number of columns of the weight.
    pub in_features: fn(&DecoderConfig) -> i64,
    /// Whether the layer has a bias.
    pub bias: fn(&DecoderConfig) -> bool,
}

impl LinearLayer {
    /// Returns the number of the layer's weights, biases included.
    pub fn parameters(&self, config: &DecoderConfig) -> i64 {
        let (out, input) = ((self.out_features)(config), (self.in_features)(config));
        out * input + if (self.bias)(config) { out } else { 0 }
    }
}

/// The projection to queries.
pub const Q_PROJ: LinearLayer = LinearLayer {
    name: "q_proj",
    module: "self_attn",
    out_features: DecoderConfig::query_size,
    in_features: |config| config.hidden_size,
    bias: |config| config.qkv_bias,
};
/// The projection to keys.
pub const K_PROJ: LinearLayer = LinearLayer { name: "k_proj", out_features: DecoderConfig::key_value_size, ..Q_PROJ };
/// The projection to values.
pub const V_PROJ: LinearLayer = LinearLayer { name: "v_proj", ..K_PROJ };
/// The output projection of attention.
pub const O_PROJ: LinearLayer = LinearLayer {
    name: "o_proj",
    module: "self_attn",
    out_features: |config| config.hidden_size,
    in_features: DecoderConfig::query_size,
    bias: |config| config.o_bias,
};
/// The gate projection of the feed-forward block.
pub const GATE_PROJ: LinearLayer = LinearLayer {
    name: "gate_proj",
    module: "mlp",
    out_features: |config| config.intermediate_size,
    in_features: |config| config.hidden_size,
    bias: |config| config.mlp_bias,
};
/// The projection to the values that the gate multiplies.
pub const UP_PROJ: LinearLayer = LinearLayer { name: "up_proj", ..GATE_PROJ };
/// The output projection of the feed-forward block.
pub const DOWN_PROJ: LinearLayer = LinearLayer {
    name: "down_proj",
    out_features: |config| config.hidden_size,
    in_features: |config| config.intermediate_size,
    ..GATE_PROJ
};

/// All linear layers of a decoder layer, in the order in which they are applied.
pub const LINEAR_LAYERS: [LinearLayer; 7] = [Q_PROJ, K_PROJ, V_PROJ, O_PROJ, GATE_PROJ, UP_PROJ, DOWN_PROJ];
