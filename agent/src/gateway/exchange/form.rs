//! The form of a request: one reading, and the same one upstream.
//!
//! Pure. What hyper's parser has let through and two readers could still read in two ways is refused here.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Version, header};

use super::refusal::Refusal;
use crate::aws::error::ErrorKind;
use crate::gateway::sniff::without_port;

/// One host, and the one that the connection was made for: what is judged must be what is sent.
pub(super) fn check(parts: &mut Parts, endpoint: &str) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let header_host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::malformed("the request carries more than one Host header; send one"));
    }
    let authority = parts.uri.authority().map(Authority::as_str);
    let host = match (parts.version, authority, header_host) {
        (Version::HTTP_2, Some(a), None) => a.to_owned(),
        (Version::HTTP_2, Some(a), Some(h)) if h.as_bytes() == a.as_bytes() => a.to_owned(),
        (Version::HTTP_2, _, _) => {
            return Err(Refusal::malformed(
                "`:authority` and `host` are missing or differ; send the same name in both",
            ));
        }
        (_, Some(_), _) => {
            return Err(Refusal::malformed("the request target is in absolute form; send only path and query"));
        }
        (_, None, Some(h)) => h
            .to_str()
            .map_err(|_| Refusal::malformed("the Host header is not text; send the endpoint's name"))?
            .to_owned(),
        (_, None, None) => {
            return Err(Refusal::malformed("the request carries no Host header; send the endpoint's name"));
        }
    };
    let name = without_port(&host).trim_end_matches('.');
    if !name.eq_ignore_ascii_case(endpoint) {
        return Err(Refusal::malformed(format!(
            "the request is for `{name}`, but the connection was made to `{}`; open a connection of its own for it",
            endpoint
        )));
    }
    // hyper has resolved this for HTTP/1 by RFC 9112 §6.3 (the length is dropped), and what is sent on is framed anew.
    if parts.headers.contains_key(header::CONTENT_LENGTH) && parts.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::malformed("the request carries both Content-Length and Transfer-Encoding; send one"));
    }
    // A header that `Connection` names would be judged here and gone upstream.
    let hop = |v: &HeaderValue| {
        v.to_str().is_ok_and(|v| {
            v.split(',').all(|t| ["", "close", "keep-alive", "te"].contains(&t.trim().to_ascii_lowercase().as_str()))
        })
    };
    if !parts.headers.get_all(header::CONNECTION).iter().all(hop) {
        return Err(Refusal::malformed("the Connection header names other headers; send only `close` or `keep-alive`"));
    }
    if parts.headers.contains_key(header::UPGRADE) || parts.method == http::Method::CONNECT {
        return Err(Refusal::new(
            ErrorKind::NotImplemented,
            "protocol upgrades (WebSocket) cannot be governed yet, so they are refused",
        ));
    }
    // HTTP/2 carries the host in `:authority`; signatures know it as `host`.
    if header_host.is_none() {
        let value = HeaderValue::from_str(&host).map_err(|_| Refusal::malformed("`:authority` is not a host name"))?;
        parts.headers.insert(header::HOST, value);
    }
    Ok(())
}

/// Headers that speak of one connection only (RFC 9110 §7.6.1), those that an answer's `Connection` names
/// included; a request's names none, see [`check`].
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .filter_map(|n| n.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    let hop = |n: &&HeaderName| {
        [
            header::CONNECTION,
            header::TE,
            header::TRAILER,
            header::UPGRADE,
            header::PROXY_AUTHORIZATION,
            header::PROXY_AUTHENTICATE,
        ]
        .contains(n)
            || matches!(n.as_str(), "keep-alive" | "proxy-connection")
    };
    // Looking each of them up would cost more than going through those that are there.
    let found: Vec<HeaderName> = headers.keys().filter(hop).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "sts.us-east-1.amazonaws.com";

    fn checked(version: Version, uri: &str, headers: &[(&str, &str)]) -> Result<Parts, String> {
        let mut request = http::Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        check(&mut parts, HOST).map(|()| parts).map_err(|refusal| refusal.message)
    }

    #[test]
    fn one_host_and_the_connections() {
        let h1 = |headers: &[(&str, &str)]| checked(Version::HTTP_11, "/", headers);
        for host in
            [HOST, "STS.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com.", "sts.us-east-1.amazonaws.com:443"]
        {
            assert!(h1(&[("host", host)]).is_ok(), "{host}");
        }
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], "carries no Host header"),
            (&[("host", HOST), ("host", HOST)], "more than one Host header"),
            (
                &[("host", "iam.amazonaws.com")],
                "the request is for `iam.amazonaws.com`, but the connection was made to",
            ),
            (&[("host", HOST), ("connection", "x-amz-date")], "the Connection header names other headers"),
            (&[("host", HOST), ("upgrade", "websocket")], "protocol upgrades"),
            (&[("host", HOST), ("content-length", "1"), ("transfer-encoding", "chunked")], "both Content-Length and"),
        ];
        for (headers, expected) in cases {
            let error = h1(headers).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let absolute = checked(Version::HTTP_11, &format!("https://{HOST}/"), &[("host", HOST)]);
        assert!(absolute.expect_err("absolute").contains("absolute form"));
    }

    #[test]
    fn the_authority_becomes_the_host() {
        let h2 = |headers: &[(&str, &str)]| checked(Version::HTTP_2, &format!("https://{HOST}/"), headers);
        assert_eq!(h2(&[]).expect("well-formed").headers[header::HOST], HOST);
        assert!(h2(&[("host", HOST)]).is_ok());
        assert!(h2(&[("host", "iam.amazonaws.com")]).expect_err("two names").contains("differ"));
    }
}
