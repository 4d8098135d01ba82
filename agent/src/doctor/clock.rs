//! Clocks: what a program pays to know the time, and whether this host's time is right.

use super::finding::{Check, Finding, Read};

const SOURCE: Check = Check {
    id: "clock.source",
    title: "clock source",
    why: "the programs ask for the time with each packet; a clock that is read from a device costs microseconds",
};
const COST: Check = Check {
    id: "clock.cost",
    title: "cost of the time (bpf_ktime_get_ns)",
    why: "the programs ask for the time with each packet",
};
const SYNC: Check = Check {
    id: "clock.synchronised",
    title: "time synchronisation",
    why: "alerts, certificates, the times of rules and what other systems are told of rest on the time of day",
};

/// Nanoseconds a call, from which on a clock is dear: two million packets a second would spend a fifth of a processor on it.
const DEAR_NS: f64 = 100.0;
/// Clocks that are devices.
const DEVICES: [&str; 5] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];
/// Error, milliseconds, that says that nobody corrects the clock.
const OFF_MS: u64 = 1000;

#[derive(Clone, Debug)]
pub struct Reading {
    /// The one in use, and those that could be.
    pub source: Read<(String, Vec<String>)>,
    /// Nanoseconds a call.
    pub cost: Read<f64>,
    /// Whether something keeps the clock right, and by how much it may be off, milliseconds.
    pub sync: Read<(bool, u64)>,
}

pub fn judge(r: &Reading) -> Vec<Finding> {
    let better = |available: &[String]| {
        let wanted = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
        wanted.into_iter().find(|w| available.iter().any(|a| a == w)).map(str::to_owned)
    };
    let source = SOURCE.of(&r.source, |(used, available)| {
        if !DEVICES.contains(&used.as_str()) && used != "xen" {
            return SOURCE.ok(used.clone());
        }
        let found = SOURCE.warning(format!("{used}, which is slow"));
        match better(available) {
            Some(b) => {
                found.mend(format!("echo {b} > /sys/devices/system/clocksource/clocksource0/current_clocksource"))
            }
            None => found,
        }
    });
    let cost = COST.of(&r.cost, |ns| {
        let seen = format!("{ns:.1} ns a call");
        match *ns {
            ns if ns < DEAR_NS => COST.ok(seen),
            _ => COST.warning(seen).mend("cat /sys/devices/system/clocksource/clocksource0/available_clocksource"),
        }
    });
    let sync = SYNC.of(&r.sync, |(kept, off_ms)| match (kept, *off_ms) {
        (true, ms) if ms < OFF_MS => SYNC.ok(format!("kept right, to within {ms} ms")),
        (true, ms) => {
            SYNC.warning(format!("may be off by {ms} ms")).mend("timedatectl timesync-status || chronyc tracking")
        }
        (false, _) => SYNC.warning("nothing keeps the clock right").mend("timedatectl set-ntp true"),
    });
    vec![source, cost, sync]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn slow_clocks_and_unkept_ones_are_warned_about() {
        let of = |source: &str, cost: f64, sync: (bool, u64)| {
            let source = Ok((source.to_owned(), vec!["tsc".to_owned(), "hpet".to_owned()]));
            judge(&Reading { source, cost: Ok(cost), sync: Ok(sync) })
        };
        let severities = |all: &[Finding]| all.iter().map(|f| f.severity).collect::<Vec<_>>();
        assert_eq!(severities(&of("tsc", 12.0, (true, 20))), [Severity::Ok; 3]);
        let bad = of("hpet", 1200.0, (false, 16_000));
        assert_eq!(severities(&bad), [Severity::Warning; 3]);
        assert!(bad[0].command.as_deref().unwrap().starts_with("echo tsc >"), "{bad:?}");
        assert!(bad[1].seen.contains("1200.0 ns"), "{bad:?}");
        assert_eq!(of("tsc", 12.0, (true, 5000))[2].severity, Severity::Warning);
    }

    #[test]
    fn what_cannot_be_measured_is_not_fine() {
        let all = judge(&Reading { source: Err("a".into()), cost: Err("takes root".into()), sync: Err("c".into()) });
        assert!(all.iter().all(|f| f.severity == Severity::Unknown), "{all:?}");
        assert_eq!(all[1].seen, "takes root");
    }
}
