//! The journal's native protocol: one datagram per entry.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

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
        socket.send_to(&entry, &self.path).map(drop)
    }

    pub fn send_event(&mut self, event: &Event, line: &str, json: &str) -> io::Result<()> {
        self.send(priority(event), &[("MESSAGE", line), ("WEIR_EVENT", json)])
    }
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
