//! Java's keystores: what is in one, and one more.
//!
//! Read are JKS (all of Debian's, Red Hat's, and OpenJDK's up to 17) and PKCS#12 without a password (OpenJDK's from 18
//! on); written is JKS, which every Java since 1.2 takes under either name. Pure.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN, digest};

const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION: u32 = 2;
/// What Java itself takes for keystores of roots; it guards nothing but against chance.
const PASSWORD: &str = "changeit";
/// The specification's own pinch of salt.
const SALT: &[u8] = b"Mighty Aphrodite";
const ALIAS: &str = "tollgate";
const TRUSTED: u32 = 2;
/// Object identifier 1.2.840.113549.1.9.22.1, with tag and length: an X.509 certificate in a bag of PKCS#12.
const X509_BAG: &[u8] = &[0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const CONTEXT_0: u8 = 0xa0;

/// Why a keystore cannot be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeystoreError {
    #[error("the keystore has a password other than `changeit`; add the root with keytool")]
    Password,
    #[error("it is neither a JKS keystore nor a PKCS#12 one without a password; check it with `keytool -list`")]
    Unknown,
    #[error("it ends early; check it with `keytool -list`")]
    Truncated,
}

/// The same keystore with a root more.
pub(super) fn with(old: &[u8], root: &[u8]) -> Result<Vec<u8>, KeystoreError> {
    let mut entries = Entries::default();
    if old.starts_with(&MAGIC) {
        let end = old.len().checked_sub(SHA1_OUTPUT_LEN).filter(|end| *end >= 12).ok_or(KeystoreError::Truncated)?;
        if number(&old[4..8]) != VERSION {
            return Err(KeystoreError::Unknown);
        }
        if seal(&old[..end]) != old[end..] {
            return Err(KeystoreError::Password);
        }
        entries.count = number(&old[8..12]);
        entries.bytes = old[12..end].to_vec();
    } else {
        let certificates = certificates(old)?;
        for (n, der) in certificates.into_iter().enumerate() {
            entries.add(&format!("root-{n}"), der);
        }
    }
    entries.add(ALIAS, root);
    let mut out = Vec::with_capacity(entries.bytes.len() + 64);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&entries.count.to_be_bytes());
    out.append(&mut entries.bytes);
    let seal = seal(&out);
    out.extend_from_slice(&seal);
    Ok(out)
}

#[derive(Default)]
struct Entries {
    count: u32,
    bytes: Vec<u8>,
}

impl Entries {
    fn add(&mut self, alias: &str, der: &[u8]) {
        let text = |bytes: &mut Vec<u8>, text: &str| {
            // Two bytes of length: aliases here are short.
            bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        self.bytes.extend_from_slice(&TRUSTED.to_be_bytes());
        text(&mut self.bytes, alias);
        // When it was added, which nobody asks for.
        self.bytes.extend_from_slice(&0_u64.to_be_bytes());
        text(&mut self.bytes, "X.509");
        self.bytes.extend_from_slice(&(der.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(der);
        self.count += 1;
    }
}

/// What stands at the end of a JKS.
fn seal(bytes: &[u8]) -> [u8; SHA1_OUTPUT_LEN] {
    let mut all: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    all.extend_from_slice(SALT);
    all.extend_from_slice(bytes);
    let mut out = [0; SHA1_OUTPUT_LEN];
    out.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, &all).as_ref());
    out
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b))
}

/// The certificates in the bags of a PKCS#12 without a password: all that starts like one and is one value of DER.
fn certificates(pkcs12: &[u8]) -> Result<Vec<&[u8]>, KeystoreError> {
    let (SEQUENCE, _, _) = value(pkcs12).ok_or(KeystoreError::Unknown)? else { return Err(KeystoreError::Unknown) };
    let mut found = Vec::new();
    let mut rest = pkcs12;
    while let Some(at) = rest.windows(X509_BAG.len()).position(|w| w == X509_BAG) {
        rest = &rest[at + X509_BAG.len()..];
        let Some((CONTEXT_0, inner, _)) = value(rest) else { continue };
        let Some((OCTETS, der, after)) = value(inner) else { continue };
        if after.is_empty() && der.first() == Some(&SEQUENCE) {
            found.push(der);
        }
    }
    // An encrypted one shows none.
    if found.is_empty() { Err(KeystoreError::Unknown) } else { Ok(found) }
}

/// Tag, contents, and what follows.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (usize::try_from(number(bytes)).ok()?, rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const EMPTY: [u8; 12] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 0];

    fn empty() -> Vec<u8> {
        [&EMPTY[..], &seal(&EMPTY)].concat()
    }

    fn root(name: &str) -> Vec<u8> {
        let params = rcgen::CertificateParams::new([name.to_owned()]).expect("valid");
        params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").der().to_vec()
    }

    #[test]
    fn adds_to_jks_and_seals_it_anew() {
        let one = with(&empty(), &root("one.example")).expect("a keystore");
        assert_eq!(one[..12], [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1]);
        let two = with(&one, &root("two.example")).expect("a keystore");
        assert_eq!(two[11], 2);
        assert_eq!(two[12..one.len() - SHA1_OUTPUT_LEN], one[12..one.len() - SHA1_OUTPUT_LEN]);
    }

    #[test]
    fn says_what_it_cannot_read() {
        let good = empty();
        let mut other = good.clone();
        other[31] ^= 1;
        assert_eq!(with(&other, b"x"), Err(KeystoreError::Password));
        assert_eq!(with(&good[..20], b"x"), Err(KeystoreError::Truncated));
        let mut newer = good.clone();
        newer[7] = 3;
        for bad in [&newer[..], b"", b"\x30", b"\x30\x80\x00\x00", b"-----BEGIN CERTIFICATE-----"] {
            assert_eq!(with(bad, b"x"), Err(KeystoreError::Unknown), "{bad:?}");
        }
    }

    /// OpenSSL's own, without a password: certificates in the clear and no MAC.
    #[test]
    fn takes_the_certificates_out_of_pkcs12() {
        let dir = std::env::temp_dir().join(format!("tollgate-p12-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let roots = [root("one.example"), root("two.example")];
        let pem = |der: &[u8]| {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        std::fs::write(dir.join("roots.pem"), roots.iter().map(|r| pem(r)).collect::<String>()).expect("written");
        let made = |more: &[&str]| {
            let out = dir.join("roots.p12");
            let mut openssl = Command::new("openssl");
            openssl.args(["pkcs12", "-export", "-nokeys", "-passout", "pass:", "-in"]).arg(dir.join("roots.pem"));
            assert!(openssl.arg("-out").arg(&out).args(more).status().expect("openssl runs").success());
            std::fs::read(out).expect("made")
        };
        let new = with(&made(&["-certpbe", "NONE", "-nomac"]), &root("three.example")).expect("a keystore");
        assert_eq!(number(&new[8..12]), 3);
        for der in &roots {
            assert!(new.windows(der.len()).any(|w| w == der), "a root is lost");
        }
        assert_eq!(with(&made(&[]), b"x"), Err(KeystoreError::Unknown));
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
