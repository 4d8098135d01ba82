//! Weir's hold on the kernel. Everything that issues a bpf system call is in this crate, and nothing in it decides
//! anything: it loads, attaches, drains, writes entries and reads them back.

mod clsact;
pub mod counters;
pub mod datapath;
mod entries;
mod error;
pub mod flows;
pub mod lease;
pub mod link;
pub mod lists;
mod mapped;
mod neighbourhood;
mod netlink;
pub mod object;
pub mod pins;
mod requirements;
pub mod sys;

pub use datapath::{Adoption, AttachedMode, Datapath, Held, Options, XdpMode};
pub use error::KernelError;
