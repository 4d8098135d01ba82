//! The maps that all interfaces of an agent look at: entries, what makes looking for them cheap, and the lease.
//!
//! They are one set of maps, pinned in the folder of every interface. So an entry is written once and holds on all of them in the same
//! moment, a limit is one over all of them, an interface that is new is protected as soon as its programs are attached, and
//! fifty interfaces take no more memory for entries than one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use weir_common::entry::Lists;
use weir_common::hash::Seed;
use weir_common::names::{self, KEY_SIZE, MAPS, MapSpec};

use crate::entries::EntryMaps;
use crate::lease::Lease;
use crate::lists::{EntryTable, ListMaps};
use crate::mapped::Mapped;
use crate::pins::{Capacity, Pins, remove_if_there};
use crate::{KernelError, requirements, sys};

/// See the module.
#[derive(Debug)]
pub struct Shared {
    maps: Vec<(&'static MapSpec, OwnedFd)>,
    seed: Seed,
}

fn create(spec: &MapSpec, capacity: &Capacity) -> Result<OwnedFd, KernelError> {
    let of = sys::MapInfo {
        map_type: spec.map_type,
        key_size: KEY_SIZE,
        value_size: spec.value_size,
        max_entries: spec.max_entries(capacity),
        map_flags: spec.flags,
        ..sys::MapInfo::default()
    };
    sys::map_create(spec.name, &of).map_err(KernelError::refused(format!("the map {}", spec.name)))
}

impl Shared {
    /// New ones, without entries.
    pub fn create(capacity: &Capacity) -> Result<Self, KernelError> {
        let specs = MAPS.iter().filter(|s| s.is_shared());
        let maps = specs.map(|s| create(s, capacity).map(|fd| (s, fd))).collect::<Result<_, _>>();
        // The first that a kernel refuses which is too old (before 5.11, maps also count as locked memory).
        let maps = maps.map_err(requirements::explain)?;
        Ok(Self { maps, seed: sys::random().map_err(KernelError::refused("a seed"))? })
    }

    /// Those of an earlier agent, which [`Pins::verify`] has looked at. Where `capacity` is another one, the maps that depend on it
    /// are new and hold what the old ones hold, hits included.
    pub fn adopt(pins: &Pins, capacity: &Capacity) -> Result<Self, KernelError> {
        // What is in the maps was hashed with their seed.
        let Some(meta) = pins.meta()? else { return Self::create(capacity) };
        let mut maps = Vec::new();
        let mut another = false;
        for spec in MAPS.iter().filter(|s| s.is_shared()) {
            let fd = pins.open(spec.name)?;
            let info = sys::map_info(fd.as_fd()).map_err(KernelError::refused("map information"))?;
            another |= info.max_entries != spec.max_entries(capacity);
            maps.push((spec, fd));
        }
        let mut shared = Self { maps, seed: meta.seed };
        if another {
            let old = shared.entry_maps()?;
            for (spec, fd) in &mut shared.maps {
                if spec.sized.holds_entries() {
                    *fd = create(spec, capacity)?;
                }
            }
            carry_entries(&old, &shared.entry_maps()?)?;
        }
        Ok(shared)
    }

    pub(crate) fn seed(&self) -> Seed {
        self.seed
    }

    fn map(&self, name: &str) -> Result<&OwnedFd, KernelError> {
        let found = self.maps.iter().find(|(s, _)| s.name == name).map(|(_, fd)| fd);
        found.ok_or_else(|| KernelError::Load(format!("{name} is no map that interfaces share")))
    }

    fn mapped<T: bytemuck::Pod>(&self, name: &str) -> Result<Mapped<T>, KernelError> {
        Mapped::new(self.map(name)?).map_err(KernelError::refused("mapping the entries"))
    }

    fn entry_maps(&self) -> Result<EntryMaps, KernelError> {
        Ok(EntryMaps {
            lists: self.mapped(names::LISTS)?,
            index: self.mapped(names::ENTRY_INDEX)?,
            records: self.mapped(names::ENTRIES)?,
            ends: self.mapped(names::FLOW_ENDS)?,
            seed: self.seed,
        })
    }

    /// The entries, to be written. There must be one such table at a time.
    pub fn table(&self, capacity: &Capacity) -> Result<EntryTable, KernelError> {
        let maps = ListMaps {
            entries: self.entry_maps()?,
            v4_bitmap: self.mapped(names::V4_BITMAP)?,
            v6_bitmap: self.mapped(names::V6_BITMAP)?,
        };
        EntryTable::adopt(maps, capacity.blocks, capacity.allows)
    }

    pub fn lease(&self) -> Result<Lease, KernelError> {
        Lease::new(self.map(names::LEASE)?)
    }

    /// Whether what is pinned under `pins` for `spec` is this very map.
    pub(crate) fn is_pinned(&self, spec: &MapSpec, pins: &Pins) -> Result<bool, KernelError> {
        let id =
            |fd: &OwnedFd| sys::map_info(fd.as_fd()).map(|i| i.id).map_err(KernelError::refused("map information"));
        Ok(id(self.map(spec.name)?)? == id(&pins.open(spec.name)?)?)
    }

    /// Pins the map of `spec`, instead of whatever is there.
    pub(crate) fn pin(&self, spec: &MapSpec, path: PathBuf) -> Result<(), KernelError> {
        remove_if_there(&path)?;
        let pinned = sys::obj_pin(self.map(spec.name)?.as_fd(), &path);
        pinned.map_err(|e: io::Error| KernelError::io("pin a map at", path)(e))
    }
}

/// Fills maps of another capacity with the entries of the old ones, hits included.
fn carry_entries(old: &EntryMaps, new: &EntryMaps) -> Result<(), KernelError> {
    let (lists, _) = old.live();
    let records: Vec<_> = old.read().0.into_iter().map(|(_, record)| record).collect();
    new.fill(Lists { first: 0, lines: 0, ..lists }, &records)
}
