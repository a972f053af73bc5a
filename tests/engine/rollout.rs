//! Sampling: draws, stops, limits, and independence of the batch.

use crate::golden;
use crate::project::Project;
use orchestrate_core::event::StopReason;
use orchestrate_core::recipe::spec::Sampling;
use orchestrate_engine::generation::{Draws, Request, Sampled, Stop, sample, sample_groups};
use orchestrate_engine::head;
use orchestrate_engine::models::{Decoder, Decoding, Packed};
use orchestrate_engine::tokenizer::Tokenizer;
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

const SAMPLING: Sampling = Sampling::plain(20);

fn decoder() -> Decoder {
    Decoder::load(&golden::path("decoders/llama"), Kind::Float, Device::Cpu).unwrap()
}

fn run(decoder: &Decoder, requests: &[(&[i64], &[u64])], sampling: &Sampling, stop: &[i64]) -> Vec<Sampled> {
    let requests: Vec<Request<'_>> =
        requests.iter().map(|(prompt_ids, seeds)| Request { prompt_ids, seeds: seeds.to_vec() }).collect();
    sample(decoder, &requests, sampling, &Stop::ids(&stop.iter().copied().collect()), 0)
}

#[test]
fn a_completion_does_not_depend_on_its_neighbours() {
    let decoder = decoder();
    let (a, b): (&[i64], &[i64]) = (&[3, 4, 5, 6, 7, 8, 9], &[11, 12]);
    // stops at different times, prompts of different lengths, twelve rows in total
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
    assert_eq!(together, alone, "tokens or log-probabilities depend on the batch");
    // with a limit on the rows, waiting completions take the places of those that have ended
    for batch_size in [1, 5, 7] {
        let requests = [(a, &seeds_a), (b, &seeds_b)].map(|(ids, s)| Request { prompt_ids: ids, seeds: s.clone() });
        let stop_ids: BTreeSet<i64> = stop.iter().copied().collect();
        let mut groups = vec![Vec::new(); 2];
        let (stop, ended) = (Stop::ids(&stop_ids), |i: usize, group| groups[i] = group);
        sample_groups(Decoding::new, &decoder, &requests, &SAMPLING, &stop, batch_size, ended, |_| true).unwrap();
        assert_eq!(groups.concat(), together, "batches of {batch_size} differ");
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
fn entropies_are_those_of_the_logits_and_change_no_bit_of_the_draws() {
    let decoder = decoder();
    let prompt: &[i64] = &[3, 4, 5, 6, 7];
    let stop_ids: BTreeSet<i64> = (0..20).collect();
    let sampled = |tensors: bool, sampling: &Sampling, entropies: bool| {
        let decoding = if tensors { Decoding::with_tensors } else { Decoding::new };
        let requests = [Request { prompt_ids: prompt, seeds: (0..6).collect() }];
        let mut all = Vec::new();
        let ended = |_, group| all = group;
        let draws = Draws { sampling, entropies };
        sample_groups(decoding, &decoder, &requests, draws, &Stop::ids(&stop_ids), 4, ended, |_| true).unwrap();
        all
    };
    let cases = [
        Sampling { temperature: 0.7, ..SAMPLING },
        Sampling { temperature: 1.3, top_p: 0.5, repetition_penalty: 1.2, min_new_tokens: 3, ..SAMPLING },
        Sampling { temperature: 0.0, ..SAMPLING },
    ];
    for (case, sampling) in cases.iter().enumerate() {
        for tensors in [false, true] {
            let with = sampled(tensors, sampling, true);
            for completion in &with {
                let whole = [prompt, &completion.ids].concat();
                let count = i64::try_from(completion.ids.len()).unwrap();
                let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&[whole], Device::Cpu))).narrow(0, 4, count);
                let temperature = if sampling.temperature == 0.0 { 1.0 } else { sampling.temperature };
                let logprobs = (decoder.logits(&hidden).to_kind(Kind::Double) / temperature).log_softmax(-1, None);
                let entropies = -(logprobs.exp() * logprobs).sum_dim_intlist(-1, false, None);
                let found = Tensor::from_slice(&completion.entropies);
                let difference = golden::largest_difference(&entropies, &found);
                assert!(difference < 1e-4, "case {case}: {difference}");
            }
            let kept = with.into_iter().map(|completion| Sampled { entropies: Vec::new(), ..completion });
            assert_eq!(kept.collect::<Vec<_>>(), sampled(tensors, sampling, false), "case {case}");
        }
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

#[test]
fn tensor_operations_sample_what_the_cpu_kernels_do() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let mut decoder =
            Decoder::load(&golden::path(&format!("decoders/{architecture}")), Kind::Float, Device::Cpu).unwrap();
        decoder.add_lora(&crate::golden::peft_spec(), 3).unwrap();
        // an adapter that has an effect
        for (_, tensor) in decoder.trainable() {
            tch::no_grad(|| tensor.shallow_clone().copy_(&(Tensor::randn_like(&tensor) * 0.2)));
        }
        let requests: Vec<Request<'_>> = [&[3i64, 4, 5, 6, 7][..], &[9, 8], &[1; 17]]
            .into_iter()
            .map(|prompt_ids| Request { prompt_ids, seeds: (0..4).collect() })
            .collect();
        // some end early, so slots are freed, reused and compacted
        let stop_ids: BTreeSet<i64> = (0..30).collect();
        let run = |tensors: bool| {
            let decoding = if tensors { Decoding::with_tensors } else { Decoding::new };
            let mut groups = vec![Vec::new(); 3];
            let (stop, ended) = (Stop::ids(&stop_ids), |i: usize, group| groups[i] = group);
            sample_groups(decoding, &decoder, &requests, &SAMPLING, &stop, 5, ended, |_| true).unwrap();
            groups.concat()
        };
        let (here, there) = (run(false), run(true));
        for (i, (x, y)) in here.iter().zip(&there).enumerate() {
            assert_eq!((&x.ids, x.stop_reason), (&y.ids, y.stop_reason), "{architecture}, completion {i}");
            for (x, y) in x.logprobs.iter().zip(&y.logprobs) {
                assert!((x - y).abs() < 1e-4, "{architecture}, completion {i}: {x} {y}");
            }
        }
        assert!(here.iter().any(|s| s.stop_reason == StopReason::StopToken && s.ids.len() > 2));
    }
}

#[test]
fn bfloat16_weights_decode_as_a_full_pass_reads_them() {
    let decoder = Decoder::load(&golden::path("decoders/llama"), Kind::BFloat16, Device::Cpu).unwrap();
    let prompt: &[i64] = &[3, 4, 5, 6, 7];
    let sampled = &run(&decoder, &[(prompt, &[1])], &SAMPLING, &[])[0];
    let whole = [prompt, &sampled.ids].concat();
    let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&[whole], Device::Cpu))).narrow(0, 4, 20);
    let full = head::logprobs(&decoder, &hidden, &Tensor::from_slice(&sampled.ids), 1.0).logprobs;
    let difference = golden::largest_difference(&full, &Tensor::from_slice(&sampled.logprobs));
    assert!(difference < 0.05, "{difference}");
}

#[test]
fn min_p_draws_only_what_is_likely_enough() {
    let decoder = decoder();
    let prompt: &[i64] = &[3, 4, 5];
    let seeds: Vec<u64> = (0..500).collect();
    let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&[prompt], Device::Cpu))).narrow(0, 2, 1);
    let probabilities = decoder.logits(&hidden).softmax(-1, Kind::Double).squeeze();
    let threshold = 0.3 * probabilities.max().double_value(&[]);
    let once = Sampling { max_new_tokens: 1, min_p: 0.3, ..SAMPLING };
    let drawn: BTreeSet<i64> = run(&decoder, &[(prompt, &seeds)], &once, &[]).iter().map(|s| s.ids[0]).collect();
    assert!(drawn.iter().all(|&id| probabilities.double_value(&[id]) >= threshold - 1e-9));
    let allowed = probabilities.ge(threshold).sum(Kind::Int64).int64_value(&[]);
    assert!(drawn.len() > 1 && i64::try_from(drawn.len()).unwrap() <= allowed);
}

#[test]
fn a_repetition_penalty_changes_what_is_chosen_and_not_the_logprobs_kept() {
    let decoder = decoder();
    let prompt: &[i64] = &[3, 4, 5];
    let greedy = Sampling { temperature: 0.0, max_new_tokens: 30, ..SAMPLING };
    let plain = &run(&decoder, &[(prompt, &[1])], &greedy, &[])[0];
    let penalized = &run(&decoder, &[(prompt, &[1])], &Sampling { repetition_penalty: 1e6, ..greedy }, &[])[0];
    let distinct = |s: &Sampled| s.ids.iter().collect::<BTreeSet<_>>().len();
    assert!(distinct(penalized) > distinct(plain) || distinct(plain) == 30);
    assert!(penalized.ids.iter().all(|id| !prompt.contains(id)), "the prompt's tokens are penalized too");
    let whole = [prompt, &penalized.ids].concat();
    let hidden = tch::no_grad(|| decoder.hidden(&Packed::new(&[whole], Device::Cpu))).narrow(0, 2, 30);
    let full = head::logprobs(&decoder, &hidden, &Tensor::from_slice(&penalized.ids), 1.0).logprobs;
    assert!(golden::largest_difference(&full, &Tensor::from_slice(&penalized.logprobs)) < 1e-4);
}

#[test]
fn a_completion_does_not_end_before_its_minimum() {
    let decoder = decoder();
    let prompt: &[i64] = &[3, 4, 5];
    let stop: Vec<i64> = (0..200).collect();
    let seeds: Vec<u64> = (0..20).collect();
    let short = run(&decoder, &[(prompt, &seeds)], &SAMPLING, &stop);
    assert!(short.iter().any(|s| s.ids.len() < 6));
    let long = run(&decoder, &[(prompt, &seeds)], &Sampling { min_new_tokens: 6, ..SAMPLING }, &stop);
    assert!(long.iter().all(|s| s.ids.len() >= 6 && s.ids[..5].iter().all(|id| !stop.contains(id))));
    assert!(long.iter().any(|s| s.stop_reason == StopReason::StopToken));
}

#[test]
fn a_stop_string_ends_a_completion_as_soon_as_it_is_there() {
    let project = Project::new();
    let tokenizer = Tokenizer::load(&project.path("models/tiny")).unwrap();
    let decoder = Decoder::load(&project.path("models/tiny"), Kind::Float, Device::Cpu).unwrap();
    let prompt: &[i64] = &[3, 4, 5];
    let request = |seed| Request { prompt_ids: prompt, seeds: vec![seed] };
    let long = Sampling { max_new_tokens: 60, min_new_tokens: 60, ..SAMPLING };
    let whole = &sample(&decoder, &[request(5)], &long, &Stop::new(&tokenizer, &long), 0)[0];
    // a character that occurs in the completion
    let text = tokenizer.decode(&whole.ids);
    let wanted: String = text.chars().filter(char::is_ascii_graphic).skip(3).take(1).collect();
    let end = (1..=60).find(|&n| tokenizer.decode(&whole.ids[..n]).contains(&wanted)).expect("it stands there");
    let stopping = Sampling { stop_strings: vec!["no such text".to_owned(), wanted.clone()], ..long };
    let stopped = &sample(&decoder, &[request(5)], &stopping, &Stop::new(&tokenizer, &stopping), 0)[0];
    assert_eq!(stopped.ids, whole.ids[..end], "it ends right after {wanted:?}");
    assert_eq!(stopped.stop_reason, StopReason::StopString);
    assert_eq!(whole.stop_reason, StopReason::Length);
}
