//! The thread that takes events and fills the queues.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_core::event::{Event, Level};

use super::deliver::Delivery;
use super::gate::{Gate, Passed};
use super::notice::{Notice, TEST};
use super::outlet::Origin;
use super::queue::{Appended, Queue};
use super::settings::SinkConfig;
use super::state::{Dropped, Shared};
use super::{CLOSE, Control, Intake, Message, States, TestReply, Waiting};
use crate::clock::{boottime_us, wall_us};
use crate::sink::Render;

/// How often windows and rates are looked at.
const TICK: Duration = Duration::from_millis(200);
/// How often queues are brought to the disk, against a loss of power; and one that could not be opened is tried again.
const CARE: Duration = Duration::from_secs(1);

struct Sink {
    config: SinkConfig,
    shared: Arc<Shared>,
    gate: Gate,
    /// `None`: it could not be opened.
    queue: Option<Arc<Queue>>,
    delivery: Option<Delivery>,
}

pub struct Dispatcher {
    dir: PathBuf,
    intake: Arc<Intake>,
    states: States,
    render: Arc<dyn Render>,
    origin: Origin,
    sinks: Vec<Sink>,
    /// Configured no more. They keep their queues: a name that comes back must not find one that is still in use.
    retired: Vec<Sink>,
    cared: Instant,
}

impl Dispatcher {
    pub(super) fn new(
        dir: PathBuf,
        intake: Arc<Intake>,
        states: States,
        render: Arc<dyn Render>,
        origin: Origin,
    ) -> Self {
        Self { dir, intake, states, render, origin, sinks: Vec::new(), retired: Vec::new(), cared: Instant::now() }
    }

    pub(super) fn run(mut self) {
        loop {
            for message in self.take() {
                match message {
                    Message::Event(event) => self.event(&event),
                    Message::Control(Control::Configure(sinks)) => self.configure(sinks),
                    Message::Control(Control::Reopen) => {
                        self.sinks.iter().filter_map(|s| s.delivery.as_ref()).for_each(Delivery::reopen);
                    }
                    // Whoever asked may have hung up.
                    Message::Control(Control::List(reply)) => drop(reply.send(self.states.snapshot())),
                    Message::Control(Control::Test { name, reply }) => self.test(&name, reply),
                    Message::Control(Control::Stop(done)) => {
                        self.close();
                        let _ = done.send(());
                        return;
                    }
                }
            }
            self.tick();
        }
    }

    /// What has come, or nothing after a tick.
    fn take(&self) -> VecDeque<Message> {
        let waiting = self.intake.lock();
        let idle = |w: &mut Waiting| w.messages.is_empty();
        let waited = self.intake.news.wait_timeout_while(waiting, TICK, idle);
        let mut waiting = waited.map_or_else(|e| e.into_inner().0, |(waiting, _)| waiting);
        waiting.events = 0;
        std::mem::take(&mut waiting.messages)
    }

    fn event(&mut self, event: &Event) {
        let kind = super::notice::Kind::of(event);
        let (mut notice, now) = (None, boottime_us());
        for sink in self.sinks.iter_mut().filter(|s| s.config.kinds.contains(&kind)) {
            let notice = notice.get_or_insert_with(|| Notice::new(event, &*self.render));
            let mut passed = Vec::new();
            sink.gate.offer(notice, now, &mut passed);
            sink.put(passed, &*self.render);
        }
    }

    fn tick(&mut self) {
        let now = boottime_us();
        for sink in &mut self.sinks {
            let mut passed = Vec::new();
            sink.gate.tick(now, &mut passed);
            sink.put(passed, &*self.render);
        }
        if self.cared.elapsed() < CARE {
            return;
        }
        self.cared = Instant::now();
        for i in 0..self.sinks.len() {
            match &self.sinks[i].queue {
                Some(queue) => {
                    if let Err(e) = queue.sync() {
                        log::debug!("the queue of the sink {} could not be synced: {e}", self.sinks[i].config.name);
                    }
                }
                None => self.open(i),
            }
        }
    }

    fn configure(&mut self, sinks: Vec<SinkConfig>) {
        let mut before = std::mem::take(&mut self.sinks);
        for config in sinks {
            let named = |s: &Sink| s.config.name == config.name;
            let sink = match before.iter().position(named) {
                Some(i) => before.remove(i),
                None => match self.retired.iter().position(named) {
                    Some(i) => self.retired.remove(i),
                    None => {
                        let shared = Arc::new(Shared::new(&config.name));
                        let gate = Gate::new(config.rules(), boottime_us());
                        self.sinks.push(Sink { config, shared, gate, queue: None, delivery: None });
                        self.open(self.sinks.len() - 1);
                        continue;
                    }
                },
            };
            self.sinks.push(sink.configured(config, &self.origin));
        }
        for mut sink in before {
            sink.flush(&*self.render);
            if let Some(delivery) = &sink.delivery {
                delivery.stop();
            }
            let (name, waiting) = (&sink.config.name, sink.queue.as_ref().map_or(0, |q| q.waiting().0));
            if waiting > 0 {
                log::warn!(
                    "the sink {name} is configured no more; {waiting} events wait in {}: they are delivered once it is \
                     configured again, or remove the folder while the agent does not run",
                    self.dir.join(name).display()
                );
            }
            self.retired.push(sink);
        }
        self.states.set(self.sinks.iter().map(|s| s.shared.clone()).collect());
    }

    /// Opens the queue of a sink and begins to deliver.
    fn open(&mut self, i: usize) {
        let sink = &mut self.sinks[i];
        let dir = self.dir.join(&sink.config.name);
        match Queue::open(&dir, sink.config.bounds()) {
            Ok((queue, damage)) => {
                for words in &damage.words {
                    log::warn!("the queue of the sink {}: {words}", sink.config.name);
                }
                let queue = Arc::new(queue);
                sink.shared.configured(&sink.config, Some(queue.clone()));
                sink.shared.dropped(Dropped::Damaged, damage.records);
                sink.delivery = Delivery::start(&sink.config, sink.shared.clone(), queue.clone(), &self.origin, None);
                sink.queue = Some(queue);
            }
            Err(e) => {
                sink.shared.configured(&sink.config, None);
                sink.shared.failed(&format!("its queue in {} cannot be opened: {e}", dir.display()), Some(CARE));
            }
        }
    }

    fn test(&mut self, name: &str, reply: TestReply) {
        let Some(sink) = self.sinks.iter().find(|s| s.config.name == name) else {
            let names: Vec<&str> = self.sinks.iter().map(|s| s.config.name.as_str()).collect();
            let there =
                if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
            let _ = reply.send(Err(format!("no sink is called {name}; {there}")));
            return;
        };
        let event = Event::Agent {
            time_us: wall_us(),
            level: Level::Info,
            kind: TEST,
            message: format!("a test of the sink {name}: nothing has happened"),
        };
        let notice = Notice::new(&event, &*self.render);
        let since = Instant::now();
        match sink.append(&notice) {
            Ok(number) => {
                sink.shared.await_test(number, since, reply);
                sink.shared.wake.notify_one();
                if let Some(delivery) = &sink.delivery {
                    delivery.poke();
                }
            }
            Err(why) => drop(reply.send(Err(why))),
        }
    }

    fn close(&mut self) {
        for sink in &mut self.sinks {
            sink.flush(&*self.render);
        }
        let until = Instant::now() + CLOSE;
        let busy = |s: &Sink| !s.shared.is_failing() && s.queue.as_ref().is_some_and(|q| q.waiting().0 > 0);
        while self.sinks.iter().any(busy) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        for sink in &mut self.sinks {
            if let Some(queue) = &sink.queue
                && let Err(e) = queue.sync()
            {
                log::warn!("the queue of the sink {} could not be synced: {e}", sink.config.name);
            }
            sink.shared.fail_tests("the agent stops");
            sink.delivery = None;
        }
    }
}

impl Sink {
    /// The same sink with this configuration.
    fn configured(mut self, config: SinkConfig, origin: &Origin) -> Self {
        if self.config == config && self.delivery.as_ref().is_some_and(|d| !d.is_stopped()) {
            return self;
        }
        self.gate.set_rules(config.rules(), boottime_us());
        self.config = config;
        self.shared.configured(&self.config, self.queue.clone());
        if let Some(queue) = self.queue.clone() {
            queue.set_bounds(self.config.bounds());
            self.delivery = Delivery::start(&self.config, self.shared.clone(), queue, origin, self.delivery.take());
        }
        self
    }

    fn put(&self, passed: Vec<Passed>, render: &dyn Render) {
        self.shared.gate(self.gate.repetitions, self.gate.held_back);
        if passed.is_empty() {
            return;
        }
        for passed in passed {
            let notice = match passed {
                Passed::Notice(notice) => notice,
                Passed::HeldBack(n) => {
                    let rate = self.config.rate.map(|r| crate::config::rate_word(&r)).unwrap_or_default();
                    let message = format!(
                        "{n} events were not sent to the sink {}: more than its rate of {rate}",
                        self.config.name
                    );
                    let (time_us, level, kind) = (wall_us(), Level::Warning, "sink_rate");
                    Notice::new(&Event::Agent { time_us, level, kind, message }, render)
                }
            };
            // Counted and said there.
            let _ = self.append(&notice);
        }
        self.shared.wake.notify_one();
    }

    /// The number under which it is queued.
    fn append(&self, notice: &Notice) -> Result<u64, String> {
        let Some(queue) = &self.queue else {
            self.shared.dropped(Dropped::Disk, 1);
            return Err("its queue cannot be opened".to_owned());
        };
        match queue.append(&notice.encode()) {
            Ok(Appended::Queued { number, dropped }) => {
                self.shared.dropped(Dropped::QueueFull, dropped);
                Ok(number)
            }
            Ok(Appended::Full) => {
                self.shared.dropped(Dropped::QueueFull, 1);
                Err("its queue is full".to_owned())
            }
            Ok(Appended::TooLarge) => {
                self.shared.dropped(Dropped::TooLarge, 1);
                Err("the event is too large for its queue".to_owned())
            }
            Err(e) => {
                self.shared.dropped(Dropped::Disk, 1);
                Err(format!("its queue cannot be written: {e}"))
            }
        }
    }

    /// What waits in memory goes into the queue.
    fn flush(&mut self, render: &dyn Render) {
        let mut passed = Vec::new();
        self.gate.close(&mut passed);
        self.put(passed, render);
    }
}
