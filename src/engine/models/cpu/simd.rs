//! Vectors of 32-bit floats, in the widest form that the processor has.
//!
//! A kernel is written once over [`Lanes`] and always inlined. [`on_this_processor`] compiles it for each instruction
//! set and selects one at each call.

#![expect(unsafe_code, reason = "vector instructions read through pointers")]
#![expect(clippy::inline_always, reason = "a kernel must become part of the function that enables the instructions")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _MM_HINT_T0, _mm_cvtss_f32, _mm_movehl_ps, _mm_prefetch, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm512_castsi512_ps,
    _mm512_cvtepu16_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_slli_epi32, _mm512_storeu_ps,
};

/// A vector of floats. Every function requires its instruction set, and at a pointer as many readable or writable
/// numbers as there are lanes.
pub(super) trait Lanes: Copy {
    /// Number of floats in a vector.
    const COUNT: usize;
    /// Number of sums that fit into the registers beside their inputs, for two rows of weights at a time.
    const MAX_ROWS: usize;

    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Loads bfloat16 numbers, given as their bits, and widens them.
    unsafe fn load_bf16(from: *const u16) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Computes `self * factor + sum`, rounded once.
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self;
    /// Returns the sum of the lanes, added in a fixed order.
    unsafe fn sum(self) -> f32;
}

/// An AVX-512 vector.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx512 {
    const COUNT: usize = 16;
    const MAX_ROWS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe {
            let bits = _mm512_cvtepu16_epi32(from.cast::<std::arch::x86_64::__m256i>().read_unaligned());
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, sum.0)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
}

/// An AVX2 vector, with fused multiply-add.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx2 {
    const COUNT: usize = 8;
    const MAX_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(_mm256_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(_mm256_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(_mm256_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe {
            let bits = _mm256_cvtepu16_epi32(from.cast::<std::arch::x86_64::__m128i>().read_unaligned());
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, sum.0)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe {
            let upper = _mm256_castps256_ps128(_mm256_add_ps(
                self.0,
                std::arch::x86_64::_mm256_castps128_ps256(_mm256_extractf128_ps::<1>(self.0)),
            ));
            let pairs = std::arch::x86_64::_mm_add_ps(upper, _mm_movehl_ps(upper, upper));
            _mm_cvtss_f32(std::arch::x86_64::_mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
        }
    }
}

/// A vector in plain Rust, for every other processor.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 4]);

impl Lanes for Portable {
    const COUNT: usize = 4;
    const MAX_ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { Self(from.cast::<[f32; 4]>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        let bits = unsafe { from.cast::<[u16; 4]>().read_unaligned() };
        Self(bits.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + sum.0[i]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
}

/// Prefetches the cache line `bytes` after `from`. Any address is allowed.
#[inline(always)]
pub(super) fn prefetch<T>(from: *const T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 processor has the instruction, and a prefetch does not fault at any address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(bytes).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes);
}

/// Defines `fn name(arguments)`, which runs `kernel::<L>(arguments)` with the widest [`Lanes`] of the processor.
macro_rules! on_this_processor {
    ($(#[$doc:meta])* $visibility:vis unsafe fn $name:ident = $kernel:ident $(::<$($generic:ident: $bound:path),*>)? ($($argument:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        $visibility unsafe fn $name $(<$($generic: $bound),*>)? ($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::models::cpu::simd::{Avx2, Avx512};
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
                unsafe fn avx512 $(<$($generic: $bound),*>)? ($($argument: $type),*) {
                    // SAFETY: the caller vouches for the instructions and for the pointer, if there is one
                    // ([`Lanes`]).
                    unsafe { $kernel::<Avx512 $($(, $generic)*)?>($($argument),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2 $(<$($generic: $bound),*>)? ($($argument: $type),*) {
                    // SAFETY: the caller vouches for the instructions and for the pointer, if there is one
                    // ([`Lanes`]).
                    unsafe { $kernel::<Avx2 $($(, $generic)*)?>($($argument),*) }
                }
                match orchestrate_core::cpu::instructions() {
                    // SAFETY: the caller vouches for the instructions and for the pointer, if there is one
                    // ([`Lanes`]).
                    orchestrate_core::cpu::Instructions::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: the caller vouches for the instructions and for the pointer, if there is one
                    // ([`Lanes`]).
                    orchestrate_core::cpu::Instructions::Avx2 => return unsafe { avx2($($argument),*) },
                    orchestrate_core::cpu::Instructions::Portable => {}
                }
            }
            // SAFETY: the caller vouches for the instructions and for the pointer, if there is one ([`Lanes`]).
            unsafe { $kernel::<$crate::models::cpu::simd::Portable $($(, $generic)*)?>($($argument),*) }
        }
    };
}
pub(super) use on_this_processor;
