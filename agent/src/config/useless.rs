//! What the rules mean, and what of a configuration does nothing as it stands.

use std::time::Duration;

use weir_core::addr::Prefix;
use weir_core::event::Mode;
use weir_core::policy::{remarks, rule};
use weir_kernel::lease::Lapse;

use super::{Config, DefaultModel, EventTarget, XdpChoice};
use crate::sinks::notice::Kind;

/// The windows that the default bundle was made for.
const DEFAULT_BUNDLE_WINDOW: Duration = Duration::from_secs(10);

/// Something that is written and has no effect, or not the one that it seems to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Useless {
    /// `lease.timeout`, `policy.rules[2]`: where it stands.
    pub path: String,
    /// A sentence that begins with the key.
    pub words: String,
}

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

    /// The sentences of [`Config::useless`].
    pub fn warnings(&self) -> Vec<String> {
        self.useless().into_iter().map(|u| u.words).collect()
    }

    /// What is written and has no effect, or not the one that it seems to have.
    pub fn useless(&self) -> Vec<Useless> {
        let rules = &self.policy.rules;
        let mut all: Vec<Useless> = Vec::new();
        let watched = self.watched();
        for r in remarks(rules, self.mode, watched.sole()) {
            let name = rules.get(r.rule).map_or("", |r| r.name.as_str());
            let path = format!("policy.rules[{}]", r.rule);
            all.push(Useless { words: format!("{path} ({name}) {}", r.words), path });
        }
        if watched.sole().is_none() && !watched.is_empty() {
            for (n, rule) in rules.iter().enumerate() {
                let named = &rule.when.interfaces;
                if !named.is_empty() && !named.iter().any(|i| watched.wants(i, false)) {
                    let path = format!("policy.rules[{n}]");
                    let words = "can never match: none of its interfaces is watched";
                    all.push(Useless { words: format!("{path} ({}) {words}: {watched} are", rule.name), path });
                }
            }
        }
        let mut idle = |is_so: bool, path: &str, words: &str| {
            if is_so {
                all.push(Useless { path: path.to_owned(), words: words.to_owned() });
            }
        };
        self.useless_policy(&mut idle);
        self.useless_sections(&mut idle);
        for (section, prefixes) in [
            ("allow", self.allow.iter().map(|a| a.target).collect::<Vec<_>>()),
            ("home", self.home.clone()),
            ("netflow.exporters", self.netflow.exporters.clone()),
        ] {
            for (i, by) in covered(&prefixes) {
                let path = format!("{section}[{i}]");
                let words = format!("{path} ({}) does nothing: {by} covers it", prefixes[i]);
                all.push(Useless { path, words });
            }
        }
        for (i, sink) in self.sinks.iter().enumerate() {
            let asks = sink.kinds.iter().all(|k| *k == Kind::Question);
            if asks && self.mode == Mode::Observe {
                let path = format!("sinks[{i}]");
                let words = format!(
                    "{path} ({}) is told of nothing: it takes questions alone, and mode observe asks none",
                    sink.name
                );
                all.push(Useless { path, words });
            }
        }
        all
    }

    fn useless_policy(&self, idle: &mut dyn FnMut(bool, &str, &str)) {
        let default = Config::default();
        let rules = &self.policy.rules;
        let entered = |stops: bool| {
            let mut acts = rules.iter().filter(move |r| r.then.act.action().is_some() && r.then.act.stops() == stops);
            !rules.is_empty() && acts.all(|r: &rule::Rule| r.then.lasts.is_some())
        };
        let set = |a: Duration, b: Duration| a != b;
        let (p, d) = (&self.policy, &default.policy);
        idle(
            set(p.drop_ttl, d.drop_ttl) && entered(true),
            "policy.drop_ttl",
            "policy.drop_ttl does nothing: every rule says how long it drops or limits",
        );
        let shadows = rules.iter().any(|r| !r.then.act.stops() && r.then.act.action().is_some());
        idle(
            set(p.shadow_ttl, d.shadow_ttl) && shadows && entered(false),
            "policy.shadow_ttl",
            "policy.shadow_ttl counts only for what is weakened to a shadow entry: every rule says how long it counts",
        );
        idle(
            p.max_decisions_per_hour == 0,
            "policy.max_decisions_per_hour",
            "policy.max_decisions_per_hour is 0: nothing is ever decided automatically",
        );
        let acts = rules.iter().any(|r| r.then.act.action().is_some());
        idle(self.mode == Mode::Observe && acts, "mode", "mode observe: no rule enters anything");
        idle(
            self.default_model == DefaultModel::Enforce && !self.mode.enforces(),
            "default_model",
            "default_model: enforce does no more than shadow, since the mode stops nothing",
        );
        idle(
            !matches!(self.default_model, DefaultModel::Off | DefaultModel::Alert)
                && self.window != DEFAULT_BUNDLE_WINDOW,
            "default_model",
            "default_model does nothing: the default bundle was made for windows of 10s, and `window` is another",
        );
        let (r, rd) = (&self.review, &default.review);
        idle(
            self.mode == Mode::Observe && r != rd,
            if r.ttl != rd.ttl { "review.ttl" } else { "review.unanswered" },
            "review.ttl and review.unanswered do nothing: mode observe asks nobody",
        );
    }

    fn useless_sections(&self, idle: &mut dyn FnMut(bool, &str, &str)) {
        let default = Config::default();
        let keeps = self.lease.lapse == Lapse::Keep;
        idle(
            keeps && self.lease.timeout != default.lease.timeout,
            "lease.timeout",
            "lease.timeout does nothing: lease.lapse is keep",
        );
        idle(
            !keeps && !self.mode.enforces(),
            "lease.lapse",
            "lease.lapse does nothing: in this mode no entry stops packets",
        );
        let (r, rd) = (&self.record, &default.record);
        let sized = r.max_size != rd.max_size || r.max_age != rd.max_age;
        idle(
            !r.enabled && sized,
            if r.max_size != rd.max_size { "record.max_size" } else { "record.max_age" },
            "record.max_size and record.max_age do nothing: record.enabled is false",
        );
        let n = &self.netflow;
        let named = n.listen != default.netflow.listen || !n.exporters.is_empty();
        idle(
            !n.enabled && named,
            if n.exporters.is_empty() { "netflow.listen" } else { "netflow.exporters" },
            "netflow.listen and netflow.exporters do nothing: netflow.enabled is false",
        );
        let collects_alone = n.enabled && self.interface.is_none();
        idle(
            collects_alone && self.xdp.mode != XdpChoice::Auto,
            "xdp.mode",
            "xdp.mode does nothing: without an interface there are no kernel programs (unless `weir run -i` names one)",
        );
        let at = self.metrics.listen != default.metrics.listen;
        idle(!self.metrics.enabled && at, "metrics.listen", "metrics.listen does nothing: metrics.enabled is false");
        idle(
            self.log.flows && self.log.events == EventTarget::None,
            "log.flows",
            "log.flows does nothing: log.events is none",
        );
        idle(
            self.api.tls.is_some() && self.api.listen.is_empty(),
            "api.tls",
            "api.tls does nothing: api.listen names no address",
        );
        let (w, wd) = (&self.web, &default.web);
        let changed = [
            ("web.listen", w.listen != wd.listen),
            ("web.tls", w.tls.is_some()),
            ("web.hosts", !w.hosts.is_empty()),
            ("web.session", w.session != wd.session),
            ("web.idle", w.idle != wd.idle),
            ("web.role", w.role != wd.role),
        ];
        for (path, is_so) in changed {
            idle(!w.enabled && is_so, path, &format!("{path} does nothing: web.enabled is false"));
        }
        let encrypted = self.tracing.otlp.as_ref().is_some_and(|url| url.starts_with("https:"));
        idle(
            self.tracing.ca_file.is_some() && !encrypted,
            "tracing.ca_file",
            "tracing.ca_file does nothing: tracing.otlp names no collector by https",
        );
        let (c, cd) = (&self.crowdsec, &default.crowdsec);
        let changed = [
            ("crowdsec.api_key", c.api_key.is_some()),
            ("crowdsec.api_key_file", c.api_key_file.is_some()),
            ("crowdsec.ca_file", c.ca_file.is_some()),
            ("crowdsec.interval", c.interval != cd.interval),
            ("crowdsec.actions", c.actions != cd.actions),
            ("crowdsec.origins", !c.origins.is_empty()),
            ("crowdsec.max_shrink", c.max_shrink != cd.max_shrink),
        ];
        for (path, is_so) in changed {
            idle(c.url.is_none() && is_so, path, &format!("{path} does nothing: crowdsec.url names no local API"));
        }
    }
}

/// What another of the same list covers; of two equal ones the later.
fn covered(all: &[Prefix]) -> Vec<(usize, Prefix)> {
    let by = |i: usize, p: Prefix| {
        let covers = |(j, other): &(usize, &Prefix)| {
            *j != i && other.overlaps(p) && (other.len() < p.len() || (**other == p && *j < i))
        };
        all.iter().enumerate().find(covers).map(|(_, by)| (i, *by))
    };
    all.iter().enumerate().filter_map(|(i, p)| by(i, *p)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of what does nothing.
    fn paths(text: &str) -> Vec<String> {
        let config = Config::parse(text).unwrap_or_else(|p| panic!("{text}: {p:?}"));
        config.useless().into_iter().map(|u| u.path).collect()
    }

    #[test]
    fn what_does_nothing_is_named_and_what_does_is_not() {
        for (text, path, works) in [
            ("lease: {timeout: 40s}", "lease.timeout", "mode: enforce\nlease: {lapse: pass, timeout: 40s}"),
            ("lease: {lapse: pass}", "lease.lapse", "mode: enforce\nlease: {lapse: pass}"),
            ("record: {enabled: false, max_age: 1d}", "record.max_age", "record: {max_age: 1d}"),
            ("web: {enabled: false, idle: 1h}", "web.idle", "web: {idle: 1h}"),
            (
                "crowdsec: {interval: 5s}",
                "crowdsec.interval",
                "crowdsec: {url: 'http://127.0.0.1:8080', api_key: k, interval: 5s}",
            ),
            (
                "tracing: {otlp: 'http://a:4317', ca_file: /c.pem}",
                "tracing.ca_file",
                "tracing: {otlp: 'https://a:4317', ca_file: /c.pem}",
            ),
            ("log: {flows: true, events: none}", "log.flows", "log: {flows: true}"),
            ("allow: [10.0.0.0/8, 10.1.0.0/16]", "allow[1]", "allow: [10.0.0.0/8, 11.1.0.0/16]"),
            ("home: [10.0.0.7, 10.0.0.7]", "home[1]", "home: [10.0.0.7, 10.0.0.8]"),
            ("default_model: shadow\nwindow: 20s", "default_model", "default_model: shadow"),
            ("mode: observe\nreview: {ttl: 2h}", "review.ttl", "mode: review\nreview: {ttl: 2h}"),
            ("netflow: {}\nxdp: {mode: native}", "xdp.mode", "interface: eth0\nxdp: {mode: native}"),
            (
                "mode: observe\nsinks: [{name: a, type: journald, kinds: [question]}]",
                "sinks[0]",
                "sinks: [{name: a, type: journald, kinds: [question]}]",
            ),
            (
                "policy: {rules: [{name: a, action: alert}, {name: b, when: {proven: true}, action: drop}]}",
                "policy.rules[1]",
                "policy: {rules: [{name: b, when: {proven: true}, action: drop}, {name: a, action: alert}]}",
            ),
        ] {
            assert_eq!(paths(text), [path], "{text}");
            assert_eq!(paths(works), [""; 0], "{works}");
        }
        assert_eq!(paths(""), [""; 0]);
    }
}
