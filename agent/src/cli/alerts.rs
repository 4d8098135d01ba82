//! `weir alerts`: what was raised, and of one alert what was strange, in words, and the flows behind it.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use weir_core::addr::Addr;
use weir_core::record::{EndReason, FlowRecord, TimeUs};
use weir_core::render::{Context, Rfc3339, eve_flow, proto_name, rfc3339};
use weir_source::{FlowKey, FlowStats, Input, Observation, Options, Sink, Stop};

use super::args::{AlertsCmd, Format};
use super::output::{Output, Table, clean, relative};
use super::recorded;
use crate::api::client::Client;
use crate::archive::files;
use crate::clock::wall_us;
use crate::command::{AlertReport, DecisionReport};
use crate::human::{bytes, grouped};

/// Flows around an alert's time that count as behind it, µs: windows are longer than an epoch.
pub const AROUND_US: u64 = 15_000_000;
/// Points of the evidence's course that are shown.
const MAX_POINTS: usize = 12;

pub async fn run(client: &mut Client, command: AlertsCmd, socket: Option<&Path>, out: &Output) -> anyhow::Result<()> {
    match command {
        AlertsCmd::List { source, since, limit } => {
            let since_us = since.map_or(0, |d| wall_us().saturating_sub(d.as_micros() as u64));
            let alerts = client.list_alerts(source, since_us, limit).await?;
            match out.format {
                Format::Json => alerts.iter().try_for_each(|a| out.object(&whole(a)))?,
                Format::Csv => out.list(&alerts.iter().map(row).collect::<Vec<_>>(), |_| String::new())?,
                Format::Table | Format::Parquet => out.text(&table(&alerts, wall_us()))?,
            }
        }
        AlertsCmd::Label(args) => super::labels::label(client, args, out).await?,
        AlertsCmd::Show { id, flows } => {
            let alert = client.get_alert(id).await?;
            if out.format == Format::Csv {
                return Ok(out.list(&[row(&alert)], |_| String::new())?);
            }
            let decisions: Vec<DecisionReport> =
                client.list_decisions().await?.into_iter().filter(|d| d.decision.alert_id == Some(id)).collect();
            let (to, about) = (socket.map(Path::to_owned), (alert.source, alert.since_us, alert.time_us));
            // It asks the agent itself, and reads files.
            let behind = match to {
                Some(to) => tokio::task::spawn_blocking(move || Behind::read(&to, about, flows)).await?,
                None => Err("the record is on the agent's host; run this there".to_owned()),
            };
            if out.json() {
                let mut object = whole(&alert);
                object["flows_behind"] = behind.as_ref().map_or_else(|e| json!({ "unknown": e }), Behind::json);
                object["decisions"] = serde_json::to_value(&decisions)?;
                out.object(&object)?;
            } else {
                out.text(&show(&alert, &decisions, &behind, wall_us()))?;
            }
        }
    }
    Ok(())
}

/// The object of the event log, with all that is known beside it.
fn whole(a: &AlertReport) -> Value {
    let mut object: Value = serde_json::from_str(&a.json).unwrap_or_else(|_| json!({}));
    let points = a.history.iter();
    let points = points.map(|p| json!({ "timestamp": Rfc3339(p.time_us), "evidence": p.all, "proven": p.proven }));
    object["evidence_over_time"] = points.collect();
    object["reasons"] = serde_json::to_value(&a.reasons).unwrap_or_default();
    object["unless"] = json!(a.unless);
    object
}

/// An alert on one line.
#[derive(Serialize)]
struct AlertRow {
    id: u64,
    timestamp: Rfc3339,
    src_ip: Addr,
    severity: String,
    evidence: f64,
    evidence_proven: f64,
    alert_threshold: f64,
    drop_threshold: f64,
    p_value: f32,
    profile: String,
    role: String,
    ports: String,
    flows: u64,
    since: Rfc3339,
    reasons: String,
    outcome: String,
    mode: String,
}

fn words_of(list: &[u16]) -> String {
    list.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
}

fn row(a: &AlertReport) -> AlertRow {
    AlertRow {
        id: a.id,
        timestamp: Rfc3339(a.time_us),
        src_ip: a.source,
        severity: a.severity.clone(),
        evidence: a.evidence,
        evidence_proven: a.evidence_proven,
        alert_threshold: a.alert_threshold,
        drop_threshold: a.drop_threshold,
        p_value: a.p_value,
        profile: a.profile.clone(),
        role: a.role.clone(),
        ports: words_of(&a.ports),
        flows: a.flows,
        since: Rfc3339(a.since_us),
        reasons: a.reasons.iter().map(|r| r.words.as_str()).collect::<Vec<_>>().join("; "),
        outcome: a.outcome.clone(),
        mode: a.mode.clone(),
    }
}

fn table(alerts: &[AlertReport], now: TimeUs) -> String {
    if alerts.is_empty() {
        return "no alerts\n".into();
    }
    let mut t = Table::new(&["ID", "WHEN", "SOURCE", "SEVERITY", ">EVIDENCE", ">PROVEN", ">FLOWS", "WHY", "OUTCOME"]);
    for a in alerts {
        t.row(vec![
            a.id.to_string(),
            relative(a.time_us, now),
            a.source.to_string(),
            a.severity.clone(),
            format!("{:.1}", a.evidence),
            format!("{:.1}", a.evidence_proven),
            grouped(a.flows),
            a.reasons.first().map(|r| r.words.clone()).unwrap_or_default(),
            a.outcome.clone(),
        ]);
    }
    t.render()
}

fn show(a: &AlertReport, decisions: &[DecisionReport], behind: &Result<Behind, String>, now: TimeUs) -> String {
    let mut out = String::new();
    let (when, ago) = (rfc3339(a.time_us), relative(a.time_us, now));
    let _ = writeln!(out, "alert {}: {}, {} severity, {when} ({ago})", a.id, a.source, clean(&a.severity));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<10} {}", clean(&value));
    };
    line(
        "evidence",
        format!(
            "{:.1} (alert at {:.1}), {:.1} of it from proven flows (drop at {:.1})",
            a.evidence, a.alert_threshold, a.evidence_proven, a.drop_threshold
        ),
    );
    let ports = if a.ports.is_empty() { String::new() } else { format!(" to port {}", words_of(&a.ports)) };
    line("flows", format!("{}{ports}, since {}", grouped(a.flows), rfc3339(a.since_us)));
    let stranger = format!("stranger than {:.4}% of normal", 100.0 * (1.0 - f64::from(a.p_value)));
    line("compared", format!("with role {} by the features of profile {}: {stranger}", a.role, a.profile));
    line("outcome", format!("{} [mode {}]", a.outcome, a.mode));
    for d in decisions {
        line("decision", super::render::decision_line(&d.decision, now));
    }
    out += "\nwhat was strange, the most telling first\n";
    if a.reasons.is_empty() {
        out += "  it was not explained: too many observations were strange at that time\n";
    }
    for (i, r) in a.reasons.iter().enumerate() {
        let _ = writeln!(out, "  {}. {} [{:.0}% of it]", i + 1, clean(&r.words), 100.0 * r.share);
        if !r.nearest_usual.is_empty() {
            let _ = writeln!(out, "     nearest usual value: {}", clean(&r.nearest_usual));
        }
    }
    if !a.unless.is_empty() {
        let _ = writeln!(out, "  {}", clean(&a.unless));
    }
    if !a.history.is_empty() {
        out += "\nevidence since\n";
        let mut t = Table::new(&["TIME", ">EVIDENCE", ">PROVEN"]);
        let step = a.history.len().div_ceil(MAX_POINTS);
        for p in a.history.iter().step_by(step) {
            t.row(vec![rfc3339(p.time_us), format!("{:.1}", p.all), format!("{:.1}", p.proven)]);
        }
        out += &indented(&t.render());
    }
    match behind {
        Err(why) => {
            let _ = writeln!(out, "\nflows behind it are not known: {}", clean(why));
        }
        Ok(b) if b.flows.is_empty() => {
            out += "\nno flows of that source and time are recorded\n";
        }
        Ok(b) => {
            let _ = writeln!(out, "\nflows behind it, the last {} of {} recorded", b.flows.len(), grouped(b.count));
            out += &indented(&b.table());
        }
    }
    out
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}

/// The last recorded flows of a source.
struct Behind {
    source: Addr,
    from_us: TimeUs,
    to_us: TimeUs,
    max: usize,
    count: u64,
    flows: VecDeque<Observation>,
}

impl Behind {
    fn read(socket: &Path, (source, since_us, time_us): (Addr, TimeUs, TimeUs), max: usize) -> Result<Self, String> {
        let (from_us, to_us) = (since_us.saturating_sub(AROUND_US), time_us.saturating_add(AROUND_US));
        let mut behind = Self { source, from_us, to_us, max, count: 0, flows: VecDeque::new() };
        let dir = recorded::folder(Some(socket)).map_err(|e| format!("{e:#}"))?;
        let said = |e: &dyn std::fmt::Display| format!("the record in {} cannot be read: {e}", dir.display());
        // Flows become known after they ended, at the latest when a timeout says so: what was recorded later may be meant.
        for segment in files::list(&dir).map_err(|e| said(&e))?.into_iter().filter(|s| s.end_us >= from_us) {
            let options = Options::default();
            let input = Input::open(&segment.path, &options).map_err(|e| said(&e))?;
            input.read(&options, &mut behind).1.map_err(|e| said(&e))?;
        }
        Ok(behind)
    }

    fn table(&self) -> String {
        let mut t = Table::new(&["TIME", "TO", "PROTO", "STATE", ">PACKETS", ">BYTES", "PROVEN"]);
        for o in &self.flows {
            let r = &o.record;
            t.row(vec![
                rfc3339(r.end_us),
                std::net::SocketAddr::new(r.server.ip(), r.server_port).to_string(),
                proto_name(r.proto).into_owned(),
                r.state.name().to_owned(),
                format!("{}/{}", r.fwd.packets, r.bwd.packets),
                format!("{}/{}", bytes(r.fwd.bytes), bytes(r.bwd.bytes)),
                if r.proven { "yes" } else { "no" }.to_owned(),
            ]);
        }
        t.render()
    }

    fn json(&self) -> Value {
        let flow = |o: &Observation| {
            let context = Context { in_iface: o.seen_at.as_deref(), ..Context::default() };
            serde_json::to_value(eve_flow(&o.record, None, &context)).unwrap_or_default()
        };
        json!({ "recorded": self.count, "last": self.flows.iter().map(flow).collect::<Vec<_>>() })
    }

    fn is_of_it(&self, r: &FlowRecord) -> bool {
        // A flow that went on comes again.
        r.client == self.source
            && r.end_reason != EndReason::Checkpoint
            && r.end_us >= self.from_us
            && r.start_us <= self.to_us
    }
}

impl Sink for Behind {
    fn epoch(&mut self, _: u64, _: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        Ok(())
    }

    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        if self.is_of_it(&flow.record) {
            self.count += 1;
            self.flows.push_back(flow);
            if self.flows.len() > self.max {
                self.flows.pop_front();
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{AlertReason, EvidencePoint};

    pub(crate) fn alert() -> AlertReport {
        AlertReport {
            id: 12,
            time_us: 1_700_000_000_000_000,
            source: "203.0.113.66".parse().unwrap(),
            severity: "high".into(),
            evidence: 23.14,
            evidence_proven: 20.2,
            alert_threshold: 10.0,
            drop_threshold: 15.0,
            profile: "source".into(),
            role: "source-proven".into(),
            p_value: 0.0001,
            ports: vec![22, 80],
            flows: 1234,
            since_us: 1_699_999_940_000_000,
            outcome: "blocked for 1h".into(),
            mode: "enforce".into(),
            reasons: vec![
                AlertReason {
                    feature: "ports".into(),
                    words: "distinct ports contacted 47 (usually 1 to 3)".into(),
                    observed: 47.0,
                    usual_low: 1.0,
                    usual_high: 3.0,
                    share: 0.8,
                    nearest_usual: "3".into(),
                },
                AlertReason { words: "flows started 60 \x1b[2J(usually 1 to 9)".into(), ..AlertReason::default() },
            ],
            unless: "with 9 ports it would not have been noticed".into(),
            history: (0..40)
                .map(|i| EvidencePoint { time_us: 1_700_000_000_000_000 + i * 5_000_000, all: 23.0, proven: 20.0 })
                .collect(),
            json: r#"{"event_type":"alert","src_ip":"203.0.113.66"}"#.into(),
        }
    }

    #[test]
    fn an_alert_is_told_in_words_the_most_telling_first() {
        let text = show(&alert(), &[], &Err("no agent\x07".into()), 1_700_000_060_000_000);
        for part in [
            "alert 12: 203.0.113.66, high severity, 2023-11-14T22:13:20.000000Z (1m ago)\n",
            "evidence   23.1 (alert at 10.0), 20.2 of it from proven flows (drop at 15.0)\n",
            "flows      1,234 to port 22 80, since 2023-11-14T22:12:20.000000Z\n",
            "stranger than 99.9900% of normal",
            "1. distinct ports contacted 47 (usually 1 to 3) [80% of it]\n     nearest usual value: 3\n",
            "  with 9 ports it would not",
            "2. flows started 60 \u{fffd}[2J",
            "flows behind it are not known: no agent\u{fffd}\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(text.lines().filter(|l| l.ends_with("20.0")).count() <= MAX_POINTS, "{text}");
        let listed = table(&[alert()], 1_700_000_060_000_000);
        assert!(listed.contains("distinct ports contacted 47") && listed.contains("blocked for 1h"), "{listed}");
    }

    #[test]
    fn flows_behind_are_those_of_the_source_around_its_time() {
        let a = alert();
        let mut b = Behind {
            source: a.source,
            from_us: a.since_us,
            to_us: a.time_us,
            max: 2,
            count: 0,
            flows: VecDeque::new(),
        };
        let flow = |client: &str, end_us| {
            let mut r = crate::archive::tests::record(1, end_us - 1000, end_us);
            r.client = client.parse().unwrap();
            r.into()
        };
        for (client, end) in [
            ("203.0.113.66", a.since_us - 1),
            ("203.0.113.66", a.since_us + 1),
            ("203.0.113.67", a.since_us + 2),
            ("203.0.113.66", a.since_us + 3),
            ("203.0.113.66", a.time_us),
            ("203.0.113.66", a.time_us + 60_000_000),
        ] {
            assert_eq!(b.flow(flow(client, end)), Ok(()));
        }
        assert_eq!((b.count, b.flows.len()), (3, 2));
        assert_eq!(b.flows.back().unwrap().record.end_us, a.time_us);
    }
}
