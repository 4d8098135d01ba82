//! ArcSight's Common Event Format, version 0 of it.

use std::fmt::Write as _;

use serde_json::Value;
use weir_core::event::Severity;

use super::Origin;
use crate::sinks::notice::Notice;

/// One line. Whatever the event's texts hold, they stay in their fields.
pub fn render(notice: &Notice, origin: &Origin) -> String {
    let head = &notice.head;
    let event: Value = serde_json::from_str(&notice.event).unwrap_or_default();
    let name = event_name(notice, &event);
    let severity = match head.severity {
        Severity::Low => 3,
        Severity::Medium => 6,
        Severity::High => 9,
    };
    let mut out = format!(
        "CEF:0|Weir|Weir|{}|{}|{}|{severity}|",
        in_header(env!("CARGO_PKG_VERSION")),
        in_header(head.kind.name()),
        in_header(&name)
    );
    let mut all = Extension(&mut out, true);
    all.add("rt", &(head.time_us / 1000).to_string());
    all.add("dvchost", &origin.host);
    if let Some(interface) = &origin.interface {
        all.add("deviceInboundInterface", interface);
    }
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    let number = |v: Option<&Value>| v.and_then(Value::as_u64).map(|n| n.to_string());
    all.address("src", "c6a2", "Source IPv6 Address", text("src_ip"));
    all.address("dst", "c6a3", "Destination IPv6 Address", text("dest_ip"));
    for (key, from) in [("spt", "src_port"), ("dpt", "dest_port")] {
        if let Some(port) = number(event.get(from)) {
            all.add(key, &port);
        }
    }
    if let Some(proto) = text("proto") {
        all.add("proto", proto);
    }
    let part = event.get(head.kind.name());
    let of = |key: &str| part.and_then(|p| p.get(key));
    if let Some(id) = number(of("id").or_else(|| of("decision_id"))) {
        all.add("externalId", &id);
    }
    if let Some(action) = of("action").or_else(|| of("outcome")).and_then(Value::as_str) {
        all.add("act", action);
    }
    if head.repeated > 0 {
        all.add("cnt", &(head.repeated + 1).to_string());
    }
    all.labelled("cs1", "reason", &head.reason);
    all.labelled("cs2", "target", &head.source);
    all.labelled("cs3", "severity", head.severity.name());
    if let Some(score) = event.pointer("/anomaly/score").and_then(Value::as_f64) {
        all.labelled("cfp1", "score", &score.to_string());
    }
    all.add("msg", &notice.line);
    out
}

fn event_name(notice: &Notice, event: &Value) -> String {
    let kind = notice.head.kind.name();
    let change = event.pointer(&format!("/{kind}/change")).or_else(|| event.pointer(&format!("/{kind}/kind")));
    match change.and_then(Value::as_str) {
        Some(change) => format!("{kind} {change}"),
        None => kind.to_owned(),
    }
}

/// Key and value pairs, the first without a space before it.
struct Extension<'a>(&'a mut String, bool);

impl Extension<'_> {
    fn add(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let space = if std::mem::take(&mut self.1) { "" } else { " " };
        let _ = write!(self.0, "{space}{key}={}", in_extension(value));
    }

    fn labelled(&mut self, key: &str, label: &str, value: &str) {
        if !value.is_empty() {
            self.add(key, value);
            self.add(&format!("{key}Label"), label);
        }
    }

    /// `src` and `dst` are for IPv4 alone.
    fn address(&mut self, v4: &str, v6: &str, label: &str, value: Option<&str>) {
        match value {
            Some(a) if a.contains(':') => self.labelled(v6, label, a),
            Some(a) => self.add(v4, a),
            None => {}
        }
    }
}

/// In a field of the header, `|` and `\` are escaped, and there are no line breaks.
fn in_header(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// In a value, `=` and `\` are escaped, and line breaks are written as such.
fn in_extension(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '=' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_in_their_fields() {
        assert_eq!(in_header("a|b\\c\nCEF:0|x"), "a\\|b\\\\c CEF:0\\|x");
        assert_eq!(in_extension("a=b\\c\nd\re\u{85}f|g"), "a\\=b\\\\c\\nd\\re f|g");
    }
}
