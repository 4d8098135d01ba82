//! Where maps and links are pinned, and whether what lies there is ours.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytemuck::Zeroable;
use weir_common::ABI_VERSION;
pub use weir_common::names::Capacity;
use weir_common::names::{COUNTERS, KEY_SIZE, MAPS, META, MapSpec, Meta};

use crate::counters::Counters;
use crate::{KernelError, sys};

/// Every Weir of this machine pins below this folder.
pub const ROOT: &str = "/sys/fs/bpf/weir";

const SPARE: &str = "spare";
const LINK_XDP: &str = "link_xdp";
const LINK_TC: &str = "link_tc";
/// META once more: Weir gave the interface its clsact qdisc.
const OWN_CLSACT: &str = "own_clsact";
/// A map of another capacity, on its way to replace the one of the same name.
const SUCCESSOR: &str = "_new";

/// Memory of one map, bytes. Arrays take all of it at once.
pub fn bytes(spec: &MapSpec, capacity: &Capacity) -> u64 {
    u64::from(spec.max_entries(capacity)) * u64::from(spec.value_size.next_multiple_of(8))
}

/// Memory of the flows of both epochs, bytes.
pub fn flow_bytes(capacity: &Capacity) -> u64 {
    MAPS.iter().filter(|s| s.sized.holds_flows()).map(|s| bytes(s, capacity)).sum()
}

/// Memory of all maps, bytes: as much when they are empty as when they are full.
pub fn memory(capacity: &Capacity) -> u64 {
    MAPS.iter().map(|s| bytes(s, capacity)).sum()
}

/// The interface's name in `meta`.
pub fn interface_name(meta: &Meta) -> String {
    String::from_utf8_lossy(meta.ifname.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

/// A name as `Meta` holds it.
pub(crate) fn ifname(interface: &str) -> [u8; 16] {
    let mut ifname = [0u8; 16];
    let n = interface.len().min(15);
    ifname[..n].copy_from_slice(&interface.as_bytes()[..n]);
    ifname
}

/// The pins of one interface.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
}

impl Pins {
    /// Pins of the interface with this index in the current network namespace. (Interface names are no good: bpffs
    /// refuses a dot, and equal names occur in several namespaces.)
    pub fn of(ifindex: u32) -> Result<Self, KernelError> {
        Ok(Self { dir: Path::new(ROOT).join(format!("{}-{ifindex}", netns()?)) })
    }

    /// Pins that belong to no interface, for tests and measurements.
    pub fn named(name: &str) -> Self {
        Self { dir: Path::new(ROOT).join(name) }
    }

    /// Pins of what is loaded ahead, for an interface of this network namespace that is still to come; `process` will attach it.
    pub fn spare(process: u32, number: u32) -> Result<Self, KernelError> {
        Ok(Self { dir: Path::new(ROOT).join(format!("{}-{SPARE}{process}_{number}", netns()?)) })
    }

    /// The process that loaded this ahead; `None` for an interface's pins.
    pub fn spare_of(&self) -> Option<u32> {
        self.dir.file_name()?.to_str()?.rsplit_once('-')?.1.strip_prefix(SPARE)?.split_once('_')?.0.parse().ok()
    }

    pub(crate) fn move_to(&self, other: &Self) -> Result<(), KernelError> {
        fs::rename(&self.dir, &other.dir).map_err(KernelError::io("rename", &self.dir))
    }

    /// All pins of this machine.
    pub fn all() -> Result<Vec<Self>, KernelError> {
        let dirs = match fs::read_dir(ROOT) {
            Ok(dirs) => dirs,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(KernelError::io("list", ROOT)(e)),
        };
        dirs.map(|d| d.map(|d| Self { dir: d.path() }).map_err(KernelError::io("list", ROOT))).collect()
    }

    /// All pins of this network namespace.
    pub fn all_here() -> Result<Vec<Self>, KernelError> {
        let here = format!("{}-", netns()?);
        let ours = |p: &Self| p.dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&here));
        Ok(Self::all()?.into_iter().filter(ours).collect())
    }

    /// Index of the interface, from the folder's name; `None` for pins that belong to none.
    pub fn ifindex(&self) -> Option<u32> {
        self.dir.file_name()?.to_str()?.rsplit_once('-')?.1.parse().ok()
    }

    /// Inode of the network namespace, from the folder's name; `None` for pins that belong to no interface.
    pub fn namespace(&self) -> Option<u64> {
        self.dir.file_name()?.to_str()?.rsplit_once('-')?.0.parse().ok()
    }

    /// What the kernel has counted so far.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        Counters::new(self.open(COUNTERS)?)
    }

    /// Id of the program behind a pinned link; `None` where there is none, or it may not be looked at.
    pub fn program_of(&self, link: &Path) -> Option<u32> {
        sys::obj_get(link).and_then(|l| sys::link_program_id(l.as_fd())).ok()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
    pub fn successor(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{SUCCESSOR}"))
    }
    pub fn link_xdp(&self) -> PathBuf {
        self.dir.join(LINK_XDP)
    }
    pub fn link_tc(&self) -> PathBuf {
        self.dir.join(LINK_TC)
    }

    /// Remembers that the interface's clsact qdisc is Weir's to take away. (A bpf file system holds nothing but objects of bpf.)
    pub(crate) fn own_clsact(&self) -> Result<(), KernelError> {
        let path = self.dir.join(OWN_CLSACT);
        match sys::obj_pin(self.open(META)?.as_fd(), &path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(KernelError::io("pin", path)(e)),
            _ => Ok(()),
        }
    }

    /// Whether [`Self::own_clsact`] was said.
    pub(crate) fn owns_clsact(&self) -> bool {
        self.dir.join(OWN_CLSACT).exists()
    }

    /// Makes the folder. The bpf file system must be mounted.
    pub fn create(&self) -> Result<(), KernelError> {
        const BPF_FS_MAGIC: libc::__fsword_t = 0xcafe_4a11;
        let base = Path::new("/sys/fs/bpf");
        // SAFETY: fills a plain structure for a constant path.
        let magic = unsafe {
            let mut s: libc::statfs = std::mem::zeroed();
            if libc::statfs(c"/sys/fs/bpf".as_ptr(), &mut s) == 0 { s.f_type } else { 0 }
        };
        if magic != BPF_FS_MAGIC {
            return Err(KernelError::NoBpffs { path: base.to_owned() });
        }
        fs::create_dir_all(&self.dir).map_err(KernelError::io("create", &self.dir))
    }

    /// Whether an agent began or ended here: maps in full, or programs that still run.
    pub fn exist(&self) -> bool {
        self.map(META).exists() || self.link_xdp().exists() || self.link_tc().exists()
    }

    pub fn open(&self, name: &str) -> Result<OwnedFd, KernelError> {
        let path = self.map(name);
        sys::obj_get(&path).map_err(KernelError::io("open the pin", path))
    }

    /// Whose pins these are; `None` where there are none.
    pub fn meta(&self) -> Result<Option<Meta>, KernelError> {
        if !self.map(META).exists() {
            return Ok(None);
        }
        let fd = self.open(META)?;
        let info = sys::map_info(fd.as_fd()).map_err(KernelError::refused("map information"))?;
        if info.value_size as usize != size_of::<Meta>() {
            return Ok(Some(Meta::zeroed()));
        }
        sys::lookup(fd.as_fd(), &0u32).map_err(KernelError::refused("reading META"))
    }

    /// The interface has got another name.
    pub(crate) fn rename(&self, interface: &str) -> Result<(), KernelError> {
        let Some(meta) = self.meta()? else { return Ok(()) };
        let fd = self.open(META)?;
        let meta = Meta { ifname: ifname(interface), ..meta };
        sys::update(fd.as_fd(), &0u32, &meta, sys::ANY).map_err(KernelError::refused("writing META"))
    }

    /// Whether maps of another capacity lie here that an agent was about to use when it ended.
    pub fn half_replaced(&self) -> bool {
        MAPS.iter().any(|spec| self.successor(spec.name).exists())
    }

    /// Whether these are the pins of a first start that was killed before anything was attached: META, which is written
    /// once every map is there, is missing or empty.
    pub fn unfinished(&self) -> Result<bool, KernelError> {
        if self.link_xdp().exists() || self.link_tc().exists() {
            return Ok(false);
        }
        if !self.exist() {
            return Ok(true);
        }
        let fd = self.open(META)?;
        let info = sys::map_info(fd.as_fd()).map_err(KernelError::refused("map information"))?;
        // Otherwise it is another version's, which is for a person to remove.
        Ok(info.value_size as usize == size_of::<Meta>() && self.meta()?.is_none_or(|m| m.abi_version == 0))
    }

    /// Holds what is pinned against weir-common. Returns the maps whose capacity is another one, and those that belong to them.
    pub fn verify(&self, interface: &str, capacity: &Capacity) -> Result<Vec<&'static MapSpec>, KernelError> {
        let foreign = |found: String, expected: String| KernelError::ForeignPins {
            dir: self.dir.clone(),
            interface: interface.to_owned(),
            found,
            expected,
        };
        // Without it nobody knows how what lies in the other maps was hashed.
        let Some(Meta { abi_version: abi, .. }) = self.meta()? else {
            return Err(foreign(format!("an installation without map {META}"), "that map".to_owned()));
        };
        if abi != ABI_VERSION {
            return Err(foreign(format!("ABI version {abi}"), format!("ABI version {ABI_VERSION}")));
        }
        let (mut flows, mut entries) = (false, false);
        for spec in &MAPS {
            let path = self.map(spec.name);
            if !path.exists() {
                return Err(foreign(format!("an installation without map {}", spec.name), "that map".to_owned()));
            }
            let fd = self.open(spec.name)?;
            let info = sys::map_info(fd.as_fd()).map_err(KernelError::refused("map information"))?;
            let found = (info.map_type, info.key_size, info.value_size, info.map_flags);
            let expected = (spec.map_type, KEY_SIZE, spec.value_size, spec.flags);
            if found != expected {
                return Err(foreign(
                    format!("a map {} of (type, key size, value size, flags) {found:?}", spec.name),
                    format!("{expected:?}"),
                ));
            }
            if info.max_entries != spec.max_entries(capacity) {
                flows |= spec.sized.holds_flows();
                entries |= spec.sized.holds_entries();
            }
        }
        let another = |s: &&MapSpec| flows && s.sized.holds_flows() || entries && s.sized.holds_entries();
        Ok(MAPS.iter().filter(another).collect())
    }

    /// Takes every pin away. Programs whose links were pinned here are detached by that.
    pub fn remove(&self) -> Result<(), KernelError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(e) => e,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(KernelError::io("list", &self.dir)(e)),
        };
        // Links first: a program without its maps is harmless, but not the other way round.
        for link in [self.link_xdp(), self.link_tc()] {
            if let Ok(fd) = sys::obj_get(&link) {
                // An interface that is gone has detached the link already.
                let _ = sys::link_detach(fd.as_fd());
            }
            remove_if_there(&link)?;
        }
        for e in entries {
            let path = e.map_err(KernelError::io("list", &self.dir))?.path();
            remove_if_there(&path)?;
        }
        fs::remove_dir(&self.dir).map_err(KernelError::io("remove", &self.dir))?;
        // The common folder goes with the last interface.
        let _ = fs::remove_dir(ROOT);
        Ok(())
    }
}

/// Inode of the network namespace of this thread.
pub fn netns() -> Result<u64, KernelError> {
    let path = "/proc/thread-self/ns/net";
    Ok(fs::metadata(path).map_err(KernelError::io("read", path))?.ino())
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(KernelError::io("remove", path)(e)),
    }
}
