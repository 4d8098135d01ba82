//! Following events, over restarts of the agent.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tonic::Code;

use super::args::WatchArgs;
use super::connect::To;
use super::output::{self, Output};
use crate::api::client::{Client, ClientError};
use crate::proto::EventKind;
use crate::proto::watch_events_response::Item;

/// Between attempts to reach an agent that went away.
const AGAIN: Duration = Duration::from_secs(1);

/// Prints events until nobody reads them. An agent that is not there at first is an error; one that goes away is waited for.
pub async fn run(to: &To, mut client: Client, args: &WatchArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let mut follower = Follower { kinds: &args.kind, token: String::new(), out };
    let mut stream = client.watch(&args.kind, "").await?;
    if io::IsTerminal::is_terminal(&io::stderr()) && !out.json() {
        note("watching; Ctrl-C ends it");
    }
    loop {
        let mut ended = follower.follow(&mut stream).await?;
        if args.no_reconnect {
            return Err(ended.into());
        }
        note(&format!("{ended}; waiting for it to come back"));
        stream = loop {
            tokio::time::sleep(AGAIN).await;
            match follower.again(to).await {
                Ok(stream) => break stream,
                Err(e) if !passes(&e) => return Err(e.into()),
                Err(e) => ended = e.into(),
            }
            log::debug!("{ended}");
        };
        note("the agent is there again");
    }
}

struct Follower<'a> {
    kinds: &'a [EventKind],
    /// Of the last answer.
    token: String,
    out: &'a Output,
}

/// Why there are no more events.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the agent stopped")]
    Stopped,
    #[error(transparent)]
    Failed(#[from] ClientError),
}

type Events = tonic::Streaming<crate::proto::WatchEventsResponse>;

impl Follower<'_> {
    async fn again(&self, to: &To) -> Result<Events, ClientError> {
        to.client().await?.watch(self.kinds, &self.token).await
    }

    /// Prints what comes; fails where it cannot be printed, or where coming again would not help.
    async fn follow(&mut self, stream: &mut Events) -> anyhow::Result<Ended> {
        loop {
            let message = match stream.message().await.map_err(ClientError::from) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(Ended::Stopped),
                Err(e) if passes(&e) => return Ok(e.into()),
                Err(e) => return Err(e.into()),
            };
            self.token = message.resume_token;
            if message.restarted {
                note("it was restarted: `weir alerts list` and `weir decisions history` tell what happened meanwhile");
            }
            match message.item {
                Some(Item::Event(event)) if self.out.json() => self.out.text(&(event.json + "\n"))?,
                Some(Item::Event(event)) => self.out.text(&(output::clean(&event.line) + "\n"))?,
                Some(Item::Lost(n)) if self.out.json() => {
                    self.out.object(&serde_json::json!({ "event_type": "lost", "count": n }))?;
                }
                Some(Item::Lost(n)) => {
                    self.out
                        .text(&format!("... {n} events left out: this reader is too slow, or was away too long\n"))?;
                }
                None => {}
            }
        }
    }
}

/// Whether it may be over when the agent was restarted or the network is back.
fn passes(e: &ClientError) -> bool {
    match e {
        ClientError::Status(s) => {
            matches!(s.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::Aborted)
        }
        ClientError::NotRunning(_) | ClientError::Stale(_) | ClientError::Unreachable { .. } => true,
        ClientError::Io { .. } | ClientError::Transport { .. } => true,
        ClientError::Denied { .. } | ClientError::Tls { .. } | ClientError::Files(_) => false,
        ClientError::Malformed(_) | ClientError::Bundle(_) => false,
    }
}

/// Nobody is left to tell where stderr is closed.
fn note(words: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), format!("{words}\n").as_bytes());
}
