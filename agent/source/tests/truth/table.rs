//! What a comparison over many captures comes to, and the table of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use weir_source::pcap::LeftOut;

use crate::capture::Capture;
use crate::case::{Case, Ours, with_packets};
use crate::engine::{Counted, Flow, Key, Rule, Tool};

const LINK_TYPE: Rule = "reads a link type that Weir does not read (and reports)";

/// What a comparison over many captures came to.
#[derive(Default)]
pub struct Table {
    pub captures: u64,
    pub flows: u64,
    pub equal: u64,
    pub by_rule: u64,
    pub unexplained: u64,
    /// Flows that the tool tells and that were equal or explained, link types apart.
    held: u64,
    /// The same after every one of them was told wrong.
    held_wrong: u64,
    /// The same after every one of them was told with the other end as client.
    held_turned: u64,
    rules: BTreeMap<Rule, u64>,
    examples: Vec<String>,
}

/// The share of flows that must be equal or different by a rule.
pub const FLOOR_PERCENT: u64 = 99;

impl Table {
    /// Prints it, whatever the test harness captures, and fails below the floor.
    pub fn finish(self, tool: &str) {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{tool:<10} {:>8} {:>8} {:>8} {:>8} {:>11}\n{:<10} {:>8} {:>8} {:>8} {:>8} {:>11}",
            "captures",
            "flows",
            "equal",
            "by rule",
            "unexplained",
            "",
            self.captures,
            self.flows,
            self.equal,
            self.by_rule,
            self.unexplained
        );
        for (rule, n) in &self.rules {
            let _ = writeln!(text, "{n:>19} {tool} {rule}");
        }
        if std::env::var_os("WEIR_TRUTH").is_some() {
            for e in &self.examples {
                let _ = writeln!(text, "{e}");
            }
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
        assert!(self.flows > 0, "{tool}: nothing was compared");
        assert!(self.held > 0 && self.held_wrong == 0, "{tool}: {} wrong counts were excused", self.held_wrong);
        // Where a flow is cut, or Weir knows better than who sent first, either end may be foretold: that must stay the exception.
        assert!(self.held_turned * 5 <= self.held, "{tool}: {} wrong clients were excused", self.held_turned);
        assert_eq!(self.equal + self.by_rule + self.unexplained, self.flows, "{tool}: every flow counts once");
        assert!(
            (self.equal + self.by_rule) * 100 >= self.flows * FLOOR_PERCENT,
            "{tool}: {} of {} flows are unexplained (WEIR_TRUTH=1 shows some)",
            self.unexplained,
            self.flows
        );
    }

    fn explained(&mut self, rules: &BTreeSet<Rule>) {
        self.flows += 1;
        self.by_rule += 1;
        for r in rules {
            *self.rules.entry(r).or_default() += 1;
        }
    }

    fn unexplained(&mut self, what: impl FnOnce() -> String) {
        self.flows += 1;
        self.unexplained += 1;
        if self.examples.len() < 200 {
            self.examples.push(what());
        }
    }

    /// Compares one capture.
    pub fn compare<T: Tool>(&mut self, tool: &T, capture: &Capture, theirs: &[Flow]) {
        self.compare_told(tool, capture, theirs, true);
    }

    /// Compares one capture; where the tool has not told `all` of its flows, only those it told.
    pub fn compare_told<T: Tool>(&mut self, tool: &T, capture: &Capture, theirs: &[Flow], all: bool) {
        let tries = (0..T::VARIANTS).map(|v| {
            let mut table = Table::default();
            table.compare_as(tool, capture, theirs, all, v);
            table
        });
        if let Some(best) = tries.min_by_key(|t| t.unexplained) {
            self.take(best);
        }
        // No rule may excuse a count that is wrong.
        const OFF: u64 = 1_000_003;
        let told = |wrong: fn(&mut Flow)| -> Vec<Flow> {
            let each = theirs.iter().cloned().map(|mut f| {
                wrong(&mut f);
                f
            });
            each.collect()
        };
        for v in 0..T::VARIANTS {
            let mut table = Table::default();
            table.compare_as(tool, capture, &told(|f| f.sent[0].bytes += OFF), all, v);
            self.held_wrong += table.held;
            let mut table = Table::default();
            table.compare_as(tool, capture, &told(|f| f.client = 1 - f.client), all, v);
            self.held_turned += table.held;
        }
    }

    fn take(&mut self, other: Table) {
        self.captures += 1;
        self.flows += other.flows;
        self.equal += other.equal;
        self.by_rule += other.by_rule;
        self.unexplained += other.unexplained;
        self.held += other.held;
        for (rule, n) in other.rules {
            *self.rules.entry(rule).or_default() += n;
        }
        self.examples.extend(other.examples);
    }

    fn compare_as<T: Tool>(&mut self, tool: &T, capture: &Capture, theirs: &[Flow], all: bool, variant: usize) {
        let name = capture.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let plain: Vec<Option<Counted>> = capture.packets.iter().map(|p| tool.plain(p)).collect();
        let readings = tool.read(capture, variant);
        assert_eq!(readings.len(), plain.len());
        for (p, r) in plain.iter().zip(&readings) {
            let same = r.counted.as_slice() == p.as_slice();
            assert!(!r.rules.is_empty() || same, "{name}: {p:?} as {r:?} without a rule");
        }

        let mut ours: BTreeMap<Key, Vec<Ours>> = BTreeMap::new();
        match with_packets(tool, capture, &plain) {
            Ok(all) => all.into_iter().for_each(|o| ours.entry(o.flow.key).or_default().push(o)),
            Err(why) => self.unexplained(|| format!("{name}: {why}")),
        }
        let mut told: BTreeMap<Key, Vec<&Flow>> = BTreeMap::new();
        for t in theirs {
            told.entry(t.key).or_default().push(t);
        }
        let mut read: BTreeMap<Key, Vec<(usize, Counted)>> = BTreeMap::new();
        for (i, r) in readings.iter().enumerate() {
            for c in &r.counted {
                read.entry(c.key).or_default().push((i, *c));
            }
        }
        let only_unread = capture.packets.iter().all(|p| p.outer.err() == Some(LeftOut::LinkType));

        let keys: BTreeSet<Key> = ours.keys().chain(told.keys()).copied().collect();
        for key in keys {
            let told = told.remove(&key).unwrap_or_default();
            let case = Case {
                tool,
                capture,
                readings: &readings,
                plain: &plain,
                key,
                ours: ours.remove(&key).unwrap_or_default(),
                runs: Vec::new(),
                packets: read.remove(&key).unwrap_or_default(),
                told,
                all,
            };
            if only_unread {
                case.told.iter().for_each(|_| self.explained(&BTreeSet::from([LINK_TYPE])));
            } else {
                self.decide(&name, case);
            }
        }
    }

    fn decide<T: Tool>(&mut self, name: &str, mut case: Case<'_, T>) {
        case.find_runs();
        let pairs = case.equal_pairs();
        self.flows += pairs.len() as u64;
        self.equal += pairs.len() as u64;
        self.held += pairs.len() as u64;
        let left = |n: usize, taken: &dyn Fn(usize) -> bool| (0..n).filter(|i| !taken(*i)).collect::<Vec<_>>();
        let mut both: BTreeSet<Rule> = BTreeSet::new();
        for i in left(case.told.len(), &|i| pairs.iter().any(|p| p.0 == i)) {
            match case.rules(i) {
                Ok(rules) => {
                    both.extend(&rules);
                    self.held += 1;
                    self.explained(&rules);
                }
                Err(why) => self.unexplained(|| case.show(name, why)),
            }
        }
        if std::env::var("WEIR_TRUTH").is_ok_and(|v| v.len() > 2 && (both.iter().any(|r| r.contains(&v)) || name == v))
        {
            self.examples.push(case.show(name, &both.into_iter().collect::<Vec<_>>().join(" + ")));
        }
        if case.told.len() > pairs.len() || (case.told.is_empty() && !case.all) {
            // What Weir has of this 5-tuple is in the tool's flows, by the same runs of packets; or the tool tells less.
            return;
        }
        for i in left(case.ours.len(), &|i| pairs.iter().any(|p| p.1 == i)) {
            match case.absent(i) {
                Some(rules) => self.explained(&rules),
                None => self.unexplained(|| case.show(name, "only Weir")),
            }
        }
    }
}
