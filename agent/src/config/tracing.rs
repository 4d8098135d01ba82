//! The part of the configuration that says where traces go.

/// Traces of the agent itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracing {
    /// A collector that takes OTLP over gRPC; `None`: there are none.
    pub otlp: Option<String>,
}

impl Tracing {
    pub(super) fn words(&self) -> Option<String> {
        let url = self.otlp.as_ref()?;
        Some(format!("Sends traces of itself to {url}, without encryption; they name no hosts of the traffic."))
    }
}

/// `http://HOST:PORT`, which is how collectors listen.
pub fn collector(url: &Option<String>) -> Result<(), String> {
    let Some(url) = url else { return Ok(()) };
    let parsed = url.parse::<http::Uri>().ok();
    let fits = parsed.as_ref().is_some_and(|u| {
        u.scheme_str() == Some("http")
            && u.port_u16().is_some_and(|p| p != 0)
            && matches!(u.path(), "" | "/")
            && u.query().is_none()
    });
    let expected = "expected http://HOST:PORT, for example http://127.0.0.1:4317";
    if fits { Ok(()) } else { Err(format!("`{url}` is no collector of traces: {expected}")) }
}
