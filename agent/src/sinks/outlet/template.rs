//! The bodies that webhooks are sent.

use serde_json::{Value, json};
use weir_core::event::Severity;
use weir_core::render::rfc3339;

use super::{Numbered, Origin};
use crate::sinks::notice::Notice;
use crate::sinks::settings::Template;

/// Characters of a text that people read; longer ones are cut.
const MAX_TEXT: usize = 3000;
/// PagerDuty takes no longer summaries.
const MAX_SUMMARY: usize = 1024;

/// The body for some notices: as many as the template takes in one request. `key` is PagerDuty's.
pub fn body(template: Template, batch: &[Numbered], sink: &str, origin: &Origin, key: &str) -> Value {
    match (template, batch) {
        (Template::Alertmanager, batch) => Value::Array(batch.iter().map(|n| alert(&n.notice, origin)).collect()),
        (_, []) => Value::Null,
        (Template::Json, [n, ..]) => generic(n, sink, origin),
        (Template::Slack, [n, ..]) => slack(&n.notice, origin),
        (Template::Teams, [n, ..]) => teams(&n.notice, origin),
        (Template::PagerDuty, [n, ..]) => pagerduty(&n.notice, origin, key),
    }
}

fn event(notice: &Notice) -> Value {
    serde_json::from_str(&notice.event).unwrap_or_default()
}

fn generic(n: &Numbered, sink: &str, origin: &Origin) -> Value {
    let head = &n.notice.head;
    json!({
        "version": 1,
        "sink": sink,
        "host": origin.host,
        "number": n.number,
        "time": rfc3339(head.time_us),
        "kind": head.kind.name(),
        "severity": head.severity.name(),
        "source": head.source,
        "reason": head.reason,
        "repeated": head.repeated,
        "text": n.notice.line,
        "event": event(&n.notice),
    })
}

/// Slack reads `<...>` as links and mentions, and takes these three for it alone.
fn slack(notice: &Notice, origin: &Origin) -> Value {
    let text = cut(&notice.line, MAX_TEXT).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let head = format!("Weir on {}: {} ({})", origin.host, notice.head.kind.name(), notice.head.severity.name());
    json!({
        "text": format!("{head}\n{text}"),
        // What people are shown is plain text, not Slack's markup.
        "blocks": [
            { "type": "header", "text": { "type": "plain_text", "text": cut(&head, 150), "emoji": false } },
            { "type": "section", "text": { "type": "plain_text", "text": cut(&notice.line, MAX_TEXT), "emoji": false } },
        ],
    })
}

/// An adaptive card of text runs, which have no markup.
fn teams(notice: &Notice, origin: &Origin) -> Value {
    let head = format!("Weir on {}: {} ({})", origin.host, notice.head.kind.name(), notice.head.severity.name());
    let run = |text: &str, weight: &str| json!({ "type": "RichTextBlock", "inlines": [{ "type": "TextRun", "text": text, "weight": weight }] });
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [run(&head, "Bolder"), run(&cut(&notice.line, MAX_TEXT), "Default")],
            },
        }],
    })
}

fn pagerduty(notice: &Notice, origin: &Origin, key: &str) -> Value {
    let head = &notice.head;
    let severity = match head.severity {
        Severity::High => "critical",
        Severity::Medium => "warning",
        Severity::Low => "info",
    };
    // One incident per source and reason; PagerDuty takes 255 characters.
    let same = cut(&format!("weir/{}/{}/{}/{}", origin.host, head.kind.name(), head.source, head.reason), 255);
    json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": same,
        "payload": {
            "summary": cut(&notice.line, MAX_SUMMARY),
            "source": origin.host,
            "severity": severity,
            "timestamp": rfc3339(head.time_us),
            "component": "weir",
            "class": head.kind.name(),
            "custom_details": { "source": head.source, "reason": head.reason, "repeated": head.repeated, "event": event(notice) },
        },
    })
}

fn alert(notice: &Notice, origin: &Origin) -> Value {
    let head = &notice.head;
    json!({
        "labels": {
            "alertname": format!("Weir_{}", head.kind.name()),
            "severity": head.severity.name(),
            "kind": head.kind.name(),
            "source": head.source,
            "reason": cut(&head.reason, 200),
            "instance": origin.host,
        },
        "annotations": { "summary": cut(&notice.line, MAX_TEXT), "repeated": head.repeated.to_string() },
        "startsAt": rfc3339(head.time_us),
    })
}

/// At most so many characters, the last of them saying that there were more.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
