//! Lists of floats in the manifest: one line of numbers, which a YAML reader takes as a single string.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(values: &[f32], s: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(values.len() * 11);
    for v in values {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&v.to_string());
    }
    // A list of one number would be read back as a number.
    if values.len() < 2 {
        text.push(' ');
    }
    s.serialize_str(&text)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f32>, D::Error> {
    let text = String::deserialize(d)?;
    text.split_ascii_whitespace()
        .map(|v| v.parse::<f32>().map_err(|_| D::Error::custom(format!("`{v}` is no number in a list of numbers"))))
        .collect()
}
