//! Attention of one new token for each row over the keys and values so far. These are in two parts: the prompt's, which
//! its group shares, and the row's own.

#![expect(unsafe_code, reason = "vectors are read through pointers")]
#![expect(clippy::inline_always, reason = "a kernel must become part of the function that enables the instructions")]

use super::simd::{Lanes, on_this_processor};

/// Keys and values of consecutive tokens of one key-value head.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) keys: &'a [f32],   // (tokens, D)
    pub(super) values: &'a [f32], // (tokens, D)
}

/// Computes the attention of one query over `spans`, `softmax(q k / sqrt(D)) v`, and writes it to `y`. `scores` is a
/// buffer for reuse. // (D,) -> (D,)
pub(super) fn attend(query: &[f32], spans: &[Span<'_>], scores: &mut Vec<f32>, y: &mut [f32]) {
    let size = query.len();
    assert_eq!(y.len(), size, "an output is as long as its query");
    for span in spans {
        assert!(span.keys.len() == span.values.len() && span.keys.len().is_multiple_of(size), "whole keys and values");
    }
    // SAFETY: all sizes were checked above.
    unsafe { attend_here(query, spans, scores, y) };
}

on_this_processor! {
    unsafe fn attend_here = attend_with(query: &[f32], spans: &[Span<'_>], scores: &mut Vec<f32>, y: &mut [f32])
}

#[inline(always)]
unsafe fn attend_with<L: Lanes>(query: &[f32], spans: &[Span<'_>], scores: &mut Vec<f32>, y: &mut [f32]) {
    let size = query.len();
    let scale = 1.0 / (size as f32).sqrt();
    scores.clear();
    for span in spans {
        for key in span.keys.chunks_exact(size) {
            // SAFETY: the caller runs on a processor with the instructions of `L`; both slices have `size` numbers.
            scores.push(unsafe { dot::<L>(query, key) } * scale);
        }
    }
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        total += *score;
    }
    let mut column = 0;
    // SAFETY: as above; `weigh` writes `N * L::COUNT` columns from `column`, and there are as many before `size`.
    unsafe {
        while column + 4 * L::COUNT <= size {
            weigh::<L, 4>(spans, size, column, scores, total, y);
            column += 4 * L::COUNT;
        }
        while column + L::COUNT <= size {
            weigh::<L, 1>(spans, size, column, scores, total, y);
            column += L::COUNT;
        }
    }
    for (i, y) in y.iter_mut().enumerate().skip(column) {
        let values = spans.iter().flat_map(|span| span.values.chunks_exact(size));
        *y = values.zip(scores.iter()).map(|(value, score)| value[i] * score).sum::<f32>() / total;
    }
}

/// Computes `N` vectors of the weighted mean of the values, from `column` on.
#[inline(always)]
unsafe fn weigh<L: Lanes, const N: usize>(
    spans: &[Span<'_>],
    size: usize,
    column: usize,
    scores: &[f32],
    total: f32,
    y: &mut [f32],
) {
    // SAFETY: the caller runs on a processor with the instructions of `L`. Each row of values has `size` numbers, and
    // all columns that are read and written are below `size`.
    unsafe {
        let mut sums = [L::zero(); N];
        let mut scores = scores.iter();
        for span in spans {
            for (value, score) in span.values.chunks_exact(size).zip(&mut scores) {
                let score = L::splat(*score);
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = L::load(value.as_ptr().add(column + i * L::COUNT)).mul_add(score, *sum);
                }
            }
        }
        let share = L::splat(1.0 / total);
        for (i, sum) in sums.into_iter().enumerate() {
            sum.mul_add(share, L::zero()).store(y.as_mut_ptr().add(column + i * L::COUNT));
        }
    }
}

#[inline(always)]
unsafe fn dot<L: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: the caller runs on a processor with the instructions of `L`.
    let mut sum = unsafe { L::zero() };
    let mut i = 0;
    while i + L::COUNT <= a.len() {
        // SAFETY: `i + L::COUNT` is at most the length of `a`, and `b` is as long.
        sum = unsafe { L::load(a.as_ptr().add(i)).mul_add(L::load(b.as_ptr().add(i)), sum) };
        i += L::COUNT;
    }
    let rest: f32 = a[i..].iter().zip(&b[i..]).map(|(a, b)| a * b).sum();
    // SAFETY: as above.
    unsafe { sum.sum() + rest }
}

on_this_processor! {
    unsafe fn sum_of_squares_here = sum_of_squares_with(x: &[f32], result: &mut f32)
}

#[inline(always)]
unsafe fn sum_of_squares_with<L: Lanes>(x: &[f32], result: &mut f32) {
    // SAFETY: the caller runs on a processor with the instructions of `L`.
    *result = unsafe { dot::<L>(x, x) };
}

/// Computes the sum of squares.
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    let mut result = 0.0;
    // SAFETY: the slice is read within its bounds.
    unsafe { sum_of_squares_here(x, &mut result) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_attended_to_as_one() {
        for size in [8, 24, 64, 128] {
            let number = |i: usize| ((i * 7919) % 1013) as f32 / 1013.0 - 0.5;
            let keys: Vec<f32> = (0..7 * size).map(number).collect();
            let values: Vec<f32> = (0..7 * size).map(|i| number(i + 5)).collect();
            let query: Vec<f32> = (0..size).map(|i| 3.0 * number(i + 9)).collect();
            let weights: Vec<f64> = keys
                .chunks(size)
                .map(|key| key.iter().zip(&query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>())
                .map(|score| (score / (size as f64).sqrt()).exp())
                .collect();
            let cut = |at: usize| Span { keys: &keys[..at * size], values: &values[..at * size] };
            let rest = |at: usize| Span { keys: &keys[at * size..], values: &values[at * size..] };
            for spans in [[cut(0), rest(0)], [cut(4), rest(4)]] {
                let mut y = vec![0.0; size];
                attend(&query, &spans, &mut Vec::new(), &mut y);
                for (i, y) in y.iter().enumerate() {
                    let sum: f64 = (0..7).map(|token| weights[token] * f64::from(values[token * size + i])).sum();
                    let expected = sum / weights.iter().sum::<f64>();
                    assert!((f64::from(*y) - expected).abs() < 1e-6, "size {size}: {y} {expected}");
                }
            }
        }
    }
}
