//! A forward pass for training, with or without gradient checkpointing (arXiv:1604.06174).
//!
//! With checkpointing, only the input of each layer is kept, and the backward pass computes each layer again. Both ways
//! give the same bits: the same kernels run on the same numbers, and each layer's dropout has its own seed.

use super::decoder::Decoder;
use super::layers::Layout;
use super::packed::Packed;
use crate::seed;
use tch::{Kind, Tensor};

/// The options of a [`TrainingPass`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PassOptions {
    /// Seed of the adapters' dropout; without it there is no dropout.
    pub dropout_seed: Option<u64>,
    /// Whether only the input of each layer is kept.
    pub checkpointing: bool,
}

/// A forward pass whose hidden states can be backpropagated to the weights.
pub struct TrainingPass<'a> {
    decoder: &'a Decoder,
    packed: &'a Packed,
    options: PassOptions,
    layout: Layout<'a>,
    hidden: Tensor, // (T, C)
    /// Tensors at which the graph is cut: the embeddings, and with checkpointing the output of each layer.
    cuts: Vec<Tensor>, // each (T, C)
}

impl<'a> TrainingPass<'a> {
    /// Runs the forward pass of `decoder` over `packed`.
    pub fn new(decoder: &'a Decoder, packed: &'a Packed, options: PassOptions) -> Self {
        decoder.cast_adapters();
        let layout = decoder.layout(packed);
        let mut pass = Self { decoder, packed, options, layout, hidden: Tensor::new(), cuts: Vec::new() };
        let embedded = tch::no_grad(|| pass.embed()).set_requires_grad(pass.embedding_is_trained());
        let layers = 0..decoder.layers.len();
        pass.cuts.push(embedded.shallow_clone());
        let top = if options.checkpointing {
            tch::no_grad(|| {
                layers.fold(embedded, |x, index| {
                    let output = pass.layer(index, &x);
                    pass.cuts.push(output.shallow_clone());
                    output
                })
            })
            .set_requires_grad(true)
        } else {
            layers.fold(embedded, |x, index| pass.layer(index, &x))
        };
        pass.hidden = decoder.norm.forward(&top);
        pass
    }

    /// Returns the hidden states after the final norm, with their graph. To backpropagate a loss, call `backward()` on
    /// it and then [`TrainingPass::finish`]. // (T, C)
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// Backpropagates the gradients of the hidden states through the cuts of the graph to the weights.
    pub fn finish(mut self) {
        self.hidden = Tensor::new();
        let mut output = self.cuts.pop().expect("the embeddings are always there");
        while let Some(input) = self.cuts.pop() {
            let index = self.cuts.len();
            let input = input.set_requires_grad(index > 0 || self.embedding_is_trained());
            follow(&self.layer(index, &input), &output.grad());
            output = input;
        }
        if self.embedding_is_trained() {
            follow(&self.embed(), &output.grad());
        }
    }

    fn embedding_is_trained(&self) -> bool {
        self.decoder.embed_tokens.requires_grad()
    }

    fn embed(&self) -> Tensor {
        self.decoder.embed(&self.packed.input_ids) // (T, C)
    }

    fn layer(&self, index: usize, x: &Tensor) -> Tensor {
        if let Some(dropout_seed) = self.options.dropout_seed {
            seed::seed_libtorch(seed::derive(dropout_seed, &["layer", &index.to_string()]));
        }
        let dropout = self.options.dropout_seed.is_some();
        self.decoder.layers[index].forward(x, &self.layout, None, dropout)
    }
}

/// Backpropagates `grad`, the gradient on `output`. It is exactly the gradient of their inner product.
fn follow(output: &Tensor, grad: &Tensor) {
    (output * grad).sum(Kind::Float).backward();
}
