//! What the API has decided so far, by the numbers it gave.

use std::collections::{HashMap, HashSet};

use weir_core::addr::Prefix;
use weir_core::decisions::lists::{Draft, From, MAX_REASONS, Member, Rule};
use weir_core::record::TimeUs;

use super::LIST;
use super::answer::{Answer, Decision};
use crate::config::{Act, CrowdSec};
use crate::lists::{Brought, duration, rule};

/// One decision that is enforced.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    prefix: Prefix,
    act: Act,
    why: u16,
    ends_us: TimeUs,
}

#[derive(Clone, Debug)]
pub struct State {
    url: String,
    by_id: HashMap<i64, Held>,
    /// Of an earlier run, whose numbers are not known; and what a full answer lacked so much of that it is not believed.
    kept: Vec<(Rule, Member)>,
    kept_reasons: Vec<String>,
    reasons: Vec<String>,
    known: HashMap<String, u16>,
    /// Decisions left out of the last full answer and since, by why.
    left_out: HashMap<&'static str, u64>,
}

/// What a delta did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub any: bool,
    /// Something was deleted that may leave another decision on its target: only a full answer tells.
    pub ambiguous: bool,
}

impl State {
    pub fn new(config: &CrowdSec, held: Option<Draft>) -> Self {
        let (mut kept, mut kept_reasons) = (Vec::new(), vec![String::new()]);
        if let Some(held) = held {
            let rules = held.rules;
            kept = held.members.into_iter().filter_map(|m| Some((*rules.get(usize::from(m.rule))?, m))).collect();
            kept_reasons = held.reasons;
        }
        Self {
            url: config.url.clone().unwrap_or_default(),
            by_id: HashMap::new(),
            kept,
            kept_reasons,
            reasons: vec![String::new()],
            known: HashMap::new(),
            left_out: HashMap::new(),
        }
    }

    /// What came so far counts no more.
    pub fn forget(&mut self) {
        self.by_id.clear();
        self.kept.clear();
    }

    fn live(&mut self, now: TimeUs) -> usize {
        self.by_id.retain(|_, h| h.ends_us > now);
        self.kept.retain(|(_, m)| m.expires_us > now);
        self.by_id.len() + self.kept.len()
    }

    fn why(&mut self, scenario: &str) -> u16 {
        if let Some(at) = self.known.get(scenario) {
            return *at;
        }
        if self.reasons.len() >= MAX_REASONS {
            return 0;
        }
        let at = self.reasons.len() as u16;
        self.reasons.push(scenario.chars().filter(|c| !c.is_control()).take(200).collect());
        self.known.insert(scenario.to_owned(), at);
        at
    }

    /// The decision as it is to be enforced; `Err`: why it is left out.
    fn held(&mut self, d: &Decision<'_>, config: &CrowdSec, now: TimeUs) -> Result<Held, &'static str> {
        if !d.scope.eq_ignore_ascii_case("ip") && !d.scope.eq_ignore_ascii_case("range") {
            return Err("of another scope than Ip and Range");
        }
        if !config.origins.is_empty() && !config.origins.iter().any(|o| o.eq_ignore_ascii_case(&d.origin)) {
            return Err("of another origin than those of `crowdsec.origins`");
        }
        let a = &config.actions;
        let act = match d.kind.to_ascii_lowercase().as_str() {
            "ban" => a.ban,
            "captcha" => a.captcha,
            "throttle" => a.throttle,
            _ => a.other,
        };
        let act = if d.simulated == Some(true) { act.and(a.simulated) } else { act };
        let act = act.ok_or("of a type that `crowdsec.actions` leaves out")?;
        let prefix = d.value.parse().map_err(|_| "about no address and no network")?;
        let left = duration::parse(&d.duration).ok_or("without a length of time")?;
        if left <= 0 {
            return Err("that are over");
        }
        let why = self.why(&d.scenario);
        Ok(Held { prefix, act, why, ends_us: now.saturating_add(left.unsigned_abs()) })
    }

    fn add(&mut self, d: &Decision<'_>, config: &CrowdSec, now: TimeUs) {
        match self.held(d, config, now) {
            Ok(held) => drop(self.by_id.insert(d.id, held)),
            Err(why) => *self.left_out.entry(why).or_default() += 1,
        }
    }

    /// A full answer. One that lacks too much of what is held lifts nothing, and that is the error.
    pub fn replace(&mut self, answer: &Answer<'_>, config: &CrowdSec, now: TimeUs) -> Result<(), String> {
        let before = self.live(now);
        let old = self.clone();
        self.by_id.clear();
        self.kept.clear();
        self.left_out.clear();
        for d in &answer.new {
            self.add(d, config, now);
        }
        let after = self.by_id.len();
        let least = before as f64 * (1.0 - config.max_shrink);
        if before == 0 || (after > 0 && after as f64 >= least) {
            return Ok(());
        }
        self.kept = old.kept_members();
        self.kept_reasons = old.all_reasons();
        Err(format!(
            "a full answer held {after} decisions and {before} are in force; they stay until each ends, beside the new ones (if the \
             answer is right: `weir lists remove {LIST}`)"
        ))
    }

    /// Everything as members of a list, whose reasons are those of [`State::all_reasons`].
    fn kept_members(&self) -> Vec<(Rule, Member)> {
        let first = self.kept_reasons.len() as u16;
        let member = |h: &Held| {
            let why = h.why.saturating_add(first);
            (rule(h.act), Member { prefix: h.prefix, rule: 0, why, expires_us: h.ends_us, id: 0 })
        };
        self.kept.iter().copied().chain(self.by_id.values().map(member)).collect()
    }

    fn all_reasons(&self) -> Vec<String> {
        let mut all: Vec<String> = self.kept_reasons.iter().chain(&self.reasons).cloned().collect();
        all.truncate(MAX_REASONS);
        all
    }

    /// What is new, and what is deleted: in this order of effects, whatever the order in the answer, since what is deleted and
    /// made again in one answer is to hold.
    pub fn change(&mut self, answer: &Answer<'_>, config: &CrowdSec, now: TimeUs) -> Changed {
        let mut changed = Changed { any: !answer.new.is_empty(), ambiguous: false };
        for d in &answer.deleted {
            changed.any |= self.by_id.remove(&d.id).is_some();
        }
        let deleted: HashSet<Prefix> = answer.deleted.iter().filter_map(|d| d.value.parse().ok()).collect();
        if !deleted.is_empty() {
            let left = self.by_id.values().map(|h| h.prefix).chain(self.kept.iter().map(|(_, m)| m.prefix));
            changed.ambiguous = left.into_iter().any(|p| deleted.contains(&p));
        }
        for d in &answer.new {
            self.add(d, config, now);
        }
        changed
    }

    /// The list as it is to be enforced.
    pub fn brought(&mut self, now: TimeUs) -> Brought {
        self.live(now);
        let mut draft = Draft::new(LIST.to_owned(), From::CrowdSec(self.url.clone()), format!("from {}", self.url));
        draft.reasons = self.all_reasons();
        let most = draft.reasons.len();
        for (rule, m) in self.kept_members() {
            if let Some(rule) = draft.rule(rule) {
                let why = if usize::from(m.why) < most { m.why } else { 0 };
                draft.push(m.prefix, rule, why, m.expires_us);
            }
        }
        draft.sort();
        let mut left_out: Vec<_> = self.left_out.iter().collect();
        left_out.sort();
        let words: Vec<String> = left_out.into_iter().map(|(why, n)| format!("{n} {why}")).collect();
        let left_out =
            if words.is_empty() { String::new() } else { format!("decisions left out: {}", words.join(", ")) };
        // The state itself knows what may shrink.
        Brought { draft, max_shrink: None, left_out, warning: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeUs = 1_000_000_000_000;

    fn answer(new: &[(i64, &str, &str)], deleted: &[(i64, &str)]) -> String {
        let one = |id: i64, value: &str, duration: &str| serde_json::json!({"id": id, "origin": "crowdsec", "type": "ban", "scope": "Ip", "value": value, "duration": duration, "scenario": "ssh-bf", "uuid": "x"});
        let new: Vec<_> = new.iter().map(|(id, v, d)| one(*id, v, d)).collect();
        let deleted: Vec<_> = deleted.iter().map(|(id, v)| one(*id, v, "-1s")).collect();
        serde_json::json!({"new": new, "deleted": deleted}).to_string()
    }

    fn held(state: &mut State, now: TimeUs) -> Vec<String> {
        state.brought(now).draft.members.iter().map(|m| m.prefix.to_string()).collect()
    }

    fn started(config: &CrowdSec, n: i64) -> State {
        let mut state = State::new(config, None);
        let values: Vec<String> = (1..=n).map(|i| format!("192.0.2.{i}")).collect();
        let new: Vec<_> = values.iter().enumerate().map(|(i, v)| (i as i64 + 1, v.as_str(), "1h")).collect();
        state.replace(&Answer::read(answer(&new, &[]).as_bytes()).unwrap(), config, NOW).unwrap();
        state
    }

    fn delta(state: &mut State, config: &CrowdSec, text: &str) -> Changed {
        state.change(&Answer::read(text.as_bytes()).unwrap(), config, NOW)
    }

    #[test]
    fn what_is_deleted_is_lifted_and_what_is_made_again_holds() {
        let config = CrowdSec::default();
        let mut state = started(&config, 3);
        assert_eq!(held(&mut state, NOW), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let c = delta(&mut state, &config, &answer(&[(9, "192.0.2.2", "1h")], &[(1, "192.0.2.1"), (2, "192.0.2.2")]));
        assert_eq!((c.any, c.ambiguous), (true, false));
        assert_eq!(held(&mut state, NOW), ["192.0.2.2", "192.0.2.3"]);
        assert!(held(&mut state, NOW + 3_600_000_000).is_empty(), "ends run here");
    }

    #[test]
    fn a_deletion_that_may_leave_another_decision_lifts_nothing_before_the_whole_is_known() {
        let config = CrowdSec::default();
        let mut state = started(&config, 2);
        delta(&mut state, &config, &answer(&[(7, "192.0.2.1", "2h")], &[]));
        let c = delta(&mut state, &config, &answer(&[], &[(1, "192.0.2.1")]));
        assert!(c.ambiguous);
        assert_eq!(held(&mut state, NOW), ["192.0.2.1", "192.0.2.2"]);
        let unknown = delta(&mut state, &config, &answer(&[], &[(99, "192.0.2.2")]));
        assert!(unknown.ambiguous, "of a number that never came");
        assert_eq!(held(&mut state, NOW).len(), 2);
    }

    #[test]
    fn a_full_answer_that_lacks_most_lifts_nothing_and_its_new_ones_hold() {
        let config = CrowdSec::default();
        for (text, after) in [
            (answer(&[], &[]), 10),
            (answer(&[(50, "203.0.113.1", "1h")], &[]), 11),
            (r#"{"new": null, "deleted": null}"#.to_owned(), 10),
        ] {
            let mut state = started(&config, 10);
            let why = state.replace(&Answer::read(text.as_bytes()).unwrap(), &config, NOW).unwrap_err();
            assert!(why.contains("10 are in force"), "{why}");
            assert_eq!(held(&mut state, NOW).len(), after, "{text}");
            assert!(held(&mut state, NOW + 3_600_000_000).is_empty(), "they end at their time");
        }
        let mut state = started(&config, 10);
        let most: Vec<String> = (1..=6).map(|i| format!("192.0.2.{i}")).collect();
        let most: Vec<_> = most
            .iter()
            .map(|v| (100, v.as_str(), "1h"))
            .enumerate()
            .map(|(i, (n, v, d))| (n + i as i64, v, d))
            .collect();
        state.replace(&Answer::read(answer(&most, &[]).as_bytes()).unwrap(), &config, NOW).unwrap();
        assert_eq!(held(&mut state, NOW).len(), 6);
    }

    #[test]
    fn what_an_earlier_run_held_is_held_until_a_full_answer_comes() {
        let config = CrowdSec::default();
        let before = started(&config, 4).brought(NOW).draft;
        let mut state = State::new(&config, Some(before));
        assert_eq!(held(&mut state, NOW).len(), 4);
        state.replace(&Answer::read(answer(&[], &[]).as_bytes()).unwrap(), &config, NOW).unwrap_err();
        assert_eq!(held(&mut state, NOW).len(), 4);
        state.forget();
        assert!(held(&mut state, NOW).is_empty());
    }

    #[test]
    fn scopes_types_origins_and_simulations_are_as_configured() {
        let config = CrowdSec { origins: vec!["crowdsec".into()], ..CrowdSec::default() };
        let text = r#"{"new": [
            {"id": 1, "origin": "crowdsec", "type": "ban", "scope": "Range", "value": "10.1.0.0/16", "duration": "1h", "scenario": "s"},
            {"id": 2, "origin": "crowdsec", "type": "captcha", "scope": "ip", "value": "192.0.2.1", "duration": "1h", "scenario": "s"},
            {"id": 3, "origin": "crowdsec", "type": "ban", "scope": "Country", "value": "XX", "duration": "1h", "scenario": "s"},
            {"id": 4, "origin": "CAPI", "type": "ban", "scope": "Ip", "value": "192.0.2.2", "duration": "1h", "scenario": "s"},
            {"id": 5, "origin": "crowdsec", "type": "ban", "scope": "Ip", "value": "192.0.2.3", "duration": "1h", "scenario": "s", "simulated": true},
            {"id": 6, "origin": "crowdsec", "type": "mfa", "scope": "Ip", "value": "192.0.2.4", "duration": "1h", "scenario": "s"},
            {"id": 7, "origin": "crowdsec", "type": "ban", "scope": "Ip", "value": "192.0.2.5", "duration": "soon", "scenario": "s"}
        ], "deleted": null}"#;
        let mut state = State::new(&config, None);
        state.replace(&Answer::read(text.as_bytes()).unwrap(), &config, NOW).unwrap();
        let brought = state.brought(NOW);
        let rules = &brought.draft.rules;
        let members: Vec<_> =
            brought.draft.members.iter().map(|m| (m.prefix.to_string(), rules[usize::from(m.rule)].action)).collect();
        use weir_core::decision::Action::{Drop, Shadow};
        let expected = [("10.1.0.0/16", Drop), ("192.0.2.1", Shadow), ("192.0.2.3", Shadow)];
        let found: Vec<_> = members.iter().map(|(p, a)| (p.as_str(), *a)).collect();
        for e in expected {
            assert!(found.contains(&e), "{found:?}");
        }
        assert_eq!(found.len(), 3);
        for words in ["1 of another scope", "1 of another origin", "1 of a type", "1 without a length"] {
            assert!(brought.left_out.contains(words), "{}", brought.left_out);
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"new": []}"#,
            "<html>504</html>",
            r#"{"message": "access forbidden"}"#,
            r#"{"new": [{"id": 1}], "deleted"#,
        ] {
            assert!(Answer::read(bad.as_bytes()).is_err(), "{bad}");
        }
        let e = Answer::read(b"<html>504").unwrap_err();
        assert!(e.contains("it begins `<html>504`"), "{e}");
    }
}
