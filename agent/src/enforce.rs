//! The reconciler: makes the kernel's entries equal to the wanted state, and reads them back.

use std::collections::HashMap;

use weir_common::entry::{self, Entry, FOREVER, Hits};
use weir_common::flow::v4_mapped;
use weir_common::limit::Limit;
use weir_core::addr::{Addr, Prefix};
use weir_core::decision::{Action, Origin, Sides, Target};
use weir_core::decisions::{Decisions, NewDecision};
use weir_core::event::Mode;
use weir_core::rate::RateLimit;
use weir_core::record::TimeUs;
use weir_kernel::KernelError;
use weir_kernel::lists::{EntryTable, Key, List};

/// Expiries that differ by less than this are the same, ns: clocks are read twice.
const EXPIRY_SLACK_NS: u64 = 500_000_000;
/// Entries whose hit counters are read in one go; more take turns.
const HITS_AT_ONCE: usize = 10_000;

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
    /// Hits when last looked, and when any came that were seen to come, by target.
    seen: HashMap<Target, (Hits, Option<TimeUs>)>,
    turn: usize,
}

impl Enforcer {
    pub fn new(table: EntryTable) -> Self {
        Self { table, seen: HashMap::new(), turn: 0 }
    }

    /// Takes the hits that adopted entries have for old ones: they came while an earlier agent ran, or none.
    pub fn remember_hits(&mut self, decisions: &Decisions, now: TimeUs) -> Result<(), KernelError> {
        for w in decisions.wanted(now) {
            let total = self.table.hits(List::Block, &key_of(w.target))?;
            self.seen.insert(w.target, (total, None));
        }
        Ok(())
    }

    /// Entries in the kernel: block, allow.
    pub fn entries(&self) -> [usize; 2] {
        [self.table.len(List::Block), self.table.len(List::Allow)]
    }

    /// Makes the kernel hold what is wanted. With `read_back`, what it really holds is looked at; otherwise, what was
    /// written. `mode` is the configured one: in `observe` nothing is on the block list, in `shadow` nothing drops.
    pub fn reconcile(
        &mut self,
        decisions: &Decisions,
        mode: Mode,
        now: TimeUs,
        read_back: bool,
    ) -> Result<Pass, KernelError> {
        let monotonic_ns = weir_kernel::sys::monotonic_ns();
        let wanted = wanted(decisions, mode, now, monotonic_ns);
        let mut pass = Pass::default();
        if read_back {
            pass.drift = self.repair()?;
        }
        let (mut gone, mut known) = (HashMap::<List, Vec<Key>>::new(), HashMap::new());
        for (list, key, entry) in self.table.known() {
            if wanted.contains_key(&(list, *key)) {
                known.insert((list, *key), *entry);
            } else {
                gone.entry(list).or_default().push(*key);
            }
        }
        let mut set = HashMap::<List, Vec<(Key, Entry)>>::new();
        for ((list, key), entry) in wanted {
            if known.get(&(list, key)).is_none_or(|k| !same(k, &entry)) {
                set.entry(list).or_default().push((key, entry));
            }
        }
        // Who may pass comes first, then who may not any more, then who must not.
        for list in [List::Allow, List::Block] {
            if let Some(keys) = gone.get(&list).filter(|_| list == List::Block) {
                pass.removed += self.table.remove(list, keys)?;
            }
            if let Some(entries) = set.get(&list) {
                self.table.set(list, entries)?;
                pass.written += entries.len();
            }
        }
        if let Some(keys) = gone.get(&List::Allow) {
            pass.removed += self.table.remove(List::Allow, keys)?;
        }
        self.seen.retain(|target, _| decisions.wanted_on(*target, now).is_some());
        Ok(pass)
    }

    /// Writes again what is missing or different in the kernel, and takes out what nobody here wrote.
    fn repair(&mut self) -> Result<usize, KernelError> {
        let held: HashMap<(List, Key), Entry> =
            self.table.read_back()?.into_iter().map(|(l, k, e)| ((l, k), e)).collect();
        let known: HashMap<(List, Key), Entry> = self.table.known().map(|(l, k, e)| ((l, *k), *e)).collect();
        let mut drift = 0;
        for list in [List::Allow, List::Block] {
            let lost: Vec<(Key, Entry)> = known
                .iter()
                .filter(|((l, k), e)| *l == list && held.get(&(*l, *k)) != Some(e))
                .map(|((_, k), e)| (*k, *e))
                .collect();
            let strange: Vec<Key> =
                held.keys().filter(|(l, k)| *l == list && !known.contains_key(&(*l, *k))).map(|(_, k)| *k).collect();
            drift += lost.len() + strange.len();
            if !lost.is_empty() {
                self.table.set(list, &lost)?;
            }
            if !strange.is_empty() {
                self.table.remove(list, &strange)?;
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

    /// Entries that met packets since they were last looked at.
    pub fn new_hits(&mut self, decisions: &Decisions, now: TimeUs) -> Result<Vec<NewHits>, KernelError> {
        let wanted: Vec<_> = decisions.wanted(now).collect();
        let mut met = Vec::new();
        let start = if self.turn < wanted.len() { self.turn } else { 0 };
        for w in wanted.iter().skip(start).take(HITS_AT_ONCE) {
            let total = self.table.hits(List::Block, &key_of(w.target))?;
            let (before, at) = self.seen.entry(w.target).or_default();
            // Fewer than before: the entry was made anew.
            let packets = total.packets.checked_sub(before.packets).unwrap_or(total.packets);
            *before = total;
            if packets > 0 {
                *at = Some(now);
                let d = w.decision;
                met.push(NewHits { decision_id: d.id, target: w.target, action: d.action, packets, total });
            }
        }
        self.turn = start + HITS_AT_ONCE;
        Ok(met)
    }
}

fn key_of(target: Target) -> Key {
    match target {
        Target::Net(p) => net(p),
        Target::Port { host, proto, port } => Key::port(host.0, proto, port),
    }
}

fn target_of(key: &Key) -> Target {
    match *key {
        Key::V4(k) => Target::Net(Prefix::new(Addr(v4_mapped(k.addr)), k.len as u8)),
        Key::V6(k) => Target::Net(Prefix::new(Addr(k.addr), k.len as u8)),
        Key::Port(k) => Target::Port { host: Addr(k.addr), proto: k.proto, port: k.port },
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

fn wanted(decisions: &Decisions, mode: Mode, now: TimeUs, monotonic_ns: u64) -> HashMap<(List, Key), Entry> {
    // The kernel's clock stands still in suspend, and wall clocks are set: what is left of a lifetime is what counts.
    let expires = |at: Option<TimeUs>| {
        at.map_or(FOREVER, |at| monotonic_ns.saturating_add(at.saturating_sub(now).saturating_mul(1000)))
    };
    let entry =
        |expires_ns, action, sides, origin| Entry { expires_ns, reason: 0, action, sides, origin, limit: Limit::NONE };
    let mut wanted = HashMap::new();
    for (prefix, until) in decisions.allowed(now) {
        let e = entry(expires(until), 0, entry::side::IN | entry::side::OUT, entry::origin::MANUAL);
        let key = (List::Allow, net(prefix));
        let longer = wanted.get(&key).is_none_or(|old: &Entry| old.expires_ns < e.expires_ns);
        if longer {
            wanted.insert(key, e);
        }
    }
    if mode == Mode::Observe {
        return wanted;
    }
    for w in decisions.wanted(now) {
        let d = w.decision;
        let action = match d.action {
            Action::Drop if mode.enforces() => entry::action::DROP,
            Action::Limit if mode.enforces() => entry::action::LIMIT,
            Action::Drop | Action::Limit | Action::Shadow => entry::action::SHADOW,
        };
        let limit = d.limit.filter(|_| action == entry::action::LIMIT).map(RateLimit::entry).unwrap_or_default();
        let sides = match d.sides {
            Sides::In => entry::side::IN,
            Sides::Out => entry::side::OUT,
            Sides::Both => entry::side::IN | entry::side::OUT,
        };
        let origin = match d.origin {
            Origin::Manual => entry::origin::MANUAL,
            Origin::Automatic => entry::origin::AUTOMATIC,
        };
        let e = Entry { limit, ..entry(expires(d.expires_us), action, sides, origin) };
        wanted.insert((List::Block, key_of(w.target)), e);
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::decisions::Limits;
    use weir_core::guard::{Guard, Safe};

    const S: u64 = 1_000_000;

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
