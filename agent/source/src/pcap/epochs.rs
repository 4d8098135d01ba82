//! Packets of one epoch, as the kernel keeps them: statistics per flow, handed on when the epoch ends.

use weir_common::flow::{KeyWords, Packet};
use weir_common::parse::{Offload, PacketMeta};
use weir_core::table::{Gathered, Spot};

use super::common;
use crate::sink::{Sink, Stop};

/// A packet that is further ahead of the clock than this moves it only if the packet behind it does not go back by as much:
/// otherwise one wrong time would hold up the timeouts of everything that follows.
const LEAP_US: u64 = 3_600_000_000;
/// Packets that are counted together: memory is asked for the flows of all of them before the first one counts.
const BATCH: usize = 32;

pub(super) struct Epochs {
    epoch_us: u64,
    /// End of the current epoch; 0 before the first packet.
    end_us: u64,
    /// Packets from here on need more than to be counted: the end of the epoch, and 0 while one is held back.
    gate_us: u64,
    /// A packet whose time is not believed yet.
    held: Option<(u64, PacketMeta)>,
    /// Packets whose time was not believed: counted with the packets around them.
    strays: u64,
    /// The sink's table has counted packets of the current epoch.
    counted: bool,
    /// Where the sink has no table.
    flows: Gathered,
    /// Packets of the current epoch that are not counted yet: the first so many.
    waiting: [(KeyWords, Packet); BATCH],
    waits: usize,
}

impl Epochs {
    pub(super) fn new(epoch_us: u64) -> Self {
        Self {
            epoch_us: epoch_us.max(1),
            end_us: 0,
            gate_us: 0,
            held: None,
            strays: 0,
            counted: false,
            flows: Gathered::default(),
            waiting: [Default::default(); BATCH],
            waits: 0,
        }
    }

    /// Counts a packet. The clock never runs back: a packet from the past belongs to the current epoch.
    #[inline]
    pub(super) fn add(&mut self, at_us: u64, meta: &PacketMeta, sink: &mut dyn Sink) -> Result<(), Stop> {
        if at_us >= self.gate_us && !self.believe(at_us, meta, sink)? {
            return Ok(());
        }
        self.take(at_us, meta, sink)
    }

    /// Counts a packet that is a common one and belongs to the current epoch. `false`: nothing was done with it.
    #[inline(always)]
    pub(super) fn add_common(&mut self, frame: &super::Packet<'_>, sink: &mut dyn Sink) -> Result<bool, Stop> {
        let Some((key, packet)) = self.waiting.get_mut(self.waits) else { return Ok(false) };
        if frame.at_us >= self.gate_us || !common::read(frame.data, frame.wire_len, key, packet) {
            return Ok(false);
        }
        packet.now_us = frame.at_us;
        self.waits += 1;
        if self.waits >= BATCH {
            self.count(sink)?;
        }
        Ok(true)
    }

    /// Packets whose time was far ahead of all around them.
    pub(super) fn strays(&self) -> u64 {
        self.strays
    }

    /// Moves the clock to a packet that is beyond the current epoch. `false`: it is held back until the next one comes.
    #[cold]
    fn believe(&mut self, at_us: u64, meta: &PacketMeta, sink: &mut dyn Sink) -> Result<bool, Stop> {
        if let Some((held_us, held)) = self.held.take() {
            self.gate_us = self.end_us;
            if at_us >= held_us.saturating_sub(LEAP_US) {
                self.go_to(held_us, sink)?;
                self.take(held_us, &held, sink)?;
            } else {
                self.strays += 1;
                if self.end_us == 0 {
                    self.go_to(at_us, sink)?;
                }
                self.take(at_us.min(self.end_us - 1), &held, sink)?;
            }
        }
        if at_us < self.end_us {
            return Ok(true);
        }
        if self.end_us == 0 || at_us - self.end_us > LEAP_US {
            self.held = Some((at_us, *meta));
            self.gate_us = 0;
            return Ok(false);
        }
        self.go_to(at_us, sink)?;
        Ok(true)
    }

    #[inline]
    fn take(&mut self, at_us: u64, meta: &PacketMeta, sink: &mut dyn Sink) -> Result<(), Stop> {
        if let Some((key, packet)) = self.waiting.get_mut(self.waits) {
            *packet = meta.packet(Offload::default());
            (packet.dir, packet.now_us) = (meta.key_into(key), at_us);
        }
        self.waits += 1;
        if self.waits >= BATCH { self.count(sink) } else { Ok(()) }
    }

    /// Counts the packets that wait.
    fn count(&mut self, sink: &mut dyn Sink) -> Result<(), Stop> {
        if let Some(table) = sink.table() {
            let waits = std::mem::take(&mut self.waits).min(BATCH);
            self.counted |= waits > 0;
            return if table.count(&self.waiting[..waits]) { Ok(()) } else { self.hand_on(sink) };
        }
        let waits = std::mem::take(&mut self.waits).min(BATCH);
        let mut spots = [Spot::default(); BATCH];
        for (spot, (key, _)) in spots.iter_mut().zip(&self.waiting[..waits]) {
            *spot = self.flows.ask_for(key.key());
        }
        for (spot, (key, packet)) in spots.into_iter().zip(&self.waiting[..waits]) {
            self.flows.count(spot, key.key(), packet);
        }
        if self.flows.len() < Gathered::MANY { Ok(()) } else { self.hand_on(sink) }
    }

    /// Ends the current epoch, and those without packets up to the one that `at_us` is in.
    #[cold]
    fn go_to(&mut self, at_us: u64, sink: &mut dyn Sink) -> Result<(), Stop> {
        let begin = at_us - at_us % self.epoch_us;
        let first = self.end_us == 0;
        self.count(sink)?;
        self.hand_on(sink)?;
        // After a silence: what timed out meanwhile is over before the new packets count.
        if !first && begin > self.end_us {
            sink.epoch(begin, self.flows.flows_mut())?;
            self.flows.clear();
        }
        self.end_us = begin.saturating_add(self.epoch_us);
        self.gate_us = self.end_us;
        Ok(())
    }

    fn hand_on(&mut self, sink: &mut dyn Sink) -> Result<(), Stop> {
        if !self.flows.is_empty() || std::mem::take(&mut self.counted) {
            sink.epoch(self.end_us, self.flows.flows_mut())?;
            self.flows.clear();
        }
        Ok(())
    }

    /// The input has ended. Nothing speaks against the last packet's time.
    pub(super) fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Stop> {
        if let Some((held_us, held)) = self.held.take() {
            self.go_to(held_us, sink)?;
            self.take(held_us, &held, sink)?;
        }
        self.count(sink)?;
        self.hand_on(sink)
    }
}
