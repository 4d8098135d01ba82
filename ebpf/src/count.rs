//! Per-reason counters.

use weir_common::counters::Reason;
use weir_common::parse::NotParsed;

use crate::maps::COUNTERS;

/// `reason` is an ingress one; at egress its twin is counted.
#[inline(always)]
pub fn count(reason: Reason, egress: bool, packets: u32, bytes: u32) {
    let index = reason as u32 | egress as u32;
    if let Some(c) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the map's value; only this processor writes it, and never interrupted by another run of this program.
        unsafe {
            (*c).packets += u64::from(packets);
            (*c).bytes += u64::from(bytes);
        }
    }
}

#[inline(always)]
pub fn count_not_parsed(why: NotParsed, egress: bool, bytes: u32) {
    let reason = match why {
        NotParsed::NotIp => Reason::InNotIp,
        NotParsed::Malformed => Reason::InMalformed,
    };
    count(reason, egress, 1, bytes);
}
