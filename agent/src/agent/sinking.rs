//! What people ask about sinks. They are asked themselves; the event loop only passes it on.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Agent;
use crate::command::{CommandError, SinkTest, SinksCommand};

/// How long a test waits for its event to be delivered.
const TEST: Duration = Duration::from_secs(30);

impl Agent {
    pub(super) fn sinks_command(&self, command: SinksCommand) {
        let stopping = || CommandError::Failed("the sinks are stopping".to_owned());
        match command {
            SinksCommand::List { reply } => {
                let (to, answer) = oneshot::channel();
                self.sinks.list(to);
                // Whoever asked may have hung up.
                tokio::spawn(async move { drop(reply.send(answer.await.map_err(|_| stopping()))) });
            }
            SinksCommand::Test { name, reply, .. } => {
                if !self.config.sinks.iter().any(|s| s.name == name) {
                    let names: Vec<&str> = self.config.sinks.iter().map(|s| s.name.as_str()).collect();
                    let there = match names.as_slice() {
                        [] => "none is configured (`sinks` in weir.yaml)".to_owned(),
                        some => format!("there are {}", some.join(", ")),
                    };
                    let words = format!("no sink is called {name}; {there}");
                    return drop(reply.send(Err(CommandError::NotFound(words))));
                }
                let (to, answer) = oneshot::channel();
                self.sinks.test(name, to);
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let answer = match tokio::time::timeout(TEST, answer).await {
                        Ok(answer) => answer.map_err(|_| stopping()),
                        Err(_) => Ok(Err(format!(
                            "not within {TEST:?}: what is queued before it is delivered first (`weir sinks list`)"
                        ))),
                    };
                    let elapsed = |d: Duration| d.as_micros() as u64;
                    drop(reply.send(answer.map(|result| match result {
                        Ok(took) => SinkTest { delivered: true, elapsed_us: elapsed(took), error: String::new() },
                        Err(error) => SinkTest { delivered: false, elapsed_us: elapsed(begun.elapsed()), error },
                    })));
                });
            }
        }
    }
}
