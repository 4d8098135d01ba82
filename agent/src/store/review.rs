//! What people were asked and what they said, as it is stored.

use serde::{Deserialize, Serialize};
use weir_core::label::LabelsSnapshot;
use weir_core::question::QuestionsSnapshot;
use weir_core::suppression::SuppressionsSnapshot;

/// Each part changes on its own: its owner counts the changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReviewState {
    pub questions: QuestionsSnapshot,
    pub suppressions: SuppressionsSnapshot,
    pub labels: LabelsSnapshot,
}
