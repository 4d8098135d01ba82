//! What a policy would have done to what is read: how often each rule matched, what was decided by it, and what of the traffic
//! that would have cut.

use serde::Serialize;
use weir_core::decision::Action;
use weir_core::policy::rule::Rule;

use super::decide::book::{Book, Line};
use super::decide::{Counts, Cut};

/// One rule, and what it came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleReport {
    pub name: String,
    /// In words.
    pub words: String,
    /// Cases that it was the first to match: a source counts whenever its evidence grows.
    pub matches: u64,
    pub alerts: u64,
    /// Sources that a person would have been asked about.
    pub asked: u64,
    pub drops: u64,
    pub limits: u64,
    pub shadows: u64,
    /// What its drops and limits met and cut.
    pub cut: Cut,
    /// What its shadow entries met, and cut nothing of.
    pub counted: Cut,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionReport {
    /// `None`: it was not by a rule.
    pub rule: Option<String>,
    #[serde(flatten)]
    pub line: Line,
    pub cut: Cut,
}

/// What one policy came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PolicyReport {
    /// The rules; behind the last, what none matched.
    pub rules: Vec<RuleReport>,
    pub decisions: Vec<DecisionReport>,
    pub sources_alerted: u64,
    pub sources_asked: u64,
    pub drops: u64,
    pub limits: u64,
    pub shadows: u64,
    /// What drops and limits met and cut in all.
    pub cut: Cut,
    /// Flows that were read; cut ones did not take place and are not counted where packets tell of them.
    pub flows: u64,
    /// Decisions that found no room in this report.
    pub left_out: u64,
}

/// `book` and `counts` are those of one replay, by the rules in force.
pub fn report(rules: &[Rule], book: &Book, counts: &Counts) -> PolicyReport {
    let judged = &counts.judged;
    let none = Rule {
        name: "(no rule)".to_owned(),
        when: Default::default(),
        then: weir_core::policy::rule::Then::new(weir_core::policy::rule::Act::Alert),
    };
    let mut all = PolicyReport { flows: counts.read.flows, left_out: book.left_out, ..PolicyReport::default() };
    for (i, r) in rules.iter().chain([&none]).enumerate() {
        let of = |counted: &[u64]| counted.get(i).copied().unwrap_or(0);
        all.rules.push(RuleReport {
            name: r.name.clone(),
            words: if i < rules.len() { r.to_string() } else { "What no rule matches: alert only.".to_owned() },
            matches: of(&judged.matches),
            alerts: of(&judged.alerts),
            asked: judged.asked.iter().filter(|(rule, _)| *rule == i).count() as u64,
            drops: 0,
            limits: 0,
            shadows: 0,
            cut: Cut::default(),
            counted: Cut::default(),
        });
    }
    for line in &book.lines {
        let Some(id) = line.decision() else { continue };
        let cut = counts.cuts.get(&id).cloned().unwrap_or_default();
        let rule = judged.rule_of.get(&id).copied();
        let mut spare = RuleReport { name: String::new(), ..all.rules[rules.len()].clone() };
        let of_rule = rule.and_then(|i| all.rules.get_mut(i)).unwrap_or(&mut spare);
        let action = line.acted.unwrap_or(Action::Shadow);
        let (by_rule, in_all) = match action {
            Action::Drop => (&mut of_rule.drops, &mut all.drops),
            Action::Limit => (&mut of_rule.limits, &mut all.limits),
            Action::Shadow => (&mut of_rule.shadows, &mut all.shadows),
        };
        *by_rule += 1;
        *in_all += 1;
        if action == Action::Shadow {
            of_rule.counted.add(&cut);
        } else {
            of_rule.cut.add(&cut);
            all.cut.add(&cut);
        }
        let name = rule.and_then(|i| rules.get(i)).map(|r| r.name.clone());
        all.decisions.push(DecisionReport { rule: name, line: line.clone(), cut });
    }
    all.sources_alerted = book.sources().0 as u64;
    all.sources_asked = judged.asked.iter().map(|(_, a)| a).collect::<std::collections::BTreeSet<_>>().len() as u64;
    all
}

/// A target about which two policies decided differently: the strongest action of each, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub target: String,
    pub ours: Option<&'static str>,
    pub theirs: Option<&'static str>,
}

/// What two policies decided differently, in the order of their targets.
pub fn differences(ours: &PolicyReport, theirs: &PolicyReport) -> Vec<Difference> {
    let mut by_target = std::collections::BTreeMap::<&str, [Option<(Action, &'static str)>; 2]>::new();
    for (side, report) in [ours, theirs].into_iter().enumerate() {
        for d in &report.decisions {
            let Some(acted) = d.line.acted else { continue };
            let at = &mut by_target.entry(&d.line.source).or_default()[side];
            if at.is_none_or(|(before, _)| acted > before) {
                *at = Some((acted, d.line.action));
            }
        }
    }
    let word = |a: Option<(Action, &'static str)>| a.map(|(_, w)| w);
    let differ = by_target.into_iter().filter(|(_, [a, b])| word(*a) != word(*b));
    differ.map(|(target, [a, b])| Difference { target: target.to_owned(), ours: word(a), theirs: word(b) }).collect()
}
