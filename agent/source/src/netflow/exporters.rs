//! What is remembered of exporters: templates, samplers, clocks and numbering, within bounds.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::sampling::Samplers;
use super::sequence::Sequence;
use super::template::Template;
use super::{Limits, Version};

/// The exporter's clock may be told in whole seconds: estimates of its start differ by so much without any step, µs.
const JITTER_US: i64 = 1_500_000;

/// One observation domain (IPFIX), source (v9) or engine (v5) of an exporter.
#[derive(Debug, Default)]
pub(super) struct Domain {
    pub templates: HashMap<u16, Template>,
    pub samplers: Samplers,
    pub sequence: Option<Sequence>,
    /// Time of day when its uptime was 0, µs.
    boot_us: Option<i64>,
    used: u64,
}

impl Domain {
    /// Takes an estimate of the exporter's start. It is kept as it was first seen, unless it steps: so flows stay in
    /// their order, though each header rounds the time of day to whole seconds.
    pub fn boot_us(&mut self, estimate_us: i64) -> i64 {
        match self.boot_us {
            Some(kept) if kept.abs_diff(estimate_us) <= JITTER_US.unsigned_abs() => kept,
            _ => {
                self.boot_us = Some(estimate_us);
                estimate_us
            }
        }
    }

    /// The start, where an options record told it (IPFIX).
    pub fn told_boot_us(&self) -> Option<i64> {
        self.boot_us
    }
    pub fn tell_boot_us(&mut self, us: u64) {
        self.boot_us = i64::try_from(us).ok();
    }

    fn cost(&self) -> usize {
        let samplers = self.samplers.len() * 2 * size_of::<(u64, [u64; 2])>();
        DOMAIN_COST + samplers + self.templates.values().map(Template::cost).sum::<usize>()
    }
}

pub(super) struct Exporter {
    pub id: u32,
    pub name: Option<Arc<str>>,
    domains: HashMap<(Version, u32), Domain>,
    pub templates: usize,
    /// Records by its own templates were read.
    pub proved: bool,
    rank: (bool, u64),
    expired_us: u64,
    /// Bytes of memory.
    cost: usize,
    pub lost_records: u64,
    pub lost_datagrams: u64,
}

const DOMAIN_COST: usize = 2 * size_of::<((Version, u32), Domain)>();
const EXPORTER_COST: usize =
    2 * size_of::<(Option<SocketAddr>, Exporter)>() + 2 * size_of::<((bool, u64), Option<SocketAddr>)>() + 64;

impl Exporter {
    /// The domain, made where it is new. The one that was longest unused gives way.
    pub fn domain(&mut self, key: (Version, u32), tick: u64, limits: &Limits) -> &mut Domain {
        if !self.domains.contains_key(&key) {
            if self.domains.len() >= limits.domains_per_exporter
                && let Some(&oldest) = self.domains.iter().min_by_key(|(_, d)| d.used).map(|(k, _)| k)
                && let Some(gone) = self.domains.remove(&oldest)
            {
                self.templates = self.templates.saturating_sub(gone.templates.len());
                self.cost = self.cost.saturating_sub(gone.cost());
            }
            self.cost += DOMAIN_COST;
        }
        let domain = self.domains.entry(key).or_default();
        domain.used = tick;
        domain
    }

    /// Forgets templates that were not announced for too long. At most once a minute: a flood of templates must not make
    /// every one of them a search.
    pub fn expire_templates(&mut self, now_us: u64, limits: &Limits) {
        if now_us.saturating_sub(self.expired_us) < 60_000_000 {
            return;
        }
        self.expired_us = now_us;
        let (mut freed, mut gone) = (0, 0);
        for domain in self.domains.values_mut() {
            domain.templates.retain(|_, t| {
                let old = now_us.saturating_sub(t.announced_us) >= limits.template_lifetime_us;
                if old {
                    (freed, gone) = (freed + t.cost(), gone + 1);
                }
                !old
            });
        }
        self.templates = self.templates.saturating_sub(gone);
        self.charge(0, freed);
    }

    pub fn charge(&mut self, more: usize, less: usize) {
        self.cost = (self.cost + more).saturating_sub(less);
    }
}

/// Every exporter heard of. When there are too many, or they take too much memory, those go first that never sent a record
/// that could be read, then those not heard of for the longest time: a flood from made-up addresses pushes out itself.
#[derive(Default)]
pub(super) struct Exporters {
    by_addr: HashMap<Option<SocketAddr>, Exporter>,
    by_rank: BTreeMap<(bool, u64), Option<SocketAddr>>,
    next_id: u32,
    tick: u64,
    cost: usize,
    /// Pushed out.
    pub forgotten: u64,
    /// Losses of those who were pushed out.
    pub forgotten_lost: u64,
}

impl Exporters {
    pub fn memory(&self) -> usize {
        self.cost
    }
    pub fn len(&self) -> usize {
        self.by_addr.len()
    }
    /// Templates of all of them.
    pub fn templates(&self) -> usize {
        self.by_addr.values().map(|e| e.templates).sum()
    }
    pub fn iter(&self) -> impl Iterator<Item = &Exporter> {
        self.by_rank.values().filter_map(|addr| self.by_addr.get(addr))
    }

    /// Hands the exporter at `addr` to `work`, with a number that rises with every call.
    pub fn with<T>(
        &mut self,
        addr: Option<SocketAddr>,
        limits: &Limits,
        work: impl FnOnce(&mut Exporter, u64) -> T,
    ) -> T {
        self.tick += 1;
        let tick = self.tick;
        if !self.by_addr.contains_key(&addr) {
            while self.by_addr.len() >= limits.exporters.max(1) && self.forget_one(None) {}
            self.next_id = self.next_id.wrapping_add(1);
            self.cost += EXPORTER_COST;
            self.by_rank.insert((false, tick), addr);
        }
        let next_id = self.next_id;
        let exporter = self.by_addr.entry(addr).or_insert_with(|| Exporter {
            id: next_id,
            name: addr.map(|a| Arc::from(a.ip().to_canonical().to_string())),
            domains: HashMap::new(),
            templates: 0,
            proved: false,
            rank: (false, tick),
            expired_us: 0,
            cost: EXPORTER_COST,
            lost_records: 0,
            lost_datagrams: 0,
        });
        let before = exporter.cost;
        let done = work(exporter, tick);
        self.cost = (self.cost + exporter.cost).saturating_sub(before);
        let old = std::mem::replace(&mut exporter.rank, (exporter.proved, tick));
        let new = exporter.rank;
        if old != new {
            self.by_rank.remove(&old);
            self.by_rank.insert(new, addr);
        }
        while self.cost > limits.state_bytes && self.forget_one(Some(new)) {}
        done
    }

    fn forget_one(&mut self, but: Option<(bool, u64)>) -> bool {
        let Some((&rank, &addr)) = self.by_rank.iter().find(|(rank, _)| Some(**rank) != but) else { return false };
        self.by_rank.remove(&rank);
        if let Some(gone) = self.by_addr.remove(&addr) {
            self.cost = self.cost.saturating_sub(gone.cost);
            self.forgotten += 1;
            self.forgotten_lost += gone.lost_records + gone.lost_datagrams;
        }
        true
    }
}
