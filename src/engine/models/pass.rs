//! A forward pass to train on, with or without gradient checkpointing (arXiv:1604.06174).
//!
//! With it, only the input of each layer is kept; the backward pass computes a layer's inside again when it gets there. Both
//! ways give the same bits: the same kernels run on the same numbers, and a layer's dropout has a seed of its own.

use super::decoder::Decoder;
use super::layers::Layout;
use super::packed::Packed;
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
    layout: Layout<'a>,
    hidden: Tensor, // (T, C)
    /// Where the graph is cut: at the embeddings, and with checkpointing before and after each layer.
    cuts: Vec<Tensor>, // each (T, C)
}

impl<'a> TrainingPass<'a> {
    /// Runs `decoder` over `packed`.
    pub fn new(decoder: &'a Decoder, packed: &'a Packed, options: PassOptions) -> Self {
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

    /// Hidden states after the final norm; they carry a graph, and what is computed from them is followed back by `backward()`
    /// on it, then [`TrainingPass::finish`]. // (T, C)
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// Follows the gradients that have reached the hidden states down to the weights, where the graph was cut.
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

/// Backpropagates `grad`, the gradient on `output`: that of the inner product of both is just that.
fn follow(output: &Tensor, grad: &Tensor) {
    (output * grad).sum(Kind::Float).backward();
}
