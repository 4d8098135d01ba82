//! A guest under software emulation, and what it reports.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::packages::Unpacked;
use super::report::Line;

/// The two network cards of a guest, joined to each other and to nothing else. `init.sh` tells the tests.
const CARDS: [&str; 2] = ["52:54:00:57:00:01", "52:54:00:57:00:02"];

const MEMORY: &str = "2048";

/// How long a guest may say nothing: longer than any test may take.
const SILENCE: Duration = Duration::from_secs(900);

pub struct Guest {
    child: Child,
    lines: Receiver<std::io::Result<Vec<u8>>>,
}

impl Guest {
    /// Boots `kernel` with more words on its command line; its console goes to the file `console`.
    pub fn boot(kernel: &Unpacked, boots_with: &str, initramfs: &Path, console: &Path) -> Result<Self> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]);
        command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
        let words = "console=ttyS0 loglevel=5 panic=-1 mitigations=off random.trust_cpu=on";
        command.arg("-append").arg(format!("{words} {boots_with}"));
        command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
        for (n, mac) in CARDS.iter().enumerate() {
            command.arg("-netdev").arg(format!("hubport,id=n{n},hubid=0"));
            command.arg("-device").arg(format!("virtio-net-pci,netdev=n{n},mac={mac},romfile="));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start qemu-system-x86_64")?;
        let out = child.stdout.take().context("qemu has no standard output")?;
        let (to, lines) = channel();
        std::thread::spawn(move || BufReader::new(out).split(b'\n').try_for_each(|line| to.send(line)));
        Ok(Self { child, lines })
    }

    /// The next line of the guest's report; `None` once it is over.
    pub fn next(&mut self) -> Result<Option<Line>> {
        let begin = Instant::now();
        loop {
            let left = SILENCE.saturating_sub(begin.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let line = line.context("cannot read what the guest reports")?;
                    match Line::of(String::from_utf8_lossy(&line).trim_end()) {
                        Some(Line::Done) => return Ok(None),
                        Some(line) => return Ok(Some(line)),
                        None => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest said nothing for {} minutes", SILENCE.as_secs() / 60)
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the guest ended before its tests did"),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
