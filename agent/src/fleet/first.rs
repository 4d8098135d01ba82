//! The first attachment: what an earlier agent left is taken over, and what is named outright must work.

use std::sync::Arc;

use weir_core::table::Part;
use weir_kernel::pins::{Capacity, Pins};
use weir_kernel::{Shared, link};

use super::keeper::Keeper;
use super::spares::remove_orphans;
use super::{Adopted, Budget};
use crate::config::Config;
use crate::store::lock_interface;

impl Keeper {
    /// The maps that all of them share: those of an earlier agent where there are any.
    pub fn begin(&mut self, config: &Config) -> anyhow::Result<(Shared, bool)> {
        self.options = crate::app::kernel_options(config);
        let capacity = self.options.capacity;
        self.budget = Budget::new(capacity.flows, self.claimed.len(), self.selection.has_patterns());
        remove_orphans();
        remove_stale_pins();
        let mut found = Vec::new();
        for (link, _) in &self.claimed {
            let pins = Pins::of(link.index)?;
            if pins.dir().exists() {
                found.push((link.name.clone(), pins));
            }
        }
        // What was whole when its agent ended goes before what was being replaced.
        found.sort_by_key(|(_, pins)| pins.half_replaced());
        for (name, pins) in found {
            let existed = pins.exist();
            match pins.shared(&name, &capacity) {
                Ok(shared) => return Ok((shared, existed)),
                Err(e) if self.outright(&name) => return Err(e.into()),
                // Attaching to it will say so.
                Err(_) => {}
            }
        }
        Ok((Shared::create(&capacity)?, false))
    }

    pub fn share(&mut self, shared: Arc<Shared>) {
        self.shared = Some(shared);
    }

    /// Attaches to what was claimed. Whoever was blocked stays blocked meanwhile: what an earlier agent left attached is replaced in one
    /// step.
    pub fn attach_first(&mut self, existed: bool) -> anyhow::Result<Adopted> {
        let mut adopted = Adopted { existed, ..Adopted::default() };
        for (link, lock) in std::mem::take(&mut self.claimed) {
            match self.attach(&link, lock, true) {
                Ok(adoption) => {
                    adopted.existed |= adoption.existed;
                    adopted.half_drained += adoption.half_drained;
                    let new = adoption.resized.into_iter().filter(|name| !adopted.resized.contains(name));
                    adopted.resized.extend(new.collect::<Vec<_>>());
                    adopted.parts.push(Part { interface: link.index, flows: adoption.flows.len() });
                    adopted.flows.extend(adoption.flows);
                }
                Err(refusal) if self.outright(&link.name) => {
                    return Err(refusal.error);
                }
                Err(refusal) => self.refused(&link, refusal),
            }
        }
        let capacity = self.options.capacity;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let of = |flows: u32| weir_kernel::pins::flow_bytes(&Capacity { flows, ..capacity });
        let flows: u64 = self.held.values().map(|h| of(h.share)).sum();
        let entries = weir_kernel::pins::memory(&capacity) - of(capacity.flows);
        log::info!("kernel maps take {:.1} MiB, of which flows {:.1} MiB", mib(entries + flows), mib(flows));
        if self.selection.has_patterns() {
            let most = mib(of(self.budget.total()));
            log::info!(
                "interfaces that come later share what is left of {most:.1} MiB for flows, at least 4096 flows each"
            );
        }
        Ok(adopted)
    }
}

/// Pins of interfaces that are gone, with nobody to remove them.
fn remove_stale_pins() {
    let Ok(all) = Pins::all_here() else { return };
    for pins in all {
        let Some(index) = pins.ifindex().filter(|i| link::query(*i).is_err()) else { continue };
        if let Ok(_lock) = lock_interface(crate::app::RUN_DIR.as_ref(), &format!("with index {index}"), index) {
            match pins.remove() {
                Ok(()) => log::info!("the interface with index {index} is gone; its pins are removed"),
                Err(e) => log::warn!("pins of an interface that is gone cannot be removed: {e}"),
            }
        }
    }
}
