//! Capture files, pcap and pcapng: packets out of the file, through the parser that the kernel runs, into epochs.
//!
//! ```text
//! file -> packets (classic, ng: through a window of fixed size) -> layers (link, decap: where IP begins; weir_common::parse),
//!      or at once where the packet is a common one (common)
//!      -> epochs (FlowStats per flow and epoch) -> Sink
//! ```
//!
//! [`Packets`] and [`Layers`] stand on their own, for whoever wants the packets of a capture: export traffic, tests.

mod classic;
mod common;
mod decap;
mod epochs;
mod layers;
mod link;
mod ng;
mod packets;
#[cfg(test)]
mod tests;
mod window;

use std::io::BufRead;

use weir_common::parse::PacketMeta;

pub use layers::Layers;
pub use link::{LeftOut, LinkType};
pub use packets::{LATEST_US, Packet, Packets};

use crate::Options;
use crate::report::{Halt, Report};
use crate::sink::Sink;
use epochs::Epochs;

/// The packets of a capture: see [`Packets`].
///
/// # Errors
/// See [`Packets::new`].
pub fn packets<R: std::io::Read>(reader: R) -> Result<Packets<R>, crate::SourceError> {
    Packets::new(reader)
}

pub(crate) fn read(
    reader: &mut dyn BufRead,
    options: &Options,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    let mut packets = Packets::new(reader)?;
    let mut epochs = Epochs::new(options.epoch_us);
    let result = fold(&mut packets, &mut epochs, options, report, sink);
    if let Err(Halt::Stopped) = result {
        return result;
    }
    epochs.finish(sink)?;
    if packets.truncated() {
        report.truncated = true;
        report.warn(format!(
            "the capture is cut short at byte {}: the {} packets before that are complete",
            packets.offset(),
            report.read
        ));
    }
    if epochs.strays() > 0 {
        report.warn(format!(
            "{} packets have a time more than an hour ahead of the packets around them: they count at the time of those",
            epochs.strays()
        ));
    }
    if packets.untimed() > 0 {
        report.warn(format!(
            "{} packets have no time of their own (Simple Packet Blocks): they count at the time of the packet before",
            packets.untimed()
        ));
    }
    result
}

fn fold<R: std::io::Read>(
    packets: &mut Packets<R>,
    epochs: &mut Epochs,
    options: &Options,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    let mut each = Each { epochs, options, report, sink };
    loop {
        // Apart, since what comes either way is put together in memory and read from there.
        if let Some(packet) = packets.near() {
            each.take(&packet)?;
        } else if let Some(packet) = packets.next_packet()? {
            each.take(&packet)?;
        } else {
            return Ok(());
        }
    }
}

/// What becomes of each packet.
struct Each<'a> {
    epochs: &'a mut Epochs,
    options: &'a Options,
    report: &'a mut Report,
    sink: &'a mut dyn Sink,
}

impl Each<'_> {
    #[inline(always)]
    fn take(&mut self, packet: &Packet<'_>) -> Result<(), Halt> {
        self.report.read += 1;
        let maybe_common = packet.link == LinkType::ETHERNET && !self.options.decap;
        if maybe_common && self.epochs.add_common(packet, self.sink)? { Ok(()) } else { self.take_uncommon(packet) }
    }

    #[inline(never)]
    fn take_uncommon(&mut self, packet: &Packet<'_>) -> Result<(), Halt> {
        let mut meta = PacketMeta::EMPTY;
        let parsed = if self.options.decap {
            Layers::innermost(packet).map(|l| meta = l.meta)
        } else {
            layers::meta_into(packet, &mut meta)
        };
        match parsed {
            Ok(()) => self.epochs.add(packet.at_us, &meta, self.sink)?,
            Err(why) => {
                if why == LeftOut::LinkType {
                    self.report.warn(format!("link type {} is not read: its packets are left out", packet.link));
                }
                self.report.leave_out(why.reason());
            }
        }
        Ok(())
    }
}
