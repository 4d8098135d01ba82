//! The autoencoder: a small multilayer perceptron that learns to reproduce normalised benign rows through a bottleneck.
//!
//! A row's score is the mean over its present features of the squared error divided by that feature's benign error variance, so
//! that a feature which is hard to predict even for normal traffic does not drown the others.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

use crate::rng::Rng;

/// Shape and training of the autoencoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoencoderConfig {
    /// Units of the two hidden layers beside the bottleneck.
    pub hidden: usize,
    pub bottleneck: usize,
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f32,
    /// Epochs without a better early-stop loss before training ends.
    pub patience: usize,
}

impl Default for AutoencoderConfig {
    fn default() -> Self {
        Self { hidden: 24, bottleneck: 6, epochs: 300, batch: 64, learning_rate: 2e-3, patience: 15 }
    }
}

/// The encoder sees inputs clipped to `-INPUT_CLIP..=INPUT_CLIP`, while the error is taken against the unclipped value: an outlier can
/// neither be passed through nor distort what the network says about the other features.
pub(crate) const INPUT_CLIP: f32 = 3.0;
/// Share of inputs that are swapped for the same feature of another row while training (Vincent et al.: "Extracting and composing
/// robust features with denoising autoencoders", 2008): each feature is learned from the others, so that an error points at the
/// feature that does not fit.
const SWAP: f64 = 0.15;
/// Adam gives up after this many steps, however many rows there are.
const MAX_STEPS: usize = 40_000;
/// Smallest benign error variance of a feature, in squared standard deviations.
const VARIANCE_FLOOR: f32 = 0.01;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    /// `[inputs, outputs]`.
    pub(crate) weights: Array2<f32>,
    pub(crate) bias: Array1<f32>,
    pub(crate) relu: bool,
}

impl Layer {
    fn random(inputs: usize, outputs: usize, relu: bool, rng: &mut Rng) -> Self {
        // He et al. 2015 before a ReLU, Glorot and Bengio 2010 else; uniform.
        let limit = if relu { 6.0 / inputs as f64 } else { 6.0 / (inputs + outputs) as f64 }.sqrt();
        let weights = Array2::from_shape_simple_fn((inputs, outputs), || ((rng.unit() * 2.0 - 1.0) * limit) as f32);
        Self { weights, bias: Array1::zeros(outputs), relu }
    }

    fn forward(&self, x: &ArrayView2<'_, f32>) -> Array2<f32> {
        let mut y = x.dot(&self.weights) + &self.bias;
        if self.relu {
            y.mapv_inplace(|v| v.max(0.0));
        }
        y
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Autoencoder {
    pub(crate) layers: Vec<Layer>,
    /// Benign mean squared error per feature, floored.
    pub(crate) error_variance: Vec<f32>,
}

/// First and second moments of one layer's gradients (Kingma and Ba: "Adam", 2015).
struct Moments {
    weights: [Array2<f32>; 2],
    bias: [Array1<f32>; 2],
}

/// What training took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fitted {
    pub(crate) epochs: usize,
    /// Mean squared error per feature on the early-stop rows, in squared standard deviations.
    pub(crate) loss: f32,
}

impl Autoencoder {
    /// Trains on normalised rows `fit` (`[n, width]`), stops early by `stop`. `progress(epoch, of)` is called after each epoch.
    pub(crate) fn fit(
        fit: &Array2<f32>,
        stop: &Array2<f32>,
        config: &AutoencoderConfig,
        rng: &mut Rng,
        progress: &mut dyn FnMut(usize, usize),
    ) -> (Self, Fitted) {
        let width = fit.ncols();
        let shape = [(width, config.hidden, true), (config.hidden, config.bottleneck, false)];
        let back = [(config.bottleneck, config.hidden, true), (config.hidden, width, false)];
        let layers = shape.into_iter().chain(back).map(|(i, o, relu)| Layer::random(i, o, relu, rng)).collect();
        let mut net = Self { layers, error_variance: vec![1.0; width] };
        let mut moments: Vec<Moments> = net
            .layers
            .iter()
            .map(|l| Moments {
                weights: [Array2::zeros(l.weights.dim()), Array2::zeros(l.weights.dim())],
                bias: [Array1::zeros(l.bias.len()), Array1::zeros(l.bias.len())],
            })
            .collect();
        let mut order: Vec<usize> = (0..fit.nrows()).collect();
        let mut best = (net.loss(stop), net.layers.clone());
        let (mut since_best, mut steps, mut epochs) = (0, 0, 0);
        while epochs < config.epochs && since_best < config.patience && steps < MAX_STEPS {
            rng.shuffle(&mut order);
            for batch in order.chunks(config.batch.max(1)) {
                steps += 1;
                let clean = fit.select(Axis(0), batch);
                let noisy = swap_noise(&clean, rng);
                net.step(&noisy, &clean, config.learning_rate, steps, &mut moments);
            }
            epochs += 1;
            since_best += 1;
            let loss = net.loss(stop);
            if loss < best.0 {
                best = (loss, net.layers.clone());
                since_best = 0;
            }
            progress(epochs, config.epochs);
        }
        net.layers = best.1;
        net.learn_variance(fit, stop);
        (net, Fitted { epochs, loss: best.0 })
    }

    pub(crate) fn reconstruct(&self, x: &ArrayView2<'_, f32>) -> Array2<f32> {
        let mut y = x.mapv(|v| v.clamp(-INPUT_CLIP, INPUT_CLIP));
        for layer in &self.layers {
            y = layer.forward(&y.view());
        }
        y
    }

    fn loss(&self, x: &Array2<f32>) -> f32 {
        let d = self.reconstruct(&x.view()) - x;
        d.mapv(|v| v * v).mean().unwrap_or(f32::INFINITY)
    }

    /// From the early-stop rows, which the weights were not fitted to, and from all rows where those are few.
    fn learn_variance(&mut self, fit: &Array2<f32>, stop: &Array2<f32>) {
        const ENOUGH: usize = 200;
        let width = fit.ncols();
        let mut sums = vec![0.0f64; width];
        let mut n = 0;
        let parts: &[&Array2<f32>] = if stop.nrows() >= ENOUGH { &[stop] } else { &[stop, fit] };
        for part in parts {
            let d = self.reconstruct(&part.view()) - *part;
            n += d.nrows();
            for row in d.rows() {
                for (sum, v) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*v) * f64::from(*v);
                }
            }
        }
        self.error_variance = sums.iter().map(|s| ((s / n.max(1) as f64) as f32).max(VARIANCE_FLOOR)).collect();
    }

    /// One step of Adam towards reproducing `target` from `x`.
    fn step(&mut self, x: &Array2<f32>, target: &Array2<f32>, rate: f32, step: usize, moments: &mut [Moments]) {
        let mut values = vec![x.mapv(|v| v.clamp(-INPUT_CLIP, INPUT_CLIP))];
        for layer in &self.layers {
            let y = layer.forward(&values[values.len() - 1].view());
            values.push(y);
        }
        let mut gradient = &values[values.len() - 1] - target;
        gradient *= 2.0 / x.len() as f32;
        for (i, layer) in self.layers.iter_mut().enumerate().rev() {
            if layer.relu {
                Zip::from(&mut gradient).and(&values[i + 1]).for_each(|g, y| {
                    if *y <= 0.0 {
                        *g = 0.0;
                    }
                });
            }
            let weights = values[i].t().dot(&gradient);
            let bias = gradient.sum_axis(Axis(0));
            let down = gradient.dot(&layer.weights.t());
            let m = &mut moments[i];
            let [w1, w2] = &mut m.weights;
            Zip::from(&mut layer.weights)
                .and(&weights)
                .and(w1)
                .and(w2)
                .for_each(|p, g, m, v| adam(p, *g, m, v, rate, step));
            let [b1, b2] = &mut m.bias;
            Zip::from(&mut layer.bias).and(&bias).and(b1).and(b2).for_each(|p, g, m, v| adam(p, *g, m, v, rate, step));
            gradient = down;
        }
    }

    /// Score of one normalised row, straight from the definition.
    #[cfg(test)]
    pub(crate) fn score(&self, z: &[f32], present: u64) -> f64 {
        let x = ArrayView2::from_shape((1, z.len()), z).expect("one row");
        let y = self.reconstruct(&x);
        let of = |j: usize| {
            let d = f64::from(z[j]) - f64::from(y[[0, j]]);
            if present >> j & 1 == 1 { d * d / f64::from(self.error_variance[j]) } else { 0.0 }
        };
        let n = (0..z.len()).filter(|j| present >> j & 1 == 1).count().max(1);
        (0..z.len()).map(of).sum::<f64>() / n as f64
    }
}

fn swap_noise(rows: &Array2<f32>, rng: &mut Rng) -> Array2<f32> {
    let n = rows.nrows();
    Array2::from_shape_fn(rows.dim(), |(i, j)| if rng.unit() < SWAP { rows[[rng.below(n), j]] } else { rows[[i, j]] })
}

fn adam(p: &mut f32, g: f32, m: &mut f32, v: &mut f32, rate: f32, step: usize) {
    const B1: f32 = 0.9;
    const B2: f32 = 0.999;
    *m = B1 * *m + (1.0 - B1) * g;
    *v = B2 * *v + (1.0 - B2) * g * g;
    let t = step.min(100_000) as i32;
    let m = *m / (1.0 - B1.powi(t));
    let v = *v / (1.0 - B2.powi(t));
    *p -= rate * m / (v.sqrt() + 1e-8);
}
