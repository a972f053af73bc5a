//! The boilerplate index: how alike the completions of different prompts are.

use crate::rewards::{RewardError, RewardMix, RewardSpec, Sample, span};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The texts of completions and references so far, by the component whose encoder reads them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boilerplate {
    completions: BTreeMap<String, MeanCosine>,
    references: BTreeMap<String, MeanCosine>,
}

/// The mean cosine of pairs of unit vectors that belong to different prompts.
///
/// With `S` the sum of all vectors and `S_p` that of a prompt's, the sum over such pairs is `|S|^2 - sum |S_p|^2`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeanCosine {
    sum: Vec<f64>,
    /// Sum over prompts of the squared length of the prompt's sum.
    within: f64,
    count: f64,
    /// Sum over prompts of the squared number of vectors.
    count_within: f64,
    prompts: u64,
}

impl MeanCosine {
    /// Adds the vectors of a prompt.
    fn add(&mut self, vectors: &[Vec<f32>]) {
        let Some(first) = vectors.first() else { return };
        let mut of_prompt = vec![0.0; first.len()];
        for vector in vectors {
            of_prompt.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        self.sum.resize(of_prompt.len(), 0.0);
        self.sum.iter_mut().zip(&of_prompt).for_each(|(sum, x)| *sum += x);
        self.within += of_prompt.iter().map(|x| x * x).sum::<f64>();
        self.count += vectors.len() as f64;
        self.count_within += (vectors.len() as f64).powi(2);
        self.prompts += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.sum.resize(self.sum.len().max(other.sum.len()), 0.0);
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, x)| *sum += x);
        self.within += other.within;
        self.count += other.count;
        self.count_within += other.count_within;
        self.prompts += other.prompts;
    }

    /// Returns the mean; `None` for fewer than two prompts.
    fn mean(&self) -> Option<f64> {
        let pairs = self.count.powi(2) - self.count_within;
        (self.prompts > 1).then(|| (self.sum.iter().map(|x| x * x).sum::<f64>() - self.within) / pairs)
    }
}

impl Boilerplate {
    /// Adds the completions of one prompt, as each encoder of `mix` sees the component's scope of them.
    ///
    /// # Errors
    /// Fails if an encoder fails.
    pub fn add(
        &mut self,
        mix: &mut RewardMix,
        spec: &BTreeMap<String, RewardSpec>,
        completions: &[Sample<'_>],
    ) -> Result<(), RewardError> {
        for (name, reward) in spec {
            let texts = completions.iter().filter_map(|sample| span(sample.completion, &reward.scope));
            let texts: Vec<String> = texts.filter(|text| !text.trim().is_empty()).map(Cow::into_owned).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let Some(vectors) = mix.embeddings(name, &texts).transpose()? else { continue };
            self.completions.entry(name.clone()).or_default().add(&vectors);
            let reference =
                completions.first().and_then(|sample| sample.reference).filter(|text| !text.trim().is_empty());
            if let Some(vectors) = reference.and_then(|text| mix.embeddings(name, &[text])).transpose()? {
                self.references.entry(name.clone()).or_default().add(&vectors);
            }
        }
        Ok(())
    }

    /// Adds what other prompts measured.
    pub fn merge(&mut self, other: Self) {
        for (own, others) in [(&mut self.completions, other.completions), (&mut self.references, other.references)] {
            for (name, more) in others {
                own.entry(name).or_default().merge(&more);
            }
        }
    }

    /// Returns by component the mean cosine between completions of different prompts minus that of their references,
    /// and the number of prompts.
    pub fn indices(&self) -> BTreeMap<&str, (f64, u64)> {
        let index = |(name, completions): (&'_ String, &MeanCosine)| {
            Some((completions.mean()? - self.references.get(name)?.mean()?, completions.prompts))
        };
        self.completions.iter().filter_map(|entry| Some((entry.0.as_str(), index(entry)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_pairs_of_different_prompts() {
        let (x, y, z) = (vec![1.0, 0.0], vec![0.0, 1.0], vec![0.6, 0.8]);
        let mut found = MeanCosine::default();
        assert_eq!(found.mean(), None);
        found.add(&[x.clone(), y.clone()]);
        assert_eq!(found.mean(), None, "pairs of one prompt do not count");
        found.add(&[z]);
        let mut more = MeanCosine::default();
        more.add(&[x]);
        more.add(&[]);
        found.merge(&more);
        // x z, y z, x x, y x, z x
        assert!((found.mean().unwrap() - (0.6 + 0.8 + 1.0 + 0.0 + 0.6) / 5.0).abs() < 1e-6, "{found:?}");
    }
}
