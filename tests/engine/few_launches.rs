//! The way in which a GPU computes, compared on the CPU with the plain way: the same values and gradients, in few
//! launches.

use crate::golden;
use crate::shared_prefix::text;
use orchestrate_core::recipe::spec::{LoraSpec, Sampling};
use orchestrate_engine::generation::{Request, Sampled, Stop, sample_groups};
use orchestrate_engine::models::{Decoder, Decoding, Group, LlamaSizes, Packed, PassOptions, TrainingPass};
use orchestrate_engine::torch::LaunchCount;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind, Tensor};

const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

fn lora(dropout: f64, decoder: &Decoder) -> LoraSpec {
    // a scale that is not a power of two, so that it rounds
    LoraSpec { rank: 4, alpha: 7.0, dropout, rslora: false, target_modules: decoder.linear_names() }
}

/// Returns a decoder whose adapters have an effect, or one whose weights are trained.
fn decoder(name: &str, dropout: Option<f64>, few_launches: bool) -> Decoder {
    let mut decoder = Decoder::load(&golden::path(&format!("decoders/{name}")), Kind::Float, Device::Cpu).unwrap();
    decoder.set_few_launches(few_launches);
    match dropout {
        Some(dropout) => {
            decoder.add_lora(&lora(dropout, &decoder), 3).unwrap();
            tch::manual_seed(5);
            for (_, tensor) in decoder.trainable() {
                let _ = tch::no_grad(|| tensor.shallow_clone().normal_(0.0, 0.1));
            }
        }
        None => decoder.unfreeze(),
    }
    decoder
}

/// Returns rows of every structure: documents of several lengths, documents of one length, and prompts with their
/// completions.
fn rows() -> Vec<(&'static str, Packed)> {
    let documents: Vec<Vec<i64>> = [5, 1, 19, 7, 7].map(|length| text(length, length)).to_vec();
    let equal: Vec<Vec<i64>> = (1..4).map(|seed| text(seed, 6)).collect();
    let (first, second) = (text(9, 9), text(1, 1));
    let completions: Vec<Vec<i64>> = [5, 1, 7, 7, 3].map(|length| text(length + 20, length)).to_vec();
    let groups = [
        Group { prompt: &first, completions: completions.iter().map(Vec::as_slice).collect() },
        Group { prompt: &second, completions: vec![&completions[0]] },
    ];
    vec![
        ("documents", Packed::new(&documents, Device::Cpu)),
        ("documents of one length", Packed::new(&equal, Device::Cpu)),
        ("groups", Packed::grouped(&groups, Device::Cpu)),
    ]
}

/// Returns the hidden states of a pass, and the gradients of a fixed projection of them.
fn pass(decoder: &Decoder, packed: &Packed, options: PassOptions) -> (Tensor, BTreeMap<String, Tensor>) {
    let pass = TrainingPass::new(decoder, packed, options);
    let hidden = pass.hidden().shallow_clone();
    let count: i64 = hidden.size().iter().product();
    let weights = Tensor::arange(count, (Kind::Float, Device::Cpu)).sin().view_as(&hidden) * 0.05;
    (&hidden * weights).sum(Kind::Float).backward();
    let values = hidden.detach();
    drop(hidden);
    pass.finish();
    let trained = decoder.trainable().into_iter().filter(|(_, tensor)| tensor.grad().defined());
    let gradients = trained.map(|(name, mut tensor)| {
        let gradient = tensor.grad().copy();
        tensor.zero_grad();
        (name, gradient)
    });
    (values, gradients.collect())
}

/// Repeats a comparison of passes with dropout until it holds, because other tests of the process may draw from the
/// same generator of libtorch meanwhile. A comparison that never holds is a failure.
fn undisturbed(compare: impl Fn() -> Result<(), String>) {
    let mut failure = String::new();
    for _ in 0..20 {
        match compare() {
            Ok(()) => return,
            Err(difference) => failure = difference,
        }
    }
    panic!("{failure}");
}

/// Returns what differs between a pass in few launches and a plain one.
fn compared(few: &Decoder, plain: &Decoder, packed: &Packed, options: PassOptions) -> Result<(), String> {
    let (ours, theirs) = (pass(few, packed, options), pass(plain, packed, options));
    let difference = golden::largest_difference(&ours.0, &theirs.0);
    if difference >= 1e-5 {
        return Err(format!("the hidden states differ by {difference}"));
    }
    assert!(ours.1.keys().eq(theirs.1.keys()) && !ours.1.is_empty());
    for (weight, gradient) in &theirs.1 {
        let difference = golden::largest_difference(&ours.1[weight], gradient);
        if difference >= 1e-5 {
            return Err(format!("the gradient of {weight} differs by {difference}"));
        }
    }
    Ok(())
}

#[test]
fn values_and_gradients_are_those_of_the_plain_way() {
    for name in ARCHITECTURES {
        for dropout in [None, Some(0.0), Some(0.3)] {
            let (few, plain) = (decoder(name, dropout, true), decoder(name, dropout, false));
            for (structure, packed) in rows() {
                let options = PassOptions { dropout_seed: dropout.map(|_| 7), checkpointing: false };
                let case = |what: String| format!("{name}, dropout {dropout:?}, {structure}: {what}");
                undisturbed(|| compared(&few, &plain, &packed, options).map_err(case));
            }
        }
    }
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    let decoder = decoder("qwen3", Some(0.3), true);
    for (structure, packed) in rows() {
        let with = |checkpointing| pass(&decoder, &packed, PassOptions { dropout_seed: Some(7), checkpointing });
        let same = || if with(true) == with(false) { Ok(()) } else { Err(format!("{structure}: bits differ")) };
        undisturbed(same);
    }
}

#[test]
fn sampling_draws_the_tokens_of_the_cpus_kernels() {
    for name in ARCHITECTURES {
        let mut few = decoder(name, Some(0.0), true);
        let requests: Vec<Request<'_>> = [&[3i64, 4, 5, 6, 7][..], &[9, 8], &[1; 17]]
            .into_iter()
            .map(|prompt_ids| Request { prompt_ids, seeds: (0..5).collect() })
            .collect();
        // some end early, so slots are freed and taken again, and removed at the end
        let stop_ids: BTreeSet<i64> = (0..30).collect();
        for sampling in [Sampling::plain(20), Sampling { temperature: 0.0, ..Sampling::plain(9) }] {
            for batch_size in [0, 1, 4] {
                let run = |few: &Decoder, tensors: bool| {
                    let decoding = if tensors { Decoding::with_tensors } else { Decoding::new };
                    let mut groups: Vec<Vec<Sampled>> = vec![Vec::new(); 3];
                    let (stop, ended) = (Stop::ids(&stop_ids), |i: usize, group| groups[i] = group);
                    sample_groups(decoding, few, &requests, &sampling, &stop, batch_size, ended, |_| true).unwrap();
                    groups.concat()
                };
                let (here, there) = (run(&few, false), run(&few, true));
                few.set_records_steps(true);
                assert!(run(&few, true) == there, "a recorded step gives the same bits");
                few.set_records_steps(false);
                assert_eq!((here.len(), there.len()), (15, 15));
                for (x, y) in here.iter().zip(&there) {
                    assert_eq!((&x.ids, x.stop_reason), (&y.ids, y.stop_reason), "{name}, {batch_size} rows");
                    assert!(x.logprobs.iter().zip(&y.logprobs).all(|(x, y)| (x - y).abs() < 1e-5), "{name}");
                }
            }
        }
    }
}

/// Returns a decoder with this number of layers and random weights, with an adapter on every linear layer.
fn of_depth(layers: i64) -> Decoder {
    let sizes = LlamaSizes {
        hidden_size: 64,
        intermediate_size: 96,
        num_hidden_layers: layers,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: 300,
        max_position_embeddings: 128,
        tie_word_embeddings: true,
    };
    let mut decoder = Decoder::random(sizes.config(), Kind::Float, Device::Cpu);
    decoder.add_lora(&lora(0.0, &decoder), 3).unwrap();
    decoder.set_few_launches(true);
    decoder
}

/// Returns the launches of one layer: the difference between decoders of 2 and of 3 layers.
fn of_a_layer(work: impl Fn(&Decoder)) -> i64 {
    let count = |layers| LaunchCount::of(|| work(&of_depth(layers))).total();
    // creating a decoder counts too, so it is taken out
    let of_creation = |layers| LaunchCount::of(|| drop(of_depth(layers))).total();
    (count(3) - of_creation(3)) - (count(2) - of_creation(2))
}

/// Samples three completions of `tokens` tokens with tensor operations.
fn sample(decoder: &Decoder, tokens: usize) {
    let requests = [Request { prompt_ids: &[3, 4, 5], seeds: vec![0, 1, 2] }];
    let (never, sampling) = (BTreeSet::new(), Sampling::plain(tokens));
    let (start, stop) = (Decoding::with_tensors, Stop::ids(&never));
    sample_groups(start, decoder, &requests, &sampling, &stop, 0, |_, _| {}, |_| true).unwrap();
}

/// The numbers are those of today, so that a launch which is added shows. Attention counts as one launch forward. Its
/// backward pass is that of the CPU's own call, with parts that a GPU does not have.
#[test]
fn a_layer_computes_in_few_launches() {
    let rows: BTreeMap<&str, Packed> = rows().into_iter().collect();
    let document = Packed::new(&[text(3, 12)], Device::Cpu);
    let forward = |packed: &Packed| of_a_layer(|decoder| drop(tch::no_grad(|| decoder.hidden(packed))));
    let both = |packed: &Packed| {
        of_a_layer(|decoder| {
            let pass = TrainingPass::new(decoder, packed, PassOptions::default());
            pass.hidden().sum(Kind::Float).backward();
            pass.finish();
        })
    };
    let token = of_a_layer(|decoder| sample(decoder, 4)) - of_a_layer(|decoder| sample(decoder, 3));
    let found = BTreeMap::from([
        ("documents, forward", forward(&rows["documents"])),
        ("documents of one length, forward", forward(&rows["documents of one length"])),
        ("groups, forward", forward(&rows["groups"])),
        ("one document, forward and backward", both(&document)),
        ("a token of every row", token),
    ]);
    let expected = BTreeMap::from([
        ("documents, forward", 33),
        ("documents of one length, forward", 33),
        ("groups, forward", 35),
        ("one document, forward and backward", 120),
        ("a token of every row", 35),
    ]);
    assert_eq!(found, expected);
}
