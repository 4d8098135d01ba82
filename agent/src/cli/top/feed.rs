//! Asking the agent: once per interval, and at once when it tells that something changed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use super::rows::{About, Alert, Opened, Question, Snapshot, Source};
use super::state::{Act, Answer, View};
use crate::api::client::{Client, ClientError};
use crate::cli::output::clean;
use crate::cli::review;
use crate::clock::wall_us;
use crate::proto::watch_events_response::Item;
use crate::proto::{self as pb, EventKind};

/// Rows of each list.
const ROWS: u32 = 500;
/// Points of traffic that are kept: those that the agent keeps.
const POINTS: usize = 300;
/// Status, alerts and questions are asked for again after this, even where nothing told of a change.
const ANYWAY: Duration = Duration::from_secs(5);
/// After a stream of events that broke.
const AGAIN: Duration = Duration::from_secs(2);

/// What comes from the agent.
#[derive(Debug)]
pub enum Update {
    Snapshot(Box<Snapshot>),
    /// It does not answer.
    Trouble(String),
    Opened(View),
    /// What came of something that was asked of it, and the question that was answered by that.
    Done {
        words: String,
        answered: Option<u64>,
    },
    /// An event, in a line.
    Happened(String),
}

/// What is known of the agent, brought up to date part by part.
pub struct Feed {
    client: Client,
    snapshot: Snapshot,
    traffic: VecDeque<pb::TrafficPoint>,
    asked: Option<Instant>,
}

impl Feed {
    pub fn new(client: Client) -> Self {
        Self { client, snapshot: Snapshot::default(), traffic: VecDeque::new(), asked: None }
    }

    /// Rates and sources, and with `all` everything else.
    pub async fn snapshot(&mut self, all: bool) -> Result<Snapshot, ClientError> {
        let since = self.traffic.back().map_or(0, |p| p.time_us);
        let points = self.client.traffic(since).await?;
        // An agent that was started again begins anew.
        if points.first().is_some_and(|p| p.time_us <= since) {
            self.traffic.clear();
        }
        self.traffic.extend(points);
        self.traffic.drain(..self.traffic.len().saturating_sub(POINTS));
        let sources = self.client.top_sources(ROWS).await?;
        let s = &mut self.snapshot;
        (s.sources_known, s.alert_threshold) = (sources.known, sources.alert_threshold);
        s.sources = sources.sources.into_iter().map(Source::from).collect();
        if all || self.asked.is_none_or(|at| at.elapsed() >= ANYWAY) {
            s.about = About::from(&self.client.status().await?);
            s.alerts = self.client.list_alerts(None, 0, ROWS).await?.iter().map(Alert::from).collect();
            let questions = self.client.list_questions(true).await?.questions;
            s.questions = questions.iter().take(ROWS as usize).map(Question::from).collect();
            self.asked = Some(Instant::now());
        }
        s.traffic = self.traffic.iter().copied().collect();
        s.time_us = wall_us();
        Ok(s.clone())
    }
}

/// Sends snapshots until nobody takes them.
pub async fn follow(client: Client, every: Duration, refresh: Arc<Notify>, to: mpsc::Sender<Update>) {
    let watching = tokio::spawn(watch(client.clone(), refresh.clone(), to.clone()));
    let mut feed = Feed::new(client);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let all = tokio::select! {
            _ = ticks.tick() => false,
            () = refresh.notified() => true,
        };
        let update = match feed.snapshot(all).await {
            Ok(snapshot) => Update::Snapshot(Box::new(snapshot)),
            Err(e) => Update::Trouble(clean(&e.to_string())),
        };
        if to.send(update).await.is_err() {
            break;
        }
    }
    watching.abort();
}

/// Tells of events, and that it is time to look again.
async fn watch(mut client: Client, refresh: Arc<Notify>, to: mpsc::Sender<Update>) {
    let kinds = [EventKind::Alert, EventKind::Decision, EventKind::Question, EventKind::Agent];
    loop {
        if let Ok(mut events) = client.watch(&kinds, "").await {
            while let Ok(Some(message)) = events.message().await {
                if let Some(Item::Event(event)) = message.item
                    && to.send(Update::Happened(clean(&event.line))).await.is_err()
                {
                    return;
                }
                refresh.notify_one();
            }
        }
        if to.is_closed() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Carries out what a key asked for; the answer comes like everything else.
pub async fn carry_out(mut client: Client, act: Act, refresh: Arc<Notify>, to: mpsc::Sender<Update>) {
    let update = match attempt(&mut client, act).await {
        Ok(Some(update)) => update,
        Ok(None) => return,
        Err(words) => Update::Done { words: clean(&words), answered: None },
    };
    refresh.notify_one();
    // Who quit meanwhile does not want to know.
    let _ = to.send(update).await;
}

async fn attempt(client: &mut Client, act: Act) -> Result<Option<Update>, String> {
    let words = |e: ClientError| e.to_string();
    Ok(match act {
        Act::Quit | Act::Refresh => None,
        Act::OpenAlert(id) => {
            let alert = client.get_alert(id).await.map_err(words)?;
            Some(Update::Opened(View::Alert(Box::new(Alert::from(&alert)))))
        }
        Act::OpenQuestion(id) => {
            let detail = client.get_question(id).await.map_err(words)?;
            Some(Update::Opened(View::Question(Box::new(Opened::from(&detail)))))
        }
        Act::Answer(Answer { id, choice, width }) => {
            let Some((choice, width)) = review::ask::named(&choice, &width) else {
                return Err("this `weir` does not know that answer; the agent is newer".to_owned());
            };
            let request = review::request(id, choice, width, None, None, String::new());
            let question = client.answer_question(request).await.map_err(words)?;
            let words = format!("question {id}: {} (u takes it back)", clean(&question.came_to));
            Some(Update::Done { words, answered: Some(id) })
        }
        Act::Undo(id) => {
            let undone = client.undo_answer(id).await.map_err(words)?;
            let lifted = if undone.lifted.is_empty() { "nothing was to be lifted" } else { &undone.lifted };
            let words = format!("the answer to question {id} is taken back: {}", clean(lifted));
            Some(Update::Done { words, answered: None })
        }
    })
}
