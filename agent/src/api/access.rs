//! Who is at the other end of a connection, and what they may: decided here alone, for each call anew.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{Gid, Group};
use rustls::pki_types::CertificateDer;
use tokio::net::UnixStream;

use super::socket::BindError;
use super::tls::{TlsError, Trust};
use super::x509::Holder;
use crate::command::{Identity, Role};
use crate::config::ApiTls;
use crate::metrics::ApiCalls;
use crate::traces::Tracer;
use crate::web::login::{Logins, Session};

/// In the unit (OU) of certificates that `weir tls client` makes.
pub const UNIT_PREFIX: &str = "weir-";

/// Who is at the other end, as it was found out when the connection came.
#[derive(Clone, Debug)]
pub struct Peer(pub(super) Arc<Known>);

#[derive(Debug)]
pub(super) struct Known {
    pub who: Identity,
    by: Proof,
}

#[derive(Debug)]
enum Proof {
    /// All groups of the process, as the kernel gave them.
    Groups(Vec<Gid>),
    Certificate {
        holder: Holder,
        /// Of the authority that the certificate was checked against.
        authority: u64,
    },
    /// Of the web page.
    Session(Arc<Session>),
}

impl Peer {
    /// What places are counted by.
    pub(super) fn key(&self) -> String {
        self.0.who.to_string()
    }

    pub(super) fn is_root(&self) -> bool {
        matches!(self.0.who, Identity::Local { uid: 0, .. })
    }
}

/// A group of the configuration.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    gid: Gid,
}

/// Why somebody may not; in words for them.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    #[error("you are {who}, and {whose} may use this agent; {hint}")]
    Stranger { who: String, whose: String, hint: &'static str },
    #[error(
        "the certificate {0} is named by no role: the agent's administrator can add it to `api.tls.roles`, or make one with `weir tls client NAME --role viewer`"
    )]
    NoRole(String),
    #[error("the certificate {0} has expired; ask the agent's administrator for a new one (`weir tls client`)")]
    Expired(String),
    #[error("the agent trusts another certificate authority now; connect again")]
    OtherAuthority,
    #[error("you are logged out of the web page; `weir web login` lets you in again")]
    LoggedOut,
}

/// Who may what. Shared by the event loop, which changes it at a reload, and the server.
#[derive(Debug, Default)]
pub struct Access {
    operators: Option<Named>,
    viewers: Option<Named>,
    tls: RwLock<Option<Arc<Trust>>>,
    /// Addresses with connections by certificate, and how many.
    clients: Mutex<HashMap<IpAddr, (String, usize)>>,
    web: Logins,
    /// What calls were made.
    pub calls: Arc<ApiCalls>,
    /// Who wants to know how long they took.
    pub tracer: Tracer,
}

impl Access {
    /// Groups are looked up once: the socket has its mode and group from the start, too.
    pub fn new(group: Option<&str>, read_group: Option<&str>) -> Result<Self, BindError> {
        Ok(Self { operators: named(group)?, viewers: named(read_group)?, ..Self::default() })
    }

    /// Calls are traced there.
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Reads the files that the configuration names. What was in force stays if one of them is wrong.
    pub fn set_tls(&self, tls: Option<&ApiTls>) -> Result<(), TlsError> {
        let trust = tls.map(Trust::load).transpose()?;
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = trust.map(Arc::new);
        Ok(())
    }

    /// Reads the files again if they have changed; whether they had.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let Some(now) = self.trust() else { return Ok(false) };
        if !now.changed() {
            return Ok(false);
        }
        let new = Trust::load(&now.config)?;
        let mut held = self.tls.write().unwrap_or_else(PoisonError::into_inner);
        // Unless a reload came in between.
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &now)) {
            *held = Some(Arc::new(new));
        }
        Ok(true)
    }

    /// Who is logged in to the web page.
    pub fn web(&self) -> &Logins {
        &self.web
    }

    /// Who sent a request of the web page.
    pub(crate) fn logged_in(session: Arc<Session>, from: IpAddr) -> Peer {
        let who = Identity::Web { name: session.name.clone(), from };
        Peer(Arc::new(Known { who, by: Proof::Session(session) }))
    }

    pub(super) fn trust(&self) -> Option<Arc<Trust>> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who connected to the socket, as the kernel says.
    pub(crate) fn local(&self, stream: &UnixStream) -> std::io::Result<Peer> {
        let cred = stream.peer_cred()?;
        let mut groups = peer_groups(stream)?;
        groups.push(Gid::from_raw(cred.gid()));
        let user = nix::unistd::User::from_uid(cred.uid().into()).ok().flatten().map(|u| u.name);
        let who = Identity::Local { uid: cred.uid(), user, pid: cred.pid() };
        Ok(Peer(Arc::new(Known { who, by: Proof::Groups(groups) })))
    }

    /// Who connected over TLS; the certificate has been verified. `None`: it has no name.
    pub(super) fn remote(&self, certificate: &CertificateDer<'_>, from: IpAddr, trust: &Trust) -> Option<Peer> {
        let holder = Holder::of(certificate)?;
        let name = holder.names.first().filter(|n| !n.is_empty() && !n.contains(char::is_control))?.clone();
        let by = Proof::Certificate { holder, authority: trust.authority };
        Some(Peer(Arc::new(Known { who: Identity::Certificate { name, from }, by })))
    }

    /// What the peer may now.
    pub fn role(&self, peer: &Peer) -> Result<Role, Denied> {
        match &peer.0.by {
            Proof::Groups(groups) => {
                let Identity::Local { uid, .. } = peer.0.who else { unreachable!("groups are of a local process") };
                let within = |g: &Option<Named>| g.as_ref().is_some_and(|g| groups.contains(&g.gid));
                if uid == 0 || uid == nix::unistd::geteuid().as_raw() || within(&self.operators) {
                    return Ok(Role::Operator);
                }
                if within(&self.viewers) {
                    return Ok(Role::Viewer);
                }
                Err(self.stranger(peer))
            }
            Proof::Session(session) => session.role_now().ok_or(Denied::LoggedOut),
            Proof::Certificate { holder, authority } => {
                let trust = self.trust().filter(|t| t.authority == *authority).ok_or(Denied::OtherAuthority)?;
                let name = || holder.names.first().cloned().unwrap_or_default();
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
                if now > holder.not_after {
                    return Err(Denied::Expired(name()));
                }
                role_of(holder, &trust.config.roles).ok_or_else(|| Denied::NoRole(name()))
            }
        }
    }

    fn stranger(&self, peer: &Peer) -> Denied {
        let groups: Vec<_> = [&self.operators, &self.viewers].into_iter().flatten().map(|g| g.name.as_str()).collect();
        let (whose, hint) = match groups.as_slice() {
            [] => (
                "only root".to_owned(),
                "run this with sudo, or have an administrator set `group` in the configuration",
            ),
            names => (
                format!("only root and members of {}", names.join(" and ")),
                "run this with sudo, or have an administrator add you (`usermod -aG GROUP USER`) and log in again",
            ),
        };
        Denied::Stranger { who: peer.0.who.to_string(), whose, hint }
    }

    /// Counts a connection by certificate for as long as the guard lives.
    pub(super) fn connected(self: &Arc<Self>, peer: &Peer) -> Option<Connected> {
        let Identity::Certificate { name, from } = &peer.0.who else { return None };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(*from).or_insert_with(|| (name.clone(), 0)).1 += 1;
        Some(Connected { access: self.clone(), from: *from })
    }

    /// Hosts that are connected by a certificate with a role, for the safe set: blocking them would lock operators out.
    pub fn clients(&self) -> Vec<(IpAddr, String)> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.iter().map(|(from, (name, _))| (*from, name.clone())).collect()
    }
}

/// By the configuration's list where there is one, else by the unit that `weir tls client` writes.
fn role_of(holder: &Holder, roles: &[(String, Role)]) -> Option<Role> {
    if roles.is_empty() {
        let unit = |u: &String| {
            let name = u.strip_prefix(UNIT_PREFIX)?;
            Role::CHOICES.iter().find(|(n, _)| *n == name).map(|(_, r)| *r)
        };
        return holder.units.iter().filter_map(unit).min();
    }
    // A name of the certificate that means less is not outdone by another one.
    roles.iter().filter(|(name, _)| holder.names.contains(name)).map(|(_, role)| *role).min()
}

/// A connection by certificate.
#[derive(Debug)]
pub(super) struct Connected {
    access: Arc<Access>,
    from: IpAddr,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut clients = self.access.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, n)) = clients.get_mut(&self.from) {
            *n -= 1;
            if *n == 0 {
                clients.remove(&self.from);
            }
        }
    }
}

fn named(group: Option<&str>) -> Result<Option<Named>, BindError> {
    let Some(name) = group else { return Ok(None) };
    let found = Group::from_name(name).map_err(|e| BindError::Io {
        doing: "look up the group in",
        path: Path::new("/etc/group").to_owned(),
        cause: e.into(),
    })?;
    let gid = found.ok_or_else(|| BindError::NoGroup(name.to_owned()))?.gid;
    Ok(Some(Named { name: name.to_owned(), gid }))
}

/// The supplementary groups of the process at the other end when it connected.
fn peer_groups(stream: &UnixStream) -> std::io::Result<Vec<Gid>> {
    let fd = stream.as_fd();
    let mut gids: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(gids.as_slice())).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: `gids` has room for `bytes` bytes, of which the kernel writes at most that many and says how many.
        let answer = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                gids.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if answer == 0 {
            gids.truncate(count);
            return Ok(gids.into_iter().map(Gid::from_raw).collect());
        }
        let e = std::io::Error::last_os_error();
        if e.raw_os_error() != Some(libc::ERANGE) || count <= gids.len() {
            return Err(e);
        }
        gids.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_groups_of_the_process_at_the_other_end_are_known() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut groups = peer_groups(&here).unwrap();
        let mut own = nix::unistd::getgroups().unwrap();
        groups.sort_by_key(|g| g.as_raw());
        own.sort_by_key(|g| g.as_raw());
        assert_eq!(groups, own);
    }

    #[test]
    fn the_configuration_decides_over_roles_and_without_it_the_certificate() {
        let strings = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let holder = Holder {
            names: strings(&["ops", "ops.example"]),
            units: strings(&["weir-operator"]),
            not_before: 0,
            not_after: 0,
        };
        assert_eq!(role_of(&holder, &[]), Some(Role::Operator));
        let list = |entries: &[(&str, Role)]| entries.iter().map(|(n, r)| ((*n).to_owned(), *r)).collect::<Vec<_>>();
        assert_eq!(role_of(&holder, &list(&[("other", Role::Operator)])), None, "the list names others alone");
        assert_eq!(role_of(&holder, &list(&[("ops.example", Role::Viewer)])), Some(Role::Viewer));
        let both = list(&[("ops", Role::Operator), ("ops.example", Role::Viewer)]);
        assert_eq!(role_of(&holder, &both), Some(Role::Viewer));
        let plain = Holder { units: strings(&["Weir-operator", "weir-admin"]), ..holder };
        assert_eq!(role_of(&plain, &[]), None);
    }
}
