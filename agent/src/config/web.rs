//! `web`: the page that the agent serves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Problem;
use super::setting::{Setting, Shown, Word, beyond_loopback, choice, choices, endpoint, name_of, pem_files};
use super::tree::Node;
use crate::command::Role;

/// Where the page is served unless something else is said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8470);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    pub enabled: bool,
    pub listen: WebListen,
    /// Beyond loopback, the page is served with it alone.
    pub tls: Option<WebTls>,
    /// Names by which browsers reach the page, besides loopback and the address that it listens at.
    pub hosts: Vec<String>,
    /// How long somebody stays logged in.
    pub session: Duration,
    /// Who does nothing for so long is logged out.
    pub idle: Duration,
    /// What a login may that does not say so.
    pub role: Role,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: WebListen(DEFAULT_LISTEN),
            tls: None,
            hosts: Vec::new(),
            session: Duration::from_secs(12 * 3600),
            idle: Duration::from_secs(2 * 3600),
            role: Role::Operator,
        }
    }
}

/// The server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebTls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Where to listen: what is left out of ADDRESS:PORT is that of [`DEFAULT_LISTEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebListen(pub SocketAddr);

impl Word for WebListen {
    const EXPECTED: &'static str = "an address and port such as 127.0.0.1:8470, [::1]:8470, 192.0.2.7 or 8080";
    fn parse(text: &str) -> Result<Self, String> {
        endpoint(text, DEFAULT_LISTEN, Self::EXPECTED).map(WebListen)
    }
    fn word(&self) -> String {
        self.0.to_string()
    }
}

choices!(impl Role, "viewer or operator", Role::CHOICES);

const KEYS: [&str; 2] = ["cert", "key"];

impl Setting for Option<WebTls> {
    fn read(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let files = pem_files(node, path, KEYS, &[], problems, |_, _, _| {});
        files.map(|[cert, key]| Some(WebTls { cert, key }))
    }

    fn show(&self) -> Shown {
        let Some(tls) = self else { return Shown::Null };
        Shown::Map(vec![("cert", tls.cert.show()), ("key", tls.key.show())])
    }
}

/// Each is a name or an address as it stands in the browser's address bar, without scheme and port.
pub(super) fn hosts(all: &Vec<String>) -> Result<(), String> {
    for host in all {
        let name = |h: &str| {
            !h.is_empty() && h.len() <= 253 && h.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        };
        if host.parse::<IpAddr>().is_err() && !name(host) {
            return Err(format!("`{host}` is no host name; write one as in weir.example.net, without scheme and port"));
        }
    }
    Ok(())
}

impl Web {
    /// Others than this host's own processes can reach it.
    pub fn reachable(&self) -> bool {
        beyond_loopback(self.listen.0)
    }

    /// What comes before the path in a link to the page that is served at `at`.
    pub fn base(&self, at: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let named = self.hosts.first().filter(|_| self.reachable());
        let host = match named {
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]"),
            Some(host) => host.clone(),
            // Everywhere is also here.
            None if at.ip().is_unspecified() => "localhost".to_owned(),
            None => match at.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
        };
        format!("{scheme}://{host}:{}", at.port())
    }

    pub(super) fn words(&self) -> String {
        if !self.enabled {
            return "Serves no web page.".to_owned();
        }
        let with = if self.tls.is_some() { " with TLS" } else { "" };
        format!(
            "Serves the web page on {}{with}; logins (`weir web login`) are as {} and last {}.",
            self.listen.0,
            self.role,
            crate::human::duration(self.session)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_name_where_the_page_can_be_reached() {
        let base = |web: &Web, at: &str| web.base(at.parse().unwrap());
        let plain = Web::default();
        assert_eq!(base(&plain, "127.0.0.1:8470"), "http://127.0.0.1:8470");
        assert_eq!(base(&plain, "[::1]:80"), "http://[::1]:80");
        let far = Web {
            listen: WebListen("0.0.0.0:8470".parse().unwrap()),
            tls: Some(WebTls { cert: "/c".into(), key: "/k".into() }),
            ..Web::default()
        };
        assert_eq!(base(&far, "0.0.0.0:8470"), "https://localhost:8470");
        let named = Web { hosts: vec!["weir.example.net".into()], ..far };
        assert_eq!(base(&named, "0.0.0.0:8470"), "https://weir.example.net:8470");
    }
}
