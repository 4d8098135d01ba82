//! The part of the configuration that says who may speak with the agent.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Problem;
use super::setting::{Item, Setting, Shown, Word, choice, pem_files};
use super::tree::{Kind, Node};
use crate::command::Role;

pub const DEFAULT_PORT: u16 = 8471;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// For clients on other hosts. Only with `tls`.
    pub listen: Vec<Listen>,
    pub tls: Option<ApiTls>,
}

/// Certificates of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Whose certificates clients must have.
    pub client_ca: PathBuf,
    /// By a name in the client's certificate. Empty: by the unit that `weir tls client` writes into it.
    pub roles: Vec<(String, Role)>,
}

/// Where to listen for clients: what is left out is the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Word for Listen {
    const EXPECTED: &'static str = "an address and port such as 10.0.0.1:8471, [2001:db8::1]:8471 or 10.0.0.1";
    fn parse(text: &str) -> Result<Self, String> {
        let at = text.parse().ok();
        let at = at.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DEFAULT_PORT)));
        at.map(Listen).ok_or_else(|| format!("`{text}` is nowhere to listen; write {}", Self::EXPECTED))
    }
    fn word(&self) -> String {
        self.0.to_string()
    }
}

impl Item for Listen {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        Setting::read(node, path, problems)
    }
    fn show_item(&self) -> Shown {
        self.show()
    }
}

const FILES: [&str; 3] = ["cert", "key", "client_ca"];

impl Setting for Option<ApiTls> {
    fn read(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let mut roles = Vec::new();
        let files = pem_files(node, path, FILES, &["roles"], problems, |value, path, problems| {
            roles = read_roles(value, path, problems);
        });
        files.map(|[cert, key, client_ca]| Some(ApiTls { cert, key, client_ca, roles }))
    }

    fn show(&self) -> Shown {
        let Some(tls) = self else { return Shown::Null };
        let roles = tls.roles.iter().map(|(name, role)| (name.clone(), role.name().to_owned())).collect();
        Shown::Map(vec![
            ("cert", tls.cert.show()),
            ("key", tls.key.show()),
            ("client_ca", tls.client_ca.show()),
            ("roles", Shown::Named(roles)),
        ])
    }
}

fn read_roles(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Vec<(String, Role)> {
    let entries = match &node.kind {
        Kind::Null => return Vec::new(),
        Kind::Map(entries) => entries,
        _ => {
            let message = format!("expected NAME: operator or NAME: viewer, found {}", node.describe());
            problems.push(Problem::new(node.at, path, message));
            return Vec::new();
        }
    };
    let mut roles: Vec<(String, Role)> = Vec::new();
    for (name, at, value) in entries {
        let wrong = if name.trim().is_empty() {
            Some("a role is for a name; this one is empty".to_owned())
        } else if roles.iter().any(|(n, _)| n == name) {
            Some(format!("`{name}` is set twice"))
        } else {
            None
        };
        if let Some(message) = wrong {
            problems.push(Problem::new(*at, path, message));
            continue;
        }
        let below = format!("{path}.{name}");
        match &value.kind {
            Kind::Scalar(text, _) => match choice(text, Role::CHOICES) {
                Ok(role) => roles.push((name.clone(), role)),
                Err(message) => problems.push(Problem::new(value.at, &below, message)),
            },
            _ => problems.push(Problem::new(
                value.at,
                &below,
                format!("expected viewer or operator, found {}", value.describe()),
            )),
        }
    }
    roles
}

impl Api {
    /// Who may use the agent, in a sentence or two.
    pub(super) fn words(&self, group: Option<&str>, read_group: Option<&str>) -> String {
        let mut words = "Root".to_owned();
        if let Some(group) = group {
            words += &format!(" and members of {group}");
        }
        words += " may operate it";
        if let Some(group) = read_group {
            words += &format!(", members of {group} may look");
        }
        words.push('.');
        if let (Some(tls), [_, ..]) = (&self.tls, self.listen.as_slice()) {
            let at = self.listen.iter().map(|l| l.0.to_string()).collect::<Vec<_>>().join(", ");
            words +=
                &format!(" Clients on other hosts come in on {at} with certificates of {}", tls.client_ca.display());
            words += &match tls.roles.as_slice() {
                [] => "; their roles stand in the certificates.".to_owned(),
                roles => {
                    let roles: Vec<_> = roles.iter().map(|(name, role)| format!("{name} ({role})")).collect();
                    format!(": {}.", roles.join(", "))
                }
            };
        }
        words
    }
}
