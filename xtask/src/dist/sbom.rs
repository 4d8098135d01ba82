//! The bill of materials, as CycloneDX 1.6 in JSON.

use anyhow::Result;
use serde_json::{Value, json};

use super::crates::Package;
use super::{Made, Release, crates, sha256, write};
use crate::host::Host;
use crate::setup::venv::DEPLOY;
use crate::sh::{root, sh};

pub fn make(release: &Release) -> Result<Made> {
    let packages = crates::all()?;
    let program = release.binary();
    let hash = program.exists().then(|| sha256(&program)).transpose()?;
    let path = release.out.join(format!("weir-{}.cdx.json", release.version));
    write(&path, &format!("{:#}\n", document(&release.version, hash, &packages)))?;
    println!("{} packages", packages.len());
    let host = Host::this();
    match DEPLOY.probe(&host) {
        Ok(_) => println!("{}", sh(DEPLOY.python(&host), [root().join("deploy/python/sbom.py")]).arg(&path).output()?),
        Err(why) => println!("SKIP: not held against the schema of CycloneDX: {why:#}"),
    }
    Ok(Made::Files(vec![path]))
}

/// No time and no serial number, both of which may be left out: the same sources give the same document.
pub fn document(version: &str, program: Option<String>, packages: &[Package]) -> Value {
    let top = "pkg:generic/weir";
    let agent = packages.iter().filter(|p| p.ours && ["weir-agent", "weir-ebpf"].contains(&p.name.as_str()));
    let page = packages.iter().filter(|p| p.purl.starts_with("pkg:npm/"));
    let first: Vec<&str> = agent.chain(page).map(|p| p.purl.as_str()).collect();
    let edges = packages.iter().map(|p| json!({"ref": p.purl, "dependsOn": p.uses}));
    let mut dependencies = vec![json!({"ref": top, "dependsOn": first})];
    dependencies.extend(edges);
    let mut weir = json!({"type": "application", "bom-ref": top, "name": "weir", "version": version});
    if let Some(hash) = program {
        weir["hashes"] = json!([{"alg": "SHA-256", "content": hash}]);
    }
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": weir},
        "components": packages.iter().map(component).collect::<Vec<_>>(),
        "dependencies": dependencies,
    })
}

fn component(p: &Package) -> Value {
    let mut it = json!({
        "type": "library",
        "bom-ref": p.purl,
        "name": p.name,
        "version": p.version,
        "purl": p.purl,
        "licenses": [{"expression": p.licence}],
    });
    if let Some((algorithm, digits)) = &p.hash {
        it["hashes"] = json!([{"alg": algorithm, "content": digits}]);
    }
    it
}
