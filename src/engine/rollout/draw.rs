//! Drawing the next token of each row.

use super::{Request, Row, Stop};
use orchestrate::recipe::spec::Sampling;
use rand::RngExt as _;
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// The next token of each row and its log-probability. // (B, V) -> B of each
pub(super) fn draw(
    logits: &Tensor,
    sampling: &Sampling,
    stop: &Stop<'_>,
    rows: &mut [Row],
    requests: &[Request<'_>],
) -> (Vec<i64>, Vec<f32>) {
    let greedy = sampling.temperature == 0.0;
    let at_temperature = |logits: &Tensor| {
        let scaled = if greedy { logits.shallow_clone() } else { logits / sampling.temperature };
        scaled.log_softmax(-1, Kind::Float) // (B, V)
    };
    let policy = at_temperature(logits);
    let chosen_from = match penalized(logits, sampling, stop, rows, requests) {
        Some(logits) => at_temperature(&logits),
        None => policy.shallow_clone(),
    };
    let ids = if greedy {
        chosen_from.argmax(-1, false)
    } else {
        let uniform: Vec<f64> = rows.iter_mut().map(|row| row.rng.random::<f64>()).collect();
        pick(&restrict(&chosen_from.exp(), sampling), &uniform)
    };
    let logprobs = policy.gather(1, &ids.unsqueeze(1), false).squeeze_dim(1);
    (to_vec(&ids), to_vec(&logprobs))
}

/// The logits with the repetition penalty (arXiv:1909.05858) and without the stop tokens that come too early; absent when
/// neither changes anything. // (B, V)
fn penalized(
    logits: &Tensor,
    sampling: &Sampling,
    stop: &Stop<'_>,
    rows: &[Row],
    requests: &[Request<'_>],
) -> Option<Tensor> {
    let early = |row: &Row| row.sampled.ids.len() < sampling.min_new_tokens;
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

/// Zeroes what `top_k`, `top_p` and `min_p` exclude, in this order. // (B, V) -> (B, V)
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
        let before = sorted.cumsum(-1, Kind::Float) - &sorted; // probability of all that are more likely
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

/// The token at which the running sum of each row exceeds its share `uniform` of the row's total. // (B, V), B -> (B,)
fn pick(weights: &Tensor, uniform: &[f64]) -> Tensor {
    if weights.device() == Device::Cpu {
        let ids: Vec<i64> =
            (0..).zip(uniform).map(|(row, &uniform)| pick_here(&to_vec(&weights.get(row)), uniform)).collect();
        return Tensor::from_slice(&ids);
    }
    let cumulative = weights.cumsum(-1, Kind::Double); // (B, V)
    let last = cumulative.size()[1] - 1;
    let uniform = Tensor::from_slice(uniform).to_device(cumulative.device()).unsqueeze(1);
    let threshold = uniform * cumulative.narrow(1, last, 1); // (B, 1)
    cumulative.le_tensor(&threshold).sum_dim_intlist(-1, false, Kind::Int64).clamp_max(last)
}

fn pick_here(weights: &[f32], uniform: f64) -> i64 {
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let threshold = uniform * total;
    let mut sum = 0.0;
    let mut chosen = 0;
    for (id, &weight) in (0..).zip(weights) {
        if weight > 0.0 {
            sum += f64::from(weight);
            chosen = id; // rounding never picks what was excluded
            if sum > threshold {
                break;
            }
        }
    }
    chosen
}

fn to_vec<T: tch::kind::Element + Copy>(tensor: &Tensor) -> Vec<T>
where
    Vec<T>: TryFrom<Tensor>,
    <Vec<T> as TryFrom<Tensor>>::Error: std::fmt::Debug,
{
    Vec::<T>::try_from(tensor.to_device(Device::Cpu)).expect("a vector of the tensor's own type")
}
