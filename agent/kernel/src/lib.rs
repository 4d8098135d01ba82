//! Weir's hold on the kernel. Everything that issues a bpf system call is in this crate, and nothing in it decides
//! anything: it loads, attaches, drains, writes entries and reads them back.

pub mod changes;
mod clsact;
pub mod counters;
pub mod datapath;
mod entries;
mod error;
pub mod ethtool;
pub mod flows;
pub mod lease;
pub mod link;
pub mod lists;
mod mapped;
pub mod member;
mod neighbourhood;
pub mod netlink;
pub mod object;
pub mod pins;
pub mod probe;
pub mod programs;
mod requirements;
pub mod shared;
pub mod strangers;
pub mod sys;

pub use datapath::{Adoption, AttachedMode, Datapath, Options, XdpMode};
pub use error::KernelError;
pub use member::Member;
pub use programs::{Hold, Programs};
pub use shared::Shared;
