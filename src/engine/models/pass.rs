//! A forward pass to train on, with or without gradient checkpointing (arXiv:1604.06174).
//!
//! With it, only the input of each layer is kept; the backward pass computes a layer's inside again when it gets there. Both
//! ways give the same bits: the same kernels run on the same numbers, and a layer's dropout has a seed of its own.

use super::decoder::Decoder;
use super::packed::Packed;
use super::rotary::Rotation;
use crate::seed;
use tch::{Kind, Tensor};

/// How a pass is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassOptions {
    /// Turns the dropout of adapters on, drawn from this seed.
    pub dropout_seed: Option<u64>,
    /// Keeps the input of each layer only.
    pub checkpointing: bool,
}

/// A forward pass whose hidden states can be followed back to the weights.
pub struct TrainingPass<'a> {
    decoder: &'a Decoder,
    packed: &'a Packed,
    options: PassOptions,
    rotation: Rotation,
    hidden: Tensor, // (T, C)
    /// With checkpointing, without a graph: what went into each layer, and what came out of the last.
    kept: Vec<Tensor>, // each (T, C)
}

impl<'a> TrainingPass<'a> {
    /// Runs `decoder` over `packed`.
    pub fn new(decoder: &'a Decoder, packed: &'a Packed, options: PassOptions) -> Self {
        let rotation = decoder.rotary.at(&packed.positions);
        let layers = 0..decoder.layers.len();
        let mut pass = Self { decoder, packed, options, rotation, hidden: Tensor::new(), kept: Vec::new() };
        let top = if options.checkpointing {
            tch::no_grad(|| {
                let mut x = pass.embed();
                for index in layers {
                    let output = pass.layer(index, &x);
                    pass.kept.push(x);
                    x = output;
                }
                x
            })
            .set_requires_grad(true)
        } else {
            layers.fold(pass.embed(), |x, index| pass.layer(index, &x))
        };
        pass.hidden = decoder.norm.forward(&top);
        if options.checkpointing {
            pass.kept.push(top);
        }
        pass
    }

    /// Hidden states after the final norm; they carry a graph, and what is computed from them is followed back by `backward()`
    /// on it, then [`TrainingPass::finish`]. // (T, C)
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// Follows the gradients that have reached the hidden states down to the weights, where checkpointing cut the graph.
    pub fn finish(mut self) {
        let Some(top) = self.kept.pop() else { return };
        let mut grad = top.grad(); // (T, C)
        drop(top);
        self.hidden = Tensor::new();
        let embedding_is_trained = self.decoder.embed_tokens.requires_grad();
        for index in (0..self.decoder.layers.len()).rev() {
            let input = self.kept.pop().expect("an input was kept for each layer");
            let input = input.set_requires_grad(index > 0 || embedding_is_trained);
            follow(&self.layer(index, &input), &grad);
            grad = input.grad();
        }
        if embedding_is_trained {
            follow(&self.embed(), &grad);
        }
    }

    fn embed(&self) -> Tensor {
        Tensor::embedding(&self.decoder.embed_tokens, &self.packed.input_ids, -1, false, false) // (T, C)
    }

    fn layer(&self, index: usize, x: &Tensor) -> Tensor {
        if let Some(dropout_seed) = self.options.dropout_seed {
            seed::seed_libtorch(seed::derive(dropout_seed, &["layer", &index.to_string()]));
        }
        let dropout = self.options.dropout_seed.is_some();
        self.decoder.layers[index].forward(x, &self.rotation, &self.packed.lengths, None, dropout)
    }
}

/// Backpropagates `grad`, the gradient on `output`: that of the inner product of both is just that.
fn follow(output: &Tensor, grad: &Tensor) {
    (output * grad).sum(Kind::Float).backward();
}
