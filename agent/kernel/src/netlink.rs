//! Requests to the kernel over rtnetlink(7), one socket each.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct nlmsghdr`.
const HEADER: usize = 16;

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: opens a socket; the descriptor is fresh.
    unsafe {
        let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

fn send(socket: &OwnedFd, kind: u16, flags: i32, body: &[u8]) -> io::Result<()> {
    let mut request = vec![0u8; HEADER];
    request.extend_from_slice(body);
    let len = request.len() as u32;
    request[0..4].copy_from_slice(&len.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
    // SAFETY: the buffer is valid for its length.
    if unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn receive(socket: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), 0) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a netlink answer was cut short")
}

/// The messages of a datagram: type, and what follows the header.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let body = bytes.get(HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The error of an NLMSG_ERROR; `None` for an acknowledgement.
fn error(body: &[u8]) -> io::Result<Option<io::Error>> {
    let errno = i32::from_ne_bytes(*body.first_chunk().ok_or_else(short)?);
    Ok((errno != 0).then(|| io::Error::from_raw_os_error(-errno)))
}

const DATAGRAM: usize = 64 << 10;

/// Asks and gives the one answer: type, and what follows the header.
pub fn ask(kind: u16, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let socket = socket()?;
    send(&socket, kind, 0, body)?;
    let mut answer = vec![0; DATAGRAM];
    let n = receive(&socket, &mut answer)?;
    let (kind, body) = messages(&answer[..n]).next().ok_or_else(short)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        return Err(error(body)?.unwrap_or_else(short));
    }
    Ok((kind, body.to_vec()))
}

/// Asks for all there is and hands over each message.
pub fn dump(kind: u16, body: &[u8], mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let socket = socket()?;
    send(&socket, kind, libc::NLM_F_DUMP, body)?;
    let mut answer = vec![0; DATAGRAM];
    loop {
        let n = receive(&socket, &mut answer)?;
        if n == 0 {
            return Err(short());
        }
        for (kind, body) in messages(&answer[..n]) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => return error(body)?.map_or(Ok(()), Err),
                _ => each(kind, body),
            }
        }
    }
}

/// Has something done.
pub fn act(kind: u16, body: &[u8]) -> io::Result<()> {
    let socket = socket()?;
    send(&socket, kind, libc::NLM_F_ACK, body)?;
    let mut answer = vec![0; DATAGRAM];
    let n = receive(&socket, &mut answer)?;
    match messages(&answer[..n]).next() {
        Some((kind, body)) if i32::from(kind) == libc::NLMSG_ERROR => error(body)?.map_or(Ok(()), Err),
        _ => Err(short()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_each_other_on_words_and_one_cut_short_ends_them() {
        let mut bytes = Vec::new();
        for (kind, body) in [(7u16, &b"abcde"[..]), (8, b"")] {
            let len = (HEADER + body.len()) as u32;
            bytes.extend(len.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        assert_eq!(messages(&bytes).collect::<Vec<_>>(), [(7, &b"abcde"[..]), (8, &b""[..])]);
        assert_eq!(messages(&bytes[..HEADER + 4]).count(), 0);
    }

    #[test]
    fn the_kernel_says_what_it_refuses() {
        // RTM_GETLINK of an index that no interface has.
        let mut body = [0u8; 16];
        body[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        assert_eq!(ask(libc::RTM_GETLINK, &body).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
