//! One connection to one broker: framed requests, one at a time, after a login where there is one.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{scram, wire};
use crate::sinks::outlet::webhook::secret;
use crate::sinks::settings::{Login, Mechanism};
use crate::tls_client::{self, Stream, Trust};

/// Longer answers are none of ours.
const MAX_ANSWER: usize = 16 << 20;

pub struct Connection {
    stream: Box<dyn Stream>,
    next: i32,
}

impl Connection {
    pub async fn open(
        host: &str,
        port: u16,
        trust: Option<&Trust>,
        login: Option<&Login>,
        patience: Duration,
    ) -> Result<Self, String> {
        let stream = tls_client::connect(host, port, trust, patience).await?;
        let mut connection = Self { stream, next: 0 };
        let answer = connection.ask(wire::API_VERSIONS, &[], patience).await?;
        wire::check_versions(&answer)?;
        if let Some(login) = login {
            connection.log_in(login, patience).await.map_err(|e| format!("login of {}: {e}", login.user))?;
        }
        Ok(connection)
    }

    /// Sends a request and reads its answer, without the header.
    pub async fn ask(
        &mut self,
        (key, version): (i16, i16),
        body: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, String> {
        let exchange = self.exchange(key, version, body);
        tokio::time::timeout(patience, exchange).await.map_err(|_| format!("no answer within {patience:?}"))?
    }

    async fn exchange(&mut self, key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>, String> {
        let broke = |e: std::io::Error| format!("the connection broke off: {e}");
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let request = wire::framed(key, version, id, body);
        self.stream.write_all(&request).await.map_err(broke)?;
        self.stream.flush().await.map_err(broke)?;
        let length = self.stream.read_i32().await.map_err(broke)?;
        let length = usize::try_from(length).ok().filter(|l| (4..=MAX_ANSWER).contains(l));
        let length = length.ok_or("what answers there does not speak Kafka's protocol")?;
        let answered = self.stream.read_i32().await.map_err(broke)?;
        if answered != id {
            return Err(format!("it answers request {answered}, and {id} was asked"));
        }
        let mut answer = vec![0; length - 4];
        self.stream.read_exact(&mut answer).await.map_err(broke)?;
        Ok(answer)
    }

    async fn log_in(&mut self, login: &Login, patience: Duration) -> Result<(), String> {
        let password = secret(&login.password_file)?;
        let (name, _) = Mechanism::ALL[login.mechanism as usize];
        let answer = self.ask(wire::SASL_HANDSHAKE, &wire::sasl_handshake(&name.to_uppercase()), patience).await?;
        wire::read_sasl_handshake(&answer)?;
        if login.mechanism == Mechanism::Plain {
            let token = format!("\0{}\0{password}", login.user);
            return self.authenticate(token.as_bytes(), patience).await.map(drop);
        }
        let mut scram = scram::Client::new(login.mechanism, &login.user, &password)?;
        let answer = self.authenticate(scram.first().as_bytes(), patience).await?;
        let last = scram.last(&answer)?;
        let answer = self.authenticate(last.as_bytes(), patience).await?;
        scram.check(&answer)
    }

    async fn authenticate(&mut self, token: &[u8], patience: Duration) -> Result<Vec<u8>, String> {
        let answer = self.ask(wire::SASL_AUTHENTICATE, &wire::sasl_authenticate(token), patience).await?;
        wire::read_sasl_authenticate(&answer)
    }
}
