//! What the rules mean, and what of a configuration does nothing as it stands.

use std::time::Duration;

use weir_core::event::Mode;
use weir_core::policy::{remarks, rule};
use weir_kernel::lease::Lapse;

use super::{Config, DefaultModel};

impl Config {
    /// One sentence for each rule that is written; nothing where none is.
    pub fn rule_lines(&self) -> Vec<String> {
        let rules = &self.policy.rules;
        if rules.is_empty() {
            return Vec::new();
        }
        let mut lines =
            vec!["Of these rules the first that matches decides; what none matches is alerted about:".to_owned()];
        lines.extend(rules.iter().enumerate().map(|(i, r)| format!("  {}. {}: {r}", i + 1, r.name)));
        lines
    }

    /// What is written and has no effect, or not the one that it seems to have.
    pub fn warnings(&self) -> Vec<String> {
        let default = Config::default();
        let rules = &self.policy.rules;
        let mut all: Vec<String> = Vec::new();
        let watched = self.watched();
        for r in remarks(rules, self.mode, watched.sole()) {
            let name = rules.get(r.rule).map_or("", |r| r.name.as_str());
            all.push(format!("policy.rules[{}] ({name}) {}", r.rule, r.words));
        }
        if watched.sole().is_none() && !watched.is_empty() {
            for (n, rule) in rules.iter().enumerate() {
                let named = &rule.when.interfaces;
                if !named.is_empty() && !named.iter().any(|i| watched.wants(i, false)) {
                    let words = "can never match: none of its interfaces is watched";
                    all.push(format!("policy.rules[{n}] ({}) {words}: {watched} are", rule.name));
                }
            }
        }
        let mut idle = |is_so: bool, words: &str| {
            if is_so {
                all.push(words.to_owned());
            }
        };
        let entered = |stops: bool| {
            let mut acts = rules.iter().filter(move |r| r.then.act.action().is_some() && r.then.act.stops() == stops);
            !rules.is_empty() && acts.all(|r: &rule::Rule| r.then.lasts.is_some())
        };
        let set = |a: Duration, b: Duration| a != b;
        let (p, d) = (&self.policy, &default.policy);
        idle(
            set(p.drop_ttl, d.drop_ttl) && entered(true),
            "policy.drop_ttl does nothing: every rule says how long it drops or limits",
        );
        let shadows = rules.iter().any(|r| !r.then.act.stops() && r.then.act.action().is_some());
        idle(
            set(p.shadow_ttl, d.shadow_ttl) && shadows && entered(false),
            "policy.shadow_ttl counts only for what is weakened to a shadow entry: every rule says how long it counts",
        );
        idle(
            p.max_decisions_per_hour == 0,
            "policy.max_decisions_per_hour is 0: nothing is ever decided automatically",
        );
        let acts = rules.iter().any(|r| r.then.act.action().is_some());
        idle(self.mode == Mode::Observe && acts, "mode observe: no rule enters anything");
        idle(
            self.default_model == DefaultModel::Enforce && !self.mode.enforces(),
            "default_model: enforce does no more than shadow, since the mode stops nothing",
        );
        let keeps = self.lease.lapse == Lapse::Keep;
        idle(
            keeps && set(self.lease.timeout, default.lease.timeout),
            "lease.timeout does nothing: lease.lapse is keep",
        );
        let (r, rd) = (&self.record, &default.record);
        let sized = r.max_size != rd.max_size || r.max_age != rd.max_age;
        idle(!r.enabled && sized, "record.max_size and record.max_age do nothing: record.enabled is false");
        let n = &self.netflow;
        let named = n.listen != default.netflow.listen || !n.exporters.is_empty();
        idle(!n.enabled && named, "netflow.listen and netflow.exporters do nothing: netflow.enabled is false");
        let at = self.metrics.listen != default.metrics.listen;
        idle(!self.metrics.enabled && at, "metrics.listen does nothing: metrics.enabled is false");
        all
    }
}
