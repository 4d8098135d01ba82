//! Questions to the kernel over netlink (netlink(7)): a request, and the messages that answer it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
pub const NESTED: u16 = 0x8000;
/// Everything there is, not one thing.
pub const DUMP: u16 = libc::NLM_F_DUMP as u16;
/// How long an answer may take.
static PATIENCE: libc::timeval = libc::timeval { tv_sec: 2, tv_usec: 0 };

/// A socket of one netlink protocol, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    fn new(protocol: libc::c_int, flags: libc::c_int) -> io::Result<Self> {
        // SAFETY: opens a socket; the descriptor is fresh.
        unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags, protocol);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    /// To ask.
    pub fn open(protocol: libc::c_int) -> io::Result<Self> {
        let socket = Self::new(protocol, 0)?;
        // SAFETY: the option takes a timeval.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const PATIENCE).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// To be told what these groups are told (a mask of `RTMGRP_*` and the like); it never waits.
    pub fn told(protocol: libc::c_int, groups: u32) -> io::Result<Self> {
        let socket = Self::new(protocol, libc::SOCK_NONBLOCK)?;
        // SAFETY: plain data.
        let mut at: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        at.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        at.nl_groups = groups;
        // SAFETY: an address of that size.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const at).cast(), size_of::<libc::sockaddr_nl>() as libc::socklen_t)
        };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    /// The next datagram.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        loop {
            // SAFETY: the buffer is valid for its length.
            let n = unsafe { libc::recv(self.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if n >= 0 {
                return Ok(&buffer[..n as usize]);
            }
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
    }

    /// Sends a request and takes the payloads of what answers it: one, or with [`DUMP`] all of them.
    pub fn ask(&self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let len = HEADER + payload.len();
        let mut request = vec![0u8; HEADER];
        request[0..4].copy_from_slice(&(len as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&kind.to_ne_bytes());
        request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
        request.extend_from_slice(payload);
        // SAFETY: the buffer is valid for its length.
        if unsafe { libc::send(self.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut all = Vec::new();
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            if take(self.receive(&mut buffer)?, &mut all)? || flags & DUMP != DUMP {
                return Ok(all);
            }
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Takes the messages of a datagram; whether the last one of a dump was among them.
fn take(mut bytes: &[u8], all: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "a netlink answer was cut short");
    while bytes.len() >= HEADER {
        let len = u32::from_ne_bytes(*bytes.first_chunk().ok_or_else(short)?) as usize;
        let kind = u16::from_ne_bytes(*bytes[4..].first_chunk().ok_or_else(short)?);
        let body = bytes.get(HEADER..len).ok_or_else(short)?;
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => {
                let errno = i32::from_ne_bytes(*body.first_chunk().ok_or_else(short)?);
                return if errno == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-errno)) };
            }
            _ => all.push(body.to_vec()),
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// `struct rtattr` after `struct rtattr`; ends at the first that does not fit.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u16::from_ne_bytes(*bytes.first_chunk::<2>()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk::<2>()?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !NESTED, value))
    })
}

/// One attribute, padded.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub fn u16_of(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

pub fn u32_of(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// A C string.
pub fn text_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

/// Asks a family of generic netlink, by its name; `None` where this kernel has no such family.
pub fn generic(family: &str, command: u8, payload: &[u8]) -> io::Result<Option<Vec<Vec<u8>>>> {
    const CTRL: u16 = 0x10;
    const GETFAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;
    let socket = Socket::open(libc::NETLINK_GENERIC)?;
    let header = |command: u8| vec![command, 1, 0, 0];
    let mut name = header(GETFAMILY);
    name.extend(attribute(FAMILY_NAME, &[family.as_bytes(), &[0]].concat()));
    let answer = match socket.ask(CTRL, 0, &name) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        answer => answer?,
    };
    let id = answer
        .first()
        .and_then(|a| attributes(a.get(4..)?).find(|(k, _)| *k == FAMILY_ID))
        .and_then(|(_, v)| v.first_chunk().map(|b| u16::from_ne_bytes(*b)));
    let Some(id) = id else { return Ok(None) };
    let mut request = header(command);
    request.extend_from_slice(payload);
    let answers = socket.ask(id, 0, &request)?;
    Ok(Some(answers.into_iter().map(|a| a.get(4..).unwrap_or_default().to_vec()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_off_is_an_error() {
        let bytes = [attribute(3, b"eth0\0"), attribute(4 | NESTED, &1500u32.to_ne_bytes())].concat();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!((read[0].0, text_of(read[0].1)), (3, "eth0".to_owned()));
        assert_eq!((read[1].0, u32_of(read[1].1)), (4, Some(1500)));
        let mut message = vec![24, 0, 0, 0, 16, 0, 2, 0];
        message.resize(24, 0);
        let mut all = Vec::new();
        assert!(!take(&message, &mut all).unwrap());
        assert_eq!(all, [vec![0; 8]]);
        assert!(take(&message[..20], &mut all).is_err());
    }

    #[test]
    fn attributes_cut_short_end_the_list() {
        assert_eq!(attributes(&[8, 0, 4, 0, 1, 2, 3]).count(), 0);
        assert_eq!(attributes(&[0, 0, 4, 0]).count(), 0);
        assert_eq!(
            attributes(&[5, 0, 4, 0, 9, 0, 0, 0, 4, 0, 7, 0]).collect::<Vec<_>>(),
            [(4, &[9][..]), (7, &[][..])]
        );
    }

    #[test]
    fn a_family_that_no_kernel_has_is_none() {
        assert_eq!(generic("weir-no-family", 1, &[]).unwrap(), None);
    }
}
