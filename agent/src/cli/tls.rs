//! `weir tls`: a private authority, and certificates for the agent and for those who use it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use super::args::TlsCmd;
use super::output::Output;
use super::usage;
use crate::api::access::UNIT_PREFIX;
use crate::api::tls::certificates;
use crate::api::x509::Holder;
use crate::command::Role;

/// A certificate is good from a little before it is made: clocks differ.
const EARLIER: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 3650;

pub fn run(command: TlsCmd, out: &Output) -> anyhow::Result<()> {
    match command {
        TlsCmd::Init { dir, names, days } => {
            make_folder(&dir)?;
            let files = ["ca.pem", "ca.key", "server.pem", "server.key"].map(|name| dir.join(name));
            absent(&files)?;
            let authority = Authority::new()?;
            let names = or_own(names)?;
            let server = authority.issue(server(&names, days)?, Use::Server)?;
            write_pair(&dir, "ca", &authority.certificate.pem, &authority.issuer.key().serialize_pem())?;
            write_pair(&dir, "server", &server.pem, &server.key)?;
            let d = dir.display();
            out.text(&format!(
                "made an authority and a certificate for {} in {d}\n\n\
                 in weir.yaml:\n\
                 api:\n  listen: [ADDRESS]\n  tls: {{cert: {d}/server.pem, key: {d}/server.key, client_ca: {d}/ca.pem}}\n\n\
                 next: `weir tls client NAME --role viewer` for each who will use the agent from elsewhere;\n\
                 keep {d}/ca.key where nobody else reads it: who has it can make operators\n",
                names.join(", ")
            ))?;
        }
        TlsCmd::Server { dir, names, days } => {
            let names = or_own(names)?;
            absent(&["server.pem", "server.key"].map(|name| dir.join(name)))?;
            let server = Authority::load(&dir)?.issue(server(&names, days)?, Use::Server)?;
            write_pair(&dir, "server", &server.pem, &server.key)?;
            out.text(&format!("made a certificate for {} in {}\n", names.join(", "), dir.display()))?;
        }
        TlsCmd::Client { name, role, dir, out: to, days } => {
            if !plain(&name) {
                return Err(usage(format!(
                    "`{name}` is no name for a certificate: letters, digits, `.`, `_`, `@` and `-`, and neither `ca` nor `server`"
                )));
            }
            let to = to.unwrap_or_else(|| dir.clone());
            absent(&[to.join(format!("{name}.pem")), to.join(format!("{name}.key"))])?;
            let role = Role::from(role);
            let client = Authority::load(&dir)?.issue(client(&name, role, days), Use::Client)?;
            make_folder(&to)?;
            write_pair(&to, &name, &client.pem, &client.key)?;
            let (to, dir) = (to.display(), dir.display());
            out.text(&format!(
                "made a certificate for {name}, {role}: {to}/{name}.pem and {to}/{name}.key\n\
                 give them these and {dir}/ca.pem, in a way that nobody else can read; then\n\
                 weir context add NAME --host HOST --cert {name}.pem --key {name}.key --ca ca.pem\n"
            ))?;
        }
    }
    Ok(())
}

/// Who signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Made,
}

/// A certificate with its key.
struct Made {
    der: CertificateDer<'static>,
    pem: String,
    key: String,
}

enum Use {
    Server,
    Client,
}

fn authority_name(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        // Two of them are told apart by the time.
        let name = format!("Weir authority of {} ({:x})", host_name()?, crate::clock::wall_us());
        let mut params = authority_name(&name);
        valid(&mut params, AUTHORITY_DAYS);
        let made = params.self_signed(&key)?;
        let certificate = Made { der: made.der().clone(), pem: made.pem(), key: String::new() };
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    fn load(dir: &Path) -> anyhow::Result<Self> {
        let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let hint = || format!("no authority in {}; `weir tls init --dir {}` makes one", dir.display(), dir.display());
        let text = std::fs::read_to_string(&key)
            .with_context(|| format!("cannot read {}", key.display()))
            .with_context(hint)?;
        let der = certificates(&cert).with_context(hint)?.swap_remove(0);
        let name = Holder::common_name(&der).with_context(|| format!("{} has no common name", cert.display()))?;
        let key = KeyPair::from_pem(&text).with_context(|| format!("{} holds no key", key.display()))?;
        let issuer = Issuer::new(authority_name(&name), key);
        Ok(Self { issuer, certificate: Made { der, pem: String::new(), key: String::new() } })
    }

    /// Signs, and checks that what was signed would be taken.
    fn issue(&self, mut params: CertificateParams, purpose: Use) -> anyhow::Result<Made> {
        let key = KeyPair::generate()?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let made = params.signed_by(&key, &self.issuer)?;
        let usage = match purpose {
            Use::Server => webpki::KeyUsage::server_auth(),
            Use::Client => webpki::KeyUsage::client_auth(),
        };
        let anchor = webpki::anchor_from_trusted_cert(&self.certificate.der)?;
        webpki::EndEntityCert::try_from(made.der())?
            .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], UnixTime::now(), usage, None, None)
            .context("the authority's certificate does not fit its key, or was not made by `weir tls init`")?;
        Ok(Made { der: made.der().clone(), pem: made.pem(), key: key.serialize_pem() })
    }
}

fn valid(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - EARLIER;
    params.not_after = now + DAY * days;
}

fn server(names: &[String], days: u32) -> anyhow::Result<CertificateParams> {
    let wrong = || format!("{} cannot all be names of a host", names.join(", "));
    let mut params = CertificateParams::new(names).with_context(wrong)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names[0].clone());
    valid(&mut params, days);
    Ok(params)
}

fn client(name: &str, role: Role, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationalUnitName, format!("{UNIT_PREFIX}{role}"));
    valid(&mut params, days);
    params
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read this host's name")?;
    Ok(name.trim().to_owned())
}

fn or_own(names: Vec<String>) -> anyhow::Result<Vec<String>> {
    if !names.is_empty() {
        return Ok(names);
    }
    let own = [host_name()?, "localhost".into(), "127.0.0.1".into(), "::1".into()];
    Ok(own.into_iter().filter(|n| !n.is_empty() && n != "(none)").collect())
}

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && !matches!(name, "ca" | "server")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}

fn make_folder(dir: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.with_context(|| format!("cannot create {}", dir.display()))
}

/// Before anything is made: half of a pair is of no use.
fn absent(files: &[PathBuf]) -> anyhow::Result<()> {
    match files.iter().find(|f| f.symlink_metadata().is_ok()) {
        Some(there) => bail!("{} is there already, and nothing is overwritten; move it away first", there.display()),
        None => Ok(()),
    }
}

fn write_pair(dir: &Path, name: &str, certificate: &str, key: &str) -> anyhow::Result<()> {
    // The key first: a certificate without one is of no use.
    write_new(&dir.join(format!("{name}.key")), key, 0o600)?;
    write_new(&dir.join(format!("{name}.pem")), certificate, 0o644)
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
