//! TCP with certificates on both sides.

use std::net::SocketAddr;
use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::client::Remote;
use super::super::tls;
use super::*;
use crate::config::ApiTls;

/// An authority and what it has signed.
struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("authority in {}", dir.display()));
        let key = KeyPair::generate().unwrap();
        std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let pki = Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) };
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        pki.sign("server", params);
        pki
    }

    fn sign(&self, name: &str, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        std::fs::write(self.dir.join(format!("{name}.pem")), params.signed_by(&key, &self.issuer).unwrap().pem())
            .unwrap();
        let path = self.dir.join(format!("{name}.key"));
        std::fs::write(&path, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// A client's certificate with a unit, good for this many seconds from now.
    fn client(&self, name: &str, unit: &str, seconds: i64) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = time::OffsetDateTime::from(SystemTime::now()) - Duration::from_secs(7200);
        params.not_after = time::OffsetDateTime::from(SystemTime::now()) + time::Duration::seconds(seconds);
        self.sign(name, params);
    }

    fn tls(&self, roles: &[(&str, Role)]) -> ApiTls {
        ApiTls {
            cert: self.dir.join("server.pem"),
            key: self.dir.join("server.key"),
            client_ca: self.dir.join("ca.pem"),
            roles: roles.iter().map(|(n, r)| ((*n).to_owned(), *r)).collect(),
        }
    }

    fn remote(&self, name: &str, at: SocketAddr) -> Remote {
        let file = |end: &str| self.dir.join(format!("{name}.{end}"));
        Remote {
            host: at.ip().to_string(),
            port: at.port(),
            cert: file("pem"),
            key: file("key"),
            ca: self.dir.join("ca.pem"),
        }
    }
}

/// Answers what it is asked for: the status, and decisions as they were wanted.
fn answering() -> mpsc::Sender<Command> {
    let (commands, mut waiting) = queue();
    tokio::spawn(async move {
        while let Some(command) = waiting.recv().await {
            match command {
                Command::Status { reply } => drop(reply.send(Ok(full_status()))),
                Command::AddDecision { new, reply } => {
                    let report = DecisionReport {
                        decision: decision(&new),
                        enforced: true,
                        awaiting_confirmation: false,
                        packets: 0,
                        bytes: 0,
                        last_hit_us: None,
                        note: String::new(),
                        course: None,
                    };
                    drop(reply.send(Ok(report)));
                }
                other => panic!("{other:?}"),
            }
        }
    });
    commands
}

async fn over_tcp(pki: &Pki, roles: &[(&str, Role)]) -> (Agent, SocketAddr, Arc<Access>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weir.sock");
    let access = Arc::new(Access::default());
    access.set_tls(Some(&pki.tls(roles))).unwrap();
    let socket = ControlSocket::bind(&path, None).unwrap();
    let doors = Doors::open(socket, &["127.0.0.1:0".parse().unwrap()], access.clone()).await.unwrap();
    let at = doors.tcp[0].local_addr().unwrap();
    (serving(dir, path, doors, answering()), at, access)
}

async fn ask(remote: &Remote) -> Result<StatusReport, ClientError> {
    Client::connect_tls(remote).await?.status().await
}

async fn add(client: &mut Client) -> Result<DecisionReport, ClientError> {
    client
        .add_decision("10.0.0.1".parse().unwrap(), (Action::Drop, None), Sides::In, None, "scans", (None, false))
        .await
}

#[tokio::test]
async fn a_certificate_says_who_one_is_and_what_one_may() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    pki.client("ops", "weir-operator", 3600);
    pki.client("guest", "weir-viewer", 3600);
    let (agent, at, access) = over_tcp(&pki, &[]).await;
    let mut ops = Client::connect_tls(&pki.remote("ops", at)).await.unwrap();
    assert_eq!(add(&mut ops).await.unwrap().decision.reason, "scans, by certificate ops");
    let mut guest = Client::connect_tls(&pki.remote("guest", at)).await.unwrap();
    assert_eq!(guest.status().await.unwrap(), full_status());
    let (code, words) = message(&add(&mut guest).await.unwrap_err());
    assert_eq!(code, tonic::Code::PermissionDenied);
    assert_eq!(words, "certificate guest may only look (viewer), and AddDecision changes something: ask an operator");
    // Where operators come from must stay reachable, for as long as they are here.
    assert_eq!(access.clients().len(), 1);
    drop((ops, guest));
    for _ in 0..500 {
        if access.clients().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(access.clients(), []);
    agent.stop().await;
}

#[tokio::test]
async fn who_has_no_good_certificate_is_refused_and_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, others) = (Pki::new(&dir.path().join("ours")), Pki::new(&dir.path().join("theirs")));
    pki.client("good", "weir-viewer", 3600);
    pki.client("old", "weir-operator", -60);
    pki.client("nobody", "sales", 3600);
    others.client("stranger", "weir-operator", 3600);
    let (agent, at, _) = over_tcp(&pki, &[]).await;
    let of = |name: &str| pki.remote(name, at);
    let stranger = Remote { ca: of("good").ca, ..others.remote("stranger", at) };
    let elsewhere = Remote { host: "localhost".into(), ..of("good") };
    let distrusting = Remote { ca: others.dir.join("ca.pem"), ..of("good") };
    for (remote, words) in [
        (of("old"), "the certificate that we showed has expired; ask for a new one (`weir tls client NAME`"),
        (stranger, "does not trust the authority of the certificate that we showed"),
        (of("server"), "is it a client's certificate?"),
        (of("nobody"), "the certificate nobody is named by no role"),
        (elsewhere, "the agent's certificate is for other names; use one of them as --host"),
        (distrusting, "comes from another authority than --ca names"),
        (Remote { cert: "/nowhere.pem".into(), ..of("good") }, "cannot read /nowhere.pem"),
        (Remote { cert: of("good").key, ..of("good") }, "good.key holds no certificate in PEM"),
        (Remote { port: 1, ..of("good") }, "does it run with `api.listen`"),
    ] {
        let refused = ask(&remote).await.expect_err(words).to_string();
        assert!(refused.contains(words), "{words}: {refused}");
    }
    // Without any.
    let roots = tls::roots(tls::certificates(&of("good").ca).unwrap(), &of("good").ca).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut bare = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let e = bare.read_u8().await.unwrap_err();
    assert!(tls::words(&e).unwrap().contains("wants a certificate; name one with --cert"), "{e}");
    // And without TLS.
    let mut plain = tokio::net::TcpStream::connect(at).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), plain.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(answer.len() < 16 && answer.first().is_none_or(|b| *b == 21), "an alert at most: {answer:?}");
    // The neighbour still gets in.
    ask(&of("good")).await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn new_certificates_and_roles_are_in_force_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    pki.client("ops", "weir-operator", 3600);
    let (agent, at, access) = over_tcp(&pki, &[]).await;
    let mut ops = Client::connect_tls(&pki.remote("ops", at)).await.unwrap();
    add(&mut ops).await.unwrap();

    // The configuration names roles now: the certificate's own is none any more, for who is connected too.
    access.set_tls(Some(&pki.tls(&[("ops", Role::Viewer)]))).unwrap();
    assert!(message(&add(&mut ops).await.unwrap_err()).1.contains("may only look"));
    ops.status().await.unwrap();
    let mut watch = ops.watch(&[], "").await.unwrap();
    access.set_tls(Some(&pki.tls(&[("somebody", Role::Viewer)]))).unwrap();
    let event = Event::Agent { time_us: 1, level: weir_core::event::Level::Info, kind: "test", message: String::new() };
    agent.bus.publish(event);
    assert!(watch.message().await.unwrap_err().message().contains("no role"), "a stream ends with the role");

    // Broken files change nothing, and are named.
    access.set_tls(Some(&pki.tls(&[]))).unwrap();
    assert!(!access.refresh().unwrap(), "the files are those that were read");
    let good = std::fs::read(pki.dir.join("server.pem")).unwrap();
    std::fs::write(pki.dir.join("server.pem"), "nonsense").unwrap();
    let refused = access.refresh().unwrap_err().to_string();
    assert!(refused.contains("server.pem holds no certificate in PEM"), "{refused}");
    ask(&pki.remote("ops", at)).await.unwrap();
    std::fs::write(pki.dir.join("server.pem"), good).unwrap();

    // Another authority: the old certificate is good no more, the new one is.
    let old = dir.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for name in ["ops.pem", "ops.key", "ca.pem"] {
        std::fs::copy(pki.dir.join(name), old.join(name)).unwrap();
    }
    let pki = Pki::new(dir.path());
    pki.client("ops", "weir-operator", 3600);
    assert!(access.refresh().unwrap());
    let e = message(&ops.status().await.unwrap_err()).1;
    assert!(e.contains("trusts another certificate authority now"), "{e}");
    let remote = pki.remote("ops", at);
    let refused = ask(&Remote { cert: old.join("ops.pem"), key: old.join("ops.key"), ..remote.clone() }).await;
    assert!(refused.unwrap_err().to_string().contains("does not trust the authority"));
    add(&mut Client::connect_tls(&remote).await.unwrap()).await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn a_key_that_everybody_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let key = dir.path().join("server.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let refused = Access::default().set_tls(Some(&pki.tls(&[]))).unwrap_err().to_string();
    assert!(refused.contains("everybody on this host can read the key") && refused.contains("chmod 600"), "{refused}");
}

/// Bytes come, and no handshake: the connection is closed and its place free again.
#[tokio::test]
async fn half_open_connections_are_few_and_closed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    pki.client("ops", "weir-operator", 3600);
    let (agent, at, _) = over_tcp(&pki, &[]).await;
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        // A record that goes on for longer than anything will come.
        let _ = stream.write_all(&[22, 3, 1, 2, 0]).await;
        open.push(stream);
    }
    let began = std::time::Instant::now();
    let mut closed = 0;
    for mut stream in open {
        let end = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0; 64])).await.expect("it is closed");
        assert!(matches!(end, Ok(0) | Err(_)), "nothing is said to it: {end:?}");
        closed += 1;
    }
    assert_eq!(closed, 200);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    ask(&pki.remote("ops", at)).await.unwrap();
    agent.stop().await;
}
