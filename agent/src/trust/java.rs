//! Java's keystore of roots, and ours in it.
//!
//! Java asks nobody but a keystore: Debian's in `/etc/ssl/certs/java`, Red Hat's in `/etc/pki`, or a JDK's own. Each that
//! the host has, and only root can change, is bound over by a copy with our root added. The format is [`keystore`]'s.
//! Runs where [`super::prepare`] does. Never touches a JDK in somebody's home.

mod keystore;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{Bind, Facts, Place, TrustError, file, write};

/// Where distributions keep the one of all their JDKs.
const SHARED: [&str; 2] = ["/etc/ssl/certs/java/cacerts", "/etc/pki/ca-trust/extracted/java/cacerts"];
/// Directories of JDKs.
const HOMES: [&str; 3] = ["/usr/lib/jvm", "/opt", "/usr/local"];
/// Where a JDK has its own, up to Java 8 below `jre`; the first name wins over the second.
const OWN: [&str; 4] =
    ["lib/security/jssecacerts", "lib/security/cacerts", "jre/lib/security/jssecacerts", "jre/lib/security/cacerts"];
/// Larger files are no keystores of roots.
const MOST: u64 = 16 << 20;

/// Binds a copy with our root over each keystore.
pub(super) fn keystores(facts: &Facts<'_>, binds: &mut Vec<Bind>) -> Result<(), TrustError> {
    let Ok(root) = CertificateDer::from_pem_slice(facts.root_pem.as_bytes()) else { return Ok(()) };
    for (n, path) in candidates().into_iter().enumerate() {
        // Many JDKs' are links to one file.
        let Ok(target) = fs::canonicalize(&path) else { continue };
        if binds.iter().any(|b| b.target == Place::Ours(target.clone())) {
            continue;
        }
        let Some(old) = roots_own(&target)? else { continue };
        match keystore::with(&old, &root) {
            Ok(new) => {
                let source = facts.dir.join(format!("cacerts-{n}"));
                write(&source, &new)?;
                binds.push(Bind::instead_of(target, source));
            }
            Err(e) => tracing::info!("`{}`: {e}; Java will not trust Tollgate's root there", target.display()),
        }
    }
    Ok(())
}

fn candidates() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = SHARED.iter().map(PathBuf::from).collect();
    for home in HOMES.iter().filter_map(|home| fs::read_dir(home).ok()) {
        let mut homes: Vec<PathBuf> = home.flatten().map(|entry| entry.path()).collect();
        homes.sort_unstable();
        found.extend(homes.iter().flat_map(|home| OWN.map(|own| home.join(own))));
    }
    found
}

/// The bytes of a file that root alone can change. Another's could be anything by the time that it is read.
fn roots_own(path: &Path) -> Result<Option<Vec<u8>>, TrustError> {
    let file_of = fs::File::open(path).map_err(file("read", path))?;
    let about = file_of.metadata().map_err(file("look at", path))?;
    if !about.is_file() || about.uid() != 0 || about.mode() & 0o022 != 0 || about.len() > MOST {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file_of.take(MOST).read_to_end(&mut bytes).map_err(file("read", path))?;
    Ok(Some(bytes))
}
