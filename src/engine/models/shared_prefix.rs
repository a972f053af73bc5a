//! Attention in a row where completions share their prompt: its keys and values are computed once, and no completion sees
//! another.

use super::layers::causal;
use super::packed::Packed;
use tch::{Device, Kind, Tensor};

/// A prompt and its completions, as they lie in a packed row.
pub(super) struct SharedPrefix {
    /// Tokens of the prompt.
    prompt: i64,
    /// Neighbouring completions of one length, a batch each.
    runs: Vec<Run>,
    /// Added to the scores of the longest completion, those heads of a token side by side that share a key. A shorter
    /// completion's is its upper left part. // (L * H/K, P + L)
    mask: Tensor,
}

struct Run {
    completions: i64,
    length: i64,
}

/// The groups of a row of [`Packed::grouped`], for a decoder of this many heads per key; none for another row.
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

/// 0 where token i of a completion sees the key, the prompt and the completion up to itself; else minus infinity.
fn mask(prompt: i64, longest: i64, heads_per_key: i64, kind: Kind, device: Device) -> Tensor {
    let rows = Tensor::arange(longest * heads_per_key, (Kind::Int64, device)).floor_divide_scalar(heads_per_key);
    let columns = Tensor::arange(prompt + longest, (Kind::Int64, device)) - prompt;
    let unseen = columns.unsqueeze(0).gt_tensor(&rows.unsqueeze(1)); // (L * H/K, P + L)
    Tensor::zeros(unseen.size(), (kind, device)).masked_fill(&unseen, f64::NEG_INFINITY)
}

/// Queries (T, H, D), keys and values (T, K, D) of a whole row -> (T, H * D).
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

/// Keys and values of some tokens, each (n, K, D).
struct Keys {
    k: Tensor,
    v: Tensor,
}

impl Keys {
    /// What a run of completions with these queries and keys attends to here and in itself. // (n * L, H, D) -> (n * L, H * D)
    fn seen_by(&self, run: &Run, q: &Tensor, own: &Keys, mask: &Tensor) -> Tensor {
        let &Run { completions: n, length } = run;
        let (prompt, key_heads, dim) = self.k.size3().expect("keys are (P, K, D)");
        let heads = q.size()[1];
        // the heads that share a key stand where query positions would, so that no key is copied for them
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
