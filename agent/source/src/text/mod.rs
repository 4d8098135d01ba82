//! What formats of text have in common.

pub(crate) mod lines;
