//! The part of the configuration that says where traces go.

use std::path::PathBuf;

/// Traces of the agent itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// A collector that takes OTLP over gRPC; `None`: there are none.
    pub otlp: Option<String>,
    /// PEM file with the authorities that are trusted where it is reached by https; `None`: those of this host.
    pub ca_file: Option<PathBuf>,
}

impl Tracing {
    pub(super) fn words(&self) -> Option<String> {
        let url = self.otlp.as_ref()?;
        let how = if url.starts_with("https:") { "encrypted" } else { "without encryption" };
        Some(format!("Sends traces of itself to {url}, {how}; they name no hosts of the traffic."))
    }
}

/// `http://HOST:PORT` or `https://HOST:PORT`, which is how collectors listen.
pub fn collector(url: &Option<String>) -> Result<(), String> {
    let Some(url) = url else { return Ok(()) };
    let parsed = url.parse::<http::Uri>().ok();
    let fits = parsed.as_ref().is_some_and(|u| {
        matches!(u.scheme_str(), Some("http" | "https"))
            && u.port_u16().is_some_and(|p| p != 0)
            && u.authority().is_some_and(|a| !a.as_str().contains('@'))
            && matches!(u.path(), "" | "/")
            && u.query().is_none()
    });
    let expected = "expected http://HOST:PORT or https://HOST:PORT, for example http://127.0.0.1:4317";
    if fits { Ok(()) } else { Err(format!("`{url}` is no collector of traces: {expected}")) }
}
