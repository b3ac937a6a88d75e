//! The system's bundle, OpenSSL's directory of hashed roots, and Node's way in through `openssl.cnf`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bind, Facts, Place, TrustError, file, write};

/// Where distributions keep the one-file bundle. curl, Go, rustls and Debian's Ruby read it.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where OpenSSL looks roots up by the hash of their name: Python's `ssl`, Debian's Node.
const HASHED: &str = "/etc/ssl/certs";
/// Node's official builds look at this file, whatever OpenSSL the system has.
const OPENSSL_CNF: &str = "/etc/ssl/openssl.cnf";
/// A provider whose loading makes Node read further roots; see `node_roots.c`.
static NODE_ROOTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/node_roots.so"));

/// Binds a merged bundle over each that the host has. Gives the path of one that holds all roots.
pub(super) fn bundles(facts: &Facts<'_>, binds: &mut Vec<Bind>) -> Result<PathBuf, TrustError> {
    let mut merged = None;
    for (n, path) in BUNDLES.iter().enumerate() {
        // The real file: a bind over a link would follow it anyway, and two links to one file need one bind.
        let Ok(target) = fs::canonicalize(path) else { continue };
        if binds.iter().any(|b| b.target == Place::Ours(target.clone())) {
            continue;
        }
        let mut text = fs::read(&target).map_err(file("read", &target))?;
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend_from_slice(facts.root_pem.as_bytes());
        let source = facts.dir.join(format!("bundle-{n}.pem"));
        write(&source, &text)?;
        merged.get_or_insert_with(|| source.clone());
        binds.push(Bind::instead_of(target, source));
    }
    hashed(facts, binds)?;
    match merged {
        Some(path) => Ok(path),
        // A host without a bundle: clients that are told of one (AWS's) still get ours.
        None => Ok(facts.dir.join("root.pem")),
    }
}

/// A copy of the directory of hashed roots, with ours in it. It is bound under the file binds, so it comes first.
fn hashed(facts: &Facts<'_>, binds: &mut Vec<Bind>) -> Result<(), TrustError> {
    let here = Path::new(HASHED);
    if !here.is_dir() {
        return Ok(());
    }
    // The hash is of OpenSSL's own canonical form of the name; only OpenSSL can be trusted to make it.
    let root = facts.dir.join("root.pem");
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-subject_hash", "-in"])
        .arg(&root)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output();
    let Some(hash) = output.ok().filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok()) else {
        tracing::info!("there is no openssl command, so clients that look roots up by hash will not trust Tollgate's");
        return Ok(());
    };
    let copy = facts.dir.join("certs");
    fs::create_dir_all(&copy).map_err(file("make", &copy))?;
    let mut below = Vec::new();
    for entry in fs::read_dir(here).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(file("read", here))? {
        let (from, to) = (entry.path(), copy.join(entry.file_name()));
        let kind = entry.file_type().map_err(file("look at", &from))?;
        if kind.is_symlink() {
            let link = fs::read_link(&from).map_err(file("read", &from))?;
            symlink(link, &to).map_err(file("make", &to))?;
        } else if kind.is_dir() {
            fs::create_dir_all(&to).map_err(file("make", &to))?;
            // Into the copy before that is bound: afterwards the copy stands where this would be taken from.
            below.push(Bind::instead_of(to, from));
        } else {
            fs::copy(&from, &to).map_err(file("copy", &from))?;
        }
    }
    symlink(&root, copy.join(format!("{}.0", hash.trim()))).map_err(file("make a link in", &copy))?;
    below.push(Bind::instead_of(here.into(), copy));
    binds.splice(0..0, below);
    Ok(())
}

/// Node's compiled-in roots can be added to only by a variable, and variables are the agent's. But Node loads the
/// OpenSSL providers that `nodejs_conf` in `openssl.cnf` names, before it reads that variable.
pub(super) fn openssl(facts: &Facts<'_>, root: &Path, binds: &mut Vec<Bind>) -> Result<(), TrustError> {
    let Ok(target) = fs::canonicalize(OPENSSL_CNF) else { return Ok(()) };
    let text = fs::read_to_string(&target).map_err(file("read", &target))?;
    // A host that configures Node's OpenSSL itself keeps its configuration.
    if text.lines().any(|l| l.trim_start().starts_with("nodejs_conf")) {
        return Ok(());
    }
    let module = facts.dir.join("node_roots.so");
    write(&module, NODE_ROOTS)?;
    // The provider finds the root beside itself.
    debug_assert_eq!(root.parent(), module.parent());
    let merged = format!(
        "nodejs_conf = tollgate_node\n{text}\n[tollgate_node]\nproviders = tollgate_providers\n\n[tollgate_providers]\n\
         default = tollgate_default\ntollgate_roots = tollgate_roots\n\n[tollgate_default]\nactivate = 1\n\n\
         [tollgate_roots]\nmodule = {}\nactivate = 1\n",
        module.display()
    );
    let source = facts.dir.join("openssl.cnf");
    write(&source, merged.as_bytes())?;
    binds.push(Bind::instead_of(target, source));
    Ok(())
}
