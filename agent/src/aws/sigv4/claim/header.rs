//! `Authorization: AWS4-HMAC-SHA256 …` and `AWS4-ECDSA-P256-SHA256 …`.

use http::HeaderMap;
use http::header::DATE;
use http::request::Parts;

use super::{Claim, Scope, abridged, check_signed_headers, one_token, payload, region_set, signature, single};
use crate::aws::sigv4::{
    Algorithm, Mode, Payload, SigError, Stamp, X_AMZ_CONTENT_SHA256, X_AMZ_DATE, X_AMZ_REGION_SET,
    X_AMZ_S3SESSION_TOKEN, X_AMZ_SECURITY_TOKEN,
};
use crate::credential::Secret;

/// What the header is signed with, and the rest of it.
pub(super) fn algorithm(authorization: &str) -> Result<(Algorithm, &str), SigError> {
    for algorithm in [Algorithm::V4, Algorithm::V4a] {
        if let Some(rest) = authorization.strip_prefix(algorithm.name())
            && rest.starts_with([' ', '\t', ','])
        {
            return Ok((algorithm, rest));
        }
    }
    Err(SigError::Unsupported { mode: scheme(authorization) })
}

pub(super) fn claim(algorithm: Algorithm, fields: &str, parts: &Parts) -> Result<Claim, SigError> {
    let headers = &parts.headers;
    let fields = Fields::read(fields)?;
    let scope = Scope::read(algorithm, fields.credential)?;
    let stamp = stamp(headers)?;
    if stamp.date() != scope.date {
        return Err(SigError::malformed(format!(
            "the credential scope is of `{}`, but the request is of `{}`; sign with one clock",
            scope.date,
            stamp.date()
        )));
    }
    check_signed_headers(fields.signed_headers, headers)?;
    let region = match algorithm {
        Algorithm::V4a => region_set(single(headers, X_AMZ_REGION_SET)?.ok_or_else(|| {
            SigError::malformed("a SigV4A signature needs an x-amz-region-set header that says for which regions it is")
        })?)?,
        _ => scope.region.to_owned(),
    };
    let (token, token_kind) =
        one_token(single(headers, X_AMZ_SECURITY_TOKEN)?, single(headers, X_AMZ_S3SESSION_TOKEN)?)?;
    Ok(Claim {
        access_key_id: scope.access_key_id.to_owned(),
        algorithm,
        region,
        service: scope.service.to_owned(),
        stamp,
        payload: match single(headers, X_AMZ_CONTENT_SHA256)? {
            Some(text) => payload(text, algorithm, headers)?,
            None => Payload::Absent,
        },
        token_kind,
        signed_headers: fields.signed_headers.to_owned(),
        signature: signature(algorithm, fields.signature)?,
        token: token.map(Secret::new),
        query: None,
    })
}

/// The three fields of the header.
struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, SigError> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in text.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or_else(|| {
                SigError::malformed(
                    "Authorization must be `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`",
                )
            })?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => {
                    return Err(SigError::malformed(format!(
                        "Authorization has the unknown field `{}`; remove it",
                        abridged(name)
                    )));
                }
            };
            if slot.replace(value).is_some() {
                return Err(SigError::malformed(format!("Authorization has `{name}` twice; send it once")));
            }
        }
        let missing = |name| move || SigError::malformed(format!("Authorization lacks `{name}`"));
        Ok(Self {
            credential: credential.ok_or_else(missing("Credential"))?,
            signed_headers: signed_headers.ok_or_else(missing("SignedHeaders"))?,
            signature: signature.ok_or_else(missing("Signature"))?,
        })
    }
}

/// The client's time: `x-amz-date`, or `Date` where that is missing.
fn stamp(headers: &HeaderMap) -> Result<Stamp, SigError> {
    let bad = |name: &str, text: &str| {
        SigError::malformed(format!("{name} is `{}`; send it as `20260102T030405Z`", abridged(text)))
    };
    if let Some(text) = single(headers, X_AMZ_DATE)? {
        return Stamp::parse(text).ok_or_else(|| bad("x-amz-date", text));
    }
    match single(headers, DATE.as_str())? {
        Some(text) => Stamp::parse_http_date(text).ok_or_else(|| bad("Date", text)),
        None => Err(SigError::malformed("a signed request needs an x-amz-date header")),
    }
}

/// What an Authorization header that is not SigV4's is.
fn scheme(authorization: &str) -> Mode {
    let scheme = authorization.split([' ', ',']).next().unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") {
        Mode::Bearer
    } else if scheme.eq_ignore_ascii_case("basic") {
        Mode::Basic
    } else if scheme == "AWS" || scheme == "AWS2" || scheme.starts_with("AWS3") {
        Mode::SigV2
    } else {
        Mode::Unknown
    }
}
