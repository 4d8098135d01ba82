use std::fs;
use std::time::Instant;

use weir_core::event::Level;

use super::*;

struct Plain;
impl Render for Plain {
    fn json(&self, event: &Event) -> String {
        match event {
            Event::Agent { time_us, message, .. } => format!("{{\"n\":{time_us},\"m\":\"{message}\"}}"),
            other => format!("{{\"other\":\"{other:?}\"}}"),
        }
    }
    fn line(&self, event: &Event) -> String {
        format!("{event:?}")
    }
}

fn news(n: u64) -> Arc<Event> {
    Arc::new(Event::Agent { time_us: n, level: Level::Info, kind: "test", message: String::new() })
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_rotated_file_is_left_alone_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log/events.json");
    let sink = Sink::start(EventTarget::File(path.clone()), false, Arc::new(Plain)).unwrap();
    sink.write(news(1));
    until("the first event is written", || lines(&path).len() == 1);
    let rotated = dir.path().join("log/events.json.1");
    fs::rename(&path, &rotated).unwrap();
    sink.write(news(2));
    until("the second event is in the old file", || lines(&rotated).len() == 2);
    sink.reopen();
    sink.write(news(3));
    sink.close();
    assert_eq!(lines(&path), ["{\"n\":3,\"m\":\"\"}"]);
    assert_eq!(lines(&rotated).len(), 2);
}

#[test]
fn existing_lines_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.json");
    fs::write(&path, "{\"old\":true}\n").unwrap();
    let sink = Sink::start(EventTarget::File(path.clone()), false, Arc::new(Plain)).unwrap();
    sink.write(news(1));
    sink.close();
    assert_eq!(lines(&path), ["{\"old\":true}", "{\"n\":1,\"m\":\"\"}"]);
}

#[test]
fn a_file_that_cannot_be_written_loses_events_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // A folder stands where the file should be; later it is gone.
    let path = dir.path().join("events.json");
    fs::create_dir(&path).unwrap();
    let sink = Sink::start(EventTarget::File(path.clone()), false, Arc::new(Plain)).unwrap();
    sink.write(news(1));
    sink.write(news(2));
    until("both are counted", || sink.lost() == 2);
    fs::remove_dir(&path).unwrap();
    sink.write(news(3));
    until("it writes again", || lines(&path).len() == 1);
    assert_eq!(sink.lost(), 2);
    sink.close();
}

#[test]
fn a_full_disk_counts_what_it_did_not_take() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        eprintln!("skipped: there is no /dev/full here");
        return;
    }
    let mut out = JsonLines::new(full.to_owned());
    let (lost, e) = out.write(["{}", "{}"].into_iter()).unwrap_err();
    assert_eq!((lost, e.kind()), (2, io::ErrorKind::StorageFull));
}

#[test]
fn flows_are_written_only_where_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.json");
    let sink = Sink::start(EventTarget::None, true, Arc::new(Plain)).unwrap();
    sink.write(news(1));
    sink.configure(EventTarget::File(path.clone()), false);
    sink.write(news(2));
    assert_eq!(sink.lost(), 0);
    sink.close();
    assert_eq!(lines(&path), ["{\"n\":2,\"m\":\"\"}"]);
}
