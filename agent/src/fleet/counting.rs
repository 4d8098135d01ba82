//! What the interfaces count, for the thread that drains.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_core::table::Part;
use weir_kernel::KernelError;
use weir_kernel::flows::{DrainReport, Drained, Epochs, drain_all};

use super::tags::Tags;

/// What one drain gives.
#[derive(Debug, Default)]
pub struct Counts {
    pub flows: Drained,
    /// Which of the flows are whose.
    pub parts: Vec<Part>,
    /// Interfaces that are gone: they count nothing after this.
    pub gone: Vec<u32>,
}

#[derive(Debug)]
struct One {
    interface: u32,
    epochs: Epochs,
    tags: Tags,
    /// What an earlier agent had not read.
    left: Drained,
    /// It is gone; what it counted until then is still to be read.
    last: bool,
}

/// The epochs of all interfaces.
#[derive(Clone, Debug, Default)]
pub struct Counting(Arc<Mutex<Vec<One>>>);

impl Counting {
    fn all(&self) -> MutexGuard<'_, Vec<One>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, interface: u32, epochs: Epochs, tags: Tags, left: Drained) {
        self.all().push(One { interface, epochs, tags, left, last: false });
    }

    /// Its counts are read once more, and no further.
    pub(super) fn remove(&self, interface: u32) {
        self.all().iter_mut().filter(|o| o.interface == interface).for_each(|o| o.last = true);
    }

    pub(super) fn set_tags(&self, interface: u32, tags: Tags) {
        self.all().iter_mut().filter(|o| o.interface == interface && !o.last).for_each(|o| o.tags = tags);
    }

    /// Ends the epoch of every interface and appends what was counted.
    pub fn drain(&self, counts: &mut Counts) -> Result<DrainReport, KernelError> {
        let mut all = self.all();
        for one in all.iter_mut().filter(|o| !o.left.is_empty()) {
            counts.parts.push(Part { interface: one.interface, flows: one.left.len() });
            counts.flows.append(&mut one.left);
        }
        let (before, mut each) = (counts.flows.len(), Vec::new());
        let report = drain_all(all.iter_mut().map(|o| &mut o.epochs), &mut counts.flows, &mut each)?;
        let mut at = before;
        for (one, flows) in all.iter().zip(each) {
            let left = one.tags.change(&mut counts.flows, at..at + flows);
            at += left;
            counts.parts.push(Part { interface: one.interface, flows: left });
        }
        counts.gone.extend(all.iter().filter(|o| o.last).map(|o| o.interface));
        all.retain(|o| !o.last);
        Ok(report)
    }
}
