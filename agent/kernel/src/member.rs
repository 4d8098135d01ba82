//! An interface that Weir watches: its programs, loaded with maps that are made or adopted, and what they count.

use std::os::fd::{AsFd, OwnedFd};

use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use weir_common::ABI_VERSION;
use weir_common::hash::Seed;
use weir_common::names::{self, GLOBAL_SEED, GLOBAL_SIZES, GLOBAL_USE_TEST_CLOCK, MAPS, MapSpec, Meta, Sizes};

use crate::counters::Counters;
use crate::datapath::{Adoption, AttachedMode, Options};
use crate::flows::{Drained, Epochs, FlowMaps};
use crate::pins::{Pins, ifname, remove_if_there};
use crate::programs::{Programs, chain, foreign_xdp, not_taken};
use crate::shared::Shared;
use crate::{KernelError, object, requirements, sys};

/// The programs of one interface and what they count; their entries are [`Shared`].
#[derive(Debug)]
pub struct Member {
    pub pins: Pins,
    pub epochs: Epochs,
    pub counters: Counters,
    pub programs: Programs,
    pub(crate) adoption: Adoption,
    /// Maps that wait under another name for the programs to use them.
    pending: Vec<&'static MapSpec>,
}

impl Pins {
    /// The maps that interfaces share, as an earlier agent left them here; new ones where it left none.
    pub fn shared(&self, interface: &str, capacity: &crate::pins::Capacity) -> Result<Shared, KernelError> {
        if self.unfinished()? {
            self.remove()?;
        }
        if !self.exist() {
            return Shared::create(capacity);
        }
        self.verify(interface, capacity)?;
        Shared::adopt(self, capacity)
    }

    /// Refuses an interface on which somebody else's XDP program runs.
    pub fn refuse_foreign_xdp(&self, interface: &str, ifindex: u32) -> Result<(), KernelError> {
        foreign_xdp(interface, ifindex, self)
    }
}

impl Member {
    /// Loads the programs with the given pins, adopting those of an earlier agent, for an interface that looks at the entries of
    /// `shared`. Nothing is attached yet.
    pub fn load(
        pins: Pins,
        interface: &str,
        ifindex: u32,
        options: Options,
        shared: &Shared,
    ) -> Result<Self, KernelError> {
        let object = object::EBPF_OBJECT.ok_or(KernelError::NoObject)?;
        if pins.unfinished()? {
            pins.remove()?;
        }
        let existed = pins.exist();
        pins.create()?;
        let pending = if existed { pending(&pins, interface, &options, shared)? } else { Vec::new() };
        let loaded = load_programs(object, &pins, &options, &pending, shared);
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
        write_meta(&open(names::META)?, interface, ifindex, shared.seed())?;
        let flows = FlowMaps::new(open(names::FLOW_INDEX)?, open(names::FLOW_RECORDS)?, open(names::FLOWS_USED)?)?;
        let mut epochs = Epochs::new(flows, open(names::SWITCHES)?)?;
        let mut adoption = Adoption {
            existed,
            resized: pending.iter().map(|s| s.name).collect(),
            entries: 0,
            flows: Drained::new(),
            half_drained: 0,
        };
        if existed {
            adoption.half_drained = epochs.drain_idle(&mut adoption.flows);
        }
        let counters = Counters::new(open(names::COUNTERS)?)?;
        let programs = Programs::new(ebpf, pins.clone(), interface, ifindex, options);
        Ok(Self { pins, epochs, counters, programs, adoption, pending })
    }

    /// Attaches the programs, or puts them in the place of an earlier agent's without a gap.
    pub fn attach(&mut self) -> Result<AttachedMode, KernelError> {
        let mode = self.programs.attach()?;
        self.settle_maps()?;
        Ok(mode)
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

    /// Gives what was loaded for no interface in particular to this one, whose pins must not be there.
    pub fn give_to(&mut self, pins: Pins, interface: &str, ifindex: u32) -> Result<(), KernelError> {
        self.pins.move_to(&pins)?;
        self.pins = pins.clone();
        self.programs.give_to(pins, interface, ifindex);
        let seed = self.pins.meta()?.map(|meta| meta.seed).unwrap_or_default();
        write_meta(&self.pins.open(names::META)?, interface, ifindex, seed)
    }

    /// Takes away what was loaded and is attached to nothing.
    pub fn discard(self) -> Result<(), KernelError> {
        self.pins.remove()
    }

    /// The parts, each for its own owner; what is pinned stays without them.
    pub fn into_parts(self) -> (Epochs, Counters, Programs) {
        (self.epochs, self.counters, self.programs)
    }

    /// What was found at the start; the flows are handed over once.
    pub fn take_adoption(&mut self) -> Adoption {
        std::mem::take(&mut self.adoption)
    }

    pub(crate) fn options(&self) -> &Options {
        self.programs.options()
    }
    /// An earlier agent's pins were adopted.
    pub fn existed(&self) -> bool {
        self.adoption.existed
    }
    pub fn interface(&self) -> &str {
        self.programs.interface()
    }
    pub fn ifindex(&self) -> u32 {
        self.programs.ifindex()
    }

    /// Messages of the programs, to be passed on to `logger` by [`aya_log::EbpfLogger::flush`] when the descriptor is
    /// readable. `None` once taken.
    pub fn take_logger<T: log::Log>(&mut self, logger: T) -> Option<aya_log::EbpfLogger<T>> {
        self.programs.take_logger(logger)
    }

    /// The loaded XDP and TC programs, for test runs.
    pub fn programs(&mut self) -> Result<(OwnedFd, OwnedFd), KernelError> {
        self.programs.descriptors()
    }

    /// Instructions that the verifier processed: XDP, TC.
    pub fn verified_instructions(&mut self) -> Result<[Option<u32>; 2], KernelError> {
        self.programs.verified_instructions()
    }
}

/// The maps that are to be replaced once the programs use others: those of another capacity, and where the entries are those of another
/// agent, everything that its programs hashed.
fn pending(
    pins: &Pins,
    interface: &str,
    options: &Options,
    shared: &Shared,
) -> Result<Vec<&'static MapSpec>, KernelError> {
    let resized = pins.verify(interface, &options.capacity)?;
    let another_seed = pins.meta()?.is_some_and(|meta| meta.seed != shared.seed());
    let mut pending = Vec::new();
    for spec in &MAPS {
        let replaced = match spec.is_shared() {
            true => !shared.is_pinned(spec, pins)?,
            false => resized.contains(&spec) || another_seed && (spec.sized.holds_flows() || spec.name == names::META),
        };
        if replaced {
            pending.push(spec);
        }
    }
    Ok(pending)
}

fn load_programs(
    object: &[u8],
    pins: &Pins,
    options: &Options,
    pending: &[&MapSpec],
    shared: &Shared,
) -> Result<Ebpf, KernelError> {
    let (test_clock, sizes, seed) = (u8::from(options.test_clock), Sizes::of(&options.capacity), shared.seed());
    let mut loader = EbpfLoader::new();
    loader.override_global(GLOBAL_SEED, bytemuck::bytes_of(&seed), true);
    loader.override_global(GLOBAL_SIZES, bytemuck::bytes_of(&sizes), true);
    loader.override_global(GLOBAL_USE_TEST_CLOCK, &test_clock, true);
    for spec in &MAPS {
        let path =
            if pending.iter().any(|p| p.name == spec.name) { pins.successor(spec.name) } else { pins.map(spec.name) };
        if pending.iter().any(|p| p.name == spec.name) {
            // A successor of an attempt that did not come to its end.
            remove_if_there(&path)?;
        }
        // What is pinned is used.
        if spec.is_shared() && !path.exists() {
            shared.pin(spec, path.clone())?;
        }
        loader.map_pin_path(spec.name, path);
        loader.map_max_entries(spec.name, spec.max_entries(&options.capacity));
    }
    let mut ebpf = loader.load(object).map_err(|e| KernelError::Load(chain(&e)))?;
    // The verifier takes most of the time that attaching takes; it looks at both at once.
    std::thread::scope(|s| {
        let each: Vec<_> = ebpf.programs_mut().map(|(name, program)| s.spawn(move || load(name, program))).collect();
        each.into_iter().try_for_each(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
    })?;
    Ok(ebpf)
}

fn load(name: &str, program: &mut Program) -> Result<(), KernelError> {
    let loaded = match program {
        Program::Xdp(xdp) => xdp.load(),
        Program::SchedClassifier(tc) => tc.load(),
        _ => return Err(KernelError::Load(format!("{name} is a program of another kind"))),
    };
    loaded.map_err(|e| not_taken(name, &e))
}

fn write_meta(map: &OwnedFd, interface: &str, ifindex: u32, seed: Seed) -> Result<(), KernelError> {
    let meta = Meta { abi_version: ABI_VERSION, ifindex, ifname: ifname(interface), seed };
    sys::update(map.as_fd(), &0u32, &meta, sys::ANY).map_err(KernelError::refused("writing META"))
}
