//! The host-local CA: a root that signed one issuing CA and whose key is gone.
//!
//! The issuing CA is name-constrained to AWS's domains. The constraints stand on it and not on the root alone because
//! some verifiers (Java) do not apply the constraints of a trust anchor. Files: `ca/root.pem`, `ca/issuing.pem` (both
//! public), `ca/issuing.key` (0600). A directory is complete or not there: it is made under another name and renamed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use super::TlsError;
use crate::aws::endpoint::domains;

const ROOT_YEARS: i64 = 10;
/// Certificates count from some time before now: clocks of hosts and containers differ.
const BACKDATE: Duration = Duration::days(2);
/// Leaves live shorter than any verifier's limit and are minted anew with each daemon.
const LEAF_LIFE: Duration = Duration::days(90);

/// The CA, ready to issue.
#[derive(Debug)]
pub struct Authority {
    root_pem: String,
    root_path: PathBuf,
    issuing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// One key for all leaves: it lives in memory only, as long as the daemon.
    leaf_key: KeyPair,
}

impl Authority {
    /// Opens the CA in `state_dir/ca`, or makes it on the first start.
    pub fn open_or_create(state_dir: &Path) -> Result<Self, TlsError> {
        let dir = state_dir.join("ca");
        if !dir.exists() {
            create(&dir)?;
        }
        Self::open(&dir)
    }

    fn open(dir: &Path) -> Result<Self, TlsError> {
        let (root_path, issuing_path, key_path) =
            (dir.join("root.pem"), dir.join("issuing.pem"), dir.join("issuing.key"));
        for private in [dir, &key_path] {
            let mode = fs::metadata(private).map_err(file("look at", private))?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 && private == key_path {
                return Err(TlsError::Exposed { path: private.into(), mode });
            }
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(file("read", path));
        let damaged = |path: &Path, message: String| TlsError::Damaged { path: path.into(), message };
        let (root_pem, issuing_pem) = (read(&root_path)?, read(&issuing_path)?);
        let key = KeyPair::from_pem(&read(&key_path)?).map_err(|e| damaged(&key_path, e.to_string()))?;
        CertificateDer::from_pem_slice(root_pem.as_bytes()).map_err(|e| damaged(&root_path, e.to_string()))?;
        let issuing = CertificateDer::from_pem_slice(issuing_pem.as_bytes())
            .map_err(|e| damaged(&issuing_path, e.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&issuing, key).map_err(|e| damaged(&issuing_path, e.to_string()))?;
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { root_pem, root_path, issuing, issuer, leaf_key })
    }

    /// The root that clients are to trust.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Where the root stands; readable by all.
    pub fn root_path(&self) -> &Path {
        &self.root_path
    }

    /// A leaf for one name, with its chain, and its key.
    pub(super) fn issue(
        &self,
        name: &str,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>), TlsError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        // The common name is for people; 64 characters is all it may have.
        params.distinguished_name.push(DnType::CommonName, name.chars().take(64).collect::<String>());
        let now = OffsetDateTime::now_utc();
        params.not_before = now - BACKDATE;
        params.not_after = now + LEAF_LIFE;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        Ok((vec![leaf.der().clone(), self.issuing.clone()], PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der())))
    }
}

fn create(dir: &Path) -> Result<(), TlsError> {
    let now = OffsetDateTime::now_utc();
    let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_else(|| "this host".into());
    let ca = |what: &str, depth: u8| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Tollgate");
        params.distinguished_name.push(DnType::CommonName, format!("Tollgate {what} of {host}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - BACKDATE;
        params.not_after = now + Duration::days(365 * ROOT_YEARS);
        params.name_constraints = Some(constraints());
        params
    };
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let root_params = ca("root", 1);
    let root = root_params.self_signed(&root_key)?;
    let issuing_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut issuing_params = ca("issuing CA", 0);
    issuing_params.use_authority_key_identifier_extension = true;
    // The root's key goes no further than this call.
    let issuing = issuing_params.signed_by(&issuing_key, &Issuer::new(root_params, root_key))?;

    let making = dir.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_dir_all(&making);
    // Passable, not listable: clients read `root.pem` by name; the key has a mode of its own.
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&making).map_err(file("make", &making))?;
    write(&making.join("root.pem"), root.pem().as_bytes(), 0o644)?;
    write(&making.join("issuing.pem"), issuing.pem().as_bytes(), 0o644)?;
    write(&making.join("issuing.key"), issuing_key.serialize_pem().as_bytes(), 0o600)?;
    fs::rename(&making, dir).map_err(file("put in place", dir))?;
    let parent = dir.parent().unwrap_or(Path::new("/"));
    fs::File::open(parent).and_then(|d| d.sync_all()).map_err(file("sync", parent))
}

fn constraints() -> NameConstraints {
    NameConstraints {
        permitted_subtrees: domains().map(|d| GeneralSubtree::DnsName(d.to_owned())).collect(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let mut out =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(file("create", path))?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(file("write", path))?;
    // The mode given at creation is cut by the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(file("set the mode of", path))
}

fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> TlsError + 'a {
    move |source| TlsError::File { doing, path: path.into(), source }
}
