//! The part of the configuration that says where metrics are served.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::setting::{Word, beyond_loopback, endpoint};

const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9470);

/// Metrics for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub enabled: bool,
    /// On loopback unless an address of this host is named: nobody is asked who they are.
    pub listen: MetricsAt,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true, listen: MetricsAt(DEFAULT) }
    }
}

/// What is left out of ADDRESS:PORT is that of the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsAt(pub SocketAddr);

impl Word for MetricsAt {
    const EXPECTED: &'static str = "an address and port such as 127.0.0.1:9470, [::1]:9470, 192.0.2.7 or 9471";
    fn parse(text: &str) -> Result<Self, String> {
        endpoint(text, DEFAULT, Self::EXPECTED).map(MetricsAt)
    }
    fn word(&self) -> String {
        self.0.to_string()
    }
}

impl Metrics {
    /// Others than this host's own processes can read them.
    pub fn reachable(&self) -> bool {
        beyond_loopback(self.listen.0)
    }

    /// In a sentence or two.
    pub(super) fn words(&self) -> String {
        let at = self.listen.0;
        match (self.enabled, self.reachable()) {
            (false, _) => "Serves no metrics.".to_owned(),
            (true, false) => format!("Serves metrics at http://{at}/metrics."),
            (true, true) => format!(
                "Serves metrics at http://{at}/metrics. Warning: whoever reaches that address can read them; they name no hosts, but \
                 tell how much is seen and stopped."
            ),
        }
    }
}
