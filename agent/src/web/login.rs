//! One-time codes and sessions of the web page. Only hashes of codes and tokens are kept, in memory alone: a restart logs everybody
//! out.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use sha2::{Digest, Sha256};

use crate::clock::wall_us;
use crate::command::{Caller, CommandError, Identity, Role, WebLogin};
use crate::config::Web;

/// A code is good for so long.
pub const CODE_LIFETIME: Duration = Duration::from_secs(120);
/// Codes that wait to be used.
const MAX_CODES: usize = 32;
/// Sessions at once. The one that was used the longest ago goes first.
pub const MAX_SESSIONS: usize = 64;
/// Bytes of a code, of a session's token and of its CSRF token.
const SECRET: usize = 32;

type Hash = [u8; 32];

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("the web page is not served: {0}")]
    NotServed(String),
    #[error("{caller} may only look ({has}), and cannot let somebody be {wanted}")]
    Role { caller: String, has: Role, wanted: Role },
    #[error("{MAX_CODES} logins wait to be used, the most that may; try again in two minutes")]
    Full,
    #[error("no random numbers can be had of the system")]
    Random,
}

impl From<LoginError> for CommandError {
    fn from(e: LoginError) -> Self {
        let words = e.to_string();
        match e {
            LoginError::NotServed(_) | LoginError::Role { .. } => CommandError::Refused(words),
            LoginError::Full => CommandError::Full(words),
            LoginError::Random => CommandError::Failed(words),
        }
    }
}

/// Somebody who is logged in.
#[derive(Debug)]
pub struct Session {
    pub name: String,
    pub role: Role,
    /// What a page of ours sends back with everything that changes something.
    pub csrf: String,
    /// Until when, on the wall clock.
    pub expires_us: u64,
    until: Instant,
    ended: AtomicBool,
    used: Mutex<Instant>,
    from: Mutex<Option<IpAddr>>,
    idle: Duration,
}

impl Session {
    /// What the session allows, while it lasts.
    pub fn role_now(&self) -> Option<Role> {
        self.lives(Instant::now()).then_some(self.role)
    }

    fn lives(&self, now: Instant) -> bool {
        !self.ended.load(Ordering::Acquire) && now < self.until && now.duration_since(self.last_used()) < self.idle
    }

    fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request of it came from there.
    pub fn seen(&self, from: IpAddr) {
        *self.from.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
    }

    /// Whether this is the session's CSRF token. Takes as long wherever the two differ.
    pub fn has_csrf(&self, given: &str) -> bool {
        same(&hash(self.csrf.as_bytes()), &hash(given.as_bytes()))
    }
}

/// A code that waits.
#[derive(Debug)]
struct Code {
    hash: Hash,
    name: String,
    role: Role,
    until: Instant,
}

#[derive(Debug, Default)]
struct State {
    codes: Vec<Code>,
    sessions: HashMap<Hash, Arc<Session>>,
    config: Web,
    /// Where the page is served, or why it is not.
    served: Option<Result<SocketAddr, String>>,
}

/// See the module. Shared by the event loop, which makes codes, and the server.
#[derive(Debug, Default)]
pub struct Logins(Mutex<State>);

impl Logins {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn configure(&self, config: Web) {
        self.state().config = config;
    }

    pub fn config(&self) -> Web {
        self.state().config.clone()
    }

    /// Tells where the page is served now, or why it is not.
    pub fn served(&self, at: Result<SocketAddr, String>) {
        self.state().served = Some(at);
    }

    /// Why the page is not served, where it should be.
    pub fn problem(&self) -> Option<String> {
        let state = self.state();
        state.served.as_ref()?.as_ref().err().cloned()
    }

    /// A code for somebody, made for `by`.
    pub fn issue(&self, name: &str, role: Option<Role>, by: &Caller) -> Result<WebLogin, LoginError> {
        self.issue_at(name, role, by, Instant::now())
    }

    fn issue_at(&self, name: &str, role: Option<Role>, by: &Caller, now: Instant) -> Result<WebLogin, LoginError> {
        let mut state = self.state();
        let at = match &state.served {
            Some(Ok(at)) => *at,
            Some(Err(why)) => return Err(LoginError::NotServed(why.clone())),
            None if !state.config.enabled => {
                return Err(LoginError::NotServed("`web.enabled` is false in the configuration".into()));
            }
            None => return Err(LoginError::NotServed("the agent is only starting".into())),
        };
        if let Some(wanted) = role.filter(|r| *r > by.role) {
            return Err(LoginError::Role { caller: by.to_string(), has: by.role, wanted });
        }
        let role = role.unwrap_or(state.config.role.min(by.role));
        state.codes.retain(|c| c.until > now);
        if state.codes.len() >= MAX_CODES {
            return Err(LoginError::Full);
        }
        let code = secret().ok_or(LoginError::Random)?;
        let name = if name.is_empty() { name_of(&by.who) } else { name.to_owned() };
        state.codes.push(Code { hash: hash(code.as_bytes()), name: name.clone(), role, until: now + CODE_LIFETIME });
        let expires_us = wall_us() + CODE_LIFETIME.as_micros() as u64;
        let url = format!("{}/login?code={code}", state.config.base(at));
        Ok(WebLogin { url, expires_us, name, role })
    }

    /// Uses a code up; gives the token of a new session.
    pub fn redeem(&self, code: &str) -> Option<(String, Arc<Session>)> {
        self.redeem_at(code, Instant::now())
    }

    fn redeem_at(&self, code: &str, now: Instant) -> Option<(String, Arc<Session>)> {
        let given = hash(code.as_bytes());
        let mut state = self.state();
        state.codes.retain(|c| c.until > now);
        // Every one is compared, in full.
        let found =
            state.codes.iter().enumerate().fold(None, |f, (i, c)| if same(&c.hash, &given) { Some(i) } else { f });
        let code = state.codes.swap_remove(found?);
        let (token, csrf) = (secret()?, secret()?);
        let lifetime = state.config.session;
        let session = Arc::new(Session {
            name: code.name,
            role: code.role,
            csrf,
            expires_us: wall_us() + lifetime.as_micros() as u64,
            until: now + lifetime,
            ended: AtomicBool::new(false),
            used: Mutex::new(now),
            from: Mutex::new(None),
            idle: state.config.idle,
        });
        state.sessions.retain(|_, s| s.lives(now));
        if state.sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = state.sessions.iter().min_by_key(|(_, s)| s.last_used()).map(|(h, _)| *h)
            && let Some(gone) = state.sessions.remove(&oldest)
        {
            gone.ended.store(true, Ordering::Release);
        }
        state.sessions.insert(hash(token.as_bytes()), session.clone());
        Some((token, session))
    }

    /// The session of a token, if it lives. It counts as used now.
    pub fn session(&self, token: &str) -> Option<Arc<Session>> {
        self.session_at(token, Instant::now())
    }

    fn session_at(&self, token: &str, now: Instant) -> Option<Arc<Session>> {
        // Looked up by its hash: how long that takes says nothing of a token.
        let key = hash(token.as_bytes());
        let mut state = self.state();
        let session = state.sessions.get(&key)?.clone();
        if !session.lives(now) {
            state.sessions.remove(&key);
            return None;
        }
        *session.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Some(session)
    }

    /// Hosts from which people are logged in, for the safe set: blocking them would lock operators out.
    pub fn clients(&self) -> Vec<(IpAddr, String)> {
        let now = Instant::now();
        let state = self.state();
        let living = state.sessions.values().filter(|s| s.lives(now));
        let from =
            living.filter_map(|s| Some(((*s.from.lock().unwrap_or_else(PoisonError::into_inner))?, s.name.clone())));
        from.filter(|(ip, _)| !ip.is_loopback()).collect()
    }

    /// Logs out. What was begun with the session ends.
    pub fn end(&self, token: &str) {
        if let Some(session) = self.state().sessions.remove(&hash(token.as_bytes())) {
            session.ended.store(true, Ordering::Release);
        }
    }
}

/// As the audit is to have it.
fn name_of(who: &Identity) -> String {
    match who {
        Identity::Local { user: Some(user), .. } => user.clone(),
        Identity::Local { uid, .. } => format!("uid-{uid}"),
        Identity::Certificate { name, .. } | Identity::Web { name, .. } => name.clone(),
    }
}

fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// Compares in a time that does not depend on where the two differ.
fn same(a: &Hash, b: &Hash) -> bool {
    let differ = a.iter().zip(b).fold(0u8, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differ) == 0
}

/// 256 bits that nobody can guess, in hexadecimal digits.
fn secret() -> Option<String> {
    let provider = CryptoProvider::get_default().cloned();
    let random = provider.map_or(rustls::crypto::ring::default_provider().secure_random, |p| p.secure_random);
    let mut bytes = [0u8; SECRET];
    random.fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::with_capacity(2 * SECRET), |mut all, b| {
        let _ = write!(all, "{b:02x}");
        all
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(role: Role) -> Caller {
        Caller { who: Identity::Local { uid: 0, user: Some("root".into()), pid: None }, role }
    }

    fn serving() -> Logins {
        let logins = Logins::default();
        logins.served(Ok("127.0.0.1:8470".parse().unwrap()));
        logins
    }

    fn code(login: &WebLogin) -> String {
        login.url.rsplit_once("code=").unwrap().1.to_owned()
    }

    #[test]
    fn a_code_is_good_once_and_for_two_minutes() {
        let (logins, now) = (serving(), Instant::now());
        let login = logins.issue_at("", None, &by(Role::Operator), now).unwrap();
        assert!(login.url.starts_with("http://127.0.0.1:8470/login?code=") && login.name == "root", "{}", login.url);
        assert_eq!(code(&login).len(), 64, "256 bits");
        assert!(logins.redeem_at("0", now).is_none());
        let (token, session) = logins.redeem_at(&code(&login), now).unwrap();
        assert!(logins.redeem_at(&code(&login), now).is_none(), "used");
        assert_ne!(token, session.csrf);
        assert_eq!(logins.session_at(&token, now).unwrap().name, "root");
        let late = logins.issue_at("", None, &by(Role::Operator), now).unwrap();
        assert!(logins.redeem_at(&code(&late), now + CODE_LIFETIME).is_none(), "too late");
    }

    #[test]
    fn nobody_is_let_in_for_more_than_who_lets_them_in() {
        let logins = serving();
        let e = logins.issue("x", Some(Role::Operator), &by(Role::Viewer)).unwrap_err();
        assert!(e.to_string().contains("cannot let somebody be operator"), "{e}");
        assert_eq!(logins.issue("x", None, &by(Role::Viewer)).unwrap().role, Role::Viewer);
        assert_eq!(logins.issue("x", Some(Role::Viewer), &by(Role::Operator)).unwrap().role, Role::Viewer);
    }

    #[test]
    fn sessions_end_when_idle_when_old_and_when_logged_out() {
        let config = Web { session: Duration::from_secs(100), idle: Duration::from_secs(10), ..Web::default() };
        let (logins, now) = (serving(), Instant::now());
        logins.configure(config);
        let log_in = || {
            let login = logins.issue_at("x", None, &by(Role::Operator), now).unwrap();
            logins.redeem_at(&code(&login), now).unwrap()
        };
        let after = |s: u64| now + Duration::from_secs(s);
        let (idle, _) = log_in();
        assert!(logins.session_at(&idle, after(9)).is_some() && logins.session_at(&idle, after(18)).is_some());
        assert!(logins.session_at(&idle, after(28)).is_none());
        let (old, _) = log_in();
        assert!((1..=11).all(|i| logins.session_at(&old, after(9 * i)).is_some()));
        assert!(logins.session_at(&old, after(100)).is_none());
        let (out, session) = log_in();
        session.seen("192.0.2.7".parse().unwrap());
        assert_eq!(logins.clients(), [("192.0.2.7".parse().unwrap(), "x".to_owned())], "not to be locked out");
        logins.end(&out);
        assert!(logins.session_at(&out, now).is_none() && session.role_now().is_none(), "also what holds it still");
        assert!(logins.clients().is_empty());
    }

    #[test]
    fn codes_and_sessions_are_bounded_and_the_longest_unused_session_goes() {
        let logins = serving();
        let mut tokens = Vec::new();
        for i in 0..=MAX_SESSIONS {
            let now = Instant::now();
            let login = logins.issue_at(&format!("n{i}"), None, &by(Role::Operator), now).unwrap();
            tokens.push(logins.redeem_at(&code(&login), now).unwrap().0);
        }
        assert!(logins.session(&tokens[0]).is_none() && logins.session(&tokens[1]).is_some());
        (0..MAX_CODES).for_each(|_| drop(logins.issue("x", None, &by(Role::Operator)).unwrap()));
        assert!(logins.issue("x", None, &by(Role::Operator)).is_err());
    }

    #[test]
    fn without_a_page_there_is_no_login_and_the_reason_is_told() {
        let logins = Logins::default();
        assert!(logins.issue("x", None, &by(Role::Operator)).is_err());
        logins.served(Err("127.0.0.1:8470 is taken".into()));
        let e = logins.issue("x", None, &by(Role::Operator)).unwrap_err().to_string();
        assert!(e.contains("is taken") && logins.problem().is_some(), "{e}");
    }
}
