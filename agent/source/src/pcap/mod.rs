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
    let mut meta = PacketMeta::EMPTY;
    while let Some(packet) = packets.next_packet()? {
        report.read += 1;
        if packet.link == LinkType::ETHERNET && !options.decap && epochs.add_common(&packet, sink)? {
            continue;
        }
        let parsed = if options.decap {
            Layers::innermost(&packet).map(|l| meta = l.meta)
        } else {
            layers::meta_into(&packet, &mut meta)
        };
        match parsed {
            Ok(()) => epochs.add(packet.at_us, &meta, sink)?,
            Err(why) => {
                if why == LeftOut::LinkType {
                    report.warn(format!("link type {} is not read: its packets are left out", packet.link));
                }
                report.leave_out(why.reason());
            }
        }
    }
    Ok(())
}
