//! `semantic`: cosine similarity of embeddings with the reference (arXiv:2509.13081).

use super::{EncoderError, Reward, RewardError, Sample, TextEncoder, Verdict};
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;

/// What the embeddings of references may take: those of some hundred thousand rows.
const CAPACITY_BYTES: usize = 256 << 20;

/// The component. A completion without the text, or with an empty one, is 0; `baseline` b rescales the cosine to
/// `clip((cos - b) / (1 - b), 0, 1)`, which changes more than an offset would: a constant cancels within a GRPO group.
pub(super) struct Semantic {
    encoder: Box<dyn TextEncoder>,
    baseline: Option<f64>,
    references: References,
    /// Texts of the last batch that were cut at the encoder's limit.
    truncated: usize,
}

/// Embeddings of the references met so far: the rows of the data set come again and again, completions do not.
struct References {
    /// By text, with the number of texts (0 or 1) that were cut.
    known: HashMap<String, (Arc<[f32]>, usize)>,
    /// What texts and embeddings take, in bytes, and may take. Once it is full it keeps what it has: of rows that come in
    /// turn, a cache that makes room for the newest has forgotten each one when it comes again.
    bytes: usize,
    capacity_bytes: usize,
}

/// The embeddings a batch is rated with, by text.
#[derive(Default)]
struct Embeddings<'a> {
    references: HashMap<&'a str, Arc<[f32]>>,
    texts: HashMap<&'a str, Vec<f32>>,
}

impl References {
    /// The embedding of `reference`, by `encoder` the first time. It is embedded alone, so that its last bits do not
    /// depend on what stood beside it: a stage that resumes, with nothing in here, must compute what it had computed.
    fn get(&mut self, reference: &str, encoder: &mut dyn TextEncoder) -> Result<(Arc<[f32]>, usize), EncoderError> {
        if let Some((embedding, truncated)) = self.known.get(reference) {
            return Ok((Arc::clone(embedding), *truncated));
        }
        let [embedding] =
            <[Vec<f32>; 1]>::try_from(encoder.embed(&[reference])?).expect("an encoder gives one embedding a text");
        let entry = (Arc::from(embedding), encoder.truncated());
        let bytes = reference.len() + size_of_val(&*entry.0);
        if self.bytes + bytes <= self.capacity_bytes {
            self.bytes += bytes;
            self.known.insert(reference.to_owned(), entry.clone());
        }
        Ok(entry)
    }
}

impl Semantic {
    pub(super) fn new(encoder: Box<dyn TextEncoder>, baseline: Option<f64>) -> Self {
        let references = References { known: HashMap::new(), bytes: 0, capacity_bytes: CAPACITY_BYTES };
        Self { encoder, baseline, references, truncated: 0 }
    }

    /// Embeds the comparable `pairs`: references one by one where they are new, texts in one batch, each once.
    fn embed<'a>(&mut self, pairs: &[Pair<'a>]) -> Result<Embeddings<'a>, EncoderError> {
        self.truncated = 0;
        let mut references = BTreeSet::new();
        let mut texts = BTreeSet::new();
        for pair in pairs {
            if let Pair::Comparable { reference, text } = *pair {
                references.insert(reference);
                texts.insert(text);
            }
        }
        let mut embeddings = Embeddings::default();
        for reference in references {
            let (embedding, truncated) = self.references.get(reference, &mut *self.encoder)?;
            embeddings.references.insert(reference, embedding);
            self.truncated += truncated;
        }
        let batch: Vec<&str> = texts.into_iter().collect();
        if !batch.is_empty() {
            let of_texts = self.encoder.embed(&batch)?;
            assert_eq!(of_texts.len(), batch.len(), "an encoder gives one embedding a text");
            self.truncated += self.encoder.truncated();
            embeddings.texts = batch.into_iter().zip(of_texts).collect();
        }
        Ok(embeddings)
    }

    fn compare(&self, reference: &[f32], text: &[f32]) -> Verdict {
        let Some(cosine) = cosine(reference, text) else {
            return Verdict::Missing("the encoder's embedding is not finite".to_owned());
        };
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
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<Verdict>, RewardError> {
        let pairs: Vec<Pair<'_>> =
            samples.iter().zip(texts).map(|(sample, text)| Pair::new(sample.reference, *text)).collect();
        let embeddings = self.embed(&pairs).map_err(|error| format!("the encoder failed: {}", with_sources(&*error)));
        let verdict = |pair: &Pair<'_>| match (pair, &embeddings) {
            (Pair::NoReference, _) => Verdict::Missing("the row has no reference".to_owned()),
            (Pair::NoText, _) => Verdict::Value(0.0),
            (Pair::Comparable { .. }, Err(reason)) => Verdict::Missing(reason.clone()),
            (Pair::Comparable { reference, text }, Ok(found)) => {
                self.compare(&found.references[*reference], &found.texts[text])
            }
        };
        Ok(pairs.iter().map(verdict).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let Pair::Comparable { reference, text } = Pair::new(sample.reference, text) else { return None };
        let (reference, _) = self.references.get(reference, &mut *self.encoder).ok()?;
        let [text] = <[Vec<f32>; 1]>::try_from(self.encoder.embed(&[text]).ok()?).ok()?;
        let cosine = cosine(&reference, &text)?;
        let baseline = self.baseline.map(|baseline| format!(", the baseline {baseline}")).unwrap_or_default();
        Some(format!("the cosine is {cosine:.4}{baseline}"))
    }

    fn truncated(&self) -> usize {
        self.truncated
    }
}

/// The cosine of two unit vectors; absent when it is not finite.
fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "an encoder gives embeddings of one length");
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    dot.is_finite().then(|| dot.clamp(-1.0, 1.0))
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
    use std::sync::Mutex;

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
        let verdicts = failing.rate(&[row, row], &[Some("a"), None]).unwrap();
        assert_eq!(verdicts, [Verdict::Missing("the encoder failed: out of memory".to_owned()), Verdict::Value(0.0)]);
    }

    #[test]
    fn a_batch_embeds_each_text_once_and_a_reference_only_the_first_time() {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let encoder = LetterEncoder { batches: Arc::clone(&batches), ..Default::default() };
        let mut semantic = Semantic::new(Box::new(encoder), None);
        let row = Sample { reference: Some("ab"), ..sample("") };
        semantic.rate(&[row, row, row], &[Some("x"), Some("y"), Some("x")]).unwrap();
        semantic.rate(&[row], &[Some("z")]).unwrap();
        semantic.rate(&[row], &[None]).unwrap();
        assert_eq!(*batches.lock().unwrap(), [vec!["ab"], vec!["x", "y"], vec!["z"]]);
    }

    #[test]
    fn references_are_embedded_once_up_to_a_bound_and_again_beyond_it() {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let encoder = LetterEncoder { batches: Arc::clone(&batches), ..Default::default() };
        let mut semantic = Semantic::new(Box::new(encoder), None);
        semantic.references.capacity_bytes = 2 * (64 * 4 + 1); // two embeddings with their texts of one letter
        let rows = ["a", "b", "c"].map(|reference| Sample { reference: Some(reference), ..sample("") });
        let texts = [Some("x"); 3];
        let first = semantic.rate(&rows, &texts).unwrap();
        assert_eq!(semantic.rate(&rows, &texts).unwrap(), first, "what is not kept is computed alike");
        assert_eq!(semantic.rate(&rows, &texts).unwrap(), first);
        assert_eq!(*batches.lock().unwrap(), [["a"], ["b"], ["c"], ["x"], ["c"], ["x"], ["c"], ["x"]].map(Vec::from));
        assert!(semantic.references.bytes <= semantic.references.capacity_bytes);
    }

    #[test]
    fn texts_cut_at_the_encoders_limit_are_counted_in_each_batch_those_known_before_too() {
        let mut semantic = Semantic::new(Box::new(LetterEncoder { limit: Some(2), ..Default::default() }), None);
        let row = Sample { reference: Some("abc"), ..sample("") };
        semantic.rate(&[row, row], &[Some("abcd"), Some("x")]).unwrap();
        assert_eq!(semantic.truncated(), 2);
        semantic.rate(&[row], &[Some("x")]).unwrap();
        assert_eq!(semantic.truncated(), 1);
        semantic.rate(&[row], &[None]).unwrap();
        assert_eq!(semantic.truncated(), 0);
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
