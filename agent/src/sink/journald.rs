//! The journal's native protocol: one datagram per entry, or a sealed file in memory where that would be too large.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use weir_core::event::{Event, Level, Severity};

pub const SOCKET: &str = "/run/systemd/journal/socket";

pub struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

/// Syslog's numbers.
#[derive(Clone, Copy)]
pub enum Priority {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

impl Journal {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    /// Sends the fields. The journal may be restarted under us: every entry names the socket anew.
    pub fn send(&mut self, priority: Priority, fields: &[(&str, &str)]) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(s) => s,
            none => {
                let s = UnixDatagram::unbound()?;
                // A stuck journal must not stop the writer for ever.
                s.set_write_timeout(Some(std::time::Duration::from_secs(1)))?;
                none.insert(s)
            }
        };
        let mut entry = Vec::new();
        field(&mut entry, "SYSLOG_IDENTIFIER", "weir");
        field(&mut entry, "PRIORITY", &(priority as u8).to_string());
        for (name, value) in fields {
            field(&mut entry, name, value);
        }
        match socket.send_to(&entry, &self.path) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => {
                send_file(socket, &self.path, &entry)
            }
            other => other.map(drop),
        }
    }

    pub fn send_event(&mut self, event: &Event, line: &str, json: &str) -> io::Result<()> {
        self.send(priority(event), &[("MESSAGE", line), ("WEIR_EVENT", json)])
    }
}

/// The entry in a file that nobody can change any more, as the journal asks for.
fn send_file(socket: &UnixDatagram, to: &Path, entry: &[u8]) -> io::Result<()> {
    const NAME: &CStr = c"weir-journal-entry";
    let mut file = File::from(memfd_create(NAME, MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC)?);
    file.write_all(entry)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    let to = UnixAddr::new(to)?;
    let descriptors = [file.as_raw_fd()];
    sendmsg(socket.as_raw_fd(), &[], &[ControlMessage::ScmRights(&descriptors)], MsgFlags::empty(), Some(&to))?;
    Ok(())
}

fn priority(event: &Event) -> Priority {
    match event {
        Event::Alert(a) if a.severity == Severity::High => Priority::Warning,
        Event::Agent { level: Level::Error, .. } => Priority::Error,
        Event::Agent { level: Level::Warning, .. } => Priority::Warning,
        Event::Alert(_) | Event::Decision { .. } => Priority::Notice,
        _ => Priority::Info,
    }
}

/// `NAME=value`, or the form with a length where the value has several lines.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reaches_the_journal_with_its_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::new(&path);
        journal.send(Priority::Warning, &[("MESSAGE", "one\ntwo"), ("WEIR_EVENT", "{}")]).unwrap();
        let mut buffer = [0; 512];
        let n = server.recv(&mut buffer).unwrap();
        let expected = b"SYSLOG_IDENTIFIER=weir\nPRIORITY=4\nMESSAGE\n\x07\0\0\0\0\0\0\0one\ntwo\nWEIR_EVENT={}\n";
        assert_eq!(&buffer[..n], expected);
        // The journal was restarted: the path has another socket behind it.
        drop(server);
        std::fs::remove_file(&path).unwrap();
        assert!(journal.send(Priority::Info, &[]).is_err());
        let server = UnixDatagram::bind(&path).unwrap();
        journal.send(Priority::Info, &[("MESSAGE", "again")]).unwrap();
        assert!(server.recv(&mut buffer).unwrap() > 0);
    }
}
