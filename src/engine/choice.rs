//! Multiple choice by likelihood, without sampling.
//!
//! The measures for a prompt p and an option o with the tokens `o_1 .. o_n` are:
//!
//! ```text
//! loglikelihood(o) = sum over t of log P(o_t | p, o_1 .. o_(t-1))
//! loglikelihood_accuracy        the right option has the highest loglikelihood(o)
//! loglikelihood_accuracy_norm   the right option has the highest loglikelihood(o) / bytes(o)
//! ```
//!
//! They correspond to `acc` and `acc_norm` of lm-evaluation-harness. The temperature is 1. `bytes` counts the UTF-8
//! bytes of the option's text, which makes the measure independent of the tokenizer. Of equal values the first one
//! wins.
//!
//! lm-evaluation-harness encodes an option together with its prompt. Here an option is encoded by itself, as sampling
//! would continue the prompt. The token that ends the turn is not part of an option.

use crate::head;
use crate::models::{Decoder, Group, Packed};
use orchestrate_core::event::Choice;
use tch::{Kind, Tensor};

/// Returns the log-likelihood of each group's completions after its prompt, in their order. Each prompt is computed
/// once.
pub fn loglikelihoods(decoder: &Decoder, groups: &[Group<'_>]) -> Vec<Vec<f64>> {
    if groups.is_empty() {
        return Vec::new();
    }
    let counts: Vec<i64> = completions(groups).map(|ids| i64::try_from(ids.len()).expect("lengths fit i64")).collect();
    let targets: Vec<i64> = completions(groups).flatten().copied().collect();
    let sums: Vec<f64> = tch::no_grad(|| {
        let packed = Packed::grouped(groups, decoder.device());
        let hidden = packed.predicting(&decoder.hidden(&packed)); // (N, C)
        let targets = Tensor::from_slice(&targets).to_device(decoder.device()); // (N,)
        let logprobs = head::logprobs(decoder, &hidden, &targets, 1.0).logprobs; // (N,)
        logprobs.split_with_sizes(&counts, 0).iter().map(|part| part.sum(Kind::Double).double_value(&[])).collect()
    });
    let mut sums = sums.into_iter();
    groups.iter().map(|group| sums.by_ref().take(group.completions.len()).collect()).collect()
}

fn completions<'a>(groups: &'a [Group<'a>]) -> impl Iterator<Item = &'a [i64]> {
    groups.iter().flat_map(|group| group.completions.iter().copied())
}

/// Evaluates the `loglikelihoods` of options with these `texts`, where `right` is the index of the right option.
pub fn verdict(loglikelihoods: Vec<f64>, texts: &[String], right: usize) -> Choice {
    let per_byte: Vec<f64> = loglikelihoods.iter().zip(texts).map(|(sum, text)| sum / text.len() as f64).collect();
    let (correct, correct_norm) = (highest(&loglikelihoods) == Some(right), highest(&per_byte) == Some(right));
    Choice { loglikelihoods, correct, correct_norm }
}

/// Returns the index of the highest value, the first one if several are equal.
fn highest(values: &[f64]) -> Option<usize> {
    (0..values.len()).rev().max_by(|one, other| values[*one].total_cmp(&values[*other]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_options_are_put_on_a_level_by_their_bytes_and_the_first_of_equals_wins() {
        let texts = ["lung".to_owned(), "the whole heart".to_owned(), "größe".to_owned()];
        let choice = verdict(vec![-4.0, -6.0, -7.0], &texts, 0);
        assert_eq!((choice.correct, choice.correct_norm), (true, false), "-1, -0.4, -1 per byte");
        let choice = verdict(vec![-4.0, -6.0, -7.0], &texts, 1);
        assert_eq!((choice.correct, choice.correct_norm), (false, true));
        let tie = [-8.0, -15.0, -7.0]; // the last has 7 bytes: -2, -1 and -1 per byte
        assert!(verdict(tie.to_vec(), &texts, 1).correct_norm && !verdict(tie.to_vec(), &texts, 2).correct_norm);
        assert!(verdict(vec![-1.0, -1.0], &texts[..2], 0).correct);
        assert!(!verdict(vec![-1.0, -1.0], &texts[..2], 1).correct);
    }
}
