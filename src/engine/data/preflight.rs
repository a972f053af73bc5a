//! Checks and statistics of a stage's data before training. Most failed fine-tunings have a wrong mask or template,
//! which the loss curve does not show. Implausible data is rejected.

use super::prompts::Example;
use super::sequence::Sequence;
use crate::error::{StageError, StageResult};
use crate::tokenizer::Tokenizer;
use orchestrate_core::data::left_out;
use orchestrate_core::digest::Digest;
use orchestrate_core::exec::{DataReport, ExampleRow, ExampleSpan};
use orchestrate_core::recipe::spec::DataSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Minimum fraction of tokens that carry loss.
const LEAST_TRAINED: f64 = 0.001;

/// Maximum fraction of rows that equal an earlier one.
const MOST_DUPLICATES: f64 = 0.5;

/// Minimum number of rows for the check of duplicates. Smaller data sets are assumed to be experiments.
const FEW_ROWS: usize = 8;

/// Returns the report of a data set that is trained on.
pub fn of_sequences(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    sequences: &[Sequence],
    tokenizer: &Tokenizer,
) -> DataReport {
    let ids: Vec<&[i64]> = sequences.iter().map(|sequence| sequence.ids.as_slice()).collect();
    let median = &sequences[median(&ids)];
    let ends_with_stop =
        |s: &&Sequence| s.targets().last().is_some_and(|(_, target)| tokenizer.stop_ids().contains(&target));
    DataReport {
        trained_tokens: Some(sequences.iter().map(Sequence::trained_tokens).sum()),
        eos_trained: Some(sequences.iter().filter(ends_with_stop).count() as f64 / sequences.len() as f64),
        example: example(&median.location, &median.ids, median.trained(), tokenizer),
        ..lengths(spec, inputs, &ids)
    }
}

/// Returns the report of a data set of questions.
pub fn of_prompts(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    examples: &[Example],
    tokenizer: &Tokenizer,
) -> DataReport {
    let ids: Vec<&[i64]> = examples.iter().map(|example| example.prompt_ids.as_slice()).collect();
    let median = &examples[median(&ids)];
    let untrained = vec![false; median.prompt_ids.len()];
    DataReport {
        example: example(&median.location, &median.prompt_ids, &untrained, tokenizer),
        ..lengths(spec, inputs, &ids)
    }
}

/// Returns the parts of a report that apply to any rows.
fn lengths(spec: &DataSpec, inputs: &BTreeMap<Digest, PathBuf>, ids: &[&[i64]]) -> DataReport {
    let mut tokens: Vec<usize> = ids.iter().map(|ids| ids.len()).collect();
    tokens.sort_unstable();
    let quantile = |percent: usize| tokens[(tokens.len() * percent).div_ceil(100).max(1) - 1];
    let path = |id: &Digest| inputs.get(id).map(|path: &PathBuf| path.display().to_string());
    DataReport {
        files: spec.files.iter().filter_map(|file| path(&file.id())).collect(),
        weight: 1.0,
        rows: ids.len(),
        left_out: left_out(spec, inputs).unwrap_or(0), // an error would have been reported with the rows
        packed_rows: None,
        tokens: tokens.iter().sum(),
        trained_tokens: None,
        eos_trained: None,
        cut_rows: 0,
        decontaminated_rows: 0,
        duplicate_rows: ids.len() - ids.iter().collect::<BTreeSet<_>>().len(),
        tokens_p50: quantile(50),
        tokens_p95: quantile(95),
        tokens_max: quantile(100),
        example: ExampleRow { location: String::new(), spans: Vec::new() },
    }
}

/// Returns the index of the first row of median length.
fn median(ids: &[&[i64]]) -> usize {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|&row| (ids[row].len(), row));
    order[(ids.len() - 1) / 2]
}

fn example(location: &str, ids: &[i64], trained: &[bool], tokenizer: &Tokenizer) -> ExampleRow {
    let mut spans = Vec::new();
    let mut start = 0;
    for run in trained.chunk_by(|a, b| a == b) {
        let text = tokenizer.decode_verbatim(&ids[start..start + run.len()]);
        spans.push(ExampleSpan { text, trained: run[0] });
        start += run.len();
    }
    ExampleRow { location: location.to_owned(), spans }
}

/// Rejects implausible data.
///
/// # Errors
/// Returns an error for training data of which:
///
/// - less than 0.1% of the tokens carry loss
/// - no row trains a token that ends a turn
/// - more than half of the rows repeat others, if there are at least 8 rows
pub fn check(reports: &[DataReport]) -> StageResult<()> {
    for report in reports {
        let Some(share) = report.trained_share() else { continue };
        let files = report.files.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
        let look = "`orchestrate check --show-data RECIPE` shows a row with its mask";
        if share < LEAST_TRAINED {
            let count = report.trained_tokens.unwrap_or(0);
            let message = format!("{files}: only {count} of {} tokens would be trained", report.tokens);
            return Err(StageError::input(message)
                .hinted(format!("shorten the prompts, or list more roles in `train_on`; {look}")));
        }
        if report.eos_trained == Some(0.0) {
            let message = format!("{files}: no row trains the token that ends a turn; the model would never stop");
            return Err(StageError::input(message).hinted(format!(
                "the chat template has to end the assistant's turn with a token that `generation_config.json` or \
                 `tokenizer_config.json` names as EOS; {look}"
            )));
        }
        if report.rows >= FEW_ROWS && report.duplicate_rows as f64 > MOST_DUPLICATES * report.rows as f64 {
            let message =
                format!("{files}: {} of {} rows repeat others token by token", report.duplicate_rows, report.rows);
            return Err(StageError::input(message).hinted(format!(
                "a template that leaves out the fields in which rows differ causes this; to repeat rows, use \
                 `epochs`; {look}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: usize, tokens: usize, trained: usize) -> DataReport {
        DataReport {
            files: vec!["a.jsonl".to_owned()],
            weight: 1.0,
            rows,
            left_out: 0,
            packed_rows: None,
            tokens,
            trained_tokens: Some(trained),
            eos_trained: Some(1.0),
            cut_rows: 0,
            duplicate_rows: 0,
            decontaminated_rows: 0,
            tokens_p50: 1,
            tokens_p95: 1,
            tokens_max: 1,
            example: ExampleRow { location: String::new(), spans: Vec::new() },
        }
    }

    #[test]
    fn absurd_data_is_refused_with_the_file_and_what_to_do() {
        assert!(check(&[report(10, 1000, 300)]).is_ok());
        let refused = |report: DataReport| {
            let error = check(&[report]).unwrap_err();
            assert!(error.message.contains("`a.jsonl`") && error.hint.is_some(), "{error}");
            error.message
        };
        assert!(refused(report(10, 1000, 0)).contains("only 0 of 1000 tokens"));
        assert!(refused(report(10, 100_000, 99)).contains("only 99"));
        assert!(check(&[report(10, 100_000, 100)]).is_ok());
        assert!(refused(DataReport { eos_trained: Some(0.0), ..report(10, 100, 50) }).contains("never stop"));
        assert!(refused(DataReport { duplicate_rows: 6, ..report(10, 100, 50) }).contains("6 of 10 rows repeat"));
        assert!(check(&[DataReport { duplicate_rows: 5, ..report(10, 100, 50) }]).is_ok());
        assert!(check(&[DataReport { duplicate_rows: 3, ..report(4, 100, 50) }]).is_ok());
    }

    #[test]
    fn lengths_are_nearest_ranks() {
        let rows: Vec<Vec<i64>> = (1..=20).map(|length| vec![7; length]).collect();
        let ids: Vec<&[i64]> = rows.iter().map(Vec::as_slice).collect();
        let spec = DataSpec {
            files: Vec::new(),
            eval_fraction: 0.0,
            dev_fraction: 0.0,
            split: orchestrate_core::recipe::spec::Split::All,
            max_rows: None,
            messages: None,
            decontaminate: None,
            templates: orchestrate_core::recipe::spec::Templates::default(),
            selection: orchestrate_core::recipe::spec::Selection::default(),
        };
        let report = lengths(&spec, &BTreeMap::new(), &ids);
        assert_eq!((report.tokens_p50, report.tokens_p95, report.tokens_max), (10, 19, 20));
        assert_eq!((report.tokens, report.duplicate_rows), (210, 0));
        assert_eq!(ids[median(&ids)].len(), 10);
    }
}
