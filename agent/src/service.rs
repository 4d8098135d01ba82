//! What the service manager is told (sd_notify(3)): that the agent is ready, reads its configuration again, still goes round, and
//! stops. Without `NOTIFY_SOCKET` nothing is told to nobody.

use std::time::Duration;

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        log::warn!("the service manager could not be told {}: {e}", states[0]);
    }
}

/// Everything is in force: programs attached, decisions taken over, sockets open. `status`: what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Until the value is dropped, the configuration is being read again.
pub struct Reloading;

impl Reloading {
    pub fn begin() -> Self {
        match NotifyState::monotonic_usec_now() {
            // Type=notify-reload wants to know that this came after its signal.
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
        Self
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        tell(&[NotifyState::Ready]);
    }
}

/// The last epoch is being read and everything stored.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: reading the last epoch")]);
}

/// How often the event loop has to say that it goes round, at half the time that the service manager waits; `None`: it does not wait.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2).filter(|i| !i.is_zero())
}

/// The event loop goes round.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}
