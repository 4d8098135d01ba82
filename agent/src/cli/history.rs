//! `weir decisions history`: what happened to decisions.

use weir_core::record::TimeUs;

use super::args::{HistoryArgs, Span};
use super::output::{Output, Table, relative};
use crate::api::client::Client;
use crate::clock::wall_us;
use crate::human::{bytes, grouped};
use crate::store::HistoryLine;

/// From when on.
pub fn since_us(span: &Span, now: TimeUs) -> TimeUs {
    span.since.map_or(0, |d| now.saturating_sub(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
}

pub async fn run(client: &mut Client, args: &HistoryArgs, out: &Output) -> anyhow::Result<()> {
    let now = wall_us();
    let lines = client.decision_history(args.target, since_us(&args.span, now), args.span.limit).await?;
    Ok(out.list(&lines, |l| table(l, now))?)
}

fn table(lines: &[HistoryLine], now: TimeUs) -> String {
    if lines.is_empty() {
        return "nothing happened to any decision\n".into();
    }
    let mut t = Table::new(&["WHEN", ">ID", "CHANGE", "ACTION", "TARGET", "BY", ">PACKETS", ">BYTES", "WHY"]);
    for h in lines {
        let why: Vec<&str> = [h.note.as_str(), h.reason.as_str()].into_iter().filter(|w| !w.is_empty()).collect();
        // What only counts must not read as if it stopped anyone.
        let action = match h.mode.as_str() {
            "shadow" | "observe" if h.action != "shadow" => format!("{} [mode {}]", h.action, h.mode),
            _ => h.action.clone(),
        };
        t.row(vec![
            relative(h.time.0, now),
            h.decision_id.to_string(),
            h.change.clone(),
            action,
            h.target.clone(),
            h.origin.clone(),
            h.packets.map(grouped).unwrap_or_default(),
            h.bytes.map(bytes).unwrap_or_default(),
            why.join("; "),
        ]);
    }
    t.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::render::Rfc3339;

    #[test]
    fn what_happened_is_told_with_what_was_met_and_under_which_mode() {
        let line = HistoryLine {
            time: Rfc3339(1_700_000_000_000_000),
            decision_id: 7,
            change: "expired".into(),
            target: "203.0.113.9".into(),
            action: "drop".into(),
            origin: "automatic".into(),
            mode: "shadow".into(),
            expires: None,
            packets: Some(12_345),
            bytes: Some(2_000_000),
            reason: "47 ports".into(),
            note: String::new(),
            alert_id: Some(3),
        };
        let text = table(&[line], 1_700_000_060_000_000);
        for part in ["1m ago", "expired", "drop [mode shadow]", "12,345", "47 ports"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
