//! The table of entries in ordinary memory: what sanitizers and Miri can look at, without a kernel.

use std::collections::HashMap;

use weir_common::entry::{FlowTarget, action, side};
use weir_common::limit::{Limit, Unit};
use weir_common::table::lines_for;

use super::*;

const RECORDS: u32 = if cfg!(miri) { 96 } else { 2048 };
const ROUNDS: u32 = if cfg!(miri) { 12 } else { 600 };

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// One of few, so that they meet again.
    fn key(&mut self, list: List) -> Key {
        let n = self.below(u64::from(RECORDS) / 4) as u8;
        let high = self.below(3) as u8;
        let mut v6 = [0u8; 16];
        (v6[0], v6[1], v6[5]) = (0x20, 0x01, n);
        let mut v4 = [0u8; 16];
        (v4[10], v4[11]) = (0xff, 0xff);
        v4[12..15].copy_from_slice(&[10, high, n]);
        let nets = if list == List::Allow { 2 } else { 5 };
        match self.below(nets) {
            0 => Key::net(v4, [24, 32][usize::from(n & 1)]),
            1 => Key::net(v6, [48, 64, 128][usize::from(high)]),
            2 => Key::port(v4, 6, u16::from(n)),
            3 => Key::far_port(v6, 17, u16::from(n)),
            _ => Key::Flow(FlowTarget { ours: v6, remote: v4, proto: 6, port: 443, far_port: u16::from(n) }),
        }
    }

    fn entry(&mut self) -> Entry {
        Entry {
            expires_ns: self.below(1 << 40),
            reason: self.below(1000) as u16,
            action: [action::DROP, action::SHADOW][self.below(2) as usize],
            sides: [side::IN, side::OUT, side::IN | side::OUT][self.below(3) as usize],
            origin: 1,
            limit: Limit::new(Unit::Packets, 10 + self.below(90), 100).unwrap(),
        }
    }
}

fn table() -> EntryTable {
    let entries = EntryMaps {
        lists: Mapped::anonymous(1),
        index: Mapped::anonymous(2 * lines_for(RECORDS)),
        records: Mapped::anonymous(RECORDS),
        ends: Mapped::anonymous(MAX_FLOW_TARGETS),
        seed: std::array::from_fn(|n| (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    };
    let word = |cells: u32| cells / 32;
    let maps = ListMaps {
        entries,
        v4_bitmap: Mapped::anonymous(word(V4_CELLS)),
        v6_bitmap: Mapped::anonymous(word(V6_CELLS)),
    };
    EntryTable::adopt(maps, RECORDS, RECORDS).unwrap()
}

#[test]
fn what_is_set_replaced_and_removed_in_any_order_is_there_as_a_map_would_have_it() {
    let mut table = table();
    let mut dice = Dice(7);
    let mut model: HashMap<(List, Key), Entry> = HashMap::new();
    for round in 0..ROUNDS {
        let list = [List::Block, List::Allow][dice.below(2) as usize];
        let many = 1 + dice.below(8);
        match dice.below(10) {
            0 => {
                let wanted: HashMap<Key, Entry> = (0..many * 4).map(|_| (dice.key(list), dice.entry())).collect();
                let wanted: Vec<(Key, Entry)> = wanted.into_iter().collect();
                table.replace(list, &wanted).unwrap();
                model.retain(|(l, _), _| *l != list);
                model.extend(wanted.into_iter().map(|(k, e)| ((list, k), e.kept())));
            }
            1..4 => {
                let keys: Vec<Key> = (0..many).map(|_| dice.key(list)).collect();
                let there: std::collections::HashSet<&Key> =
                    keys.iter().filter(|k| model.contains_key(&(list, **k))).collect();
                assert_eq!(table.remove(list, &keys).unwrap(), there.len(), "round {round}");
                for key in &keys {
                    model.remove(&(list, *key));
                }
            }
            _ => {
                let new: HashMap<Key, Entry> = (0..many).map(|_| (dice.key(list), dice.entry())).collect();
                let new: Vec<(Key, Entry)> = new.into_iter().collect();
                table.set(list, &new).unwrap();
                model.extend(new.into_iter().map(|(k, e)| ((list, k), e.kept())));
            }
        }
        let held = table.read_back().unwrap();
        assert_eq!(held.len(), model.len(), "round {round}");
        for (list, key, entry) in held {
            assert_eq!(model.get(&(list, key)), Some(&entry.kept()), "round {round}: {key:?}");
            assert_eq!(table.get(list, &key).unwrap().map(|e| e.kept()), Some(entry.kept()), "round {round}");
        }
        let nobody = dice.key(list);
        assert_eq!(table.get(list, &nobody).unwrap().is_some(), model.contains_key(&(list, nobody)), "round {round}");
    }
    assert!(!model.is_empty());
}
