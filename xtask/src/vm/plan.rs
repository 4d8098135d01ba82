//! Which kernels are booted, which tests run in them, and the matrix of README that says so.

use anyhow::Result;

/// A kernel as Debian packages it.
#[derive(Debug)]
pub struct Kernel {
    pub version: &'static str,
    /// Of Debian's security updates, where the machine's own sources do not have it.
    pub suite: &'static str,
    /// More for the kernel's command line.
    pub boots_with: &'static str,
    /// Whether the programs load; one that is too old is to be refused with what it lacks.
    pub loads: bool,
}

pub const KERNELS: &[Kernel] = &[
    Kernel { version: "5.10", suite: "bullseye-security", boots_with: "", loads: false },
    Kernel { version: "6.1", suite: "bookworm-security", boots_with: "", loads: true },
    // Without ticks there is no membarrier, which programs are waited for with elsewhere.
    Kernel { version: "6.12", suite: "trixie-security", boots_with: "nohz_full=1", loads: true },
];

/// Test programs of the workspace that run in the guests.
pub const PROGRAMS: &[&str] = &["kernel", "live"];

/// One test of a test program.
pub struct Test {
    pub program: &'static str,
    pub name: &'static str,
    /// Part of `cargo xtask test`.
    pub short: bool,
}

const fn kernel(name: &'static str) -> Test {
    Test { program: "kernel", name, short: false }
}

const fn live(name: &'static str) -> Test {
    Test { program: "live", name, short: false }
}

const fn short(test: Test) -> Test {
    Test { short: true, ..test }
}

/// A line of the matrix: what is claimed, and the tests that show it.
pub struct Row {
    pub what: &'static str,
    /// Whether these tests run outside of the guests too, on the kernel of whoever runs `cargo xtask test`.
    pub anywhere: bool,
    pub tests: &'static [Test],
}

/// What is asked of a kernel that is too old.
pub const REFUSAL: Row = Row {
    what: "refused, with what the kernel lacks",
    anywhere: false,
    tests: &[short(live("devices::an_agent_starts_or_says_what_this_kernel_lacks"))],
};

/// What is asked of the others.
pub const ROWS: &[Row] = &[
    Row {
        what: "the programs load, within the written number of verified instructions",
        anywhere: true,
        tests: &[short(kernel("verifier::the_verifier_looks_at_no_more_than_is_written_down_and_a_tenth"))],
    },
    Row {
        what: "native XDP on veth: blocks by host, network and port, each way, beside their neighbours",
        anywhere: true,
        tests: &[
            live("unblock::blocking_stops_the_target_alone_and_deleting_lets_it_pass_again"),
            live("unblock::a_direction_stops_that_direction_alone"),
        ],
    },
    Row {
        what: "generic XDP",
        anywhere: true,
        tests: &[
            live("devices::a_veth_device_in_generic_mode_is_enforced_on"),
            kernel("lifecycle::where_native_is_refused_generic_takes_over_with_the_cause"),
        ],
    },
    Row {
        what: "virtio-net, native and generic XDP",
        anywhere: false,
        tests: &[
            short(live("devices::network_cards_of_virtio_run_native_xdp_and_are_enforced_on")),
            live("devices::network_cards_of_virtio_in_generic_mode_are_enforced_on"),
        ],
    },
    Row {
        what: "egress: TCX, or a clsact filter where there is none",
        anywhere: true,
        tests: &[
            live("devices::an_agent_starts_or_says_what_this_kernel_lacks"),
            kernel("lifecycle::a_clsact_filter_enforces_and_is_replaced_by_the_next_agent"),
            kernel("lifecycle::an_egress_filter_of_ours_lets_the_next_filter_decide"),
        ],
    },
    Row {
        what: "verdicts on a million mutated frames; allow before block; no way round a block",
        anywhere: true,
        tests: &[
            kernel("differential::xdp_parses_a_million_mutated_frames_as_the_reference_does"),
            kernel("precedence::allow_wins_over_block_however_wide_or_narrow"),
            kernel("verdicts::tags_options_and_extension_headers_are_no_way_round_a_block"),
        ],
    },
    Row {
        what: "counts drained to the packet, under load and after a kill",
        anywhere: true,
        tests: &[
            kernel("epochs::swapping_epochs_under_live_load_loses_no_packet"),
            kernel("lifecycle::what_a_killed_drain_left_behind_is_drained_at_adoption"),
        ],
    },
    Row {
        what: "entries end by themselves; rate limits; the lease",
        anywhere: true,
        tests: &[
            kernel("precedence::the_kernel_itself_ends_an_entry"),
            kernel("limits::a_limit_lets_its_burst_pass_and_stops_the_rest_and_nobody_else"),
            kernel("limits::entries_are_obeyed_as_the_lease_says_once_the_agent_is_silent"),
            live("limits::a_silent_agents_entries_do_as_its_lease_says"),
        ],
    },
    Row {
        what: "a restart after `kill -9` takes over; another capacity does too",
        anywhere: true,
        tests: &[
            live("restart::a_restart_takes_over_decisions_with_hits_and_what_is_left_of_their_time"),
            kernel("lifecycle::another_capacity_carries_entries_hits_and_flows_over"),
        ],
    },
    Row {
        what: "unload leaves nothing",
        anywhere: true,
        tests: &[
            live("unload::unload_removes_everything_and_refuses_while_an_agent_runs"),
            kernel("lifecycle::unload_leaves_nothing"),
            kernel("lifecycle::unload_takes_the_clsact_qdisc_away_only_where_it_is_weirs_and_nobody_else_uses_it"),
        ],
    },
    Row {
        what: "VLAN: tagged traffic below its device (native), and the VLAN device itself (generic)",
        anywhere: false,
        tests: &[
            live("devices::tagged_traffic_is_blocked_and_counted_below_its_vlan_device"),
            live("devices::a_vlan_device_itself_is_enforced_on_in_generic_mode"),
        ],
    },
    Row {
        what: "a bond of two (native), whose active member fails",
        anywhere: false,
        tests: &[live("devices::a_bond_is_enforced_on_and_blocks_hold_when_its_active_member_fails")],
    },
    Row {
        what: "several interfaces: hot-plug, and taking programs back that somebody detached",
        anywhere: true,
        tests: &[
            live("interfaces::what_comes_is_attached_to_under_traffic_with_every_block_in_force"),
            live("interfaces::whoever_takes_the_programs_off_finds_them_back"),
            kernel("members::an_entry_is_written_once_and_holds_on_every_member_and_on_those_who_come"),
        ],
    },
    Row {
        what: "a VLAN device beside what it lies on, a bond beside its members: each packet counts once",
        anywhere: false,
        tests: &[
            live("interfaces::a_vlan_device_and_what_it_lies_on_count_each_packet_once"),
            live("interfaces::what_a_bond_has_programs_for_needs_none_of_its_own"),
        ],
    },
];

/// The tests of a kernel.
pub fn tests(kernel: &Kernel, short: bool) -> impl Iterator<Item = &'static Test> {
    let rows = if kernel.loads { ROWS } else { std::slice::from_ref(&REFUSAL) };
    rows.iter().flat_map(|r| r.tests).filter(move |t| !short || t.short)
}

/// Seconds that a test may take.
const LIMIT: u32 = 400;

/// What a guest reads: a line for each test.
pub fn lines(tests: &[&Test]) -> String {
    tests.iter().map(|t| format!("{} {} {LIMIT}\n", t.program, t.name)).collect()
}

/// The kernel that everything else is tested on.
const USUAL: &str = "6.18";

/// README's matrix. What `cargo xtask vm` and `cargo xtask test` show, and no more.
pub fn matrix() -> Result<String> {
    let numbers = super::verified::recorded()?;
    let verified = |kernel: &str| {
        let of_it = numbers.iter().find(|(k, _)| k == kernel);
        of_it.map_or_else(|| "-".to_owned(), |(_, [xdp, tc])| format!("{xdp}, {tc}"))
    };
    let row = |what: &str, cell: &dyn Fn(&Kernel) -> String, usual: &str| {
        let cells: String = KERNELS.iter().map(|k| format!(" {} |", cell(k))).collect();
        format!("| {what} |{cells} {usual} |\n")
    };
    let mark = |yes: bool| if yes { "yes" } else { "-" }.to_owned();
    let mut out = row("Linux", &|k| k.version.to_owned(), USUAL);
    out += &format!("|---|{}\n", "---|".repeat(KERNELS.len() + 1));
    for r in ROWS {
        out += &row(r.what, &|k| mark(k.loads), &mark(r.anywhere));
    }
    out += &row("verified instructions of the XDP and the TC program", &|k| verified(k.version), &verified(USUAL));
    Ok(out + &row(REFUSAL.what, &|k| mark(!k.loads), "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_of_the_readme_is_what_the_guests_are_asked_and_the_numbers_that_are_written_down() {
        let readme = std::fs::read_to_string(crate::sh::root().join("README.md")).unwrap();
        let matrix = matrix().unwrap();
        assert!(readme.contains(&matrix), "README.md lacks this matrix:\n{matrix}");
    }

    #[test]
    fn every_test_of_the_plan_is_there() {
        for test in ROWS.iter().chain([&REFUSAL]).flat_map(|r| r.tests) {
            let (module, name) = test.name.rsplit_once("::").unwrap();
            let dir = if test.program == "kernel" { "agent/kernel/tests/kernel" } else { "agent/tests/live" };
            let source = std::fs::read_to_string(crate::sh::root().join(dir).join(format!("{module}.rs"))).unwrap();
            assert!(source.contains(&format!("fn {name}()")), "{}", test.name);
        }
    }
}
