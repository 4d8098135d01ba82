//! The journal of this host.

use std::path::Path;

use weir_core::event::Severity;

use super::{Failed, Numbered};
use crate::sink::journald::{Journal, Priority};

pub struct Journald(Journal);

impl Journald {
    pub fn new(socket: &Path) -> Self {
        Self(Journal::new(socket))
    }

    /// The journal's kernel socket has an entry once it was sent; the journal itself confirms nothing.
    pub fn deliver(&mut self, batch: &[Numbered]) -> Result<(), Failed> {
        for (i, Numbered { number, notice }) in batch.iter().enumerate() {
            let head = &notice.head;
            let priority = match head.severity {
                Severity::High => Priority::Error,
                Severity::Medium => Priority::Warning,
                Severity::Low => Priority::Info,
            };
            let (number, repeated) = (number.to_string(), head.repeated.to_string());
            let fields = [
                ("MESSAGE", notice.line.as_str()),
                ("WEIR_EVENT", notice.event.as_str()),
                ("WEIR_KIND", head.kind.name()),
                ("WEIR_SEVERITY", head.severity.name()),
                ("WEIR_SOURCE", head.source.as_str()),
                ("WEIR_REASON", head.reason.as_str()),
                ("WEIR_REPEATED", repeated.as_str()),
                ("WEIR_NUMBER", number.as_str()),
            ];
            self.0.send(priority, &fields).map_err(|e| Failed::retry(i, format!("the journal: {e}")))?;
        }
        Ok(())
    }
}
