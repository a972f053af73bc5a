//! Sampling: draws, stops, limits, and independence of the batch.

use crate::golden;
use orchestrate::recipe::spec::Sampling;
use orchestrate_engine::head;
use orchestrate_engine::models::{Decoder, Packed};
use orchestrate_engine::rollout::{Request, Sampled, sample};
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

const SAMPLING: Sampling =
    Sampling { max_prompt_tokens: 100, max_new_tokens: 20, temperature: 1.0, top_p: 1.0, top_k: 0 };

fn decoder() -> Decoder {
    Decoder::load(&golden::path("decoders/llama"), Kind::Float, Device::Cpu).unwrap()
}

fn run(decoder: &Decoder, requests: &[(&[i64], &[u64])], sampling: &Sampling, stop: &[i64]) -> Vec<Sampled> {
    let requests: Vec<Request<'_>> =
        requests.iter().map(|(prompt_ids, seeds)| Request { prompt_ids, seeds: seeds.to_vec() }).collect();
    sample(decoder, &requests, sampling, &stop.iter().copied().collect::<BTreeSet<i64>>())
}

#[test]
fn a_completion_does_not_depend_on_its_neighbours() {
    let decoder = decoder();
    let (a, b): (&[i64], &[i64]) = (&[3, 4, 5, 6, 7, 8, 9], &[11, 12]);
    // stops at different times, prompts of different lengths, twelve rows in all
    let stop: Vec<i64> = (0..40).collect();
    let seeds_a: Vec<u64> = (0..6).collect();
    let seeds_b: Vec<u64> = (100..106).collect();
    let together = run(&decoder, &[(a, &seeds_a), (b, &seeds_b)], &SAMPLING, &stop);
    let alone: Vec<Sampled> = seeds_a
        .iter()
        .map(|&s| (a, s))
        .chain(seeds_b.iter().map(|&s| (b, s)))
        .flat_map(|(prompt, seed)| run(&decoder, &[(prompt, &[seed])], &SAMPLING, &stop))
        .collect();
    for (i, (x, y)) in together.iter().zip(&alone).enumerate() {
        assert_eq!(x.ids, y.ids, "completion {i}");
        assert_eq!(x.stop_reason, y.stop_reason);
    }
    assert!(together.iter().any(|s| !s.stop_reason.truncated()) && together.iter().any(|s| s.ids.len() > 3));
}

#[test]
fn the_kept_logprobs_are_those_of_a_full_pass() {
    let decoder = decoder();
    let prompt: &[i64] = &[3, 4, 5, 6, 7];
    let sampling = Sampling { temperature: 0.7, ..SAMPLING };
    for sampled in run(&decoder, &[(prompt, &[1, 2, 3])], &sampling, &[]) {
        assert!(sampled.stop_reason.truncated() && sampled.ids.len() == 20);
        let whole = [prompt, &sampled.ids].concat();
        let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&[whole], Device::Cpu))).narrow(0, 4, 20);
        let full = head::logprobs(&decoder, &hidden, &Tensor::from_slice(&sampled.ids), 0.7).logprobs;
        let difference = golden::largest_difference(&full, &Tensor::from_slice(&sampled.logprobs));
        assert!(difference < 1e-4, "{difference}");
    }
}

#[test]
fn greedy_takes_the_most_likely_token() {
    let decoder = decoder();
    let prompt: &[i64] = &[3, 4, 5];
    let sampled = &run(&decoder, &[(prompt, &[1])], &Sampling { temperature: 0.0, ..SAMPLING }, &[])[0];
    let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&[prompt], Device::Cpu))).narrow(0, 2, 1);
    assert_eq!(sampled.ids[0], decoder.logits(&hidden).argmax(-1, false).int64_value(&[0]));
    let top_1 = &run(&decoder, &[(prompt, &[9])], &Sampling { top_k: 1, ..SAMPLING }, &[])[0];
    assert_eq!(top_1.ids, sampled.ids, "drawing from the single most likely token is greedy");
}

#[test]
fn draws_follow_the_distribution_and_top_p_cuts_its_tail() {
    let decoder = decoder();
    let prompt: &[i64] = &[3, 4, 5];
    let seeds: Vec<u64> = (0..2000).collect();
    let once = Sampling { max_new_tokens: 1, temperature: 2.0, ..SAMPLING };
    let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&[prompt], Device::Cpu))).narrow(0, 2, 1);
    let probabilities = (decoder.logits(&hidden) / 2.0).softmax(-1, Kind::Double).squeeze();
    let likeliest = probabilities.argmax(-1, false).int64_value(&[]);
    let expected = probabilities.double_value(&[likeliest]);
    let draws = run(&decoder, &[(prompt, &seeds)], &once, &[]);
    let share = draws.iter().filter(|s| s.ids[0] == likeliest).count() as f64 / 2000.0;
    let error = (expected * (1.0 - expected) / 2000.0).sqrt();
    assert!((share - expected).abs() < 4.0 * error, "drawn {share}, expected {expected} +- {error}");

    let nucleus = run(&decoder, &[(prompt, &seeds)], &Sampling { top_p: 0.5, ..once }, &[]);
    let kept: BTreeSet<i64> = nucleus.iter().map(|s| s.ids[0]).collect();
    let all: BTreeSet<i64> = draws.iter().map(|s| s.ids[0]).collect();
    assert!(kept.len() < all.len(), "top_p = 0.5 cut nothing");
    let (sorted, order) = probabilities.sort(-1, true);
    let needed = sorted.cumsum(-1, Kind::Double).lt(0.5).sum(Kind::Int64).int64_value(&[]) + 1;
    let allowed: BTreeSet<i64> = (0..needed).map(|i| order.int64_value(&[i])).collect();
    assert!(kept.is_subset(&allowed), "top_p = 0.5 drew outside the nucleus");
}
