//! `x W^T` for few rows of x, where reading W takes most of the time.
//!
//! libtorch's own product repacks W on every call, which for twelve rows takes longer than multiplying. Here all
//! threads together read W once, without a copy. Each output is one sum in a fixed order, so a row's result does not
//! depend on the number or the content of other rows.

#![expect(unsafe_code, reason = "threads write disjoint columns of one matrix, and vectors are read through pointers")]
#![expect(clippy::needless_range_loop, reason = "tiles are unrolled over their indices")]
#![expect(clippy::inline_always, reason = "a kernel must become part of the function that enables the instructions")]

use super::simd::{Lanes, on_this_processor, prefetch};
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Distance in bytes at which weights are prefetched: two pages, since the processor's own prefetcher does not cross
/// pages.
const PREFETCH_BYTES: usize = 8192;
/// Minimum number of outputs that a thread computes at a time.
const MIN_OUTPUTS: usize = 16;

/// A weight matrix of shape (out, in), in row-major order.
#[derive(Clone, Copy)]
pub(super) enum Matrix<'a> {
    /// 32-bit numbers.
    Float(&'a [f32]),
    /// bfloat16 numbers; products and sums are 32-bit.
    Bfloat16(&'a [bf16]),
}

/// A linear layer in the form that the kernels read.
pub(super) struct Projection<'a> {
    pub(super) weight: Matrix<'a>, // (out, in)
    pub(super) out_features: usize,
    pub(super) in_features: usize,
    pub(super) bias: Option<Vec<f32>>, // (out,)
    pub(super) adapter: Option<Adapter<'a>>,
}

/// A low-rank adapter, which adds `scale * B A x`.
pub(super) struct Adapter<'a> {
    pub(super) a: &'a [f32], // (r, in)
    pub(super) b: &'a [f32], // (out, r)
    pub(super) rank: usize,
    pub(super) scale: f32,
}

/// The way a projection's outputs are written.
#[derive(Clone, Copy)]
pub(super) enum Store {
    /// Outputs replace the existing values.
    Set,
    /// Outputs are added to the existing values.
    Add,
}

impl Projection<'_> {
    /// Computes the adapter's `scale * A x`. The result is empty without an adapter. // (M, in) -> (M, r)
    fn low_rank(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let Some(Adapter { a, rank, scale, .. }) = &self.adapter else { return Vec::new() };
        let mut h = vec![0.0; rows * rank];
        let input = Input { x, features: self.in_features, low_rank: None };
        multiply(&Matrix::Float(a), &input, rows, 0..*rank, &Columns::new(&mut h, *rank), Store::Set);
        for value in &mut h {
            *value *= scale;
        }
        h
    }

    fn outputs(&self, x: &[f32], h: &[f32], rows: usize, range: Range<usize>, y: &Columns, store: Store) {
        let low_rank = self.adapter.as_ref().map(|Adapter { b, rank, .. }| LowRank { h, b, rank: *rank });
        multiply(&self.weight, &Input { x, features: self.in_features, low_rank }, rows, range.clone(), y, store);
        if let Some(bias) = &self.bias {
            for row in 0..rows {
                for n in range.clone() {
                    // SAFETY: only this thread writes the columns of `range`.
                    unsafe { *y.at(row, n) += bias[n] };
                }
            }
        }
    }
}

/// Runs each of `projections` on `x`, (M, in), and writes to its matrix in `outputs`, (M, out). It uses the threads of
/// the current pool.
pub(super) fn project(
    x: &[f32],
    rows: usize,
    projections: &[&Projection<'_>],
    outputs: &mut [&mut [f32]],
    store: Store,
) {
    let low_rank: Vec<Vec<f32>> = projections.par_iter().map(|p| p.low_rank(x, rows)).collect();
    let columns: Vec<Columns> =
        projections.iter().zip(outputs).map(|(p, output)| Columns::new(output, p.out_features)).collect();
    let tasks: Vec<(usize, Range<usize>)> =
        projections.iter().enumerate().flat_map(|(i, p)| parts(p.out_features).map(move |range| (i, range))).collect();
    tasks.into_par_iter().for_each(|(i, range)| {
        projections[i].outputs(x, &low_rank[i], rows, range, &columns[i], store);
    });
}

/// Computes `silu(gate x) * (up x)` (`SwiGLU`, arXiv:2002.05202). // (M, in) -> (M, out)
pub(super) fn project_gated(x: &[f32], rows: usize, gate: &Projection<'_>, up: &Projection<'_>, y: &mut [f32]) {
    let (gate_h, up_h) = rayon::join(|| gate.low_rank(x, rows), || up.low_rank(x, rows));
    let out = gate.out_features;
    let mut ups = vec![0.0; rows * out];
    let (y, ups) = (Columns::new(y, out), Columns::new(&mut ups, out));
    parts(out).collect::<Vec<_>>().into_par_iter().for_each(|range| {
        gate.outputs(x, &gate_h, rows, range.clone(), &y, Store::Set);
        up.outputs(x, &up_h, rows, range.clone(), &ups, Store::Set);
        for row in 0..rows {
            for n in range.clone() {
                // SAFETY: only this thread writes the columns of `range`.
                unsafe {
                    let gate = *y.at(row, n);
                    *y.at(row, n) = gate / (1.0 + (-gate).exp()) * *ups.at(row, n);
                }
            }
        }
    });
}

/// Splits outputs into ranges, a few for each thread.
fn parts(out_features: usize) -> impl Iterator<Item = Range<usize>> {
    let count = (out_features / MIN_OUTPUTS).clamp(1, 4 * rayon::current_num_threads());
    let size = out_features.div_ceil(count).next_multiple_of(2);
    (0..out_features).step_by(size).map(move |start| start..(start + size).min(out_features))
}

/// A matrix whose columns several threads write.
struct Columns {
    start: *mut f32, // (M, N)
    width: usize,
    len: usize,
}

// SAFETY: each thread writes different columns.
unsafe impl Sync for Columns {}

impl Columns {
    fn new(values: &mut [f32], width: usize) -> Self {
        Self { start: values.as_mut_ptr(), width, len: values.len() }
    }

    fn at(&self, row: usize, column: usize) -> *mut f32 {
        let index = row * self.width + column;
        assert!(index < self.len, "an output lies inside its matrix");
        // SAFETY: the assertion above checks the index.
        unsafe { self.start.add(index) }
    }
}

/// The inputs of a product.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: &'a [f32], // (M, K)
    features: usize,
    low_rank: Option<LowRank<'a>>,
}

#[derive(Clone, Copy)]
struct LowRank<'a> {
    h: &'a [f32], // (M, r)
    b: &'a [f32], // (N, r)
    rank: usize,
}

/// Computes the outputs of `range`.
fn multiply(weight: &Matrix<'_>, input: &Input<'_>, rows: usize, range: Range<usize>, y: &Columns, store: Store) {
    let k = input.features;
    assert!(input.x.len() >= rows * k, "x has {rows} rows of {k}");
    if let Some(low_rank) = &input.low_rank {
        assert!(low_rank.h.len() >= rows * low_rank.rank && low_rank.b.len() >= range.end * low_rank.rank);
    }
    match weight {
        Matrix::Float(weight) => {
            assert!(weight.len() >= range.end * k, "the weight has {} rows of {k}", range.end);
            // SAFETY: all sizes were checked above.
            unsafe { columns(weight, input, rows, range, y, store) };
        }
        Matrix::Bfloat16(weight) => {
            assert!(weight.len() >= range.end * k, "the weight has {} rows of {k}", range.end);
            // SAFETY: all sizes were checked above.
            unsafe { columns(weight, input, rows, range, y, store) };
        }
    }
}

/// A number format of weights.
pub(super) trait Number: Copy + Sync {
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
    fn value(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller vouches for the instructions and the pointer.
        unsafe { L::load(from) }
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

impl Number for bf16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: the caller vouches for the instructions and the pointer; a bfloat16 number is its 16 bits.
        unsafe { L::load_bf16(from.cast()) }
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self.to_f32()
    }
}

on_this_processor! {
    unsafe fn columns = columns_with::<W: Number>(
        weight: &[W], input: &Input<'_>, rows: usize, range: Range<usize>, y: &Columns, store: Store,
    )
}

#[inline(always)]
unsafe fn columns_with<L: Lanes, W: Number>(
    weight: &[W],
    input: &Input<'_>,
    rows: usize,
    range: Range<usize>,
    y: &Columns,
    store: Store,
) {
    let blocks = rows.div_ceil(L::MAX_ROWS);
    let mut n = range.start;
    while n < range.end {
        let pair = n + 1 < range.end;
        for block in 0..blocks {
            // blocks have nearly equal heights; after the first block the weights are in the cache
            let (first, end) = (block * rows / blocks, (block + 1) * rows / blocks);
            // SAFETY: the rows of `block` lie in the input, and column `n`, with the next one where there is a pair,
            // in the weights.
            unsafe {
                if pair {
                    block_of_rows::<L, W, 2>(weight, input, first..end, n, y, store);
                } else {
                    block_of_rows::<L, W, 1>(weight, input, first..end, n, y, store);
                }
            }
        }
        n += 2;
    }
}

#[inline(always)]
unsafe fn block_of_rows<L: Lanes, W: Number, const R: usize>(
    weight: &[W],
    input: &Input<'_>,
    rows: Range<usize>,
    n: usize,
    y: &Columns,
    store: Store,
) {
    macro_rules! with_height {
        ($($height:literal)*) => {
            match rows.len() {
                // SAFETY: as for `block_of_rows`; `rows` has exactly this height.
                $($height => unsafe { tile::<L, W, R, $height>(weight, input, rows.start, n, y, store) },)*
                height => unreachable!("a block has at most {} rows, not {height}", L::MAX_ROWS),
            }
        };
    }
    with_height!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// Computes `R` outputs of `M` rows, as many sums as there are registers for.
#[inline(always)]
unsafe fn tile<L: Lanes, W: Number, const R: usize, const M: usize>(
    weight: &[W],
    input: &Input<'_>,
    first_row: usize,
    n: usize,
    y: &Columns,
    store: Store,
) {
    if M > L::MAX_ROWS {
        return; // never reached; it spares the compiler the code
    }
    let Input { x, features: k, low_rank } = *input;
    // SAFETY: the tile's rows lie in the input and its columns in the weights, each of `k` numbers.
    unsafe {
        let mut sums = [[L::zero(); M]; R];
        let mut rest = [[0.0f32; M]; R];
        accumulate(x.as_ptr().add(first_row * k), weight.as_ptr().add(n * k), k, &mut sums, &mut rest);
        if let Some(LowRank { h, b, rank }) = low_rank {
            accumulate(h.as_ptr().add(first_row * rank), b.as_ptr().add(n * rank), rank, &mut sums, &mut rest);
        }
        for r in 0..R {
            for m in 0..M {
                let value = sums[r][m].sum() + rest[r][m];
                let y = y.at(first_row + m, n + r);
                match store {
                    Store::Set => *y = value,
                    Store::Add => *y += value,
                }
            }
        }
    }
}

/// Adds the inner products of `M` rows of `x` with `R` rows of `weight`, each of `k` numbers.
#[inline(always)]
unsafe fn accumulate<L: Lanes, W: Number, const R: usize, const M: usize>(
    x: *const f32,
    weight: *const W,
    k: usize,
    sums: &mut [[L; M]; R],
    rest: &mut [[f32; M]; R],
) {
    let mut i = 0;
    // SAFETY: both pointers are to rows of `k` numbers, and `i + L::COUNT` is at most `k`.
    unsafe {
        while i + L::COUNT <= k {
            let mut w = [L::zero(); R];
            for (r, w) in w.iter_mut().enumerate() {
                let from = weight.add(r * k + i);
                prefetch(from, PREFETCH_BYTES);
                *w = W::load(from);
            }
            for m in 0..M {
                let x = L::load(x.add(m * k + i));
                for r in 0..R {
                    sums[r][m] = w[r].mul_add(x, sums[r][m]);
                }
            }
            i += L::COUNT;
        }
        while i < k {
            for r in 0..R {
                let w = (*weight.add(r * k + i)).value();
                for m in 0..M {
                    rest[r][m] += w * *x.add(m * k + i);
                }
            }
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::Portable;
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0) - 0.5).collect()
    }

    fn naive(x: &[f32], w: &[f32], rows: usize, n: usize, k: usize) -> Vec<f64> {
        (0..rows * n).map(|i| (0..k).map(|j| f64::from(x[i / n * k + j]) * f64::from(w[i % n * k + j])).sum()).collect()
    }

    #[test]
    fn products_are_right_for_every_shape_and_rows_do_not_depend_on_each_other() {
        for (n, k) in [(1, 1), (7, 16), (64, 50), (33, 576)] {
            let w = numbers(n * k, 1);
            let (a, b) = (numbers(5 * k, 2), numbers(n * 5, 3));
            let rounded: Vec<bf16> = w.iter().map(|&v| bf16::from_f32(v)).collect();
            let widened: Vec<f32> = rounded.iter().map(|v| v.to_f32()).collect();
            for (weight, w) in [(Matrix::Float(&w), &w), (Matrix::Bfloat16(&rounded), &widened)] {
                let mut alone = Vec::new();
                for rows in [1, 2, 5, 12, 13, 25] {
                    let x = numbers(rows * k, 4);
                    let adapter = Some(Adapter { a: &a, b: &b, rank: 5, scale: 0.5 });
                    let bias = Some(numbers(n, 6));
                    let layer = Projection { weight, out_features: n, in_features: k, bias, adapter };
                    let mut y = vec![1.0; rows * n];
                    project(&x, rows, &[&layer], &mut [&mut y], Store::Add);
                    let h: Vec<f32> = naive(&x, &a, rows, 5, k).iter().map(|v| *v as f32).collect();
                    let (dense, low) = (naive(&x, w, rows, n, k), naive(&h, &b, rows, n, 5));
                    for i in 0..rows * n {
                        let expected = 1.0 + dense[i] + 0.5 * low[i] + f64::from(numbers(n, 6)[i % n]);
                        assert!(
                            (f64::from(y[i]) - expected).abs() < 1e-5,
                            "({n}, {k}), {rows} rows: {} {expected}",
                            y[i]
                        );
                    }
                    if rows == 1 {
                        alone.clone_from(&y);
                    }
                    assert_eq!(y[..n], alone[..], "the first row of {rows} differs from the row alone");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_to_rounding() {
        let (rows, n, k) = (3, 10, 100);
        let (x, w) = (numbers(rows * k, 1), numbers(n * k, 2));
        let input = Input { x: &x, features: k, low_rank: None };
        let (mut here, mut plain) = (vec![0.0; rows * n], vec![0.0; rows * n]);
        multiply(&Matrix::Float(&w), &input, rows, 0..n, &Columns::new(&mut here, n), Store::Set);
        // SAFETY: the sizes are those of `multiply`.
        unsafe { columns_with::<Portable, f32>(&w, &input, rows, 0..n, &Columns::new(&mut plain, n), Store::Set) };
        for (a, b) in here.iter().zip(&plain) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(w: &[f32], input: &Input<'_>, rows: usize, n: usize, y: &Columns) {
                // SAFETY: the test runs only with AVX2, and the slices have the given sizes.
                unsafe { columns_with::<super::super::simd::Avx2, f32>(w, input, rows, 0..n, y, Store::Set) }
            }
            // SAFETY: the processor has the instructions, and the sizes are those of `multiply`.
            unsafe { avx2(&w, &input, rows, n, &Columns::new(&mut plain, n)) };
            for (a, b) in here.iter().zip(&plain) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_gate_is_silu() {
        let (x, g, u) = (numbers(2 * 8, 1), numbers(6 * 8, 2), numbers(6 * 8, 3));
        let layer = |w: &'static [f32]| Projection {
            weight: Matrix::Float(w),
            out_features: 6,
            in_features: 8,
            bias: None,
            adapter: None,
        };
        let mut y = vec![0.0; 12];
        project_gated(&x, 2, &layer(g.clone().leak()), &layer(u.clone().leak()), &mut y);
        let (g, u) = (naive(&x, &g, 2, 6, 8), naive(&x, &u, 2, 6, 8));
        for i in 0..12 {
            let expected = g[i] / (1.0 + (-g[i]).exp()) * u[i];
            assert!((f64::from(y[i]) - expected).abs() < 1e-6);
        }
    }
}
