//! `semantic`: cosine similarity of embeddings with the reference (arXiv:2509.13081).

use super::{EncoderError, Reward, Sample, TextEncoder, Verdict};
use std::collections::{BTreeSet, HashMap};
use std::error::Error;

/// The component. A completion without the text, or with an empty one, is 0; `baseline` b rescales the cosine to
/// `clip((cos - b) / (1 - b), 0, 1)`, which changes more than an offset would: a constant cancels within a GRPO group.
pub(super) struct Semantic {
    encoder: Box<dyn TextEncoder>,
    baseline: Option<f64>,
    /// Embeddings of the references met so far, by text: the rows of the data set come again and again.
    references: HashMap<String, Vec<f32>>,
}

impl Semantic {
    pub(super) fn new(encoder: Box<dyn TextEncoder>, baseline: Option<f64>) -> Self {
        Self { encoder, baseline, references: HashMap::new() }
    }

    /// Embeds in one batch, each text once, the new references and the texts of the comparable `pairs`; returns the
    /// texts' embeddings.
    fn embed<'a>(&mut self, pairs: &[Pair<'a>]) -> Result<HashMap<&'a str, Vec<f32>>, EncoderError> {
        let mut references = BTreeSet::new();
        let mut texts = BTreeSet::new();
        for pair in pairs {
            if let Pair::Comparable { reference, text } = *pair {
                texts.insert(text);
                if !self.references.contains_key(reference) {
                    references.insert(reference);
                }
            }
        }
        let batch: Vec<&str> = references.iter().chain(&texts).copied().collect();
        if batch.is_empty() {
            return Ok(HashMap::new());
        }
        let mut embeddings = self.encoder.embed(&batch)?;
        assert_eq!(embeddings.len(), batch.len(), "an encoder gives one embedding a text");
        let of_texts = embeddings.split_off(references.len());
        self.references.extend(references.into_iter().map(str::to_owned).zip(embeddings));
        Ok(texts.into_iter().zip(of_texts).collect())
    }

    fn compare(&self, reference: &[f32], text: &[f32]) -> Verdict {
        assert_eq!(reference.len(), text.len(), "an encoder gives embeddings of one length");
        let dot: f64 = reference.iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        if !dot.is_finite() {
            return Verdict::Missing("the encoder's embedding is not finite".to_owned());
        }
        let cosine = dot.clamp(-1.0, 1.0);
        Verdict::Value(match self.baseline {
            Some(baseline) => ((cosine - baseline) / (1.0 - baseline)).clamp(0.0, 1.0),
            None => cosine,
        })
    }
}

/// What is to be done with a sample.
enum Pair<'a> {
    NoReference,
    NoText,
    Comparable { reference: &'a str, text: &'a str },
}

impl<'a> Pair<'a> {
    fn new(reference: Option<&'a str>, text: Option<&'a str>) -> Self {
        let filled = |text: &&str| !text.trim().is_empty();
        match (reference.filter(filled), text.filter(filled)) {
            (None, _) => Self::NoReference,
            (Some(_), None) => Self::NoText,
            (Some(reference), Some(text)) => Self::Comparable { reference, text },
        }
    }
}

impl Reward for Semantic {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Vec<Verdict> {
        let pairs: Vec<Pair<'_>> =
            samples.iter().zip(texts).map(|(sample, text)| Pair::new(sample.reference, *text)).collect();
        let embeddings = self.embed(&pairs).map_err(|error| format!("the encoder failed: {}", with_sources(&*error)));
        let verdict = |pair: &Pair<'_>| match (pair, &embeddings) {
            (Pair::NoReference, _) => Verdict::Missing("the row has no reference".to_owned()),
            (Pair::NoText, _) => Verdict::Value(0.0),
            (Pair::Comparable { .. }, Err(reason)) => Verdict::Missing(reason.clone()),
            (Pair::Comparable { reference, text }, Ok(of_texts)) => {
                self.compare(&self.references[*reference], &of_texts[text])
            }
        };
        pairs.iter().map(verdict).collect()
    }
}

/// The message of `error` and of everything behind it.
fn with_sources(error: &dyn Error) -> String {
    let sources = std::iter::successors(Some(error), |error| (*error).source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{LetterEncoder, rate_one, sample};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn semantic(baseline: Option<f64>) -> Semantic {
        Semantic::new(Box::new(LetterEncoder::default()), baseline)
    }

    fn value(verdict: &Verdict) -> f64 {
        match verdict {
            Verdict::Value(value) => *value,
            Verdict::Missing(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn is_the_cosine_with_the_reference() {
        let against = |text| rate_one(&mut semantic(None), Sample { reference: Some("ab"), ..sample("") }, Some(text));
        assert!((value(&against("ba")) - 1.0).abs() < 1e-6);
        assert!((value(&against("a")) - 0.5_f64.sqrt()).abs() < 1e-6);
        assert!(value(&against("cd")).abs() < 1e-6);
    }

    #[test]
    fn a_baseline_maps_it_to_0_and_everything_below_too() {
        let row = Sample { reference: Some("ab"), ..sample("") };
        let above = value(&rate_one(&mut semantic(Some(0.5)), row, Some("a")));
        assert!((above - (0.5_f64.sqrt() - 0.5) / 0.5).abs() < 1e-6);
        assert_eq!(rate_one(&mut semantic(Some(0.9)), row, Some("a")), Verdict::Value(0.0));
    }

    #[test]
    fn a_text_the_policy_did_not_write_is_0_and_a_reference_the_row_has_not_is_missing() {
        let row = Sample { reference: Some("ab"), ..sample("") };
        assert_eq!(rate_one(&mut semantic(None), row, None), Verdict::Value(0.0));
        assert_eq!(rate_one(&mut semantic(None), row, Some(" ")), Verdict::Value(0.0));
        assert!(matches!(rate_one(&mut semantic(None), sample(""), Some("a")), Verdict::Missing(_)));
        let blank = Sample { reference: Some(" "), ..sample("") };
        assert!(matches!(rate_one(&mut semantic(None), blank, None), Verdict::Missing(_)));
    }

    #[test]
    fn a_failing_encoder_makes_only_what_needed_it_missing() {
        let mut failing = Semantic::new(Box::new(LetterEncoder { fails: true, ..Default::default() }), None);
        let row = Sample { reference: Some("ab"), ..sample("") };
        let verdicts = failing.rate(&[row, row], &[Some("a"), None]);
        assert_eq!(verdicts, [Verdict::Missing("the encoder failed: out of memory".to_owned()), Verdict::Value(0.0)]);
    }

    #[test]
    fn a_batch_embeds_each_text_once_and_a_reference_only_the_first_time() {
        let batches = Rc::new(RefCell::new(Vec::new()));
        let encoder = LetterEncoder { batches: Rc::clone(&batches), ..Default::default() };
        let mut semantic = Semantic::new(Box::new(encoder), None);
        let row = Sample { reference: Some("ab"), ..sample("") };
        semantic.rate(&[row, row, row], &[Some("x"), Some("y"), Some("x")]);
        semantic.rate(&[row], &[Some("z")]);
        semantic.rate(&[row], &[None]);
        assert_eq!(*batches.borrow(), [vec!["ab", "x", "y"], vec!["z"]]);
    }

    proptest! {
        #[test]
        fn lies_in_its_range_for_any_text(
            text in any::<String>(), reference in any::<String>(), baseline in prop::option::of(-0.5..0.99)
        ) {
            let row = Sample { reference: Some(&reference), ..sample("") };
            match rate_one(&mut semantic(baseline), row, Some(&text)) {
                Verdict::Value(value) if baseline.is_some() => prop_assert!((0.0..=1.0).contains(&value)),
                Verdict::Value(value) => prop_assert!((-1.0..=1.0).contains(&value)),
                Verdict::Missing(_) => prop_assert!(reference.trim().is_empty()),
            }
        }
    }
}
