//! The hash of flow keys and of entries: multilinear with products of pairs, "Multilinear-HM" (Lemire and Kaser, Strongly
//! universal string hashing is fast, 2014), then one round of mixing. Of the sum's 64 bits the upper 33 are strongly universal
//! for a seed that nobody knows: no choice of keys, made without watching the table, makes the sums of two of them equal more
//! often than chance does. One product per word, none of which waits for another, is also about the cheapest that there is.
//!
//! It is no cryptographic function: who could time single look-ups might learn something of the seed. What they would win is
//! bounded: a search ends after a few lines, and a flow that finds no room is counted as an overflow.

/// Words that one seed takes keys of.
pub const WORDS: usize = 6;

/// Random numbers of one installation, known to root alone.
pub type Seed = [u64; 1 + 2 * WORDS];

/// The hash of at most [`WORDS`] words. Keys of one table have one length.
#[inline(always)]
pub const fn hash<const N: usize>(seed: &Seed, words: &[u64; N]) -> u64 {
    const { assert!(N <= WORDS) };
    let mut h = seed[0];
    let mut i = 0;
    while i < N {
        let (low, high) = (words[i] & 0xffff_ffff, words[i] >> 32);
        h = h.wrapping_add(seed[1 + 2 * i].wrapping_add(low).wrapping_mul(seed[2 + 2 * i].wrapping_add(high)));
        i += 1;
    }
    // Keys that count up give sums that count up, whose upper bits may fall into a few steps. No two sums become equal here.
    h = (h ^ h >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ h >> 32
}
