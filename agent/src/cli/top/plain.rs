//! The same for pipes: a block of lines, or one JSON object, per interval.

use std::fmt::Write;

use serde::Serialize;
use weir_core::render::Rfc3339;

use super::rows::{About, Alert, Question, Rates, Snapshot, Source, bytes_rate, rate};
use crate::cli::output::relative;
use crate::human;

/// Rows of each list in a block.
const ROWS: usize = 10;

/// One interval.
#[derive(Serialize)]
pub struct Object<'a> {
    pub time: Rfc3339,
    pub agent: &'a About,
    /// A second.
    pub rates: Rates,
    pub sources: &'a [Source],
    pub alerts: &'a [Alert],
    pub questions: Vec<&'a Question>,
}

pub fn object(s: &Snapshot, rates: Rates) -> Object<'_> {
    let first = |n: usize| n.min(ROWS);
    Object {
        time: Rfc3339(s.time_us),
        agent: &s.about,
        rates,
        sources: &s.sources[..first(s.sources.len())],
        alerts: &s.alerts[..first(s.alerts.len())],
        questions: s.questions.iter().filter(|q| q.is_open()).take(ROWS).collect(),
    }
}

pub fn block(s: &Snapshot, r: Rates) -> String {
    let mut out = String::new();
    let a = &s.about;
    let _ =
        writeln!(out, "{}  {}  mode {}  XDP {}  bundle {}", Rfc3339(s.time_us), a.interface, a.mode, a.xdp, a.bundle);
    let pair = |[packets, bytes]: [f64; 2]| format!("{} pps {}", rate(packets), bytes_rate(bytes));
    let _ = writeln!(
        out,
        "passed {}  dropped {}  limited {}  would drop {}  flows {}, {} new/s",
        pair(r.passed),
        pair(r.dropped),
        pair(r.limited),
        pair(r.shadowed),
        r.flows_live,
        rate(r.flows_new)
    );
    let now = s.time_us;
    let _ = writeln!(out, "sources {}", s.sources_known);
    for x in s.sources.iter().take(ROWS) {
        let ports: Vec<String> = x.ports.iter().map(u32::to_string).collect();
        let decided = if x.decided.is_empty() { String::new() } else { format!("  {}", x.decided) };
        let _ = writeln!(
            out,
            "  {}  evidence {:.1}, proven {:.1}  flows {}  ports {}  {}{decided}",
            x.source,
            x.evidence,
            x.evidence_proven,
            x.flows,
            ports.join(" "),
            relative(x.last_us, now)
        );
    }
    let _ = writeln!(out, "alerts {}", s.alerts.len());
    for x in s.alerts.iter().take(ROWS) {
        let _ = writeln!(
            out,
            "  {}  {}  {}  {}  evidence {:.1}  {}",
            x.id,
            relative(x.time_us, now),
            x.severity,
            x.source,
            x.evidence,
            x.outcome
        );
    }
    let open = s.questions.iter().filter(|q| q.is_open());
    let _ = writeln!(out, "questions {}", open.clone().count());
    for q in open.take(ROWS) {
        let time = human::rough(human::micros(q.ttl_us));
        let _ =
            writeln!(out, "  {}  {} for {time}?  ends {}  {}", q.id, q.proposed, relative(q.expires_us, now), q.why);
    }
    out
}
