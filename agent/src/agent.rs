//! The state of a running agent. Only the event loop touches it; every method here returns quickly.

mod clock;
mod collecting;
mod commands;
mod default_model;
mod feedback;
mod finding;
mod interfaces;
mod learning;
mod listing;
mod looking;
mod measuring;
mod models;
mod recording;
mod report;
mod reviewing;
mod risk;
mod settings;
mod sinking;
#[cfg(test)]
mod soak_tests;
mod storing;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;
use weir_core::addr::{Addr, Prefix};
use weir_core::decision::Decision;
use weir_core::decisions::{Decisions, Limits};
use weir_core::drift::Place;
use weir_core::event::{DecisionChange, Event, Level, Mode};
use weir_core::policy::Verdict;
use weir_core::record::TimeUs;
use weir_kernel::lease::Lease;

use crate::api::access::Access;
use crate::app::RunOptions;
use crate::archive::Archive;
use crate::bus::EventBus;
use crate::clock::{boottime_us, monotonic_ns, wall_us};
use crate::collector::Collector;
use crate::command::{Command, NamedCount, ReloadReport};
use crate::config::{Config, OnStop};
use crate::deciding::{self, Acted, Moment};
use crate::drain::Epoch;
use crate::enforce::Enforcer;
use crate::evidence::gather::Exhibits;
use crate::fleet::{Adopted, Fleet};
use crate::live::Live;
use crate::live::gauge::Gauge;
use crate::logging;
use crate::model::Finished;
use crate::pipeline::{Outcome, Pipeline, PipelineConfig};
use crate::places::Places;
use crate::render::Rendered;
use crate::service;
use crate::sink::Sink;
use crate::sinks::Sinks;
use crate::store::{Alerts, Opened, Saved, State, Store};
use clock::WallClock;
pub use settings::{home, policy, table};
use settings::{host_of, report_words, safe_set};

/// The interfaces with programs, and what is entered there.
pub struct Kernel {
    pub fleet: Fleet,
    pub enforcer: Enforcer,
    pub lease: Lease,
}

/// What an agent begins with.
pub struct Start {
    pub options: RunOptions,
    pub config: Config,
    /// `None`: no interface, so nothing is counted in the kernel or entered there.
    pub kernel: Option<Kernel>,
    pub collector: Option<Collector>,
    pub opened: Opened,
    pub bus: EventBus,
    pub sink: Sink,
    pub finished: mpsc::Sender<Finished>,
    /// Who may use the API.
    pub access: Arc<Access>,
    /// Where those look who want to see what goes on.
    pub live: Arc<Live>,
}

/// How epochs went so far.
#[derive(Clone, Copy, Debug, Default)]
struct Epochs {
    count: u64,
    flows_last: u64,
    drain_last_us: u64,
    drain_max_us: u64,
}

pub struct Agent {
    options: RunOptions,
    config: Config,
    kernel: Option<Kernel>,
    collector: Option<Collector>,
    store: Store,
    state: State,
    decisions: Decisions,
    pipeline: Pipeline,
    bus: EventBus,
    sink: Sink,
    sinks: Sinks,
    finished: mpsc::Sender<Finished>,
    access: Arc<Access>,
    live: Arc<Live>,
    looking: looking::Looking,
    training: Option<learning::Training>,
    models: models::Models,
    /// The default bundle, on its way into service.
    loading: Option<default_model::Loading>,
    /// `None`: its thread could not be started.
    archive: Option<Archive>,
    alerts: Alerts,
    review: reviewing::Review,
    lists: listing::Lists,
    /// Roles that have drifted, as they were told of.
    drifted: BTreeSet<Place>,
    /// Packets that found no room in the flow map, and flows of exporters in the epoch, so far.
    overflow: Option<(u64, u64)>,
    /// Whom decisions were made about in this epoch.
    against: Vec<Prefix>,
    started_us: TimeUs,
    epochs: Epochs,
    measures: measuring::Measures,
    /// What was lost, by name.
    lost: BTreeMap<&'static str, u64>,
    /// What an operator should know, by subject; the latest of each.
    warnings: BTreeMap<&'static str, String>,
    /// The kernel does not hold what is wanted yet.
    unwritten: bool,
    /// Decided, but not read back from the kernel yet.
    unconfirmed: Vec<u64>,
    unsaved: bool,
    saved_us: TimeUs,
    /// Nothing says what was decided before: see [`Opened::incomplete`].
    incomplete: bool,
    wall: WallClock,
    /// Interfaces or their addresses have changed.
    moved: bool,
    /// Storing has failed, and did not work again yet.
    unstored: bool,
}

impl Agent {
    pub fn new(start: Start) -> anyhow::Result<Self> {
        let now = wall_us();
        let config = start.config;
        let Opened { store, mut state, warning, incomplete, alerts } = start.opened;
        let elapsed = state.saved.elapsed_us(&Saved::now()?);
        let next_alert_id = state.next_alert_id;
        let limits = Limits { max: config.capacity.blocks as usize, ..Limits::default() };
        let (decisions, left_out) =
            Decisions::restore(state.take_table(now), limits, safe_set(&config, &start.access), now, elapsed);
        let pipeline = Pipeline::new(PipelineConfig {
            // Identifiers that no earlier run has given.
            table: table(&config, home(&config), now),
            window_us: config.window.as_micros() as u64,
            policy: policy(&config, false),
            next_alert_id,
            drift_seed: watching::drift_seed(),
        });
        store.journal().set_bounds(config.store.bounds());
        let alerts = Alerts::new(store.journal().clone(), alerts);
        let (review, suppressions) = reviewing::Review::restore(state.review.clone(), now, elapsed);
        let sole = config.watched().sole().map(str::to_owned);
        let render = Arc::new(Rendered { interface: sole.clone() });
        let sinks = Sinks::start(config.state_dir.join("sinks"), sole.clone(), render)?;
        sinks.configure(&config.sinks);
        let mut agent = Self {
            options: start.options,
            kernel: start.kernel,
            collector: start.collector,
            store,
            state,
            decisions,
            pipeline,
            bus: start.bus,
            sink: start.sink,
            sinks,
            finished: start.finished,
            access: start.access,
            live: start.live,
            looking: looking::Looking::default(),
            training: None,
            models: models::Models::default(),
            loading: None,
            archive: None,
            alerts,
            review,
            lists: listing::Lists::new(),
            drifted: BTreeSet::new(),
            overflow: None,
            against: Vec::new(),
            started_us: now,
            epochs: Epochs::default(),
            measures: measuring::Measures::new(),
            lost: BTreeMap::new(),
            warnings: BTreeMap::new(),
            unwritten: true,
            unconfirmed: Vec::new(),
            unsaved: true,
            saved_us: 0,
            incomplete,
            wall: WallClock::new(now, boottime_us()),
            moved: false,
            unstored: false,
            config,
        };
        agent.pipeline.all_flows = agent.config.log.flows;
        agent.pipeline.stopwatch = || Duration::from_nanos(monotonic_ns());
        agent.pipeline.suppressions = suppressions;
        agent.pipeline.exhibits = Some(Exhibits::default());
        agent.pipeline.gauge = Some(Gauge::default());
        agent.access.web().configure(agent.config.web.clone());
        for d in left_out {
            agent.decided(
                now,
                DecisionChange::Expired,
                d,
                "it ended while no agent ran, or is protected now".to_owned(),
            );
        }
        agent.pipeline.places = Places::only(sole.as_deref());
        agent.tell_of_the_interfaces(now);
        if let Some(warning) = warning {
            agent.warn("state", warning);
        }
        agent.pipeline.policy.recall(agent.decisions.iter());
        agent.restore_lists(now);
        agent.tell_of_the_collector(now);
        agent.start_record();
        agent.load_current();
        agent.resume_challenge();
        Ok(agent)
    }

    /// Takes over what an earlier agent left in the kernel, and writes what is wanted.
    pub fn adopt(&mut self, adoption: Adopted) -> anyhow::Result<()> {
        let now = self.now();
        if adoption.existed {
            let mut words = format!("took over {} entries", adoption.entries);
            if !adoption.resized.is_empty() {
                words += &format!(", replaced the maps {} by ones of another size", adoption.resized.join(", "));
            }
            if adoption.half_drained > 0 {
                words += &format!(
                    ", and {} flows of an epoch that the agent before had not finished draining",
                    adoption.half_drained
                );
            }
            self.news(now, Level::Info, "adopted", words);
        }
        let offset = crate::drain::offset_us();
        let end_us = monotonic_ns() / 1000;
        let outcome =
            self.pipeline.epoch_on(&adoption.flows, &adoption.parts, Vec::new(), end_us, offset, &self.decisions);
        self.carry_out(now, outcome);
        self.find_in_kernel(now);
        if let Some(Kernel { enforcer, .. }) = &mut self.kernel {
            enforcer.reconcile(&mut self.decisions, self.config.mode, now, true)?;
            enforcer.remember_hits(&self.decisions, now)?;
        }
        self.unwritten = false;
        Ok(())
    }

    /// One epoch from the kernel, and what exporters told of meanwhile.
    pub fn epoch(&mut self, epoch: &Epoch) {
        let began = Instant::now();
        self.measures.drained(epoch);
        let now = self.at_epoch(epoch);
        let drain_us = (epoch.report.settle + epoch.report.read).as_micros() as u64;
        self.epochs.count += 1;
        self.epochs.flows_last = epoch.report.flows as u64;
        self.epochs.drain_last_us = drain_us;
        self.epochs.drain_max_us = self.epochs.drain_max_us.max(drain_us);
        let exported = self.collector.as_mut().map(Collector::take).unwrap_or_default();
        if let Some(why) = self.overflowed() {
            self.pipeline.degraded = Some(why);
        }
        let (end_us, offset_us) = (epoch.report.end_us, epoch.wall_offset_us);
        let mut outcome =
            self.pipeline.epoch_on(&epoch.flows, &epoch.parts, exported, end_us, offset_us, &self.decisions);
        epoch.gone.iter().for_each(|interface| self.pipeline.forget_interface(*interface));
        let took = outcome.took;
        self.pass_to_challenger(now, outcome.scored.take());
        self.carry_out(now, outcome);
        self.default_arrived(now);
        self.learn(now);
        self.expire(now);
        self.lapse_questions(now);
        self.look_at_lists(now);
        self.look_at_hits(now);
        // The next agent removes what it does not know of: a new decision must not wait.
        let new = !self.unconfirmed.is_empty();
        let writing = Instant::now();
        self.write(now);
        let enforced = writing.elapsed();
        self.save(now, new);
        if let Some(kernel) = &self.kernel {
            kernel.lease.beat();
        }
        self.measures.epoch_since(began);
        self.trace(epoch, began, took, (writing, enforced));
    }

    fn carry_out(&mut self, now: TimeUs, mut outcome: Outcome) {
        self.measures.pipeline(&outcome.took);
        self.record(now, &mut outcome);
        self.tell_of_drift(now, &outcome);
        self.note_evidence(now, &outcome.against);
        for event in outcome.events {
            self.publish(event);
        }
        if let Some(why) = outcome.failed {
            *self.lost.entry("epochs not scored").or_default() += 1;
            self.warn("scoring", format!("flows of an epoch were not scored: {why}"));
        }
        if outcome.evicted > 0 {
            *self.lost.entry("flows ended early (table full)").or_default() += outcome.evicted;
        }
        for (source, verdict) in outcome.verdicts {
            self.act(now, source, verdict);
        }
    }

    /// Carries out what the policy says about a source.
    fn act(&mut self, now: TimeUs, source: Addr, mut verdict: Verdict) {
        if verdict.tripped {
            let limit = self.config.policy.max_decisions_per_hour;
            self.warn(
                "breaker",
                format!("{limit} automatic decisions within an hour: from now on shadow entries only"),
            );
        }
        if verdict.flooded {
            let limit = self.config.policy.max_decisions_per_hour;
            self.warn(
                "flood",
                format!(
                    "{limit} alerts within an hour about sources that proved nothing: more of them are only counted, names cost a \
                     forger nothing"
                ),
            );
        }
        let at = self.moment(now);
        let question = verdict.question.take();
        let proves = verdict.alert.is_some() || verdict.decision.is_some();
        let acted = deciding::act(&mut self.decisions, at, source, verdict);
        if proves {
            self.prove(now, source, &acted);
        }
        self.follow(acted);
        if let Some(question) = question {
            self.ask_person(now, question);
        }
    }

    fn moment(&self, now: TimeUs) -> Moment {
        Moment { now, mode: self.mode() }
    }

    /// Tells what was done, and remembers what the kernel and the state on disk lack now.
    fn follow(&mut self, acted: Acted) {
        self.unwritten |= acted.changed;
        self.unconfirmed.extend(acted.new);
        for event in acted.events {
            self.unsaved |= matches!(event, Event::Alert(_) | Event::Decision { .. });
            match event {
                Event::Agent { time_us, level, kind, message } => self.news(time_us, level, kind, message),
                event => {
                    if let Event::Alert(alert) = &event {
                        self.keep_alert(alert);
                    }
                    self.publish(event);
                }
            }
        }
    }

    fn expire(&mut self, now: TimeUs) {
        let at = self.moment(now);
        let acted = deciding::expire(&mut self.decisions, at);
        self.follow(acted);
    }

    fn look_at_hits(&mut self, now: TimeUs) {
        let Some(Kernel { enforcer, .. }) = &mut self.kernel else { return };
        let met = match enforcer.new_hits(&self.decisions, now) {
            Ok(met) => met,
            Err(e) => return self.warn("hits", format!("hit counters could not be read: {e}")),
        };
        for h in met {
            self.publish(Event::Hits {
                time_us: now,
                decision_id: h.decision_id,
                target: h.target,
                action: h.action,
                packets: h.total.packets,
                bytes: h.total.bytes,
            });
            let at = self.moment(now);
            let acted = deciding::met(&mut self.decisions, at, h.decision_id, h.packets);
            self.follow(acted);
        }
    }

    /// Makes the kernel hold what is wanted, and confirms what is new from the kernel itself.
    fn write(&mut self, now: TimeUs) {
        let Some(Kernel { enforcer, .. }) = &mut self.kernel else { return };
        if self.unwritten {
            let pass = enforcer.reconcile(&mut self.decisions, self.config.mode, now, false);
            self.measures.reconciled(pass.as_ref());
            match pass {
                Ok(_) => self.unwritten = false,
                // The next epoch tries again.
                Err(e) => return self.warn("entries", format!("entries could not be written: {e}")),
            }
        }
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        let held: Vec<_> = unconfirmed
            .into_iter()
            .filter_map(|id| self.decisions.get(id).cloned())
            .map(|d| (enforcer.holds(d.target), d))
            .collect();
        for (held, d) in held {
            let id = d.id;
            match held {
                Ok(true) => self.decided(now, DecisionChange::Enforced, d, String::new()),
                Ok(false) if self.config.mode == Mode::Observe => {}
                Ok(false) => self.warn("entries", format!("the kernel does not hold the entry of decision {id}")),
                Err(e) => self.warn("entries", format!("the entry of decision {id} could not be read back: {e}")),
            }
        }
    }

    /// Every half minute: entries are read back, and the host is asked who must stay reachable.
    pub fn care(&mut self) {
        let now = self.now();
        // Even where nothing changes: after a reboot, what was left then is what is stored of a lifetime.
        self.unsaved = true;
        self.follow_surroundings(now);
        self.look_at_exporters();
        let Some(Kernel { enforcer, .. }) = &mut self.kernel else { return };
        let pass = enforcer.reconcile(&mut self.decisions, self.config.mode, now, true);
        self.measures.reconciled(pass.as_ref());
        match pass {
            Ok(pass) => {
                self.unwritten = false;
                if pass.drift > 0 {
                    *self.lost.entry("entries changed by others").or_default() += pass.drift as u64;
                    self.warn(
                        "drift",
                        format!("{} entries in the kernel had been changed by others; repaired", pass.drift),
                    );
                }
            }
            Err(e) => self.warn("entries", format!("entries could not be read back: {e}")),
        }
    }

    fn set_safe(&mut self, now: TimeUs) {
        let lifted = self.decisions.set_safe(safe_set(&self.config, &self.access));
        self.unwritten |= !lifted.is_empty();
        for d in lifted {
            self.decided(now, DecisionChange::Deleted, d, "it reaches into the safe set".to_owned());
        }
    }

    pub fn command(&mut self, command: Command) {
        self.now();
        let command = storing::audited(self.store.journal(), command);
        commands::carry_out(self, command);
        let now = self.now();
        self.write(now);
        self.save(now, false);
    }

    /// SIGHUP: the log file may have been rotated, and the configuration changed.
    pub fn hangup(&mut self) {
        self.sink.reopen();
        self.sinks.reopen();
        match self.reload() {
            Ok(report) => self.news(wall_us(), Level::Info, "reloaded", report_words(&report)),
            Err(e) => self.warn("config", format!("the configuration was not reloaded: {e:#}")),
        }
    }

    /// Reads the configuration again and brings into force what can be.
    fn reload(&mut self) -> anyhow::Result<ReloadReport> {
        let _told = service::Reloading::begin();
        let new = self.options.load()?;
        // Nothing is in force of a configuration whose certificates cannot be used.
        let tls = new.api.tls.as_ref().filter(|_| !self.config.api.listen.is_empty());
        self.access.set_tls(tls).context("`api.tls`")?;
        let needs_restart: Vec<String> = self.config.diff_needs_restart(&new).into_iter().map(str::to_owned).collect();
        let merged = self.config.reloaded(&new);
        let applied = self.config.diff(&merged).into_iter().map(|k| k.path.to_owned()).collect();
        self.config = merged;
        let config = &self.config;
        logging::set_level(config.log.level);
        self.access.web().configure(config.web.clone());
        self.sink.configure(config.log.events.clone(), config.log.flows);
        self.sinks.configure(&config.sinks);
        self.pipeline.all_flows = config.log.flows;
        self.pipeline.set_home(home(config));
        self.configure_record();
        let config = &self.config;
        self.store.journal().set_bounds(config.store.bounds());
        if let Some(collector) = &self.collector {
            collector.configure(&config.netflow, home(config));
        }
        if let Some(kernel) = &self.kernel {
            kernel.lease.set(config.lease.lapse, config.lease.timeout);
        }
        let promoted = self.pipeline.policy.config().promoted;
        self.pipeline.policy.set_config(policy(config, promoted));
        self.follow_default();
        let now = self.now();
        self.set_safe(now);
        self.configure_feeds();
        self.unwritten = true;
        // In force before it is said to be.
        self.settle(now);
        Ok(ReloadReport { applied, needs_restart })
    }

    /// The last words: what is alive is recorded, and everything is stored. Says what is to become of the kernel's part.
    pub fn close(mut self) -> OnStop {
        let now = self.now();
        let exported = self.collector.take().map(Collector::stop).unwrap_or_default();
        let outcome = self.pipeline.flush(exported, now, &self.decisions);
        self.carry_out(now, outcome);
        self.write(now);
        self.save(now, true);
        self.lists.close();
        if let Some(archive) = self.archive.take() {
            archive.close();
        }
        self.sinks.close();
        self.sink.close();
        self.config.on_stop
    }

    /// What somebody is about to be told holds from now on: in the kernel, and over a kill at any moment.
    fn settle(&mut self, now: TimeUs) {
        self.look_at_lists(now);
        self.write(now);
        self.save(now, self.unsaved);
    }

    /// A model serves as if it had been learned and promoted here.
    #[cfg(test)]
    pub(crate) fn serve_promoted(&mut self, model: crate::pipeline::Model) {
        self.pipeline.take_recorder();
        self.pipeline.serve(model);
        self.pipeline.policy.set_config(policy(&self.config, true));
    }

    fn mode(&self) -> Mode {
        self.pipeline.policy.config().effective_mode()
    }

    fn decided(&mut self, time_us: TimeUs, change: DecisionChange, decision: Decision, note: String) {
        self.unsaved = true;
        if change == DecisionChange::Added {
            self.against.push(decision.target.prefix());
        }
        let mode = self.mode();
        self.publish(Event::Decision { time_us, change, decision: Box::new(decision), mode, note });
    }

    fn publish(&self, event: Event) {
        let event = Arc::new(event);
        self.measures.tally.event(&event);
        self.remember(&event);
        self.sinks.write(&event);
        self.sink.write(event.clone());
        self.bus.publish(event);
    }

    fn news(&self, time_us: TimeUs, level: Level, kind: &'static str, message: String) {
        let to = match level {
            Level::Info => log::Level::Info,
            Level::Warning => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        log::log!(to, "{message}");
        self.publish(Event::Agent { time_us, level, kind, message });
    }

    /// Something that an operator should know; it stays in the status.
    pub fn warn(&mut self, subject: &'static str, message: String) {
        if self.warnings.get(subject) != Some(&message) {
            self.news(wall_us(), Level::Warning, subject, message.clone());
        }
        self.warnings.insert(subject, message);
    }

    fn losses(&self) -> Vec<NamedCount> {
        let mut all = self.all_losses();
        all.extend(self.store.journal().lost());
        all.into_iter().filter(|(_, c)| *c > 0).map(|(n, count)| NamedCount { name: n.to_owned(), count }).collect()
    }

    /// What is counted as lost, also where none was; the store's rows are apart.
    fn all_losses(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.lost.clone();
        all.insert("events not written to the log", self.sink.lost());
        all.insert("events missed by slow watchers", self.bus.missed());
        all.insert("flows not recorded", self.archive.as_ref().map_or(0, Archive::lost));
        all.extend(self.access.tracer.lost().map(|n| ("spans that no collector took", n)));
        all.insert("sources forgotten to make room", self.pipeline.evidence().evicted());
        all.insert("alerts about unproven sources, only counted", self.pipeline.policy.unalerted());
        all.insert("automatic decisions held back", self.pipeline.policy.held_back());
        all
    }
}
