//! The nearest of many linear autoencoders, in one pass: `min over k of |weights[k] x + bias[k]|^2`.
//!
//! In plain ONNX operators that is a matrix product, a square, a sum and a minimum, each over an intermediate result that is far
//! larger than the rows and leaves the cache in between. Here a few rows go through all parts in registers, and weights that
//! are zero for every part (half of them where they are triangular) are not multiplied by. [`crate::onnx`] puts this operator
//! in the place of those.

use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::tract_hir::internal::*;

/// Name of the operator; files cannot ask for it, see `onnx::check`.
pub(crate) const OPERATOR: &str = "WeirNearestPart";

/// Parts that are computed beside each other.
const LANES: usize = 16;

/// The parts, ready to be evaluated.
#[derive(Debug, PartialEq)]
pub(crate) struct Parts {
    inputs: usize,
    parts: usize,
    groups: Vec<Group>,
}

/// [`LANES`] parts. Those beyond the last are infinitely far away.
#[derive(Debug, PartialEq)]
struct Group {
    offset: [f32; LANES],
    outputs: Vec<Output>,
    /// Of each output and each input that it takes, a weight per part.
    weights: Vec<[f32; LANES]>,
    /// The input of each of `weights`.
    takes: Vec<u16>,
}

#[derive(Debug, PartialEq)]
struct Output {
    bias: [f32; LANES],
    /// Where its weights end; they begin where those of the output before it end.
    end: usize,
}

impl Parts {
    /// `weights` is `[inputs, outputs * parts]`, `bias` `[outputs * parts]`, both with the parts innermost; `offset` has one value
    /// per part.
    pub(crate) fn new(inputs: usize, weights: &[f32], bias: &[f32], offset: &[f32]) -> Option<Self> {
        let parts = offset.len();
        if parts == 0 || bias.is_empty() || inputs == 0 || inputs > usize::from(u16::MAX) {
            return None;
        }
        let outputs = bias.len() / parts;
        if outputs * parts != bias.len() || inputs * bias.len() != weights.len() {
            return None;
        }
        let groups = (0..parts).step_by(LANES).map(|first| {
            let some = LANES.min(parts - first);
            let lanes = |from: &[f32], rest: f32| {
                let mut out = [rest; LANES];
                out[..some].copy_from_slice(&from[first..first + some]);
                out
            };
            let mut group = Group {
                offset: lanes(offset, f32::INFINITY),
                outputs: Vec::with_capacity(outputs),
                weights: Vec::new(),
                takes: Vec::new(),
            };
            for f in 0..outputs {
                for i in 0..inputs {
                    let at = (i * outputs + f) * parts;
                    let w = lanes(&weights[at..at + parts], 0.0);
                    if w != [0.0; LANES] {
                        group.weights.push(w);
                        group.takes.push(i as u16);
                    }
                }
                let bias = lanes(&bias[f * parts..(f + 1) * parts], 0.0);
                group.outputs.push(Output { bias, end: group.weights.len() });
            }
            group
        });
        Some(Self { inputs, parts, groups: groups.collect() })
    }

    pub(crate) fn parts(&self) -> usize {
        self.parts
    }

    /// The distance of each row of `x` (`[rows, inputs]`) to its nearest part.
    pub(crate) fn nearest(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::INFINITY; x.len() / self.inputs];
        self.run(x, |_, row, lanes| {
            let least = lanes.iter().copied().fold(f32::INFINITY, f32::min);
            out[row] = out[row].min(least);
        });
        out
    }

    /// The distance of each row to each part, `[rows, parts]`.
    pub(crate) fn distances(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let mut out = vec![0.0; rows * self.parts];
        self.run(x, |group, row, lanes| {
            let first = group * LANES;
            let some = LANES.min(self.parts - first);
            out[row * self.parts + first..][..some].copy_from_slice(&lanes[..some]);
        });
        out
    }

    /// `take(group, row, distances)` for every row and group of parts.
    fn run(&self, x: &[f32], take: impl FnMut(usize, usize, &[f32; LANES])) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") {
                // SAFETY: the processor has these instructions.
                return unsafe { self.run_avx512(x, take) };
            }
            if has!("avx2") && has!("fma") {
                // SAFETY: as above.
                return unsafe { self.run_avx2(x, take) };
            }
        }
        self.run_rows::<[f32; LANES], 2>(x, take);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn run_avx512(&self, x: &[f32], take: impl FnMut(usize, usize, &[f32; LANES])) {
        self.run_rows::<x86::Avx512, 8>(x, take);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn run_avx2(&self, x: &[f32], take: impl FnMut(usize, usize, &[f32; LANES])) {
        self.run_rows::<x86::Avx2, 4>(x, take);
    }

    /// `R` rows at a time share each load of a weight. A row's result is the same wherever it lies.
    #[inline(always)]
    fn run_rows<V: Lanes, const R: usize>(&self, x: &[f32], mut take: impl FnMut(usize, usize, &[f32; LANES])) {
        let width = self.inputs;
        let rows = x.len() / width;
        // The rows of a block lie beside each other, value by value; a last block that is not full repeats its last row.
        let mut block = vec![[0.0f32; R]; width];
        for first in (0..rows).step_by(R) {
            for (i, values) in block.iter_mut().enumerate() {
                for (r, v) in values.iter_mut().enumerate() {
                    *v = x[(first + r).min(rows - 1) * width + i];
                }
            }
            for (g, group) in self.groups.iter().enumerate() {
                let distances = group.distances::<V, R>(&block);
                for (r, lanes) in distances.iter().enumerate().take(rows - first) {
                    take(g, first + r, &lanes.get());
                }
            }
        }
    }
}

impl Group {
    #[inline(always)]
    fn distances<V: Lanes, const R: usize>(&self, block: &[[f32; R]]) -> [V; R] {
        let mut total = [V::of(&self.offset); R];
        let mut at = 0;
        for output in &self.outputs {
            let mut y = [V::of(&output.bias); R];
            for (w, i) in self.weights[at..output.end].iter().zip(&self.takes[at..output.end]) {
                let (w, x) = (V::of(w), &block[usize::from(*i)]);
                for r in 0..R {
                    y[r] = y[r].plus(V::of(&[x[r]; LANES]), w);
                }
            }
            at = output.end;
            for r in 0..R {
                total[r] = total[r].plus(y[r], y[r]);
            }
        }
        total
    }
}

/// [`LANES`] numbers.
trait Lanes: Copy {
    fn of(values: &[f32; LANES]) -> Self;
    fn get(self) -> [f32; LANES];
    /// `self + a * b`.
    fn plus(self, a: Self, b: Self) -> Self;
}

impl Lanes for [f32; LANES] {
    #[inline(always)]
    fn of(values: &[f32; LANES]) -> Self {
        *values
    }
    #[inline(always)]
    fn get(self) -> [f32; LANES] {
        self
    }
    #[inline(always)]
    fn plus(mut self, a: Self, b: Self) -> Self {
        for l in 0..LANES {
            // Fused, it would be a call on processors without the instruction.
            self[l] += a[l] * b[l];
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Lanes};

    #[derive(Clone, Copy)]
    pub(super) struct Avx512(__m512);

    impl Lanes for Avx512 {
        #[inline(always)]
        fn of(values: &[f32; LANES]) -> Self {
            // SAFETY: only `Parts::run_avx512` uses this type, where the processor has AVX-512; 16 floats are readable.
            Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
        }
        #[inline(always)]
        fn get(self) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: as above; 16 floats are writable.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) };
            out
        }
        #[inline(always)]
        fn plus(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }
    }

    #[derive(Clone, Copy)]
    pub(super) struct Avx2(__m256, __m256);

    impl Lanes for Avx2 {
        #[inline(always)]
        fn of(values: &[f32; LANES]) -> Self {
            let at = values.as_ptr();
            // SAFETY: only `Parts::run_avx2` uses this type, where the processor has AVX2 and FMA; 16 floats are readable.
            Self(unsafe { _mm256_loadu_ps(at) }, unsafe { _mm256_loadu_ps(at.add(8)) })
        }
        #[inline(always)]
        fn get(self) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: as above; 16 floats are writable.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), self.0);
                _mm256_storeu_ps(out.as_mut_ptr().add(8), self.1);
            }
            out
        }
        #[inline(always)]
        fn plus(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }
    }
}

/// Makes tract know the operator.
pub(crate) fn register(register: &mut OnnxOpRegister) {
    register.insert(OPERATOR, parse);
}

/// From a node that `onnx::fuse` made: the constants are attributes.
fn parse(_: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let constant = |name: &str| -> TractResult<Vec<f32>> {
        let t: Option<&TensorProto> = node.attribute.iter().find(|a| a.name == name).and_then(|a| a.t.as_ref());
        let t = t.with_context(|| format!("attribute `{name}` is missing"))?;
        crate::onnx::floats_of(t).with_context(|| format!("attribute `{name}` has no floats"))
    };
    let (weights, bias) = (constant("weights")?, constant("bias")?);
    let parts = node.attribute.iter().find(|a| a.name == "parts").map_or(0, |a| a.i);
    ensure!(!bias.is_empty() && (1..=bias.len() as i64).contains(&parts), "there are no parts");
    let offset = vec![0.0; parts as usize];
    let parts = Parts::new(weights.len() / bias.len(), &weights, &bias, &offset).context("sizes do not fit")?;
    Ok((expand(NearestPart { parts: Arc::new(parts) }), vec![]))
}

/// Input: f32 `[N, inputs]`. Output: f32 `[N, 1]`.
#[derive(Debug, Clone)]
struct NearestPart {
    parts: Arc<Parts>,
}

impl PartialEq for NearestPart {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parts, &other.parts)
    }
}
impl Eq for NearestPart {}

impl Expansion for NearestPart {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].rank, 2)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].rank, 2)?;
        s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        s.equals(&outputs[0].shape[1], 1.to_dim())?;
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        ensure!(fact.datum_type == f32::datum_type(), "the input is {:?}, expected float32", fact.datum_type);
        ensure!(
            fact.shape[1].to_usize().is_ok_and(|w| w == self.parts.inputs),
            "the input has {} columns, expected {}",
            fact.shape[1],
            self.parts.inputs
        );
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for NearestPart {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    op_as_typed_op!();
}

impl EvalOp for NearestPart {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let view = input.to_plain_array_view::<f32>()?;
        let out = match view.as_slice() {
            Some(x) => self.parts.nearest(x),
            None => self.parts.nearest(&view.iter().copied().collect::<Vec<f32>>()),
        };
        Ok(tvec!(Tensor::from_shape(&[out.len(), 1], &out)?.into_tvalue()))
    }
}

impl TypedOp for NearestPart {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact([inputs[0].shape[0].clone(), 1.to_dim()])))
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_instructions_finds_the_nearest() {
        // 21 parts of 5 inputs, triangular; 13 rows.
        let (inputs, parts) = (5, 21);
        let value = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
        let mut weights = vec![0.0; inputs * inputs * parts];
        for i in 0..inputs {
            for f in i..inputs {
                for k in 0..parts {
                    weights[(i * inputs + f) * parts + k] = value(i * 100 + f * 10 + k);
                }
            }
        }
        let bias: Vec<f32> = (0..inputs * parts).map(|i| value(i + 7)).collect();
        let offset: Vec<f32> = (0..parts).map(|k| value(k + 3) + 1.0).collect();
        let x: Vec<f32> = (0..13 * inputs).map(|i| 3.0 * value(i + 5)).collect();
        let all = Parts::new(inputs, &weights, &bias, &offset).expect("sizes that fit");
        let distances = all.distances(&x);
        let mut portable = vec![0.0; distances.len()];
        all.run_rows::<[f32; LANES], 2>(&x, |g, row, lanes| {
            for (l, v) in lanes.iter().enumerate().take((parts - g * LANES).min(LANES)) {
                portable[row * parts + g * LANES + l] = *v;
            }
        });
        for (row, x) in x.chunks(inputs).enumerate() {
            for k in 0..parts {
                let y = |f: usize| -> f64 {
                    let sum = |i: usize| f64::from(x[i]) * f64::from(weights[(i * inputs + f) * parts + k]);
                    (0..inputs).map(sum).sum::<f64>() + f64::from(bias[f * parts + k])
                };
                let expected = (0..inputs).map(|f| y(f).powi(2)).sum::<f64>() + f64::from(offset[k]);
                for got in [distances[row * parts + k], portable[row * parts + k]] {
                    assert!((f64::from(got) - expected).abs() < 1e-5 * expected, "{got}, expected {expected}");
                }
            }
            let least = distances[row * parts..][..parts].iter().copied().fold(f32::INFINITY, f32::min);
            assert_eq!(all.nearest(x), [least], "alone as among others");
        }
        assert_eq!(Parts::new(inputs, &weights[1..], &bias, &offset), None);
        assert_eq!(Parts::new(inputs, &weights, &bias, &[]), None);
    }
}
