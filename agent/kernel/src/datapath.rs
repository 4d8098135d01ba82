//! From an interface name to programs that run: load, adopt or make pins, attach.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode as AyaMode, tc};
use aya::{Ebpf, EbpfLoader};
use weir_common::ABI_VERSION;
use weir_common::entry::Lists;
use weir_common::hash::Seed;
use weir_common::names::{
    self, GLOBAL_SEED, GLOBAL_SIZES, GLOBAL_USE_TEST_CLOCK, MAPS, MapSpec, Meta, PROGRAM_TC, PROGRAM_XDP, Sizes,
};

use crate::counters::Counters;
use crate::entries::EntryMaps;
use crate::flows::{Drained, Epochs, FlowMaps};
use crate::lease::Lease;
use crate::lists::{EntryTable, ListMaps};
use crate::mapped::Mapped;
use crate::pins::{Capacity, Pins, interface_name, remove_if_there};
use crate::{KernelError, clsact, link, object, requirements, strangers, sys};

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
    pub pins: Pins,
    pub epochs: Epochs,
    pub lists: EntryTable,
    pub counters: Counters,
    pub lease: Lease,
    /// Everything aya loaded; dropping it detaches nothing that is pinned.
    ebpf: Ebpf,
    interface: String,
    ifindex: u32,
    options: Options,
    adoption: Adoption,
    /// Maps that wait under another name for the programs to use them.
    pending: Vec<&'static MapSpec>,
}

/// Descriptors of the loaded programs.
#[derive(Debug)]
pub struct Held {
    _ebpf: Ebpf,
}

const CLSACT_PRIORITY: u16 = 0x5765;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 1);

impl Datapath {
    /// Loads the programs for `interface` with pinned maps, adopting those of an earlier agent. Nothing is attached yet.
    pub fn open(interface: &str, options: Options) -> Result<Self, KernelError> {
        let ifindex = link::index_of(interface)?;
        let pins = Pins::of(ifindex)?;
        foreign_xdp(interface, ifindex, &pins)?;
        Self::load(pins, interface, ifindex, options)
    }

    /// Loads the programs with the given pins, for no interface in particular.
    pub fn load(pins: Pins, interface: &str, ifindex: u32, options: Options) -> Result<Self, KernelError> {
        let object = object::EBPF_OBJECT.ok_or(KernelError::NoObject)?;
        if pins.unfinished()? {
            pins.remove()?;
        }
        let existed = pins.exist();
        pins.create()?;
        let pending = if existed { pins.verify(interface, &options.capacity)? } else { Vec::new() };
        // What is in the maps was hashed with their seed.
        let seed = match pins.meta()?.filter(|_| existed) {
            Some(meta) => meta.seed,
            None => sys::random().map_err(KernelError::refused("a seed"))?,
        };
        let loaded = load_programs(object, &pins, &options, &pending, &seed);
        let ebpf = match loaded {
            Ok(ebpf) => ebpf,
            Err(e) => {
                // Half an installation helps nobody. What an earlier agent left stays as it is.
                if existed {
                    for spec in &pending {
                        remove_if_there(&pins.successor(spec.name))?;
                    }
                } else {
                    pins.remove()?;
                }
                return Err(requirements::explain(e));
            }
        };
        let open = |name: &str| -> Result<OwnedFd, KernelError> {
            if pending.iter().any(|s| s.name == name) {
                let path = pins.successor(name);
                sys::obj_get(&path).map_err(KernelError::io("open the pin", path))
            } else {
                pins.open(name)
            }
        };
        let refused = || KernelError::refused("mapping the entries");
        let entries = EntryMaps {
            lists: Mapped::new(open(names::LISTS)?).map_err(refused())?,
            index: Mapped::new(open(names::ENTRY_INDEX)?).map_err(refused())?,
            records: Mapped::new(open(names::ENTRIES)?).map_err(refused())?,
            ends: Mapped::new(open(names::FLOW_ENDS)?).map_err(refused())?,
            seed,
        };
        if pending.iter().any(|s| s.sized.holds_entries()) {
            carry_entries(&pins, &entries)?;
        }
        write_meta(&open(names::META)?, interface, ifindex, seed)?;
        let flows = FlowMaps::new(open(names::FLOW_INDEX)?, open(names::FLOW_RECORDS)?, open(names::FLOWS_USED)?)?;
        let mut epochs = Epochs::new(flows, open(names::SWITCHES)?)?;
        let lists = EntryTable::adopt(
            ListMaps {
                entries,
                v4_bitmap: Mapped::new(open(names::V4_BITMAP)?).map_err(refused())?,
                v6_bitmap: Mapped::new(open(names::V6_BITMAP)?).map_err(refused())?,
            },
            options.capacity.blocks,
            options.capacity.allows,
        )?;
        let mut adoption = Adoption {
            existed,
            resized: pending.iter().map(|s| s.name).collect(),
            entries: lists.known().count(),
            flows: Drained::new(),
            half_drained: 0,
        };
        if existed {
            adoption.half_drained = epochs.drain_idle(&mut adoption.flows);
        }
        let counters = Counters::new(open(names::COUNTERS)?)?;
        let lease = Lease::new(open(names::LEASE)?)?;
        Ok(Self {
            pins,
            epochs,
            lists,
            counters,
            lease,
            ebpf,
            interface: interface.to_owned(),
            ifindex,
            options,
            adoption,
            pending,
        })
    }

    /// Attaches the programs, or puts them in the place of an earlier agent's without a gap.
    pub fn attach(&mut self) -> Result<AttachedMode, KernelError> {
        self.attach_tc()?;
        let mode = self.attach_xdp()?;
        self.settle_maps()?;
        Ok(mode)
    }

    fn attach_error(&self, cause: impl std::fmt::Display) -> KernelError {
        KernelError::Attach { interface: self.interface.clone(), cause: cause.to_string() }
    }

    fn attach_tc(&mut self) -> Result<(), KernelError> {
        let interface = self.interface.clone();
        let pin = self.pins.link_tc();
        let fail = |e: &dyn std::fmt::Display| KernelError::Attach {
            interface: interface.clone(),
            cause: format!("egress: {e}"),
        };
        let tcx = self.options.tc == TcMode::Auto && requirements::has_tcx();
        let adopted = pinned_link(&pin).map_err(|e| fail(&e))?;
        let program: &mut SchedClassifier = program(&mut self.ebpf, PROGRAM_TC)?;
        if let Some(link) = adopted {
            let link = SchedClassifierLink::try_from(link).map_err(|e| fail(&e))?;
            match program.attach_to_link(link) {
                Ok(_) => return Ok(()),
                // The interface went away and came back: the link hangs in the air.
                Err(e) => log::warn!("{interface}: the earlier egress link cannot be used again ({e}); attaching anew"),
            }
            remove_if_there(&pin)?;
        }
        if tcx {
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            let id = program.attach_with_options(&interface, TcAttachType::Egress, options).map_err(|e| fail(&e))?;
            let link: FdLink =
                program.take_link(id).and_then(|l| l.try_into().map_err(link_error)).map_err(|e| fail(&e))?;
            link.pin(&pin).map_err(|e| fail(&e))?;
            return Ok(());
        }
        if self.options.tc == TcMode::Auto {
            log::info!(
                "{interface}: egress goes through a clsact filter; this kernel has no TCX, which came with Linux 6.6"
            );
        }
        if clsact::add(&interface).map_err(|e| fail(&e))? {
            self.pins.own_clsact()?;
        }
        let attached =
            SchedClassifierLink::attached(&interface, TcAttachType::Egress, CLSACT_PRIORITY, CLSACT_HANDLE, None)
                .map_err(|e| fail(&e))?;
        let id = match program.attach_to_link(attached) {
            Ok(id) => id,
            Err(_) => {
                let options = NlOptions { priority: CLSACT_PRIORITY, handle: CLSACT_HANDLE, ..NlOptions::default() };
                program
                    .attach_with_options(&interface, TcAttachType::Egress, TcAttachOptions::Netlink(options))
                    .map_err(|e| fail(&e))?
            }
        };
        // A filter stays without anybody holding it; only aya would take it away on drop.
        std::mem::forget(program.take_link(id).map_err(|e| fail(&e))?);
        Ok(())
    }

    fn attach_xdp(&mut self) -> Result<AttachedMode, KernelError> {
        let pin = self.pins.link_xdp();
        let adopted = pinned_link(&pin).map_err(|e| self.attach_error(e))?;
        let ifindex = self.ifindex;
        if let Some(link) = adopted {
            let link = aya::programs::xdp::XdpLink::try_from(link).map_err(|e| self.attach_error(e))?;
            let program: &mut Xdp = program(&mut self.ebpf, PROGRAM_XDP)?;
            match program.attach_to_link(link) {
                Ok(_) => return self.mode_now("it was attached so by the agent before"),
                Err(e) => {
                    log::warn!("{}: the earlier XDP link cannot be used again ({e}); attaching anew", self.interface)
                }
            }
            remove_if_there(&pin)?;
        }
        let mut cause = "it is configured (`xdp.mode: generic`)".to_owned();
        let program: &mut Xdp = program(&mut self.ebpf, PROGRAM_XDP)?;
        let mut attached = None;
        if self.options.xdp != XdpMode::Generic {
            match program.attach_to_if_index(ifindex, AyaMode::Driver) {
                Ok(id) => attached = Some(id),
                Err(e) => cause = why_not_native(&e, ifindex),
            }
        }
        let id = match attached {
            Some(id) => id,
            None if self.options.xdp == XdpMode::Native => {
                return Err(self.attach_error(format!("native XDP: {cause}; `xdp.mode: auto` falls back to generic")));
            }
            None => match program.attach_to_if_index(ifindex, AyaMode::Skb) {
                Ok(id) => id,
                Err(e) => return Err(self.attach_error(format!("native XDP: {cause}; generic XDP: {}", chain(&e)))),
            },
        };
        let link: Result<FdLink, _> = program.take_link(id).and_then(|l| l.try_into().map_err(link_error));
        link.map_err(|e| self.attach_error(chain(&e)))?.pin(&pin).map_err(|e| self.attach_error(chain(&e)))?;
        self.mode_now(&cause)
    }

    fn mode_now(&self, cause: &str) -> Result<AttachedMode, KernelError> {
        let state = link::query(self.ifindex).map_err(KernelError::refused("asking for the interface"))?;
        Ok(match state.xdp {
            Some((_, true)) => AttachedMode::Generic(cause.to_owned()),
            _ => AttachedMode::Native,
        })
    }

    /// Once the programs use the new maps: what the old ones still hold is carried over, and they go.
    fn settle_maps(&mut self) -> Result<(), KernelError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        sys::wait_for_programs().map_err(KernelError::refused("membarrier(MEMBARRIER_CMD_GLOBAL)"))?;
        let pending = std::mem::take(&mut self.pending);
        if pending.iter().any(|s| s.sized.holds_flows()) {
            let open = |name| self.pins.open(name);
            let mut old =
                FlowMaps::new(open(names::FLOW_INDEX)?, open(names::FLOW_RECORDS)?, open(names::FLOWS_USED)?)?;
            for odd in [0, 1] {
                old.take(odd, &mut self.adoption.flows);
            }
        }
        for spec in pending {
            let (old, new) = (self.pins.map(spec.name), self.pins.successor(spec.name));
            remove_if_there(&old)?;
            std::fs::rename(&new, &old).map_err(KernelError::io("rename", new))?;
        }
        Ok(())
    }

    /// The parts, each for its own owner. The last one keeps the programs' descriptors; what is pinned stays without it.
    pub fn into_parts(self) -> (Epochs, EntryTable, Lease, Counters, Held) {
        (self.epochs, self.lists, self.lease, self.counters, Held { _ebpf: self.ebpf })
    }

    /// What was found at the start; the flows are handed over once.
    pub fn take_adoption(&mut self) -> Adoption {
        std::mem::take(&mut self.adoption)
    }

    pub fn interface(&self) -> &str {
        &self.interface
    }
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Messages of the programs, to be passed on to `logger` by [`aya_log::EbpfLogger::flush`] when the descriptor is
    /// readable. `None` once taken.
    pub fn take_logger<T: log::Log>(&mut self, logger: T) -> Option<aya_log::EbpfLogger<T>> {
        aya_log::EbpfLogger::init_with_logger(&mut self.ebpf, logger).ok()
    }

    /// The loaded XDP and TC programs, for test runs.
    pub fn programs(&mut self) -> Result<(OwnedFd, OwnedFd), KernelError> {
        let clone = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(KernelError::refused("a descriptor"));
        let not_loaded = |e: ProgramError| KernelError::Load(chain(&e));
        let xdp: &mut Xdp = program(&mut self.ebpf, PROGRAM_XDP)?;
        let xdp = clone(xdp.fd().map_err(not_loaded)?.as_fd())?;
        let tc: &mut SchedClassifier = program(&mut self.ebpf, PROGRAM_TC)?;
        let tc = clone(tc.fd().map_err(not_loaded)?.as_fd())?;
        Ok((xdp, tc))
    }

    /// Instructions that the verifier processed: XDP, TC.
    pub fn verified_instructions(&mut self) -> Result<[Option<u32>; 2], KernelError> {
        let not_loaded = |e: ProgramError| KernelError::Load(chain(&e));
        let xdp: &mut Xdp = program(&mut self.ebpf, PROGRAM_XDP)?;
        let a = xdp.info().map_err(not_loaded)?.verified_instruction_count();
        let tc: &mut SchedClassifier = program(&mut self.ebpf, PROGRAM_TC)?;
        let b = tc.info().map_err(not_loaded)?.verified_instruction_count();
        Ok([a, b])
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

fn link_error(e: LinkError) -> ProgramError {
    ProgramError::IOError(std::io::Error::other(chain(&e)))
}

/// An error and what caused it, on one line.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(s) = source {
        text.push_str(": ");
        text.push_str(&s.to_string());
        source = s.source();
    }
    text
}

/// A program that the kernel refused: the verifier writes thousands of lines, and the last ones say why.
fn not_taken(name: &str, e: &ProgramError) -> KernelError {
    const LAST: usize = 12;
    let ProgramError::LoadError { io_error, verifier_log } = e else {
        return KernelError::Load(format!("{name}: {}", chain(e)));
    };
    let log = verifier_log.to_string();
    log::debug!("{name}: the verifier's log:\n{log}");
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST)..].join("\n");
    KernelError::Load(format!("{name}: {io_error}; the verifier's last words:\n{last}"))
}

fn why_not_native(e: &ProgramError, ifindex: u32) -> String {
    let mtu = link::query(ifindex).map(|i| i.mtu).unwrap_or(0);
    format!("{} (the driver has no native XDP, or not with this MTU ({mtu}), LRO or queue layout)", chain(e))
}

/// A link pinned by an earlier agent.
fn pinned_link(path: &std::path::Path) -> Result<Option<FdLink>, String> {
    if !path.exists() {
        return Ok(None);
    }
    PinnedLink::from_pin(path).map(|l| Some(FdLink::from(l))).map_err(|e| chain(&e))
}

/// Refuses an interface on which somebody else's XDP program runs.
fn foreign_xdp(interface: &str, ifindex: u32, pins: &Pins) -> Result<(), KernelError> {
    let state = link::query(ifindex).map_err(KernelError::refused("asking for the interface"))?;
    let Some((attached, _)) = state.xdp else { return Ok(()) };
    let ours = sys::obj_get(&pins.link_xdp()).ok().and_then(|l| sys::link_program_id(l.as_fd()).ok());
    if ours == Some(attached) {
        return Ok(());
    }
    let name = strangers::name(attached);
    Err(KernelError::ForeignXdp { interface: interface.to_owned(), program: format!("`{name}`, id {attached}") })
}

pub(crate) fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| KernelError::Load(format!("there is no program {name} in the object")))?
        .try_into()
        .map_err(|e| KernelError::Load(chain(&e)))
}

fn load_programs(
    object: &[u8],
    pins: &Pins,
    options: &Options,
    pending: &[&MapSpec],
    seed: &Seed,
) -> Result<Ebpf, KernelError> {
    let (test_clock, sizes) = (u8::from(options.test_clock), Sizes::of(&options.capacity));
    let mut loader = EbpfLoader::new();
    loader.override_global(GLOBAL_SEED, bytemuck::bytes_of(seed), true);
    loader.override_global(GLOBAL_SIZES, bytemuck::bytes_of(&sizes), true);
    loader.override_global(GLOBAL_USE_TEST_CLOCK, &test_clock, true);
    for spec in &MAPS {
        let path =
            if pending.iter().any(|p| p.name == spec.name) { pins.successor(spec.name) } else { pins.map(spec.name) };
        if pending.iter().any(|p| p.name == spec.name) {
            // A successor of an attempt that did not come to its end.
            remove_if_there(&path)?;
        }
        loader.map_pin_path(spec.name, path);
        loader.map_max_entries(spec.name, spec.max_entries(&options.capacity));
    }
    let mut ebpf = loader.load(object).map_err(|e| KernelError::Load(chain(&e)))?;
    let xdp: &mut Xdp = program(&mut ebpf, PROGRAM_XDP)?;
    xdp.load().map_err(|e| not_taken(PROGRAM_XDP, &e))?;
    let tc: &mut SchedClassifier = program(&mut ebpf, PROGRAM_TC)?;
    tc.load().map_err(|e| not_taken(PROGRAM_TC, &e))?;
    Ok(ebpf)
}

/// Fills the maps of another capacity with the entries of the old ones, hits included.
fn carry_entries(pins: &Pins, new: &EntryMaps) -> Result<(), KernelError> {
    let refused = || KernelError::refused("mapping the entries");
    let old = EntryMaps {
        lists: Mapped::new(pins.open(names::LISTS)?).map_err(refused())?,
        index: Mapped::new(pins.open(names::ENTRY_INDEX)?).map_err(refused())?,
        records: Mapped::new(pins.open(names::ENTRIES)?).map_err(refused())?,
        ends: Mapped::new(pins.open(names::FLOW_ENDS)?).map_err(refused())?,
        seed: new.seed,
    };
    let (lists, _) = old.live();
    let records: Vec<_> = old.read().0.into_iter().map(|(_, record)| record).collect();
    new.fill(Lists { first: 0, lines: 0, ..lists }, &records)
}

fn write_meta(map: &OwnedFd, interface: &str, ifindex: u32, seed: Seed) -> Result<(), KernelError> {
    let mut ifname = [0u8; 16];
    let n = interface.len().min(15);
    ifname[..n].copy_from_slice(&interface.as_bytes()[..n]);
    let meta = Meta { abi_version: ABI_VERSION, ifindex, ifname, seed };
    sys::update(map.as_fd(), &0u32, &meta, sys::ANY).map_err(KernelError::refused("writing META"))
}
