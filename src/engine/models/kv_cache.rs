//! Keys and values of the tokens so far, preallocated.
//!
//! Rows are right-aligned at the end of the prompts: a prompt of n tokens fills columns `prompt_width - n ..
//! prompt_width`, so that every row's next token goes into the same column and the append is one copy. What lies left
//! of a row's prompt is masked.

use tch::{Device, Kind, Tensor};

/// The cache of all layers for B rows.
#[derive(Debug)]
pub struct KvCache {
    pub(super) layers: Vec<LayerCache>,
    /// Empty columns at the left of each row.
    padding: Vec<i64>,
    /// Tokens in each row, the next one's position.
    lengths: Vec<i64>,
    device: Device,
    kind: Kind,
}

/// The cache of one layer.
#[derive(Debug)]
pub(super) struct LayerCache {
    keys: Tensor,   // (B, K, capacity, D)
    values: Tensor, // (B, K, capacity, D)
    used: i64,
}

impl LayerCache {
    /// Writes the prompts' keys and values, each (T, K, D) packed, right-aligned.
    pub(super) fn prefill(&mut self, k: &Tensor, v: &Tensor, lengths: &[i64]) {
        let width = lengths.iter().copied().max().expect("a prefill has at least one prompt");
        let mut start = 0;
        for (row, &length) in (0i64..).zip(lengths) {
            for (whole, new) in [(&self.keys, k), (&self.values, v)] {
                let new = new.narrow(0, start, length).transpose(0, 1); // (K, length, D)
                whole.select(0, row).narrow(1, width - length, length).copy_(&new);
            }
            start += length;
        }
        self.used = width;
    }

    /// Adds one token a row, each (B, K, D), and returns all keys and values so far, each (B, K, S, D).
    pub(super) fn append(&mut self, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        for (whole, new) in [(&self.keys, k), (&self.values, v)] {
            whole.select(2, self.used).copy_(new);
        }
        self.used += 1;
        (self.keys.narrow(2, 0, self.used), self.values.narrow(2, 0, self.used))
    }

    fn select_rows(&mut self, rows: &Tensor) {
        self.keys = self.keys.index_select(0, rows);
        self.values = self.values.index_select(0, rows);
    }
}

/// The size of a cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// Layers of the decoder.
    pub layers: usize,
    /// Key-value heads.
    pub num_key_value_heads: i64,
    /// Size of a head.
    pub head_dim: i64,
    /// Number format of keys and values.
    pub kind: Kind,
    /// Where they live.
    pub device: Device,
}

impl KvCache {
    /// A cache for prompts of these `lengths`, with room for `max_new_tokens` more in each row.
    pub fn new(shape: CacheShape, lengths: &[i64], max_new_tokens: i64) -> Self {
        let width = lengths.iter().copied().max().expect("a cache has at least one row");
        let rows = i64::try_from(lengths.len()).expect("row counts fit i64");
        let size = [rows, shape.num_key_value_heads, width + max_new_tokens, shape.head_dim];
        let zeros = || Tensor::zeros(size, (shape.kind, shape.device));
        Self {
            layers: (0..shape.layers).map(|_| LayerCache { keys: zeros(), values: zeros(), used: 0 }).collect(),
            padding: lengths.iter().map(|length| width - length).collect(),
            lengths: lengths.to_vec(),
            device: shape.device,
            kind: shape.kind,
        }
    }

    /// Keeps only `rows`, in that order; a row may be named several times.
    pub fn select_rows(&mut self, rows: &[usize]) {
        let index: Vec<i64> = rows.iter().map(|&row| i64::try_from(row).expect("rows fit i64")).collect();
        let index = Tensor::from_slice(&index).to_device(self.device);
        for layer in &mut self.layers {
            layer.select_rows(&index);
        }
        self.padding = rows.iter().map(|&row| self.padding[row]).collect();
        self.lengths = rows.iter().map(|&row| self.lengths[row]).collect();
    }

    /// Position of each row's next token. // (B,)
    pub(super) fn next_positions(&self) -> Tensor {
        Tensor::from_slice(&self.lengths).to_device(self.device)
    }

    /// What to add to the scores of the columns once the next token is in; absent when no row has padding.
    /// // (B, 1, 1, S)
    pub(super) fn next_mask(&self) -> Option<Tensor> {
        if self.padding.iter().all(|&columns| columns == 0) {
            return None;
        }
        let columns = self.layers.first().map_or(0, |layer| layer.used) + 1;
        let padding = Tensor::from_slice(&self.padding).to_device(self.device).unsqueeze(1); // (B, 1)
        let hidden = Tensor::arange(columns, (Kind::Int64, self.device)).unsqueeze(0).lt_tensor(&padding); // (B, S)
        let mask = Tensor::zeros(hidden.size(), (self.kind, self.device)).masked_fill(&hidden, f64::NEG_INFINITY);
        Some(mask.unsqueeze(1).unsqueeze(1))
    }

    pub(super) fn advance(&mut self) {
        for length in &mut self.lengths {
            *length += 1;
        }
    }
}
