//! Lists on disk: one file for each, replaced as a whole, so that they hold over a restart without whoever they came from.
//!
//! A file is one zstd frame with a checksum: the header as JSON behind its length, then [`MEMBER`] bytes for each member. What cannot
//! be read to its end, or does not say what its header promises, is set aside and said.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use weir_core::addr::{Addr, Prefix};
use weir_core::decisions::lists::{Draft, From, List, Member, NEVER, Rule, StoredList, is_name};
use weir_core::record::TimeUs;

use crate::store::{Saved, file};

const SCHEMA: u32 = 1;
/// Bytes of a member: address, length, rule, reason, end, number.
const MEMBER: usize = 16 + 1 + 1 + 2 + 8 + 8;
/// A larger header is none.
const MAX_HEADER: usize = 16 << 20;
const SUFFIX: &str = "list";

#[derive(Serialize, Deserialize)]
struct Header {
    schema: u32,
    name: String,
    from: From,
    comment: String,
    rules: Vec<Rule>,
    reasons: Vec<String>,
    created_us: TimeUs,
    replaced_us: TimeUs,
    taken_us: TimeUs,
    saved: Saved,
    members: u64,
}

pub fn encode(list: &List, taken_us: TimeUs, saved: Saved) -> io::Result<Vec<u8>> {
    let header = Header {
        schema: SCHEMA,
        name: list.name.clone(),
        from: list.from.clone(),
        comment: list.comment.clone(),
        rules: list.rules.to_vec(),
        reasons: list.reasons.to_vec(),
        created_us: list.created_us,
        replaced_us: list.replaced_us,
        taken_us,
        saved,
        members: list.len() as u64,
    };
    let header = serde_json::to_vec(&header)?;
    let mut out = zstd::stream::Encoder::new(Vec::new(), 1)?;
    out.include_checksum(true)?;
    out.write_all(&(header.len() as u32).to_le_bytes())?;
    out.write_all(&header)?;
    for m in list.members().iter().chain(list.masked().iter()) {
        let mut bytes = [0; MEMBER];
        bytes[..16].copy_from_slice(&m.prefix.addr().0);
        bytes[16] = m.prefix.len();
        bytes[17] = m.rule;
        bytes[18..20].copy_from_slice(&m.why.to_le_bytes());
        bytes[20..28].copy_from_slice(&m.expires_us.to_le_bytes());
        bytes[28..].copy_from_slice(&m.id.to_le_bytes());
        out.write_all(&bytes)?;
    }
    out.finish()
}

/// The list, and when it was stored; inside words, why it is none.
pub fn decode(bytes: &[u8]) -> Result<(StoredList, Saved), String> {
    let plain = zstd::stream::decode_all(bytes).map_err(|e| e.to_string())?;
    let short = || "it is too short".to_owned();
    let (len, rest) = plain.split_first_chunk::<4>().ok_or_else(short)?;
    let len = u32::from_le_bytes(*len) as usize;
    let (header, members) = rest.split_at_checked(len.min(MAX_HEADER)).ok_or_else(short)?;
    let h: Header = serde_json::from_slice(header).map_err(|e| e.to_string())?;
    if h.schema != SCHEMA {
        return Err(format!("its schema is {}, and this version reads {SCHEMA}", h.schema));
    }
    if !is_name(&h.name) || members.len() as u64 != h.members.saturating_mul(MEMBER as u64) {
        return Err(format!("it holds {} bytes of members, and {} members are promised", members.len(), h.members));
    }
    let mut draft = Draft::new(h.name, h.from, h.comment);
    (draft.rules, draft.reasons) = (h.rules, h.reasons);
    for b in members.chunks_exact(MEMBER) {
        let word = |at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap_or_default());
        let mut addr = [0; 16];
        addr.copy_from_slice(&b[..16]);
        let prefix = Prefix::new(Addr(addr), b[16]);
        let why = u16::from_le_bytes([b[18], b[19]]);
        draft.members.push(Member { prefix, rule: b[17], why, expires_us: word(20), id: word(28) });
    }
    debug_assert_eq!(NEVER, u64::MAX, "stored as it is");
    Ok((StoredList { draft, created_us: h.created_us, replaced_us: h.replaced_us, taken_us: h.taken_us }, h.saved))
}

type Then = Box<dyn FnOnce(io::Result<()>) + Send>;
/// `None`: the list is gone.
type Job = (String, Option<List>, Option<Then>);

/// Writes lists in a thread of its own: a large one takes a moment that the event loop has no time for.
#[derive(Debug)]
pub struct Keeper {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Reads what is in the folder, which need not exist, and begins to write there. Words about what could not be read.
    pub fn open(state_dir: &Path) -> (io::Result<Self>, Vec<(StoredList, Saved)>, Vec<String>) {
        let dir = state_dir.join("lists");
        let (mut lists, mut wrong) = (Vec::new(), Vec::new());
        let mut files: Vec<PathBuf> = fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == SUFFIX));
        files.sort();
        for path in files {
            let read = fs::read(&path).map_err(|e| e.to_string()).and_then(|bytes| decode(&bytes));
            match read {
                Ok(list) => lists.push(list),
                Err(why) => {
                    let aside = file::set_aside(&path)
                        .map_or_else(|e| format!("which could not be moved ({e})"), |p| format!("now {}", p.display()));
                    wrong.push(format!(
                        "the stored list {} cannot be read ({why}) and is not in force; {aside}",
                        path.display()
                    ));
                }
            }
        }
        (Self::start(dir), lists, wrong)
    }

    fn start(dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let (jobs, work) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("weir-lists".into()).spawn(move || {
            while let Ok(first) = work.recv() {
                // Of several that wait for one list, the last is what holds.
                let mut pending: BTreeMap<String, (Option<List>, Vec<Then>)> = BTreeMap::new();
                for (name, list, then) in std::iter::once(first).chain(work.try_iter()) {
                    let slot = pending.entry(name).or_default();
                    slot.0 = list;
                    slot.1.extend(then);
                }
                for (name, (list, thens)) in pending {
                    let done = write(&dir, &name, list.as_ref());
                    if let Err(e) = &done {
                        log::warn!("the list {name} is in force and could not be stored: {e}");
                    }
                    for then in thens {
                        then(done.as_ref().copied().map_err(|e| io::Error::new(e.kind(), e.to_string())));
                    }
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Stores the list as it is now, or that there is none of the name, and calls `then` when it is on the disk.
    pub fn keep(&self, name: &str, list: Option<List>, then: Option<Then>) {
        if let Some(jobs) = &self.jobs {
            // The thread ends with the sender.
            let _ = jobs.send((name.to_owned(), list, then));
        }
    }

    /// Waits until everything is written.
    pub fn close(mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(dir: &Path, name: &str, list: Option<&List>) -> io::Result<()> {
    let path = dir.join(format!("{name}.{SUFFIX}"));
    match list {
        Some(list) => {
            let saved = Saved::now().map_err(io::Error::other)?;
            file::replace(&path, &encode(list, crate::clock::wall_us(), saved)?)
        }
        None => match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => file::sync_parent(&path),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::decision::{Action, Sides};
    use weir_core::decisions::lists::Take;
    use weir_core::decisions::{Decisions, Limits};
    use weir_core::guard::Guard;

    fn list(n: u8) -> List {
        let mut t = Decisions::new(Limits::default(), Guard::default(), 1);
        let mut d = Draft::new("a-list".into(), From::Source("/etc/a".into()), "a test".into());
        let rule = d.rule(Rule { action: Action::Drop, limit: None, sides: Sides::Both }).unwrap();
        d.reasons.push("because".into());
        for i in 0..n {
            d.push(
                Prefix::host(std::net::IpAddr::from([10, 0, 0, i]).into()),
                rule,
                u16::from(i % 2),
                if i == 3 { NEVER } else { 1 << 60 },
            );
        }
        d.push("2001:db8::/32".parse().unwrap(), rule, 0, NEVER);
        t.take_list(d, Take::Replace, 5).unwrap();
        t.list("a-list").unwrap().clone()
    }

    #[test]
    fn a_stored_list_reads_back_as_it_was_and_any_damage_is_found() {
        let list = list(100);
        let bytes = encode(&list, 7, Saved::default()).unwrap();
        let (stored, _) = decode(&bytes).unwrap();
        assert_eq!(&stored.draft.members, &**list.members());
        assert_eq!((stored.draft.name.as_str(), stored.taken_us, stored.created_us), ("a-list", 7, 5));
        assert_eq!((&stored.draft.reasons, &stored.draft.rules), (&*list.reasons, &*list.rules));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
            let mut hurt = bytes.clone();
            hurt[cut] ^= 0x10;
            // A few bits of the frame's header say nothing.
            assert!(decode(&hurt).is_err_and(|_| true) || decode(&hurt).is_ok_and(|d| d.0 == stored), "hurt at {cut}");
        }
    }

    #[test]
    fn lists_are_kept_in_files_and_one_that_is_damaged_is_set_aside_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, none, _) = Keeper::open(dir.path());
        assert!(none.is_empty());
        let keeper = keeper.unwrap();
        let (told, heard) = mpsc::channel();
        keeper.keep("a-list", Some(list(3)), Some(Box::new(move |done| told.send(done.is_ok()).unwrap())));
        assert!(heard.recv().unwrap());
        keeper.keep("gone", Some(list(1)), None);
        keeper.keep("gone", None, None);
        keeper.close();
        let (_, lists, wrong) = Keeper::open(dir.path());
        assert_eq!((lists.len(), wrong.len(), lists[0].0.draft.members.len()), (1, 0, 4));
        let path = dir.path().join("lists/a-list.list");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let (_, lists, wrong) = Keeper::open(dir.path());
        assert!(lists.is_empty() && wrong[0].contains("a-list.list") && wrong[0].contains("corrupt"), "{wrong:?}");
    }
}
