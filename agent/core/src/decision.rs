//! Decisions: what is to happen to whom, until when, and why.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::addr::{Addr, Prefix};
use crate::rate::RateLimit;
use crate::record::TimeUs;

/// What a decision targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A host (full-length prefix) or network.
    Net(Prefix),
    /// One protocol and port of ours, for one remote host: `192.0.2.7/tcp/22`.
    Port { host: Addr, proto: u8, port: u16 },
}

impl Target {
    /// The addresses the target covers.
    pub fn prefix(self) -> Prefix {
        match self {
            Target::Net(p) => p,
            Target::Port { host, .. } => Prefix::host(host),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Net(p) => p.fmt(f),
            Target::Port { host, proto: 6, port } => write!(f, "{host}/tcp/{port}"),
            Target::Port { host, proto: 17, port } => write!(f, "{host}/udp/{port}"),
            Target::Port { host, proto, port } => write!(f, "{host}/{proto}/{port}"),
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no target; expected ADDRESS, ADDRESS/LENGTH or ADDRESS/tcp|udp/PORT")]
pub struct TargetError(pub String);

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(s: &str) -> Result<Self, TargetError> {
        let bad = || TargetError(s.to_owned());
        let parts: Vec<&str> = s.split('/').collect();
        match parts[..] {
            [_] | [_, _] => s.parse().map(Target::Net).map_err(|_| bad()),
            [host, proto, port] => {
                let proto = match proto {
                    "tcp" => 6,
                    "udp" => 17,
                    n => n.parse().map_err(|_| bad())?,
                };
                Ok(Target::Port {
                    host: host.parse().map_err(|_| bad())?,
                    proto,
                    port: port.parse().map_err(|_| bad())?,
                })
            }
            _ => Err(bad()),
        }
    }
}

/// In order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Counts what it would have dropped.
    Shadow,
    /// Drops what is beyond [`Decision::limit`].
    Limit,
    Drop,
}

/// Who made a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A person, by CLI or API.
    Manual,
    /// The agent, from evidence.
    Automatic,
    /// A list that came as a whole.
    List,
}

/// Which packets of the target are meant, as seen from the protected host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sides {
    In,
    Out,
    Both,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique and never used again, also over restarts.
    pub id: u64,
    pub target: Target,
    pub action: Action,
    /// With [`Action::Limit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<RateLimit>,
    pub sides: Sides,
    pub origin: Origin,
    pub created_us: TimeUs,
    /// `None`: until deleted.
    pub expires_us: Option<TimeUs>,
    /// In words; for an automatic decision with the evidence that led to it.
    pub reason: String,
    /// The action that the policy would have taken in mode `enforce`, where the mode took a weaker one.
    pub instead_of: Option<Action>,
    /// The alert that led to it.
    pub alert_id: Option<u64>,
}
