//! The linear layers inside a decoder layer: those that adapters can be put on.

use super::DecoderConfig;

/// A linear layer inside each decoder layer.
#[derive(Clone, Copy, Debug)]
pub struct LinearLayer {
    /// As `target_modules` has it.
    pub name: &'static str,
    /// The module that it belongs to, as checkpoints name it.
    pub module: &'static str,
    /// Rows of its weight.
    pub out_features: fn(&DecoderConfig) -> i64,
    /// Columns of its weight.
    pub in_features: fn(&DecoderConfig) -> i64,
    /// Whether it has a bias.
    pub bias: fn(&DecoderConfig) -> bool,
}

impl LinearLayer {
    /// Its weights, biases included.
    pub fn parameters(&self, config: &DecoderConfig) -> i64 {
        let (out, input) = ((self.out_features)(config), (self.in_features)(config));
        out * input + if (self.bias)(config) { out } else { 0 }
    }
}

/// Queries.
pub const Q_PROJ: LinearLayer = LinearLayer {
    name: "q_proj",
    module: "self_attn",
    out_features: DecoderConfig::query_size,
    in_features: |config| config.hidden_size,
    bias: |config| config.qkv_bias,
};
/// Keys.
pub const K_PROJ: LinearLayer = LinearLayer { name: "k_proj", out_features: DecoderConfig::key_value_size, ..Q_PROJ };
/// Values.
pub const V_PROJ: LinearLayer = LinearLayer { name: "v_proj", ..K_PROJ };
/// The attention's output.
pub const O_PROJ: LinearLayer = LinearLayer {
    name: "o_proj",
    module: "self_attn",
    out_features: |config| config.hidden_size,
    in_features: DecoderConfig::query_size,
    bias: |config| config.o_bias,
};
/// The feed-forward's gate.
pub const GATE_PROJ: LinearLayer = LinearLayer {
    name: "gate_proj",
    module: "mlp",
    out_features: |config| config.intermediate_size,
    in_features: |config| config.hidden_size,
    bias: |config| config.mlp_bias,
};
/// What is gated.
pub const UP_PROJ: LinearLayer = LinearLayer { name: "up_proj", ..GATE_PROJ };
/// The feed-forward's output.
pub const DOWN_PROJ: LinearLayer = LinearLayer {
    name: "down_proj",
    out_features: |config| config.hidden_size,
    in_features: |config| config.intermediate_size,
    ..GATE_PROJ
};

/// All of them, in the order in which they are applied.
pub const LINEAR_LAYERS: [LinearLayer; 7] = [Q_PROJ, K_PROJ, V_PROJ, O_PROJ, GATE_PROJ, UP_PROJ, DOWN_PROJ];
