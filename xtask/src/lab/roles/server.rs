//! The server's services: HTTP-like on 80, 443 and 8080, logins on 22, a mail greeting on 25, DNS-like on UDP 53.
//! A thread per connection: there are at most a few hundred at a time.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::random::Random;
use super::wire::{Lines, say};
use crate::lab::plan;

const STACK: usize = 128 * 1024;
/// Beyond this, connections are closed at once.
const CONNECTIONS: usize = 1500;
/// A client may be silent for so long.
const PATIENCE: Duration = Duration::from_secs(15);

/// The one password that opens port 22.
pub const PASSWORD: &str = "correct-horse";

type Service = fn(Lines) -> std::io::Result<()>;

pub fn run() -> Result<()> {
    let services: [(u16, Service); 5] =
        [(plan::HTTP, http), (plan::HTTPS, http), (plan::BULK, http), (plan::SSH, login), (plan::SMTP, mail)];
    let open = Arc::new(AtomicUsize::new(0));
    for (port, service) in services {
        let listener = listen(port).with_context(|| format!("cannot listen on TCP port {port}"))?;
        let open = open.clone();
        thread::spawn(move || accept(&listener, service, &open));
    }
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, plan::DNS));
    let dns = UdpSocket::bind(address).context("cannot bind UDP port 53")?;
    say(&json!({ "listening": true }));
    names(&dns).context("the name service failed")
}

/// Both families on one socket.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, service: Service, open: &Arc<AtomicUsize>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, or the connection is gone already.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let counted = open.clone();
        let serve = move || {
            // A client that went away is its own affair.
            let _ = serve(stream, service);
            counted.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().stack_size(STACK).spawn(serve).is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(stream: TcpStream, service: Service) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    service(Lines::new(stream, PATIENCE)?)
}

/// `GET /BYTES` answers with so many bytes, `GET /BYTES/RATE` with at most RATE bytes a second.
fn http(mut client: Lines) -> std::io::Result<()> {
    let chunk = [b'x'; 16 * 1024];
    loop {
        let request = client.read()?;
        let mut close = false;
        loop {
            let header = client.read()?;
            if header.is_empty() {
                break;
            }
            close |= header.eq_ignore_ascii_case("connection: close");
        }
        let mut numbers = request.split([' ', '/']).filter_map(|w| w.parse::<u64>().ok());
        let bytes = numbers.next().unwrap_or(600).min(20_000_000);
        let rate = numbers.next();
        thread::sleep(Duration::from_millis(Random::new().exponential(4.0).min(40.0) as u64));
        client.write(&format!("HTTP/1.1 200 OK\r\nServer: lab\r\nContent-Length: {bytes}\r\n\r\n"))?;
        let mut left = bytes;
        while left > 0 {
            let part = left.min(chunk.len() as u64);
            client.write_bytes(&chunk[..part as usize])?;
            left -= part;
            if let Some(rate) = rate.filter(|&r| r > 0) {
                thread::sleep(Duration::from_secs_f64(part as f64 / rate as f64));
            }
        }
        if close {
            return Ok(());
        }
    }
}

/// The server speaks first, takes a user and a password, then answers each line.
fn login(mut client: Lines) -> std::io::Result<()> {
    let mut random = Random::new();
    client.write("SSH-2.0-lab_1.0\r\n")?;
    client.read()?;
    // As long as an exchange of keys.
    client.write(&format!("{}\r\n", "k".repeat(random.between(900, 1100) as usize)))?;
    client.read()?;
    let credentials = client.read()?;
    thread::sleep(Duration::from_millis(random.between(20, 60)));
    if credentials.split(' ').nth(1) != Some(PASSWORD) {
        thread::sleep(Duration::from_millis(random.between(150, 300)));
        return client.write("denied\r\n");
    }
    client.write("ok\r\n")?;
    while let Ok(line) = client.read() {
        if line == "exit" {
            return client.write("bye\r\n");
        }
        client.write(&format!("{}\r\n", "o".repeat(random.pareto(30.0, 1.3, 1200.0) as usize)))?;
    }
    Ok(())
}

fn mail(mut client: Lines) -> std::io::Result<()> {
    client.write("220 lab ESMTP\r\n")?;
    loop {
        let line = client.read()?;
        match line.split(' ').next() {
            Some("QUIT") => return client.write("221 bye\r\n"),
            Some("DATA") => {
                client.write("354 go on\r\n")?;
                while client.read()? != "." {}
                client.write("250 accepted\r\n")?;
            }
            _ => client.write("250 ok\r\n")?,
        }
    }
}

/// Echoes the identifier with an answer of a size that the question asks for in its third and fourth byte.
fn names(socket: &UdpSocket) -> std::io::Result<()> {
    let mut buffer = [0u8; 512];
    loop {
        let (length, client) = socket.recv_from(&mut buffer)?;
        if length < 12 {
            continue;
        }
        let size = usize::from(u16::from_be_bytes([buffer[2], buffer[3]])).clamp(length, buffer.len());
        // The answer may find nobody any more.
        let _ = socket.send_to(&buffer[..size], client);
    }
}
