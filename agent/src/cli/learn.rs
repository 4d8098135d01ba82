//! `weir learn`, with or without waiting for its end.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::args::LearnArgs;
use super::output::{Output, clean};
use super::render;
use crate::api::client::Client;
use crate::command::{LearnFrom, LearnReport};
use crate::human;

const POLL: Duration = Duration::from_secs(1);

pub async fn run(client: &mut Client, args: &LearnArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let before = client.status().await?.bundle.map(|b| b.id);
    let from = match (args.recorded, args.live) {
        (true, _) => LearnFrom::Record { since: args.since },
        (_, true) => LearnFrom::Live,
        _ => LearnFrom::Auto,
    };
    let started = client.learn(args.duration, args.min_flows, from).await?;
    if !args.wait {
        if out.json() {
            out.object(&started)?;
        } else {
            let (time, flows) = (human::rough(human::micros(started.duration_us)), human::grouped(started.min_flows));
            let recorded = started.phase == "training";
            out.text(&match recorded {
                true => format!(
                    "learning from {}: {} flows; `weir status` shows the progress\n",
                    clean(&started.from),
                    human::grouped(started.flows)
                ),
                false => {
                    format!("learning for {time} and until {flows} flows were seen; `weir status` shows the progress\n")
                }
            })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let bar = std::io::stderr().is_terminal();
    loop {
        tokio::time::sleep(POLL).await;
        let status = client.status().await?;
        match (status.learning, status.bundle) {
            (Some(progress), _) => {
                if bar {
                    show(&format!("{:3.0}%  {}", share(&progress) * 100.0, clean(&render::learning(&progress))));
                }
            }
            (None, Some(bundle)) if Some(&bundle.id) != before.as_ref() => {
                if bar {
                    show("");
                }
                if out.json() {
                    out.object(&bundle)?;
                } else {
                    let next = if bundle.promoted { "" } else { "; `weir model promote` lets it lead to drops" };
                    out.text(&format!("{} serves now{next}\n", clean(&bundle.id)))?;
                }
                return Ok(ExitCode::SUCCESS);
            }
            _ => {
                if bar {
                    show("");
                }
                let why = status.warnings.last().map_or_else(String::new, |w| format!(": {w}"));
                anyhow::bail!("learning ended without a new model{why}; the agent's log says more");
            }
        }
    }
}

/// Replaces the line on the terminal.
fn show(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "\r\x1b[K{text}");
    let _ = stderr.flush();
}

/// Of the slowest condition.
fn share(l: &LearnReport) -> f64 {
    let part = |done: u64, of: u64| if of == 0 { 1.0 } else { (done as f64 / of as f64).min(1.0) };
    part(l.elapsed_us, l.duration_us).min(part(l.flows, l.min_flows)).min(part(l.windows, l.min_windows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_that_of_the_slowest_condition() {
        let l = LearnReport {
            started_us: 0,
            duration_us: 100,
            elapsed_us: 90,
            flows: 50,
            min_flows: 200,
            windows: 7,
            min_windows: 0,
            phase: "collecting".into(),
            from: "live traffic".into(),
        };
        assert_eq!(share(&l), 0.25);
    }
}
