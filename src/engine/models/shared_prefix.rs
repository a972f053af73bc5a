//! Attention in a row where completions share their prompt. The prompt's keys and values are computed once, and
//! completions do not attend to each other.

use super::kv_cache::padded_columns;
use super::layers::causal;
use super::packed::Packed;
use tch::{Device, Kind, Tensor};

/// A prompt with its completions in a packed row.
pub(super) struct SharedPrefix {
    /// Number of tokens of the prompt.
    prompt: i64,
    /// Runs of adjacent completions of equal length, each computed as a batch.
    runs: Vec<Run>,
    /// Mask that is added to the scores of the longest completion, of length L. Query heads that share a key are
    /// adjacent rows. A shorter completion uses its upper left part. // (L * H/K, P + L)
    mask: Tensor,
}

struct Run {
    completions: i64,
    length: i64,
}

/// Returns the groups of a row of [`Packed::grouped`], for a decoder with `heads_per_key` query heads per key head. The
/// result is empty for any other row.
pub(super) fn groups(packed: &Packed, heads_per_key: i64, kind: Kind, device: Device) -> Vec<SharedPrefix> {
    let mut lengths = packed.lengths.iter().copied();
    packed
        .completions
        .iter()
        .map(|&count| {
            let prompt = lengths.next().expect("a prompt comes before its completions");
            let completions: Vec<i64> = lengths.by_ref().take(count).collect();
            let longest = completions.iter().copied().max().unwrap_or(0);
            let runs = completions
                .chunk_by(i64::eq)
                .map(|run| Run { completions: i64::try_from(run.len()).expect("counts fit i64"), length: run[0] })
                .collect();
            SharedPrefix { prompt, runs, mask: mask(prompt, longest, heads_per_key, kind, device) }
        })
        .collect()
}

/// Returns the mask of attention scores. It is 0 where token i of a completion may attend to a key: the prompt, and the
/// completion up to i. Elsewhere it is minus infinity. // (L * H/K, P + L)
pub(super) fn mask(prompt: i64, longest: i64, heads_per_key: i64, kind: Kind, device: Device) -> Tensor {
    let rows = Tensor::arange(longest * heads_per_key, (Kind::Int64, device)).floor_divide_scalar(heads_per_key);
    let columns = Tensor::arange(padded_columns(prompt + longest), (Kind::Int64, device)) - prompt;
    let unseen = columns.unsqueeze(0).gt_tensor(&rows.unsqueeze(1)); // (L * H/K, padded)
    let mask = Tensor::zeros(unseen.size(), (kind, device)).masked_fill(&unseen, f64::NEG_INFINITY);
    mask.narrow(1, 0, prompt + longest)
}

/// Computes the attention of a whole row. // q (T, H, D), k and v (T, K, D) -> (T, H * D)
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, groups: &[SharedPrefix]) -> Tensor {
    let (_, heads, _) = q.size3().expect("q is (T, H, D)");
    let (_, key_heads, _) = k.size3().expect("k is (T, K, D)");
    let sizes: Vec<i64> = groups
        .iter()
        .flat_map(|group| {
            std::iter::once(group.prompt).chain(group.runs.iter().map(|run| run.completions * run.length))
        })
        .collect();
    let split = |t: &Tensor| t.split_with_sizes(&sizes, 0).into_iter();
    let mut pieces = split(q).zip(split(k)).zip(split(v)).map(|((q, k), v)| (q, k, v));
    let mut parts = Vec::with_capacity(sizes.len());
    for group in groups {
        let (q, k, v) = pieces.next().expect("there is a piece for every prompt");
        parts.push(causal(&q, &k, &v, 1, group.prompt, heads / key_heads));
        let prefix = Keys { k, v };
        parts.extend(group.runs.iter().zip(pieces.by_ref()).map(|(run, (q, k, v))| {
            let mask =
                group.mask.narrow(0, 0, run.length * (heads / key_heads)).narrow(1, 0, group.prompt + run.length);
            prefix.seen_by(run, &q, &Keys { k, v }, &mask)
        }));
    }
    Tensor::cat(&parts, 0)
}

/// Keys and values of n tokens, each (n, K, D).
struct Keys {
    k: Tensor,
    v: Tensor,
}

impl Keys {
    /// Computes the attention of a run of completions over this prompt and their own keys.
    /// // (n * L, H, D) -> (n * L, H * D)
    fn seen_by(&self, run: &Run, q: &Tensor, own: &Keys, mask: &Tensor) -> Tensor {
        let &Run { completions: n, length } = run;
        let (prompt, key_heads, dim) = self.k.size3().expect("keys are (P, K, D)");
        let heads = q.size()[1];
        // the heads that share a key take the place of query positions, so no key is copied for them
        let q = q.view([n, length, key_heads, heads / key_heads, dim]).transpose(1, 2).reshape([
            n,
            key_heads,
            length * (heads / key_heads),
            dim,
        ]); // (n, K, L * H/K, D)
        let joined = |prefix: &Tensor, own: &Tensor| {
            let prefix = prefix.transpose(0, 1).unsqueeze(0).expand([n, key_heads, prompt, dim], false);
            Tensor::cat(&[prefix, own.view([n, length, key_heads, dim]).transpose(1, 2)], 2) // (n, K, P + L, D)
        };
        let (k, v) = (joined(&self.k, &own.k), joined(&self.v, &own.v));
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, Some(mask), 0.0, false, None, false);
        y.view([n, key_heads, length, heads / key_heads, dim]).transpose(1, 2).reshape([n * length, heads * dim])
    }
}
