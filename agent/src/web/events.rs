//! Events as a browser takes them: server-sent events that go on where they were cut off, with each second's rates and scores.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::header;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{Page, descriptor, guard, rest, routes};
use crate::api::access::Peer;
use crate::api::{events, resume};
use crate::bus::{Item, Subscription};
use crate::proto::{self as pb, EventKind};

/// An idle stream shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A browser that was cut off comes back after this, ms.
const RETRY_MS: u32 = 2000;
/// Flows, sources and hits of a second that are sent: a page shows no more. The others are in lists and in the record.
const FLOWS: u32 = 50;
const SOURCES: u32 = 50;
const HITS: u32 = 200;
/// Scores of a second.
const SCORES: usize = 50;
/// What a client has not read yet. The rest waits on the bus, where it can be counted as missed.
const QUEUE: usize = 16;

/// `GET /api/v1/events`.
pub(super) async fn stream(State(page): State<Arc<Page>>, request: Request) -> Response {
    let (session, peer) = match guard::who(&page, &request) {
        Ok(found) => found,
        Err(refused) => return *refused,
    };
    let (kinds, token) = match asked(&request) {
        Ok(asked) => asked,
        Err(words) => return rest::refuse(Code::InvalidArgument, &words),
    };
    let resume = match resume::parse(&token) {
        Ok(resume) => resume,
        Err(status) => return rest::refuse(status.code(), status.message()),
    };
    let Ok(slot) = page.streams.take(&session.csrf, false) else {
        let words = "this login has as many streams of events open as one may; close other tabs of the page";
        return rest::refuse(Code::ResourceExhausted, words);
    };
    let admitted = match page.gate.admit(Some(&peer), "/weir.v1.Weir/WatchEvents") {
        Ok((_, slots)) => slots,
        Err(status) => return rest::refuse(status.code(), status.message()),
    };
    let (subscription, restarted) = match resume {
        None => (page.bus.subscribe(), false),
        Some((run, last)) if *run == *page.run => (page.bus.subscribe_from(last.saturating_add(1)), false),
        // Everything of this run is new to who knows the one before.
        Some(_) => (page.bus.subscribe_from(1), true),
    };
    let (to, frames) = mpsc::channel::<Result<Bytes, Infallible>>(QUEUE);
    tokio::spawn(async move {
        let _held = (slot, admitted);
        Teller { page, peer, to, kinds, left: LIMITS, shown_us: crate::clock::wall_us() }
            .tell(subscription, restarted)
            .await;
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    let mut response = guard::answer(StatusCode::OK, &headers, Body::from_stream(ReceiverStream::new(frames)));
    // A proxy in front must not wait for the end.
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

/// Until the agent stops.
async fn stopped(stop: &mut tokio::sync::watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    drop(stop.wait_for(|stopped| *stopped).await);
}

/// Kinds that are wanted (empty: all), and where to go on.
fn asked(request: &Request) -> Result<(Vec<EventKind>, String), String> {
    let mut kinds = Vec::new();
    let mut token = String::new();
    for pair in request.uri().query().unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = routes::decoded(value).ok_or_else(|| format!("`{name}` is not %-encoded text"))?;
        match name {
            "kinds" => {
                for kind in value.split(',').filter(|k| !k.is_empty()) {
                    let known = events::KINDS.iter().find(|(n, _)| *n == kind).map(|(_, k)| *k);
                    kinds.push(known.ok_or_else(|| {
                        let all: Vec<_> = events::KINDS.iter().map(|(n, _)| *n).collect();
                        format!("there are no events `{kind}`; there are {}", all.join(", "))
                    })?);
                }
            }
            "resume_token" => token = value,
            _ => return Err(format!("there is no `{name}` to ask for here; there is kinds, resume_token")),
        }
    }
    // What a browser sends that was cut off is later than what its page once asked for.
    if let Some(last) = request.headers().get("last-event-id").and_then(|v| v.to_str().ok()) {
        token = last.to_owned();
    }
    Ok((kinds, token))
}

/// What is sent of each kind in a second.
const LIMITS: [u32; 3] = [FLOWS, SOURCES, HITS];

/// Of one stream.
struct Teller {
    page: Arc<Page>,
    peer: Peer,
    to: mpsc::Sender<Result<Bytes, Infallible>>,
    kinds: Vec<EventKind>,
    /// What may still be sent in this second, of [`LIMITS`].
    left: [u32; 3],
    /// Rates and scores up to this time were sent.
    shown_us: u64,
}

/// Nobody reads any more, or nobody may.
struct Over;

impl Teller {
    async fn tell(mut self, mut events: Subscription, restarted: bool) {
        let mut seconds = self.page.live.seconds();
        let mut stop = self.page.stop.clone();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut first = format!("retry: {RETRY_MS}\n");
        // Without data it is no event, but a browser that is cut off now goes on from here.
        first += &format!("id: {}\n\n", self.id(&events));
        if restarted {
            first += "event: restarted\ndata: {}\n\n";
        }
        if self.send(first).await.is_err() {
            return;
        }
        loop {
            let told = tokio::select! {
                item = events.next() => match item {
                    Some(item) => self.item(item, &events).await,
                    None => return,
                },
                changed = seconds.changed() => match changed {
                    Ok(()) => self.second(&events).await,
                    Err(_) => return,
                },
                _ = heartbeat.tick() => self.send(": alive\n\n".to_owned()).await,
                () = stopped(&mut stop) => return,
                () = self.to.closed() => return,
            };
            if told.is_err() {
                return;
            }
        }
    }

    fn id(&self, events: &Subscription) -> String {
        resume::token(&self.page.run, events.last())
    }

    async fn send(&self, text: String) -> Result<(), Over> {
        self.to.send(Ok(text.into())).await.map_err(|_| Over)
    }

    async fn item(&mut self, item: Item, events: &Subscription) -> Result<(), Over> {
        let event = match item {
            Item::Missed(n) => {
                let id = self.id(events);
                return self.send(format!("id: {id}\nevent: lost\ndata: {{\"count\":{n}}}\n\n")).await;
            }
            Item::Event(_, event) => event,
        };
        let kind = events::kind(&event);
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return Ok(());
        }
        let limit = match kind {
            EventKind::Flow => Some(0),
            EventKind::Source => Some(1),
            EventKind::Hits => Some(2),
            _ => None,
        };
        if let Some(left) = limit.map(|i| &mut self.left[i]) {
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
        }
        self.may()?;
        let name = events::KINDS.iter().find(|(_, k)| *k == kind).map_or("event", |(n, _)| n);
        let message = events::message(&event, &*self.page.render);
        let id = self.id(events);
        self.message(Some(&id), name, "weir.v1.Event", &message).await
    }

    /// A role that was taken away, or a login that has ended, ends what was begun with it.
    fn may(&self) -> Result<(), Over> {
        self.page.access.role(&self.peer).map(drop).map_err(|_| Over)
    }

    async fn second(&mut self, events: &Subscription) -> Result<(), Over> {
        self.may()?;
        self.left = LIMITS;
        let since = std::mem::replace(&mut self.shown_us, 0);
        let points = self.page.live.traffic(since);
        self.shown_us = points.last().map_or(since, |p| p.time_us);
        // All of them were looked at, whether they were wanted or not: a browser that is cut off need not see them again.
        let id = self.id(events);
        for point in &points {
            self.message(Some(&id), "traffic", "weir.v1.TrafficPoint", point).await?;
        }
        let scores = self.page.live.scores(since, SCORES);
        if scores.is_empty() {
            return Ok(());
        }
        let points = scores.iter().map(Into::into).collect();
        self.message(None, "scores", "weir.v1.ScoresResponse", &pb::ScoresResponse { points }).await
    }

    async fn message(
        &self,
        id: Option<&str>,
        event: &str,
        kind: &str,
        message: &impl prost::Message,
    ) -> Result<(), Over> {
        let json = match rest::typed_json(descriptor::pool(), kind, message) {
            Ok(json) => String::from_utf8_lossy(&json).into_owned(),
            Err(e) => {
                log::error!("an event could not be written for the web page: {e}");
                return Ok(());
            }
        };
        let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
        // JSON has no line breaks of its own.
        self.send(format!("{id}event: {event}\ndata: {json}\n\n")).await
    }
}
