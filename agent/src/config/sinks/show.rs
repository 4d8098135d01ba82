//! A sink's destination as the configuration shows it: paths of secrets, and no secret.

use crate::config::setting::{Setting, Shown};
use crate::sinks::settings::{Address, Destination, Syslog};
use crate::tls_client::Trust;

pub(super) type Fields = Vec<(&'static str, Shown)>;

pub(super) fn destination(to: &Destination, all: &mut Fields) {
    match to {
        Destination::Eve(f) | Destination::CefFile(f) => {
            all.push(("path", f.path.show()));
            all.push(("max_size", f.max_size.show()));
            all.push(("max_age", f.max_age.show()));
            all.push(("keep", f.keep.show()));
            all.push(("compress", f.compress.show()));
        }
        Destination::Syslog(s, content) => {
            syslog(s, all);
            all.push(("content", content.show()));
        }
        Destination::CefSyslog(s) => syslog(s, all),
        Destination::Journald(socket) => all.push(("socket", socket.show())),
        Destination::Webhook(w) => {
            match &w.url {
                Address::Url(url) => all.push(("url", Shown::Scalar(url.clone()))),
                Address::File(path) => all.push(("url_file", path.show())),
            }
            all.push(("template", w.template.show()));
            for (key, path) in
                [("secret_file", &w.secret_file), ("token_file", &w.token_file), ("key_file", &w.key_file)]
            {
                all.extend(path.as_ref().map(|p| (key, p.show())));
            }
            trust(&w.trust, all);
            all.push(("timeout", w.timeout.show()));
        }
        Destination::Kafka(k) => {
            let brokers = k.brokers.iter().map(|(host, port)| Shown::Scalar(at(host, *port)));
            all.push(("brokers", Shown::List(brokers.collect())));
            all.push(("topic", Shown::Scalar(k.topic.clone())));
            all.push(("tls", k.trust.is_some().show()));
            if let Some(t) = &k.trust {
                trust(t, all);
            }
            if let Some(login) = &k.login {
                all.push(("user", Shown::Scalar(login.user.clone())));
                all.push(("password_file", login.password_file.show()));
                all.push(("mechanism", login.mechanism.show()));
            }
            all.push(("timeout", k.timeout.show()));
        }
    }
}

fn syslog(s: &Syslog, all: &mut Fields) {
    all.push(("server", Shown::Scalar(at(&s.host, s.port))));
    all.push(("transport", s.transport.show()));
    all.push(("facility", s.facility.show()));
    trust(&s.trust, all);
}

fn trust(t: &Trust, all: &mut Fields) {
    all.extend(t.ca_file.as_ref().map(|p| ("ca_file", p.show())));
    if let Some((cert, key)) = &t.identity {
        all.push(("cert", cert.show()));
        all.push(("key", key.show()));
    }
}

fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
