//! Webhooks over HTTP and HTTPS.
//!
//! 2xx is delivered. 400, 413 and 422 refuse the event itself, which is given up. Everything else is tried again: also a wrong
//! address or key, since people mend those and want what came meanwhile.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};

use super::{Failed, Numbered, Origin, Then, template};
use crate::http_client::{Answer, Bounds, Client, Url};
use crate::sinks::settings::{Address, Template, Webhook};

/// Of an answer, only its head and some words are wanted.
const MAX_ANSWER: usize = 64 << 10;
/// However long a receiver asks to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const MAX_SECRET: u64 = 4096;

pub struct Sender {
    name: String,
    to: Webhook,
    origin: Origin,
    client: Option<Client>,
}

impl Sender {
    pub fn new(name: &str, to: Webhook, origin: Origin) -> Self {
        Self { name: name.to_owned(), to, origin, client: None }
    }

    pub fn batch(&self) -> usize {
        if self.to.template == Template::Alertmanager { 50 } else { 1 }
    }

    pub async fn deliver(&mut self, batch: &[Numbered]) -> Result<(), Failed> {
        let (Some(first), request) = (batch.first(), self.request(batch).map_err(|e| Failed::retry(0, e))?) else {
            return Ok(());
        };
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(self_client(&self.to).map_err(|e| Failed::retry(0, e))?),
        };
        let at = client.url().to_string();
        let result = match client.send(request).await {
            Ok(answer) => judge(&answer, SystemTime::now()),
            Err(e) => Err((e, Then::Retry)),
        };
        result.map_err(|(why, then)| {
            // The address is read again, and certificates are.
            self.client = None;
            Failed { done: 0, why: format!("{at}: event {}: {}", first.number, self.without_secrets(why)), then }
        })
    }

    /// A receiver may say what it was sent.
    fn without_secrets(&self, mut words: String) -> String {
        let to = &self.to;
        let files = [&to.secret_file, &to.token_file, &to.key_file].into_iter().flatten();
        let mut secrets: Vec<String> = files.filter_map(|f| secret(f).ok()).collect();
        if let Address::File(path) = &to.url
            && let Ok(url) = secret(path)
        {
            secrets.extend(Url::parse(&url).map(|u| u.path));
            secrets.push(url);
        }
        for secret in secrets.iter().filter(|s| s.len() > 1) {
            words = words.replace(secret.as_str(), "[secret]");
        }
        words
    }

    fn request(&self, batch: &[Numbered]) -> Result<Request<Full<hyper::body::Bytes>>, String> {
        let key = self.to.key_file.as_deref().map(secret).transpose()?.unwrap_or_default();
        let body = template::body(self.to.template, batch, &self.name, &self.origin, &key);
        let body = serde_json::to_vec(&body).map_err(|e| e.to_string())?;
        let mut path = address(&self.to.url)?.path;
        if self.to.template == Template::Alertmanager && path == "/" {
            path = "/api/v2/alerts".to_owned();
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let number = batch.first().map_or(0, |n| n.number);
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            // The same for each attempt, so that a receiver can tell.
            .header("X-Weir-Delivery", format!("{}/{}/{number}", self.origin.host, self.name));
        if let Some(path) = &self.to.secret_file {
            let signature = sign(secret(path)?.as_bytes(), seconds, &body);
            request = request.header("X-Weir-Timestamp", seconds).header("X-Weir-Signature", signature);
        }
        if let Some(path) = &self.to.token_file {
            let value = HeaderValue::try_from(format!("Bearer {}", secret(path)?));
            let mut value = value.map_err(|_| format!("what {} holds cannot be sent in a header", path.display()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Full::from(body)).map_err(|e| e.to_string())
    }
}

fn self_client(to: &Webhook) -> Result<Client, String> {
    let bounds = Bounds { patience: to.timeout, whole: to.timeout * 2, body: MAX_ANSWER };
    Ok(Client::new(address(&to.url)?, to.trust.clone(), bounds))
}

fn address(address: &Address) -> Result<Url, String> {
    match address {
        Address::Url(url) => Url::parse(url).map_err(str::to_owned),
        Address::File(path) => {
            Url::parse(&secret(path)?).map_err(|e| format!("nothing can be sent to what {} holds: {e}", path.display()))
        }
    }
}

/// The word in a file.
pub fn secret(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|e| format!("{shown} cannot be read: {e}"))?.len();
    if size > MAX_SECRET {
        return Err(format!("{shown} is too large for a secret: {size} bytes, at most {MAX_SECRET}"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    let text = text.trim();
    if text.is_empty() { Err(format!("{shown} is empty")) } else { Ok(text.to_owned()) }
}

/// `v1=` and HMAC-SHA256, in hex, over the time, a dot and the body: the time keeps a recorded request from being sent again later.
fn sign(secret: &[u8], seconds: u64, body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let mut context = ring::hmac::Context::with_key(&key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let hex: String = context.sign().as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("v1={hex}")
}

fn judge(answer: &Answer, now: SystemTime) -> Result<(), (String, Then)> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let words = words(&answer.body);
    let why = if words.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {words}") };
    let then = match status {
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => Then::GiveUp,
        _ => match answer.headers.get(header::RETRY_AFTER).and_then(|v| retry_after(v.to_str().ok()?, now)) {
            Some(wait) => Then::RetryAfter(wait.min(LONGEST_WAIT)),
            None => Then::Retry,
        },
    };
    Err((why, then))
}

/// Seconds, or a date of HTTP.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    let at = u64::try_from(date.timestamp().as_second()).ok()?;
    Some((UNIX_EPOCH + Duration::from_secs(at)).duration_since(now).unwrap_or_default())
}

/// The beginning of what it says.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
