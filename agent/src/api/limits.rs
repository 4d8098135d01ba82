//! How much of the agent one caller, and all of them together, may take up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Places of which each key may take some, and all together no more than there are. Some are kept for who must always get in.
#[derive(Debug)]
pub struct Slots {
    all: usize,
    each: usize,
    /// Of `all`, for privileged callers alone.
    reserve: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<String, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// This key has as many as it may.
    Each(usize),
    All(usize),
}

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Full::Each(n) => write!(f, "it has {n}, as many as one may"),
            Full::All(n) => write!(f, "there are {n}, as many as there may be"),
        }
    }
}

/// One place; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    of: Arc<Slots>,
    key: String,
}

impl Slots {
    pub fn new(all: usize, each: usize, reserve: usize) -> Arc<Self> {
        Arc::new(Self { all, each, reserve, taken: Mutex::default() })
    }

    pub fn take(self: &Arc<Self>, key: &str, privileged: bool) -> Result<Slot, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let room = if privileged { self.all } else { self.all - self.reserve };
        if taken.all >= room {
            return Err(Full::All(room));
        }
        let mine = taken.by.get(key).copied().unwrap_or(0);
        if mine >= self.each {
            return Err(Full::Each(self.each));
        }
        taken.by.insert(key.to_owned(), mine + 1);
        taken.all += 1;
        Ok(Slot { of: self.clone(), key: key.to_owned() })
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.taken.lock().unwrap().all
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(mine) = taken.by.get_mut(&self.key) {
            *mine -= 1;
            if *mine == 0 {
                taken.by.remove(&self.key);
            }
        }
    }
}

/// Bytes that are held at once.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    held: Mutex<usize>,
}

/// Some of them; free again when dropped.
#[derive(Debug)]
pub struct Held {
    of: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Budget {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: Mutex::new(0) })
    }

    pub fn hold(self: &Arc<Self>) -> Held {
        Held { of: self.clone(), bytes: AtomicUsize::new(0) }
    }
}

impl Held {
    /// Takes more; `false`: there are no more.
    pub fn more(&self, bytes: usize) -> bool {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held + bytes > self.of.max {
            return false;
        }
        *held += bytes;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.of.held.lock().unwrap_or_else(PoisonError::into_inner) -= *self.bytes.get_mut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_others_and_some_are_kept() {
        let slots = Slots::new(5, 2, 1);
        let a = [slots.take("a", false).unwrap(), slots.take("a", false).unwrap()];
        assert_eq!(slots.take("a", false).unwrap_err(), Full::Each(2));
        let b = [slots.take("b", false).unwrap(), slots.take("b", false).unwrap()];
        assert_eq!(slots.take("c", false).unwrap_err(), Full::All(4));
        let root = slots.take("root", true).unwrap();
        assert_eq!(slots.take("root", true).unwrap_err(), Full::All(5));
        drop(a);
        drop(root);
        let _c = slots.take("c", false).unwrap();
        drop(b);
        assert_eq!(slots.taken(), 1);
        assert_eq!(slots.taken.lock().unwrap().by.len(), 1, "keys without places are forgotten");
    }

    #[test]
    fn a_budget_is_never_exceeded_and_given_back() {
        let budget = Budget::new(10);
        let one = budget.hold();
        assert!(one.more(6) && !one.more(5) && one.more(4));
        let other = budget.hold();
        assert!(!other.more(1));
        drop(one);
        assert!(other.more(10));
    }
}
