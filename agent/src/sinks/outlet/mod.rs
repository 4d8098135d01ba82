//! How each type of sink delivers. Every attempt is bounded in time, and says how far it came.

pub mod cef;
pub mod eve;
pub mod journal;
pub mod kafka;
pub mod syslog;
pub mod template;
pub mod webhook;

use std::time::Duration;

use super::notice::Notice;
use super::settings::{Destination, SinkConfig};

/// A notice with its number, which names it to receivers that know duplicates.
#[derive(Clone, Debug)]
pub struct Numbered {
    pub number: u64,
    pub notice: Notice,
}

/// An attempt that did not deliver everything.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    /// So many from the first on are delivered.
    pub done: usize,
    /// In words for people; nothing secret.
    pub why: String,
    pub then: Then,
}

/// What is to be done with the first that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Try it again, in a while.
    Retry,
    /// The receiver has said when.
    RetryAfter(Duration),
    /// It was refused for what it is: give it up.
    GiveUp,
}

impl Failed {
    pub fn retry(done: usize, why: impl Into<String>) -> Self {
        Self { done, why: why.into(), then: Then::Retry }
    }
    pub fn give_up(done: usize, why: impl Into<String>) -> Self {
        Self { done, why: why.into(), then: Then::GiveUp }
    }
}

/// What is known of this agent, for those who hear from several.
#[derive(Clone, Debug)]
pub struct Origin {
    pub host: String,
    pub interface: Option<String>,
}

impl Origin {
    pub fn here(interface: Option<String>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
        Self { host: if host.is_empty() { "-".to_owned() } else { host }, interface }
    }
}

pub enum Outlet {
    File(eve::Rotated, Form),
    Syslog(Box<syslog::Sender>),
    Journal(journal::Journald),
    Webhook(Box<webhook::Sender>),
    Kafka(Box<kafka::Producer>),
}

/// What stands on a line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Eve,
    Cef,
}

impl Outlet {
    pub fn new(config: &SinkConfig, origin: &Origin) -> Self {
        match &config.to {
            Destination::Eve(file) => Outlet::File(eve::Rotated::new(file.clone()), Form::Eve),
            Destination::CefFile(file) => Outlet::File(eve::Rotated::new(file.clone()), Form::Cef),
            Destination::Syslog(to, content) => {
                Outlet::Syslog(Box::new(syslog::Sender::new(to.clone(), Some(*content), origin.clone())))
            }
            Destination::CefSyslog(to) => {
                Outlet::Syslog(Box::new(syslog::Sender::new(to.clone(), None, origin.clone())))
            }
            Destination::Journald(socket) => Outlet::Journal(journal::Journald::new(socket)),
            Destination::Webhook(to) => {
                Outlet::Webhook(Box::new(webhook::Sender::new(&config.name, to.clone(), origin.clone())))
            }
            Destination::Kafka(to) => Outlet::Kafka(Box::new(kafka::Producer::new(to.clone()))),
        }
    }

    /// Notices that one attempt takes.
    pub fn batch(&self) -> usize {
        match self {
            Outlet::File(..) => 1000,
            Outlet::Syslog(_) | Outlet::Journal(_) => 200,
            Outlet::Webhook(w) => w.batch(),
            Outlet::Kafka(_) => 500,
        }
    }

    /// Delivers them in order.
    pub async fn deliver(&mut self, batch: &[Numbered], origin: &Origin) -> Result<(), Failed> {
        match self {
            Outlet::File(file, form) => {
                let lines: Vec<String> = batch.iter().map(|n| line(*form, &n.notice, origin)).collect();
                file.write(&lines)
            }
            Outlet::Syslog(s) => s.deliver(batch).await,
            Outlet::Journal(j) => j.deliver(batch),
            Outlet::Webhook(w) => w.deliver(batch).await,
            Outlet::Kafka(k) => k.deliver(batch).await,
        }
    }

    /// Once in a while, when nothing is to be delivered.
    pub fn idle(&mut self) {
        if let Outlet::File(file, _) = self {
            file.look_at_age();
        }
    }

    /// Files may have been moved away by others.
    pub fn reopen(&mut self) {
        if let Outlet::File(file, _) = self {
            file.reopen();
        }
    }
}

fn line(form: Form, notice: &Notice, origin: &Origin) -> String {
    match form {
        Form::Eve => notice.event.clone(),
        Form::Cef => cef::render(notice, origin),
    }
}
