//! Fitting: seeds far from each other, then expectation and maximisation (Dempster, Laird, Rubin 1977).

use ndarray::Array2;

use super::linear::Lower;
use super::{Autoencoder, AutoencoderConfig, Fitted, Part};
use crate::parts::Parts;
use crate::rng::Rng;

/// Rows that seeds are chosen among.
const SEED_ROWS: usize = 20_000;
/// Rounds of k-means before the first covariances.
const SEED_ROUNDS: usize = 5;
/// A smaller probability of being of a part counts as none.
const NEGLIGIBLE: f64 = 1e-3;
/// A part that fewer rows than this are of is given up.
const FEWEST: f64 = 2.0;
/// Rows that go through the parts at once.
const CHUNK: usize = 4096;
/// By how much, in nats per feature, a loss must fall to count as better.
const BETTER: f64 = 1e-3;

/// What the rows of one part add up to, each weighed by the probability of being of it.
struct Sums {
    rows: f64,
    values: Vec<f64>,
    squares: Lower,
}

impl Sums {
    fn new(width: usize) -> Self {
        Self { rows: 0.0, values: vec![0.0; width], squares: Lower::zeros(width) }
    }

    fn add(&mut self, row: &[f32], weight: f64) {
        self.rows += weight;
        let mut at = 0;
        let squares = self.squares.values_mut();
        for (i, v) in row.iter().enumerate() {
            let v = weight * f64::from(*v);
            self.values[i] += v;
            for (s, w) in squares[at..=at + i].iter_mut().zip(row) {
                *s += v * f64::from(*w);
            }
            at += i + 1;
        }
    }

    fn mean(&self, i: usize) -> f64 {
        self.values[i] / self.rows
    }

    fn covariance(&self, i: usize, j: usize) -> f64 {
        self.squares.at(i, j) / self.rows - self.mean(i) * self.mean(j)
    }
}

impl Autoencoder {
    /// Trains on normalised rows `fit` (`[n, width]`), stops early by `stop`. `progress(round, of)` is called after each round.
    pub(crate) fn fit(
        fit: &Array2<f32>,
        stop: &Array2<f32>,
        config: &AutoencoderConfig,
        rng: &mut Rng,
        progress: &mut dyn FnMut(usize, usize),
    ) -> (Self, Fitted) {
        let width = fit.ncols();
        let rows = fit.as_standard_layout();
        let rows = rows.as_slice().unwrap_or_default();
        let stop = stop.as_standard_layout();
        let stop = stop.as_slice().unwrap_or_default();
        let stop = if stop.is_empty() { rows } else { stop };
        let most = config.parts.min(config.weights / (width * (width + 1) / 2)).max(1);
        let wanted = (fit.nrows() / config.rows_per_part.max(1)).clamp(1, most);
        let mut sums = seeds(rows, width, wanted, rng);
        let mut best: Option<(Self, f64)> = None;
        let (mut since_best, mut rounds) = (0, 0);
        while rounds < config.rounds && since_best <= config.patience {
            let net = Self::maximise(&sums, width, config);
            let loss = net.loss(stop);
            rounds += 1;
            since_best += 1;
            if best.as_ref().is_none_or(|(_, least)| loss < *least - BETTER) {
                since_best = 0;
            }
            if best.as_ref().is_none_or(|(_, least)| loss < *least) {
                best = Some((net.clone(), loss));
            }
            progress(rounds, config.rounds);
            sums = net.expect(rows);
        }
        let (mut net, loss) = best.unwrap_or_else(|| (Self::maximise(&sums, width, config), f64::NAN));
        net.steady(stop, config.steadiness);
        (net, Fitted { rounds, loss: loss as f32 })
    }

    /// The parts that rows summed up so come from.
    fn maximise(sums: &[Sums], width: usize, config: &AutoencoderConfig) -> Self {
        let total: f64 = sums.iter().map(|s| s.rows).sum();
        // What the parts have in common: the variances within them.
        let common: Vec<f64> =
            (0..width).map(|i| sums.iter().map(|s| s.rows * s.covariance(i, i)).sum::<f64>() / total).collect();
        let kept = |s: &&Sums| s.rows >= FEWEST || sums.len() == 1;
        let mut parts: Vec<Part> = sums
            .iter()
            .filter(kept)
            .filter_map(|s| {
                let mut covariance = Lower::zeros(width);
                let of_own = s.rows / (s.rows + config.shrinkage);
                for (i, common) in common.iter().enumerate() {
                    for j in 0..=i {
                        *covariance.at_mut(i, j) = of_own * s.covariance(i, j);
                    }
                    *covariance.at_mut(i, i) += (1.0 - of_own) * common.max(0.0) + config.floor;
                }
                let factor = covariance.cholesky()?;
                let volume: f64 = (0..width).map(|i| 2.0 * factor.at(i, i).ln()).sum();
                Some(Part {
                    mean: (0..width).map(|i| s.mean(i)).collect(),
                    whiten: factor.inverse(),
                    offset: volume - 2.0 * (s.rows / total).ln(),
                })
            })
            .collect();
        let least = parts.iter().map(|p| p.offset).fold(f64::INFINITY, f64::min);
        parts.iter_mut().for_each(|p| p.offset -= least);
        Self { parts, width, base: least }
    }

    /// Scales each part so that the errors of the rows nearest to it are what one expects of as many features.
    fn steady(&mut self, rows: &[f32], steadiness: f64) {
        let mut errors = vec![(0.0, 0.0); self.parts.len()];
        self.each(rows, false, |_, distances| {
            let nearest = (0..distances.len()).min_by(|a, b| distances[*a].total_cmp(&distances[*b])).unwrap_or(0);
            errors[nearest].0 += f64::from(distances[nearest]);
            errors[nearest].1 += 1.0;
        });
        let (sum, n) = errors.iter().fold((0.0, 0.0), |(s, n), e| (s + e.0, n + e.1));
        // Traffic that never varies has no errors at all.
        let mean = (sum / f64::max(n, 1.0)).max(1e-3 * self.width as f64);
        for (part, (sum, n)) in self.parts.iter_mut().zip(errors) {
            let error = (sum + steadiness * mean) / (n + steadiness);
            part.whiten.scale((self.width as f64 / error).sqrt());
        }
    }

    /// Calls `take(row, distances)` for each row: its distance to each part, with what that costs or without.
    fn each(&self, rows: &[f32], costs: bool, mut take: impl FnMut(&[f32], &[f32])) {
        let (weights, bias) = self.arrays();
        let offset: Vec<f32> = self.parts.iter().map(|p| if costs { p.offset as f32 } else { 0.0 }).collect();
        let Some(parts) = Parts::new(self.width, &weights, &bias, &offset) else { return };
        for chunk in rows.chunks(CHUNK * self.width) {
            let totals = parts.distances(chunk);
            for (row, totals) in chunk.chunks_exact(self.width).zip(totals.chunks_exact(parts.parts())) {
                take(row, totals);
            }
        }
    }

    /// Sums up the rows by the parts that they are of.
    fn expect(&self, rows: &[f32]) -> Vec<Sums> {
        let mut sums: Vec<Sums> = self.parts.iter().map(|_| Sums::new(self.width)).collect();
        let mut shares = vec![0.0; self.parts.len()];
        self.each(rows, true, |row, totals| {
            let least = totals.iter().copied().fold(f32::INFINITY, f32::min);
            for (share, total) in shares.iter_mut().zip(totals) {
                *share = (-0.5 * f64::from(total - least)).exp();
            }
            let all: f64 = shares.iter().sum();
            for (sum, share) in sums.iter_mut().zip(&shares) {
                let share = share / all;
                if share > NEGLIGIBLE {
                    sum.add(row, share);
                }
            }
        });
        sums
    }

    /// Mean negative log-likelihood per feature, nats.
    fn loss(&self, rows: &[f32]) -> f64 {
        let (mut sum, mut n) = (0.0, 0);
        self.each(rows, true, |_, totals| {
            let least = totals.iter().copied().fold(f32::INFINITY, f32::min);
            let all: f64 = totals.iter().map(|t| (-0.5 * f64::from(t - least)).exp()).sum();
            sum += 0.5 * f64::from(least) - all.ln();
            n += 1;
        });
        let constant = 0.5 * (self.base + self.width as f64 * std::f64::consts::TAU.ln());
        (sum / f64::from(n.max(1)) + constant) / self.width as f64
    }
}

/// The rows by the nearest of `parts` seeds: k-means++ (Arthur, Vassilvitskii 2007) and a few rounds of k-means.
fn seeds(rows: &[f32], width: usize, parts: usize, rng: &mut Rng) -> Vec<Sums> {
    let n = rows.len() / width;
    let chosen = rng.sample(n, SEED_ROWS);
    let row = |i: usize| &rows[chosen[i] * width..][..width];
    let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let mut centres: Vec<Vec<f32>> = vec![row(rng.below(chosen.len())).to_vec()];
    let mut distances: Vec<f64> = (0..chosen.len()).map(|i| far(row(i), &centres[0])).collect();
    while centres.len() < parts {
        let total: f64 = distances.iter().sum();
        if total <= 0.0 {
            break;
        }
        let mut left = rng.unit() * total;
        let at = distances.iter().position(|d| {
            left -= d;
            left < 0.0
        });
        let centre = row(at.unwrap_or(0)).to_vec();
        for (i, d) in distances.iter_mut().enumerate() {
            *d = d.min(far(row(i), &centre));
        }
        centres.push(centre);
    }
    let mut sums = Vec::new();
    for round in 0..=SEED_ROUNDS {
        sums = centres.iter().map(|_| Sums::new(width)).collect();
        // The last time, all rows, for the first covariances.
        let among: &mut dyn Iterator<Item = &[f32]> =
            if round < SEED_ROUNDS { &mut (0..chosen.len()).map(row) } else { &mut rows.chunks_exact(width) };
        for row in among {
            let nearest = (0..centres.len()).min_by(|a, b| far(row, &centres[*a]).total_cmp(&far(row, &centres[*b])));
            sums[nearest.unwrap_or(0)].add(row, 1.0);
        }
        sums.retain(|s: &Sums| s.rows > 0.0);
        centres = sums.iter().map(|s| (0..width).map(|i| s.mean(i) as f32).collect()).collect();
    }
    sums
}
