//! What is to be done about a source of which the rule is known: whether anything may be, whether a person is asked first, and what the
//! breaker leaves of it.

use super::rule::{self, Act, Then};
use super::weigh::{bounded, held};
use super::{Bench, Case, MAX_TTL_US, MAX_UNPROVEN_TTL_US, Policy, Ruling, duration_words, is_wide, words};
use crate::decision::{Action, Origin, Sides};
use crate::decisions::NewDecision;
use crate::event::Mode;
use crate::question::{NewQuestion, Unanswered};

impl Policy {
    /// Who is at home is never stopped by itself; where a rule says so, a person is asked.
    pub(super) fn at_home(&self, b: &Bench<'_>, refusal: Option<String>) -> Ruling {
        match b.then.ask {
            Some(ask) if bounded(b).stops() && refusal.is_none() && self.may_act(b).is_none() => {
                let ask = rule::Ask { unanswered: Unanswered::Nothing, ..ask };
                self.ask_first(
                    b,
                    bounded(b),
                    ask,
                    "it is a host at home, or what it did was not aimed at home".to_owned(),
                )
            }
            _ => Ruling::none("a home host, or not aimed at home: alert only"),
        }
    }

    /// Why there is to be no entry whatever the rule says.
    fn may_act(&self, b: &Bench<'_>) -> Option<String> {
        let config = &self.config;
        if !config.enters {
            return Some("no interface, so nothing can be stopped here: alert only".to_owned());
        }
        if config.mode_of(b.then) == Mode::Observe {
            return Some("mode observe: alert only".to_owned());
        }
        if config.alerts_only {
            return Some("alert only: `default_model` allows no more until a bundle was learned here".to_owned());
        }
        let (has, needs) = (b.thresholds.benign_windows, config.min_benign_windows);
        (has < needs)
            .then(|| format!("alert only: thresholds rest on {has} benign source windows, {needs} are needed to act"))
    }

    /// Why a person is asked, whatever the rule says, before anything stops packets of the target.
    fn must_ask(&self, b: &Bench<'_>) -> Option<String> {
        let net = b.target.prefix();
        let around = b.case.busy.filter(|_| !net.is_host()).map_or(0.0, |busy| busy.share_within(net));
        let share = b.case.busy_share.max(around);
        let (it, limit) =
            (if around > b.case.busy_share { "this network" } else { "this source" }, self.config.busy_share);
        if share > limit {
            return Some(format!(
                "{it} carries {:.0}% of what is normal here (a proxy, a NAT, a crawler?), and more than {:.0}% is never \
                 dropped automatically",
                100.0 * share,
                100.0 * limit
            ));
        }
        if b.thresholds.strange.contains(&b.case.source) {
            return Some("this source was as unusual while normal was learned, so it may well be normal".to_owned());
        }
        is_wide(net).then(|| format!("{net} is wide, and takes in many who did nothing"))
    }

    pub(super) fn decide(&mut self, b: &Bench<'_>) -> Ruling {
        if let Some(note) = self.may_act(b) {
            return Ruling::none(note);
        }
        let (asked, mode) = (b.asked, self.config.mode_of(b.then));
        let act = bounded(b);
        if act.stops() {
            if let Some(why) = self.must_ask(b) {
                // Silence is no consent to what is never done automatically.
                let ask = rule::Ask { ttl_us: self.ask_of(b).ttl_us, unanswered: Unanswered::Nothing };
                return self.ask_first(b, act, ask, why);
            }
            if b.then.ask.is_some() {
                return self.ask_first(b, act, self.ask_of(b), "the rule asks first".to_owned());
            }
        }
        let suspended = act.stops() && asked.proven && self.is_suspended(b.case);
        // What would be in force in mode enforce.
        let meant = if suspended { Act::Shadow } else { act };
        let capped = self.recent.len() >= self.config.max_per_hour;
        let stops = meant.stops() && mode == Mode::Enforce && !self.tripped && !capped;
        let done = if stops { meant } else { Act::Shadow };
        let weakened = meant != b.then.act;
        let ttl_us =
            if weakened { self.config.unproven_ttl_us.min(MAX_UNPROVEN_TTL_US) } else { self.lifetime(b, meant) };

        if let Some((on, held)) = held(b, done, meant) {
            // The question that came with it hears of what comes on top.
            let asks = meant.stops() && mode == Mode::Review && held.action == Action::Shadow;
            let note = format!("decision {} on {on} holds already", held.id);
            let question = asks.then(|| self.question(b, meant, self.ask_of(b), "mode review".to_owned()));
            return Ruling { question, ..Ruling::none(note) };
        }
        if !asked.proven && self.unproven.len() >= self.config.max_per_hour {
            self.refused += 1;
            return Ruling::none(format!(
                "held back: {} decisions about unproven traffic in the last hour, and names cost a forger nothing",
                self.unproven.len()
            ));
        }
        if self.recent.len() >= 2 * self.config.max_per_hour {
            self.refused += 1;
            return Ruling::none(format!(
                "held back: {} automatic decisions in the last hour; a person may decide, or reset the breaker",
                self.recent.len()
            ));
        }
        let tripping = asked.proven && capped && !self.tripped;
        self.tripped |= tripping;
        if asked.proven { &mut self.recent } else { &mut self.unproven }.add(b.now);
        self.repeaters.add(b.target, asked.proven, b.now);

        let lasts = duration_words(ttl_us);
        let note = if stops {
            format!("{} for {lasts}", words::done(meant))
        } else if meant.stops() {
            format!("shadow only ({}): it would be {} for {lasts}", self.why_shadow(b.then), words::done(meant))
        } else if suspended {
            format!("shadow for {lasts}: what is normal has drifted in its role, so nothing is dropped automatically")
        } else if !asked.proven {
            format!("shadow for {lasts}: unproven traffic may be forged in anyone's name and is not dropped")
        } else {
            format!("shadow for {lasts}")
        };
        let decision = NewDecision {
            instead_of: meant.action().filter(|a| meant.stops() && done.action() != Some(*a)),
            ..self.automatic(b, done, ttl_us)
        };
        let question = (meant.stops() && mode == Mode::Review)
            .then(|| self.question(b, meant, self.ask_of(b), "mode review".to_owned()));
        Ruling { decision: Some(decision), question, note, tripped: tripping }
    }

    /// Why what would stop packets only counts them.
    fn why_shadow(&self, then: &Then) -> String {
        let config = &self.config;
        if self.tripped {
            return format!("the breaker tripped at {} automatic decisions in an hour", config.max_per_hour);
        }
        let mode = config.mode_of(then);
        match config.mode {
            Mode::Enforce if mode != config.effective_mode() => format!("mode {} of the rule", mode.name()),
            Mode::Enforce if config.default_bundle => "`default_model` allows no drops".to_owned(),
            Mode::Enforce => "the model has not been promoted: `weir model promote`".to_owned(),
            _ => format!("mode {}", mode.name()),
        }
    }

    /// How long what the rule asks for holds, µs.
    fn lifetime(&self, b: &Bench<'_>, act: Act) -> u64 {
        let proven = b.asked.proven;
        let asked_for = match &b.then.lasts {
            Some(lasts) => lasts.at(self.repeaters.earlier(b.target, proven, b.now, lasts.within_us)),
            None if act.stops() => self.config.drop_ttl_us,
            None => self.config.unproven_ttl_us,
        };
        asked_for.clamp(1, if proven { MAX_TTL_US } else { MAX_UNPROVEN_TTL_US })
    }

    /// How a person is asked who is asked by the rule or by the mode.
    fn ask_of(&self, b: &Bench<'_>) -> rule::Ask {
        let config = &self.config;
        let ask = b.then.ask.unwrap_or(rule::Ask { ttl_us: config.question_ttl_us, unanswered: config.unanswered });
        // What is not answered is carried out where the agent itself might act, and no more often than it might.
        let may = config.promoted && b.asked.proven && !self.tripped && self.recent.len() < config.max_per_hour;
        if may { ask } else { rule::Ask { unanswered: Unanswered::Nothing, ..ask } }
    }

    /// What would stop packets is left to a person, and nothing is entered meanwhile.
    fn ask_first(&self, b: &Bench<'_>, act: Act, ask: rule::Ask, why: String) -> Ruling {
        let note = format!("asks a person: {why}");
        Ruling { question: Some(self.question(b, act, ask, why)), ..Ruling::none(note) }
    }

    fn question(&self, b: &Bench<'_>, act: Act, ask: rule::Ask, why: String) -> NewQuestion {
        NewQuestion {
            source: b.case.source,
            flow: b.case.level.going_on[usize::from(b.asked.proven)],
            proposed: self.automatic(b, act, self.lifetime(b, act)),
            why,
            ttl_us: ask.ttl_us,
            unanswered: ask.unanswered,
        }
    }

    fn automatic(&self, b: &Bench<'_>, act: Act, ttl_us: u64) -> NewDecision {
        let by_proven = b.asked.proven && b.then.act.stops() && !(act == Act::Shadow && self.is_suspended(b.case));
        let reason = words::reason(b.shown(), b.asked.all, b.asked.proven_level, b.thresholds, by_proven);
        NewDecision {
            target: b.target,
            action: act.action().unwrap_or(Action::Shadow),
            limit: if let Act::Limit(rate) = act { Some(rate) } else { None },
            sides: Sides::In,
            origin: Origin::Automatic,
            ttl_us: Some(ttl_us),
            reason: b.rule.map_or_else(|| reason.clone(), |name| format!("rule `{name}`: {reason}")),
            instead_of: None,
            alert_id: None,
            confirm_within_us: None,
        }
    }

    fn is_suspended(&self, case: &Case<'_>) -> bool {
        let levels = [Some(case.level), case.net].into_iter().flatten();
        levels.filter_map(|l| l.proven_by).any(|place| self.suspended.contains(&place))
    }
}
