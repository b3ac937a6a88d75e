//! An issuer inside the test process: keys made on the spot, documents over plain HTTP on loopback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::provider::Patience;
use super::verify::Verifier;
use crate::config;

/// A key pair and how it is published.
pub(crate) struct Pair {
    pub encoding: EncodingKey,
    pub algorithm: Algorithm,
    pub jwk: Value,
}

impl Pair {
    pub fn new(kid: &str, algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::RS256 | Algorithm::PS256 => &rcgen::PKCS_RSA_SHA256,
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &rcgen::PKCS_ED25519,
            other => panic!("no key for {other:?}"),
        };
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let pem = pair.serialize_pem();
        let encoding = match algorithm {
            Algorithm::RS256 | Algorithm::PS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::EdDSA => Ok(EncodingKey::from_ed_der(&pair.serialize_der())),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        }
        .unwrap();
        let mut jwk = match algorithm {
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())})
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&encoding, algorithm).unwrap()).unwrap(),
        };
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        Self { encoding, algorithm, jwk }
    }

    pub fn sign(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.encoding).unwrap()
    }

    pub fn header(&self) -> Header {
        Header { kid: self.jwk["kid"].as_str().map(str::to_owned), ..Header::new(self.algorithm) }
    }
}

/// An issuer on loopback.
pub(crate) struct Issuer {
    pub url: String,
    pub key: Pair,
    /// Path → status and body.
    pub pages: Arc<Mutex<BTreeMap<String, (u16, String)>>>,
    /// Requests answered.
    pub asked: Arc<AtomicUsize>,
}

impl Issuer {
    /// One with an ES256 key, which is quick to make.
    pub async fn start() -> Self {
        Self::with_key(Pair::new("one", Algorithm::ES256)).await
    }

    pub async fn with_key(key: Pair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Self { url, key, pages: Arc::default(), asked: Arc::default() };
        issuer.page(
            "/.well-known/openid-configuration",
            json!({"issuer": issuer.url, "jwks_uri": format!("{}/jwks", issuer.url)}),
        );
        issuer.publish(&[&issuer.key.jwk]);
        let (pages, asked) = (issuer.pages.clone(), issuer.asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let n = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..n]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("").to_owned();
                asked.fetch_add(1, Ordering::Relaxed);
                let (status, body) = pages.lock().unwrap().get(&path).cloned().unwrap_or((404, "{}".into()));
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nlocation: /jwks\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        issuer
    }

    pub fn page(&self, path: &str, body: Value) {
        self.pages.lock().unwrap().insert(path.into(), (200, body.to_string()));
    }

    pub fn publish(&self, keys: &[&Value]) {
        self.page("/jwks", json!({ "keys": keys }));
    }

    /// Makes every document answer `status`, or what it should again.
    pub fn status(&self, status: u16) {
        for page in self.pages.lock().unwrap().values_mut() {
            page.0 = status;
        }
    }

    pub fn config(&self) -> config::Identity {
        config::Identity {
            grace: std::time::Duration::from_secs(60),
            issuers: vec![config::Issuer {
                url: url::Url::parse(&self.url).unwrap(),
                audience: vec!["tollgate".into()],
                algorithms: ["RS256", "ES256", "EdDSA"].map(String::from).to_vec(),
                groups_claim: "groups".into(),
                extra_root: None,
                jwks_max_age: Duration::from_secs(600),
                leeway: Duration::from_secs(1),
            }],
        }
    }

    pub fn verifier(&self) -> Verifier {
        Verifier::new(&self.config()).unwrap()
    }

    pub fn impatient(&self, patience: Patience, max_age: Duration) -> Verifier {
        let mut config = self.config();
        config.issuers[0].jwks_max_age = max_age;
        Verifier::with_patience(&config, patience).unwrap()
    }

    /// Claims of a token that is in order.
    pub fn claims(&self, subject: &str) -> Value {
        let now = now();
        json!({"iss": self.url, "sub": subject, "aud": "tollgate", "iat": now, "nbf": now, "exp": now + 300,
               "groups": ["readers"]})
    }

    pub fn token(&self, subject: &str) -> String {
        self.key.sign(&self.key.header(), &self.claims(subject))
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A directory that goes away with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tollgate-test-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
