//! Numbers of our addresses of the flows that are entries ([`weir_common::names::FLOW_ENDS`]).

use std::collections::HashMap;

use weir_common::entry::{FlowTarget, MAX_FLOW_TARGETS};

use crate::KernelError;
use crate::entries::settle;

/// Which numbers are in use.
#[derive(Debug, Default)]
pub(super) struct Ends {
    numbers: HashMap<FlowTarget, u16>,
    free: Vec<u16>,
    /// Given back, while a program may still hold a record that says so.
    limbo: Vec<u16>,
    /// No number from here on was ever given out.
    next: u32,
}

impl Ends {
    /// Takes over a number that an earlier agent gave out.
    pub fn adopt(&mut self, flow: FlowTarget, number: u32) {
        self.limbo.extend(self.numbers.insert(flow, number as u16));
        self.next = self.next.max(number + 1);
    }

    /// All are taken over: what lies between them is free.
    pub fn adopted(&mut self) {
        let mut used = vec![false; self.next as usize];
        self.numbers.values().chain(&self.limbo).for_each(|n| used[usize::from(*n)] = true);
        self.free = (0..=u16::MAX).zip(used).filter(|(_, used)| !used).map(|(n, _)| n).collect();
    }

    /// The number of a flow that is known.
    pub fn number(&self, flow: &FlowTarget) -> Option<u16> {
        self.numbers.get(flow).copied()
    }

    /// How many more there are.
    pub fn room(&self) -> usize {
        MAX_FLOW_TARGETS as usize - self.numbers.len()
    }

    /// A number for a flow, that nobody uses.
    pub fn take(&mut self, flow: FlowTarget) -> Result<u16, KernelError> {
        if self.free.is_empty() && self.next >= MAX_FLOW_TARGETS && !self.limbo.is_empty() {
            settle()?;
            self.free.append(&mut self.limbo);
        }
        let number = match self.free.pop() {
            Some(n) => n,
            None if self.next < MAX_FLOW_TARGETS => {
                self.next += 1;
                (self.next - 1) as u16
            }
            None => return Err(KernelError::TooManyFlows { max: MAX_FLOW_TARGETS }),
        };
        self.numbers.insert(flow, number);
        Ok(number)
    }

    /// Gives back the number of a flow whose record is in no index any more.
    pub fn give_back(&mut self, flow: &FlowTarget) {
        self.limbo.extend(self.numbers.remove(flow));
    }
}
