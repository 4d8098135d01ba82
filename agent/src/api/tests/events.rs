//! Watching.

use weir_core::event::Level;

use super::*;
use crate::proto::event;
use crate::proto::watch_events_response::Item;

fn news(n: u64) -> Event {
    Event::Agent { time_us: n, level: Level::Warning, kind: "test", message: "m".into() }
}

/// Publishing before the server has subscribed would be lost by design.
async fn subscribed(agent: &Agent, n: usize) {
    while agent.bus.subscribers() < n {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn watchers_get_the_kinds_they_asked_for() {
    let agent = agent(drop);
    let mut all = agent.client().await.watch(&[], "").await.unwrap();
    let mut hits = agent.client().await.watch(&[EventKind::Hits], "").await.unwrap();
    subscribed(&agent, 2).await;
    agent.bus.publish(news(1));
    let target = "10.0.0.1".parse().unwrap();
    agent.bus.publish(Event::Hits { time_us: 2, decision_id: 9, target, action: Action::Drop, packets: 5, bytes: 300 });
    let Some(Item::Event(e)) = all.message().await.unwrap().unwrap().item else { panic!() };
    assert_eq!(
        (e.kind, e.time_us, e.json.as_str(), e.line.as_str()),
        (EventKind::Agent as i32, 1, "{\"n\":1}", "line")
    );
    assert!(matches!(e.body, Some(event::Body::Agent(a)) if a.level == "warning" && a.message == "m"));
    let Some(Item::Event(e)) = hits.message().await.unwrap().unwrap().item else { panic!() };
    assert!(matches!(e.body, Some(event::Body::Hits(h)) if h.decision_id == 9 && h.target == "10.0.0.1"));
    // A watcher that hangs up is forgotten.
    drop(all);
    while agent.bus.subscribers() > 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // And one that stays does not hold up the stop.
    agent.stop().await;
    assert!(hits.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_slow_watcher_is_told_how_many_events_it_missed() {
    let agent = agent(drop);
    let mut stream = agent.client().await.watch(&[], "").await.unwrap();
    subscribed(&agent, 1).await;
    // Nobody else runs until the first await: the bus holds 8 of these.
    for n in 1..=100 {
        agent.bus.publish(news(n));
    }
    let (mut lost, mut last, mut got) = (0, 0, 0);
    while last < 100 {
        match stream.message().await.unwrap().unwrap().item {
            Some(Item::Event(e)) => (last, got) = (e.time_us, got + 1),
            Some(Item::Lost(n)) => lost += n,
            None => panic!("an empty message"),
        }
    }
    assert_eq!(lost + got, 100);
    assert_eq!((lost, agent.bus.missed()), (92, 92));
    agent.stop().await;
}

#[tokio::test]
async fn a_watcher_that_was_cut_off_goes_on_where_it_was() {
    let agent = agent(drop);
    let mut stream = agent.client().await.watch(&[], "").await.unwrap();
    subscribed(&agent, 1).await;
    agent.bus.publish(news(1));
    agent.bus.publish(news(2));
    let first = stream.message().await.unwrap().unwrap();
    assert!(matches!(first.item, Some(Item::Event(e)) if e.time_us == 1));
    drop(stream);
    // What happened meanwhile, as far as it is kept: the bus holds 8.
    agent.bus.publish(news(3));
    let mut back = agent.client().await.watch(&[], &first.resume_token).await.unwrap();
    for n in [2, 3] {
        let next = back.message().await.unwrap().unwrap();
        assert!(!next.restarted && matches!(next.item, Some(Item::Event(e)) if e.time_us == n), "event {n}");
    }
    (4..=20).for_each(|n| agent.bus.publish(news(n)));
    let mut late = agent.client().await.watch(&[], &first.resume_token).await.unwrap();
    assert!(matches!(late.message().await.unwrap().unwrap().item, Some(Item::Lost(11))), "2 to 12 are gone");
    let next = late.message().await.unwrap().unwrap();
    assert!(matches!(next.item, Some(Item::Event(e)) if e.time_us == 13));

    // A token of another run: everything of this one, and it says so once.
    let mut other = agent.client().await.watch(&[], "abc.5").await.unwrap();
    let first = other.message().await.unwrap().unwrap();
    assert!(first.restarted && matches!(first.item, Some(Item::Lost(12))));
    assert!(!other.message().await.unwrap().unwrap().restarted);
    let refused = agent.client().await.watch(&[], "nonsense").await.err().unwrap();
    assert!(refused.is_usage() && refused.to_string().contains("resume_token"), "{refused}");
    agent.stop().await;
}
