//! The object's map definitions are those of weir-common. Needs no root: the object is only read.

use aya_obj::Object;
use weir_common::names::{
    Capacity, GLOBAL_SEED, GLOBAL_SIZES, GLOBAL_USE_TEST_CLOCK, KEY_SIZE, MAPS, PROGRAM_TC, PROGRAM_XDP,
};
use weir_kernel::object::EBPF_OBJECT;

fn object(test: &str) -> Option<Object> {
    let Some(bytes) = EBPF_OBJECT else {
        eprintln!("SKIP {test}: built without the kernel programs (cargo xtask build-ebpf makes them)");
        return None;
    };
    Some(Object::parse(bytes).expect("a BPF object"))
}

#[test]
fn every_map_of_the_table_is_in_the_object_as_the_table_says() {
    let Some(object) = object("every_map_of_the_table_is_in_the_object_as_the_table_says") else { return };
    for spec in &MAPS {
        let map = object.maps.get(spec.name).unwrap_or_else(|| panic!("no map {} in the object", spec.name));
        let found = (map.map_type(), map.key_size(), map.value_size(), map.map_flags(), map.max_entries());
        let compiled = spec.max_entries(&Capacity::DEFAULT);
        assert_eq!(found, (spec.map_type, KEY_SIZE, spec.value_size, spec.flags, compiled), "{}", spec.name);
    }
}

#[test]
fn maps_beside_the_table_are_the_ones_that_are_not_pinned() {
    let Some(object) = object("maps_beside_the_table_are_the_ones_that_are_not_pinned") else { return };
    let mut others: Vec<&str> =
        object.maps.keys().map(String::as_str).filter(|n| MAPS.iter().all(|s| s.name != *n)).collect();
    others.sort_unstable();
    // Data sections, the log of aya-log, and scratch space.
    let known = |n: &&str| {
        n.starts_with('.') || n.starts_with("AYA_LOG") || ["REPORTED", "SCRATCH", "TICK", "WORK"].contains(n)
    };
    assert!(others.iter().all(known), "state that no restart would find again: {others:?}");
}

#[test]
fn the_programs_and_what_the_loader_sets_are_there() {
    let Some(object) = object("the_programs_and_what_the_loader_sets_are_there") else { return };
    for name in [PROGRAM_XDP, PROGRAM_TC] {
        assert!(object.programs.contains_key(name), "no program {name}");
    }
    // aya-obj keeps its symbols to itself; their names are in the debug form.
    let all = format!("{object:?}");
    assert!([GLOBAL_USE_TEST_CLOCK, GLOBAL_SEED, GLOBAL_SIZES].iter().all(|name| all.contains(name)));
}
