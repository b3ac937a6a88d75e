//! The held signature in the place of the agent's.

use std::time::SystemTime;

use http::header::{
    AUTHORIZATION, CONNECTION, DATE, EXPECT, HOST, HeaderName, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::canonical::{self, Form, Terms};
use super::chain::{Chain, Key};
use super::verify::{signature, string_to_sign};
use super::{
    Algorithm, Payload, SigError, SigningKeys, Stamp, TERMINATOR, TokenKind, X_AMZ_CONTENT_SHA256, X_AMZ_DATE,
    X_AMZ_REGION_SET, X_AMZ_S3SESSION_TOKEN, X_AMZ_SECURITY_TOKEN, lower_hex,
};
use crate::credential::Held;

/// What is to be signed, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Must be resolved: an [`Absent`](Payload::Absent) one is an error.
    pub payload: &'a Payload,
    /// One value, so that key, secret and token are always of the same generation.
    pub held: &'a Held,
    /// The agent's own; SigV2 is answered with SigV4.
    pub algorithm: Algorithm,
    /// Which header the held session token goes in.
    pub token_kind: TokenKind,
    /// SigV4A: the set of regions.
    pub region: &'a str,
    pub signing_name: &'a str,
    /// Stands in the place of the client's stamp.
    pub now: SystemTime,
}

/// What was signed.
#[derive(Debug)]
pub struct Signed {
    /// The canonical request: header values are in it, and the session token is one of them.
    pub canonical: Vec<u8>,
    /// What the signatures of the body's pieces go on from, where it has such.
    pub chain: Option<Chain>,
    algorithm: Algorithm,
    stamp: Stamp,
    place: String,
}

impl Signed {
    pub fn string_to_sign(&self) -> String {
        string_to_sign(self.algorithm, &self.stamp, &self.place, &self.canonical)
    }
}

/// Signs a request with held credentials, in its headers, whatever signature it carried before.
///
/// Covered are `host`, `x-amz-*` and what says how the body is to be read; headers that a hop may change are not.
pub fn sign(parts: &mut Parts, order: &Order<'_>, keys: &SigningKeys) -> Result<Signed, SigError> {
    let (held, region, signing_name) = (order.held, order.region, order.signing_name);
    let algorithm = match order.algorithm {
        Algorithm::V2 => Algorithm::V4,
        same => same,
    };
    let payload = order.payload.header(algorithm).ok_or(SigError::BodyNotHashed)?;
    let stamp =
        Stamp::at(order.now).ok_or_else(|| SigError::Unsignable("this host's clock is out of range; set it".into()))?;
    if region.is_empty() || signing_name.is_empty() {
        return Err(SigError::Unsignable(
            "the region or the signing name is not known; name the region in the client's configuration".into(),
        ));
    }
    strip(&mut parts.headers);
    canonical_host(&mut parts.headers)?;
    insert(&mut parts.headers, X_AMZ_DATE, stamp.as_str(), false)?;
    insert(&mut parts.headers, X_AMZ_CONTENT_SHA256, payload, false)?;
    if algorithm == Algorithm::V4a {
        insert(&mut parts.headers, X_AMZ_REGION_SET, region, false)?;
    }
    if let Some(token) = &held.session_token {
        insert(&mut parts.headers, order.token_kind.header(), token.expose(), true)?;
    }
    let signed_headers = signed_headers(&parts.headers);

    let mut canonical = Vec::with_capacity(1024);
    let query = parts.uri.query().unwrap_or_default();
    let terms = Terms { query, signing_name, signed_headers: &signed_headers, payload };
    canonical::write(&mut canonical, parts, terms, Form::Documented, Form::Documented);
    let (key, place, signature) = match algorithm {
        Algorithm::V4a => {
            let pair = keys.pair(&held.access_key_id, &held.secret_access_key);
            let text = string_to_sign(algorithm, &stamp, signing_name, &canonical);
            let signed = pair.and_then(|pair| Some((pair.sign(text.as_bytes())?, pair)));
            let (signature, pair) =
                signed.ok_or_else(|| SigError::Unsignable("no SigV4A key comes of the held credentials".into()))?;
            (Key::Pair(pair), signing_name.to_owned(), hex::encode(signature))
        }
        _ => {
            let place = format!("{region}/{signing_name}");
            let key = keys.key(&held.secret_access_key, stamp.date(), region, signing_name);
            let signature = lower_hex(&signature(key.clone(), &stamp, &place, &canonical));
            let secret = (*order.payload == Payload::Events).then(|| held.secret_access_key.clone());
            (Key::Hmac(key, secret), place, signature)
        }
    };
    let authorization = format!(
        "{} Credential={}/{}/{place}/{TERMINATOR}, SignedHeaders={signed_headers}, Signature={signature}",
        algorithm.name(),
        held.access_key_id,
        stamp.date(),
    );
    insert(&mut parts.headers, "authorization", &authorization, true)?;
    let in_pieces = order.payload.is_in_pieces();
    let chain = in_pieces.then(|| Chain { key, stamp, place: place.clone(), last: signature, padded: None });
    Ok(Signed { canonical, chain, algorithm, stamp, place })
}

/// Takes out the agent's signature and everything that speaks of one connection only.
fn strip(headers: &mut HeaderMap) {
    let ours = |n: &&HeaderName| {
        [AUTHORIZATION, CONNECTION, DATE, EXPECT, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE].contains(n)
            || matches!(
                n.as_str(),
                X_AMZ_CONTENT_SHA256
                    | X_AMZ_DATE
                    | X_AMZ_SECURITY_TOKEN
                    | X_AMZ_REGION_SET
                    | X_AMZ_S3SESSION_TOKEN
                    | "keep-alive"
                    | "proxy-connection"
            )
    };
    // Looking each of them up would cost more than going through those that are there.
    let found: Vec<HeaderName> = headers.keys().filter(ours).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// The name as the connection to AWS will carry it: lower case, without the default port.
fn canonical_host(headers: &mut HeaderMap) -> Result<(), SigError> {
    let host = headers.get(HOST).ok_or_else(|| SigError::Unsignable("it has no host".into()))?;
    let text = host.to_str().map_err(|_| SigError::Unsignable("its host is not ASCII text".into()))?;
    let name = text.strip_suffix(":443").or_else(|| text.strip_suffix(":80")).unwrap_or(text).trim_end_matches('.');
    if name != text || name.bytes().any(|b| b.is_ascii_uppercase()) {
        let name = HeaderValue::from_str(&name.to_ascii_lowercase())
            .map_err(|_| SigError::Unsignable("its host is not a name".into()))?;
        headers.insert(HOST, name);
    }
    Ok(())
}

fn signed_headers(headers: &HeaderMap) -> String {
    let covered = |n: &&HeaderName| {
        n.as_str().starts_with("x-amz-") || matches!(n.as_str(), "host" | "content-type" | "content-md5")
    };
    let mut names: Vec<&str> = headers.keys().filter(covered).map(HeaderName::as_str).collect();
    names.sort_unstable();
    names.join(";")
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str, sensitive: bool) -> Result<(), SigError> {
    // The value is a secret: it does not go into the error.
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        SigError::Unsignable(format!("`{name}` would not be a valid header; check the held credentials"))
    })?;
    value.set_sensitive(sensitive);
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}
