//! The reconciler: makes the kernel's entries equal to the wanted state, and reads them back.

use std::collections::HashMap;

use weir_common::entry::{self, Entry, FOREVER, Hits};
use weir_common::limit::Limit;
use weir_core::addr::Prefix;
use weir_core::decision::{Action, Origin, Sides, Target};
use weir_core::decisions::Decisions;
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
    use weir_core::decisions::{Limits, NewDecision};
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
}
