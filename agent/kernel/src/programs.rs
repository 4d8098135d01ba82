//! The two programs of an interface: attach them, and look whether they are still there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode as AyaMode};
use weir_common::names::{PROGRAM_TC, PROGRAM_XDP};

use crate::datapath::{AttachedMode, Options, TcMode, XdpMode};
use crate::pins::{Pins, remove_if_there};
use crate::{KernelError, clsact, link, requirements, strangers, sys};

/// The programs of one interface. Dropping this detaches nothing that is pinned.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    pins: Pins,
    interface: String,
    ifindex: u32,
    options: Options,
    /// The links as they were attached, which keep the programs on the interface even where somebody takes the pins away: XDP, and TC
    /// where it has one.
    links: [Option<Attached>; 2],
}

#[derive(Debug)]
struct Attached {
    link: OwnedFd,
    program: u32,
}

/// Where an interface's programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Where they were attached.
    Holds,
    /// Somebody has taken them off, or the interface is gone: in words what is missing.
    Lost(String),
    /// On the interface, which is in another network namespace now.
    Moved,
}

const CLSACT_PRIORITY: u16 = 0x5765;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 1);

impl Programs {
    pub(crate) fn new(ebpf: Ebpf, pins: Pins, interface: &str, ifindex: u32, options: Options) -> Self {
        Self { ebpf, pins, interface: interface.to_owned(), ifindex, options, links: [None, None] }
    }

    pub fn interface(&self) -> &str {
        &self.interface
    }
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn give_to(&mut self, pins: Pins, interface: &str, ifindex: u32) {
        (self.pins, self.interface, self.ifindex) = (pins, interface.to_owned(), ifindex);
    }

    /// The interface has got another name.
    pub fn rename(&mut self, interface: &str) -> Result<(), KernelError> {
        interface.clone_into(&mut self.interface);
        self.pins.rename(interface)
    }

    /// Attaches the programs, or puts them in the place of an earlier agent's without a gap. Where they were lost, attaches them anew.
    pub fn attach(&mut self) -> Result<AttachedMode, KernelError> {
        let lost = |a: &Attached| {
            let here = |i: sys::LinkInfo| i.ifindex == self.ifindex && i.program == a.program;
            !sys::link_info(a.link.as_fd()).is_ok_and(here)
        };
        let [xdp, tc] = [0, 1].map(|n| self.links[n].as_ref().is_none_or(lost));
        if tc {
            self.attach_tc()?;
            self.links[1] = self.attached(&self.pins.link_tc());
        }
        let mode = if xdp { self.attach_xdp()? } else { self.mode_now("it was attached so before")? };
        self.links[0] = self.attached(&self.pins.link_xdp());
        Ok(mode)
    }

    fn attached(&self, pin: &std::path::Path) -> Option<Attached> {
        let link = sys::obj_get(pin).ok()?;
        let program = sys::link_program_id(link.as_fd()).ok()?;
        Some(Attached { link, program })
    }

    /// Whether the programs are where they were attached. Pins that somebody has taken away are put back.
    pub fn look(&self) -> Hold {
        let pins = [("XDP", self.pins.link_xdp()), ("egress", self.pins.link_tc())];
        for (attached, (which, pin)) in self.links.iter().zip(pins) {
            let Some(a) = attached else { continue };
            match sys::link_info(a.link.as_fd()) {
                // Asked again, it may be where it was.
                Err(e) => log::debug!("{}: the {which} link cannot be asked: {e}", self.interface),
                Ok(info) if info.ifindex == 0 => return Hold::Lost(format!("the {which} program was detached")),
                Ok(info) if info.program != a.program => {
                    return Hold::Lost(format!("the {which} program was replaced by the one with id {}", info.program));
                }
                Ok(info) if info.ifindex != self.ifindex => return Hold::Moved,
                Ok(_) if !pin.exists() => {
                    let _ = std::fs::create_dir_all(self.pins.dir());
                    match sys::obj_pin(a.link.as_fd(), &pin) {
                        Ok(()) => log::warn!("{}: somebody had removed {}; it is back", self.interface, pin.display()),
                        Err(e) => {
                            log::warn!("{}: {} is gone and cannot be put back: {e}", self.interface, pin.display())
                        }
                    }
                }
                Ok(_) => {}
            }
        }
        if self.links[1].is_none() && !clsact::has_filter(self.ifindex, PROGRAM_TC).unwrap_or(true) {
            return Hold::Lost("the egress filter was removed".to_owned());
        }
        Hold::Holds
    }

    /// Whether the interface that the programs were attached to exists in whatever network namespace.
    pub fn interface_lives(&self) -> bool {
        let link = self.links.iter().flatten().next();
        link.and_then(|a| sys::link_info(a.link.as_fd()).ok()).is_some_and(|i| i.ifindex != 0)
    }

    /// Takes the programs off, wherever the interface is now, and the pins away.
    pub fn let_go(self) -> Result<(), KernelError> {
        for attached in self.links.iter().flatten() {
            // An interface that is gone has detached the link already.
            let _ = sys::link_detach(attached.link.as_fd());
        }
        crate::datapath::unload(&self.pins)
    }

    fn attach_error(&self, cause: impl std::fmt::Display) -> KernelError {
        KernelError::Attach { interface: self.interface.clone(), cause: cause.to_string() }
    }

    fn attach_tc(&mut self) -> Result<(), KernelError> {
        let interface = self.interface.clone();
        let pin = self.pins.link_tc();
        let fail = |e: &dyn std::fmt::Display| KernelError::Attach {
            interface: interface.clone(),
            cause: format!("egress: {e}"),
        };
        let tcx = self.options.tc == TcMode::Auto && requirements::has_tcx();
        let adopted = pinned_link(&pin).map_err(|e| fail(&e))?;
        let program: &mut SchedClassifier = program(&mut self.ebpf, PROGRAM_TC)?;
        if let Some(link) = adopted {
            let link = SchedClassifierLink::try_from(link).map_err(|e| fail(&e))?;
            match program.attach_to_link(link) {
                Ok(_) => return Ok(()),
                // The interface went away and came back: the link hangs in the air.
                Err(e) => log::warn!("{interface}: the earlier egress link cannot be used again ({e}); attaching anew"),
            }
            remove_if_there(&pin)?;
        }
        if tcx {
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            let id = program.attach_with_options(&interface, TcAttachType::Egress, options).map_err(|e| fail(&e))?;
            let link: FdLink =
                program.take_link(id).and_then(|l| l.try_into().map_err(link_error)).map_err(|e| fail(&e))?;
            link.pin(&pin).map_err(|e| fail(&e))?;
            return Ok(());
        }
        if self.options.tc == TcMode::Auto {
            log::info!(
                "{interface}: egress goes through a clsact filter; this kernel has no TCX, which came with Linux 6.6"
            );
        }
        if clsact::add(&interface).map_err(|e| fail(&e))? {
            self.pins.own_clsact()?;
        }
        let attached =
            SchedClassifierLink::attached(&interface, TcAttachType::Egress, CLSACT_PRIORITY, CLSACT_HANDLE, None)
                .map_err(|e| fail(&e))?;
        let id = match program.attach_to_link(attached) {
            Ok(id) => id,
            Err(_) => {
                let options = NlOptions { priority: CLSACT_PRIORITY, handle: CLSACT_HANDLE, ..NlOptions::default() };
                program
                    .attach_with_options(&interface, TcAttachType::Egress, TcAttachOptions::Netlink(options))
                    .map_err(|e| fail(&e))?
            }
        };
        // A filter stays without anybody holding it; only aya would take it away on drop.
        std::mem::forget(program.take_link(id).map_err(|e| fail(&e))?);
        Ok(())
    }

    fn attach_xdp(&mut self) -> Result<AttachedMode, KernelError> {
        let pin = self.pins.link_xdp();
        let adopted = pinned_link(&pin).map_err(|e| self.attach_error(e))?;
        let ifindex = self.ifindex;
        if let Some(link) = adopted {
            let link = aya::programs::xdp::XdpLink::try_from(link).map_err(|e| self.attach_error(e))?;
            let program: &mut Xdp = program(&mut self.ebpf, PROGRAM_XDP)?;
            match program.attach_to_link(link) {
                Ok(_) => return self.mode_now("it was attached so by the agent before"),
                Err(e) => {
                    log::warn!("{}: the earlier XDP link cannot be used again ({e}); attaching anew", self.interface)
                }
            }
            remove_if_there(&pin)?;
        }
        let mut cause = "it is configured (`xdp.mode: generic`)".to_owned();
        let program: &mut Xdp = program(&mut self.ebpf, PROGRAM_XDP)?;
        let mut attached = None;
        if self.options.xdp != XdpMode::Generic {
            match program.attach_to_if_index(ifindex, AyaMode::Driver) {
                Ok(id) => attached = Some(id),
                Err(e) => cause = why_not_native(&e, ifindex),
            }
        }
        let id = match attached {
            Some(id) => id,
            None if self.options.xdp == XdpMode::Native => {
                return Err(self.attach_error(format!("native XDP: {cause}; `xdp.mode: auto` falls back to generic")));
            }
            None => match program.attach_to_if_index(ifindex, AyaMode::Skb) {
                Ok(id) => id,
                Err(e) => return Err(self.attach_error(format!("native XDP: {cause}; generic XDP: {}", chain(&e)))),
            },
        };
        let link: Result<FdLink, _> = program.take_link(id).and_then(|l| l.try_into().map_err(link_error));
        link.map_err(|e| self.attach_error(chain(&e)))?.pin(&pin).map_err(|e| self.attach_error(chain(&e)))?;
        self.mode_now(&cause)
    }

    fn mode_now(&self, cause: &str) -> Result<AttachedMode, KernelError> {
        let state = link::query(self.ifindex).map_err(KernelError::refused("asking for the interface"))?;
        Ok(match state.xdp.first().map(|x| x.mode) {
            Some(link::Mode::Generic) => AttachedMode::Generic(cause.to_owned()),
            _ => AttachedMode::Native,
        })
    }

    /// Messages of the programs, to be passed on to `logger` by [`aya_log::EbpfLogger::flush`] when the descriptor is
    /// readable. `None` once taken.
    pub fn take_logger<T: log::Log>(&mut self, logger: T) -> Option<aya_log::EbpfLogger<T>> {
        aya_log::EbpfLogger::init_with_logger(&mut self.ebpf, logger).ok()
    }

    /// The loaded XDP and TC programs, for test runs.
    pub fn descriptors(&mut self) -> Result<(OwnedFd, OwnedFd), KernelError> {
        let clone = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(KernelError::refused("a descriptor"));
        let not_loaded = |e: ProgramError| KernelError::Load(chain(&e));
        let xdp: &mut Xdp = program(&mut self.ebpf, PROGRAM_XDP)?;
        let xdp = clone(xdp.fd().map_err(not_loaded)?.as_fd())?;
        let tc: &mut SchedClassifier = program(&mut self.ebpf, PROGRAM_TC)?;
        let tc = clone(tc.fd().map_err(not_loaded)?.as_fd())?;
        Ok((xdp, tc))
    }

    /// Instructions that the verifier processed: XDP, TC.
    pub fn verified_instructions(&mut self) -> Result<[Option<u32>; 2], KernelError> {
        let not_loaded = |e: ProgramError| KernelError::Load(chain(&e));
        let xdp: &mut Xdp = program(&mut self.ebpf, PROGRAM_XDP)?;
        let a = xdp.info().map_err(not_loaded)?.verified_instruction_count();
        let tc: &mut SchedClassifier = program(&mut self.ebpf, PROGRAM_TC)?;
        let b = tc.info().map_err(not_loaded)?.verified_instruction_count();
        Ok([a, b])
    }
}

fn link_error(e: LinkError) -> ProgramError {
    ProgramError::IOError(std::io::Error::other(chain(&e)))
}

/// An error and what caused it, on one line.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(s) = source {
        text.push_str(": ");
        text.push_str(&s.to_string());
        source = s.source();
    }
    text
}

/// A program that the kernel refused: the verifier writes thousands of lines, and the last ones say why.
pub(crate) fn not_taken(name: &str, e: &ProgramError) -> KernelError {
    const LAST: usize = 12;
    let ProgramError::LoadError { io_error, verifier_log } = e else {
        return KernelError::Load(format!("{name}: {}", chain(e)));
    };
    let log = verifier_log.to_string();
    log::debug!("{name}: the verifier's log:\n{log}");
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST)..].join("\n");
    KernelError::Load(format!("{name}: {io_error}; the verifier's last words:\n{last}"))
}

fn why_not_native(e: &ProgramError, ifindex: u32) -> String {
    let mtu = link::query(ifindex).map(|i| i.mtu).unwrap_or(0);
    format!("{} (the driver has no native XDP, or not with this MTU ({mtu}), LRO or queue layout)", chain(e))
}

/// A link pinned by an earlier agent.
fn pinned_link(path: &std::path::Path) -> Result<Option<FdLink>, String> {
    if !path.exists() {
        return Ok(None);
    }
    PinnedLink::from_pin(path).map(|l| Some(FdLink::from(l))).map_err(|e| chain(&e))
}

/// Refuses an interface on which somebody else's XDP program runs.
pub(crate) fn foreign_xdp(interface: &str, ifindex: u32, pins: &Pins) -> Result<(), KernelError> {
    let state = link::query(ifindex).map_err(KernelError::refused("asking for the interface"))?;
    let ours = sys::obj_get(&pins.link_xdp()).ok().and_then(|l| sys::link_program_id(l.as_fd()).ok());
    let Some(foreign) = state.xdp.iter().map(|x| x.program).find(|p| Some(*p) != ours) else { return Ok(()) };
    let name = strangers::name(foreign);
    Err(KernelError::ForeignXdp { interface: interface.to_owned(), program: format!("`{name}`, id {foreign}") })
}

pub(crate) fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| KernelError::Load(format!("there is no program {name} in the object")))?
        .try_into()
        .map_err(|e| KernelError::Load(chain(&e)))
}
