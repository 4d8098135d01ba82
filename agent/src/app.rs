//! The agent's wiring: start, one event loop, stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use weir_core::event::Mode;
use weir_kernel::pins::Pins;
use weir_kernel::{datapath, link};

use crate::agent::{self, Agent, Kernel, Start};
use crate::api::access::Access;
use crate::api::{self, ControlSocket, Doors};
use crate::bus::EventBus;
use crate::clock::wall_us;
use crate::collector::Collector;
use crate::command::{self, Command};
use crate::config::{Config, ConfigError, DEFAULT_PATH, OnStop, Selector, XdpChoice};
use crate::drain::{self, Drainer, Epoch};
use crate::enforce::Enforcer;
use crate::fleet::{self, Fleet};
use crate::model::Finished;
use crate::render::Rendered;
use crate::sink::Sink;
use crate::store::{Store, lock_interface};
use crate::traces::Tracer;
use crate::{logging, metrics, model, service};

/// Events that the slowest subscriber may be behind.
const BUS: usize = 4096;
/// Where interface locks lie.
pub const RUN_DIR: &str = "/run/weir";
/// How often the kernel's entries are read back, and the host is asked who must stay reachable.
const CARE: Duration = Duration::from_secs(30);
/// How often the collector is emptied, whatever the length of an epoch.
const COLLECT: Duration = Duration::from_millis(200);

/// How often rates are noted.
const SECOND: Duration = Duration::from_secs(1);

/// What the command line says about `weir run`; it goes before the configuration file, at a reload too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunOptions {
    /// `None`: the default path, which may be missing.
    pub config: Option<PathBuf>,
    /// Instead of those of the file.
    pub interfaces: Vec<Selector>,
    pub mode: Option<Mode>,
    /// Where to collect NetFlow and IPFIX.
    pub netflow: Option<SocketAddr>,
    pub state_dir: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub log_level: Option<log::LevelFilter>,
}

impl RunOptions {
    /// Reads the file and applies what the command line says. Afterwards there is an interface, or a collector, or both.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        if !self.interfaces.is_empty() {
            config.watch(&self.interfaces);
        }
        if let Some(mode) = self.mode {
            config.mode = mode;
        }
        if let Some(listen) = self.netflow {
            (config.netflow.enabled, config.netflow.listen) = (true, listen);
        }
        if let Some(dir) = &self.state_dir {
            config.state_dir.clone_from(dir);
        }
        if let Some(socket) = &self.socket {
            config.socket.clone_from(socket);
        }
        if let Some(level) = self.log_level {
            config.log.level = level;
        }
        if config.watched().is_empty() && !config.netflow.enabled {
            return Err(ConfigError::NoInterface(self.config.clone().unwrap_or_else(|| DEFAULT_PATH.into())));
        }
        Ok(config)
    }
}

/// Runs the agent until it is told to stop.
pub fn run(options: RunOptions) -> anyhow::Result<ExitCode> {
    let config = options.load()?;
    logging::init(config.log.level, config.log.to);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(start(options, config))?;
    // A training that is under way must not hold up the end.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

fn collect(config: &Config) -> anyhow::Result<Option<Collector>> {
    let netflow = &config.netflow;
    if !netflow.enabled {
        return Ok(None);
    }
    let collector = Collector::start(netflow, agent::home(config), config.capacity.flows as usize);
    collector.map(Some).with_context(|| {
        format!("cannot collect NetFlow on {}; another program may listen there (`ss -ulpn`)", netflow.listen)
    })
}

async fn start(options: RunOptions, config: Config) -> anyhow::Result<()> {
    let watched = config.watched();
    let claimed = (!watched.is_empty()).then(|| Fleet::claim(watched.clone())).transpose()?;
    let opened = Store::open(&config.state_dir, wall_us())?;
    if let Some(parent) = config.socket.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let doors = open_doors(&config).await?;
    let access = doors.access.clone();
    let live = doors.live.clone();
    let collector = collect(&config)?;
    let (metrics, unserved) = measure(&config).await;
    let started = claimed.map(|claimed| claimed.start(&config)).transpose()?;
    let roster = started.as_ref().map(|s| s.fleet.roster.clone());
    let (kernel, counting, changes) = match started {
        Some(fleet::Started { fleet, entries, lease, adopted, changes }) => {
            let counting = fleet.counting.clone();
            let kernel = Kernel { fleet, enforcer: Enforcer::new(entries), lease };
            (Some(kernel), Some((counting, adopted)), Some(changes))
        }
        None => (None, None, None),
    };

    let bus = EventBus::new(BUS);
    let render = Arc::new(Rendered { interface: watched.sole().map(str::to_owned) });
    let sink = Sink::start(config.log.events.clone(), config.log.flows, render.clone())?;
    let (finished_tx, finished) = mpsc::channel(4);
    let collects = collector.is_some();
    let mut agent = Agent::new(Start {
        options,
        config: config.clone(),
        kernel,
        collector,
        opened,
        bus: bus.clone(),
        sink,
        finished: finished_tx,
        access: access.clone(),
        live,
    })?;
    if let Some(why) = unserved {
        agent.warn("metrics", why);
    }
    let (drainer, epochs) = match counting {
        Some((counting, adopted)) => {
            agent.adopt(adopted)?;
            Drainer::start(move |counts| counting.drain(counts), config.epoch)?
        }
        None => Drainer::start(drain::nothing, config.epoch)?,
    };

    let lists = agent.feeds();
    let (commands_tx, commands) = command::queue();
    let metrics = metrics.map(|m| tokio::spawn(m.run(commands_tx.clone(), access.calls.clone())));
    let (stop_api, api_stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(api::serve(doors, commands_tx, bus, render, async move {
        // A dropped sender means stop as well.
        let _ = api_stopped.await;
    }));
    let on = if watched.is_empty() { "exported flows alone".to_owned() } else { agent.interfaces() };
    log::info!("running on {on}; control socket {}", config.socket.display());
    service::ready(&format!("running on {on}, mode {}", config.mode.name()));

    let end = event_loop(&mut agent, &drainer, Inputs { epochs, commands, finished, lists, changes, collects }).await;
    drop(drainer);
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    let _ = stop_api.send(());
    if let Ok(Err(e)) = server.await {
        log::warn!("the control socket: {e}");
    }
    let on_stop = agent.close();
    let all = match watched.sole() {
        Some(interface) => format!("-i {interface}"),
        None => "--all".to_owned(),
    };
    match roster {
        // Asked to stop, and not fallen over: what failed goes on enforcing.
        Some(roster) if on_stop == OnStop::Unload && end.is_ok() => {
            for (ifindex, member) in roster.look().members.iter().filter(|(_, m)| m.state.is_ok()) {
                datapath::unload(&Pins::of(*ifindex)?)?;
                log::info!(
                    "the programs are off {}, and nothing is blocked there any more (`on_stop: unload`)",
                    member.name
                );
            }
            fleet::remove_orphans();
            log::info!("stopped");
        }
        Some(_) => log::info!(
            "stopped; what is blocked stays blocked until it expires (`weir unload {all}` removes everything)"
        ),
        None => log::info!("stopped"),
    }
    end
}

/// Where metrics will be served; or why they will not, which is no reason to protect nobody.
async fn measure(config: &Config) -> (Option<metrics::Server>, Option<String>) {
    if !config.metrics.enabled {
        return (None, None);
    }
    let at = config.metrics.listen.0;
    match metrics::Server::bind(at).await {
        Ok(server) => (Some(server), None),
        Err(e) => {
            let words = format!(
                "metrics are not served: cannot listen on {at}: {e}; name another address with `metrics.listen`, or turn them off \
                 with `metrics.enabled: false`"
            );
            (None, Some(words))
        }
    }
}

/// The control socket, and TCP where it is configured.
async fn open_doors(config: &Config) -> anyhow::Result<Doors> {
    let tracer = match &config.tracing.otlp {
        Some(url) => Tracer::to(url, config.tracing.ca_file.as_deref())
            .map_err(|e| anyhow::anyhow!("`tracing.otlp` {url}: {e}"))?,
        None => Tracer::default(),
    };
    let access = Access::new(config.group.as_deref(), config.read_group.as_deref())?.traced(tracer);
    let listen: Vec<SocketAddr> = config.api.listen.iter().map(|l| l.0).collect();
    if !listen.is_empty() {
        access.set_tls(config.api.tls.as_ref()).context("`api.tls`")?;
    }
    let socket = ControlSocket::bind_for(&config.socket, config.group.as_deref(), config.read_group.is_some())?;
    let mut doors = Doors::open(socket, &listen, Arc::new(access)).await?;
    doors.web = config.web.enabled.then(|| config.web.clone());
    Ok(doors)
}

struct Inputs {
    epochs: mpsc::Receiver<Result<Epoch, weir_kernel::KernelError>>,
    commands: mpsc::Receiver<Command>,
    finished: mpsc::Receiver<Finished>,
    /// Lists that feeds bring.
    lists: Option<mpsc::Receiver<crate::lists::Arrived>>,
    /// About interfaces.
    changes: Option<mpsc::Receiver<fleet::Change>>,
    /// There is a collector to be emptied.
    collects: bool,
}

async fn event_loop(agent: &mut Agent, drainer: &Drainer, mut inputs: Inputs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut care = tokio::time::interval(CARE);
    care.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut collect = tokio::time::interval(COLLECT);
    collect.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut second = tokio::time::interval(SECOND);
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watchdog = service::watchdog_interval().map(tokio::time::interval);
    let mut stopping = false;
    loop {
        tokio::select! {
            epoch = inputs.epochs.recv() => match epoch {
                Some(Ok(epoch)) => {
                    agent.epoch(&epoch);
                    drainer.recycle(epoch.flows);
                }
                Some(Err(e)) => agent.drain_failed(&e),
                // The last epoch is in.
                None => return if stopping { Ok(()) } else { anyhow::bail!("the thread that reads the kernel's counts ended") },
            },
            Some(command) = inputs.commands.recv(), if !stopping => agent.command(command),
            Some(finished) = inputs.finished.recv() => agent.finished(finished),
            Some(list) = next(&mut inputs.lists), if !stopping => agent.list_arrived(list),
            _ = care.tick() => agent.care(),
            _ = collect.tick(), if inputs.collects => agent.collect(),
            _ = second.tick() => agent.second(),
            Some(change) = next(&mut inputs.changes) => agent.interface_changed(change),
            // Of this loop and no other thread: one that hangs is to be noticed.
            () = due(&mut watchdog) => service::alive(),
            _ = hangup.recv() => agent.hangup(),
            _ = terminate.recv(), if !stopping => { stopping = true; service::stopping(); drainer.stop(); }
            _ = interrupt.recv(), if !stopping => { stopping = true; service::stopping(); drainer.stop(); }
        }
    }
}

/// The next tick; never where there is no interval.
async fn due(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Never ends where nothing comes from there.
async fn next<T>(from: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match from {
        Some(from) => from.recv().await,
        None => std::future::pending().await,
    }
}

/// What the configuration says about the kernel side.
pub fn kernel_options(config: &Config) -> datapath::Options {
    datapath::Options {
        capacity: capacity(config),
        xdp: match config.xdp.mode {
            XdpChoice::Auto => weir_kernel::XdpMode::Auto,
            XdpChoice::Native => weir_kernel::XdpMode::Native,
            XdpChoice::Generic => weir_kernel::XdpMode::Generic,
        },
        ..datapath::Options::default()
    }
}

/// Sizes of the kernel maps. The default number of flows gives way where it would take more than 2% of the memory.
pub fn capacity(config: &Config) -> weir_kernel::pins::Capacity {
    let c = &config.capacity;
    let mut capacity = weir_kernel::pins::Capacity { flows: c.flows, blocks: c.blocks, allows: c.allow };
    if c.flows == Config::default().capacity.flows
        && let Some(memory) = total_memory()
    {
        capacity.flows = fitting(capacity, memory);
    }
    capacity
}

/// Flows per epoch, at most as configured, of which two epochs take at most 2% of `memory` bytes.
fn fitting(capacity: weir_kernel::pins::Capacity, memory: u64) -> u32 {
    const LEAST: u32 = 4096;
    let both = weir_kernel::pins::flow_bytes(&capacity);
    let share = memory / 50;
    if both <= share {
        return capacity.flows;
    }
    let fits = u128::from(capacity.flows) * u128::from(share) / u128::from(both.max(1));
    (fits as u32).max(LEAST.min(capacity.flows))
}

/// Memory of this machine, bytes.
fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What `weir unload` removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnloadScope {
    Interface(String),
    /// Every interface of this network namespace.
    All,
}

/// Detaches the kernel programs and removes their pins.
pub fn unload(scope: UnloadScope) -> anyhow::Result<ExitCode> {
    let pins = match &scope {
        UnloadScope::Interface(name) => vec![Pins::of(link::index_of(name)?)?],
        UnloadScope::All => Pins::all_here()?,
    };
    let mut removed = 0;
    fleet::remove_orphans();
    for pins in pins {
        if !pins.dir().exists() || pins.spare_of().is_some() {
            continue;
        }
        let ifindex = pins.ifindex().unwrap_or_default();
        let name = match pins.meta()?.map(|meta| weir_kernel::pins::interface_name(&meta)).filter(|n| !n.is_empty()) {
            Some(name) => name,
            // A start that was killed had not written it yet, or another version keeps it elsewhere.
            None => format!("the interface with index {ifindex}"),
        };
        // An agent that runs would be left without its maps.
        let _lock = lock_interface(RUN_DIR.as_ref(), &name, ifindex)?;
        datapath::unload(&pins)?;
        println!("{name}: programs detached, pins removed; nothing is blocked any more");
        removed += 1;
    }
    if removed == 0 {
        let what = match scope {
            UnloadScope::Interface(name) => format!("on {name}"),
            UnloadScope::All => "on any interface of this network namespace".to_owned(),
        };
        println!("nothing of Weir is loaded {what}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The hidden subcommand behind [`model::check`]: loads a bundle and says whether it may serve.
pub fn check_bundle(dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    // One message: it names its causes already.
    model::load_here(dir).map_err(|e| anyhow::anyhow!(e.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_number_of_flows_gives_way_on_a_small_machine() {
        let capacity = capacity(&Config::default());
        let default = weir_kernel::pins::Capacity { flows: Config::default().capacity.flows, ..capacity };
        assert_eq!(fitting(default, 64 << 30), default.flows);
        let small = fitting(default, 1 << 30);
        let taken = weir_kernel::pins::flow_bytes(&weir_kernel::pins::Capacity { flows: small, ..default });
        assert!(small < default.flows && taken <= (1 << 30) / 50 + (1 << 20), "{small} flows take {taken} bytes");
        assert_eq!(fitting(default, 1 << 20), 4096);
        assert!(total_memory().is_some_and(|m| m > 1 << 20));
    }
}
