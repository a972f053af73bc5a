#![doc = include_str!("docs/semantic.md")]

use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::rewards::component::{Kind, Measure};
use crate::rewards::{
    BuildError, EncoderError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext, TextEncoder,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;
use unicode_segmentation::UnicodeSegmentation;

/// Cosine similarity of encoder embeddings with the reference (arXiv:2509.13081).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SemanticTable {
    /// A Hugging Face directory of a sentence encoder, or `hf://owner/name@revision`.
    pub encoder: String,
    /// Number format of the encoder: `bfloat16` is faster where the processor multiplies it, and moves cosines by about
    /// 0.0005. Embeddings are pooled and brought to length 1 in 32 bits in any case.
    pub dtype: Dtype,
    /// Rescales to `clip((cos - b) / (1 - b), 0, 1)`; default: the raw cosine.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub baseline: Option<f64>,
    /// Put before every text, completions and references alike, as models that were trained with instructions want it
    /// (E5: `"query: "`; Qwen3-Embedding: `"Instruct: ...\nQuery:"`); default: the one the encoder's
    /// `config_sentence_transformers.json` names as its default, if any. `""` is none.
    pub prompt: Option<String>,
    /// The row's reference may be a JSON list of texts: the `max` or the `mean` of their values counts. Default: it is
    /// one text, even if it looks like a list.
    pub references: Option<SeveralReferences>,
    /// Compares every run of this many sentences and takes the nearest; default: the text as a whole.
    #[schemars(range(min = 1))]
    pub window_sentences: Option<usize>,
}

/// The comparison of encoder embeddings, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SemanticSpec {
    /// The digest of the encoder's directory.
    pub encoder: Digest,
    /// The data type of the encoder's computation.
    pub dtype: Dtype,
    /// The baseline b, which rescales the cosine to `clip((cos - b) / (1 - b), 0, 1)`; absent: the raw cosine.
    pub baseline: Option<f64>,
    /// The prompt before every text; absent: the encoder's own default.
    pub prompt: Option<String>,
    /// The aggregation over a JSON list of references; absent: the reference is one text.
    pub references: Option<SeveralReferences>,
    /// The number of sentences per window, of which the nearest counts; absent: the whole text is compared.
    pub window_sentences: Option<usize>,
}

/// How the values of several references become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeveralReferences {
    /// The greatest: it is enough to say what one of them says.
    Max,
    /// Their mean.
    Mean,
}

impl Kind for SemanticSpec {
    const NAME: &'static str = "semantic";
    const PAGE: &'static str = include_str!("docs/semantic.md");
    const DEFAULTS: &'static str = r#"
scope = "explanation" # what the reader sees, never the reasoning before it
dtype = "float32" # rating is a few percent of a step: precision costs little
# prompt: what the encoder's own files name as its default
"#;

    type Table = SemanticTable;

    fn needed(_table: &Self::Table) -> Option<&'static str> {
        Some("reference")
    }

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let encoder = recipe.directory("encoder", &table.encoder, "encoder")?;
        let SemanticTable { dtype, baseline, references, window_sentences, .. } = *table;
        Some(Self { encoder, dtype, baseline, prompt: table.prompt.clone(), references, window_sentences })
    }
}

impl Measure for SemanticSpec {
    fn build(&self, _scope: &Scope, setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        let encoder =
            (setup.encoder)(&self.encoder, self.dtype, self.prompt.as_deref()).map_err(BuildError::Encoder)?;
        let Self { baseline, references, window_sentences, .. } = *self;
        Ok(Box::new(Semantic::new(encoder, SemanticSettings { baseline, references, window_sentences })))
    }

    fn range(&self) -> Option<(f64, f64)> {
        Some(if self.baseline.is_none() { (-1.0, 1.0) } else { (0.0, 1.0) })
    }

    fn needs(&self) -> Option<&'static str> {
        Some("reference")
    }

    fn compares_with_the_row(&self) -> bool {
        true
    }

    fn files(&self) -> Vec<&Digest> {
        vec![&self.encoder]
    }
}

/// The memory limit of cached reference embeddings, enough for some hundred thousand rows.
const CAPACITY_BYTES: usize = 256 << 20;

/// The `semantic` component. A completion without the text, or with an empty one, has the value 0.
///
/// A `baseline` b rescales the cosine to `clip((cos - b) / (1 - b), 0, 1)`. An offset alone would have no effect,
/// because a constant cancels within a GRPO group.
pub(super) struct Semantic {
    encoder: Box<dyn TextEncoder>,
    settings: SemanticSettings,
    known: References,
    /// The number of texts of the last batch that were truncated at the encoder's limit.
    truncated: usize,
}

/// The settings of the comparison.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SemanticSettings {
    pub(super) baseline: Option<f64>,
    pub(super) references: Option<SeveralReferences>,
    pub(super) window_sentences: Option<usize>,
}

/// A cache of reference embeddings. The rows of a data set recur, whereas completions do not.
struct References {
    /// The embeddings by text, each with the number of truncated texts (0 or 1).
    known: HashMap<String, (Arc<[f32]>, usize)>,
    /// The size of the cached texts and embeddings, and its limit, in bytes.
    ///
    /// A full cache evicts nothing. With rows that recur in turn, evicting the oldest would remove each row before it
    /// recurs.
    bytes: usize,
    capacity_bytes: usize,
}

/// The embeddings of a batch, by text.
#[derive(Default)]
struct Embeddings<'a> {
    references: HashMap<&'a str, Arc<[f32]>>,
    texts: HashMap<&'a str, Vec<f32>>,
}

impl References {
    /// Returns the embedding of `reference`, computed by `encoder` if it is not cached.
    ///
    /// Each reference is embedded alone, so its last bits do not depend on a batch. A resumed stage, whose cache is
    /// empty, must compute the same bits.
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
    pub(super) fn new(encoder: Box<dyn TextEncoder>, settings: SemanticSettings) -> Self {
        let known = References { known: HashMap::new(), bytes: 0, capacity_bytes: CAPACITY_BYTES };
        Self { encoder, settings, known, truncated: 0 }
    }

    /// Embeds the texts of `cases`: new references one by one, and completions in one batch, each once.
    fn embed<'a>(&mut self, cases: &'a [Case<'_>]) -> Result<Embeddings<'a>, EncoderError> {
        self.truncated = 0;
        let mut references = BTreeSet::new();
        let mut texts = BTreeSet::new();
        for case in cases {
            if let Case::Comparable { references: of_row, windows } = case {
                references.extend(of_row.iter().map(|reference| &**reference));
                texts.extend(windows.iter().copied());
            }
        }
        let mut embeddings = Embeddings::default();
        for reference in references {
            let (embedding, truncated) = self.known.get(reference, &mut *self.encoder)?;
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

    /// Returns the comparison that a sample needs.
    fn case<'a>(&self, reference: Option<&'a str>, text: Option<&'a str>) -> Case<'a> {
        let filled = |text: &&str| !text.trim().is_empty();
        let references = match reference.filter(filled) {
            Some(reference) if self.settings.references.is_some() => listed(reference),
            Some(reference) => vec![Cow::Borrowed(reference)],
            None => Vec::new(),
        };
        match text.filter(filled) {
            _ if references.is_empty() => Case::NoReference,
            None => Case::NoText,
            Some(text) => Case::Comparable { references, windows: windows(text, self.settings.window_sentences) },
        }
    }

    fn compare(&self, references: &[Cow<'_, str>], windows: &[&str], found: &Embeddings<'_>) -> RewardValue {
        let nearest = |reference: &Cow<'_, str>| {
            let reference = &found.references[&**reference];
            let cosines = windows.iter().map(|window| cosine(reference, &found.texts[window]));
            let nearest = cosines.reduce(|a, b| Some(a?.max(b?))).expect("a text has a window")?;
            Some(match self.settings.baseline {
                Some(baseline) => ((nearest - baseline) / (1.0 - baseline)).clamp(0.0, 1.0),
                None => nearest,
            })
        };
        let values: Option<Vec<f64>> = references.iter().map(nearest).collect();
        match values {
            None => RewardValue::Missing("the encoder's embedding is not finite".to_owned()),
            Some(values) => RewardValue::Value(match self.settings.references {
                Some(SeveralReferences::Mean) => values.iter().sum::<f64>() / values.len() as f64,
                Some(SeveralReferences::Max) | None => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
            }),
        }
    }
}

/// Returns the cosine of two unit vectors; `None` if it is not finite.
fn cosine(reference: &[f32], text: &[f32]) -> Option<f64> {
    assert_eq!(reference.len(), text.len(), "an encoder gives embeddings of one length");
    let dot: f64 = reference.iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    dot.is_finite().then(|| dot.clamp(-1.0, 1.0))
}

/// The comparison that a sample needs.
enum Case<'a> {
    NoReference,
    NoText,
    Comparable { references: Vec<Cow<'a, str>>, windows: Vec<&'a str> },
}

/// Returns the references in `text`: the non-empty ones of a JSON list of texts, or `text` itself.
fn listed(text: &str) -> Vec<Cow<'_, str>> {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(texts) => texts.into_iter().filter(|text| !text.trim().is_empty()).map(Cow::Owned).collect(),
        Err(_) => vec![Cow::Borrowed(text)],
    }
}

/// Returns every run of `sentences` consecutive sentences of `text`; the whole text if it has no more, or without a
/// number.
fn windows(text: &str, sentences: Option<usize>) -> Vec<&str> {
    let Some(sentences) = sentences else { return vec![text] };
    let bounds = text.split_sentence_bound_indices().filter(|(_, sentence)| sentence.contains(char::is_alphanumeric));
    let places: Vec<(usize, usize)> = bounds.map(|(start, sentence)| (start, start + sentence.len())).collect();
    if places.len() <= sentences {
        return vec![text];
    }
    places.windows(sentences).map(|run| text[run[0].0..run[run.len() - 1].1].trim()).collect()
}

impl Reward for Semantic {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        let cases: Vec<Case<'_>> =
            samples.iter().zip(texts).map(|(sample, text)| self.case(sample.reference, *text)).collect();
        let embeddings = self.embed(&cases).map_err(|error| format!("the encoder failed: {}", with_sources(&*error)));
        let verdict = |case: &Case<'_>| match (case, &embeddings) {
            (Case::NoReference, _) => RewardValue::Missing("the row has no reference".to_owned()),
            (Case::NoText, _) => RewardValue::Value(0.0),
            (Case::Comparable { .. }, Err(reason)) => RewardValue::Missing(reason.clone()),
            (Case::Comparable { references, windows }, Ok(found)) => self.compare(references, windows, found),
        };
        Ok(cases.iter().map(verdict).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let cases = [self.case(sample.reference, text)];
        let found = self.embed(&cases).ok()?;
        let [Case::Comparable { references, windows }] = &cases else { return None };
        let pairs = references.iter().flat_map(|reference| windows.iter().map(move |window| (reference, window)));
        let cosines = pairs.map(|(reference, window)| cosine(&found.references[&**reference], &found.texts[window]));
        let nearest = cosines.flatten().fold(f64::NEG_INFINITY, f64::max);
        let of = |count: usize, what: &str| {
            if count > 1 { format!(", the highest of {count} {what}") } else { String::new() }
        };
        let baseline = self.settings.baseline.map(|baseline| format!(", the baseline {baseline}")).unwrap_or_default();
        let (references, windows) = (of(references.len(), "references"), of(windows.len(), "windows"));
        Some(format!("the cosine is {nearest:.4}{references}{windows}{baseline}"))
    }

    fn embeddings(&mut self, texts: &[&str]) -> Option<Result<Vec<Vec<f32>>, EncoderError>> {
        Some(if texts.is_empty() { Ok(Vec::new()) } else { self.encoder.embed(texts) })
    }

    fn truncated(&self) -> usize {
        self.truncated
    }
}

/// Returns the message of `error` and of all its sources.
pub(super) fn with_sources(error: &dyn Error) -> String {
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
        set(SemanticSettings { baseline, ..Default::default() })
    }

    fn set(settings: SemanticSettings) -> Semantic {
        Semantic::new(Box::new(LetterEncoder::default()), settings)
    }

    fn value(verdict: &RewardValue) -> f64 {
        match verdict {
            RewardValue::Value(value) => *value,
            RewardValue::Missing(reason) => panic!("{reason}"),
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
        assert_eq!(rate_one(&mut semantic(Some(0.9)), row, Some("a")), RewardValue::Value(0.0));
    }

    #[test]
    fn a_text_the_policy_did_not_write_is_0_and_a_reference_the_row_has_not_is_missing() {
        let row = Sample { reference: Some("ab"), ..sample("") };
        assert_eq!(rate_one(&mut semantic(None), row, None), RewardValue::Value(0.0));
        assert_eq!(rate_one(&mut semantic(None), row, Some(" ")), RewardValue::Value(0.0));
        assert!(matches!(rate_one(&mut semantic(None), sample(""), Some("a")), RewardValue::Missing(_)));
        let blank = Sample { reference: Some(" "), ..sample("") };
        assert!(matches!(rate_one(&mut semantic(None), blank, None), RewardValue::Missing(_)));
    }

    #[test]
    fn a_failing_encoder_makes_only_what_needed_it_missing() {
        let mut failing =
            Semantic::new(Box::new(LetterEncoder { fails: true, ..Default::default() }), SemanticSettings::default());
        let row = Sample { reference: Some("ab"), ..sample("") };
        let verdicts = failing.rate(&[row, row], &[Some("a"), None]).unwrap();
        assert_eq!(
            verdicts,
            [RewardValue::Missing("the encoder failed: out of memory".to_owned()), RewardValue::Value(0.0)]
        );
    }

    #[test]
    fn a_batch_embeds_each_text_once_and_a_reference_only_the_first_time() {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let encoder = LetterEncoder { batches: Arc::clone(&batches), ..Default::default() };
        let mut semantic = Semantic::new(Box::new(encoder), SemanticSettings::default());
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
        let mut semantic = Semantic::new(Box::new(encoder), SemanticSettings::default());
        semantic.known.capacity_bytes = 2 * (64 * 4 + 1); // two embeddings with their texts of one letter
        let rows = ["a", "b", "c"].map(|reference| Sample { reference: Some(reference), ..sample("") });
        let texts = [Some("x"); 3];
        let first = semantic.rate(&rows, &texts).unwrap();
        assert_eq!(semantic.rate(&rows, &texts).unwrap(), first, "what is not kept is computed alike");
        assert_eq!(semantic.rate(&rows, &texts).unwrap(), first);
        assert_eq!(*batches.lock().unwrap(), [["a"], ["b"], ["c"], ["x"], ["c"], ["x"], ["c"], ["x"]].map(Vec::from));
        assert!(semantic.known.bytes <= semantic.known.capacity_bytes);
    }

    #[test]
    fn texts_cut_at_the_encoders_limit_are_counted_in_each_batch_those_known_before_too() {
        let mut semantic = Semantic::new(
            Box::new(LetterEncoder { limit: Some(2), ..Default::default() }),
            SemanticSettings::default(),
        );
        let row = Sample { reference: Some("abc"), ..sample("") };
        semantic.rate(&[row, row], &[Some("abcd"), Some("x")]).unwrap();
        assert_eq!(semantic.truncated(), 2);
        semantic.rate(&[row], &[Some("x")]).unwrap();
        assert_eq!(semantic.truncated(), 1);
        semantic.rate(&[row], &[None]).unwrap();
        assert_eq!(semantic.truncated(), 0);
    }

    #[test]
    fn of_several_references_the_nearest_counts_or_all_alike() {
        let rate = |references, baseline, reference: &str, text| {
            let mut semantic = set(SemanticSettings { baseline, references, ..Default::default() });
            rate_one(&mut semantic, Sample { reference: Some(reference), ..sample("") }, Some(text))
        };
        let both = r#"["ab", "cd", " "]"#;
        let (max, mean) = (Some(SeveralReferences::Max), Some(SeveralReferences::Mean));
        assert!((value(&rate(max, None, both, "ba")) - 1.0).abs() < 1e-6);
        assert!((value(&rate(mean, None, both, "ba")) - 0.5).abs() < 1e-6, "the empty one is none");
        assert!((value(&rate(mean, Some(0.5), r#"["ab", "acd"]"#, "ab")) - 0.5).abs() < 1e-6, "each is rescaled");
        assert!(value(&rate(None, None, both, "ba")) < 0.9, "the list itself is the reference");
        assert!((value(&rate(max, None, "ab", "ba")) - 1.0).abs() < 1e-6, "a text is a list of one");
        assert!(matches!(rate(max, None, "[\"\"]", "ba"), RewardValue::Missing(_)));
        assert!(matches!(rate(max, None, "[]", "ba"), RewardValue::Missing(_)));
    }

    #[test]
    fn windows_are_runs_of_sentences() {
        let text = "One is. Two are!  Three? ... Four";
        assert_eq!(windows(text, None), [text]);
        assert_eq!(windows(text, Some(1)), ["One is.", "Two are!", "Three? ...", "Four"]);
        assert_eq!(windows(text, Some(3)), ["One is. Two are!  Three? ...", "Two are!  Three? ... Four"]);
        assert_eq!(windows(text, Some(4)), [text]);
        assert_eq!(windows("...", Some(1)), ["..."]);
    }

    #[test]
    fn the_nearest_window_counts() {
        let row = Sample { reference: Some("Ab."), ..sample("") };
        let text = Some("Cd ef gh. Ba. Ij kl.");
        let [whole, window] = [None, Some(1)].map(|window_sentences| {
            value(&rate_one(&mut set(SemanticSettings { window_sentences, ..Default::default() }), row, text))
        });
        assert!((window - value(&rate_one(&mut semantic(None), row, Some("Ba.")))).abs() < 1e-6);
        assert!(whole < window);
    }

    proptest! {
        #[test]
        fn lies_in_its_range_for_any_text(
            text in "(\\PC|[.!?] )*", reference in any::<String>(), baseline in prop::option::of(-0.5..0.99),
            window_sentences in prop::option::of(1_usize..4), mean in any::<bool>(),
        ) {
            let row = Sample { reference: Some(&reference), ..sample("") };
            let references = mean.then_some(SeveralReferences::Mean);
            match rate_one(&mut set(SemanticSettings { baseline, references, window_sentences }), row, Some(&text)) {
                RewardValue::Value(value) if baseline.is_some() => prop_assert!((0.0..=1.0).contains(&value)),
                RewardValue::Value(value) => prop_assert!((-1.0..=1.0).contains(&value)),
                RewardValue::Missing(_) => prop_assert!(reference.trim().is_empty()),
            }
        }
    }
}
