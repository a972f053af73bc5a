//! Helpers that the components' tests share.

use super::{EncoderError, Reward, RewardValue, Sample, TextEncoder};
use std::sync::{Arc, Mutex};

/// A sample with only a completion.
pub(super) fn sample(completion: &str) -> Sample<'_> {
    Sample { prompt: "", completion, reference: None, answer: None, index: 0, policy: None, row: None }
}

/// Rates one sample.
pub(super) fn rate_one(reward: &mut dyn Reward, sample: Sample<'_>, text: Option<&str>) -> RewardValue {
    let verdicts = reward.rate(&[sample], &[text]).expect("the component can rate");
    let [verdict] = <[RewardValue; 1]>::try_from(verdicts).expect("one verdict a sample");
    verdict
}

/// An encoder that embeds a text as its (hashed) character counts: equal bags of characters are equal vectors.
#[derive(Default)]
pub(super) struct LetterEncoder {
    /// All batches that were embedded.
    pub(super) batches: Arc<Mutex<Vec<Vec<String>>>>,
    pub(super) fails: bool,
    /// The number of characters read from a text; absent: all.
    pub(super) limit: Option<usize>,
    pub(super) truncated: usize,
}

impl TextEncoder for LetterEncoder {
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncoderError> {
        if self.fails {
            return Err("out of memory".into());
        }
        self.batches.lock().unwrap().push(texts.iter().map(|text| (*text).to_owned()).collect());
        let limit = self.limit.unwrap_or(usize::MAX);
        self.truncated = texts.iter().filter(|text| text.chars().count() > limit).count();
        let embed = |text: &&str| {
            let mut counts = vec![0.0_f32; 64];
            text.chars().take(limit).for_each(|c| counts[c as usize % 64] += 1.0);
            let norm = counts.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            counts.iter().map(|x| x / norm).collect()
        };
        Ok(texts.iter().map(embed).collect())
    }

    fn truncated(&self) -> usize {
        self.truncated
    }
}
