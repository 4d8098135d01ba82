//! What a local API answers: decisions that are new, and such that are over.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
pub struct Answer<'a> {
    /// Null is empty; missing is no answer.
    #[serde(borrow, deserialize_with = "nullable")]
    pub new: Vec<Decision<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    pub deleted: Vec<Decision<'a>>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Decision<'a> {
    #[serde(default)]
    pub id: i64,
    #[serde(borrow, default)]
    pub origin: Cow<'a, str>,
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub scope: Cow<'a, str>,
    #[serde(borrow, default)]
    pub value: Cow<'a, str>,
    #[serde(borrow, default)]
    pub duration: Cow<'a, str>,
    #[serde(borrow, default)]
    pub scenario: Cow<'a, str>,
    #[serde(default)]
    pub simulated: Option<bool>,
}

fn nullable<'de: 'a, 'a, D: Deserializer<'de>>(de: D) -> Result<Vec<Decision<'a>>, D::Error> {
    Ok(Option::<Vec<Decision<'a>>>::deserialize(de)?.unwrap_or_default())
}

impl<'a> Answer<'a> {
    pub fn read(body: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|e| {
            let start = String::from_utf8_lossy(&body[..body.len().min(60)]);
            let start: String = start.chars().filter(|c| !c.is_control()).collect();
            format!("the answer is no list of decisions ({e}); it begins `{start}`")
        })
    }
}
