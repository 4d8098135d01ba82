//! Who sends commands, and what they may.

use std::fmt;
use std::net::IpAddr;

/// What somebody may do; who may operate may read as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look at everything, change nothing.
    Viewer,
    Operator,
}

impl Role {
    pub const CHOICES: &[(&str, Role)] = &[("viewer", Role::Viewer), ("operator", Role::Operator)];

    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who is at the other end: as the kernel says, as a certificate does that our authority has signed, or as whoever logs in to the
/// web page was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A process on this host, by the credentials of the socket.
    Local {
        uid: u32,
        /// The user's name, where there is one.
        user: Option<String>,
        pid: Option<i32>,
    },
    /// Over TCP, by the name in the certificate.
    Certificate { name: String, from: IpAddr },
    /// Logged in to the web page, by a code that somebody made on this host.
    Web { name: String, from: IpAddr },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Local { uid, user: Some(name), .. } => write!(f, "uid {uid} ({name})"),
            Identity::Local { uid, user: None, .. } => write!(f, "uid {uid}"),
            Identity::Certificate { name, .. } => write!(f, "certificate {name}"),
            Identity::Web { name, .. } => write!(f, "web:{name}"),
        }
    }
}

/// Who sent a command, and by which role they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub who: Identity,
    pub role: Role,
}

impl Caller {
    /// The text with who wrote it: "the office, by uid 0 (root)".
    pub fn sign(&self, text: &str) -> String {
        match text.trim() {
            "" => format!("by {self}"),
            text => format!("{text}, by {self}"),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.who.fmt(f)
    }
}
