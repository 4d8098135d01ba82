//! A producer for Kafka: what is needed to append records to a topic with the consent of all replicas, and no more.
//!
//! The protocol's oldest versions that every broker from 0.11 to 4 takes are used, written by hand: a client for all of Kafka would be
//! the largest dependency of the agent. Producers are not idempotent here: a batch whose answer is lost is sent again.

mod connection;
mod scram;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Failed, Numbered};
use crate::sinks::crc32c::crc32c;
use crate::sinks::settings::Kafka;
use connection::Connection;
use wire::Record;

/// Bytes of a batch for a partition, below what brokers take by default (1 MB).
const MAX_BATCH: usize = 500_000;

pub struct Producer {
    to: Kafka,
    cluster: Option<Cluster>,
}

/// The brokers as they were found, until anything fails.
struct Cluster {
    /// Leaders of the topic's partitions, in order.
    leaders: Vec<i32>,
    at: BTreeMap<i32, (String, u16)>,
    open: BTreeMap<i32, Connection>,
}

impl Producer {
    pub fn new(to: Kafka) -> Self {
        Self { to, cluster: None }
    }

    pub async fn deliver(&mut self, batch: &[Numbered]) -> Result<(), Failed> {
        let mut done = 0;
        while done < batch.len() {
            let n = fitting(&batch[done..]);
            match self.produce(&batch[done..done + n]).await {
                Ok(()) => done += n,
                Err(Trouble::TooLarge) if n > 1 => {
                    // One by one: the one that is meant is found so.
                    for one in &batch[done..done + n] {
                        match self.produce(std::slice::from_ref(one)).await {
                            Ok(()) => done += 1,
                            Err(trouble) => return Err(self.failed(done, trouble)),
                        }
                    }
                }
                Err(trouble) => return Err(self.failed(done, trouble)),
            }
        }
        Ok(())
    }

    fn failed(&mut self, done: usize, trouble: Trouble) -> Failed {
        self.cluster = None;
        let topic = &self.to.topic;
        match trouble {
            Trouble::TooLarge => {
                Failed::give_up(done, format!("topic {topic}: the event is larger than the broker takes"))
            }
            Trouble::Refused(why) => Failed::give_up(done, format!("topic {topic}: {why}")),
            Trouble::Other(why) => Failed::retry(done, format!("topic {topic}: {why}")),
        }
    }

    /// All of them or none, as far as is known.
    async fn produce(&mut self, batch: &[Numbered]) -> Result<(), Trouble> {
        let cluster = match &mut self.cluster {
            Some(cluster) => cluster,
            none => none.insert(Cluster::find(&self.to).await?),
        };
        let partitions = cluster.leaders.len() as u32;
        // Events of one source stay in order: they go to one partition.
        let mut by_leader: BTreeMap<i32, BTreeMap<i32, Vec<Record<'_>>>> = BTreeMap::new();
        for Numbered { notice, .. } in batch {
            let partition = crc32c(0, notice.head.source.as_bytes()) % partitions;
            let leader = cluster.leaders[partition as usize];
            by_leader.entry(leader).or_default().entry(partition as i32).or_default().push(Record {
                time_ms: (notice.head.time_us / 1000) as i64,
                key: notice.head.source.as_bytes(),
                value: notice.event.as_bytes(),
                kind: notice.head.kind.name().as_bytes(),
            });
        }
        for (leader, records) in by_leader {
            let connection = cluster.connect(leader, &self.to).await?;
            let request = wire::produce(&self.to.topic, self.to.timeout, &records);
            // The broker itself waits for its replicas as long.
            let patience = self.to.timeout * 2;
            let answer = connection.ask(wire::PRODUCE, &request, patience).await.map_err(Trouble::Other)?;
            wire::read_produced(&answer, &self.to.topic, records.len()).map_err(|e| match e {
                wire::Answered::Code(wire::MESSAGE_TOO_LARGE | wire::RECORD_LIST_TOO_LARGE) => Trouble::TooLarge,
                wire::Answered::Code(code @ wire::INVALID_RECORD) => Trouble::Refused(wire::error_words(code)),
                wire::Answered::Code(code) => Trouble::Other(wire::error_words(code)),
                wire::Answered::Nonsense => Trouble::Other("its answer makes no sense".into()),
            })?;
        }
        Ok(())
    }
}

/// How many of them are sent at once.
fn fitting(batch: &[Numbered]) -> usize {
    let mut bytes = 0;
    let fits = |n: &&Numbered| {
        bytes += n.notice.event.len() + n.notice.head.source.len() + 100;
        bytes <= MAX_BATCH
    };
    batch.iter().take_while(fits).count().max(1)
}

enum Trouble {
    /// The broker says that it is too much at once.
    TooLarge,
    /// It will never take this.
    Refused(String),
    Other(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Trouble::Other(why)
    }
}

impl Cluster {
    /// Asks the first broker that answers who leads the topic's partitions.
    async fn find(to: &Kafka) -> Result<Self, String> {
        let mut why = String::new();
        for (host, port) in &to.brokers {
            match Self::ask(to, host, *port).await {
                Ok(cluster) => return Ok(cluster),
                Err(e) => why = format!("{host}:{port}: {e}"),
            }
        }
        Err(why)
    }

    async fn ask(to: &Kafka, host: &str, port: u16) -> Result<Self, String> {
        let mut connection = connect(to, host, port).await?;
        // A topic that the broker is about to make has no leader for a moment.
        let mut found = Err(String::new());
        for _ in 0..5 {
            let answer = connection.ask(wire::METADATA, &wire::metadata(&to.topic), to.timeout).await?;
            found = wire::read_metadata(&answer, &to.topic);
            if found.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let wire::Metadata { brokers, leaders } = found?;
        let at: BTreeMap<i32, (String, u16)> = brokers.into_iter().map(|(id, host, port)| (id, (host, port))).collect();
        if let Some(unknown) = leaders.iter().find(|l| !at.contains_key(l)) {
            return Err(format!("it does not say where its broker {unknown} is"));
        }
        Ok(Self { leaders, at, open: BTreeMap::new() })
    }

    async fn connect(&mut self, broker: i32, to: &Kafka) -> Result<&mut Connection, String> {
        let connection = match self.open.remove(&broker) {
            Some(connection) => connection,
            None => {
                let (host, port) = self.at.get(&broker).ok_or_else(|| format!("broker {broker} is not known"))?;
                connect(to, host, *port).await.map_err(|e| format!("{host}:{port}: {e}"))?
            }
        };
        Ok(self.open.entry(broker).or_insert(connection))
    }
}

async fn connect(to: &Kafka, host: &str, port: u16) -> Result<Connection, String> {
    Connection::open(host, port, to.trust.as_ref(), to.login.as_ref(), to.timeout).await
}

/// What a broker might answer, to every question that it is asked.
#[cfg(fuzzing)]
pub fn fuzz(answer: &[u8]) {
    let _ = wire::check_versions(answer);
    let _ = wire::read_produced(answer, "weir", 1);
    let _ = wire::read_sasl_handshake(answer);
    let _ = wire::read_sasl_authenticate(answer);
    if let Ok(found) = wire::read_metadata(answer, "weir") {
        assert!(
            !found.leaders.is_empty() && found.leaders.iter().all(|l| *l >= 0),
            "a topic without leaders: {found:?}"
        );
    }
}

#[cfg(test)]
mod tests;
