//! What the text formats share: bounded lines, fields without copies, exact numbers, labels, and the counting of bad rows.

pub(crate) mod fields;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod numbers;
pub(crate) mod protocols;
pub(crate) mod rows;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
