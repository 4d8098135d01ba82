//! `cargo xtask lab --web`: the web page of an agent in the lab, reachable from this host, with something to see on it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::agent::Site;
use super::attacks::ATTACKS;
use super::net::in_namespace;
use super::story::Lab;
use super::{Options, scene, stop};

/// Where the agent serves it in its namespace.
const PORT: u16 = 8470;
/// Between attacks.
const QUIET: Duration = Duration::from_secs(20);

pub fn run(options: &Options, weir: &Path) -> Result<()> {
    stop::install();
    let learned = scene::learned(options, weir)?;
    let site = Site { mode: "review", learned: Some(learned), ..Site::learning(options.seconds) };
    let mut lab = Lab::open(Some(weir), &site)?;
    let shown = show(&mut lab);
    let closed = lab.close();
    // A signal is the way to end it.
    if stop::check().is_ok() {
        shown?;
    }
    closed
}

fn show(lab: &mut Lab) -> Result<()> {
    let port = relay(lab.net.host("server"))?;
    let mut link = lab.agent()?.web_login("operator")?;
    if port != PORT {
        link = link.replacen(&format!(":{PORT}/"), &format!(":{port}/"), 1);
    }
    lab.screen.heading("The web page; the link logs in once, within two minutes:");
    lab.screen.plain(&format!("\n  {link}\n"));
    let (weir, socket) = (lab.agent()?.program().display().to_string(), lab.agent()?.socket.display().to_string());
    lab.screen.plain(&format!("Another link: {weir} web login --socket {socket}"));
    if port != PORT {
        lab.screen.plain(&format!("(port {PORT} is taken on this host: put {port} in its place)"));
    }
    lab.screen.plain(
        "Attacks follow one another, in mode review: nothing is dropped that you do not approve. Ctrl-C ends it.",
    );
    loop {
        for attack in ATTACKS {
            lab.wait(QUIET)?;
            lab.screen.line(&format!("attack: {} from {}", attack.name, attack.source));
            lab.attack(attack)?;
        }
    }
}

/// Connections to a port of this host's loopback go on to the page in the namespace. Returns the port.
fn relay(namespace: String) -> Result<u16> {
    let here = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let listener = here(PORT).or_else(|_| here(0)).context("cannot listen on loopback")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let namespace = namespace.clone();
            std::thread::spawn(move || {
                // A page that cannot be reached shows in the browser, which tries again.
                let _ = pass_on(&namespace, client);
            });
        }
    });
    Ok(port)
}

fn pass_on(namespace: &str, client: TcpStream) -> Result<()> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let server = in_namespace(namespace, || TcpStream::connect_timeout(&to, Duration::from_secs(5)))??;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || copy(from_client, to_server));
    copy(server, client);
    // The other way ends with its own side; a panic there is no concern of this one.
    let _ = up.join();
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // What is closed already needs no closing.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Read);
}
