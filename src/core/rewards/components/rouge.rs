#![doc = include_str!("docs/rouge.md")]

use crate::rewards::component::{Kind, Measure};
use crate::rewards::table::At;
use crate::rewards::text::explain::{common_ngrams, common_subsequence};
use crate::rewards::text::lcs::{longest_common_subsequence, union_of_subsequences};
use crate::rewards::text::words::{Vocabulary, folded};
use crate::rewards::{BuildError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// ROUGE overlap with the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RougeSpec {
    /// N-grams or longest common subsequence.
    pub variant: RougeVariant,
    /// Precision, recall or F1.
    pub measure: RougeMeasure,
    /// How text is split into words.
    pub tokenizer: RougeTokenizer,
    /// Compares English words by their stems (`pumps` and `pumping` are the same), as rouge-score's `use_stemmer`;
    /// takes
    /// `tokenizer = "rouge-score"`.
    pub stemming: bool,
}

/// ROUGE variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RougeVariant {
    /// Unigrams.
    #[serde(rename = "1")]
    One,
    /// Bigrams.
    #[serde(rename = "2")]
    Two,
    /// Longest common subsequence.
    #[serde(rename = "L")]
    L,
    /// Longest common subsequences of lines: summary-level ROUGE-L of texts with a sentence a line.
    #[serde(rename = "Lsum")]
    Lsum,
}

/// Which number of a ROUGE comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RougeMeasure {
    /// Matches over the candidate's length.
    Precision,
    /// Matches over the reference's length.
    Recall,
    /// Harmonic mean of both.
    F1,
}

/// How ROUGE cuts text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RougeTokenizer {
    /// Runs of Unicode word characters, lowercased.
    #[serde(rename = "unicode")]
    Unicode,
    /// Google's rouge-score: ASCII letters and digits only.
    #[serde(rename = "rouge-score")]
    RougeScore,
}

impl Kind for RougeSpec {
    const NAME: &'static str = "rouge";
    const PAGE: &'static str = include_str!("docs/rouge.md");
    const DEFAULTS: &'static str = r#"
scope = "explanation"
variant = "L"
measure = "f1"
tokenizer = "unicode" # the ASCII tokenizer of rouge-score breaks accented letters
stemming = false # as rouge-score's use_stemmer; it knows English alone
"#;

    type Table = Self;

    fn needed(_table: &Self::Table) -> Option<&'static str> {
        Some("reference")
    }

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        if table.stemming && table.tokenizer != RougeTokenizer::RougeScore {
            let at = At::Key("stemming");
            let message = format!("`{}` does not support `tokenizer = \"unicode\"`", recipe.name(at));
            let help = "write `tokenizer = \"rouge-score\"` beside it, or leave it out";
            recipe.problem(at, message, "English words alone have stems here", help);
            return None;
        }
        Some(*table)
    }
}

impl Measure for RougeSpec {
    fn build(&self, _scope: &Scope, _setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        let Self { variant, measure, tokenizer, stemming } = *self;
        Ok(Box::new(Rouge { variant, measure, tokenizer, stemming }))
    }

    fn needs(&self) -> Option<&'static str> {
        Some("reference")
    }

    fn compares_with_the_row(&self) -> bool {
        true
    }
}

/// The overlap of two texts; 0 throughout when either is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlap {
    /// The matches divided by the candidate's length.
    pub precision: f64,
    /// The matches divided by the reference's length.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
}

impl Overlap {
    /// Computes the overlap from the number of `matches` and the numbers of `candidate` and `reference` units.
    fn new(matches: usize, candidate: usize, reference: usize) -> Self {
        if matches == 0 {
            return Self::default();
        }
        let precision = matches as f64 / candidate as f64;
        let recall = matches as f64 / reference as f64;
        Self { precision, recall, f1: 2.0 * precision * recall / (precision + recall) }
    }
}

/// Compares `candidate` with `reference`, ignoring case.
pub fn rouge(candidate: &str, reference: &str, variant: RougeVariant, tokenizer: RougeTokenizer) -> Overlap {
    measured(&folded(candidate, false), &folded(reference, false), variant, tokenizer).unwrap_or_default()
}

/// Returns the overlap of two texts that are [`folded`]; `None` if the reference has no words.
fn measured(candidate: &str, reference: &str, variant: RougeVariant, tokenizer: RougeTokenizer) -> Option<Overlap> {
    let mut vocabulary = Vocabulary::default();
    if variant == RougeVariant::Lsum {
        // an empty line is a line without words
        let reference: Vec<Vec<u32>> = reference.split('\n').map(|line| vocabulary.learn(line, tokenizer)).collect();
        let candidate: Vec<Vec<u32>> = candidate.split('\n').map(|line| vocabulary.number(line, tokenizer)).collect();
        let count = |lines: &[Vec<u32>]| lines.iter().map(Vec::len).sum();
        let matches = summary_level(&reference, &candidate, vocabulary.len());
        return (vocabulary.len() > 0).then(|| Overlap::new(matches, count(&candidate), count(&reference)));
    }
    let reference = vocabulary.learn(reference, tokenizer);
    let candidate = vocabulary.number(candidate, tokenizer);
    if reference.is_empty() {
        return None;
    }
    let (matches, fewer_units) = match variant {
        RougeVariant::One => (common(unigrams(&reference), unigrams(&candidate)), 0),
        RougeVariant::Two => (common(bigrams(&reference), bigrams(&candidate)), 1),
        RougeVariant::L | RougeVariant::Lsum => {
            (longest_common_subsequence(&reference, &candidate, vocabulary.len()), 0)
        }
    };
    let units = |tokens: &[u32]| tokens.len().saturating_sub(fewer_units);
    Some(Overlap::new(matches, units(&candidate), units(&reference)))
}

/// Returns the number of words that lines of the reference share with the candidate's lines in common subsequences.
///
/// No word counts more often than it occurs in the candidate (Lin 2004, section 3.2, as in ROUGE 1.5.5 and
/// rouge-score).
fn summary_level(reference: &[Vec<u32>], candidate: &[Vec<u32>], vocabulary: usize) -> usize {
    let mut left = vec![0_usize; vocabulary];
    for &token in candidate.iter().flatten() {
        if let Some(count) = left.get_mut(token as usize) {
            *count += 1;
        }
    }
    let mut matches = 0;
    for line in reference {
        let union = union_of_subsequences(line, candidate, vocabulary);
        for (&token, _) in line.iter().zip(union).filter(|(_, marked)| *marked) {
            let count = &mut left[token as usize];
            matches += usize::from(*count > 0);
            *count = count.saturating_sub(1);
        }
    }
    matches
}

fn unigrams(tokens: &[u32]) -> Vec<u64> {
    tokens.iter().map(|&token| u64::from(token)).collect()
}

fn bigrams(tokens: &[u32]) -> Vec<u64> {
    tokens.windows(2).map(|pair| u64::from(pair[0]) << 32 | u64::from(pair[1])).collect()
}

/// Returns the size of the intersection of two multisets.
fn common(mut a: Vec<u64>, mut b: Vec<u64>) -> usize {
    a.sort_unstable();
    b.sort_unstable();
    let (mut i, mut j, mut matches) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                matches += 1;
                i += 1;
                j += 1;
            }
        }
    }
    matches
}

/// The `rouge` component.
pub(super) struct Rouge {
    pub(super) variant: RougeVariant,
    pub(super) measure: RougeMeasure,
    pub(super) tokenizer: RougeTokenizer,
    pub(super) stemming: bool,
}

impl Rouge {
    fn rate_one(&self, reference: Option<&str>, text: Option<&str>) -> RewardValue {
        let Some(reference) = reference else {
            return RewardValue::Missing("the row has no reference".to_owned());
        };
        let (text, reference) = (folded(text.unwrap_or_default(), self.stemming), folded(reference, self.stemming));
        let overlap = measured(&text, &reference, self.variant, self.tokenizer);
        let Some(Overlap { precision, recall, f1 }) = overlap else {
            return RewardValue::Missing("the reference has no words".to_owned());
        };
        RewardValue::Value(match self.measure {
            RougeMeasure::Precision => precision,
            RougeMeasure::Recall => recall,
            RougeMeasure::F1 => f1,
        })
    }
}

impl Reward for Rouge {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        Ok(samples.iter().zip(texts).map(|(sample, text)| self.rate_one(sample.reference, *text)).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let (reference, text) = (folded(sample.reference?, self.stemming), folded(text?, self.stemming));
        let ngrams = |n| common_ngrams(&text, &reference, n, self.tokenizer);
        let subsequence = || common_subsequence(&text, &reference, self.tokenizer);
        Some(match self.variant {
            RougeVariant::One => ngrams(1),
            RougeVariant::Two => ngrams(2),
            RougeVariant::L => subsequence(),
            RougeVariant::Lsum => format!("each line is matched for itself; in the whole, {}", subsequence()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn equals_rouge_score_on_the_golden_pairs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/rouge.json");
        let pairs: Vec<Value> = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
        assert!(!pairs.is_empty());
        let tokenizers = [("ascii", RougeTokenizer::RougeScore), ("unicode", RougeTokenizer::Unicode)];
        let variants = [("rouge1", RougeVariant::One), ("rouge2", RougeVariant::Two), ("rougeL", RougeVariant::L)];
        for pair in &pairs {
            let (candidate, reference) = (pair["candidate"].as_str().unwrap(), pair["reference"].as_str().unwrap());
            for (tokenizer_name, tokenizer) in tokenizers {
                for (variant_name, variant) in variants {
                    let Overlap { precision, recall, f1 } = rouge(candidate, reference, variant, tokenizer);
                    let expected = &pair["scores"][tokenizer_name][variant_name];
                    for (i, value) in [precision, recall, f1].into_iter().enumerate() {
                        let expected = expected[i].as_f64().unwrap();
                        assert!(
                            (value - expected).abs() < 1e-9,
                            "{tokenizer_name} {variant_name} [{i}] of {candidate:?} against {reference:?}: {value}, not {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn lsum_equals_rouge_score_on_texts_of_several_lines() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/rouge_lsum.json");
        let pairs: Vec<Value> = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
        assert!(pairs.len() > 60);
        for pair in &pairs {
            let (candidate, reference) = (pair["candidate"].as_str().unwrap(), pair["reference"].as_str().unwrap());
            for (name, tokenizer) in [("ascii", RougeTokenizer::RougeScore), ("unicode", RougeTokenizer::Unicode)] {
                let Overlap { precision, recall, f1 } = rouge(candidate, reference, RougeVariant::Lsum, tokenizer);
                for (i, value) in [precision, recall, f1].into_iter().enumerate() {
                    let expected = pair["scores"][name][i].as_f64().unwrap();
                    assert!(
                        (value - expected).abs() < 1e-9,
                        "{name} [{i}] of {candidate:?} against {reference:?}: {value}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn stemming_equals_rouge_score_with_its_stemmer() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/rouge_stemmed.json");
        let pairs: Vec<Value> = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
        assert!(pairs.len() > 80);
        let variants = [
            ("rouge1", RougeVariant::One),
            ("rouge2", RougeVariant::Two),
            ("rougeL", RougeVariant::L),
            ("rougeLsum", RougeVariant::Lsum),
        ];
        for pair in &pairs {
            let (candidate, reference) = (pair["candidate"].as_str().unwrap(), pair["reference"].as_str().unwrap());
            for (name, variant) in variants {
                let measures = [RougeMeasure::Precision, RougeMeasure::Recall, RougeMeasure::F1];
                for (i, measure) in measures.into_iter().enumerate() {
                    let mut rouge = Rouge { variant, measure, tokenizer: RougeTokenizer::RougeScore, stemming: true };
                    let verdict =
                        rate_one(&mut rouge, Sample { reference: Some(reference), ..sample("") }, Some(candidate));
                    let expected = pair["scores"][name][i].as_f64().unwrap();
                    match verdict {
                        RewardValue::Value(value) => assert!(
                            (value - expected).abs() < 1e-9,
                            "{name} [{i}] of {candidate:?} against {reference:?}: {value}, not {expected}"
                        ),
                        RewardValue::Missing(_) => assert!(reference.trim().is_empty(), "{reference:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn an_explanation_shows_the_stems_that_match() {
        let (variant, measure) = (RougeVariant::L, RougeMeasure::F1);
        let mut rouge = Rouge { variant, measure, tokenizer: RougeTokenizer::RougeScore, stemming: true };
        let row = Sample { reference: Some("the heart pumps"), ..sample("") };
        let why = rouge.explain(&row, Some("Hearts are pumping")).unwrap();
        assert_eq!(why, "2 words match in order: `heart pump`; the reference has 3 words, the text 3");
    }

    fn rouge_l() -> Rouge {
        let (variant, measure) = (RougeVariant::L, RougeMeasure::Recall);
        Rouge { variant, measure, tokenizer: RougeTokenizer::Unicode, stemming: false }
    }

    #[test]
    fn a_row_without_a_reference_is_missing_and_a_completion_without_the_text_is_0() {
        assert!(matches!(rate_one(&mut rouge_l(), sample("x"), Some("x")), RewardValue::Missing(_)));
        let empty = Sample { reference: Some(" ?"), ..sample("x") };
        assert!(matches!(rate_one(&mut rouge_l(), empty, Some("x")), RewardValue::Missing(_)));
        let full = Sample { reference: Some("the heart pumps blood"), ..sample("x") };
        assert_eq!(rate_one(&mut rouge_l(), full, None), RewardValue::Value(0.0));
        assert_eq!(rate_one(&mut rouge_l(), full, Some("The blood pumps.")), RewardValue::Value(0.5));
    }

    fn any_variant() -> impl Strategy<Value = (RougeVariant, RougeTokenizer)> {
        let variants = [RougeVariant::One, RougeVariant::Two, RougeVariant::L, RougeVariant::Lsum];
        let variant = prop::sample::select(variants.to_vec());
        let tokenizer = prop::sample::select(vec![RougeTokenizer::Unicode, RougeTokenizer::RougeScore]);
        (variant, tokenizer)
    }

    proptest! {
        #[test]
        fn lies_between_0_and_1_for_any_text(a in "\\PC*", b in any::<String>(), (variant, tokenizer) in any_variant()) {
            let Overlap { precision, recall, f1 } = rouge(&a, &b, variant, tokenizer);
            for value in [precision, recall, f1] {
                prop_assert!((0.0..=1.0).contains(&value));
            }
        }

        #[test]
        fn exchanging_the_texts_exchanges_precision_and_recall(
            a in "[abc ]{0,200}", b in "[abc ]{0,200}", (variant, tokenizer) in any_variant()
        ) {
            // With one line each: the union of subsequences is over the candidate's lines alone.
            let (one, other) = (rouge(&a, &b, variant, tokenizer), rouge(&b, &a, variant, tokenizer));
            prop_assert_eq!((one.precision, one.recall), (other.recall, other.precision));
        }

        #[test]
        fn stems_match_wherever_words_do(a in "(pump|pumps|pumping|heart|hearts| |,)*", b in "(pump|pumped|heart|hearted| |,)*") {
            let of = |stemming| {
                let tokenizer = RougeTokenizer::RougeScore;
                measured(&folded(&a, stemming), &folded(&b, stemming), RougeVariant::L, tokenizer).unwrap_or_default().f1
            };
            prop_assert!(of(true) >= of(false));
        }

        #[test]
        fn l_and_lsum_are_the_same_for_texts_of_one_line(a in "[abc ]{0,200}", b in "[abcd ]{0,200}", (_, tokenizer) in any_variant()) {
            let of = |variant| rouge(&a, &b, variant, tokenizer);
            prop_assert_eq!(of(RougeVariant::L), of(RougeVariant::Lsum));
        }
    }
}
