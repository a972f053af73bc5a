//! Draws of the next token of each row.

use super::{DecodingRow, Draws, Request, Stop};
use crate::models::{Decoding, NextLogits};
use orchestrate_core::recipe::spec::Sampling;
use rayon::prelude::*;
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// The next token of each row, with numbers of the policy's distribution over the whole vocabulary at the sampling
/// temperature.
#[derive(Default)]
pub(super) struct Drawn {
    pub(super) ids: Vec<i64>,
    /// The log-probability of each token.
    pub(super) logprobs: Vec<f32>,
    /// The entropy of each distribution, in nats; empty unless it is asked for.
    pub(super) entropies: Vec<f32>,
}

/// Draws the next token of each row. // (B, V) -> B of each
pub(super) fn draw(
    next: &NextLogits,
    draws: Draws<'_>,
    stop: &Stop<'_>,
    decoding: &Decoding<'_>,
    rows: &[DecodingRow],
    requests: &[Request<'_>],
) -> Drawn {
    let Draws { sampling, entropies: with_entropies } = draws;
    let logits = &next.logits;
    let greedy = sampling.temperature == 0.0;
    let penalized = penalized(logits, sampling, stop, rows, requests);
    let from_all = sampling.top_k == 0 && sampling.top_p >= 1.0 && sampling.min_p == 0.0;
    if logits.device() == Device::Cpu && from_all && !greedy && penalized.is_none() {
        return draw_from_all(next, sampling.temperature, with_entropies, decoding);
    }
    let at_temperature = |logits: &Tensor| {
        let scaled = if greedy { logits.shallow_clone() } else { logits / sampling.temperature };
        scaled.log_softmax(-1, Kind::Float) // (B, V)
    };
    let policy = at_temperature(logits);
    let chosen_from = match penalized {
        Some(logits) => at_temperature(&logits),
        None => policy.shallow_clone(),
    };
    let ids = if greedy {
        chosen_from.argmax(-1, false)
    } else {
        pick(&restrict(&chosen_from.exp(), sampling), &next.uniform)
    };
    let logprobs = policy.gather(1, &ids.unsqueeze(1), false).squeeze_dim(1);
    let entropies = with_entropies.then(|| entropies(&policy)); // (B,)
    if logits.device() == Device::Cpu {
        let entropies = entropies.as_ref().map(to_vec).unwrap_or_default();
        return Drawn { ids: to_vec(&ids), logprobs: to_vec(&logprobs), entropies };
    }
    // one read, since each waits for the device; a 64-bit number holds an id and a log-probability as they are
    let columns: Vec<Tensor> = [Some(ids), Some(logprobs), entropies]
        .into_iter()
        .flatten()
        .map(|column| column.to_kind(Kind::Double))
        .collect();
    let read = to_vec::<f64>(&Tensor::stack(&columns, 0).flatten(0, 1));
    let (ids, rest) = read.split_at(rows.len());
    let (logprobs, entropies) = rest.split_at(rows.len());
    let narrow = |numbers: &[f64]| numbers.iter().map(|&number| number as f32).collect();
    let ids = ids.iter().map(|&id| id as i64).collect();
    Drawn { ids, logprobs: narrow(logprobs), entropies: narrow(entropies) }
}

/// Returns the entropies of distributions in nats. A token without probability adds nothing. // (B, V) -> (B,)
fn entropies(logprobs: &Tensor) -> Tensor {
    let terms = logprobs.exp() * logprobs.clamp_min(f64::from(f32::MIN));
    -terms.sum_dim_intlist(-1, false, Kind::Float)
}

/// Draws from the whole distribution on the CPU, which is the usual case. It runs on the threads that decode, since
/// libtorch's own threads would stay awake beside them. // (B, V) -> B of each
fn draw_from_all(next: &NextLogits, temperature: f64, with_entropies: bool, decoding: &Decoding<'_>) -> Drawn {
    let (logits, draws): (_, Vec<f64>) = (&next.logits, to_vec(&next.uniform));
    let vocabulary = usize::try_from(logits.size()[1]).expect("sizes are positive");
    let logits: Vec<f32> = to_vec(&logits.reshape([-1]));
    let temperature = temperature as f32;
    let drawn: Vec<(i64, f32, Option<f32>)> = decoding.install(|| {
        logits
            .par_chunks_exact(vocabulary)
            .zip(draws)
            .map_init(Vec::new, |weights, (logits, uniform)| {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                weights.clear();
                weights.extend(logits.iter().map(|logit| ((logit - largest) / temperature).exp()));
                let (id, total) = pick_here(weights, uniform);
                let chosen = logits[usize::try_from(id).expect("ids are positive")];
                let scaled = |logit: f32| (logit - largest) / temperature;
                let entropy =
                    with_entropies.then(|| entropy_here(logits.iter().map(|&logit| scaled(logit)), weights, total));
                (id, scaled(chosen) - total.ln() as f32, entropy)
            })
            .collect()
    });
    let mut all = Drawn::default();
    for (id, logprob, entropy) in drawn {
        all.ids.push(id);
        all.logprobs.push(logprob);
        all.entropies.extend(entropy);
    }
    all
}

/// Returns the entropy, in nats, of the distribution with these `weights`, which add up to `total`, and their
/// logarithms: `ln(total) - sum(weight * logarithm) / total`.
fn entropy_here(logarithms: impl Iterator<Item = f32>, weights: &[f32], total: f64) -> f32 {
    let positive = logarithms.zip(weights).filter(|(_, weight)| **weight > 0.0);
    let sum: f64 = positive.map(|(logarithm, &weight)| f64::from(weight) * f64::from(logarithm)).sum();
    (total.ln() - sum / total) as f32
}

/// Returns the logits with the repetition penalty (arXiv:1909.05858), and minus infinity for stop tokens that are too
/// early. Returns `None` if neither applies. // (B, V)
fn penalized(
    logits: &Tensor,
    sampling: &Sampling,
    stop: &Stop<'_>,
    rows: &[DecodingRow],
    requests: &[Request<'_>],
) -> Option<Tensor> {
    let early = |row: &DecodingRow| row.sampled.ids.len() < sampling.min_new_tokens;
    let penalty = sampling.repetition_penalty;
    let penalizes = (penalty - 1.0).abs() > f64::EPSILON;
    if !penalizes && !rows.iter().any(early) {
        return None;
    }
    let logits = logits.copy();
    let stop_ids: Vec<i64> = stop.tokens().iter().copied().collect();
    let stop_ids = Tensor::from_slice(&stop_ids).to_device(logits.device());
    for (i, row) in (0..).zip(rows) {
        let mut logits = logits.get(i); // (V,)
        if penalizes {
            let seen: BTreeSet<i64> =
                requests[row.request].prompt_ids.iter().chain(&row.sampled.ids).copied().collect();
            let seen = Tensor::from_slice(&seen.into_iter().collect::<Vec<_>>()).to_device(logits.device());
            let old = logits.index_select(0, &seen);
            let new = (&old / penalty).where_self(&old.gt(0.0), &(&old * penalty));
            let _ = logits.index_copy_(0, &seen, &new);
        }
        if early(row) {
            let _ = logits.index_fill_(0, &stop_ids, f64::NEG_INFINITY);
        }
    }
    Some(logits)
}

/// Sets to zero the probabilities that `top_k`, `top_p` and `min_p` exclude, in this order. // (B, V) -> (B, V)
fn restrict(probabilities: &Tensor, sampling: &Sampling) -> Tensor {
    let vocabulary = probabilities.size()[1];
    let top_k = i64::try_from(sampling.top_k).expect("top_k fits i64");
    let mut kept = probabilities.shallow_clone();
    if top_k > 0 && top_k < vocabulary {
        let (values, _) = kept.topk(top_k, -1, true, true);
        let smallest = values.narrow(1, top_k - 1, 1); // (B, 1)
        kept = kept.masked_fill(&kept.lt_tensor(&smallest), 0.0);
    }
    if sampling.top_p < 1.0 {
        let (sorted, order) = kept.sort(-1, true);
        let before = sorted.cumsum(-1, Kind::Float) - &sorted; // probability of all tokens that are more likely
        let total = sorted.sum_dim_intlist(-1, true, Kind::Float);
        let sorted = sorted.masked_fill(&before.ge_tensor(&(total * sampling.top_p)), 0.0);
        kept = kept.zeros_like().scatter(1, &order, &sorted);
    }
    if sampling.min_p > 0.0 {
        let threshold = kept.amax([-1], true) * sampling.min_p; // (B, 1)
        kept = kept.masked_fill(&kept.lt_tensor(&threshold), 0.0);
    }
    kept
}

/// Returns, for each row, the token at which the running sum exceeds the fraction of the row's total that its draw is.
/// // (B, V), (B,) -> (B,)
fn pick(weights: &Tensor, uniform: &Tensor) -> Tensor {
    if weights.device() == Device::Cpu {
        let ids: Vec<i64> = (0..)
            .zip(to_vec::<f64>(uniform))
            .map(|(row, uniform)| pick_here(&to_vec(&weights.get(row)), uniform).0)
            .collect();
        return Tensor::from_slice(&ids);
    }
    pick_in_parts(weights, uniform)
}

/// Picks tokens like [`pick`], with tensor operations: first a part of the vocabulary, then a token in it. A scan of
/// the whole vocabulary would run on a small share of a GPU. // (B, V), (B,) -> (B,)
fn pick_in_parts(weights: &Tensor, uniform: &Tensor) -> Tensor {
    const PART: i64 = 256;
    let (rows, vocabulary) = weights.size2().expect("weights are (B, V)");
    let missing = (PART - vocabulary % PART) % PART;
    let padded = if missing == 0 { weights.shallow_clone() } else { weights.pad([0, missing], "constant", 0.0) };
    let parts = padded.view([rows, -1, PART]); // (B, parts, 256)
    // the first place whose running sum exceeds the threshold, but none after the last with a weight: rounding may put
    // the threshold there
    let first_above = |sums: &Tensor, weights: &Tensor, threshold: &Tensor| {
        let last =
            (weights.gt(0.0) * Tensor::arange(weights.size()[1], (Kind::Int64, weights.device()))).amax([1], true);
        let above = sums.le_tensor(threshold).sum_dim_intlist(1, true, Kind::Int64); // (B, 1)
        above.minimum(&last)
    };
    let of_parts = parts.sum_dim_intlist(2, false, Kind::Double); // (B, parts)
    let sums = of_parts.cumsum(1, Kind::Double);
    let threshold = sums.narrow(1, sums.size()[1] - 1, 1) * uniform.unsqueeze(1); // (B, 1)
    let part = first_above(&sums, &of_parts, &threshold); // (B, 1)
    let before = sums.gather(1, &part, false) - of_parts.gather(1, &part, false); // (B, 1)
    let inside = parts.gather(1, &part.unsqueeze(2).expand([rows, 1, PART], false), false).squeeze_dim(1); // (B, 256)
    // not below 0, or rounding would let a token without weight be the first above it
    let rest = (threshold - before).clamp_min(0.0);
    let token = first_above(&inside.cumsum(1, Kind::Double), &inside, &rest); // (B, 1)
    (part * PART + token).squeeze_dim(1)
}

/// Picks a token like [`pick`], but for one row, and also returns the row's total. Both passes add up the same parts in
/// the same order, so the running sum ends at exactly the total.
fn pick_here(weights: &[f32], uniform: f64) -> (i64, f64) {
    const PART: usize = 16;
    let sum = |part: &[f32]| f64::from(part.iter().sum::<f32>());
    let total: f64 = weights.chunks(PART).map(sum).sum();
    let threshold = uniform * total;
    let mut before = 0.0;
    for (index, part) in weights.chunks(PART).enumerate() {
        let here = sum(part);
        if before + here > threshold {
            let mut running = 0.0f32;
            let exceeds = |weight: &f32| {
                running += weight;
                before + f64::from(running) > threshold
            };
            let position = part.iter().position(exceeds).expect("the whole part exceeds it");
            return (i64::try_from(index * PART + position).expect("ids fit i64"), total);
        }
        before += here;
    }
    // reached only by rounding, where `uniform` is close to 1
    let last = weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0);
    (i64::try_from(last).expect("ids fit i64"), total)
}

fn to_vec<T: tch::kind::Element + Copy>(tensor: &Tensor) -> Vec<T>
where
    Vec<T>: TryFrom<Tensor>,
    <Vec<T> as TryFrom<Tensor>>::Error: std::fmt::Debug,
{
    Vec::<T>::try_from(tensor.to_device(Device::Cpu)).expect("a vector of the tensor's own type")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pick_is_where_the_running_sum_passes_the_share(
            weights in proptest::collection::vec(prop_oneof![Just(0.0f32), 1e-6f32..1.0], 1..70), uniform in 0.0f64..1.0,
        ) {
            prop_assume!(weights.iter().any(|&weight| weight > 0.0));
            let (id, total) = pick_here(&weights, uniform);
            let id = usize::try_from(id).unwrap();
            prop_assert!(weights[id] > 0.0, "what has no weight is never picked");
            let exact = |end: usize| weights[..end].iter().map(|&weight| f64::from(weight)).sum::<f64>();
            prop_assert!((total - exact(weights.len())).abs() < 1e-5);
            let share = uniform * total;
            prop_assert!(exact(id) <= share + 1e-5 && exact(id + 1) >= share - 1e-5);
        }
    }

    proptest! {
        #[test]
        fn tensor_operations_pick_what_the_processor_picks(
            rows in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![3 => Just(0.0f32), 1 => 1e-6f32..1.0], 700), 1..4),
            draws in proptest::collection::vec(prop_oneof![0.0f64..1.0, Just(0.0), Just(1.0 - f64::EPSILON / 2.0)], 3),
            vocabulary in prop_oneof![Just(700usize), Just(512), Just(256), 1usize..256],
        ) {
            let rows: Vec<&[f32]> = rows.iter().map(|row| &row[..vocabulary]).collect();
            prop_assume!(rows.iter().all(|row| row.iter().any(|&weight| weight > 0.0)));
            let draws = &draws[..rows.len()];
            let weights = Tensor::from_slice(&rows.concat()).view([i64::try_from(rows.len()).unwrap(), -1]);
            let picked: Vec<i64> = to_vec(&pick_in_parts(&weights, &Tensor::from_slice(draws)));
            for ((row, &uniform), &picked) in rows.iter().zip(draws).zip(&picked) {
                let (expected, total) = pick_here(row, uniform);
                let picked = usize::try_from(picked).unwrap();
                prop_assert!(row[picked] > 0.0, "what has no weight is never picked");
                let exact = |end: usize| row[..end].iter().map(|&weight| f64::from(weight)).sum::<f64>();
                // both are right where the share lies on the border of two tokens, up to rounding
                let is_border = (exact(picked) - uniform * total).abs() < 1e-4
                    || (exact(picked + 1) - uniform * total).abs() < 1e-4;
                prop_assert!(i64::try_from(picked).unwrap() == expected || is_border, "{picked}, expected {expected}");
            }
        }
    }

    #[test]
    fn the_largest_share_picks_the_last_weight() {
        let weights = [0.5, 0.25, 0.0];
        assert_eq!(pick_here(&weights, 1.0 - f64::EPSILON / 2.0).0, 1);
        assert_eq!(pick_here(&weights, 0.0).0, 0);
        assert_eq!(pick_here(&[0.0, 1.0], 0.0).0, 1);
    }
}
