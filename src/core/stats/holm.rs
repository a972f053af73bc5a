//! Correction for multiple comparisons.

/// Adjusts p-values so that the probability of any false discovery stays bounded (S. Holm, 1979); keeps their order.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut ascending: Vec<usize> = (0..p_values.len()).collect();
    ascending.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut least = 0.0_f64;
    for (rank, i) in ascending.into_iter().enumerate() {
        least = least.max(p_values[i] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[i] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden, numbers};

    #[test]
    fn holm_equals_statsmodels() {
        let golden = &golden("stats.json")["holm"];
        let adjusted = holm(&numbers(&golden["p_values"]));
        for (value, expected) in adjusted.iter().zip(numbers(&golden["adjusted"])) {
            assert_near(*value, expected, 1e-12);
        }
    }
}
