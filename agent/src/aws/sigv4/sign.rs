//! The held signature in the place of the agent's.

use std::time::SystemTime;

use http::header::{
    AUTHORIZATION, CONNECTION, DATE, EXPECT, HOST, HeaderName, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::canonical::{self, Form, Terms};
use super::verify::signature;
use super::{
    ALGORITHM, Payload, SigError, SigningKeys, Stamp, TERMINATOR, X_AMZ_CONTENT_SHA256, X_AMZ_DATE,
    X_AMZ_SECURITY_TOKEN,
};
use crate::credential::Held;

/// Signs a request with held credentials, whatever signature it carried before.
///
/// `payload` must be resolved: an [`Absent`](Payload::Absent) one is an error. The credentials are one value, so
/// key, secret and token are always of the same generation. The client's stamp is replaced by `now`.
///
/// Covered are `host`, `x-amz-*` and what says how the body is to be read; headers that a hop may change are not.
pub fn sign(
    parts: &mut Parts,
    payload: &Payload,
    held: &Held,
    region: &str,
    signing_name: &str,
    now: SystemTime,
    keys: &SigningKeys,
) -> Result<(), SigError> {
    let payload = payload.header().ok_or(SigError::BodyNotHashed)?;
    let stamp =
        Stamp::at(now).ok_or_else(|| SigError::Unsignable("this host's clock is out of range; set it".into()))?;
    if region.is_empty() || signing_name.is_empty() {
        return Err(SigError::Unsignable(
            "the region or the signing name is not known; name the region in the client's configuration".into(),
        ));
    }
    strip(&mut parts.headers);
    canonical_host(&mut parts.headers)?;
    insert(&mut parts.headers, X_AMZ_DATE, stamp.as_str(), false)?;
    insert(&mut parts.headers, X_AMZ_CONTENT_SHA256, payload, false)?;
    if let Some(token) = &held.session_token {
        insert(&mut parts.headers, X_AMZ_SECURITY_TOKEN, token.expose(), true)?;
    }
    let signed_headers = signed_headers(&parts.headers);

    let mut buffer = Vec::with_capacity(1024);
    let terms = Terms { signing_name, signed_headers: &signed_headers, payload };
    canonical::write(&mut buffer, parts, terms, Form::Documented, Form::Documented);
    let key = keys.key(&held.secret_access_key, stamp.date(), region, signing_name);
    let signature = hex::encode(signature(key, &stamp, region, signing_name, &buffer));

    let authorization = format!(
        "{ALGORITHM} Credential={}/{}/{region}/{signing_name}/{TERMINATOR}, SignedHeaders={signed_headers}, Signature={signature}",
        held.access_key_id,
        stamp.date(),
    );
    insert(&mut parts.headers, "authorization", &authorization, true)
}

/// Takes out the agent's signature and everything that speaks of one connection only.
fn strip(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, CONNECTION, DATE, EXPECT, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in [
        X_AMZ_CONTENT_SHA256,
        X_AMZ_DATE,
        X_AMZ_SECURITY_TOKEN,
        "x-amz-region-set",
        "x-amz-s3session-token",
        "keep-alive",
        "proxy-connection",
    ] {
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
