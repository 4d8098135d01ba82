//! How the p-values of two bundles are spread over the same rows.

use weir_models::metrics::wilson;

use crate::proto as pb;
use crate::scoring::ANOMALY_P;

/// Rates that are asked for.
pub const RATES: [f64; 4] = [1e-1, 1e-2, 1e-3, 1e-4];
const BINS: usize = 100;

/// One bundle's p-values.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    bins: [u64; BINS],
    at_most: [u64; RATES.len()],
}

impl Default for Values {
    fn default() -> Self {
        Self { bins: [0; BINS], at_most: [0; RATES.len()] }
    }
}

impl Values {
    pub(crate) fn add(&mut self, p: f32) {
        // Upper ends belong to their bin, as in "at most"; 0.1 as an f32 is a little more than that.
        let bin = (f64::from(p) * BINS as f64 - 1e-5).ceil() as usize;
        self.bins[bin.clamp(1, BINS) - 1] += 1;
        for (n, rate) in self.at_most.iter_mut().zip(RATES) {
            *n += u64::from(p <= rate as f32);
        }
    }

    /// Share of the values up to the end of each bin.
    fn cumulated(&self, rows: u64) -> impl Iterator<Item = f64> {
        let mut sum = 0;
        self.bins.iter().map(move |n| {
            sum += n;
            sum as f64 / rows.max(1) as f64
        })
    }

    /// How many of the values were at most each rate, the smallest first: the small [`RATES`], then every hundredth.
    pub(crate) fn curve(&self) -> impl Iterator<Item = (f64, u64)> {
        let hundredth = 1.0 / BINS as f64;
        let small = RATES.iter().zip(self.at_most).rev().map(|(r, n)| (*r, n)).filter(move |(r, _)| *r < hundredth);
        let mut sum = 0;
        small.chain(self.bins.iter().enumerate().map(move |(i, n)| {
            sum += n;
            ((i + 1) as f64 / BINS as f64, sum)
        }))
    }

    /// Kolmogorov and Smirnov's distance from the uniform distribution.
    pub(crate) fn distance_to_uniform(&self, rows: u64) -> f64 {
        let uniform = (1..=BINS).map(|i| i as f64 / BINS as f64);
        if rows == 0 { 0.0 } else { distance(self.cumulated(rows), uniform) }
    }

    fn tenths(&self, rows: u64) -> Vec<f64> {
        self.bins.chunks(BINS / 10).map(|c| c.iter().sum::<u64>() as f64 / rows.max(1) as f64).collect()
    }
}

/// Largest distance between two distributions.
fn distance(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> f64 {
    a.zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The p-values that both bundles give the rows of a profile.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    rows: u64,
    sides: [Values; 2],
    /// Anomalies by both, by the first alone, by the second alone.
    anomalies: [u64; 3],
    attacks: u64,
    attacks_found: [u64; 2],
}

impl Spread {
    /// `attacks` says which rows are labelled as such; rows beyond its end are not.
    pub fn add(&mut self, a: &[f32], b: &[f32], attacks: &[bool]) {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let odd = [*a <= ANOMALY_P, *b <= ANOMALY_P];
            if attacks.get(i) == Some(&true) {
                self.attacks += 1;
                for (found, odd) in self.attacks_found.iter_mut().zip(odd) {
                    *found += u64::from(odd);
                }
                continue;
            }
            self.rows += 1;
            self.sides[0].add(*a);
            self.sides[1].add(*b);
            match odd {
                [true, true] => self.anomalies[0] += 1,
                [true, false] => self.anomalies[1] += 1,
                [false, true] => self.anomalies[2] += 1,
                [false, false] => {}
            }
        }
    }

    pub fn rows(&self) -> u64 {
        self.rows + self.attacks
    }

    /// `certified`: the smallest rates that the calibration rows of the two can show.
    pub fn report(&self, name: &str, certified: [f64; 2]) -> pb::ComparedProfile {
        let n = self.rows;
        let [a, b] = &self.sides;
        let rates = RATES.iter().enumerate().map(|(i, asked)| {
            let of = |v: &Values| v.at_most[i] as f64 / n.max(1) as f64;
            let interval = |v: &Values| wilson(v.at_most[i] as f64, n as f64);
            let ((a_low, a_high), (b_low, b_high)) = (interval(a), interval(b));
            pb::RealisedRate {
                asked: *asked,
                a: of(a),
                b: of(b),
                a_low,
                a_high,
                b_low,
                b_high,
                a_certified: certified[0] <= *asked,
                b_certified: certified[1] <= *asked,
            }
        });
        pb::ComparedProfile {
            name: name.to_owned(),
            rows: n,
            attacks: self.attacks,
            attacks_a: self.attacks_found[0],
            attacks_b: self.attacks_found[1],
            anomalies_both: self.anomalies[0],
            anomalies_a: self.anomalies[1],
            anomalies_b: self.anomalies[2],
            shift: distance(a.cumulated(n), b.cumulated(n)),
            shift_a: a.distance_to_uniform(n),
            shift_b: b.distance_to_uniform(n),
            rates: rates.collect(),
            tenths_a: a.tenths(n),
            tenths_b: b.tenths(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_the_largest_distance_and_attacks_are_in_no_rate() {
        let mut spread = Spread::default();
        let a: Vec<f32> = (1..=1000).map(|i| i as f32 / 1000.0).collect();
        // The other bundle finds half of them stranger than any of its benign rows.
        let b: Vec<f32> = a.iter().map(|p| if *p <= 0.5 { 0.001 } else { *p }).collect();
        spread.add(&a, &b, &[]);
        spread.add(&[0.9, 0.001], &[0.001, 0.001], &[true, true]);
        let r = spread.report("core", [1e-3, 2e-2]);
        assert_eq!((r.rows, r.attacks, r.attacks_a, r.attacks_b), (1000, 2, 1, 2));
        assert_eq!((r.anomalies_both, r.anomalies_a, r.anomalies_b), (10, 0, 490));
        assert!(r.shift_a < 0.011 && (r.shift - 0.49).abs() < 0.011, "{} {}", r.shift_a, r.shift);
        let at = &r.rates[1];
        assert_eq!((at.asked, at.a, at.b, at.a_certified, at.b_certified), (0.01, 0.01, 0.5, true, false));
        assert!(at.a_low < 0.01 && at.a_high > 0.01 && (r.tenths_a[0] - 0.1).abs() < 1e-9 && r.tenths_b[0] > 0.49);
    }
}
