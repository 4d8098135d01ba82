//! SCRAM (RFC 5802) with SHA-256 or SHA-512: the broker learns that we know the password, and we that it does.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom;
use ring::{digest, hmac, pbkdf2};

use crate::sinks::settings::Mechanism;

/// Fewer would make the password easy to guess for whoever listens; more only take our time.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=10_000_000;

pub struct Client {
    hash: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
    password: String,
    nonce: String,
    /// Of the client's first message, without the header.
    first: String,
    /// What the server has to prove.
    expected: Vec<u8>,
}

impl Client {
    pub fn new(mechanism: Mechanism, user: &str, password: &str) -> Result<Self, String> {
        let mut random = [0; 18];
        ring::rand::SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        Ok(Self::with_nonce(mechanism, user, password, STANDARD.encode(random)))
    }

    fn with_nonce(mechanism: Mechanism, user: &str, password: &str, nonce: String) -> Self {
        let (hash, hmac, pbkdf2) = match mechanism {
            Mechanism::ScramSha512 => (&digest::SHA512, hmac::HMAC_SHA512, pbkdf2::PBKDF2_HMAC_SHA512),
            _ => (&digest::SHA256, hmac::HMAC_SHA256, pbkdf2::PBKDF2_HMAC_SHA256),
        };
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={user},r={nonce}");
        Self { hash, hmac, pbkdf2, password: password.to_owned(), nonce, first, expected: Vec::new() }
    }

    pub fn first(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// The answer to the server's first message.
    pub fn last(&mut self, server_first: &[u8]) -> Result<String, String> {
        let nonsense = || "its first message of SCRAM makes no sense".to_owned();
        let text = std::str::from_utf8(server_first).map_err(|_| nonsense())?;
        let of = |key: char| text.split(',').find_map(|p| p.strip_prefix(key)?.strip_prefix('='));
        let (nonce, salt, iterations) = (of('r'), of('s'), of('i'));
        let (Some(nonce), Some(salt), Some(iterations)) = (nonce, salt, iterations) else { return Err(nonsense()) };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("it answers another login than ours".into());
        }
        let salt = STANDARD.decode(salt).map_err(|_| nonsense())?;
        let iterations: u32 = iterations.parse().map_err(|_| nonsense())?;
        let sound = NonZeroU32::new(iterations).filter(|i| ITERATIONS.contains(&i.get()));
        let sound =
            sound.ok_or_else(|| format!("it asks for {iterations} iterations; 4,096 to 10 million are sound"))?;
        let mut salted = vec![0; self.hash.output_len()];
        pbkdf2::derive(self.pbkdf2, sound, &salt, self.password.as_bytes(), &mut salted);
        let salted = hmac::Key::new(self.hmac, &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let server_key = hmac::sign(&salted, b"Server Key");
        let stored = digest::digest(self.hash, client_key.as_ref());
        let bare = format!("c=biws,r={nonce}");
        let signed = format!("{},{text},{bare}", self.first);
        let signature = hmac::sign(&hmac::Key::new(self.hmac, stored.as_ref()), signed.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        self.expected =
            hmac::sign(&hmac::Key::new(self.hmac, server_key.as_ref()), signed.as_bytes()).as_ref().to_vec();
        Ok(format!("{bare},p={}", STANDARD.encode(proof)))
    }

    /// The server knows the password, too.
    pub fn check(&self, server_last: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(server_last);
        let proof = text.split(',').next().and_then(|p| p.strip_prefix("v=")).and_then(|v| STANDARD.decode(v).ok());
        match proof {
            Some(proof) if !self.expected.is_empty() && proof == self.expected => Ok(()),
            _ => Err("it does not know the password: it is not the broker that it claims to be".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    fn example() -> Client {
        Client::with_nonce(Mechanism::ScramSha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".into())
    }
    const FIRST: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_example_of_the_standard() {
        let mut client = example();
        assert_eq!(client.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            client.last(FIRST).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        client.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn a_server_that_lies_is_found_out() {
        let mut client = example();
        for bad in [&b""[..], b"r=x,s=AA==,i=4096", b"r=rOprNGfwEbeRWgbNEkqO,s=AA==,i=4096", &FIRST[..FIRST.len() - 3]]
        {
            assert!(client.last(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(client.check(b"v=").is_err(), "before it was asked");
        client.last(FIRST).unwrap();
        for bad in [&b"v="[..], b"e=other-error", b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="] {
            assert!(client.check(bad).is_err());
        }
    }
}
