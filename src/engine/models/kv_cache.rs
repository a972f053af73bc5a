//! Keys and values of prompts, and of rows that are being decoded.

use super::sequences::LAUNCH;
use crate::torch::{FlashInput, as_one_launch, flash_attention, flash_takes};
use tch::{Device, Kind, Tensor};

/// Keys and values of one prompt, shared by the rows that continue it.
#[derive(Debug)]
pub(super) struct PromptCache {
    pub(super) layers: Vec<(Tensor, Tensor)>, // each (n, K, D)
}

impl PromptCache {
    /// The number of tokens of the prompt.
    pub(super) fn length(&self) -> usize {
        self.layers.first().map_or(0, |(keys, _)| usize::try_from(keys.size()[0]).expect("lengths are positive"))
    }
}

/// Keys and values of one layer for the prompts of a packed row, collected during its forward pass.
#[derive(Debug, Default)]
pub(super) struct LayerCache {
    prompts: Vec<(Tensor, Tensor)>, // each (n, K, D)
}

impl LayerCache {
    /// Stores packed keys and values, each (T, K, D), by prompt.
    pub(super) fn prefill(&mut self, k: &Tensor, v: &Tensor, lengths: &[i64]) {
        let (keys, values) = (k.split_with_sizes(lengths, 0), v.split_with_sizes(lengths, 0));
        self.prompts.extend(keys.into_iter().zip(values));
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
    /// Number of tokens for which a slot has room.
    capacity: i64,
    /// Number of times that the tensors of the layers were replaced.
    replaced: usize,
    device: Device,
}

/// The slots of one layer.
#[derive(Debug)]
pub(super) struct SlotLayer {
    keys: Tensor,   // (S, capacity, K, D)
    values: Tensor, // (S, capacity, K, D)
}

/// The next token of every slot, and where its keys and values go.
pub(super) struct NextToken {
    pub(super) input_ids: Tensor, // (S,)
    pub(super) positions: Tensor, // (S,)
    /// Index among all places of all slots. // (S,)
    places: Tensor,
    /// Number of columns that attention reads of each slot.
    columns: i64,
    attention: SlotAttention,
    /// Whether operations are joined where that gives the same bits in fewer launches.
    pub(super) few_launches: bool,
}

/// What the attention over all slots needs.
enum SlotAttention {
    /// Flash attention: the places that are in use, in 32-bit integers.
    Flash {
        starts_q: Tensor, // (S + 1,)
        starts_k: Tensor, // (S + 1,)
        used: Tensor,     // (S,)
    },
    /// A mask that is added to the scores.
    Masked(Tensor), // (S, 1, 1, columns)
}

impl SlotCache {
    /// Creates a cache without slots. Each slot will have room for `capacity` tokens.
    pub(super) fn new(layers: usize, heads: i64, head_dim: i64, capacity: i64, kind: Kind, device: Device) -> Self {
        let empty = || Tensor::zeros([0, capacity, heads, head_dim], (kind, device));
        Self {
            layers: (0..layers).map(|_| SlotLayer { keys: empty(), values: empty() }).collect(),
            lengths: Vec::new(),
            capacity,
            replaced: 0,
            device,
        }
    }

    /// Copies each of `prompts` into a free slot, and returns the slots' indices. There are as many new slots as are
    /// missing.
    pub(super) fn enter(&mut self, prompts: &[&PromptCache]) -> Vec<usize> {
        let mut slots: Vec<usize> = (0..self.lengths.len()).filter(|&slot| self.lengths[slot] == 0).collect();
        let missing = prompts.len().saturating_sub(slots.len());
        slots.extend(self.lengths.len()..self.lengths.len() + missing);
        slots.truncate(prompts.len());
        self.grow(missing);
        let mut places = Vec::new();
        for (&slot, prompt) in slots.iter().zip(prompts) {
            let first = i64::try_from(slot).expect("rows fit i64") * self.capacity;
            self.lengths[slot] = i64::try_from(prompt.length()).expect("lengths fit i64");
            places.extend(first..first + self.lengths[slot]);
        }
        if places.is_empty() {
            return slots;
        }
        let places = Tensor::from_slice(&places).to_device(self.device); // (tokens of all prompts,)
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let keys: Vec<&Tensor> = prompts.iter().map(|prompt| &prompt.layers[index].0).collect();
            let values: Vec<&Tensor> = prompts.iter().map(|prompt| &prompt.layers[index].1).collect();
            layer.put(&places, &Tensor::cat(&keys, 0), &Tensor::cat(&values, 0));
        }
        slots
    }

    /// Adds free slots.
    fn grow(&mut self, more: usize) {
        if more == 0 {
            return;
        }
        for whole in self.layers.iter_mut().flat_map(|layer| [&mut layer.keys, &mut layer.values]) {
            let mut size = whole.size();
            size[0] = i64::try_from(more).expect("rows fit i64");
            let new = Tensor::zeros(&size, (whole.kind(), self.device));
            *whole = if self.lengths.is_empty() { new } else { Tensor::cat(&[&*whole, &new], 0) };
        }
        self.lengths.resize(self.lengths.len() + more, 0);
        self.replaced += 1;
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
        self.replaced += 1;
    }

    /// A number that changes when the layers get other tensors.
    pub(super) fn replaced(&self) -> usize {
        self.replaced
    }

    /// The number of slots, including free ones.
    pub(super) fn slots(&self) -> usize {
        self.lengths.len()
    }

    /// Returns what [`SlotCache::next_token`] needs of the host: the tokens `ids` of all slots, their positions, and
    /// their places. In a free slot the token is written to the first position, to be overwritten later. // (3 * S,)
    pub(super) fn numbers(&self, ids: &[i64]) -> Vec<i64> {
        let places = self.lengths.iter().zip(0..).map(|(length, slot)| slot * self.capacity + length);
        ids.iter().copied().chain(self.lengths.iter().copied()).chain(places).collect()
    }

    /// Returns the next token of every slot, from [`SlotCache::numbers`] on the device.
    pub(super) fn next_token(&self, numbers: &Tensor, kind: Kind, few_launches: bool) -> NextToken {
        let slots = i64::try_from(self.lengths.len()).expect("rows fit i64");
        let part = |index: i64| numbers.narrow(0, index * slots, slots); // (S,)
        let positions = part(1);
        let (attention, columns) = if few_launches && self.has_flash(kind) {
            let starts = Tensor::arange(slots + 1, (Kind::Int, self.device));
            let attention = SlotAttention::Flash {
                starts_k: &starts * self.capacity,
                starts_q: starts,
                used: (&positions + 1).to_kind(Kind::Int),
            };
            // always the same, so that the kernel splits the keys of a row in the same way at every step
            (attention, self.capacity)
        } else {
            let columns = self.lengths.iter().max().map_or(1, |longest| longest + 1);
            (SlotAttention::Masked(mask(&positions, columns, kind)), columns)
        };
        NextToken { input_ids: part(0), positions, places: part(2), columns, attention, few_launches }
    }

    /// Whether flash attention computes over the slots in the number format `kind`.
    pub(super) fn has_flash(&self, kind: Kind) -> bool {
        let head_dim = self.layers.first().map_or(0, |layer| layer.keys.size()[3]);
        flash_takes(kind, head_dim, self.device)
    }

    /// Adds one token to the count of each slot in use.
    pub(super) fn advance(&mut self) {
        for length in self.lengths.iter_mut().filter(|length| **length > 0) {
            *length += 1;
        }
    }
}

/// Returns the number of columns of a mask, of which `columns` are used. A GPU's memory-efficient kernel copies a mask
/// whose rows are not a multiple of 8 elements apart.
pub(super) fn padded_columns(columns: i64) -> i64 {
    (columns + 7) / 8 * 8
}

/// Returns the mask of scores over the first `columns` places of every slot: 0 up to its next token, else minus
/// infinity. // (S,) -> (S, 1, 1, columns)
fn mask(positions: &Tensor, columns: i64, kind: Kind) -> Tensor {
    let device = positions.device();
    let hidden =
        Tensor::arange(padded_columns(columns), (Kind::Int64, device)).unsqueeze(0).gt_tensor(&positions.unsqueeze(1)); // (S, padded)
    let mask = Tensor::zeros(hidden.size(), (kind, device)).masked_fill(&hidden, f64::NEG_INFINITY);
    mask.narrow(1, 0, columns).unsqueeze(1).unsqueeze(1)
}

impl SlotLayer {
    /// Adds the next token of each slot. // two of (S, K, D)
    pub(super) fn append(&mut self, k: &Tensor, v: &Tensor, next: &NextToken) {
        self.put(&next.places, k, v);
    }

    /// Writes keys and values of n tokens to `places`, counted over all slots. // (n,), two of (n, K, D)
    fn put(&mut self, places: &Tensor, k: &Tensor, v: &Tensor) {
        for (whole, new) in [(&self.keys, k), (&self.values, v)] {
            let _ = whole.flatten(0, 1).index_copy_(0, places, new);
        }
    }

    /// Computes the attention of the next token of each slot, after it was added. // (S, H, D) -> (S, H * D)
    pub(super) fn attention(&self, q: &Tensor, next: &NextToken) -> Tensor {
        let (slots, heads, dim) = q.size3().expect("q is (S, H, D)");
        let y = match &next.attention {
            SlotAttention::Flash { starts_q, starts_k, used } => flash_attention(FlashInput {
                q,
                k: &self.keys.flatten(0, 1),
                v: &self.values.flatten(0, 1),
                starts_q,
                starts_k,
                used_k: Some(used),
                longest_q: 1,
                longest_k: next.columns,
            }),
            SlotAttention::Masked(mask) => as_one_launch(LAUNCH, || self.masked(q, mask, next.columns)),
        };
        y.reshape([slots, heads * dim])
    }

    fn masked(&self, q: &Tensor, mask: &Tensor, columns: i64) -> Tensor {
        let (slots, heads, dim) = q.size3().expect("q is (S, H, D)");
        let key_heads = self.keys.size()[2];
        let so_far = |whole: &Tensor| whole.narrow(1, 0, columns).transpose(1, 2); // (S, K, columns, D)
        // the heads that share a key-value head take the place of query positions, so keys are never copied
        let q = q.view([slots, key_heads, heads / key_heads, dim]);
        let (k, v) = (so_far(&self.keys), so_far(&self.values));
        Tensor::scaled_dot_product_attention(&q, &k, &v, Some(mask), 0.0, false, None, false) // (S, K, H/K, D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: i64 = 2;
    const DIM: i64 = 4;

    fn prompt(length: i64, value: f64) -> PromptCache {
        let full = |value: f64| Tensor::full([length, HEADS, DIM], value, (Kind::Float, Device::Cpu));
        PromptCache { layers: vec![(full(value), full(-value))] }
    }

    fn keys(cache: &SlotCache, slot: i64) -> Vec<f64> {
        let of_slot = cache.layers[0].keys.get(slot).select(2, 0).select(1, 0).to_kind(Kind::Double); // (capacity,)
        Vec::<f64>::try_from(of_slot).unwrap()
    }

    #[test]
    fn there_are_as_many_slots_as_rows_and_free_ones_are_taken_first() {
        let mut cache = SlotCache::new(1, HEADS, DIM, 5, Kind::Float, Device::Cpu);
        let [a, b, c, d] = [(2, 1.0), (3, 2.0), (1, 3.0), (4, 4.0)].map(|(length, value)| prompt(length, value));
        assert_eq!((cache.enter(&[&a, &b, &a]), cache.slots()), (vec![0, 1, 2], 3));
        assert_eq!(keys(&cache, 1), [2.0, 2.0, 2.0, 0.0, 0.0]);
        cache.leave(1);
        assert_eq!((cache.enter(&[&c]), cache.slots()), (vec![1], 3));
        assert_eq!(keys(&cache, 1)[..1], [3.0]);
        let before = cache.replaced();
        cache.leave(0);
        assert_eq!((cache.enter(&[&d, &b]), cache.slots()), (vec![0, 3], 4), "one is free and one is added");
        assert!(cache.replaced() > before, "the tensors are others");
        assert_eq!((keys(&cache, 0), keys(&cache, 2)), (vec![4.0, 4.0, 4.0, 4.0, 0.0], vec![1.0, 1.0, 0.0, 0.0, 0.0]));
        cache.compact(&[3, 0]);
        assert_eq!((cache.slots(), keys(&cache, 0)[2], keys(&cache, 1)[3]), (2, 2.0, 4.0));
        assert_eq!(cache.enter(&[]), Vec::<usize>::new());
    }

    #[test]
    fn a_mask_has_rows_of_a_multiple_of_8_and_hides_what_comes_later() {
        let mask = mask(&Tensor::from_slice(&[0i64, 2]), 3, Kind::Float);
        assert_eq!((mask.size(), mask.stride()[0] % 8), (vec![2, 1, 1, 3], 0));
        let seen: Vec<bool> = Vec::<bool>::try_from(mask.flatten(0, -1).eq(0.0)).unwrap();
        assert_eq!(seen, [true, false, false, true, true, true]);
        assert_eq!([1, 8, 9].map(padded_columns), [8, 8, 16]);
    }
}
