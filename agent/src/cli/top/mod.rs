//! `weir top`: what goes on, on a full screen that keys act on, or line by line for pipes.
//!
//! What is shown (`rows`, `state`) knows no terminal and no agent; `draw` makes a screen of it, `feed` asks the agent, `terminal` takes the
//! screen and gives it back.

mod draw;
mod feed;
mod plain;
mod rows;
mod state;
mod terminal;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use super::args::TopArgs;
use super::output::Output;
use crate::api::client::Client;
use feed::{Feed, Update};
use rows::Rates;
use state::{Act, State};
use terminal::{Input, Screen};

/// Runs until it is told to end.
pub async fn run(client: Client, args: &TopArgs, out: &Output) -> anyhow::Result<()> {
    let plain = args.plain || args.count.is_some() || out.json() || !io::stdout().is_terminal();
    if plain { lines(client, args, out).await } else { screen(client, args.interval).await }
}

/// A block per interval. The first comes at once, with the rates of the interval before.
async fn lines(client: Client, args: &TopArgs, out: &Output) -> anyhow::Result<()> {
    let mut feed = Feed::new(client);
    let mut ticks = tokio::time::interval(args.interval);
    let mut left = args.count;
    while left != Some(0) {
        ticks.tick().await;
        let snapshot = feed.snapshot(true).await?;
        let since = snapshot.time_us.saturating_sub(args.interval.as_micros() as u64);
        let first = snapshot.traffic.partition_point(|p| p.time_us <= since);
        // An interval shorter than the agent's has its last point.
        let first = first.min(snapshot.traffic.len().saturating_sub(1));
        let rates = Rates::over(&snapshot.traffic[first..]);
        if out.json() {
            out.object(&plain::object(&snapshot, rates))?;
        } else {
            out.text(&(plain::block(&snapshot, rates) + "\n"))?;
        }
        left = left.map(|n| n - 1);
    }
    Ok(())
}

async fn screen(client: Client, every: Duration) -> anyhow::Result<()> {
    // Before the screen is taken: what is wrong from the start is said plainly.
    let first = Feed::new(client.clone()).snapshot(true).await?;
    let mut state = State::default();
    state.update(first);
    let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let refresh = Arc::new(Notify::new());
    let (to, mut updates) = mpsc::channel(64);
    let follow = tokio::spawn(feed::follow(client.clone(), every, refresh.clone(), to.clone()));
    let mut screen = Screen::open()?;
    let mut inputs = terminal::input()?;
    let [terminate, hangup, interrupt] = &mut ends[..] else { unreachable!("three were made") };
    loop {
        screen.0.draw(|frame| draw::draw(frame, &mut state))?;
        tokio::select! {
            input = inputs.recv() => match input {
                Some(Input::Key(key)) => match state.key(key) {
                    Some(Act::Quit) => break,
                    Some(Act::Refresh) => refresh.notify_one(),
                    Some(act) => {
                        tokio::spawn(feed::carry_out(client.clone(), act, refresh.clone(), to.clone()));
                    }
                    None => {}
                },
                Some(Input::Resized) => {}
                Some(Input::Gone) | None => break,
            },
            Some(update) = updates.recv() => take(&mut state, update),
            _ = terminate.recv() => break,
            _ = hangup.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    follow.abort();
    drop(screen);
    Ok(())
}

fn take(state: &mut State, update: Update) {
    match update {
        Update::Snapshot(snapshot) => state.update(*snapshot),
        Update::Trouble(why) => state.trouble = why,
        Update::Opened(view) => state.open(view),
        Update::Done { words, answered } => state.done(words, answered),
        // What somebody is about to say yes to stays in sight, and so does what was said.
        Update::Happened(line) if state.said.is_empty() => state.said = line,
        Update::Happened(_) => {}
    }
}

#[cfg(test)]
mod tests;
