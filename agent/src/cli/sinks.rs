//! `weir sinks`.

use std::process::ExitCode;

use serde::Serialize;
use weir_core::record::TimeUs;
use weir_core::render::Rfc3339;

use super::args::SinksCmd;
use super::output::{Output, Table, relative};
use crate::api::client::Client;
use crate::clock::wall_us;
use crate::human::{bytes, grouped, micros, rough};
use crate::sinks::state::SinkState;

pub async fn run(client: &mut Client, command: SinksCmd, out: &Output) -> anyhow::Result<ExitCode> {
    match command {
        SinksCmd::List => {
            let all: Vec<Row> = client.list_sinks().await?.into_iter().map(Row).collect();
            out.list(&all, |l| table(l, wall_us()))?;
        }
        SinksCmd::Test { name } => {
            let test = client.test_sink(&name).await?;
            if out.json() {
                out.object(&test)?;
            } else if test.delivered {
                out.text(&format!(
                    "the test event was delivered to {name} after {}\n",
                    rough(micros(test.elapsed_us))
                ))?;
            }
            if !test.delivered {
                if out.json() {
                    return Ok(ExitCode::FAILURE);
                }
                anyhow::bail!("the test event was not delivered to {name}: {}", super::output::clean(&test.error));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Written with times as people read them.
struct Row(SinkState);

impl Serialize for Row {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            name: &'a str,
            kind: &'a str,
            destination: &'a str,
            state: &'static str,
            delivered: u64,
            retried: u64,
            queued: u64,
            queued_bytes: u64,
            queue_size: u64,
            dropped: u64,
            dropped_by: String,
            deduplicated: u64,
            held_back: u64,
            last_success: Option<Rfc3339>,
            last_error: &'a str,
            last_error_at: Option<Rfc3339>,
            next_attempt: Option<Rfc3339>,
        }
        let k = &self.0;
        let time = |t: TimeUs| (t > 0).then_some(Rfc3339(t));
        Flat {
            name: &k.name,
            kind: &k.kind,
            destination: &k.destination,
            state: state(k),
            delivered: k.delivered,
            retried: k.retried,
            queued: k.queued,
            queued_bytes: k.queued_bytes,
            queue_size: k.queue_size,
            dropped: k.dropped.iter().map(|d| d.count).sum(),
            dropped_by: dropped(k),
            deduplicated: k.deduplicated,
            held_back: k.held_back,
            last_success: time(k.last_success_us),
            last_error: &k.last_error,
            last_error_at: time(k.last_error_us),
            next_attempt: time(k.next_attempt_us),
        }
        .serialize(s)
    }
}

fn state(k: &SinkState) -> &'static str {
    match (k.failing, k.queued) {
        (true, _) => "failing",
        (false, 0) => "idle",
        (false, _) => "delivering",
    }
}

fn dropped(k: &SinkState) -> String {
    let words: Vec<String> = k.dropped.iter().map(|d| format!("{} {}", grouped(d.count), d.name)).collect();
    words.join(", ")
}

fn table(sinks: &[Row], now: TimeUs) -> String {
    if sinks.is_empty() {
        return "no sinks; `sinks` of the configuration names them\n".into();
    }
    let mut t = Table::new(&["NAME", "TYPE", "TO", ">DELIVERED", ">QUEUED", ">SIZE", ">DROPPED", "LAST", "STATE"]);
    for Row(k) in sinks {
        let time = |us: TimeUs| if us == 0 { "-".to_owned() } else { relative(us, now) };
        let mut words = state(k).to_owned();
        if k.failing {
            words += &format!(": {}", k.last_error);
        }
        for (n, what) in [(k.held_back, "held back by the rate"), (k.deduplicated, "repetitions")] {
            if n > 0 {
                words += &format!("; {} {what}", grouped(n));
            }
        }
        if !k.dropped.is_empty() {
            words += &format!("; dropped: {}", dropped(k));
        }
        t.row(vec![
            k.name.clone(),
            k.kind.clone(),
            k.destination.clone(),
            grouped(k.delivered),
            grouped(k.queued),
            bytes(k.queued_bytes),
            grouped(k.dropped.iter().map(|d| d.count).sum()),
            time(k.last_success_us),
            words,
        ]);
    }
    t.render()
}
