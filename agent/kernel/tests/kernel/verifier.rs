//! How much the verifier has to look at, held against what is written down.

use weir_kernel::Options;

use crate::support::*;

/// Lines of a kernel, and the instructions of the XDP and the TC program; `cargo xtask vm --record` writes those of its kernels.
const RECORDED: &str = include_str!("verified.txt");

/// Growth that is not worth a look, in percent.
const TOLERATED: u32 = 10;

fn recorded(kernel: &str) -> Option<[u32; 2]> {
    RECORDED.lines().filter(|l| !l.starts_with('#')).find_map(|l| {
        let mut words = l.split_whitespace();
        (words.next()? == kernel).then_some(())?;
        Some([words.next()?.parse().ok()?, words.next()?.parse().ok()?])
    })
}

#[test]
fn the_verifier_looks_at_no_more_than_is_written_down_and_a_tenth() {
    let test = "the_verifier_looks_at_no_more_than_is_written_down_and_a_tenth";
    if !ready(test) {
        return;
    }
    let mut l = Loaded::new(Options { capacity: small(), ..Options::default() });
    let [xdp, tc] = l.datapath.verified_instructions().unwrap().map(Option::unwrap);
    println!("verified instructions: XDP {xdp}, TC {tc}");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let Some(known) = recorded(&kernel) else {
        return skip(
            test,
            format!("nothing is written down for Linux {kernel} (agent/kernel/tests/kernel/verified.txt)"),
        );
    };
    for (program, now, then) in [("XDP", xdp, known[0]), ("TC", tc, known[1])] {
        assert!(now > 0, "{program}");
        assert!(
            now <= then + then * TOLERATED / 100,
            "{program} on Linux {kernel}: the verifier looks at {now} instructions, and {then} are written down"
        );
    }
}
