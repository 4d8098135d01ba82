//! The numbers of [`DirStats`] by name: what files of flows hold of the packets, in one list.

use weir_common::flow::DirStats;

/// One number of one direction.
#[derive(Clone, Copy)]
pub struct StatField {
    pub name: &'static str,
    /// Whether the number has 32 bits; otherwise it has 64.
    pub narrow: bool,
    /// The value while there was no packet.
    pub empty: u64,
    pub get: fn(&DirStats) -> u64,
    /// Sets it; a value that does not fit is refused.
    pub set: fn(&mut DirStats, u64) -> Result<(), OutOfRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is more than the field `{field}` holds")]
pub struct OutOfRange {
    pub field: &'static str,
    pub value: u64,
}

macro_rules! fields {
    ($($name:literal $kind:ident [$($place:tt)+]),+ $(,)?) => {
        &[$(StatField {
            name: $name,
            narrow: fields!(@narrow $kind),
            empty: DirStats::EMPTY $($place)+ as u64,
            get: |s| u64::from(s $($place)+),
            set: |s, value| {
                s $($place)+ = value.try_into().map_err(|_| OutOfRange { field: $name, value })?;
                Ok(())
            },
        }),+]
    };
    (@narrow u32) => { true };
    (@narrow u64) => { false };
}

/// All of them, in the order in which files have them.
pub const STAT_FIELDS: &[StatField] = fields![
    "packets" u64 [.packets],
    "bytes" u64 [.bytes],
    "payload" u64 [.payload],
    "data_packets" u64 [.data_packets],
    "size_sq" u64 [.size_sq],
    "size_to_128" u64 [.size_bins[0]],
    "size_to_512" u64 [.size_bins[1]],
    "size_to_1024" u64 [.size_bins[2]],
    "first_us" u64 [.first_us],
    "last_us" u64 [.last_us],
    "extra_segs" u64 [.extra_segs],
    "gap_sq" u64 [.gap_sq],
    "syn_us" u64 [.syn_us],
    "gap_min" u32 [.gap_min],
    "gap_max" u32 [.gap_max],
    "size_min" u32 [.size_min],
    "size_max" u32 [.size_max],
    "syn" u32 [.syn],
    "fin" u32 [.fin],
    "rst" u32 [.rst],
    "seen" u32 [.seen],
    "syn_ack_seq" u32 [.syn_ack_seq],
    "ack_first" u32 [.ack_first],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_covers_every_byte_of_a_direction() {
        let width = |f: &StatField| if f.narrow { 4 } else { 8 };
        assert_eq!(STAT_FIELDS.iter().map(width).sum::<usize>(), size_of::<DirStats>());
        let mut s = DirStats::EMPTY;
        for (i, f) in STAT_FIELDS.iter().enumerate() {
            assert_eq!((f.get)(&s), f.empty, "{}", f.name);
            (f.set)(&mut s, i as u64 + 1).unwrap();
        }
        for (i, f) in STAT_FIELDS.iter().enumerate() {
            assert_eq!((f.get)(&s), i as u64 + 1, "{}", f.name);
        }
        assert!((STAT_FIELDS[13].set)(&mut s, 1 << 32).is_err());
    }
}
