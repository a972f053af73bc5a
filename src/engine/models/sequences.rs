//! Attention inside many sequences of different lengths, computed together.
//!
//! A GPU computes all of them in one launch of flash attention, which needs no mask and no repeated keys. Elsewhere
//! each sequence is a call of its own, with the same meaning.

use super::layers::causal;
use super::packed::Packed;
use super::shared_prefix;
use crate::torch::{FlashInput, as_one_launch, flash_attention, flash_takes};
use tch::{Device, Kind, Tensor};

/// The name of the attention of all sequences in counts of launches.
pub(super) const LAUNCH: &str = "attention";

/// The sequences of a packed row. A completion's keys are those of its prompt and then its own.
pub(super) struct Sequences {
    /// Number of queries and of keys of each sequence.
    lengths: Vec<(i64, i64)>,
    starts_q: Tensor, // (N + 1,), 32-bit integers
    starts_k: Tensor, // (N + 1,), 32-bit integers
    /// The pieces of the row in the order of the keys; absent if it is the order of the row.
    pieces: Option<Pieces>,
}

/// Keys put together from pieces of a row, some of them several times.
struct Pieces {
    lengths: Vec<i64>,
    order: Vec<usize>,
}

impl Sequences {
    /// Returns the sequences of `packed`.
    pub(super) fn of(packed: &Packed) -> Self {
        let mut lengths = Vec::with_capacity(packed.lengths.len());
        let mut order = Vec::new();
        let mut pieces = packed.lengths.iter().copied().enumerate();
        for &count in &packed.completions {
            let (at, prompt) = pieces.next().expect("a prompt comes before its completions");
            lengths.push((prompt, prompt));
            order.push(at);
            for (completion, length) in pieces.by_ref().take(count) {
                lengths.push((length, prompt + length));
                order.extend([at, completion]);
            }
        }
        lengths.extend(pieces.map(|(_, length)| (length, length)));
        let pieces = (!order.is_empty()).then(|| Pieces { lengths: packed.lengths.clone(), order });
        let queries = ends(lengths.iter().map(|(queries, _)| *queries));
        let keys = ends(lengths.iter().map(|(_, keys)| *keys));
        // one copy to the device for both
        let starts = Tensor::from_slice(&[queries, keys].concat()).to_device(packed.input_ids.device());
        let starts = starts.view([2, -1]);
        Self { lengths, starts_q: starts.get(0), starts_k: starts.get(1), pieces }
    }

    /// Computes causal attention inside each sequence. // q (T, H, D), k and v (T, K, D) -> (T, H * D)
    pub(super) fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (k, v) = (self.keys(k), self.keys(v)); // each (U, K, D)
        let (tokens, heads, dim) = q.size3().expect("q is (T, H, D)");
        let longest = |length: fn(&(i64, i64)) -> i64| self.lengths.iter().map(length).max().unwrap_or(0);
        if flash_takes(q.kind(), dim, q.device()) {
            let y = flash_attention(FlashInput {
                q,
                k: &k,
                v: &v,
                starts_q: &self.starts_q,
                starts_k: &self.starts_k,
                used_k: None,
                longest_q: longest(|(queries, _)| *queries),
                longest_k: longest(|(_, keys)| *keys),
            });
            return y.view([tokens, heads * dim]);
        }
        as_one_launch(LAUNCH, || self.one_by_one(q, &k, &v))
    }

    /// Returns the keys or values of all sequences, in the order of the sequences. // (T, K, D) -> (U, K, D)
    fn keys(&self, row: &Tensor) -> Tensor {
        let Some(pieces) = &self.pieces else { return row.shallow_clone() };
        let parts = row.split_with_sizes(&pieces.lengths, 0);
        Tensor::cat(&pieces.order.iter().map(|&piece| &parts[piece]).collect::<Vec<_>>(), 0)
    }

    fn one_by_one(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let repeat = q.size()[1] / k.size()[1];
        let split = |t: &Tensor, length: fn(&(i64, i64)) -> i64| {
            t.split_with_sizes(self.lengths.iter().map(length).collect::<Vec<_>>(), 0)
        };
        let queries = split(q, |(queries, _)| *queries);
        let (keys, values) = (split(k, |(_, keys)| *keys), split(v, |(_, keys)| *keys));
        let parts: Vec<Tensor> = (queries.iter().zip(keys).zip(values).zip(&self.lengths))
            .map(|(((q, k), v), lengths)| match *lengths {
                (queries, keys) if queries == keys => causal(q, &k, &v, 1, queries, repeat),
                (queries, keys) => behind(q, &k, &v, keys - queries, repeat),
            })
            .collect();
        Tensor::cat(&parts, 0)
    }
}

/// Whether the attention of a row is one call for heads of `head_dim` numbers. It is where flash attention takes them,
/// and on a CPU, which computes the call as one for each sequence.
pub(super) fn together(kind: Kind, head_dim: i64, device: Device) -> bool {
    device == Device::Cpu || flash_takes(kind, head_dim, device)
}

/// Returns 0 and the sums of the first 1, 2, ... lengths, in the format of flash attention.
fn ends(lengths: impl Iterator<Item = i64>) -> Vec<i32> {
    let mut sum = 0;
    let ends = lengths.map(|length| {
        sum += length;
        i32::try_from(sum).expect("a row has fewer than 2^31 tokens")
    });
    std::iter::once(0).chain(ends).collect()
}

/// Computes causal attention of the last tokens of a sequence over `before` earlier ones and themselves.
/// // q (n, H, D), k and v (before + n, K, D) -> (n, H * D)
fn behind(q: &Tensor, k: &Tensor, v: &Tensor, before: i64, repeat: i64) -> Tensor {
    let (queries, heads, dim) = q.size3().expect("q is (n, H, D)");
    let mask = shared_prefix::mask(before, queries, 1, q.kind(), q.device());
    let heads_first = |t: &Tensor| t.transpose(0, 1).unsqueeze(0); // (1, H or K, tokens, D)
    let repeated = |t: &Tensor| heads_first(t).repeat_interleave_self_int(repeat, 1, None);
    let (k, v) = (repeated(k), repeated(v));
    let y = Tensor::scaled_dot_product_attention(&heads_first(q), &k, &v, Some(&mask), 0.0, false, None, false);
    y.squeeze_dim(0).transpose(0, 1).reshape([queries, heads * dim])
}
