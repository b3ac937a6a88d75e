//! An OIDC issuer for the demonstration: discovery, a key set, and tokens for whoever asks within the process.
//!
//! Serves plain HTTP on loopback only; its key is made at the start and never leaves memory.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::DemoError;

const KEY_ID: &str = "demo-1";

/// A running issuer.
pub struct Issuer {
    url: String,
    key: EncodingKey,
}

/// What a token says.
#[derive(Debug, Clone)]
pub struct Claims<'a> {
    pub subject: &'a str,
    pub audience: &'a str,
    pub groups: &'a [&'a str],
    pub life: Duration,
}

impl Issuer {
    /// Starts on a free port of loopback.
    pub async fn start() -> Result<Self, DemoError> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?;
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256)?)?;
        jwk["kid"] = json!(KEY_ID);
        jwk["use"] = json!("sig");

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(address).await.map_err(|source| DemoError::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| DemoError::Listen { address, source })?;
        let url = format!("http://{address}");
        let discovery = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        let keys = json!({ "keys": [jwk] });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (discovery, keys) = (discovery.clone(), keys.clone());
                let service = hyper::service::service_fn(move |request| {
                    let answer = answer(&request, &discovery, &keys);
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { url, key })
    }

    /// The issuer as tokens name it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A signed token.
    pub fn token(&self, claims: &Claims<'_>) -> Result<String, DemoError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "iss": self.url,
            "sub": claims.subject,
            "aud": claims.audience,
            "groups": claims.groups,
            "iat": now,
            "nbf": now,
            "exp": now + claims.life.as_secs(),
        });
        let header = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::ES256) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).finish_non_exhaustive()
    }
}

fn answer(request: &Request<Incoming>, discovery: &Value, keys: &Value) -> Response<Full<Bytes>> {
    let page = match request.uri().path() {
        "/.well-known/openid-configuration" => Some(discovery),
        "/jwks" => Some(keys),
        _ => None,
    };
    let mut response = Response::new(Full::from(page.map(Value::to_string).unwrap_or_default()));
    if page.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
