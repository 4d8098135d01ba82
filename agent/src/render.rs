//! How events are written: weir-core's rendering, with what an event does not know of itself.

use weir_core::event::Event;
use weir_core::render::{Context, json, line, rfc3339};

use crate::pipeline::ANOMALY_P;
use crate::sink::Render;

/// Renders the events of an agent on one interface, or on none.
pub struct Rendered {
    pub interface: Option<String>,
}

impl Rendered {
    fn context(&self) -> Context<'_> {
        Context { in_iface: self.interface.as_deref(), label: None, anomaly_p: ANOMALY_P, whole: None }
    }
}

/// A time as the event log writes it; null where there is none (0).
pub fn rfc3339_or_null<S: serde::Serializer>(us: &u64, s: S) -> Result<S::Ok, S::Error> {
    match us {
        0 => s.serialize_none(),
        us => s.collect_str(&rfc3339(*us)),
    }
}

impl Render for Rendered {
    fn json(&self, event: &Event) -> String {
        json(event, &self.context())
    }
    fn line(&self, event: &Event) -> String {
        line(event)
    }
}
