//! How events are written: weir-core's rendering, with what an event does not know of itself.

use weir_core::event::Event;
use weir_core::render::{Context, json, line};

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

impl Render for Rendered {
    fn json(&self, event: &Event) -> String {
        json(event, &self.context())
    }
    fn line(&self, event: &Event) -> String {
        line(event)
    }
}
