//! `cargo xtask dist --try`: the Debian package in a system of its own that is really booted: installed, run in its sandbox, reloaded, hung,
//! upgraded and rolled back under traffic, stopped, removed and purged.

mod machine;
mod traffic;

use anyhow::{Context, Result, bail, ensure};

use super::{Release, deb};
use crate::host::Host;
use crate::sh::{is_root, root, sh};
use machine::Machine;
use traffic::Traffic;

const BAD: &str = "10.79.0.66";

pub fn run(release: &Release) -> Result<()> {
    eprintln!("\n=== dist: the package, tried");
    for program in ["debootstrap", "systemd-nspawn", "nsenter"] {
        if Host::this().which(program).is_err() {
            println!("SKIP  the package was not tried: no {program} here");
            return Ok(());
        }
    }
    if !is_root() {
        println!("SKIP  the package was not tried: this needs root");
        return Ok(());
    }
    let out = release.scratch("packages")?;
    // The same program under versions that follow one another: what is tried is the way from one to the next.
    let packages =
        [release.version.clone(), format!("{}+next1", release.version)].map(|v| deb::package(release, &v, &out, 0));
    let [first, next] = packages;
    let (first, next) = (first?, next?);
    let machine = Machine::boot(release)?;
    for package in [&first, &next] {
        let name = package.file_name().context("a package has a name")?;
        super::install(package, &machine.root.join("srv").join(name), 0o644)?;
    }
    sh("cp", ["-r"]).arg(root().join("models/default/bundle")).arg(machine.root.join("srv/bundle")).run()?;
    let name = |p: &std::path::Path| format!("/srv/{}", p.file_name().unwrap_or_default().to_string_lossy());
    let (first, next) = (name(&first), name(&next));
    let done = steps(&machine, &first, &next);
    if done.is_err() {
        let journal = machine.run("journalctl --no-pager -n 60 -u 'weir*'").unwrap_or_default();
        eprintln!("{journal}\n{}", machine.console());
    }
    done?;
    println!("the package: every step went as it must");
    Ok(())
}

fn say(what: &str) {
    println!("ok    {what}");
}

fn steps(m: &Machine, first: &str, next: &str) -> Result<()> {
    let traffic = Traffic::new(m)?;
    m.run(&format!("dpkg -i {first}"))?;
    m.run("id -u weir && getent group weir-read && test -s /usr/share/man/man1/weir-decisions-add.1.gz")?;
    m.run("test -s /usr/share/bash-completion/completions/weir && weir config check && weir config check /etc/weir/collector.yaml")?;
    ensure!(m.run("systemctl is-enabled weir || true")? == "disabled", "the service was enabled unasked");
    say("installed: user, groups, man pages, completions, configurations that are right; nothing runs unasked");

    m.configure("keep")?;
    m.run("systemctl enable --now weir")?;
    sandbox(m, "weir", 0xc0_0000_1000)?;
    ensure!(m.run("systemctl show -p StatusText --value weir")?.contains("running on weir0"), "no status was told");
    traffic.expect(true, true, "before anything is blocked")?;
    m.run(&format!("weir decisions add {BAD} --for 1h --reason trial"))?;
    traffic.expect(false, true, "once it is blocked")?;
    m.run("weir model load /srv/bundle && weir allowlist add 10.79.0.99")?;
    say("runs with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and a filter of system calls; blocks, and the neighbour passes");

    m.run("echo 'alert_budget_per_day: 5' >> /etc/weir/weir.yaml && systemctl reload weir")?;
    ensure!(
        m.run("journalctl --no-pager -u weir")?.contains("alert_budget_per_day"),
        "the reload is not in the journal"
    );
    m.run("cp /etc/weir/weir.yaml /srv/right.yaml && echo 'nonsense: 1' >> /etc/weir/weir.yaml")?;
    ensure!(m.run("systemctl reload weir").is_err(), "a wrong configuration was reloaded without a word");
    ensure!(m.run("systemctl is-active weir")? == "active", "a wrong configuration ended the agent");
    m.run("cp /srv/right.yaml /etc/weir/weir.yaml")?;
    say("reloads; refuses a wrong configuration and goes on");

    // A manager that is patient for less long, so that this takes less long.
    m.run("mkdir -p /etc/systemd/system/weir.service.d && printf '[Service]\\nWatchdogSec=4s\\n' > /etc/systemd/system/weir.service.d/try.conf")?;
    m.run("systemctl daemon-reload && systemctl restart weir && sleep 6 && systemctl is-active weir")?;
    let before = m.run("systemctl show -p MainPID --value weir")?;
    m.run("systemctl kill --kill-whom=main -s STOP weir")?;
    traffic.expect(false, true, "while the agent hangs")?;
    m.wait("a restart by the watchdog", &format!("test $(systemctl show -p NRestarts --value weir) -ge 1 && systemctl is-active weir && test $(systemctl show -p MainPID --value weir) != {before}"))?;
    traffic.expect(false, true, "after the watchdog's restart")?;
    m.run("rm -r /etc/systemd/system/weir.service.d && systemctl daemon-reload && systemctl restart weir")?;
    say("an agent that hangs is restarted by the watchdog, and its blocks hold meanwhile");

    for (what, package) in [("upgrade", next), ("rollback", first)] {
        let kept = |m: &Machine| {
            m.run(r#"weir decisions list -o json | sed 's/"expires.*"reason/"reason/; s/,"instead_of.*//' && weir model list -o csv && weir allowlist list -o csv | grep 10.79.0.99"#)
        };
        let (held, pid) = (kept(m)?, m.run("systemctl show -p MainPID --value weir")?);
        let pins = m.run("ls /sys/fs/bpf/weir/*/ | sort")?;
        let counts = traffic.during(|| m.run(&format!("dpkg -i {package}")).map(drop))?;
        ensure!(
            counts.bad_arrived == 0,
            "{what}: {} of {} blocked packets came through",
            counts.bad_arrived,
            counts.bad_sent
        );
        ensure!(
            counts.good_arrived == counts.good_sent,
            "{what}: {} of {} allowed packets arrived",
            counts.good_arrived,
            counts.good_sent
        );
        ensure!(m.run("systemctl show -p MainPID --value weir")? != pid, "{what}: the old agent runs on");
        ensure!(kept(m)? == held, "{what}: {} became {}", held, kept(m)?);
        ensure!(m.run("ls /sys/fs/bpf/weir/*/ | sort")? == pins, "{what}: other pins");
        say(&format!(
            "{what} under traffic: none of {} blocked packets came through, none of {} allowed ones was lost; decisions, models and allow list are kept",
            counts.bad_sent, counts.good_sent
        ));
    }
    ensure!(
        m.run("md5sum < /etc/weir/weir.yaml")? == m.run("md5sum < /srv/right.yaml")?,
        "the configuration was changed"
    );

    m.run("systemctl stop weir")?;
    traffic.expect(false, true, "stopped with on_stop: keep")?;
    m.configure("unload")?;
    m.run("systemctl start weir")?;
    traffic.expect(false, true, "started again")?;
    m.run("systemctl stop weir && ! ls /sys/fs/bpf/weir")?;
    traffic.expect(true, true, "stopped with on_stop: unload")?;
    say("stopping keeps what is enforced, or unloads it, as configured");

    m.run("cp /etc/weir/weir.yaml /etc/weir/weir0.yaml && sed -i /^state_dir/d /etc/weir/weir0.yaml && systemctl start weir@weir0")?;
    m.run("weir --socket /run/weir-weir0/weir.sock status >/dev/null && systemctl stop weir@weir0")?;
    m.run("systemctl start weir-collector")?;
    sandbox(m, "weir-collector", 0)?;
    ensure!(
        m.run("stat -c %U /proc/$(systemctl show -p MainPID --value weir-collector)")? == "weir",
        "the collector runs as somebody else"
    );
    say("the unit per interface runs; the collector runs as user weir without a capability");

    m.configure("keep")?;
    m.run("systemctl start weir")?;
    traffic.expect(false, true, "before the package is removed")?;
    m.run("dpkg -r weir")?;
    traffic.expect(true, true, "once the package is removed")?;
    m.run("! ls /sys/fs/bpf/weir && ! test -e /usr/bin/weir && test -e /etc/weir/weir.yaml && test -d /var/lib/weir")?;
    say("removed: nothing runs or blocks, and configuration and state are kept");
    m.run("dpkg -P weir")?;
    m.run("! getent passwd weir && ! getent group weir && ! getent group weir-read")?;
    let left = m.run("find / -xdev -name '*weir*' -not -path '/srv/*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/tmp/*' -not -path '/var/tmp/*' -not -path '/dev/*'")?;
    ensure!(left.is_empty(), "purging left {left}");
    say("purged: nothing is left");
    Ok(())
}

/// Exactly these capabilities, no new ones to be had, and a filter of system calls.
fn sandbox(m: &Machine, unit: &str, capabilities: u64) -> Result<()> {
    let status = m.run(&format!("cat /proc/$(systemctl show -p MainPID --value {unit})/status"))?;
    let field = |name: &str| {
        status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim().to_owned()
    };
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let found = u64::from_str_radix(&field(set), 16).with_context(|| format!("{set} is {:?}", field(set)))?;
        ensure!(found == capabilities, "{unit}: {set} is {found:x}, expected {capabilities:x}");
    }
    if field("NoNewPrivs") != "1" || field("Seccomp") != "2" {
        bail!("{unit}: NoNewPrivs {}, Seccomp {}", field("NoNewPrivs"), field("Seccomp"));
    }
    let denied = m.run("journalctl --no-pager -o cat -u 'weir*' | grep -i 'operation not permitted' || true")?;
    ensure!(denied.is_empty(), "the sandbox is in the way: {denied}");
    Ok(())
}
