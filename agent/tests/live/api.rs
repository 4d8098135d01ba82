//! Who may use a running agent, and what those who may not can do to it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use weir_agent::api::client::{Client, Remote};

use crate::site::*;
use crate::support::*;

const HONEST: &str = "10.77.0.5";
const BAD: &str = "10.77.0.66";
const ATTACKER: &str = "10.77.0.67";
const PORT: u16 = 8471;
/// What everything together may cost the agent.
const MAX_GROWTH_KIB: u64 = 64 << 10;

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// A host whose agent listens on TCP, with an operator `ops` and a viewer `guest`.
fn with_tcp() -> (Site, PathBuf) {
    let site = Site::new(&[HONEST, BAD, ATTACKER]);
    let tls = site.path("tls");
    let d = tls.display();
    site.ok(&format!("tls init --dir {d} --name {SERVER_V4}"));
    site.ok(&format!("tls client ops --role operator --dir {d}"));
    site.ok(&format!("tls client guest --role viewer --dir {d}"));
    let api = format!(
        "api:\n  listen: [{SERVER_V4}]\n  tls: {{cert: {d}/server.pem, key: {d}/server.key, client_ca: {d}/ca.pem}}\n"
    );
    site.configure("enforce", &api);
    (site, tls)
}

/// The command line on the neighbour, which has no agent of its own.
fn from_the_neighbour(site: &Site, tls: &Path, who: &str, args: &str) -> Output {
    let mut command = site.peer.command(WEIR);
    command.env_remove("WEIR_SOCKET").args(["--host", SERVER_V4]);
    command.arg("--cert").arg(tls.join(format!("{who}.pem"))).arg("--key").arg(tls.join(format!("{who}.key")));
    command.arg("--ca").arg(tls.join("ca.pem")).args(args.split_whitespace());
    command.output().unwrap()
}

fn words(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned()
}

fn remote(tls: &Path, who: &str) -> Remote {
    let file = |end: &str| tls.join(format!("{who}.{end}"));
    Remote { host: SERVER_V4.into(), port: PORT, cert: file("pem"), key: file("key"), ca: tls.join("ca.pem") }
}

/// Its threads are inside: whatever connects, and connects again, does so there.
fn runtime_of_the_neighbour(site: &Site) -> tokio::runtime::Runtime {
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    site.peer.enter(build)
}

#[test]
fn another_host_operates_the_agent_with_a_certificate_and_is_named() {
    if !ready("another_host_operates_the_agent_with_a_certificate_and_is_named") {
        return;
    }
    let (site, tls) = with_tcp();
    let agent = site.start();
    let out = from_the_neighbour(&site, &tls, "ops", &format!("decisions add {BAD} --reason scans"));
    assert!(out.status.success(), "{}\n{}", words(&out), site.log());
    assert_eq!(site.decision(BAD)["reason"], "scans, by certificate ops");
    assert!(!site.passes(BAD, 5353));
    assert!(site.passes(ATTACKER, 5353), "the neighbour passes");

    let out = from_the_neighbour(&site, &tls, "guest", "decisions list");
    assert!(out.status.success() && words(&out).contains(BAD), "{}", words(&out));
    let out = from_the_neighbour(&site, &tls, "guest", &format!("decisions delete {BAD}"));
    assert_eq!(out.status.code(), Some(1));
    assert!(words(&out).contains("certificate guest may only look (viewer), and DeleteDecision changes something"));
    assert!(!site.passes(BAD, 5353));

    // An operator's own host cannot be blocked while they are connected.
    let runtime = runtime_of_the_neighbour(&site);
    let mut client = site.peer.enter(|| runtime.block_on(Client::connect_tls(&remote(&tls, "ops")))).unwrap();
    runtime.block_on(client.status()).unwrap();
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    let refused = wait_for("the operator's host to be safe", PATIENCE, || {
        let out = site.weir(&format!("decisions add {HONEST} --for 1s"));
        (!out.status.success()).then(|| words(&out))
    });
    assert!(refused.contains("an API client with the certificate ops"), "{refused}");

    // Certificates of another authority come into force, and the old ones are good no more.
    let new = site.path("new");
    site.ok(&format!("tls init --dir {} --name {SERVER_V4}", new.display()));
    site.ok(&format!("tls client ops --role operator --dir {}", new.display()));
    for name in ["ca.pem", "server.pem", "server.key"] {
        std::fs::copy(new.join(name), tls.join(name)).unwrap();
    }
    std::fs::set_permissions(tls.join("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    site.ok("config reload");
    let out = from_the_neighbour(&site, &new, "ops", "status");
    assert!(out.status.success(), "{}", words(&out));
    let out = from_the_neighbour(&site, &tls, "ops", "status");
    assert!(words(&out).contains("does not trust the authority"), "{}", words(&out));
    assert_eq!(out.status.code(), Some(1));
    agent.stop();
}

#[test]
fn users_of_this_host_may_what_their_groups_may() {
    if !ready("users_of_this_host_may_what_their_groups_may") {
        return;
    }
    let site = Site::new(&[BAD]);
    let dir = site.path("weir.sock").parent().unwrap().to_owned();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Others must be able to run it.
    let program = dir.join("weir");
    std::fs::copy(WEIR, &program).unwrap();
    let group = |gid: u32| nix::unistd::Group::from_gid(gid.into()).unwrap().expect("the system has this group").name;
    let (operators, viewers, others) = (1, 65_534, 54_321);
    let run = |gid: u32, args: &str| {
        let mut command = site.server.command(program.to_str().unwrap());
        command.arg("--socket").arg(site.path("weir.sock")).args(args.split_whitespace());
        // SAFETY: only system calls, behind the one that enters the namespace: it takes root.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setgroups(&[])?;
                nix::unistd::setgid(gid.into())?;
                Ok(nix::unistd::setuid(65_534.into())?)
            });
        }
        command.env("HOME", "/").output().unwrap()
    };

    site.configure("enforce", &format!("group: {}\nread_group: {}\n", group(operators), group(viewers)));
    let agent = site.start();
    let out = run(operators, &format!("decisions add {BAD}"));
    assert!(out.status.success(), "{}", words(&out));
    assert!(!site.passes(BAD, 5353));
    let out = run(viewers, "decisions list");
    assert!(out.status.success() && words(&out).contains(BAD), "{}", words(&out));
    let out = run(viewers, &format!("decisions delete {BAD}"));
    assert!(words(&out).contains("may only look (viewer)"), "{}", words(&out));
    for args in ["status", "decisions list", &format!("decisions delete {BAD}")] {
        let out = run(others, args);
        assert_eq!(out.status.code(), Some(1));
        let said = format!("only root and members of {} and {} may use this agent", group(operators), group(viewers));
        assert!(words(&out).contains(&said) && words(&out).contains("usermod -aG"), "{}", words(&out));
    }
    assert!(!site.passes(BAD, 5353));
    agent.stop();

    // Without a group that may look, the socket itself is closed to others.
    site.configure("enforce", &format!("group: {}\n", group(operators)));
    let agent = site.start();
    assert!(run(operators, "status").status.success());
    let out = run(others, "status");
    assert_eq!(out.status.code(), Some(1));
    let said = format!("add you to the group {}", group(operators));
    assert!(
        words(&out).contains("you may not use the agent's socket") && words(&out).contains(&said),
        "{}",
        words(&out)
    );
    agent.stop();
}

/// Connections that say nothing, or begin a handshake and do not go on.
fn half_open(site: &Site, count: usize) -> Vec<std::net::TcpStream> {
    let from: IpAddr = ATTACKER.parse().unwrap();
    let to = SocketAddr::new(SERVER_V4.parse().unwrap(), PORT);
    site.peer.enter(|| {
        (0..count)
            .filter_map(|n| {
                let mut stream = connect_from(from, to).ok()?;
                if n % 2 == 0 {
                    let _ = stream.write_all(&[22, 3, 1, 2, 0]);
                }
                Some(stream)
            })
            .collect()
    })
}

#[test]
fn abuse_of_the_api_is_refused_within_bounds_and_what_is_blocked_stays_blocked() {
    if !ready("abuse_of_the_api_is_refused_within_bounds_and_what_is_blocked_stays_blocked") {
        return;
    }
    let (site, tls) = with_tcp();
    let agent = site.start();
    let pid = agent.pid();
    site.ok(&format!("decisions add {BAD}"));
    let epochs = || site.status()["epochs"].as_u64().unwrap();
    let holds = |when: &str| {
        assert!(!site.passes(BAD, 5353), "{when}: what is blocked stays blocked");
        assert!(site.passes(HONEST, 5353), "{when}: the neighbour passes");
    };
    // What the first of everything costs is no abuse.
    let out = from_the_neighbour(&site, &tls, "ops", "status");
    assert!(out.status.success(), "{}", words(&out));
    holds("before");
    let before = resident_kib(pid);
    let growth = || resident_kib(pid).saturating_sub(before);

    // 1,000 connections that show no certificate; another host is served meanwhile.
    let first = epochs();
    let open = half_open(&site, 1_000);
    assert!(open.len() > 100, "{} came about", open.len());
    let out = from_the_neighbour(&site, &tls, "ops", "status");
    assert!(out.status.success(), "with {} half-open connections: {}", open.len(), words(&out));
    holds("half-open connections");
    let half_open_kib = growth();
    assert!(half_open_kib < MAX_GROWTH_KIB, "{half_open_kib} KiB");
    wait_for("epochs to go on", PATIENCE, || (epochs() > first + 2).then_some(()));
    drop(open);

    // 64 MiB at once, from somebody who may.
    let runtime = runtime_of_the_neighbour(&site);
    let connect = |who: &'static str| {
        let remote = remote(&tls, who);
        site.peer.enter(|| runtime.block_on(Client::connect_tls(&remote))).unwrap()
    };
    let mut ops = connect("ops");
    let refused = runtime.block_on(ops.add_allow("192.0.2.0/24".parse().unwrap(), &"x".repeat(64 << 20), None));
    assert!(refused.is_err());
    assert!(!site.ok("allowlist list").contains("192.0.2.0/24"));
    holds("a message of 64 MiB");
    let message_kib = growth();
    assert!(message_kib < MAX_GROWTH_KIB, "{message_kib} KiB");

    // 10,000 streams of events over ten connections of one viewer.
    let first = epochs();
    let clients: Vec<Client> = (0..10).map(|_| connect("guest")).collect();
    let (tell, told) = std::sync::mpsc::channel();
    for n in 0..10_000 {
        let (mut client, tell) = (clients[n % clients.len()].clone(), tell.clone());
        runtime.spawn(async move {
            let stream = client.watch(&[], "").await;
            let _ = tell.send(stream.as_ref().map(drop).map_err(ToString::to_string));
            if let Ok(mut stream) = stream {
                while let Ok(Some(_)) = stream.message().await {}
            }
        });
    }
    drop(tell);
    let (mut served, mut refused, mut cut) = (0, 0, 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) && served + refused + cut < 10_000 {
        match told.recv_timeout(Duration::from_millis(200)) {
            Ok(Ok(())) => served += 1,
            Ok(Err(e)) if e.contains("has 128 calls open, as many as one may") => refused += 1,
            // HTTP/2 itself has had enough of a connection on which nearly everything is refused.
            Ok(Err(_)) => cut += 1,
            Err(_) => {}
        }
    }
    // The others wait in the client for a place on their connection.
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused, {cut} cut off");
    holds("10,000 streams");
    let streams_kib = growth();
    assert!(streams_kib < MAX_GROWTH_KIB, "{streams_kib} KiB");
    wait_for("epochs to go on", PATIENCE, || (epochs() > first + 2).then_some(()));
    // Somebody else is served.
    runtime.block_on(ops.status()).unwrap();
    drop(clients);
    runtime.shutdown_background();

    // No certificate of ours: refused, with what to do.
    let theirs = site.path("theirs");
    site.ok(&format!("tls init --dir {} --name x", theirs.display()));
    site.ok(&format!("tls client ops --role operator --dir {}", theirs.display()));
    std::fs::copy(tls.join("ca.pem"), theirs.join("ca.pem")).unwrap();
    let out = from_the_neighbour(&site, &theirs, "ops", "status");
    assert!(words(&out).contains("does not trust the authority"), "{}", words(&out));
    holds("at the end");
    println!(
        "KiB more than {before} at rest: half-open {half_open_kib}, a message of 64 MiB {message_kib}, \
         10,000 streams ({served} served, {refused} refused, {cut} cut off) {streams_kib}"
    );
    agent.stop();
}
