//! The only form in which features reach a model.

use crate::profile::ProfileId;
use crate::role::Role;

/// Rows of one profile, row-major `f32`, each value finite. A value that the source could not supply is marked
/// missing in the presence mask and holds 0.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMatrix {
    profile: ProfileId,
    data: Vec<f32>,
    present: Vec<u64>,
    roles: Vec<Role>,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum MatrixError {
    #[error("a row of profile `{profile}` has {got} values, expected {expected}")]
    Width { profile: ProfileId, got: usize, expected: usize },
    #[error("feature `{feature}` of profile `{profile}` is {value}: only finite values are features")]
    NotFinite { profile: ProfileId, feature: &'static str, value: f32 },
}

impl FeatureMatrix {
    pub fn new(profile: ProfileId) -> Self {
        Self { profile, data: Vec::new(), present: Vec::new(), roles: Vec::new() }
    }

    /// Appends a row. `None` is a missing value.
    pub fn push(&mut self, row: &[Option<f32>], role: Role) -> Result<(), MatrixError> {
        let features = self.profile.features();
        if row.len() != features.len() {
            return Err(MatrixError::Width { profile: self.profile, got: row.len(), expected: features.len() });
        }
        if let Some((f, v)) = features.iter().zip(row).find_map(|(f, v)| v.filter(|v| !v.is_finite()).map(|v| (f, v))) {
            return Err(MatrixError::NotFinite { profile: self.profile, feature: f.name, value: v });
        }
        let mut present = 0u64;
        for (i, v) in row.iter().enumerate() {
            present |= u64::from(v.is_some()) << i;
            self.data.push(v.unwrap_or(0.0));
        }
        self.present.push(present);
        self.roles.push(role);
        Ok(())
    }

    pub fn profile(&self) -> ProfileId {
        self.profile
    }
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.roles.len()
    }
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty()
    }
    /// All rows, row-major, shape `[len, width]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
    pub fn row(&self, i: usize) -> &[f32] {
        let w = self.profile.width();
        &self.data[i * w..(i + 1) * w]
    }
    /// Bit `j` is set where feature `j` of row `i` is present.
    pub fn present(&self, i: usize) -> u64 {
        self.present[i]
    }
    pub fn role(&self, i: usize) -> Role {
        self.roles[i]
    }

    /// Appends row `i` of `other`, which has the same profile.
    ///
    /// # Panics
    /// If the profiles differ: rows of different profiles have different meanings.
    pub fn push_from(&mut self, other: &FeatureMatrix, i: usize) {
        assert_eq!(self.profile, other.profile, "rows of one profile cannot join a matrix of another");
        self.data.extend_from_slice(other.row(i));
        self.present.push(other.present[i]);
        self.roles.push(other.roles[i]);
    }
}
