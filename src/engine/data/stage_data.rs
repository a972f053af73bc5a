//! The data of each stage kind, with its reports.

use super::conversations::conversations_of;
use super::documents::{documents, documents_of};
use super::mixture::Mixture;
use super::options::options;
use super::preflight::{check, of_prompts, of_sequences};
use super::prompts::{Example, asked, prompts, prompts_of};
use super::sequence::{PackedRow, Sequence, one_a_row, packed_rows};
use super::slices::slices;
use crate::error::{StageError, StageResult};
use crate::models::load_config;
use crate::policy;
use crate::tokenizer::Tokenizer;
use orchestrate_core::digest::Digest;
use orchestrate_core::exec::{DataReport, Inspection};
use orchestrate_core::leakage::clean_rows;
use orchestrate_core::recipe::spec::{
    ArenaSpec, CptSpec, EvalSpec, GenerateSpec, GrpoSpec, SftSpec, TextUse, WeightedData, Work,
};
use orchestrate_core::rewards::RowTexts;
use orchestrate_core::workspace::Assignment;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The path of each file, by its digest.
type Inputs = BTreeMap<Digest, PathBuf>;

/// The data from which a training stage draws.
#[derive(Debug)]
pub struct StageData<T> {
    /// The stage's data sets, in the order of the spec.
    pub mixture: Mixture<T>,
    /// The report of each data set.
    pub reports: Vec<DataReport>,
}

impl<T> StageData<T> {
    fn read(
        sets: &[WeightedData],
        mut read: impl FnMut(&WeightedData) -> StageResult<(Vec<T>, DataReport)>,
    ) -> StageResult<Self> {
        let mut parts = Vec::with_capacity(sets.len());
        let mut reports = Vec::with_capacity(sets.len());
        for set in sets {
            let (items, report) = read(set)?;
            parts.push((set.weight, items));
            reports.push(DataReport { weight: set.weight, ..report });
        }
        Ok(Self { mixture: Mixture::new(parts), reports })
    }
}

/// Loads the documents of a CPT stage, packed into rows.
pub fn cpt(spec: &CptSpec, inputs: &Inputs, tokenizer: &Tokenizer) -> StageResult<StageData<PackedRow>> {
    StageData::read(&spec.data, |set| {
        let (rows, dropped) = clean_rows(&set.data, TextUse::Documents, inputs)?;
        let documents = documents_of(&set.data, rows, tokenizer)?;
        let rows = packed_rows(&documents, spec.seq_len);
        let report = DataReport {
            packed_rows: Some(rows.len()),
            decontaminated_rows: dropped,
            cut_rows: documents.iter().filter(|document| document.ids.len() > spec.seq_len).count(),
            ..of_sequences(&set.data, inputs, &documents, tokenizer)
        };
        Ok((rows, report))
    })
}

/// Loads the conversations of an SFT stage, packed into rows if the spec requests it.
pub fn sft(spec: &SftSpec, inputs: &Inputs, tokenizer: &Tokenizer) -> StageResult<StageData<PackedRow>> {
    StageData::read(&spec.data, |set| {
        let (rows, dropped) = clean_rows(&set.data, TextUse::Conversations, inputs)?;
        let sequences = conversations_of(&set.data, rows, tokenizer, spec.seq_len, &spec.train_on)?;
        if let Some(silent) = sequences.iter().find(|sequence| sequence.trained_tokens() == 0) {
            return Err(StageError::input(format!("{}: no token of the row carries loss", silent.location)).hinted(
                "the conversation has no turn of a role that `train_on` lists: remove the row, or list another role",
            ));
        }
        let rows = if spec.packing { packed_rows(&sequences, spec.seq_len) } else { one_a_row(&sequences) };
        let report = DataReport {
            packed_rows: spec.packing.then_some(rows.len()),
            decontaminated_rows: dropped,
            ..of_sequences(&set.data, inputs, &sequences, tokenizer)
        };
        Ok((rows, report))
    })
}

/// Loads the prompts of a GRPO stage.
pub fn grpo(spec: &GrpoSpec, inputs: &Inputs, tokenizer: &Tokenizer) -> StageResult<StageData<Example>> {
    StageData::read(&spec.data, |set| {
        let (rows, dropped) = clean_rows(&set.data, TextUse::Questions, inputs)?;
        let examples = prompts_of(&set.data, rows, tokenizer, spec.sampling.max_prompt_tokens)?;
        let report = DataReport { decontaminated_rows: dropped, ..of_prompts(&set.data, inputs, &examples, tokenizer) };
        Ok((examples, report))
    })
}

/// Returns the reports of an evaluation's questions, and of the documents whose perplexity is measured.
fn eval(spec: &EvalSpec, inputs: &Inputs, tokenizer: &Tokenizer) -> StageResult<Vec<DataReport>> {
    let questions = prompts(&spec.data, inputs, tokenizer, spec.sampling.max_prompt_tokens)?;
    let mut reports = vec![of_prompts(&spec.data, inputs, &questions, tokenizer)];
    if let Some(of_rows) = &spec.options {
        options(&spec.data, of_rows, inputs, tokenizer)?;
    }
    slices(&spec.data, &spec.by, inputs)?;
    if let Some(text) = &spec.text {
        let documents: Vec<Sequence> = documents(text, inputs, tokenizer)?;
        // documents are measured, not trained on
        let measured = of_sequences(text, inputs, &documents, tokenizer);
        reports.push(DataReport { trained_tokens: None, eos_trained: None, ..measured });
    }
    Ok(reports)
}

/// Returns the report of an arena's questions, tokenized for the first player.
fn arena(spec: &ArenaSpec, assignment: &Assignment) -> StageResult<Vec<DataReport>> {
    let Some(first) = spec.models().next() else { return Ok(Vec::new()) };
    let tokenizer = policy::tokenizer(&policy::of_player(assignment, first)?)?;
    let questions = prompts(&spec.data, &assignment.inputs, &tokenizer, spec.sampling.max_prompt_tokens)?;
    slices(&spec.data, &spec.by, &assignment.inputs)?;
    Ok(vec![of_prompts(&spec.data, &assignment.inputs, &questions, &tokenizer)])
}

/// Returns the texts of the rows whose prompts a stage uses.
pub fn row_texts(assignment: &Assignment) -> StageResult<Vec<RowTexts>> {
    let tokenizer = policy::tokenizer(assignment)?;
    let mut rows = Vec::new();
    for set in assignment.spec.work.prompts() {
        let (clean, _) = clean_rows(set, TextUse::Questions, &assignment.inputs)?;
        let examples = prompts_of(set, clean, &tokenizer, usize::MAX)?;
        let texts = |Example { prompt, reference, answer, .. }| RowTexts { prompt, reference, answer };
        rows.extend(examples.into_iter().map(texts));
    }
    Ok(rows)
}

/// Reads the data of a stage as the stage would. The result includes the error that the stage would report.
pub fn inspect(assignment: &Assignment) -> Inspection {
    let inputs = &assignment.data_files();
    let read = || -> StageResult<Vec<DataReport>> {
        if let Work::Generate(GenerateSpec { judge: Some(_), data, .. }) = &assignment.spec.work {
            asked(data, inputs, true)?;
            return Ok(Vec::new());
        }
        if let Work::Arena(spec) = &assignment.spec.work {
            return arena(spec, assignment);
        }
        // otherwise an unsupported model would be found only when its stage begins, after all stages before it
        load_config(policy::input(assignment, &policy::model(assignment)?.files)?)?;
        let tokenizer = policy::tokenizer(assignment)?;
        match &assignment.spec.work {
            Work::Cpt(spec) => cpt(spec, inputs, &tokenizer).map(|data| data.reports),
            Work::Sft(spec) => sft(spec, inputs, &tokenizer).map(|data| data.reports),
            Work::Grpo(spec) => grpo(spec, inputs, &tokenizer).map(|data| data.reports),
            Work::Eval(spec) => eval(spec, inputs, &tokenizer),
            Work::Generate(spec) => {
                let questions = prompts(&spec.data, inputs, &tokenizer, spec.sampling.max_prompt_tokens)?;
                Ok(vec![of_prompts(&spec.data, inputs, &questions, &tokenizer)])
            }
            Work::Command(_) | Work::Arena(_) => Err(StageError::no_worker_for(&assignment.stage)),
        }
    };
    let (data, failure) = match read() {
        Ok(reports) => {
            let absurd = check(&reports).err();
            (reports, absurd)
        }
        Err(error) => (Vec::new(), Some(error)),
    };
    Inspection {
        stage: assignment.stage.clone(),
        kind: assignment.spec.work.kind(),
        data,
        failure: failure.map(Into::into),
    }
}
