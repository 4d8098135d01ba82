//! The interfaces that are watched, as they come and go.
//!
//! An interface is what its index says; its name is a label that may change. A thread ([`keeper`]) listens to rtnetlink and asks, each time,
//! for everything that there is: what it was told may have been lost. It attaches to what appears and is wanted, lets go of what is gone or
//! has left this network namespace, and attaches again where somebody took the programs off. The event loop sees the [`Roster`], and
//! hears of what has changed; the thread that drains sees [`Counting`]. Entries are shared: see [`weir_kernel::Shared`].

mod budget;
mod counting;
mod first;
mod keeper;
mod roster;
mod spares;
mod tags;

use std::sync::Arc;

use tokio::sync::mpsc;
use weir_core::event::Level;
use weir_core::table::Part;
use weir_kernel::changes::{Changes, Waker};
use weir_kernel::flows::Drained;
use weir_kernel::lease::Lease;
use weir_kernel::link;
use weir_kernel::lists::EntryTable;

use crate::config::{Config, Selection};
pub use budget::Budget;
pub use counting::{Counting, Counts};
use keeper::Keeper;
pub use roster::{Failure, Member, Roster, Whole};
pub(crate) use spares::remove_orphans;

/// Changes that may wait for the event loop.
const WAITING: usize = 1024;

/// Something has changed about an interface.
#[derive(Debug)]
pub struct Change {
    /// What an operator reads; `None`: addresses have changed, and no interface has.
    pub said: Option<(Level, String)>,
    /// The interface as it is called now.
    pub named: Option<(u32, Arc<str>)>,
}

/// What was there at the start, of all interfaces together.
#[derive(Debug, Default)]
pub struct Adopted {
    pub existed: bool,
    pub resized: Vec<&'static str>,
    pub entries: usize,
    pub flows: Drained,
    pub parts: Vec<Part>,
    pub half_drained: usize,
}

/// The interfaces with Weir's programs. Dropped, nobody looks after them any more; the programs stay.
#[derive(Debug)]
pub struct Fleet {
    pub roster: Arc<Roster>,
    pub counting: Counting,
    stop: Option<(Waker, std::thread::JoinHandle<()>)>,
}

/// Interfaces that this agent alone may use from now on; nothing is attached yet.
pub struct Claimed {
    keeper: Keeper,
}

/// Everything that follows from the first attachment.
#[derive(Debug)]
pub struct Started {
    pub fleet: Fleet,
    pub entries: EntryTable,
    pub lease: Lease,
    pub adopted: Adopted,
    pub changes: mpsc::Receiver<Change>,
}

impl Fleet {
    /// Locks every interface that is there and wanted. One that is named outright must be there, and nobody else's.
    pub fn claim(selection: Selection) -> anyhow::Result<Claimed> {
        for name in selection.names() {
            link::index_of(name)?;
        }
        Ok(Claimed { keeper: Keeper::claim(selection, Changes::watch()?)? })
    }

    /// For tests that have no kernel programs.
    #[cfg(test)]
    pub fn none() -> Self {
        Self { roster: Arc::default(), counting: Counting::default(), stop: None }
    }
}

impl Claimed {
    /// Attaches to all of them, and goes on looking after them.
    pub fn start(self, config: &Config) -> anyhow::Result<Started> {
        let Claimed { mut keeper } = self;
        let (shared, adopted) = keeper.begin(config)?;
        let capacity = crate::app::capacity(config);
        let (entries, lease) = (shared.table(&capacity)?, shared.lease()?);
        lease.set(config.lease.lapse, config.lease.timeout);
        keeper.share(shared.into());
        let mut adopted = keeper.attach_first(adopted)?;
        adopted.entries = entries.known().count();
        let (roster, counting) = (keeper.roster.clone(), keeper.counting.clone());
        let (tx, changes) = mpsc::channel(WAITING);
        let stop = keeper.run(tx)?;
        let fleet = Fleet { roster, counting, stop: Some(stop) };
        Ok(Started { fleet, entries, lease, adopted, changes })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some((waker, thread)) = self.stop.take() {
            waker.wake();
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}
