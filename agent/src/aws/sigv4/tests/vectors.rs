//! AWS's own vectors for SigV4 and SigV4A, as the `aws-sigv4` crate ships them in its source.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use http::HeaderValue;
use http::request::Parts;
use serde_json::Value;

use crate::aws::sigv4::canonical::{self, Form, Terms};
use crate::aws::sigv4::ecdsa::Pair;
use crate::aws::sigv4::verify::{signature, string_to_sign};
use crate::aws::sigv4::{Algorithm, Given, SigError, SigningKeys, Stamp, claim, hoist, sha256_hex, verify};
use crate::credential::Secret;

/// Requests that are not HTTP as anybody sends it: raw spaces, and a header over several lines.
const NOT_HTTP: &[&str] = &["get-header-value-multiline", "get-space-normalized", "get-space-unnormalized"];
/// Add their token when they have been signed: an `x-amz-*` header that anybody could have added, so it is refused.
const TOKEN_AFTERWARDS: &str = "post-sts-header-after";

fn suite() -> PathBuf {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|p| p["name"] == "aws-sigv4").expect("a dependency");
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a path"));
    manifest.with_file_name("aws-signing-test-suite")
}

/// A request as one of the files has it; `None`: it is not HTTP.
fn request(text: &str) -> Option<(Parts, Vec<u8>)> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let mut lines = head.lines();
    let (method, rest) = lines.next()?.split_once(' ')?;
    let target = rest.strip_suffix(" HTTP/1.1")?;
    let mut request = http::Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    Some((request.body(()).ok()?.into_parts().0, body.as_bytes().to_vec()))
}

struct Case {
    name: String,
    folder: PathBuf,
    context: Value,
    algorithm: Algorithm,
}

impl Case {
    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name))
    }

    fn credential(&self, name: &str) -> Option<&str> {
        self.context["credentials"][name].as_str()
    }

    fn stamp(&self) -> Stamp {
        let plain: String = self.context["timestamp"].as_str().expect("a time").replace(['-', ':'], "");
        Stamp::parse(&plain).expect("a moment")
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.stamp().unix()).expect("later than 1970"))
    }

    /// Every part of the way, by our own code, against the files: both of what was to be signed, and the signature.
    fn made(&self, form: &str, parts: &Parts, body: &[u8]) {
        let expected = self.file(&format!("{form}-canonical-request.txt"));
        let lines: Vec<&str> = expected.lines().collect();
        let (region, service) =
            (self.context["region"].as_str().expect("a region"), self.context["service"].as_str().expect("a service"));
        let digest = sha256_hex(body);
        let terms = Terms {
            query: if form == "query" { lines[2] } else { parts.uri.query().unwrap_or_default() },
            signing_name: service,
            signed_headers: lines[lines.len() - 2],
            payload: &digest,
        };
        // Here alone is asked for paths that stay as they are outside of S3; both are tried when verifying.
        let path = if self.context["normalize"] == true { Form::Documented } else { Form::AsSent };
        let mut ours = Vec::new();
        canonical::write(&mut ours, parts, terms, path, Form::Documented);
        assert_eq!(String::from_utf8(ours.clone()).expect("text"), expected.trim_end(), "{} {form}", self.name);

        let place = if self.algorithm == Algorithm::V4a { service.to_owned() } else { format!("{region}/{service}") };
        let text = string_to_sign(self.algorithm, &self.stamp(), &place, &ours);
        assert_eq!(text, self.file(&format!("{form}-string-to-sign.txt")).trim_end(), "{} {form}", self.name);

        let secret = Secret::new(self.credential("secret_access_key").expect("a secret"));
        let theirs = self.file(&format!("{form}-signature.txt")).trim_end().to_owned();
        if self.algorithm == Algorithm::V4 {
            let key = SigningKeys::default().key(&secret, self.stamp().date(), region, service);
            let ours = hex::encode(signature(key, &self.stamp(), &place, &ours));
            assert_eq!(ours, theirs, "{} {form}", self.name);
            return;
        }
        let pair = Pair::derive(self.credential("access_key_id").expect("an id"), &secret).expect("a pair");
        assert!(pair.verify(text.as_bytes(), &hex::decode(theirs).expect("hex")), "{} {form}", self.name);
        let key: Value = serde_json::from_str(&self.file("public-key.json")).expect("a key");
        let point = hex::decode(format!("04{}{}", key["X"].as_str().expect("X"), key["Y"].as_str().expect("Y")));
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point.expect("hex"));
        let made = pair.sign(text.as_bytes()).expect("signed");
        assert!(public.verify(text.as_bytes(), &made).is_ok(), "{} {form}", self.name);
    }

    /// The whole signed request, as if an agent had sent it.
    fn taken(&self, mut parts: Parts, body: &[u8]) -> Result<(), SigError> {
        let claim = claim(&parts)?.expect("signed");
        assert_eq!(claim.algorithm, self.algorithm, "{}", self.name);
        hoist(&mut parts, &claim)?;
        let secret = Secret::new(self.credential("secret_access_key").expect("a secret"));
        let token = self.credential("token").map(Secret::new);
        let digest = sha256_hex(body);
        let given = Given {
            body_sha256: Some(&digest),
            bucket: None,
            secret: &secret,
            token: token.as_ref(),
            now: self.now() + Duration::from_secs(1800),
        };
        verify(&claim, &parts, &given, &SigningKeys::default()).map(drop)
    }
}

fn path(folder: &Path) {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a file");
    let (parts, _) = request(&read("request.txt")).expect("HTTP");
    let terms = Terms { query: "", signing_name: "execute-api", signed_headers: "host", payload: "" };
    let mut ours = Vec::new();
    canonical::write(&mut ours, &parts, terms, Form::Documented, Form::Documented);
    let ours = String::from_utf8(ours).expect("text");
    assert_eq!(ours.lines().nth(1), read("header-canonical-request.txt").lines().nth(1), "{}", folder.display());
}

#[test]
fn the_official_vectors_are_verified_and_made() {
    let suite = suite();
    let mut left_out = Vec::new();
    let mut count = 0;
    for (folder, algorithm) in [("v4", Algorithm::V4), ("v4a", Algorithm::V4a)] {
        for entry in std::fs::read_dir(suite.join(folder)).expect("the vectors") {
            let folder = entry.expect("an entry").path();
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            // Two of the crate's own have no more than a canonical request, of another time than the request's.
            let Ok(context) = std::fs::read_to_string(folder.join("context.json")) else {
                assert!(name.starts_with("double-"), "{name} has no context");
                path(&folder);
                count += 1;
                continue;
            };
            let context = serde_json::from_str(&context).expect("JSON");
            let case = Case { name, folder, context, algorithm };
            for form in ["header", "query"] {
                let text = case.file(&format!("{form}-signed-request.txt"));
                let Some((parts, body)) = request(&text) else {
                    left_out.push(case.name.clone());
                    continue;
                };
                case.made(form, &parts, &body);
                let taken = case.taken(parts, &body);
                if case.name == TOKEN_AFTERWARDS {
                    assert!(taken.is_err(), "{form}: a token that was not signed");
                } else {
                    assert_eq!(taken, Ok(()), "{} {form}", case.name);
                }
                count += 1;
            }
        }
    }
    left_out.sort();
    left_out.dedup();
    assert_eq!(left_out, NOT_HTTP);
    assert!(count >= 140, "{count} of 78 cases in two forms each");
}
