//! Keys and values of prompts, and of rows that are being decoded.

use tch::{Device, Kind, Tensor};

/// Keys and values of one prompt, shared by the rows that continue it.
#[derive(Debug)]
pub(super) struct PromptCache {
    pub(super) layers: Vec<(Tensor, Tensor)>, // each (K, n, D)
}

impl PromptCache {
    /// The number of tokens of the prompt.
    pub(super) fn length(&self) -> usize {
        self.layers.first().map_or(0, |(keys, _)| usize::try_from(keys.size()[1]).expect("lengths are positive"))
    }
}

/// Keys and values of one layer for the prompts of a packed row, collected during its forward pass.
#[derive(Debug, Default)]
pub(super) struct LayerCache {
    prompts: Vec<(Tensor, Tensor)>, // each (K, n, D)
}

impl LayerCache {
    /// Stores packed keys and values, each (T, K, D), by prompt.
    pub(super) fn prefill(&mut self, k: &Tensor, v: &Tensor, lengths: &[i64]) {
        let mut start = 0;
        for &length in lengths {
            let part = |t: &Tensor| t.narrow(0, start, length).transpose(0, 1).contiguous();
            self.prompts.push((part(k), part(v)));
            start += length;
        }
    }
}

/// Converts the layers' caches into one cache for each prompt, in order.
pub(super) fn by_prompt(layers: Vec<LayerCache>, prompts: usize) -> Vec<PromptCache> {
    let mut caches: Vec<PromptCache> = (0..prompts).map(|_| PromptCache { layers: Vec::new() }).collect();
    for layer in layers {
        for (cache, tensors) in caches.iter_mut().zip(layer.prompts) {
            cache.layers.push(tensors);
        }
    }
    caches
}

/// Keys and values of rows for decoding with tensor operations. Each layer has one tensor with a slot for each row.
#[derive(Debug)]
pub(super) struct SlotCache {
    pub(super) layers: Vec<SlotLayer>,
    /// Number of tokens in each slot, which is the next token's position; 0 for a free slot.
    lengths: Vec<i64>,
    device: Device,
}

/// The slots of one layer.
#[derive(Debug)]
pub(super) struct SlotLayer {
    keys: Tensor,   // (S, K, capacity, D)
    values: Tensor, // (S, K, capacity, D)
}

/// The position of the next token in every slot, and the mask of its attention.
pub(super) struct NextToken {
    slots: Tensor,                // (S,)
    pub(super) positions: Tensor, // (S,)
    /// Number of columns in use by the longest slot, including its next token.
    columns: i64,
    pub(super) mask: Tensor, // (S, 1, 1, columns)
}

impl SlotCache {
    /// Creates a cache without slots. Each slot will have room for `capacity` tokens.
    pub(super) fn new(layers: usize, heads: i64, head_dim: i64, capacity: i64, kind: Kind, device: Device) -> Self {
        let empty = || Tensor::zeros([0, heads, capacity, head_dim], (kind, device));
        Self {
            layers: (0..layers).map(|_| SlotLayer { keys: empty(), values: empty() }).collect(),
            lengths: Vec::new(),
            device,
        }
    }

    /// Copies `prompt` into a free slot, and returns the slot's index.
    pub(super) fn enter(&mut self, prompt: &PromptCache) -> usize {
        let free = self.lengths.iter().position(|&length| length == 0);
        let slot = free.unwrap_or(self.lengths.len());
        if free.is_none() {
            self.grow();
        }
        let index = i64::try_from(slot).expect("rows fit i64");
        for (layer, (keys, values)) in self.layers.iter().zip(&prompt.layers) {
            for (whole, new) in [(&layer.keys, keys), (&layer.values, values)] {
                whole.select(0, index).narrow(1, 0, new.size()[1]).copy_(new);
            }
        }
        self.lengths[slot] = i64::try_from(prompt.length()).expect("lengths fit i64");
        slot
    }

    /// Doubles the number of slots.
    fn grow(&mut self) {
        let more = self.lengths.len().max(1);
        for whole in self.layers.iter_mut().flat_map(|layer| [&mut layer.keys, &mut layer.values]) {
            let mut size = whole.size();
            size[0] = i64::try_from(more).expect("rows fit i64");
            *whole = Tensor::cat(&[&*whole, &Tensor::zeros(&size, (whole.kind(), self.device))], 0);
        }
        self.lengths.resize(self.lengths.len() + more, 0);
    }

    /// Frees a slot.
    pub(super) fn leave(&mut self, slot: usize) {
        self.lengths[slot] = 0;
    }

    /// Moves these slots to the front and removes all others.
    pub(super) fn compact(&mut self, slots: &[usize]) {
        let index: Vec<i64> = slots.iter().map(|&slot| i64::try_from(slot).expect("rows fit i64")).collect();
        let index = Tensor::from_slice(&index).to_device(self.device);
        for layer in &mut self.layers {
            layer.keys = layer.keys.index_select(0, &index);
            layer.values = layer.values.index_select(0, &index);
        }
        self.lengths = slots.iter().map(|&slot| self.lengths[slot]).collect();
    }

    /// The number of slots, including free ones.
    pub(super) fn slots(&self) -> usize {
        self.lengths.len()
    }

    /// Returns where the next token of every slot goes. In a free slot it is written to the first position, to be
    /// overwritten later.
    pub(super) fn next_token(&self, kind: Kind) -> NextToken {
        let positions = Tensor::from_slice(&self.lengths).to_device(self.device); // (S,)
        let columns = self.lengths.iter().max().map_or(1, |longest| longest + 1);
        let options = (Kind::Int64, self.device);
        let hidden = Tensor::arange(columns, options).unsqueeze(0).gt_tensor(&positions.unsqueeze(1)); // (S, columns)
        let mask = Tensor::zeros(hidden.size(), (kind, self.device)).masked_fill(&hidden, f64::NEG_INFINITY);
        NextToken {
            slots: Tensor::arange(i64::try_from(self.lengths.len()).expect("rows fit i64"), options),
            positions,
            columns,
            mask: mask.unsqueeze(1).unsqueeze(1),
        }
    }

    /// Adds one token to the count of each slot in use.
    pub(super) fn advance(&mut self) {
        for length in self.lengths.iter_mut().filter(|length| **length > 0) {
            *length += 1;
        }
    }
}

impl SlotLayer {
    /// Adds one token to each slot, (S, K, D), and returns all keys and values so far, each (S, K, columns, D).
    pub(super) fn append(&mut self, k: &Tensor, v: &Tensor, next: &NextToken) -> (Tensor, Tensor) {
        for (whole, new) in [(&mut self.keys, k), (&mut self.values, v)] {
            let _ = whole.index_put_(&[Some(&next.slots), None, Some(&next.positions)], new, false);
        }
        (self.keys.narrow(2, 0, next.columns), self.values.narrow(2, 0, next.columns))
    }
}
