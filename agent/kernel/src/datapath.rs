//! An interface's programs with entries of their own: the whole kernel side where there is one interface.

use std::ops::{Deref, DerefMut};

use aya::programs::{TcAttachType, tc};
use weir_common::names::PROGRAM_TC;

use crate::counters::Counters;
use crate::flows::{Drained, Epochs};
use crate::lease::Lease;
use crate::lists::EntryTable;
use crate::member::Member;
use crate::pins::{Capacity, Pins, interface_name};
use crate::programs::Programs;
use crate::{KernelError, clsact, link};

/// How the XDP program is to be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Native, or generic where the driver cannot.
    #[default]
    Auto,
    Native,
    Generic,
}

/// How the egress program is to be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcMode {
    /// TCX, or a clsact filter before Linux 6.6.
    #[default]
    Auto,
    Clsact,
}

/// How the XDP program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    Native,
    /// Behind the network stack's allocation, and behind GRO: slower, and sizes are not those of the wire. With the cause.
    Generic(String),
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub capacity: Capacity,
    pub xdp: XdpMode,
    pub tc: TcMode,
    /// For tests: time is what the `TEST_CLOCK` map says.
    pub test_clock: bool,
}

/// What was there at the start.
#[derive(Debug, Default)]
pub struct Adoption {
    /// Pins of an earlier agent were taken over.
    pub existed: bool,
    /// Maps that were replaced by ones of another capacity.
    pub resized: Vec<&'static str>,
    /// Entries found in the kernel.
    pub entries: usize,
    /// Flows that an earlier agent had not read: of its last epochs, and of the one it was draining when it ended.
    pub flows: Drained,
    /// Of these, the epoch that an earlier agent was draining when it ended.
    pub half_drained: usize,
}

/// The running kernel side of one interface.
#[derive(Debug)]
pub struct Datapath {
    pub lists: EntryTable,
    pub lease: Lease,
    member: Member,
}

impl Deref for Datapath {
    type Target = Member;
    fn deref(&self) -> &Member {
        &self.member
    }
}

impl DerefMut for Datapath {
    fn deref_mut(&mut self) -> &mut Member {
        &mut self.member
    }
}

impl Datapath {
    /// Loads the programs for `interface` with pinned maps, adopting those of an earlier agent. Nothing is attached yet.
    pub fn open(interface: &str, options: Options) -> Result<Self, KernelError> {
        let ifindex = link::index_of(interface)?;
        let pins = Pins::of(ifindex)?;
        pins.refuse_foreign_xdp(interface, ifindex)?;
        Self::load(pins, interface, ifindex, options)
    }

    /// Loads the programs with the given pins, for no interface in particular.
    pub fn load(pins: Pins, interface: &str, ifindex: u32, options: Options) -> Result<Self, KernelError> {
        let shared = pins.shared(interface, &options.capacity)?;
        let mut member = Member::load(pins, interface, ifindex, options, &shared)?;
        let lists = shared.table(&member.options().capacity)?;
        member.adoption.entries = lists.known().count();
        Ok(Self { lists, lease: shared.lease()?, member })
    }

    /// The parts, each for its own owner. What is pinned stays without them.
    pub fn into_parts(self) -> (Epochs, EntryTable, Lease, Counters, Programs) {
        let (epochs, counters, programs) = self.member.into_parts();
        (epochs, self.lists, self.lease, counters, programs)
    }
}

/// Removes everything of Weir from the interface that `pins` belong to.
pub fn unload(pins: &Pins) -> Result<(), KernelError> {
    if let Ok(Some(meta)) = pins.meta()
        && !pins.link_tc().exists()
    {
        let name = interface_name(&meta);
        // An interface that is gone took its filters along.
        let _ = tc::qdisc_detach_program(&name, TcAttachType::Egress, PROGRAM_TC);
        if pins.owns_clsact() && link::index_of(&name).is_ok_and(|index| index == meta.ifindex) {
            // Somebody else may have taken it away already.
            let _ = clsact::remove_if_unused(meta.ifindex);
        }
    }
    pins.remove()
}
