//! The nearest other row of each row, by its reference.

use super::prose::folded_words;
use std::collections::BTreeSet;

/// Returns for each of `references` the index of the nearest one among the first `pool` whose text differs. Nearness is
/// the cosine of `vectors` where there are some, else the share of common words. `None` without a reference or another.
pub(super) fn nearest(references: &[Option<&str>], vectors: Option<&[Vec<f32>]>, pool: usize) -> Vec<Option<usize>> {
    let sets: Vec<BTreeSet<String>> = match vectors {
        Some(_) => Vec::new(),
        None => references.iter().map(|text| text.map(folded_words).into_iter().flatten().collect()).collect(),
    };
    let nearness = |a: usize, b: usize| {
        if let Some(vectors) = vectors {
            return vectors[a].iter().zip(&vectors[b]).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        }
        let common = sets[a].intersection(&sets[b]).count() as f64;
        common / (sets[a].len() + sets[b].len()).max(1) as f64
    };
    let nearest = |row: usize| {
        let own = references[row]?;
        let others = (0..references.len().min(pool)).filter(|&other| references[other].is_some_and(|text| text != own));
        let rated = others.map(|other| (nearness(row, other), other)).filter(|(nearness, _)| nearness.is_finite());
        rated.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, other)| other)
    };
    (0..references.len()).map(nearest).collect()
}
