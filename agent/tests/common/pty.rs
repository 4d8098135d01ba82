//! A terminal for a program, and what a user would see on it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came from the program, as a terminal took it, and as it came.
struct Seen {
    parser: vt100::Parser<Calls>,
    raw: Vec<u8>,
}

/// What a program can ask of a terminal beside its cells.
#[derive(Default)]
pub struct Calls {
    pub titles: usize,
    pub bells: usize,
    pub clipboard: usize,
}

impl vt100::Callbacks for Calls {
    fn audible_bell(&mut self, _: &mut vt100::Screen) {
        self.bells += 1;
    }
    fn set_window_title(&mut self, _: &mut vt100::Screen, _: &[u8]) {
        self.titles += 1;
    }
    fn set_window_icon_name(&mut self, _: &mut vt100::Screen, _: &[u8]) {
        self.titles += 1;
    }
    fn copy_to_clipboard(&mut self, _: &mut vt100::Screen, _: &[u8], _: &[u8]) {
        self.clipboard += 1;
    }
}

fn modes(terminal: &OwnedFd) -> Vec<u64> {
    // SAFETY: plain data, filled by the call below.
    let mut t: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: a terminal of ours, and room for what it says.
    let got = unsafe { libc::tcgetattr(terminal.as_fd().as_raw_fd(), &mut t) };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    [t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag].map(u64::from).to_vec()
}

/// A program on a terminal of its own; killed at the end.
pub struct Pty {
    child: Child,
    master: File,
    slave: OwnedFd,
    seen: Arc<Mutex<Seen>>,
    /// As it was before the program began.
    before: Vec<u64>,
}

fn size(columns: u16, rows: u16) -> libc::winsize {
    libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Pty {
    pub fn start(command: &mut Command, columns: u16, rows: u16) -> Self {
        let (mut master, mut slave) = (0, 0);
        let size = size(columns, rows);
        // SAFETY: two descriptors to be filled, and a size that outlives the call.
        let opened = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: just opened, and nobody else's.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // SAFETY: a flag of our own descriptor: the child must not hold this end.
        unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        let before = modes(&slave);
        let end = || slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm-256color");
        // SAFETY: plain system calls: the child leads a session of its own, with this terminal.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let parser = vt100::Parser::new_with_callbacks(rows, columns, 0, Calls::default());
        let seen = Arc::new(Mutex::new(Seen { parser, raw: Vec::new() }));
        let (into, mut from) = (seen.clone(), master.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            // The other end closes with an error.
            while let Ok(n @ 1..) = from.read(&mut some) {
                let mut seen = into.lock().unwrap();
                seen.parser.process(&some[..n]);
                seen.raw.extend(&some[..n]);
            }
        });
        Self { child, master, slave, seen, before }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn screen(&self) -> vt100::Screen {
        self.seen().parser.screen().clone()
    }

    /// Titles, bells and copies that the program has asked for.
    pub fn asked(&self) -> [usize; 3] {
        let seen = self.seen();
        let calls = seen.parser.callbacks();
        [calls.titles, calls.bells, calls.clipboard]
    }

    pub fn raw(&self) -> Vec<u8> {
        self.seen().raw.clone()
    }

    /// Whether lines are edited and echoed, and the like, as the terminal has it.
    pub fn modes(&self) -> Vec<u64> {
        modes(&self.slave)
    }

    /// The same before the program began.
    pub fn modes_before(&self) -> Vec<u64> {
        self.before.clone()
    }

    pub fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.seen().parser.screen_mut().set_size(rows, columns);
        // SAFETY: a size that outlives the call.
        let set = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size(columns, rows)) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, done: impl Fn(&vt100::Screen) -> bool) {
        let began = Instant::now();
        while !done(&self.screen()) {
            let screen = self.screen().contents();
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn wait_for_words(&self, words: &str) {
        self.wait_for(words, |s| s.contents().contains(words));
    }

    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", self.screen().contents());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
