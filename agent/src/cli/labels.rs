//! `weir alerts label`, `weir labels` and `weir suppressions`: what people say about alerts, and what is normal for a while.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use weir_core::addr::{Addr, Prefix};
use weir_core::label::Truth;
use weir_core::record::{FlowRecord, TimeUs};
use weir_core::render::rfc3339;
use weir_source::Stop;
use weir_source::write::{Form, Row, Shape};

use super::alerts::AROUND_US;
use super::args::{Format, LabelArgs, LabelsCmd, ScopePart, SuppressionsCmd};
use super::output::{Output, Table, clean, relative};
use super::{configured_socket, flows, usage};
use crate::api::client::Client;
use crate::api::review::truth_out;
use crate::archive::files;
use crate::clock::wall_us;
use crate::command::AlertReport;
use crate::offline::output::{Output as FlowOutput, to_terminal};
use crate::offline::progress::Progress;
use crate::offline::tally::Tally;
use crate::offline::{Reading, signals};
use crate::proto as pb;

fn us(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

pub async fn label(client: &mut Client, args: LabelArgs, out: &Output) -> anyhow::Result<()> {
    let scope = if args.scope.is_empty() {
        None
    } else {
        let alert = client.get_alert(args.id).await?;
        Some(scope(&args.scope, &alert).map_err(usage)?)
    };
    let request = pb::LabelAlertRequest {
        alert_id: args.id,
        truth: truth_out(args.truth) as i32,
        scope,
        lifetime_us: args.lifetime.map(us),
        comment: args.comment,
    };
    let answer = client.label_alert(request).await?;
    if out.json() {
        out.object(&serde_json::json!({ "label": answer.label, "suppression": answer.suppression }))?;
        return Ok(());
    }
    let mut text = String::new();
    if let Some(l) = &answer.label {
        let _ = writeln!(text, "alert {} is labelled: {} (label {})", l.alert_id, clean(&l.truth), l.id);
    }
    if let Some(s) = &answer.suppression {
        let _ = writeln!(text, "suppression {}: {}, until {}", s.id, scope_words(s), rfc3339(s.expires_us));
    }
    Ok(out.text(&text)?)
}

/// The parts as one scope; what is not named is that of the alert.
fn scope(parts: &[ScopePart], alert: &AlertReport) -> Result<pb::SuppressionScope, String> {
    let mut scope = pb::SuppressionScope::default();
    for part in parts {
        match part {
            ScopePart::Source => {}
            ScopePart::Prefix(given) => {
                let around = Prefix::new(alert.source, if alert.source.is_v4() { 24 } else { 64 });
                scope.prefix = given.unwrap_or(around).to_string();
            }
            ScopePart::Port(Some(port)) => scope.ports.push(u32::from(*port)),
            ScopePart::Port(None) if alert.ports.is_empty() => {
                return Err(format!("the ports of alert {} are not known; name one with `port=N`", alert.id));
            }
            ScopePart::Port(None) => scope.ports.extend(alert.ports.iter().map(|p| u32::from(*p))),
            ScopePart::Role(given) => scope.role = given.map_or_else(|| alert.role.clone(), |r| r.to_string()),
            ScopePart::AnyFeature => scope.any_feature = true,
        }
    }
    Ok(scope)
}

fn scope_words(s: &pb::Suppression) -> String {
    let mut words = clean(&s.prefix);
    let list = |of: &[String]| of.iter().map(|f| clean(f)).collect::<Vec<_>>().join(", ");
    if !s.ports.is_empty() {
        words += &format!(", port {}", s.ports.iter().map(u32::to_string).collect::<Vec<_>>().join(", "));
    }
    if !s.role.is_empty() {
        words += &format!(", role {}", clean(&s.role));
    }
    if !s.features.is_empty() {
        words += &format!(", strange by {}", list(&s.features));
    }
    words
}

pub async fn run(client: &mut Client, command: LabelsCmd, out: &Output) -> anyhow::Result<()> {
    match command {
        LabelsCmd::List => {
            let labels = client.list_labels().await?;
            out.list(&labels, |l| label_table(l, wall_us()))?;
        }
        LabelsCmd::Undo { id } => {
            let label = client.undo_label(id).await?;
            if out.json() {
                out.object(&label)?;
            } else {
                out.text(&format!("label {id} of alert {} is taken back\n", label.alert_id))?;
            }
        }
        LabelsCmd::Export { .. } => unreachable!("handled without this connection"),
    }
    Ok(())
}

fn label_table(labels: &[pb::Label], now: TimeUs) -> String {
    if labels.is_empty() {
        return "no labels: `weir alerts label ID true|false|unsure`\n".into();
    }
    let mut t = Table::new(&["ID", "ALERT", "SOURCE", "TRUTH", "WHEN", "BY", "COMMENT"]);
    for l in labels {
        let undone = if l.undone_us > 0 { format!(" (taken back by {})", l.undone_by) } else { String::new() };
        t.row(vec![
            l.id.to_string(),
            l.alert_id.to_string(),
            l.source.clone(),
            format!("{}{undone}", l.truth),
            relative(l.at_us, now),
            l.by.clone(),
            l.comment.clone(),
        ]);
    }
    t.render()
}

pub async fn suppressions(client: &mut Client, command: SuppressionsCmd, out: &Output) -> anyhow::Result<()> {
    match command {
        SuppressionsCmd::List => {
            let list = client.list_suppressions().await?;
            out.list(&list, |l| suppression_table(l, wall_us()))?;
        }
        SuppressionsCmd::Add { prefix, port, role, feature, lifetime, comment } => {
            let scope = pb::SuppressionScope {
                prefix: prefix.to_string(),
                ports: port.into_iter().map(u32::from).collect(),
                role: role.map(|r| r.to_string()).unwrap_or_default(),
                features: feature,
                any_feature: false,
            };
            let request = pb::AddSuppressionRequest { scope: Some(scope), lifetime_us: lifetime.map(us), comment };
            let made = client.add_suppression(request).await?;
            if out.json() {
                out.object(&made)?;
            } else {
                let until = rfc3339(made.expires_us);
                out.text(&format!("suppression {}: {}, until {until}\n", made.id, scope_words(&made)))?;
            }
        }
        SuppressionsCmd::Remove { id } => {
            let gone = client.remove_suppression(id).await?;
            if out.json() {
                out.object(&gone)?;
            } else {
                out.text(&format!("suppression {id} of {} is over\n", clean(&gone.prefix)))?;
            }
        }
    }
    Ok(())
}

fn suppression_table(list: &[pb::Suppression], now: TimeUs) -> String {
    if list.is_empty() {
        return "no suppressions\n".into();
    }
    let mut t = Table::new(&["ID", "WHAT", "UNTIL", ">ALERTS", ">OBSERVATIONS", "LAST", "BY", "COMMENT"]);
    for s in list {
        let since = format!("suppressed {} since {}", s.alerts, relative(s.created_us, now));
        t.row(vec![
            s.id.to_string(),
            scope_words(s),
            relative(s.expires_us, now),
            since,
            s.observations.to_string(),
            if s.last_us == 0 { "-".to_owned() } else { relative(s.last_us, now) },
            s.by.clone(),
            s.comment.clone(),
        ]);
    }
    t.render()
}

/// The flows that a label is about.
struct Meant {
    source: Addr,
    ports: Vec<u32>,
    from_us: TimeUs,
    to_us: TimeUs,
    label: &'static str,
}

impl Meant {
    fn of(l: &pb::Label) -> Option<Self> {
        let truth = [Truth::Attack, Truth::FalseAlarm].into_iter().find(|t| t.name() == l.truth)?;
        let holds = l.undone_us == 0;
        Some(Self {
            source: l.source.parse().ok()?,
            ports: l.ports.clone(),
            from_us: l.from_us.saturating_sub(AROUND_US),
            to_us: l.to_us.saturating_add(AROUND_US),
            label: truth.flow_label().filter(|_| holds)?,
        })
    }

    fn is_of_it(&self, r: &FlowRecord) -> bool {
        let port = self.ports.is_empty() || self.ports.contains(&u32::from(r.server_port));
        port && self.source.subject().contains(r.client) && r.end_us >= self.from_us && r.start_us <= self.to_us
    }
}

/// What people said of a flow. Where they said both, it was an attack: what is misunderstood must not teach.
fn label_of(meant: &[Meant], r: &FlowRecord) -> Option<&'static str> {
    let mut of: Vec<&'static str> = meant.iter().filter(|m| m.is_of_it(r)).map(|m| m.label).collect();
    of.sort_unstable();
    of.into_iter().next()
}

/// Writes the recorded flows behind labelled alerts, labelled, in the form that `weir train` reads.
pub fn export(socket: Option<PathBuf>, to: Option<PathBuf>, asked: Option<Format>) -> anyhow::Result<ExitCode> {
    let form = match (asked, &to) {
        (None, None) => Form::Json,
        (asked, to) => flows::form(asked, to.as_deref()),
    };
    if form == Form::Parquet && to_terminal(to.as_deref()) {
        return Err(usage("Parquet is no text for a terminal: name a file with --out FILE, or pipe it on"));
    }
    let at = socket.unwrap_or_else(configured_socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (labels, dir) = runtime.block_on(async {
        let mut client = Client::connect(&at).await?;
        anyhow::Ok((client.list_labels().await?, PathBuf::from(client.flush_record().await?.dir)))
    })?;
    let meant: Vec<Meant> = labels.iter().filter_map(Meant::of).collect();
    let Some(since) = meant.iter().map(|m| m.from_us).min() else {
        anyhow::bail!("no alert is labelled true or false: `weir alerts label ID true|false`");
    };
    let segments = files::list(&dir).with_context(|| format!("cannot read the record in {}", dir.display()))?;
    let inputs: Vec<PathBuf> = segments.into_iter().filter(|s| s.end_us >= since).map(|s| s.path).collect();
    if inputs.is_empty() {
        anyhow::bail!("nothing is recorded in {} of the time of those labels", dir.display());
    }
    signals::watch().context("cannot wait for signals")?;
    let mut output = FlowOutput::open(to.as_deref(), form, Shape::default())?;
    let progress = Progress::new(to_terminal(to.as_deref()));
    let reading = Reading {
        inputs,
        format: None,
        decap: Default::default(),
        home: Default::default(),
        checkpoints: Default::default(),
        trust_sources: Default::default(),
        malicious: Vec::new(),
        recorded_since: Some(since),
        without_context: false,
    };
    let (mut failed, mut tally, mut written) = (None, Tally::default(), [0u64; 2]);
    reading.read(&progress, &mut tally, |mut flow| {
        let Some(label) = label_of(&meant, &flow.record) else { return Ok(()) };
        written[usize::from(label == "Benign")] += 1;
        flow.label = Some(label.into());
        output.write(&Row { flow: &flow, anomaly: None, anomaly_p: 0.0 }).map_err(|e| {
            failed = Some(anyhow::Error::from(e));
            Stop
        })
    });
    drop(progress);
    if let Some(e) = failed {
        return Err(e);
    }
    output.finish()?;
    let words = format!("{} flows of attacks and {} of false alarms\n", written[0], written[1]);
    // Nobody is left to tell where stderr is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes());
    if let Some(signal) = signals::received() {
        signals::end_by(signal);
    }
    Ok(if tally.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(truth: &str, ports: &[u32]) -> pb::Label {
        pb::Label {
            id: 1,
            alert_id: 7,
            source: "203.0.113.66".into(),
            from_us: 100_000_000,
            to_us: 200_000_000,
            truth: truth.into(),
            ports: ports.to_vec(),
            ..pb::Label::default()
        }
    }

    fn flow(client: &str, port: u16, end_us: u64) -> FlowRecord {
        let mut r = crate::archive::tests::record(1, end_us - 1000, end_us);
        (r.client, r.server_port) = (client.parse().unwrap(), port);
        r
    }

    #[test]
    fn flows_get_the_label_of_their_source_time_and_port_and_an_attack_wins() {
        let benign = Meant::of(&label("false alarm", &[80])).unwrap();
        let attack = Meant::of(&label("attack", &[])).unwrap();
        let meant = [benign];
        assert_eq!(label_of(&meant, &flow("203.0.113.66", 80, 150_000_000)), Some("Benign"));
        for other in [
            flow("203.0.113.66", 22, 150_000_000),
            flow("203.0.113.67", 80, 150_000_000),
            flow("203.0.113.66", 80, 300_000_000),
        ] {
            assert_eq!(label_of(&meant, &other), None);
        }
        let [benign] = meant;
        assert_eq!(label_of(&[benign, attack], &flow("203.0.113.66", 80, 150_000_000)), Some("Attack"));
        assert!(Meant::of(&label("unsure", &[])).is_none());
        assert!(Meant::of(&pb::Label { undone_us: 1, ..label("attack", &[]) }).is_none(), "taken back");
    }

    #[test]
    fn a_scope_is_that_of_the_alert_where_nothing_else_is_named() {
        let alert = AlertReport {
            id: 7,
            source: "203.0.113.66".parse().unwrap(),
            ports: vec![22, 80],
            role: "source-proven".into(),
            ..AlertReport::default()
        };
        let parts = [ScopePart::Prefix(None), ScopePart::Port(None), ScopePart::Role(None)];
        let s = scope(&parts, &alert).unwrap();
        assert_eq!((s.prefix.as_str(), s.ports, s.role.as_str()), ("203.0.113.0/24", vec![22, 80], "source-proven"));
        let none = AlertReport { ports: Vec::new(), ..alert };
        assert!(scope(&[ScopePart::Port(None)], &none).unwrap_err().contains("port=N"));
        assert_eq!(scope(&[ScopePart::Port(Some(443))], &none).unwrap().ports, [443]);
    }
}
