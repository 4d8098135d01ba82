//! Calibration roles: which benign observations an observation is compared with.
//!
//! Roles form a tree. One with too few benign rows falls back to its parent, up to [`Role::All`].

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProtoClass {
    Tcp,
    Udp,
    Icmp,
    Other,
}

/// Direction of a flow as seen from home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Opened by a remote host towards home.
    In,
    /// Opened by a home host towards a remote one.
    Out,
    /// Between two home hosts, or between two remote ones.
    Lateral,
}

/// Coarse class of the server port. Ports are no features; they only choose the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceClass {
    Web,
    Name,
    Login,
    Mail,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Every row.
    All,
    Proto(ProtoClass),
    ProtoDir(ProtoClass, Direction),
    Flow(ProtoClass, Direction, ServiceClass),
    /// Windows of a source over all its flows.
    SourceAll,
    /// Windows of a source over its proven flows alone.
    SourceProven,
}

impl Role {
    /// The next wider role; `None` for [`Role::All`].
    pub const fn parent(self) -> Option<Role> {
        match self {
            Role::All => None,
            Role::Proto(_) | Role::SourceAll | Role::SourceProven => Some(Role::All),
            Role::ProtoDir(p, _) => Some(Role::Proto(p)),
            Role::Flow(p, d, _) => Some(Role::ProtoDir(p, d)),
        }
    }

    /// The role itself and everything above it, narrowest first.
    pub fn ancestry(self) -> impl Iterator<Item = Role> {
        std::iter::successors(Some(self), |r| r.parent())
    }
}

impl ProtoClass {
    const NAMES: [(&'static str, ProtoClass); 4] =
        [("tcp", Self::Tcp), ("udp", Self::Udp), ("icmp", Self::Icmp), ("other", Self::Other)];
}
impl Direction {
    const NAMES: [(&'static str, Direction); 3] = [("in", Self::In), ("out", Self::Out), ("lateral", Self::Lateral)];
}
impl Direction {
    pub fn name(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }
    pub fn from_name(name: &str) -> Option<Self> {
        by_name(&Self::NAMES, name)
    }
}
impl ServiceClass {
    const NAMES: [(&'static str, ServiceClass); 5] = [
        ("web", Self::Web),
        ("name", Self::Name),
        ("login", Self::Login),
        ("mail", Self::Mail),
        ("other", Self::Other),
    ];

    /// The class of a server port.
    pub const fn of_port(port: u16) -> Self {
        match port {
            80 | 443 | 8000 | 8008 | 8080 | 8443 | 8888 => Self::Web,
            53 | 853 | 5353 | 137 => Self::Name,
            21 | 22 | 23 | 2222 | 3389 | 5900 | 5985 | 5986 => Self::Login,
            25 | 110 | 143 | 465 | 587 | 993 | 995 => Self::Mail,
            _ => Self::Other,
        }
    }
}

fn name_of<T: Copy + PartialEq>(names: &[(&'static str, T)], v: T) -> &'static str {
    names.iter().find(|(_, t)| *t == v).map_or("?", |(n, _)| n)
}
fn by_name<T: Copy>(names: &[(&'static str, T)], n: &str) -> Option<T> {
    names.iter().find(|(name, _)| *name == n).map(|(_, t)| *t)
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Role::All => f.write_str("all"),
            Role::SourceAll => f.write_str("source"),
            Role::SourceProven => f.write_str("source-proven"),
            Role::Proto(p) => f.write_str(name_of(&ProtoClass::NAMES, p)),
            Role::ProtoDir(p, d) => {
                write!(f, "{}/{}", name_of(&ProtoClass::NAMES, p), name_of(&Direction::NAMES, d))
            }
            Role::Flow(p, d, s) => write!(
                f,
                "{}/{}/{}",
                name_of(&ProtoClass::NAMES, p),
                name_of(&Direction::NAMES, d),
                name_of(&ServiceClass::NAMES, s)
            ),
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown calibration role `{0}`; expected `all`, `source`, `source-proven` or PROTO[/DIRECTION[/SERVICE]]")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(s: &str) -> Result<Self, UnknownRole> {
        let unknown = || UnknownRole(s.to_owned());
        match s {
            "all" => return Ok(Role::All),
            "source" => return Ok(Role::SourceAll),
            "source-proven" => return Ok(Role::SourceProven),
            _ => {}
        }
        let mut parts = s.split('/');
        let p = parts.next().and_then(|n| by_name(&ProtoClass::NAMES, n)).ok_or_else(unknown)?;
        let Some(d) = parts.next() else { return Ok(Role::Proto(p)) };
        let d = by_name(&Direction::NAMES, d).ok_or_else(unknown)?;
        let Some(c) = parts.next() else { return Ok(Role::ProtoDir(p, d)) };
        let c = by_name(&ServiceClass::NAMES, c).ok_or_else(unknown)?;
        if parts.next().is_some() {
            return Err(unknown());
        }
        Ok(Role::Flow(p, d, c))
    }
}

impl serde::Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> serde::Deserialize<'de> for Role {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_back_as_they_are_written() {
        let mut all = vec![Role::All, Role::SourceAll, Role::SourceProven];
        for (_, p) in ProtoClass::NAMES {
            all.push(Role::Proto(p));
            for (_, d) in Direction::NAMES {
                all.push(Role::ProtoDir(p, d));
                for (_, s) in ServiceClass::NAMES {
                    all.push(Role::Flow(p, d, s));
                }
            }
        }
        for r in all {
            assert_eq!(r.to_string().parse::<Role>(), Ok(r));
            assert_eq!(r.ancestry().last(), Some(Role::All));
        }
        assert!("tcp/in/web/x".parse::<Role>().is_err());
        assert!("".parse::<Role>().is_err());
    }
}
