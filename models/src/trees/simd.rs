//! The two steps of the ranked evaluator that compilers don't vectorise by themselves: ranks and leaf values.

use super::ranked::Column;

/// Instructions that the evaluator is compiled for. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Simd {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Simd {
    /// What this processor has, the fastest last.
    pub fn available() -> Vec<Simd> {
        #[allow(unused_mut, reason = "nothing to add on other processors")]
        let mut all = vec![Simd::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2");
            if avx2 {
                all.push(Simd::Avx2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
            {
                all.push(Simd::Avx512);
            }
        }
        all
    }

    /// The fastest that this processor has.
    pub fn best() -> Simd {
        static BEST: std::sync::OnceLock<Simd> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Simd::Portable))
    }
}

pub(super) trait Kernel {
    /// `ranks[i]`: how many of the column's thresholds lie below `x[i]`, which is no NaN.
    fn rank<const L: usize>(column: &Column, x: &[f32; L], ranks: &mut [u8; L]);

    /// Adds `values[leaves[i]]` to `sums[i]`. `values` has a power of two of at least 16 entries, more than any of `leaves`.
    fn add_values<const L: usize>(leaves: &[u8; L], values: &[f32], sums: &mut [f32; L]);
}

pub(super) struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    fn rank<const L: usize>(column: &Column, x: &[f32; L], ranks: &mut [u8; L]) {
        let mut at = [1u32; L];
        for _ in 0..column.levels {
            // Masked, so that no check is needed: the last level ends at the table's end.
            let mask = column.search.len() - 1;
            for i in 0..L {
                let t = column.search[at[i] as usize & mask];
                at[i] = 2 * at[i] + u32::from(t < x[i]);
            }
        }
        for (rank, at) in ranks.iter_mut().zip(at) {
            *rank = (at - (1 << column.levels)) as u8;
        }
    }

    #[inline(always)]
    fn add_values<const L: usize>(leaves: &[u8; L], values: &[f32], sums: &mut [f32; L]) {
        for (sum, leaf) in sums.iter_mut().zip(leaves) {
            *sum += values[usize::from(*leaf) & (values.len() - 1)];
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Avx512;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Column, Kernel};

    /// Tables of up to 256 floats lie in 16 registers and are looked up there: a gather from memory takes three times as long.
    pub(in super::super) struct Avx512;

    impl Kernel for Avx512 {
        #[inline(always)]
        fn rank<const L: usize>(column: &Column, x: &[f32; L], ranks: &mut [u8; L]) {
            // SAFETY: only `Ranked::avx512` uses this kernel, and it runs only where the processor has AVX-512.
            unsafe { rank(column, x, ranks) }
        }

        #[inline(always)]
        fn add_values<const L: usize>(leaves: &[u8; L], values: &[f32], sums: &mut [f32; L]) {
            // SAFETY: as above.
            unsafe { add_values(leaves, values, sums) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(from: &[f32; 16]) -> __m512 {
        // SAFETY: 16 floats are readable; the load needs no alignment.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    /// `table[at & (16 N - 1)]` of a table of `N` registers, a power of two up to 16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn look_up<const N: usize>(table: &[[f32; 16]; N], at: __m512i) -> __m512 {
        if N == 1 {
            return _mm512_permutexvar_ps(at, load(&table[0]));
        }
        // Two registers are looked up by the low five bits; each further bit chooses between two results.
        let mut out = [_mm512_setzero_ps(); 8];
        let mut n = N / 2;
        for i in 0..n {
            out[i] = _mm512_permutex2var_ps(load(&table[2 * i]), at, load(&table[2 * i + 1]));
        }
        let mut bit = 32;
        while n > 1 {
            let odd = _mm512_test_epi32_mask(at, _mm512_set1_epi32(bit));
            n /= 2;
            for i in 0..n {
                out[i] = _mm512_mask_blend_ps(odd, out[2 * i], out[2 * i + 1]);
            }
            bit *= 2;
        }
        out[0]
    }

    /// The `N` registers of the table from number `first` on.
    #[inline(always)]
    fn part<const N: usize>(table: &[f32], first: usize) -> &[[f32; 16]; N] {
        match table.as_chunks().0[first..].first_chunk() {
            Some(part) => part,
            None => unreachable!("tables are as long as their levels say"),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn rank<const L: usize>(column: &Column, x: &[f32; L], ranks: &mut [u8; L]) {
        let table = &column.search;
        let one = _mm512_set1_epi32(1);
        // Four registers of values at a time hide the latency of the look-ups.
        for (x, ranks) in x.as_chunks::<64>().0.iter().zip(ranks.as_chunks_mut::<64>().0) {
            let mut at = [one; 4];
            for level in 0..column.levels {
                for (at, x) in at.iter_mut().zip(x.as_chunks::<16>().0) {
                    let t = match level {
                        0..=3 => look_up(part::<1>(table, 0), *at),
                        4 => look_up(part::<1>(table, 1), *at),
                        5 => look_up(part::<2>(table, 2), *at),
                        6 => look_up(part::<4>(table, 4), *at),
                        _ => look_up(part::<8>(table, 8), *at),
                    };
                    let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(t, load(x));
                    let twice = _mm512_add_epi32(*at, *at);
                    *at = _mm512_mask_add_epi32(twice, below, twice, one);
                }
            }
            for (at, ranks) in at.into_iter().zip(ranks.as_chunks_mut::<16>().0) {
                let rank = _mm512_cvtepi32_epi8(_mm512_sub_epi32(at, _mm512_set1_epi32(1 << column.levels)));
                // SAFETY: 16 bytes are writable; the store needs no alignment.
                unsafe { _mm_storeu_si128(ranks.as_mut_ptr().cast(), rank) };
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn add_values<const L: usize>(leaves: &[u8; L], values: &[f32], sums: &mut [f32; L]) {
        match values.len() {
            16 => add_from::<1, L>(leaves, part(values, 0), sums),
            32 => add_from::<2, L>(leaves, part(values, 0), sums),
            64 => add_from::<4, L>(leaves, part(values, 0), sums),
            128 => add_from::<8, L>(leaves, part(values, 0), sums),
            _ => add_from::<16, L>(leaves, part(values, 0), sums),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn add_from<const N: usize, const L: usize>(leaves: &[u8; L], values: &[[f32; 16]; N], sums: &mut [f32; L]) {
        for (leaves, sums) in leaves.as_chunks::<16>().0.iter().zip(sums.as_chunks_mut::<16>().0) {
            // SAFETY: 16 bytes are readable; the load needs no alignment.
            let at = unsafe { _mm_loadu_si128(leaves.as_ptr().cast()) };
            let sum = _mm512_add_ps(load(sums), look_up(values, _mm512_cvtepu8_epi32(at)));
            // SAFETY: 16 floats are writable; the store needs no alignment.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), sum) };
        }
    }
}
