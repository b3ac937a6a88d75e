//! What upstreams are verified against: the platform's roots, and extra ones where the configuration names them.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::TlsError;

/// A client configuration with the platform's roots and those of a PEM file.
///
/// With `extra` given the platform may have none: a private endpoint needs only its own root.
pub fn client_config(extra: Option<&Path>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = platform(extra.is_some())?;
    if let Some(path) = extra {
        let bad = |message: String| TlsError::ExtraRoot { path: path.into(), message };
        let mut added = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))? {
            let certificate = certificate.map_err(|e| bad(e.to_string()))?;
            roots.add(certificate).map_err(|e| bad(e.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(bad("it holds no certificate".into()));
        }
    }
    let mut config = ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The platform's roots, read once.
fn platform(may_be_empty: bool) -> Result<RootCertStore, TlsError> {
    static ROOTS: OnceLock<(RootCertStore, String)> = OnceLock::new();
    let (roots, errors) = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Certificates that do not parse are common in old bundles, and trusting fewer is safe.
        roots.add_parsable_certificates(found.certs);
        let errors = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        (roots, errors)
    });
    if roots.is_empty() && !may_be_empty {
        let why = if errors.is_empty() { "none found" } else { errors };
        return Err(TlsError::NoRoots(why.to_owned()));
    }
    Ok(roots.clone())
}
