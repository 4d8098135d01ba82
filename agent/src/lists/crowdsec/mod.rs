//! A bouncer of CrowdSec: asks a local API what is decided, in full at first and then for what is new and deleted.
//!
//! Nothing that goes wrong lifts anything. After any failure the next question is for everything again, since what the API has
//! said into a broken connection it does not say twice. Ends of decisions run here, whether the API answers or not.

mod answer;
mod client;
mod state;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc::Sender};
use tokio::task::AbortHandle;
use weir_core::decisions::lists::Draft;

use super::{Arrived, Brought};
use crate::clock::wall_us;
use crate::config::CrowdSec;
use client::Client;
pub use client::check_url;
use state::State;

/// The list of this bouncer.
pub const LIST: &str = "crowdsec";
/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_millis(200);

/// Dropped: it asks no more.
#[derive(Debug)]
pub struct Handle {
    task: AbortHandle,
    poked: Arc<Poked>,
}

#[derive(Debug, Default)]
struct Poked {
    now: Notify,
    afresh: AtomicBool,
}

impl Handle {
    /// Asks now; `afresh`: what came before counts no more.
    pub fn poke(&self, afresh: bool) {
        if afresh {
            self.poked.afresh.store(true, Ordering::Release);
        }
        self.poked.now.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to ask. `held` is what an earlier run left in force.
pub fn start(config: CrowdSec, held: Option<Draft>, to: Sender<Arrived>) -> io::Result<Handle> {
    let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    let poked = Arc::new(Poked::default());
    let state = State::new(&config, held);
    let task = runtime.spawn(ask(config, state, to, poked.clone())).abort_handle();
    Ok(Handle { task, poked })
}

async fn ask(config: CrowdSec, mut state: State, to: Sender<Arrived>, poked: Arc<Poked>) {
    let mut failures = 0u32;
    let mut whole = true;
    loop {
        if poked.afresh.swap(false, Ordering::AcqRel) {
            state.forget();
            whole = true;
        }
        let step;
        (state, step) = once(&config, state, whole).await;
        let (what, pause) = match step {
            Ok(step) => {
                (failures, whole) = (0, step.whole_next);
                // Who else holds what was deleted is known at once, or the deletion waits.
                (Ok(step.brought), if whole { SOON.min(config.interval) } else { config.interval })
            }
            Err(why) => {
                (failures, whole) = (failures.saturating_add(1), true);
                let longer = config.interval.saturating_mul(1 << failures.min(8));
                (Err(why), longer.min(MAX_PAUSE.max(config.interval)))
            }
        };
        if to.send(Arrived { name: LIST.to_owned(), what }).await.is_err() {
            return;
        }
        let _ = tokio::time::timeout(pause, poked.now.notified()).await;
    }
}

/// What an answer comes to.
struct Step {
    /// `None`: nothing has changed.
    brought: Option<Brought>,
    /// Whether the next question is for everything.
    whole_next: bool,
}

/// One question and its answer. The state comes back, changed only where the answer is sound.
async fn once(config: &CrowdSec, state: State, whole: bool) -> (State, Result<Step, String>) {
    // Anew each time: keys and certificates are replaced while the agent runs.
    let body = match Client::new(config) {
        Ok(mut client) => client.stream(whole).await,
        Err(e) => Err(e),
    };
    let body = match body {
        Ok(body) => body,
        Err(why) => return (state, Err(why)),
    };
    let config = config.clone();
    let kept = state.clone();
    // A million decisions take a while to read.
    let taken = tokio::task::spawn_blocking(move || {
        let mut state = state;
        let step = take(&config, &mut state, &body, whole);
        (state, step)
    });
    taken.await.unwrap_or_else(|e| (kept, Err(format!("the answer could not be taken: {e}"))))
}

fn take(config: &CrowdSec, state: &mut State, body: &[u8], whole: bool) -> Result<Step, String> {
    let answer = answer::Answer::read(body)?;
    let now = wall_us();
    if whole {
        // What is not believed lifts nothing; what is new in it holds.
        let warning = state.replace(&answer, config, now).err().unwrap_or_default();
        let brought = Brought { warning: Some(warning), ..state.brought(now) };
        return Ok(Step { brought: Some(brought), whole_next: false });
    }
    let changed = state.change(&answer, config, now);
    let brought = changed.any.then(|| state.brought(now));
    Ok(Step { brought, whole_next: changed.ambiguous })
}

/// What a local API might answer, one answer after the other: the first is a full one.
#[cfg(fuzzing)]
pub fn fuzz<'a>(answers: impl Iterator<Item = &'a [u8]>) {
    let config = CrowdSec { url: Some("http://127.0.0.1:8080".into()), ..crate::config::Config::default().crowdsec };
    let mut state = State::new(&config, None);
    let mut whole = true;
    for body in answers {
        whole = take(&config, &mut state, body, whole).map_or(true, |step| step.whole_next);
        let brought = state.brought(wall_us());
        let draft = &brought.draft;
        assert!(draft.members.iter().all(|m| usize::from(m.rule) < draft.rules.len()), "a member of no rule");
        assert!(draft.members.iter().all(|m| usize::from(m.why) < draft.reasons.len()), "a member without its reason");
    }
}
