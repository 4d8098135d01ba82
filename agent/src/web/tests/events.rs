//! Streams of events: live, resumed, bounded.

use weir_core::event::Level;
use weir_core::record::FlowRecord;

use super::*;
use crate::proto::TrafficPoint;

fn news(n: u64) -> Event {
    Event::Agent { time_us: n, level: Level::Info, kind: "test", message: format!("news {n}") }
}

fn flow(n: u64) -> Event {
    let record: FlowRecord = crate::archive::tests::record(n, 1, 2);
    Event::Flow { record: Box::new(record), anomaly: None, seen_at: None }
}

/// A stream that is being read.
struct Stream {
    tcp: TcpStream,
    text: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    id: String,
    event: String,
    data: String,
}

impl Stream {
    async fn open(site: &Site, user: &User, path: &str, last: Option<&str>) -> Stream {
        let mut tcp = TcpStream::connect(site.at).await.unwrap();
        let last = last.map_or(String::new(), |l| format!("last-event-id: {l}\r\n"));
        let text = format!("GET {path} HTTP/1.1\r\nhost: {}\r\ncookie: {}\r\n{last}\r\n", site.at, user.cookie);
        tcp.write_all(text.as_bytes()).await.unwrap();
        let mut stream = Stream { tcp, text: String::new() };
        while !stream.text.contains("\r\n\r\n") {
            assert!(stream.more().await, "{}", stream.text);
        }
        let (head, rest) = stream.text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
        stream.text = rest.to_owned();
        stream
    }

    async fn more(&mut self) -> bool {
        let mut bytes = [0; 16 << 10];
        let n = tokio::time::timeout(Duration::from_secs(20), self.tcp.read(&mut bytes)).await.expect("it goes on");
        let n = n.unwrap_or(0);
        self.text += std::str::from_utf8(&bytes[..n]).unwrap();
        n > 0
    }

    /// The next event that has data; lengths of chunks are passed over, since each frame is one. `None`: it has ended.
    async fn next(&mut self) -> Option<Told> {
        loop {
            while let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                let mut told = Told::default();
                for line in frame.lines() {
                    match line.trim().split_once(": ") {
                        Some(("id", v)) => told.id = v.to_owned(),
                        Some(("event", v)) => told.event = v.to_owned(),
                        Some(("data", v)) => told.data = v.to_owned(),
                        _ => {}
                    }
                }
                if !told.data.is_empty() {
                    return Some(told);
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn news(&mut self) -> (String, String) {
        let told = self.next().await.unwrap();
        assert_eq!(told.event, "agent", "{told:?}");
        let json: serde_json::Value = serde_json::from_str(&told.data).unwrap();
        assert_eq!(json["kind"], "EVENT_KIND_AGENT");
        (told.id, json["agent"]["message"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn who_is_cut_off_goes_on_where_it_was_with_nothing_lost_nor_doubled() {
    let site = site(|_| {}).await;
    let user = site.log_in(Role::Viewer).await;
    let mut stream = Stream::open(&site, &user, "/api/v1/events", None).await;
    (1..=3).for_each(|n| site.bus.publish(news(n)));
    let mut last = String::new();
    for n in 1..=3 {
        let (id, words) = stream.news().await;
        assert_eq!(words, format!("news {n}"));
        last = id;
    }
    drop(stream);
    (4..=6).for_each(|n| site.bus.publish(news(n)));
    let mut back = Stream::open(&site, &user, "/api/v1/events?kinds=agent,alert", Some(&last)).await;
    site.bus.publish(news(7));
    for n in 4..=7 {
        assert_eq!(back.news().await.1, format!("news {n}"));
    }
}

#[tokio::test]
async fn who_comes_back_too_late_or_to_another_run_is_told() {
    let site = site_with(Web::default(), 4, |_| {}).await;
    let user = site.log_in(Role::Viewer).await;
    let mut stream = Stream::open(&site, &user, "/api/v1/events", None).await;
    site.bus.publish(news(1));
    let (last, _) = stream.news().await;
    drop(stream);
    (2..=10).for_each(|n| site.bus.publish(news(n)));
    let mut back = Stream::open(&site, &user, "/api/v1/events", Some(&last)).await;
    let lost = back.next().await.unwrap();
    assert_eq!((lost.event.as_str(), lost.data.as_str()), ("lost", "{\"count\":5}"));
    assert_eq!(back.news().await.1, "news 7");
    let mut other = Stream::open(&site, &user, "/api/v1/events", Some("0.5")).await;
    assert_eq!(other.next().await.unwrap().event, "restarted");
    assert_eq!(other.next().await.unwrap().event, "lost");
    assert_eq!(other.news().await.1, "news 7", "what this run did follows, as far as it is kept");
    let bad = site.get("/api/v1/events", &[("cookie", &user.cookie), ("last-event-id", "x")]).await;
    assert_eq!(bad.error(), (400, "invalid_argument".into()));
}

#[tokio::test]
async fn of_a_flood_of_flows_a_sample_is_sent_and_everything_else_arrives() {
    let site = site_with(Web::default(), 8192, |_| {}).await;
    let user = site.log_in(Role::Viewer).await;
    let mut stream = Stream::open(&site, &user, "/api/v1/events", None).await;
    for n in 1..=2000 {
        site.bus.publish(flow(n));
        if n % 200 == 0 {
            site.bus.publish(news(n));
        }
    }
    let (mut flows, mut other) = (0, 0);
    while other < 10 {
        match stream.next().await.unwrap().event.as_str() {
            "flow" => flows += 1,
            "agent" => other += 1,
            kind => panic!("{kind}"),
        }
    }
    assert_eq!(flows, 50);
    // The next second has room again.
    site.live.second(TrafficPoint { time_us: u64::MAX, ..Default::default() }, Default::default());
    assert_eq!(stream.next().await.unwrap().event, "traffic");
    site.bus.publish(flow(3));
    let told = stream.next().await.unwrap();
    assert!(told.event == "flow" && told.data.contains("\"flow_id\":\"3\""), "{told:?}");
}

#[tokio::test]
async fn each_second_brings_its_rates_and_a_sample_of_its_scores() {
    let site = site(|_| {}).await;
    let user = site.log_in(Role::Viewer).await;
    let mut stream = Stream::open(&site, &user, "/api/v1/events?kinds=alert", None).await;
    site.bus.publish(news(1));
    // The stream has looked at it, and passed it over, before the second ends.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let now = crate::clock::wall_us() + 1_000_000;
    let scores =
        [vec![crate::live::tests::score(now, 0.001)], (0..90).map(|_| crate::live::tests::score(now, 0.5)).collect()];
    site.live.second(TrafficPoint { time_us: now, packets_dropped: 5, ..Default::default() }, scores);
    let traffic = stream.next().await.unwrap();
    assert_eq!(traffic.event, "traffic", "the news was not asked for");
    let point: serde_json::Value = serde_json::from_str(&traffic.data).unwrap();
    assert_eq!((&point["packets_dropped"], &point["packets_passed"]), (&5.into(), &0.into()));
    let scores = stream.next().await.unwrap();
    let points: serde_json::Value = serde_json::from_str(&scores.data).unwrap();
    assert_eq!((scores.event.as_str(), points["points"].as_array().unwrap().len()), ("scores", 50));
    // What was looked at and not asked for does not come again.
    drop(stream);
    let mut back = Stream::open(&site, &user, "/api/v1/events", Some(&traffic.id)).await;
    site.bus.publish(news(2));
    assert_eq!(back.news().await.1, "news 2");
}

#[tokio::test]
async fn streams_of_a_login_are_bounded_and_end_with_it() {
    let site = site(|_| {}).await;
    let user = site.log_in(Role::Viewer).await;
    let mut streams = Vec::new();
    for _ in 0..crate::web::STREAMS.1 {
        streams.push(Stream::open(&site, &user, "/api/v1/events", None).await);
    }
    let more = site.get("/api/v1/events", &[("cookie", &user.cookie)]).await;
    assert_eq!(more.error(), (429, "resource_exhausted".into()));
    let other = site.log_in(Role::Viewer).await;
    drop(Stream::open(&site, &other, "/api/v1/events", None).await);
    assert_eq!(site.as_user(&user, "DELETE", "/api/v1/session", "").await.status, 204);
    // It is looked at with the next event.
    site.bus.publish(news(1));
    for mut stream in streams {
        assert_eq!(stream.next().await, None, "the login is over");
    }
}
