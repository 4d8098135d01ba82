//! Programs that are loaded ahead, for interfaces that are still to come.
//!
//! The verifier takes half a second for the two programs, and more on a busy machine: too long for an interface that is there already
//! and unprotected. So a few are ready, and those who come together need not wait for one another.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use weir_kernel::pins::{Capacity, Pins};
use weir_kernel::{KernelError, Member, Options, Shared};

use super::Budget;

/// Ready at most, of which one waits to be put down.
const READY: usize = 3;

/// One that is ready, with its share of the flows.
pub(super) struct Spare {
    pub member: Member,
    pub share: u32,
}

/// The thread that makes them. What is left is taken away at the end.
pub(super) struct Spares {
    ready: Option<Receiver<Result<Spare, KernelError>>>,
    thread: Option<JoinHandle<()>>,
    budget: Budget,
}

impl Spares {
    pub fn start(shared: Arc<Shared>, options: Options, budget: Budget) -> std::io::Result<Self> {
        let (put, ready) = sync_channel(READY - 1);
        let shares = budget.clone();
        let thread = std::thread::Builder::new().name("weir-spares".into()).spawn(move || {
            for number in 0.. {
                let share = shares.take(false);
                let made = make(number, &options, share, &shared);
                if made.is_err() {
                    shares.give_back(share);
                }
                let failed = made.is_err();
                match put.send(made.map(|member| Spare { member, share })) {
                    Ok(()) if failed => return,
                    Ok(()) => {}
                    Err(unwanted) => return unwanted.0.into_iter().for_each(discard),
                }
            }
        })?;
        Ok(Self { ready: Some(ready), thread: Some(thread), budget })
    }

    /// The next one, as soon as it is ready; `None`: there are none any more.
    pub fn take(&self) -> Option<Spare> {
        match self.ready.as_ref()?.recv().ok()? {
            Ok(spare) => Some(spare),
            Err(e) => {
                log::warn!("no programs are loaded ahead any more: {e}");
                None
            }
        }
    }

    /// One was taken that could not be used.
    pub fn waste(&self, spare: Spare) {
        self.budget.give_back(spare.share);
        discard(spare);
    }
}

fn make(number: u32, options: &Options, share: u32, shared: &Shared) -> Result<Member, KernelError> {
    let capacity = Capacity { flows: share, ..options.capacity };
    let pins = Pins::spare(std::process::id(), number)?;
    Member::load(pins, "none", 0, Options { capacity, ..options.clone() }, shared)
}

fn discard(spare: Spare) {
    if let Err(e) = spare.member.discard() {
        log::warn!("what was loaded ahead cannot be removed: {e}");
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        if let Some(ready) = self.ready.take() {
            ready.try_iter().flatten().for_each(discard);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes away what agents loaded ahead that were killed.
pub(crate) fn remove_orphans() {
    let Ok(all) = Pins::all_here() else { return };
    for pins in all {
        let alive = |process: u32| std::path::Path::new(&format!("/proc/{process}")).exists();
        if pins.spare_of().is_some_and(|process| !alive(process))
            && let Err(e) = pins.remove()
        {
            log::warn!("what a killed agent loaded ahead cannot be removed: {e}");
        }
    }
}
