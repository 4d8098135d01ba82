//! Both sides of the kernel boundary: what the XDP and TC programs and userspace must agree on to the bit.
//!
//! `no_std`, integers only, no allocation, no clock. The same [`parse`](parse::parse) and
//! [`FlowStats::update`](flow::FlowStats::update) run in XDP, in TC, on pcap files and in tests.
#![cfg_attr(not(any(test, feature = "user")), no_std)]

pub mod address;
pub mod bytes;
pub mod counters;
pub mod entry;
pub mod flow;
pub mod hash;
pub mod lease;
pub mod limit;
pub mod names;
#[cfg(any(test, feature = "user"))]
pub mod near;
pub mod parse;
pub mod table;
mod update;

/// Raised with every change to a type, map or meaning that the kernel programs and userspace share.
/// Pinned maps of another version are refused rather than read wrongly.
pub const ABI_VERSION: u32 = 4;
