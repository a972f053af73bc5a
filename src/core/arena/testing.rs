//! Helpers that the arena's tests share.

use super::comparison::{Comparison, ComparisonVerdict};
use crate::digest::Digest;
use crate::recipe::spec::{
    ArenaJudge, ArenaSpec, CompareWith, DataSpec, Dtype, ModelSpec, Pairing, ParentAdapter, PlayerModel, PlayerSpec,
    Sampling, Scope, Selection, Split, Templates,
};
use std::collections::BTreeSet;

/// An arena whose players `p0`, `p1`, ... have the given numbers of models, with `judges` judges.
pub(super) fn spec(models: &[usize], judges: usize) -> ArenaSpec {
    let model = ModelSpec {
        files: Digest::of(b"model"),
        chat_template: None,
        dtype: Dtype::Float32,
        lora: None,
        parent_adapter: ParentAdapter::Continue,
    };
    let player = |(at, &count): (usize, &usize)| PlayerSpec {
        name: format!("p{at}"),
        models: (0..count)
            .map(|seed| PlayerModel { parent: Some(seed), seed: Some(seed as u64), model: model.clone() })
            .collect(),
    };
    let judge = ArenaJudge::Similarity {
        encoder: Digest::of(b"encoder"),
        dtype: Dtype::Float32,
        prompt: None,
        scope: Scope::Completion,
        compare_with: CompareWith::Reference,
        tie_margin: 0.01,
    };
    ArenaSpec {
        data: DataSpec {
            files: Vec::new(),
            eval_fraction: 0.0,
            dev_fraction: 0.0,
            split: Split::All,
            max_rows: None,
            messages: None,
            decontaminate: None,
            templates: Templates::default(),
            selection: Selection::default(),
        },
        by: BTreeSet::new(),
        questions: None,
        sampling: Sampling { temperature: 0.0, ..Sampling::plain(8) },
        batch_size: 4,
        players: models.iter().enumerate().map(player).collect(),
        pairing: Pairing::Full,
        judges: (0..judges).map(|at| (format!("j{at}"), judge.clone())).collect(),
        prior_sd: 400.0,
        bootstrap_resamples: 200,
        max_missing_fraction: 0.5,
    }
}

pub(super) fn comparison(question: usize, a: usize, b: usize, verdicts: &[ComparisonVerdict]) -> Comparison {
    Comparison { question, a, b, verdicts: verdicts.to_vec() }
}
