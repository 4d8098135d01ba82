//! What was lost on the way, by the exporters' own numbering.

/// A jump of more than this is a restart of the exporter.
const MAX_GAP: u32 = 1_000_000;

/// Numbers of one stream: of flow records (v5 and IPFIX) or of datagrams (v9), modulo 2³².
#[derive(Debug)]
pub(super) struct Sequence {
    last: u32,
    /// What the message numbered `last` held.
    count: u32,
    /// Missing so far, and may still come out of order.
    missing: u32,
}

impl Sequence {
    pub fn new(seq: u32, count: u32) -> Self {
        Self { last: seq, count, missing: 0 }
    }

    /// Takes the next message's number and how much it holds. The change of what is missing.
    ///
    /// A message should be numbered by what was sent before it (RFC 7011, 3.1), but softflowd's IPFIX counts the message
    /// itself as well: what fits either way is whole.
    pub fn take(&mut self, seq: u32, count: u32) -> i64 {
        let step = seq.wrapping_sub(self.last);
        let (by_rule, inclusive) = (step.wrapping_sub(self.count), step.wrapping_sub(count));
        let gap = by_rule.min(inclusive);
        let back = self.last.wrapping_sub(seq);
        if gap > MAX_GAP && back <= MAX_GAP && count <= self.missing {
            self.missing -= count;
            return -i64::from(count);
        }
        (self.last, self.count) = (seq, count);
        if gap == 0 || gap > MAX_GAP {
            self.missing = if gap == 0 { self.missing } else { 0 };
            return 0;
        }
        self.missing = self.missing.saturating_add(gap);
        i64::from(gap)
    }
}
