//! Work that must never be in the way of the drain.

/// Lets the calling thread run only where others leave time: 0 is ordinary, 19 the least. What was asked for is a favour to
/// others, so that a refusal changes nothing.
pub fn nice(level: i32) {
    // SAFETY: a plain system call on numbers; 0 is the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, level) };
    if done != 0 {
        log::debug!("this thread keeps its priority: {}", std::io::Error::last_os_error());
    }
}

/// The level of the calling thread.
#[cfg(test)]
pub fn level() -> i32 {
    // SAFETY: a plain system call on numbers; 0 is the calling thread.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_gives_way_alone() {
        let inside = std::thread::spawn(|| {
            super::nice(19);
            super::level()
        });
        assert_eq!(inside.join().unwrap(), 19);
        assert!(super::level() < 19, "the others go on as before");
    }
}
