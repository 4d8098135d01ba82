//! Disk space, who may read and write what, and certificates.

use std::path::{Path, PathBuf};

use super::finding::{Check, Finding, Read};
use crate::human;

const SPACE: Check = Check {
    id: "disk.space",
    title: "free disk",
    why: "decisions are on the disk before they are confirmed, and what cannot be recorded is lost",
};
const MODES: Check = Check {
    id: "files.permissions",
    title: "permissions",
    why: "who can write the configuration rules the agent, and who can read keys can pass for it",
};
const GROUPS: Check = Check {
    id: "files.groups",
    title: "groups of the socket",
    why: "the agent does not start with a group that this host does not know",
};
const CERTIFICATES: Check = Check {
    id: "tls.certificates",
    title: "certificates",
    why: "with a certificate that is over or cannot be read, clients, the page and sinks are cut off",
};

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may still be written.
    pub free: u64,
    /// Files that may still be made; `None`: the file system does not count them.
    pub inodes: Option<u64>,
    pub read_only: bool,
}

/// A folder that the agent writes to.
#[derive(Clone, Debug)]
pub struct Place {
    /// What is kept there, as in `state_dir`.
    pub what: &'static str,
    pub path: PathBuf,
    pub room: Read<Room>,
    /// Bytes that may still come, by the configured bounds.
    pub may_come: u64,
}

/// Less than this, bytes, and the agent cannot go on writing.
const LEAST: u64 = 32 << 20;
const LEAST_INODES: u64 = 1000;

pub fn judge_place(p: &Place) -> Finding {
    SPACE.of(&p.room, |room| {
        let at = format!("{} ({})", p.path.display(), p.what);
        let largest = format!("du -xh {} | sort -h | tail", quoted(&p.path));
        if room.read_only {
            return SPACE
                .error(format!("{at} lies on a file system that is read-only"))
                .mend(format!("mount -o remount,rw \"$(findmnt -no TARGET -T {})\"", quoted(&p.path)));
        }
        if room.inodes.is_some_and(|n| n < LEAST_INODES) {
            let left = room.inodes.unwrap_or(0);
            return SPACE.error(format!("{at}: only {left} more files can be made")).mend(largest);
        }
        let free = human::bytes(room.free);
        match room.free {
            n if n < LEAST => SPACE.error(format!("{at}: {free} are free")).mend(largest),
            n if n < p.may_come => SPACE
                .warning(format!(
                    "{at}: {free} are free, and up to {} may still be written (record.max_size, store.max_size, queues of sinks)",
                    human::bytes(p.may_come)
                ))
                .mend(largest),
            _ => SPACE.ok(format!("{at}: {free} are free")),
        }
    })
}

/// What a file is to those who must not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// Nobody but root and whom it trusts may change it.
    Unwritable,
    /// And others must not read it.
    Secret,
    /// A folder that is the agent's alone.
    Private,
}

#[derive(Clone, Debug)]
pub struct Guard {
    /// The key that names it.
    pub what: String,
    pub path: PathBuf,
    pub as_what: Guarded,
    /// Mode bits and owner; `None`: it is not there.
    pub found: Read<Option<(u32, u32)>>,
    /// It is no matter that it is missing.
    pub optional: bool,
}

/// A path for a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// `us`: who looks, and so may own files.
pub fn judge_guard(g: &Guard, us: u32) -> Option<Finding> {
    let at = format!("{} ({})", g.path.display(), g.what);
    let path = quoted(&g.path);
    let (mode, owner) = match &g.found {
        Err(why) => return Some(MODES.unknown(format!("{at}: {why}"))),
        Ok(None) if g.optional => return None,
        Ok(None) => return Some(MODES.error(format!("{at} is not there")).mend(format!("ls -ld {path}"))),
        Ok(Some(found)) => *found,
    };
    let bits = mode & 0o777;
    let said = |words: &str| format!("{at}: {words} (mode {bits:04o})");
    Some(match g.as_what {
        Guarded::Private if bits & 0o077 != 0 => {
            MODES.warning(said("others can look into it")).mend(format!("chmod 700 {path}"))
        }
        Guarded::Secret if bits & 0o007 != 0 => {
            MODES.error(said("everybody on this host can read it")).mend(format!("chmod o= {path}"))
        }
        _ if bits & 0o022 != 0 => MODES.error(said("others can change it")).mend(format!("chmod go-w {path}")),
        _ if owner != 0 && owner != us => MODES
            .warning(format!("{at} belongs to the user {owner}, who can change it"))
            .mend(format!("chown root {path}")),
        _ => return None,
    })
}

pub fn judge_guards(all: &[Guard], us: u32) -> Vec<Finding> {
    let found: Vec<_> = all.iter().filter_map(|g| judge_guard(g, us)).collect();
    if !found.is_empty() {
        return found;
    }
    let there = all.iter().filter(|g| matches!(g.found, Ok(Some(_)))).count();
    vec![MODES.ok(format!("{there} files and folders are as they should be"))]
}

/// Groups that the configuration names, and whether this host knows them.
pub fn judge_groups(all: &[(&'static str, String, bool)]) -> Option<Finding> {
    if all.is_empty() {
        return None;
    }
    let missing = all.iter().find(|(.., known)| !known);
    Some(match missing {
        Some((key, name, _)) => {
            GROUPS.error(format!("{key}: there is no group `{name}`")).mend(format!("groupadd --system {name}"))
        }
        None => GROUPS.ok(all.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>().join(", ")),
    })
}

/// A certificate that the configuration names.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The key that names it.
    pub what: String,
    pub path: PathBuf,
    /// From when to when, seconds since the Unix epoch.
    pub validity: Read<(u64, u64)>,
    /// Whether it fits its key, where it has one here.
    pub pair: Read<()>,
}

/// How long before the end of a certificate it is time for the next, seconds.
const SOON: u64 = 14 * 86_400;

pub fn judge_certificate(c: &Certificate, now: u64) -> Finding {
    let at = format!("{} ({})", c.path.display(), c.what);
    let path = quoted(&c.path);
    let renew = match c.what.as_str() {
        "api.tls.cert" => format!(
            "mv {path} {path}.old && weir tls server --dir {}",
            quoted(c.path.parent().unwrap_or(Path::new("/")))
        ),
        _ => format!("openssl x509 -in {path} -noout -subject -issuer -dates"),
    };
    let day = |s: u64| weir_core::render::Rfc3339(s.saturating_mul(1_000_000)).to_string();
    let (from, to) = match &c.validity {
        Err(why) => return CERTIFICATES.error(format!("{at}: {why}")).mend(format!("ls -l {path}")),
        Ok(validity) => *validity,
    };
    if now >= to {
        return CERTIFICATES.error(format!("{at} was good until {}", day(to))).mend(renew);
    }
    if now < from {
        return CERTIFICATES
            .error(format!("{at} is not good before {}; is this host's time right?", day(from)))
            .mend("timedatectl");
    }
    if let Err(why) = &c.pair {
        return CERTIFICATES.error(format!("{at}: {why}")).mend(renew);
    }
    match to - now {
        left if left < SOON => CERTIFICATES.warning(format!("{at} is good until {}", day(to))).mend(renew),
        left => CERTIFICATES.ok(format!("{at} is good for {} days", left / 86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{self, *};
    use super::*;

    #[test]
    fn a_disk_that_is_full_or_will_be_is_named() {
        let of = |room: Room, may_come| {
            let p = Place { what: "state_dir", path: "/var/lib/weir".into(), room: Result::Ok(room), may_come };
            judge_place(&p)
        };
        let room = Room { free: 1 << 30, inodes: Some(1 << 20), read_only: false };
        assert_eq!(of(room, 1 << 20).severity, Ok);
        assert_eq!(of(room, 2 << 30).severity, Warning);
        assert_eq!(of(Room { free: 1 << 20, ..room }, 0).severity, Error);
        assert_eq!(of(Room { inodes: Some(3), ..room }, 0).severity, Error);
        assert_eq!(of(Room { inodes: None, ..room }, 0).severity, Ok);
        let found = of(Room { read_only: true, ..room }, 0);
        assert!(found.severity == Error && found.command.unwrap().contains("remount,rw"));
        let p = Place { what: "log", path: "/x y".into(), room: Err("denied".into()), may_come: 0 };
        assert_eq!(judge_place(&p).severity, Unknown);
    }

    #[test]
    fn files_that_others_can_read_or_change_are_named_with_the_command() {
        let of = |as_what, found: Read<Option<(u32, u32)>>, optional| {
            judge_guard(&Guard { what: "x".into(), path: "/etc/weir/a b".into(), as_what, found, optional }, 0)
                .map(|f| (f.severity, f.command.unwrap_or_default()))
        };
        let mode = |m: u32| Result::Ok(Some((0o100_000 | m, 0)));
        assert_eq!(of(Guarded::Secret, mode(0o640), false), None);
        assert_eq!(of(Guarded::Secret, mode(0o644), false), Some((Error, "chmod o= '/etc/weir/a b'".into())));
        assert_eq!(of(Guarded::Unwritable, mode(0o644), false), None);
        assert_eq!(of(Guarded::Unwritable, mode(0o664), false), Some((Error, "chmod go-w '/etc/weir/a b'".into())));
        assert_eq!(of(Guarded::Private, mode(0o755), false), Some((Warning, "chmod 700 '/etc/weir/a b'".into())));
        assert_eq!(
            of(Guarded::Secret, Result::Ok(Some((0o600, 1000))), false),
            Some((Warning, "chown root '/etc/weir/a b'".into()))
        );
        assert_eq!(of(Guarded::Secret, Result::Ok(None), false).unwrap().0, Error);
        assert_eq!(of(Guarded::Private, Result::Ok(None), true), None);
        assert_eq!(of(Guarded::Secret, Err("denied".into()), false).unwrap().0, Unknown);
        assert_eq!(judge_guards(&[], 0)[0].severity, Ok);
    }

    #[test]
    fn groups_must_be_known() {
        assert_eq!(judge_groups(&[]), None);
        assert_eq!(judge_groups(&[("group", "weir".into(), true)]).unwrap().severity, Ok);
        let found = judge_groups(&[("group", "weir".into(), true), ("read_group", "lookers".into(), false)]).unwrap();
        assert_eq!((found.severity, found.command.as_deref()), (Error, Some("groupadd --system lookers")));
    }

    #[test]
    fn certificates_end_begin_and_fit_their_key() {
        let now = 1_800_000_000;
        let of = |validity: Read<(u64, u64)>, pair: Read<()>| -> (Severity, String) {
            let c =
                Certificate { what: "api.tls.cert".into(), path: "/etc/weir/tls/server.pem".into(), validity, pair };
            let f = judge_certificate(&c, now);
            (f.severity, f.seen)
        };
        let good = Result::Ok(());
        assert_eq!(of(Result::Ok((0, now + 100 * 86_400)), good.clone()).0, Ok);
        assert_eq!(of(Result::Ok((0, now + 86_400)), good.clone()).0, Warning);
        let (severity, seen) = of(Result::Ok((0, now - 1)), good.clone());
        assert!(severity == Error && seen.contains("was good until 2027-01-15T07:59:59"), "{seen}");
        assert_eq!(of(Result::Ok((now + 5, now + 100 * 86_400)), good.clone()).0, Error);
        assert_eq!(of(Err("no PEM".into()), good).0, Error);
        assert_eq!(of(Result::Ok((0, now + 100 * 86_400)), Err("another key".into())).0, Error);
    }
}
