//! The thread that keeps the programs where they are to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;
use weir_core::event::Level;
use weir_kernel::changes::{Changes, Waker, Woken};
use weir_kernel::ethtool::Ethtool;
use weir_kernel::link::{self, Interface};
use weir_kernel::pins::{Capacity, Pins};
use weir_kernel::{Adoption, AttachedMode, Hold, KernelError, Member as Loaded, Options, Programs, Shared};

use super::roster::{Failure, Member, Roster, generic_words, missing_words, unprotected_words};
use super::spares::Spares;
use super::tags::Tags;
use super::{Budget, Change, Counting};
use crate::config::Selection;
use crate::lock::Lock;
use crate::store::lock_interface;

/// How often programs are looked at: whoever takes them off is noticed within that time.
const LOOK: Duration = Duration::from_millis(250);
/// How often interfaces are asked for, whatever the kernel says of changes.
const POLL: Duration = Duration::from_secs(5);
/// Pause behind a change, so that many at once are looked at together.
const TOGETHER: Duration = Duration::from_millis(10);
/// How long until an interface is tried again that could not be attached to; each time twice as long.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(8)];

type Logger = aya_log::EbpfLogger<&'static dyn log::Log>;

/// An interface with programs on it.
pub(super) struct Held {
    programs: Programs,
    logger: Option<Logger>,
    /// Another agent is kept away.
    lock: Lock,
    seen: Interface,
    pub(super) share: u32,
}

/// An interface that is to have programs, and has none.
struct Failed {
    seen: Interface,
    why: String,
    again: Instant,
    wait: Duration,
}

pub(super) struct Keeper {
    pub(super) selection: Selection,
    links: Changes,
    pub roster: Arc<Roster>,
    pub counting: Counting,
    pub(super) claimed: Vec<(Interface, Lock)>,
    pub(super) held: BTreeMap<u32, Held>,
    failed: BTreeMap<u32, Failed>,
    missing: BTreeSet<String>,
    /// Members of bonds that have programs for them.
    covered: BTreeSet<u32>,
    pub(super) options: Options,
    pub(super) budget: Budget,
    pub(super) shared: Option<Arc<Shared>>,
    spares: Option<Spares>,
    news: Option<mpsc::Sender<Change>>,
}

/// Why an interface has no programs.
pub(super) struct Refusal {
    pub(super) failure: Failure,
    pub(super) error: anyhow::Error,
}

impl From<KernelError> for Refusal {
    fn from(e: KernelError) -> Self {
        Self { failure: Failure::of(&e), error: e.into() }
    }
}

impl Keeper {
    /// Locks what is there. What is not named outright may be somebody else's, which is said later.
    pub fn claim(selection: Selection, links: Changes) -> anyhow::Result<Self> {
        let mut keeper = Self {
            links,
            roster: Arc::default(),
            counting: Counting::default(),
            claimed: Vec::new(),
            held: BTreeMap::new(),
            failed: BTreeMap::new(),
            missing: BTreeSet::new(),
            covered: BTreeSet::new(),
            options: Options::default(),
            budget: Budget::new(0, 0, false),
            shared: None,
            spares: None,
            news: None,
            selection,
        };
        let links = link::list().context("cannot ask for the interfaces")?;
        for link in &links {
            if !keeper.wants(link) || keeper.covering(link, &links).is_some() {
                continue;
            }
            match lock(link) {
                Ok(lock) => keeper.claimed.push((link.clone(), lock)),
                Err(e) if keeper.outright(&link.name) => return Err(e),
                Err(e) => keeper.refused(link, Refusal { failure: Failure::Locked, error: e }),
            }
        }
        Ok(keeper)
    }

    /// What becomes of the tags that an interface sees.
    pub(super) fn tags(&self, link: &Interface, ethtool: Option<&Ethtool>) -> Tags {
        let strips = |name: &str| ethtool.is_some_and(|e| e.strips_tags(name).unwrap_or(false));
        match (link.vlan, link.below.and_then(|b| self.held.get(&b))) {
            (Some(_), Some(below)) if strips(&below.seen.name) => Tags::Without,
            (Some(tag), Some(_)) => Tags::Device(tag),
            _ if strips(&link.name) => Tags::Without,
            _ => Tags::AsSeen,
        }
    }

    fn wants(&self, link: &Interface) -> bool {
        self.selection.wants(&link.name, link.loopback)
    }

    /// The bond that it is a part of, where that is to have programs: it runs them for its members, on which the kernel attaches
    /// none.
    fn covering<'l>(&self, link: &Interface, links: &'l [Interface]) -> Option<&'l Interface> {
        let master = link.master.filter(|_| link.in_bond())?;
        links.iter().find(|l| l.index == master && self.wants(l))
    }

    pub(super) fn outright(&self, name: &str) -> bool {
        self.selection.names().any(|n| n == name)
    }

    /// Loads and attaches; the lock is held as long as the programs are.
    pub(super) fn attach(&mut self, link: &Interface, lock: Lock, first: bool) -> Result<Adoption, Refusal> {
        let pins = Pins::of(link.index)?;
        pins.refuse_foreign_xdp(&link.name, link.index)?;
        let (member, share) = self.load(link, pins, first)?;
        let (mut member, mode) = attach(member, link).inspect_err(|_| self.budget.give_back(share))?;
        let logger = member.take_logger(log::logger());
        let mut adoption = member.take_adoption();
        let (epochs, counters, programs) = member.into_parts();
        let tags = self.tags(link, Ethtool::open().ok().as_ref());
        let all = 0..adoption.flows.len();
        tags.change(&mut adoption.flows, all);
        let left = if first { Vec::new() } else { std::mem::take(&mut adoption.flows) };
        self.counting.add(link.index, epochs, tags, left);
        let mut roster = self.roster.look();
        roster.attached += 1;
        let reattached = roster.members.get(&link.index).map_or(0, |m| m.reattached);
        let member = Member {
            name: link.name.as_str().into(),
            up: link.up,
            mtu: link.mtu,
            state: Ok(mode),
            flows: share,
            reattached,
            counters: Some(counters),
        };
        roster.members.insert(link.index, member);
        drop(roster);
        self.failed.remove(&link.index);
        self.held.insert(link.index, Held { programs, logger, lock, seen: link.clone(), share });
        Ok(adoption)
    }

    /// Programs for an interface, and its share of the flows. Those that are loaded ahead are for interfaces without pins.
    fn load(&self, link: &Interface, pins: Pins, first: bool) -> Result<(Loaded, u32), KernelError> {
        let Some(shared) = &self.shared else {
            return Err(KernelError::Load("there are no maps to share".to_owned()));
        };
        if let Some(spares) = self.spares.as_ref().filter(|_| !pins.dir().exists())
            && let Some(mut spare) = spares.take()
        {
            match spare.member.give_to(pins.clone(), &link.name, link.index) {
                Ok(()) => return Ok((spare.member, spare.share)),
                Err(e) => log::warn!("{}: what was loaded ahead cannot be used: {e}", link.name),
            }
            spares.waste(spare);
        }
        let share = self.budget.take(first);
        let capacity = Capacity { flows: share, ..self.options.capacity };
        let options = Options { capacity, ..self.options.clone() };
        let loaded = Loaded::load(pins, &link.name, link.index, options, shared);
        Ok((loaded.inspect_err(|_| self.budget.give_back(share))?, share))
    }

    /// Goes on looking after the interfaces, on a thread of its own.
    pub fn run(mut self, news: mpsc::Sender<Change>) -> anyhow::Result<(Waker, JoinHandle<()>)> {
        self.news = Some(news);
        if let Some(shared) = self.shared.clone().filter(|_| self.selection.has_patterns()) {
            self.spares = Some(Spares::start(shared, self.options.clone(), self.budget.clone())?);
        }
        let waker = self.links.waker();
        let thread = std::thread::Builder::new().name("weir-links".into()).spawn(move || self.keep())?;
        Ok((waker, thread))
    }

    fn keep(mut self) {
        let mut asked: Option<Instant> = None;
        loop {
            let (changed, addresses) = match self.links.wait(LOOK) {
                Ok(Woken::Stopped) => return,
                Ok(Woken::InTime) => (false, false),
                Ok(Woken::Changed { addresses }) => (true, addresses),
                Err(e) => {
                    log::warn!("rtnetlink says nothing of interfaces any more ({e}); they are asked for instead");
                    std::thread::sleep(LOOK);
                    (true, true)
                }
            };
            if addresses && let Some(news) = &self.news {
                // Gone where the agent ends.
                let _ = news.blocking_send(Change { said: None, named: None });
            }
            let lost = self.look();
            let retry = self.failed.values().any(|f| f.again <= Instant::now());
            if changed || lost || retry || asked.is_none_or(|at| at.elapsed() >= POLL) {
                if changed {
                    std::thread::sleep(TOGETHER);
                }
                match link::list() {
                    Ok(links) => self.follow(&links),
                    Err(e) => log::warn!("the interfaces cannot be asked for: {e}"),
                }
                asked = Some(Instant::now());
            }
            for held in self.held.values_mut() {
                held.logger.iter_mut().for_each(Logger::flush);
            }
        }
    }

    fn tell(&self, level: Level, message: String, named: Option<(u32, &str)>) {
        let named = named.map(|(index, name)| (index, name.into()));
        match &self.news {
            // Gone where the agent ends.
            Some(news) => drop(news.blocking_send(Change { said: Some((level, message)), named })),
            // At the start: the event loop says it as soon as it runs.
            None => log::debug!("{message}"),
        }
    }

    /// Whether any interface has lost its programs.
    fn look(&self) -> bool {
        self.held.values().any(|h| h.programs.look() != Hold::Holds)
    }

    /// Makes it so that what is there and wanted has programs, and nothing else has.
    fn follow(&mut self, links: &[Interface]) {
        let there: BTreeMap<u32, &Interface> = links.iter().map(|l| (l.index, l)).collect();
        for index in self.held.keys().copied().collect::<Vec<_>>() {
            match there.get(&index) {
                Some(link) => self.follow_one(link),
                None => self.gone(index),
            }
        }
        let unwanted = |i: &u32| there.get(i).is_none_or(|l| !self.wants(l) || self.covering(l, links).is_some());
        let forgotten: Vec<u32> = self.failed.keys().copied().filter(unwanted).collect();
        for index in forgotten {
            self.failed.remove(&index);
            // Nobody waits for the event loop with the roster in hand.
            let member = self.roster.look().remove(index);
            if let Some(member) = member {
                let words = format!("{} is gone, or called something else; it was not protected", member.name);
                self.tell(Level::Info, words, None);
            }
        }
        let was = std::mem::take(&mut self.covered);
        for link in links {
            if !self.wants(link) || self.held.contains_key(&link.index) {
                continue;
            }
            if let Some(bond) = self.covering(link, links) {
                if !was.contains(&link.index) {
                    let words =
                        format!("{} is a part of the bond {}, whose programs see its packets", link.name, bond.name);
                    self.tell(Level::Info, words, None);
                }
                self.covered.insert(link.index);
            } else if self.is_due(link) {
                self.come(link);
            }
        }
        let ethtool = Ethtool::open().ok();
        for (index, held) in &self.held {
            self.counting.set_tags(*index, self.tags(&held.seen, ethtool.as_ref()));
        }
        self.look_for_the_missing(links);
    }

    /// An interface that could not be attached to is tried again after a while, and when it has changed.
    fn is_due(&self, link: &Interface) -> bool {
        self.failed.get(&link.index).is_none_or(|f| f.again <= Instant::now() || f.seen != *link)
    }

    fn come(&mut self, link: &Interface) {
        let attached = match lock(link) {
            Ok(lock) => self.attach(link, lock, false),
            Err(error) => Err(Refusal { failure: Failure::Locked, error }),
        };
        match attached {
            Ok(_) => {
                let mode = self.mode(link.index);
                let (index, name) = (link.index, &link.name);
                let (level, words) = match &mode {
                    Some(AttachedMode::Generic(cause)) => (Level::Warning, format!("; {}", generic_words("", cause))),
                    _ => (Level::Info, ", native".to_owned()),
                };
                self.tell(level, format!("attached to {name} (ifindex {index}){words}"), Some((index, name)));
            }
            Err(refusal) => self.refused(link, refusal),
        }
    }

    fn mode(&self, index: u32) -> Option<AttachedMode> {
        self.roster.look().members.get(&index).and_then(|m| m.state.as_ref().ok().cloned())
    }

    /// An interface that is to be protected and is not: never silent.
    pub(super) fn refused(&mut self, link: &Interface, Refusal { failure, error }: Refusal) {
        let mut why = format!("{error:#}");
        if link.in_bond() && failure == Failure::Attach {
            why += "; the kernel attaches to a bond as a whole, not to its members: name the bond";
        }
        let now = Instant::now();
        let before = self.failed.get(&link.index);
        let wait = before.map_or(RETRY[0], |f| (f.wait * 2).min(RETRY[1]));
        let said = before.is_some_and(|f| f.why == why);
        let mut roster = self.roster.look();
        roster.failed(failure);
        let member = Member {
            name: link.name.as_str().into(),
            up: link.up,
            mtu: link.mtu,
            state: Err(why.clone()),
            flows: 0,
            reattached: 0,
            counters: None,
        };
        roster.members.insert(link.index, member);
        drop(roster);
        if !said {
            self.tell(Level::Error, unprotected_words(&link.name, &why), None);
        }
        self.failed.insert(link.index, Failed { seen: link.clone(), why, again: now + wait, wait });
    }

    /// What has changed about an interface with programs.
    fn follow_one(&mut self, link: &Interface) {
        let Some(held) = self.held.get_mut(&link.index) else { return };
        let before = std::mem::replace(&mut held.seen, link.clone());
        let hold = held.programs.look();
        if hold == Hold::Moved {
            return self.gone(link.index);
        }
        if before.name != link.name {
            if self.selection.excludes(&link.name) {
                let words = format!("{} is called {} now, which is left out: let go", before.name, link.name);
                self.tell(Level::Warning, words, None);
                return drop(self.let_go(link.index));
            }
            if let Hold::Lost(_) = hold
                && !self.selection.wants(&link.name, link.loopback)
            {
                // Another interface has got its number.
                return self.gone(link.index);
            }
            self.renamed(&before.name, link);
        }
        if let Hold::Lost(what) = hold {
            self.attach_again(link, &what);
        }
        let mut roster = self.roster.look();
        if let Some(member) = roster.members.get_mut(&link.index) {
            (member.up, member.mtu) = (link.up, link.mtu);
        }
        drop(roster);
        if before.mtu != link.mtu {
            let words = format!("the MTU of {} is {} now, and was {}", link.name, link.mtu, before.mtu);
            self.tell(Level::Info, words, None);
        }
        if before.up != link.up {
            let words = if link.up { "up" } else { "down" };
            self.tell(Level::Info, format!("{} is {words}; its programs stay", link.name), None);
        }
    }

    fn renamed(&mut self, before: &str, link: &Interface) {
        let Some(held) = self.held.get_mut(&link.index) else { return };
        if let Err(e) = held.programs.rename(&link.name) {
            log::warn!("the pins of {} still bear its name of before: {e}", link.name);
        }
        if let Some(member) = self.roster.look().members.get_mut(&link.index) {
            member.name = link.name.as_str().into();
        }
        let mut words = format!("{before} is called {} now, and stays protected", link.name);
        let mut level = Level::Info;
        if !self.selection.wants(&link.name, link.loopback) {
            level = Level::Warning;
            words +=
                "; no name and no pattern of the configuration covers that, so the next agent will not look after it";
        }
        self.tell(level, words, Some((link.index, &link.name)));
    }

    /// Somebody took the programs off.
    fn attach_again(&mut self, link: &Interface, what: &str) {
        let Some(held) = self.held.get_mut(&link.index) else { return };
        let mut attached = held.programs.attach();
        // The kernel attaches to nothing above which there are programs. What lies above comes back in this very pass.
        let above = self.held.iter().filter(|(_, h)| h.seen.vlan.is_some() && h.seen.below == Some(link.index));
        let above: Vec<u32> = above.map(|(index, _)| *index).collect();
        if attached.is_err() && !above.is_empty() {
            for (_, name) in above.into_iter().filter_map(|index| self.let_go(index)).collect::<Vec<_>>() {
                let words = format!("{name} is let go for a moment: {} below it comes first", link.name);
                self.tell(Level::Warning, words, None);
            }
            let Some(held) = self.held.get_mut(&link.index) else { return };
            attached = held.programs.attach();
        }
        let mut roster = self.roster.look();
        let member = roster.members.get_mut(&link.index);
        match attached {
            Ok(mode) => {
                let how = match &mode {
                    AttachedMode::Native => "native".to_owned(),
                    AttachedMode::Generic(cause) => format!("generic ({cause})"),
                };
                if let Some(member) = member {
                    member.state = Ok(mode);
                    member.reattached += 1;
                }
                roster.reattached += 1;
                drop(roster);
                let words = format!("{}: {what} by somebody else; attached again, {how}", link.name);
                self.tell(Level::Warning, words, None);
            }
            Err(e) => {
                let why = format!("{what} by somebody else, and cannot be attached again: {e}");
                let said = member.as_ref().is_some_and(|m| m.state.as_ref().err() == Some(&why));
                if let Some(member) = member {
                    member.state = Err(why.clone());
                }
                roster.failed(Failure::of(&e));
                drop(roster);
                if !said {
                    self.tell(Level::Error, unprotected_words(&link.name, &why), None);
                }
            }
        }
    }

    /// An interface is not in this network namespace any more.
    fn gone(&mut self, index: u32) {
        let Some((lives, name)) = self.let_go(index) else { return };
        match lives {
            true => {
                let words = format!("{name} has moved to another network namespace: let go, nothing of Weir is on it");
                self.tell(Level::Warning, words, None);
            }
            false => self.tell(Level::Info, format!("{name} is gone; its programs and pins are removed"), None),
        }
    }

    /// Takes programs and pins away. Says whether the interface lives somewhere, and its name.
    fn let_go(&mut self, index: u32) -> Option<(bool, String)> {
        let Held { programs, seen, share, lock, .. } = self.held.remove(&index)?;
        let lives = programs.interface_lives();
        // What it counts until then is still read.
        if let Err(e) = programs.let_go() {
            log::warn!("{}: what is left of Weir cannot be removed: {e}", seen.name);
        }
        lock.discard();
        self.counting.remove(index);
        self.budget.give_back(share);
        let mut roster = self.roster.look();
        roster.remove(index);
        roster.left += 1;
        Some((lives, seen.name))
    }

    fn look_for_the_missing(&mut self, links: &[Interface]) {
        let missing = |name: &&str| !links.iter().any(|l| l.name == *name);
        let now: BTreeSet<String> = self.selection.names().filter(missing).map(str::to_owned).collect();
        for name in now.difference(&self.missing) {
            self.tell(Level::Error, missing_words(name), None);
        }
        self.roster.look().missing = now.iter().cloned().collect();
        self.missing = now;
    }
}

fn lock(link: &Interface) -> anyhow::Result<Lock> {
    Ok(lock_interface(crate::app::RUN_DIR.as_ref(), &link.name, link.index)?)
}

fn attach(mut member: Loaded, link: &Interface) -> Result<(Loaded, AttachedMode), KernelError> {
    let existed = member.existed();
    let attached = member.attach().and_then(|mode| match member.programs.look() {
        Hold::Holds => Ok(mode),
        Hold::Lost(what) => Err(KernelError::Attach { interface: link.name.clone(), cause: what }),
        Hold::Moved => {
            let cause = "another interface has got its name meanwhile".to_owned();
            Err(KernelError::Attach { interface: link.name.clone(), cause })
        }
    });
    match attached {
        Ok(mode) => Ok((member, mode)),
        Err(e) => {
            // Half an installation helps nobody. What an earlier agent left stays as it is.
            if !existed && let Err(left) = member.into_parts().2.let_go() {
                log::warn!("{}: {left}", link.name);
            }
            Err(e)
        }
    }
}
