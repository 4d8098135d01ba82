//! Where nothing says what was decided before, the kernel does: its live entries become decisions again, with what is left of their
//! time. Otherwise the reconciler would take them out, and enforcement would end in silence.

use weir_core::decisions::Added;
use weir_core::event::{DecisionChange, Level};
use weir_core::guard::Allow;
use weir_core::record::TimeUs;

use super::{Agent, Kernel};

impl Agent {
    /// Once, before the entries of an earlier agent are made equal to what is wanted.
    pub(super) fn find_in_kernel(&mut self, now: TimeUs) {
        if !std::mem::take(&mut self.incomplete) {
            return;
        }
        let Some(Kernel { enforcer, .. }) = &self.kernel else { return };
        let found = enforcer.found(crate::clock::monotonic_ns());
        let mut allowed = 0;
        for (prefix, ttl_us) in found.allowed {
            let guard = self.decisions.guard();
            let known =
                guard.safe().iter().any(|s| s.prefix == prefix) || guard.allow().iter().any(|a| a.prefix == prefix);
            let allow = Allow {
                prefix,
                created_us: now,
                expires_us: ttl_us.map(|t| now.saturating_add(t)),
                comment: "found in the kernel: the store did not know of it".to_owned(),
            };
            // Who might pass may go on to; whom that lifts is told of.
            if !known && let Ok(lifted) = self.decisions.allow(allow) {
                allowed += 1;
                for d in lifted {
                    self.decided(now, DecisionChange::Deleted, d, format!("{prefix} is on the allow list"));
                }
            }
        }
        let (mut blocked, mut refused) = (0, 0);
        for new in found.blocked {
            // What was read from a damaged store is told again by the kernel.
            if self.decisions.wanted_on(new.target, now).is_some() {
                continue;
            }
            let target = new.target;
            match self.decisions.add(new, now) {
                Ok(Added::New(d)) => {
                    blocked += 1;
                    self.unconfirmed.push(d.id);
                    self.decided(now, DecisionChange::Added, d, String::new());
                }
                Ok(_) => {}
                Err(why) => {
                    refused += 1;
                    self.news(now, Level::Warning, "refused", format!("the entry on {target} is taken out: {why}"));
                }
            }
        }
        self.unsaved = true;
        if blocked + allowed + refused + found.unknown == 0 {
            return;
        }
        let mut words = format!(
            "the store does not say what was decided before: {blocked} entries found in the kernel hold on as decisions, with what is \
             left of their time, and {allowed} on the allow list"
        );
        if refused + found.unknown > 0 {
            words += &format!("; {} were taken out", refused + found.unknown);
        }
        self.warn("found", words);
    }
}
