//! An axis: maps values to pixels, with round numbers beside it.

/// Maps the values from `low` to `high` to the pixels from `start` to `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// Creates an axis that contains all of `values`, with a margin; `[0, 1]` without a finite value.
    pub(super) fn holding(values: impl IntoIterator<Item = f64>, start: f64, end: f64) -> Self {
        let finite = values.into_iter().filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high {
            (0.0, 1.0)
        } else if high - low <= f64::EPSILON * high.abs().max(1.0) {
            (low - low.abs().max(1.0) * 0.1, high + high.abs().max(1.0) * 0.1)
        } else {
            (low - (high - low) * 0.03, high + (high - low) * 0.03)
        };
        Self { low, high, start, end }
    }

    /// Returns the pixel of `value`, clamped to the ends.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    /// Returns about `wanted` round numbers within the ends, each with its text.
    pub(super) fn ticks(&self, wanted: f64) -> Vec<(f64, String)> {
        self.ticks_apart((self.high - self.low) / wanted)
    }

    /// Returns the same as [`Axis::ticks`], restricted to whole numbers.
    pub(super) fn whole_ticks(&self, wanted: f64) -> Vec<(f64, String)> {
        self.ticks_apart(((self.high - self.low) / wanted).max(1.0))
    }

    /// Returns round numbers that are about `rough` apart.
    fn ticks_apart(&self, rough: f64) -> Vec<(f64, String)> {
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= 0.75 * rough);
        let step = step.unwrap_or(10.0 * power);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 12")]
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        let first = (self.low / step).ceil();
        let count = ((self.high / step).floor() - first).clamp(-1.0, 100.0) + 1.0;
        let mut ticks = Vec::new();
        let mut i = 0.0;
        while i < count {
            let value = (first + i) * step;
            let value = if value.abs() < step * 1e-9 { 0.0 } else { value };
            let far = value.abs() >= 1e6 || (value != 0.0 && step < 1e-4);
            ticks.push((value, if far { format!("{value:.1e}") } else { format!("{value:.decimals$}") }));
            i += 1.0;
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(low: f64, high: f64) -> Vec<String> {
        Axis::holding([low, high], 0.0, 100.0).ticks(4.0).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        assert_eq!(ticks(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(ticks(-0.1, 0.31), ["-0.1", "0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(ticks(1400.0, 1610.0), ["1400", "1450", "1500", "1550", "1600"]);
        assert_eq!(ticks(1.0, 5000.0), ["0", "1000", "2000", "3000", "4000", "5000"]);
    }

    #[test]
    fn steps_have_no_fractions() {
        let axis = Axis::holding([1.0, 4.0], 0.0, 100.0);
        assert_eq!(axis.whole_ticks(8.0).into_iter().map(|(_, text)| text).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    }

    #[test]
    fn one_value_and_none_have_an_axis_too() {
        assert!(!ticks(3.0, 3.0).is_empty());
        let none = Axis::holding([f64::NAN], 0.0, 100.0);
        assert!((none.at(0.5) - 50.0).abs() < 1e-9 && (none.at(7.0) - 100.0).abs() < 1e-9);
    }
}
