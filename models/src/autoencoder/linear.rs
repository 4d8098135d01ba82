//! As much linear algebra as covariances take.

/// A lower triangular matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lower {
    width: usize,
    values: Vec<f64>,
}

impl Lower {
    pub(crate) fn zeros(width: usize) -> Self {
        Self { width, values: vec![0.0; width * (width + 1) / 2] }
    }

    /// The value of row `i` and column `j`, which is at most `i`.
    #[inline]
    pub(crate) fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * (i + 1) / 2 + j]
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, i: usize, j: usize) -> &mut f64 {
        &mut self.values[i * (i + 1) / 2 + j]
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    pub(crate) fn scale(&mut self, by: f64) {
        self.values.iter_mut().for_each(|v| *v *= by);
    }

    /// The lower half of a symmetric matrix into its Cholesky factor. `None` if it is not positive definite.
    pub(crate) fn cholesky(mut self) -> Option<Self> {
        for i in 0..self.width {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| self.at(i, k) * self.at(j, k)).sum();
                let rest = self.at(i, j) - dot;
                *self.at_mut(i, j) = match i == j {
                    true if rest > 0.0 => rest.sqrt(),
                    true => return None,
                    false => rest / self.at(j, j),
                };
            }
        }
        Some(self)
    }

    /// The inverse, whose diagonal must not hold a zero.
    pub(crate) fn inverse(&self) -> Self {
        let mut out = Self::zeros(self.width);
        for j in 0..self.width {
            *out.at_mut(j, j) = 1.0 / self.at(j, j);
            for i in j + 1..self.width {
                let dot: f64 = (j..i).map(|k| self.at(i, k) * out.at(k, j)).sum();
                *out.at_mut(i, j) = -dot / self.at(i, i);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_of_the_factor_whitens() {
        let covariance = |i: usize, j: usize| [[4.0, 2.0, -1.0], [2.0, 3.0, 0.5], [-1.0, 0.5, 2.0]][i][j];
        let mut s = Lower::zeros(3);
        for i in 0..3 {
            for j in 0..=i {
                *s.at_mut(i, j) = covariance(i, j);
            }
        }
        let a = s.cholesky().expect("positive definite").inverse();
        // A S A' is the identity.
        for i in 0..3 {
            for j in 0..=i {
                let mut v = 0.0;
                for k in 0..=i {
                    for l in 0..=j {
                        v += a.at(i, k) * covariance(k, l) * a.at(j, l);
                    }
                }
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((v - expected).abs() < 1e-12, "{i}, {j}: {v}");
            }
        }
        let mut flat = Lower::zeros(2);
        flat.values_mut().copy_from_slice(&[1.0, 1.0, 1.0]);
        assert_eq!(flat.cholesky(), None, "of rank 1");
    }
}
