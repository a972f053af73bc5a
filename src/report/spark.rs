//! Sparklines: a curve in one line of text.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws `values` in at most `width` characters. Each character is the mean of an equal part of the values, scaled
/// from the smallest mean to the largest. Values that are not finite are left out.
pub fn sparkline(values: &[f64], width: usize) -> String {
    let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if values.is_empty() || width == 0 {
        return String::new();
    }
    let columns = width.min(values.len());
    let means: Vec<f64> = (0..columns)
        .map(|column| {
            let share = &values[column * values.len() / columns..(column + 1) * values.len() / columns];
            share.iter().sum::<f64>() / share.len() as f64
        })
        .collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    means.into_iter().map(|mean| LEVELS[level((mean - low) / (high - low))]).collect()
}

fn level(share: f64) -> usize {
    if share.is_nan() {
        return LEVELS.len() / 2; // a flat curve
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 8")]
    let level = (share * LEVELS.len() as f64) as usize;
    level.min(LEVELS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_curve_rises() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8), "▁▂▃▄▅▆▇█");
    }

    #[test]
    fn long_curves_are_averaged_into_the_width() {
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(sparkline(&values, 4), "▁▃▆█");
    }

    #[test]
    fn flat_and_empty_curves_do_not_fail() {
        assert_eq!(sparkline(&[2.0, 2.0, 2.0], 10), "▅▅▅");
        assert_eq!(sparkline(&[f64::NAN], 10), "");
    }
}
