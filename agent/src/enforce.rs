//! The reconciler: makes the kernel's entries equal to the wanted state, and reads them back.

mod course;

use std::collections::HashMap;

use weir_common::entry::{self, Entry, FOREVER, Hits};
use weir_common::flow::v4_mapped;
use weir_common::limit::Limit;
use weir_core::addr::{Addr, Prefix};
use weir_core::decision::{Action, Flow, Origin, Sides, Target};
use weir_core::decisions::{Decisions, Held, NewDecision, Touched};
use weir_core::event::Mode;
use weir_core::rate::RateLimit;
use weir_core::record::TimeUs;
use weir_kernel::KernelError;
use weir_kernel::lists::{Difference, EntryTable, Key, List};

use course::Courses;
pub use course::{HitCourse, STEP_US as HIT_STEP_US};

/// Expiries that differ by less than this are the same, ns: clocks are read twice.
const EXPIRY_SLACK_NS: u64 = 500_000_000;
/// Entries whose hit counters are read in one go; more take turns.
const HITS_AT_ONCE: usize = 10_000;
/// So many changes are made by replacing the list as a whole.
const AT_ONCE: usize = 4096;

/// What a pass over the entries did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub written: usize,
    pub removed: usize,
    /// Entries that were not in the kernel as they had been written: somebody else touched the maps.
    pub drift: usize,
}

/// Packets that an entry met since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHits {
    pub decision_id: u64,
    pub target: Target,
    pub action: Action,
    /// Since the last look.
    pub packets: u64,
    /// Since the entry was made.
    pub total: Hits,
}

/// What an earlier agent left in the kernel.
#[derive(Debug, Default)]
pub struct Found {
    pub blocked: Vec<NewDecision>,
    pub allowed: Vec<(Prefix, Option<u64>)>,
    /// Entries that mean nothing to this version.
    pub unknown: usize,
}

#[derive(Debug)]
pub struct Enforcer {
    table: EntryTable,
    /// Hits when last looked, and when any came that were seen to come, by target; only where there are any.
    seen: HashMap<Target, (Hits, Option<TimeUs>)>,
    courses: Courses,
    /// Whose hits were looked at last; more than [`HITS_AT_ONCE`] take turns.
    turn: Option<Target>,
    /// The mode in which every entry was last compared with what is wanted; `None`: some may be missing.
    whole: Option<Mode>,
}

impl Enforcer {
    pub fn new(table: EntryTable) -> Self {
        Self { table, seen: HashMap::new(), courses: Courses::default(), turn: None, whole: None }
    }

    /// Takes the hits that adopted entries have for old ones: they came while an earlier agent ran, or none.
    pub fn remember_hits(&mut self, decisions: &Decisions, now: TimeUs) -> Result<(), KernelError> {
        for w in decisions.wanted(now) {
            let total = self.table.hits(List::Block, &key_of(w.target))?;
            if total.packets > 0 {
                self.seen.insert(w.target, (total, None));
            }
        }
        Ok(())
    }

    /// Entries in the kernel: block, allow.
    pub fn entries(&self) -> [usize; 2] {
        [self.table.len(List::Block), self.table.len(List::Allow)]
    }

    /// Makes the kernel hold what is wanted. With `read_back`, what it really holds is looked at; otherwise, what was
    /// written. `mode` is the configured one: in `observe` nothing is on the block list, in `shadow` nothing drops.
    ///
    /// Where only single targets have changed, only those are looked at; where much has, the block list is replaced in one
    /// step, so that each packet meets the old one or the new one.
    pub fn reconcile(
        &mut self,
        decisions: &mut Decisions,
        mode: Mode,
        now: TimeUs,
        read_back: bool,
    ) -> Result<Pass, KernelError> {
        let touched = decisions.take_touched();
        let few = self.whole == Some(mode) && !read_back && !touched.all && touched.targets.len() <= AT_ONCE;
        // Until this pass is through, something may be missing.
        self.whole = None;
        let pen = Pen { mode, now, monotonic_ns: crate::clock::monotonic_ns() };
        let mut pass = Pass::default();
        if read_back {
            pass.drift = self.repair()?;
        }
        let allowed = pen.allowed(decisions);
        let (allow_gone, allow_set) = self.compare_allowed(&allowed);
        let block = if few { self.compare_few(decisions, &pen, &touched) } else { self.compare(decisions, &pen) };
        // Who may pass comes first, then who may not any more, then who must not.
        self.table.set(List::Allow, &allow_set)?;
        let (written, removed) = self.write_blocks(block)?;
        self.table.remove(List::Allow, &allow_gone)?;
        pass.written = allow_set.len() + written;
        pass.removed = allow_gone.len() + removed;
        if !few {
            self.seen.retain(|target, _| decisions.wanted_on(*target, now).is_some());
            self.courses.retain(|target| decisions.has_single(target));
        }
        self.whole = Some(mode);
        Ok(pass)
    }

    fn compare_allowed(&self, allowed: &HashMap<Key, Entry>) -> (Vec<Key>, Vec<(Key, Entry)>) {
        let known = self.table.len(List::Allow);
        let there = allowed.keys().filter(|k| self.table.known_entry(List::Allow, k).is_some()).count();
        let mut gone = Vec::new();
        if there < known {
            let listed = self.table.known().filter(|(l, ..)| *l == List::Allow).map(|(_, k, _)| *k);
            gone.extend(listed.filter(|k| !allowed.contains_key(k)));
        }
        let stale = |(k, e): &(&Key, &Entry)| self.table.known_entry(List::Allow, k).is_none_or(|old| !same(old, e));
        (gone, allowed.iter().filter(stale).map(|(k, e)| (*k, *e)).collect())
    }

    /// What the block list lacks and has too much.
    fn compare(&mut self, decisions: &Decisions, pen: &Pen) -> Blocks {
        let wanted: Vec<(Key, Entry)> = pen.blocks(decisions).collect();
        let Difference { stale, surplus } = self.table.compare(List::Block, &wanted, same);
        if stale.len() + surplus > AT_ONCE {
            return Blocks::All { wanted, stale, surplus };
        }
        let gone = if surplus > 0 { self.table.surplus(List::Block).copied().collect() } else { Vec::new() };
        Blocks::Some { set: stale.into_iter().map(|n| wanted[n]).collect(), gone }
    }

    /// The same for targets that are known to have changed.
    fn compare_few(&mut self, decisions: &Decisions, pen: &Pen, touched: &Touched) -> Blocks {
        let (mut set, mut gone) = (Vec::new(), Vec::new());
        for target in &touched.targets {
            let key = key_of(*target);
            let known = self.table.known_entry(List::Block, &key);
            let wanted = decisions.wanted_on(*target, pen.now).and_then(|held| pen.block(&held));
            match (wanted, known) {
                (Some(entry), known) if known.is_none_or(|k| !same(k, &entry)) => set.push((key, entry)),
                (None, Some(_)) => gone.push(key),
                _ => {}
            }
            if decisions.wanted_on(*target, pen.now).is_none() {
                self.seen.remove(target);
            }
            if !decisions.has_single(*target) {
                self.courses.forget(*target);
            }
        }
        Blocks::Some { set, gone }
    }

    /// Says how many entries were written and how many taken out.
    fn write_blocks(&mut self, block: Blocks) -> Result<(usize, usize), KernelError> {
        let (set, gone) = match block {
            Blocks::Some { set, gone } => (set, gone),
            Blocks::All { wanted, stale, surplus } => match self.table.replace(List::Block, &wanted) {
                Ok(()) => return Ok((stale.len(), surplus)),
                Err(KernelError::TooSmall { .. }) => {
                    log::warn!(
                        "there is no room for the old and the new block list at once, so entries are changed one after the \
                         other; raise `capacity.blocks`"
                    );
                    let gone = self.table.surplus(List::Block).copied().collect();
                    (stale.into_iter().map(|n| wanted[n]).collect(), gone)
                }
                Err(e) => return Err(e),
            },
        };
        self.table.remove(List::Block, &gone)?;
        self.table.set(List::Block, &set)?;
        Ok((set.len(), gone.len()))
    }

    /// Writes again what is missing or different in the kernel, and takes out what nobody here wrote.
    fn repair(&mut self) -> Result<usize, KernelError> {
        let held = self.table.read_back()?;
        let mut strange = HashMap::<List, Vec<Key>>::new();
        let mut right = 0;
        for (list, key, entry) in &held {
            match self.table.known_entry(*list, key) {
                Some(known) if known == entry => right += 1,
                Some(_) => {}
                None => strange.entry(*list).or_default().push(*key),
            }
        }
        let mut lost = HashMap::<List, Vec<(Key, Entry)>>::new();
        if right < self.table.len(List::Block) + self.table.len(List::Allow) {
            let held: HashMap<(List, Key), Entry> = held.into_iter().map(|(l, k, e)| ((l, k), e)).collect();
            let missing = self.table.known().filter(|(l, k, e)| held.get(&(*l, **k)) != Some(e));
            for (list, key, entry) in missing {
                lost.entry(list).or_default().push((*key, *entry));
            }
        }
        let mut drift = 0;
        for list in [List::Allow, List::Block] {
            if let Some(lost) = lost.get(&list) {
                drift += lost.len();
                self.table.set(list, lost)?;
            }
            if let Some(strange) = strange.get(&list) {
                drift += strange.len();
                self.table.remove(list, strange)?;
            }
        }
        Ok(drift)
    }

    /// What the kernel holds now and did not hear from this process: block entries, and who may pass. Ends are what is left, µs.
    pub fn found(&self, monotonic_ns: u64) -> Found {
        let mut found = Found::default();
        for (list, key, e) in self.table.known() {
            let ttl_us = (e.expires_ns != FOREVER).then(|| e.expires_ns.saturating_sub(monotonic_ns) / 1000);
            let target = target_of(key);
            match list {
                // Its time is over.
                _ if ttl_us == Some(0) => {}
                List::Allow => found.allowed.push((target.prefix(), ttl_us)),
                List::Block => match decision_of(target, e, ttl_us) {
                    Some(d) => found.blocked.push(d),
                    None => found.unknown += 1,
                },
            }
        }
        found
    }

    /// Whether the kernel really holds an entry for the target.
    pub fn holds(&self, target: Target) -> Result<bool, KernelError> {
        self.table.get(List::Block, &key_of(target)).map(|e| e.is_some())
    }

    /// Hits of a target's entry so far, and when it was last seen to have any.
    pub fn hits(&self, target: Target) -> (Hits, Option<TimeUs>) {
        let hits = self.table.hits(List::Block, &key_of(target)).unwrap_or_default();
        (hits, self.seen.get(&target).and_then(|(_, at)| *at))
    }

    /// How hits of a single decision's target went in the last hour, as far as this process saw them.
    pub fn course(&self, target: Target, now: TimeUs) -> Option<HitCourse> {
        self.courses.of(target, now)
    }

    /// Entries that met packets since they were last looked at.
    pub fn new_hits(&mut self, decisions: &Decisions, now: TimeUs) -> Result<Vec<NewHits>, KernelError> {
        let mut met = Vec::new();
        let mut last = None;
        for (n, w) in decisions.wanted_after(self.turn, now).take(HITS_AT_ONCE).enumerate() {
            last = (n + 1 == HITS_AT_ONCE).then_some(w.target);
            let total = self.table.hits(List::Block, &key_of(w.target))?;
            if total.packets == 0 {
                self.seen.remove(&w.target);
                continue;
            }
            let (before, at) = self.seen.entry(w.target).or_default();
            // Fewer than before: the entry was made anew.
            let packets = total.packets.checked_sub(before.packets).unwrap_or(total.packets);
            *before = total;
            if packets > 0 {
                *at = Some(now);
                if decisions.has_single(w.target) {
                    self.courses.note(w.target, now, packets);
                }
                let d = w.decision;
                met.push(NewHits { decision_id: d.id, target: w.target, action: d.action, packets, total });
            }
        }
        self.turn = last;
        Ok(met)
    }
}

/// What is to be done about the block list.
enum Blocks {
    /// What it lacks, and what it has too much.
    Some { set: Vec<(Key, Entry)>, gone: Vec<Key> },
    /// Too much for one after the other: all that is to be on it, which of these it lacks, and how many it has too much.
    All { wanted: Vec<(Key, Entry)>, stale: Vec<usize>, surplus: usize },
}

fn key_of(target: Target) -> Key {
    match target {
        Target::Net(p) => net(p),
        Target::Port { host, proto, port } => Key::port(host.0, proto, port),
        Target::FarPort { host, proto, port } => Key::far_port(host.0, proto, port),
        Target::Flow(f) => Key::Flow(entry::FlowTarget {
            remote: f.remote.0,
            ours: f.ours.0,
            far_port: f.remote_port,
            port: f.port,
            proto: f.proto,
        }),
    }
}

fn target_of(key: &Key) -> Target {
    match *key {
        Key::V4(k) => Target::Net(Prefix::new(Addr(v4_mapped(k.addr)), k.len as u8)),
        Key::V6(k) => Target::Net(Prefix::new(Addr(k.addr), k.len as u8)),
        Key::Port(k) => Target::Port { host: Addr(k.addr), proto: k.proto, port: k.port },
        Key::FarPort(k) => Target::FarPort { host: Addr(k.addr), proto: k.proto, port: k.port },
        Key::Flow(f) => Target::Flow(Flow {
            proto: f.proto,
            remote: Addr(f.remote),
            remote_port: f.far_port,
            ours: Addr(f.ours),
            port: f.port,
        }),
    }
}

/// The decision that an entry would be of.
fn decision_of(target: Target, e: &Entry, ttl_us: Option<u64>) -> Option<NewDecision> {
    let (action, limit) = match e.action {
        entry::action::DROP => (Action::Drop, None),
        entry::action::LIMIT => (Action::Limit, Some(RateLimit::of_entry(e.limit)?)),
        entry::action::SHADOW => (Action::Shadow, None),
        _ => return None,
    };
    let sides = match (e.sides & entry::side::IN != 0, e.sides & entry::side::OUT != 0) {
        (true, true) => Sides::Both,
        (true, false) => Sides::In,
        (false, true) => Sides::Out,
        (false, false) => return None,
    };
    let origin = if e.origin == entry::origin::AUTOMATIC { Origin::Automatic } else { Origin::Manual };
    Some(NewDecision {
        target,
        action,
        limit,
        sides,
        origin,
        ttl_us,
        reason: "found in the kernel: the store did not know of it".to_owned(),
        instead_of: None,
        alert_id: None,
        confirm_within_us: None,
    })
}

fn net(p: Prefix) -> Key {
    Key::net(p.addr().0, p.len())
}

/// Equal but for the noise of two clocks.
fn same(a: &Entry, b: &Entry) -> bool {
    let close = a.expires_ns == b.expires_ns
        || (a.expires_ns != FOREVER
            && b.expires_ns != FOREVER
            && a.expires_ns.abs_diff(b.expires_ns) < EXPIRY_SLACK_NS);
    close && (Entry { expires_ns: 0, ..*a }) == (Entry { expires_ns: 0, ..*b })
}

/// Writes decisions as entries of the kernel.
struct Pen {
    mode: Mode,
    now: TimeUs,
    monotonic_ns: u64,
}

impl Pen {
    /// The kernel's clock stands still in suspend, and wall clocks are set: what is left of a lifetime is what counts.
    fn expires(&self, at: Option<TimeUs>) -> u64 {
        at.map_or(FOREVER, |at| self.monotonic_ns.saturating_add(at.saturating_sub(self.now).saturating_mul(1000)))
    }

    fn allowed(&self, decisions: &Decisions) -> HashMap<Key, Entry> {
        let mut allowed = HashMap::new();
        for (prefix, until) in decisions.allowed(self.now) {
            let e = Entry {
                expires_ns: self.expires(until),
                reason: 0,
                action: 0,
                sides: entry::side::IN | entry::side::OUT,
                origin: entry::origin::MANUAL,
                limit: Limit::NONE,
            };
            let longer = |old: &Entry| old.expires_ns < e.expires_ns;
            if allowed.get(&net(prefix)).is_none_or(longer) {
                allowed.insert(net(prefix), e);
            }
        }
        allowed
    }

    fn blocks(&self, decisions: &Decisions) -> impl Iterator<Item = (Key, Entry)> {
        decisions.wanted(self.now).filter_map(|w| Some((key_of(w.target), self.block(&w.decision)?)))
    }

    fn block(&self, d: &Held) -> Option<Entry> {
        if self.mode == Mode::Observe {
            return None;
        }
        let action = match d.action {
            Action::Drop if self.mode.enforces() => entry::action::DROP,
            Action::Limit if self.mode.enforces() => entry::action::LIMIT,
            Action::Drop | Action::Limit | Action::Shadow => entry::action::SHADOW,
        };
        let limit = d.limit.filter(|_| action == entry::action::LIMIT).map(RateLimit::entry).unwrap_or_default();
        let sides = match d.sides {
            Sides::In => entry::side::IN,
            Sides::Out => entry::side::OUT,
            Sides::Both => entry::side::IN | entry::side::OUT,
        };
        let origin = match d.origin {
            // A list is what people chose to enforce.
            Origin::Manual | Origin::List => entry::origin::MANUAL,
            Origin::Automatic => entry::origin::AUTOMATIC,
        };
        Some(Entry { expires_ns: self.expires(d.expires_us), reason: 0, action, sides, origin, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::decisions::Limits;
    use weir_core::guard::{Guard, Safe};

    const S: u64 = 1_000_000;

    fn wanted(decisions: &Decisions, mode: Mode, now: TimeUs, monotonic_ns: u64) -> HashMap<(List, Key), Entry> {
        let pen = Pen { mode, now, monotonic_ns };
        let allowed = pen.allowed(decisions).into_iter().map(|(k, e)| ((List::Allow, k), e));
        allowed.chain(pen.blocks(decisions).map(|(k, e)| ((List::Block, k), e))).collect()
    }

    fn table(action: Action) -> Decisions {
        let safe = vec![Safe { prefix: "192.0.2.1".parse().unwrap(), why: "gateway".into() }];
        let mut t = Decisions::new(Limits::default(), Guard::new(Vec::new(), safe), 1);
        let new = NewDecision {
            limit: None,
            target: "203.0.113.9".parse().unwrap(),
            action,
            sides: Sides::In,
            origin: Origin::Manual,
            ttl_us: Some(60 * S),
            reason: String::new(),
            instead_of: None,
            alert_id: None,
            confirm_within_us: None,
        };
        t.add(new, 1000 * S).unwrap();
        t
    }

    #[test]
    fn the_mode_decides_what_a_drop_becomes() {
        let decisions = table(Action::Drop);
        let key = (List::Block, Key::net(weir_common::flow::v4_mapped([203, 0, 113, 9]), 32));
        let action = |mode| wanted(&decisions, mode, 1000 * S, 5).get(&key).map(|e| e.action);
        assert_eq!(action(Mode::Enforce), Some(entry::action::DROP));
        assert_eq!(action(Mode::Shadow), Some(entry::action::SHADOW));
        assert_eq!(action(Mode::Observe), None);
    }

    #[test]
    fn a_limit_limits_only_where_drops_drop() {
        let mut decisions = table(Action::Shadow);
        let limit = Some("7pps".parse::<RateLimit>().unwrap());
        let target: Target = "203.0.113.10".parse().unwrap();
        let new = NewDecision {
            target,
            action: Action::Limit,
            limit,
            sides: Sides::Both,
            origin: Origin::Manual,
            ttl_us: Some(S),
            reason: String::new(),
            instead_of: None,
            alert_id: None,
            confirm_within_us: None,
        };
        decisions.add(new, 1000 * S).unwrap();
        let entry_in = |mode| wanted(&decisions, mode, 1000 * S, 5)[&(List::Block, key_of(target))];
        let enforced = entry_in(Mode::Enforce);
        assert_eq!((enforced.action, enforced.limit.rate(), enforced.limit.burst()), (entry::action::LIMIT, 6, 10));
        let shadow = entry_in(Mode::Shadow);
        assert_eq!((shadow.action, shadow.limit), (entry::action::SHADOW, Limit::NONE));
    }

    #[test]
    fn a_shadow_decision_never_drops() {
        let w = wanted(&table(Action::Shadow), Mode::Enforce, 1000 * S, 5);
        assert!(w.iter().filter(|((l, _), _)| *l == List::Block).all(|(_, e)| e.action == entry::action::SHADOW));
    }

    #[test]
    fn expiry_is_what_is_left_on_the_kernels_clock() {
        let w = wanted(&table(Action::Drop), Mode::Enforce, 1010 * S, 7_000_000_000);
        let e = w.iter().find(|((l, _), _)| *l == List::Block).unwrap().1;
        assert_eq!(e.expires_ns, 57_000_000_000);
        let safe = w.iter().find(|((l, _), _)| *l == List::Allow).unwrap().1;
        assert_eq!(safe.expires_ns, FOREVER);
    }

    #[test]
    fn an_entry_tells_the_decision_that_it_came_from() {
        for target in ["203.0.113.9", "203.0.113.0/24", "2001:db8::/48", "2001:db8::7", "203.0.113.9/tcp/22"] {
            let target: Target = target.parse().unwrap();
            assert_eq!(target_of(&key_of(target)), target);
        }
        for (action, limit) in [
            (Action::Drop, None),
            (Action::Shadow, None),
            (Action::Limit, Some("7pps")),
            (Action::Limit, Some("2MBps")),
        ] {
            let mut decisions = Decisions::new(Limits::default(), Guard::default(), 1);
            let new = NewDecision {
                target: "203.0.113.9".parse().unwrap(),
                action,
                limit: limit.map(|l| l.parse().unwrap()),
                sides: Sides::In,
                origin: Origin::Automatic,
                ttl_us: Some(60 * S),
                reason: "found in the kernel: the store did not know of it".into(),
                instead_of: None,
                alert_id: None,
                confirm_within_us: None,
            };
            decisions.add(new.clone(), 1000 * S).unwrap();
            let w = wanted(&decisions, Mode::Enforce, 1000 * S, 5_000);
            let e = w[&(List::Block, key_of(new.target))];
            let again = decision_of(new.target, &e, Some(60 * S)).unwrap();
            assert_eq!(again.limit.map(RateLimit::entry), new.limit.map(RateLimit::entry));
            assert_eq!(NewDecision { limit: None, ..again }, NewDecision { limit: None, ..new });
        }
    }
}
