//! `weir doctor` and `weir support dump` of configurations and files, without an agent and without a kernel program.

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{WEIR, text};
use serde_json::Value;

struct Host(tempfile::TempDir);

impl Host {
    /// With a configuration whose paths lie here.
    fn new(more: &str) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        let dir = host.0.path().display();
        let config =
            format!("state_dir: {dir}/state\nsocket: {dir}/weir.sock\nlog: {{events: {dir}/events.json}}\n{more}");
        host.write("weir.yaml", &config);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(WEIR);
        command.args(args.split_whitespace()).arg("--config").arg(self.path("weir.yaml"));
        command.env_remove("WEIR_SOCKET");
        command
    }

    fn doctor(&self) -> (Value, i32) {
        report(&self.command("doctor -o json").output().unwrap())
    }
}

fn report(out: &Output) -> (Value, i32) {
    let object = serde_json::from_slice(&out.stdout);
    let object = object.unwrap_or_else(|e| panic!("{e}: {}{}", text(&out.stdout), text(&out.stderr)));
    (object, out.status.code().unwrap())
}

fn findings<'a>(report: &'a Value, id: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let all = report["findings"].as_array().unwrap().iter().filter(|f| f["id"] == id);
    let part = |f: &'a Value, name: &str| f[name].as_str().unwrap_or_default();
    all.map(|f| (part(f, "severity"), part(f, "seen"), part(f, "command"))).collect()
}

#[test]
fn rules_and_keys_that_do_nothing_are_named_with_their_lines() {
    let host = Host::new(
        "mode: enforce\npolicy:\n  rules:\n    - {name: all, action: alert}\n    - name: never\n      when: {proven: true}\n      action: drop\n\
         lease: {timeout: 45s}\n",
    );
    let (report, code) = host.doctor();
    let useless = findings(&report, "config.useless");
    let file = host.path("weir.yaml").display().to_string();
    assert_eq!(useless.len(), 2, "{useless:?}");
    assert!(useless[0].1.starts_with(&format!("{file}:8: policy.rules[1] (never) can never match")), "{useless:?}");
    assert!(useless[1].1.starts_with(&format!("{file}:11: lease.timeout does nothing")), "{useless:?}");
    assert!(useless.iter().all(|(s, ..)| *s == "warning"), "{useless:?}");
    assert_eq!(useless[0].2, format!("${{EDITOR:-vi}} +8 {file}"));
    assert!(matches!(code, 3 | 4), "{code}");

    let fine = Host::new("mode: enforce\n");
    assert_eq!(findings(&fine.doctor().0, "config.useless"), [("ok", "none", "")]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error_and_the_rest_is_looked_at() {
    let host = Host::new("epoch: 5\nhom: []\n");
    let (report, code) = host.doctor();
    let found = findings(&report, "config.file");
    assert_eq!((found.len(), code), (2, 4), "{found:?}");
    assert!(found[0].1.contains("weir.yaml:4:8: epoch:") && found[1].1.contains("did you mean `home`?"), "{found:?}");
    assert_eq!(findings(&report, "kernel.release").len(), 1);
    std::fs::remove_file(host.path("weir.yaml")).unwrap();
    let (report, code) = host.doctor();
    assert_eq!((findings(&report, "config.file")[0].0, code), ("error", 4));
}

#[test]
fn who_may_not_look_is_told_so_and_that_is_not_fine() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP who_may_not_look_is_told_so_and_that_is_not_fine: needs root, to become somebody else");
        return;
    }
    const NOBODY: u32 = 65_534;
    let host = Host::new("mode: shadow\n");
    std::fs::set_permissions(host.0.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = match host.command("doctor -o json").uid(NOBODY).gid(NOBODY).output() {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            eprintln!("SKIP who_may_not_look_is_told_so_and_that_is_not_fine: another user may not run {WEIR}");
            return;
        }
        out => out.unwrap(),
    };
    let (report, code) = report(&out);
    assert_eq!(
        findings(&report, "config.file")[0],
        (
            "unknown",
            &*format!("{}: Permission denied (os error 13)", host.path("weir.yaml").display()),
            "sudo weir doctor"
        )
    );
    assert_eq!(findings(&report, "kernel.capabilities")[0].2, "sudo weir doctor");
    for id in ["kernel.programs", "clock.cost"] {
        assert_eq!(findings(&report, id)[0].0, "unknown", "{report:#}");
    }
    assert!(code >= 3, "{code}");
}

fn certificate(host: &Host, name: &str, not_after: (i32, u8, u8)) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(vec!["agent.example".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    (host.write(&format!("{name}.pem"), &cert.pem()), host.write(&format!("{name}.key"), &key.serialize_pem()))
}

#[test]
fn an_expired_certificate_a_wrong_key_and_one_that_all_can_read_are_errors() {
    let host = Host::new("");
    let (old, old_key) = certificate(&host, "old", (2021, 1, 1));
    let (good, good_key) = certificate(&host, "good", (2090, 1, 1));
    let config = std::fs::read_to_string(host.path("weir.yaml")).unwrap();
    let with = |cert: &str, key: &str| {
        let more = format!("{config}web: {{tls: {{cert: {cert}, key: {key}}}}}\n");
        host.write("weir.yaml", &more);
        host.doctor().0
    };
    let report = with(&good, &good_key);
    assert_eq!(findings(&report, "tls.certificates")[0].0, "ok", "{report:#}");
    let report = with(&old, &old_key);
    let found = findings(&report, "tls.certificates")[0];
    assert!(found.0 == "error" && found.1.contains("old.pem (web.tls.cert) was good until 2021-01-01"), "{found:?}");
    let report = with(&good, &old_key);
    let found = findings(&report, "tls.certificates")[0];
    assert!(found.0 == "error" && found.1.contains("does not fit its key"), "{found:?}");
    std::fs::set_permissions(&good_key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = with(&good, &good_key);
    let found = findings(&report, "files.permissions")[0];
    assert_eq!((found.0, found.2), ("error", &*format!("chmod o= {good_key}")), "{found:?}");
}

fn parts(path: &Path) -> BTreeMap<String, String> {
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let read = |e: std::io::Result<tar::Entry<'_, _>>| {
        let mut e = e.unwrap();
        let name = e.path().unwrap().display().to_string();
        let mut body = Vec::new();
        e.read_to_end(&mut body).unwrap();
        (name, text(&body))
    };
    tar.entries().unwrap().map(read).collect()
}

/// Planted in every place that can hold a secret; none of them may be in the archive, whatever else is.
#[test]
fn no_secret_gets_into_the_archive_wherever_it_was() {
    let host = Host::new("");
    let plants: Vec<String> = (0..9).map(|n| format!("PLANTED{n}x7Qz{n}")).collect();
    let (cert, key) = certificate(&host, "sink", (2090, 1, 1));
    let files: Vec<_> = (0..6).map(|n| host.write(&format!("secret{n}"), &format!("{}\n", plants[n]))).collect();
    let url = host.write("url", &format!("https://hooks.example.net/services/{}\n", plants[6]));
    let config = std::fs::read_to_string(host.path("weir.yaml")).unwrap();
    let config = format!(
        "{config}crowdsec: {{url: 'http://127.0.0.1:8080', api_key: {}}}\nsinks:\n\
         - {{name: chat, type: webhook, url_file: {url}, secret_file: {}, token_file: {}}}\n\
         - {{name: pager, type: webhook, template: pagerduty, key_file: {}, url: 'https://events.example.net/v2'}}\n\
         - {{name: plain, type: webhook, url: 'https://hooks.example.net/T0/{}'}}\n\
         - {{name: wiki, type: webhook, url: 'https://events.example.net/v3', secret_file: {}, token_file: {}}}\n\
         - {{name: bus, type: kafka, brokers: ['kafka.example.net:9093'], topic: t, mechanism: plain, user: u, password_file: {}, tls: true}}\nweb: {{tls: {{cert: {cert}, key: {key}}}}}\n",
        plants[7], files[0], files[1], files[2], plants[8], files[4], files[5], files[3]
    );
    host.write("weir.yaml", &config);
    // What logs and models say may repeat them, and say others.
    let pem = std::fs::read_to_string(&key).unwrap();
    let said = format!(
        "{}\n{{\"message\":\"Authorization: Bearer UNKNOWNbearer1\",\"nested\":{{\"password\":\"UNKNOWNpass1\",\"x\":\"{}\"}},\"key\":{}}}\nplain {} text password=UNKNOWNpass2\n",
        plants.iter().map(|p| format!("{{\"why\":\"failed with \\n{p}\"}}")).collect::<Vec<_>>().join("\n"),
        plants[0],
        Value::from(pem.as_str()),
        plants[3]
    );
    host.write("events.json", &said);
    std::fs::create_dir_all(host.path("state/bundles/b1")).unwrap();
    host.write("state/bundles/b1/manifest.yaml", &format!("source: trained with {}\n{pem}", plants[1]));
    host.write("state/models.json", &format!("{{\"a\":\"{}\"}}", plants[2]));
    let check = |name: &str| {
        let file = host.path(name);
        let out = host.command("support dump --mask").arg("--out").arg(&file).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let parts = parts(&file);
        let pem_line = pem.lines().nth(1).unwrap();
        for (name, body) in &parts {
            for secret in plants.iter().map(String::as_str).chain([
                "UNKNOWN",
                pem_line,
                "PRIVATE KEY",
                "hooks.example.net",
                "kafka.example",
            ]) {
                assert!(!body.contains(secret) && !name.contains(secret), "{secret} is in {name}: {body}");
            }
        }
        assert!(!plants.iter().any(|p| text(&out.stdout).contains(p.as_str())));
        parts
    };
    let whole = check("whole.tar.gz");
    assert!(whole["weir-support/config.yaml"].contains("(set, not shown)"), "{}", whole["weir-support/config.yaml"]);
    assert!(whole["weir-support/logs/events.jsonl"].contains("failed with"), "the rest of the lines is there");
    assert!(whole.contains_key("weir-support/models/b1/manifest.yaml"), "{:?}", whole.keys());
    // A secret at the wrong place makes a configuration that cannot be read, and mistakes quote what they found.
    host.write(
        "weir.yaml",
        &format!("crowdsec: {{api_key_file: [{0}]}}\nepoch: {0}\nmode: {0}\nstate_dir: {0}\n", plants[5]),
    );
    let broken = check("broken.tar.gz");
    assert!(broken["weir-support/config-mistakes.txt"].contains("epoch"), "{:?}", broken.keys());
}

#[test]
fn help_documents_exit_codes_and_the_commands_are_for_this_host_alone() {
    let help = text(&common::run(&["doctor", "--help"]).stdout);
    assert!(help.contains("3 warnings, 4 errors, 5 nothing wrong"), "{help}");
    let script = text(&common::run(&["completions", "bash"]).stdout);
    assert!(script.contains("weir__subcmd__doctor") || script.contains("weir__doctor"), "completions know it");
    let out = common::run(&["doctor", "--host", "h"]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
}
