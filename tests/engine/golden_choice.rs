//! Log-likelihoods of options compared with the logits of Hugging Face's models.

use crate::golden::{path, tensors};
use orchestrate_engine::choice::loglikelihoods;
use orchestrate_engine::models::{Decoder, Group};
use tch::{Device, Kind};

/// Splits each row of the golden inputs into a prompt and a rest. Options are the first 1, 2, ... tokens of the rest,
/// so Hugging Face's logits of the whole row give the log-likelihood of each.
#[test]
fn loglikelihoods_are_those_of_hugging_faces_logits() {
    for name in ["llama", "llama_tied", "llama3_rope", "qwen2", "qwen3"] {
        let decoder = Decoder::load(&path(&format!("decoders/{name}")), Kind::Float, Device::Cpu).unwrap();
        let golden = tensors(&format!("decoders/{name}/golden.safetensors"));
        let rows: Vec<Vec<i64>> = Vec::<Vec<i64>>::try_from(&golden["input_ids"]).unwrap();
        let logprobs = golden["logits"].log_softmax(-1, Kind::Double); // (B, T, V)
        let mut groups = Vec::new();
        let mut expected = Vec::new();
        for (row, ids) in rows.iter().enumerate() {
            let prompt = ids.len() / 2 + row; // prompts of different lengths
            let lengths: Vec<usize> = (1..=ids.len() - prompt).rev().collect();
            let completions: Vec<&[i64]> = lengths.iter().map(|length| &ids[prompt..prompt + length]).collect();
            let token = |t: usize| {
                let at = [row, t - 1, usize::try_from(ids[t]).unwrap()].map(|i| i64::try_from(i).unwrap());
                logprobs.double_value(&at)
            };
            expected
                .push(lengths.iter().map(|length| (prompt..prompt + length).map(token).sum()).collect::<Vec<f64>>());
            groups.push(Group { prompt: &ids[..prompt], completions });
        }
        let found = loglikelihoods(&decoder, &groups);
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), expected.iter().map(Vec::len).collect::<Vec<_>>());
        assert!(expected[0].len() > 2, "{} options", expected[0].len());
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-4, "{name}: {found}, Hugging Face {expected}");
        }
        // one group at a time gives the same as all together
        let alone: Vec<Vec<f64>> = groups.chunks(1).flat_map(|group| loglikelihoods(&decoder, group)).collect();
        let differences = found.iter().flatten().zip(alone.iter().flatten()).map(|(one, other)| (one - other).abs());
        assert!(differences.fold(0.0, f64::max) < 1e-4);
    }
}
