//! Weir's pure half. Nothing here does I/O, reads a clock or spawns anything: time is an argument.
//!
//! One epoch, in order: drained statistics -> [`table`] -> records and touched flows -> [`window`] -> source rows ->
//! [`feature`] matrices -> (models: p-values) -> [`evidence`] -> [`policy`] with [`busy`] -> [`decisions`] with
//! [`guard`] -> [`event`]s, shown by [`render`].
#![forbid(unsafe_code)]

pub mod addr;
pub mod busy;
pub mod community_id;
pub mod context;
pub mod decision;
pub mod decisions;
pub mod drift;
pub mod event;
pub mod evidence;
pub mod feature;
pub mod guard;
pub mod home;
pub mod label;
pub mod matrix;
pub mod policy;
pub mod profile;
pub mod question;
pub mod rate;
pub mod record;
pub mod render;
pub mod role;
pub mod stat_fields;
pub mod suppose;
pub mod suppression;
pub mod table;
pub mod window;

#[cfg(test)]
mod pipeline_tests;
#[cfg(test)]
mod testkit;
