//! Being told by the kernel that interfaces have changed (rtnetlink(7), the multicast groups of links and addresses).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::netlink::Socket;

/// A socket on which the kernel says that interfaces have changed.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
    wake: Arc<OwnedFd>,
}

/// What [`Changes::wait`] waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something about some interface: all of them are to be asked for, since messages may have been lost.
    Changed {
        /// An address of one may be new, or gone.
        addresses: bool,
    },
    InTime,
    /// By a [`Waker`].
    Stopped,
}

/// Ends a wait for changes.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub fn wake(&self) {
        // SAFETY: eight bytes, as an eventfd wants them. It cannot fail but for a counter that is full, which wakes too.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), (&raw const ONE).cast(), 8) };
    }
}

static ONE: u64 = 1;

impl Changes {
    pub fn watch() -> io::Result<Self> {
        // SAFETY: opens a descriptor, which is fresh.
        let wake = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        Ok(Self { socket: Socket::told(libc::NETLINK_ROUTE, groups as u32)?, wake: Arc::new(wake) })
    }

    pub fn waker(&self) -> Waker {
        Waker(self.wake.clone())
    }

    /// Waits until something has changed, at most for so long.
    pub fn wait(&self, at_most: Duration) -> io::Result<Woken> {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut both = [poll(self.wake.as_raw_fd()), poll(self.socket.as_raw_fd())];
        let timeout = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: two structures.
        if unsafe { libc::poll(both.as_mut_ptr(), 2, timeout) } < 0 {
            let e = io::Error::last_os_error();
            return if e.kind() == io::ErrorKind::Interrupted { Ok(Woken::InTime) } else { Err(e) };
        }
        if both[0].revents != 0 {
            return Ok(Woken::Stopped);
        }
        if both[1].revents == 0 {
            return Ok(Woken::InTime);
        }
        let (mut buffer, mut addresses) = ([0u8; 16 << 10], false);
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(message) => {
                    let kind = message.get(4..).and_then(|m| m.first_chunk()).map(|b| u16::from_ne_bytes(*b));
                    addresses |= matches!(kind, Some(libc::RTM_NEWADDR | libc::RTM_DELADDR));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Woken::Changed { addresses }),
                // Some were lost, which is as good as any.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => addresses = true,
                Err(e) => return Err(e),
            }
        }
    }
}
