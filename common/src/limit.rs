//! Rate limits: the generic cell rate algorithm in one word (ITU-T I.371, "virtual scheduling").
//!
//! The word holds the theoretical arrival time: when the traffic so far will have been paid for at the allowed rate. A packet passes if
//! that time, with the packet's own cost added, is at most the burst ahead of now. So in any interval no more passes than rate times
//! time plus burst, from however many processors.

use crate::flow::Cells;

/// Time is counted in sixteenths of a nanosecond: a `u64` of them lasts 36 years of uptime.
const TICKS_PER_NS: u64 = 16;
#[cfg(any(test, feature = "user"))]
const TICKS_PER_S: u64 = TICKS_PER_NS * 1_000_000_000;

/// Bits of an entry's note that a [`Limit`] takes.
pub const BITS: u32 = 40;

// bit 0: unit; 17 bits of mantissa and 6 of exponent: ticks per unit; 10 bits and 6 bits: burst.
const MANTISSA_AT: u32 = 1;
const MANTISSA_BITS: u32 = 17;
const EXPONENT_AT: u32 = MANTISSA_AT + MANTISSA_BITS;
const EXPONENT_BITS: u32 = 6;
const BURST_AT: u32 = EXPONENT_AT + EXPONENT_BITS;
const BURST_BITS: u32 = 10;
const SHIFT_AT: u32 = BURST_AT + BURST_BITS;
const _: () = assert!(SHIFT_AT + 6 == BITS);

/// Ticks per unit are `mantissa << exponent >> SCALE`.
const SCALE: u32 = 20;
/// The longest that a burst may take to be allowed again, ticks: beyond, sums of times might overflow.
#[cfg(any(test, feature = "user"))]
const LONGEST: u64 = 1 << 58;
/// Packets or bytes that one packet may count for.
const LARGEST: u64 = 1 << 20;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Packets,
    /// IP-layer bytes.
    Bytes,
}

/// A rate and a burst, as an entry carries them: see [`Limit::new`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit(u64);

/// Why there is no such [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitError {
    /// From 1 to 2^37 units per second.
    Rate(u64),
    /// At least one packet; of bytes at least 65,535, or the largest packets never passed.
    BurstTooSmall(u64),
    /// The burst would take more than half a year to be allowed again.
    BurstTooLarge(u64),
}

const fn low(v: u64, bits: u32) -> u64 {
    v & ((1 << bits) - 1)
}

impl Limit {
    /// None: for entries that do not limit.
    pub const NONE: Self = Self(0);

    /// At most `rate` units per second, and `burst` units at once. What is kept is at most that: the rate is lowered by less than
    /// 1/65,536, the burst by less than 1/512.
    #[cfg(any(test, feature = "user"))]
    pub const fn new(unit: Unit, rate: u64, burst: u64) -> Result<Self, LimitError> {
        if rate == 0 || rate > 1 << 37 {
            return Err(LimitError::Rate(rate));
        }
        let least = match unit {
            Unit::Packets => 1,
            Unit::Bytes => 65_535,
        };
        if burst < least {
            return Err(LimitError::BurstTooSmall(burst));
        }
        // The cost of a unit, rounded up: in 2^-SCALE ticks it has 17 bits, since rates are at most 2^37.
        let cost = ((TICKS_PER_S as u128) << SCALE).div_ceil(rate as u128);
        let mut exponent: u32 = 0;
        while cost.div_ceil(1 << exponent) >= 1 << MANTISSA_BITS {
            exponent += 1;
        }
        let mantissa = cost.div_ceil(1 << exponent) as u64;
        // The burst, rounded down.
        let mut shift = 0;
        while burst >> shift >= 1 << BURST_BITS {
            shift += 1;
        }
        let limit = Self(
            matches!(unit, Unit::Bytes) as u64
                | mantissa << MANTISSA_AT
                | (exponent as u64) << EXPONENT_AT
                | (burst >> shift) << BURST_AT
                | (shift as u64) << SHIFT_AT,
        );
        let whole = ((limit.burst() as u128 * mantissa as u128) << exponent) >> SCALE;
        if limit.burst() > LARGEST << 20
            || whole > LONGEST as u128
            || limit.burst() * mantissa > u64::MAX >> exponent.saturating_sub(SCALE)
        {
            return Err(LimitError::BurstTooLarge(burst));
        }
        Ok(limit)
    }

    /// As an entry's note holds it.
    pub const fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(low(bits, BITS))
    }

    #[inline(always)]
    pub const fn unit(self) -> Unit {
        if self.0 & 1 == 0 { Unit::Packets } else { Unit::Bytes }
    }

    /// Units at once.
    #[inline(always)]
    pub const fn burst(self) -> u64 {
        low(self.0 >> BURST_AT, BURST_BITS) << low(self.0 >> SHIFT_AT, 6)
    }

    /// Units per second, as far as a whole number tells.
    #[cfg(any(test, feature = "user"))]
    pub const fn rate(self) -> u64 {
        let mantissa = low(self.0 >> MANTISSA_AT, MANTISSA_BITS) as u128;
        let exponent = low(self.0 >> EXPONENT_AT, EXPONENT_BITS) as u32;
        if mantissa == 0 { 0 } else { (((TICKS_PER_S as u128) << SCALE) / (mantissa << exponent)) as u64 }
    }

    /// What so many units cost, ticks, rounded up.
    #[inline(always)]
    const fn cost(self, units: u64) -> u64 {
        let product = units * low(self.0 >> MANTISSA_AT, MANTISSA_BITS);
        let exponent = low(self.0 >> EXPONENT_AT, EXPONENT_BITS) as u32;
        if exponent >= SCALE {
            product << (exponent - SCALE)
        } else {
            (product + (1 << (SCALE - exponent)) - 1) >> (SCALE - exponent)
        }
    }

    /// Whether the packet (of `packets` segments and `bytes` IP-layer bytes in all) passes, at a time that does not run backward by
    /// more than processors' clocks differ. `state` is the word of this limit.
    ///
    /// # Safety
    /// `state` must be valid and aligned; `C` must suit who else writes it.
    #[inline(always)]
    pub unsafe fn admits<C: Cells>(self, state: *mut u64, now_ns: u64, packets: u32, bytes: u32) -> Admitted {
        let units = match self.unit() {
            Unit::Packets => packets as u64,
            Unit::Bytes => bytes as u64,
        };
        let units = if units > LARGEST { LARGEST } else { units };
        let (cost, burst, now) = (self.cost(units), self.cost(self.burst()), now_ns * TICKS_PER_NS);
        let mut tries = 0;
        while tries < TRIES {
            // SAFETY: the caller's.
            unsafe {
                let held = state.read_volatile();
                let from = if held > now { held } else { now };
                let next = from + cost;
                if next - now > burst {
                    return Admitted::Over;
                }
                if C::swap64(state, held, next) == held {
                    return Admitted::Yes;
                }
            }
            tries += 1;
        }
        Admitted::Contended
    }
}

/// Tries before a packet is dropped because others were quicker each time.
const TRIES: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    Yes,
    /// Beyond the rate.
    Over,
    /// Other processors were quicker each time: not passed, since nobody has counted it.
    Contended,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Plain;

    fn admits(limit: Limit, state: &mut u64, now_ns: u64, bytes: u32) -> bool {
        // SAFETY: exclusively borrowed.
        unsafe { limit.admits::<Plain>(state, now_ns, 1, bytes) == Admitted::Yes }
    }

    #[test]
    fn what_is_kept_is_at_most_what_was_asked_for_and_nearly_that() {
        for unit in [Unit::Packets, Unit::Bytes] {
            for rate in [1, 2, 3, 7, 100, 999, 12_345, 1_000_000, 123_456_789, 12_500_000_000, 1 << 37] {
                for burst in [65_535, 65_536, 100_000, 1_000_000] {
                    let Ok(limit) = Limit::new(unit, rate, burst) else {
                        panic!("{rate} {burst}: {:?}", Limit::new(unit, rate, burst));
                    };
                    assert_eq!((limit.unit(), Limit::from_bits(limit.bits())), (unit, limit));
                    assert!(limit.rate() <= rate && limit.rate() as f64 > rate as f64 * (1.0 - 1.0 / 65_536.0) - 1.0);
                    assert!(limit.burst() <= burst && limit.burst() as f64 > burst as f64 * (1.0 - 1.0 / 512.0));
                    assert!(limit.bits() < 1 << BITS);
                }
            }
        }
        for burst in [1, 2, 10, 1023] {
            assert_eq!(Limit::new(Unit::Packets, 10, burst).unwrap().burst(), burst);
        }
        assert_eq!(Limit::new(Unit::Packets, 0, 1), Err(LimitError::Rate(0)));
        assert_eq!(Limit::new(Unit::Packets, (1 << 37) + 1, 1), Err(LimitError::Rate((1 << 37) + 1)));
        assert_eq!(Limit::new(Unit::Packets, 1, 0), Err(LimitError::BurstTooSmall(0)));
        assert_eq!(Limit::new(Unit::Bytes, 1, 1500), Err(LimitError::BurstTooSmall(1500)));
        for (rate, burst) in [(1, 1 << 30), (1, u64::MAX), (1 << 37, u64::MAX)] {
            assert_eq!(Limit::new(Unit::Bytes, rate, burst), Err(LimitError::BurstTooLarge(burst)));
        }
    }

    #[test]
    fn no_interval_lets_more_pass_than_rate_times_time_and_burst() {
        for (unit, rate, burst) in [(Unit::Packets, 20, 10), (Unit::Bytes, 15_000, 70_000), (Unit::Packets, 1, 1)] {
            let limit = Limit::new(unit, rate, burst).unwrap();
            let (mut state, mut now, mut seed) = (0, 5_000_000_000, 1_u64);
            let mut passed: Vec<(u64, u64)> = Vec::new();
            for _ in 0..if cfg!(miri) { 200 } else { 20_000 } {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Bursts and silences.
                now += if seed >> 60 == 0 { 400_000_000 } else { (seed >> 40) % 300_000 };
                let bytes = 40 + (seed >> 33) as u32 % 1460;
                if admits(limit, &mut state, now, bytes) {
                    passed.push((now, if unit == Unit::Bytes { bytes.into() } else { 1 }));
                }
            }
            let all: u64 = passed.iter().map(|(_, units)| units).sum();
            let time = (now - 5_000_000_000) as f64 / 1e9;
            assert!(all as f64 > time * rate as f64 * 0.5, "{unit:?}: {all} in {time} s is far below the rate");
            for first in (0..passed.len()).step_by(7) {
                let mut sum = 0;
                for (at, units) in &passed[first..passed.len().min(first + 500)] {
                    sum += units;
                    let most = (at - passed[first].0) as f64 / 1e9 * rate as f64 + burst as f64;
                    assert!(sum as f64 <= most + 1e-6, "{unit:?}: {sum} units where {most} are allowed");
                }
            }
        }
    }

    #[test]
    fn the_whole_burst_passes_at_once_and_comes_back_at_the_rate() {
        let limit = Limit::new(Unit::Packets, 10, 5).unwrap();
        let mut state = 0;
        let at = |state: &mut u64, ns| (0..20).filter(|_| admits(limit, state, ns, 100)).count();
        assert_eq!(at(&mut state, 1_000_000_000), 5);
        assert_eq!(at(&mut state, 1_000_000_000), 0);
        assert_eq!(at(&mut state, 1_100_100_000), 1);
        assert_eq!(at(&mut state, 9_000_000_000), 5);
        // A clock that is a little behind lets nothing through twice.
        assert_eq!(at(&mut state, 8_999_999_000), 0);
    }
}
