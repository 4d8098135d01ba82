//! The interfaces as they stand, for whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_common::counters::{Counter, Reason};
use weir_kernel::counters::Counters;
use weir_kernel::{AttachedMode, KernelError};

/// Why there are no programs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Somebody else's XDP program is there.
    ForeignProgram,
    /// Another agent watches it.
    Locked,
    /// Pins of another version, or damaged ones.
    ForeignPins,
    /// The kernel did not take the programs.
    Load,
    /// The interface did not take them.
    Attach,
    /// The kernel refused something else, such as memory.
    Refused,
}

impl Failure {
    pub const ALL: [(Failure, &'static str); 6] = [
        (Failure::ForeignProgram, "foreign_program"),
        (Failure::Locked, "locked"),
        (Failure::ForeignPins, "foreign_pins"),
        (Failure::Load, "load"),
        (Failure::Attach, "attach"),
        (Failure::Refused, "refused"),
    ];

    pub(super) fn of(e: &KernelError) -> Self {
        match e {
            KernelError::ForeignXdp { .. } => Self::ForeignProgram,
            KernelError::ForeignPins { .. } => Self::ForeignPins,
            KernelError::NoObject | KernelError::Load(_) => Self::Load,
            KernelError::Attach { .. } | KernelError::NoInterface(_) => Self::Attach,
            _ => Self::Refused,
        }
    }
}

/// An interface that is to be watched.
#[derive(Debug)]
pub struct Member {
    pub name: Arc<str>,
    pub up: bool,
    pub mtu: u32,
    /// How the programs are attached, or why they are not.
    pub state: Result<AttachedMode, String>,
    /// Flows per epoch that it has room for.
    pub flows: u32,
    /// How often the programs were attached again.
    pub reattached: u64,
    pub(super) counters: Option<Counters>,
}

impl Member {
    /// What was counted there; `None` where there are no programs.
    pub fn counted(&self) -> Option<Result<Vec<(Reason, Counter)>, KernelError>> {
        self.counters.as_ref().map(Counters::read)
    }
}

/// Everything about the interfaces.
#[derive(Debug, Default)]
pub struct Whole {
    /// By index.
    pub members: BTreeMap<u32, Member>,
    /// Named outright, and not there.
    pub missing: Vec<String>,
    /// What interfaces counted that are gone.
    gone: BTreeMap<u32, Counter>,
    failures: BTreeMap<Failure, u64>,
    pub attached: u64,
    pub left: u64,
    pub reattached: u64,
}

impl Whole {
    pub(super) fn failed(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    /// Attempts to attach that failed, by cause.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Failure::ALL.into_iter().map(|(f, name)| (name, self.failures.get(&f).copied().unwrap_or(0)))
    }

    /// It is gone: what it has counted stays counted.
    pub(super) fn remove(&mut self, interface: u32) -> Option<Member> {
        let member = self.members.remove(&interface)?;
        match member.counted() {
            Some(Ok(counted)) => {
                for (reason, n) in counted {
                    let sum = self.gone.entry(reason as u32).or_default();
                    *sum = add(*sum, n);
                }
            }
            Some(Err(e)) => log::warn!("{}: what it counted last cannot be read: {e}", member.name),
            None => {}
        }
        Some(member)
    }

    /// Totals of all interfaces, those that are gone included, one per reason.
    pub fn counted(&self) -> Result<Vec<(Reason, Counter)>, KernelError> {
        let of_gone = |r: &Reason| (*r, self.gone.get(&(*r as u32)).copied().unwrap_or_default());
        let mut sums: Vec<(Reason, Counter)> = Reason::ALL.iter().map(of_gone).collect();
        for member in self.members.values() {
            for ((_, sum), (_, n)) in sums.iter_mut().zip(member.counted().transpose()?.unwrap_or_default()) {
                *sum = add(*sum, n);
            }
        }
        Ok(sums)
    }

    /// What an operator should know, as long as it is so. `sole`: there is one interface, which need not be named.
    pub fn warnings(&self, sole: bool) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for member in self.members.values() {
            match &member.state {
                Ok(AttachedMode::Native) => {}
                Ok(AttachedMode::Generic(cause)) if sole => all.push(generic_words("", cause)),
                Ok(AttachedMode::Generic(cause)) => all.push(generic_words(&format!(" on {}", member.name), cause)),
                Err(why) => all.push(unprotected_words(&member.name, why)),
            }
        }
        all.extend(self.missing.iter().map(|name| missing_words(name)));
        all
    }
}

fn add(a: Counter, b: Counter) -> Counter {
    Counter { packets: a.packets.wrapping_add(b.packets), bytes: a.bytes.wrapping_add(b.bytes) }
}

pub(super) fn generic_words(on: &str, cause: &str) -> String {
    format!("XDP runs in generic mode{on}, slower and behind GRO: {cause}")
}

pub(super) fn unprotected_words(name: &str, why: &str) -> String {
    format!("{name} is NOT PROTECTED: {why}")
}

pub(super) fn missing_words(name: &str) -> String {
    format!("{name} is NOT PROTECTED: there is no such interface any more; it will be attached to when it comes back")
}

/// Shared by the thread that writes it and those who look.
#[derive(Debug, Default)]
pub struct Roster(Mutex<Whole>);

impl Roster {
    pub fn look(&self) -> MutexGuard<'_, Whole> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
