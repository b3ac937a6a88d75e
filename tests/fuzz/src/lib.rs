//! What the targets share: a request as text, and the data path's own way from it to an operation.
//!
//! Only the public functions that the gateway calls are called here, so a target fuzzes what runs. Pure.

pub mod signer;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use tollgate::aws::endpoint::{Endpoint, resolve};
use tollgate::aws::operation::{BodyNeed, Malformed, Operation, Scope, route};
use tollgate::aws::sigv4::{self, Algorithm, Chain, Order, Payload, PieceError, Pieces, SigningKeys, TokenKind};
use tollgate::credential::{Held, Secret};

/// Account of the held credentials, as a binding would name it.
pub const ACCOUNT: &str = "123456789012";

/// A request as the corpus has it: `METHOD HOST TARGET`, headers, an empty line, the body.
pub struct Message<'a> {
    pub host: &'a str,
    pub parts: Parts,
    pub body: &'a [u8],
}

/// `None`: nothing that a parser of HTTP would let through.
pub fn message(data: &[u8]) -> Option<Message<'_>> {
    let (head, body) = match data.windows(2).position(|w| w == b"\n\n") {
        Some(end) => (&data[..end], &data[end + 2..]),
        None => (data, &b""[..]),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let mut words = first.split(' ');
    let (method, host, target) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !target.starts_with('/') {
        return None;
    }
    let mut request = Request::builder().method(method).uri(target).header("host", host);
    for line in lines {
        let colon = line.iter().position(|b| *b == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    Some(Message { host, parts: request.body(()).ok()?.into_parts().0, body })
}

/// The operation of a request, and the same for whoever reads it again.
pub fn understand(
    endpoint: &Endpoint,
    scope: Option<Scope<'_>>,
    parts: &Parts,
    body: &[u8],
) -> Result<Operation, Malformed> {
    let read = || {
        let route = route(endpoint, scope, parts)?;
        let body = (route.body_needed() == BodyNeed::Read).then_some(body);
        route.finish(parts.uri.query().unwrap_or_default(), body, Some(ACCOUNT))
    };
    let found = read();
    assert!(found == read(), "two readings of one request");
    if let Ok(operation) = &found {
        sound(operation);
    }
    found
}

/// What every operation must be, whatever was sent.
fn sound(operation: &Operation) {
    assert!(!operation.actions().is_empty(), "an operation without an action: {operation:?}");
    assert!(!operation.resources().is_empty(), "an operation without a resource: {operation:?}");
    let unknown = operation.actions() == ["unknown:unknown"];
    for action in operation.actions() {
        let (service, name) = action.split_once(':').expect("an IAM action");
        assert!(!service.is_empty() && !name.is_empty(), "{operation:?}");
        assert!(unknown || (service, name) != ("unknown", "unknown"), "half known: {operation:?}");
    }
}

/// A body for one of a few operations of a protocol: the first byte says which.
pub fn body_of(calls: &[(&str, &str)], data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    let (head, service) = calls[usize::from(*which) % calls.len()];
    let message = message(head.as_bytes()).expect("a request of the table");
    let endpoint = resolve(message.host).expect("a host of the table");
    let scope = Scope { region: "us-east-1", service };
    let found = understand(&endpoint, Some(scope), &message.parts, body);
    // The heads alone are right; else nothing would be fuzzed.
    debug_assert!(!body.is_empty() || found.is_ok() || service == "s3", "{head}: {found:?}");
}

/// The moment at which all is signed: 2026-01-02T03:04:05Z, the one of the corpus.
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

pub const STAMP: &str = "20260102T030405Z";

pub fn keys() -> &'static SigningKeys {
    static KEYS: OnceLock<SigningKeys> = OnceLock::new();
    KEYS.get_or_init(SigningKeys::default)
}

pub fn held(secret: &str) -> Held {
    Held {
        access_key_id: "AKIAHELDHELDHELDHELD".into(),
        secret_access_key: Secret::new(secret),
        session_token: Some(Secret::new("held-token")),
        expires: None,
        account: None,
    }
}

/// What the pieces of a body go on from: the chain of a request that this secret signed, and that request's signature.
pub fn chain(payload: &Payload, secret: &str) -> (Chain, String) {
    let request = Request::put("/k").header("host", "b.s3.us-east-1.amazonaws.com");
    let (mut parts, ()) = request.body(()).expect("a request").into_parts();
    let order = Order {
        payload,
        held: &held(secret),
        algorithm: Algorithm::V4,
        token_kind: TokenKind::Security,
        region: "us-east-1",
        signing_name: "s3",
        now: now(),
    };
    let signed = sigv4::sign(&mut parts, &order, keys()).expect("signed");
    let header = parts.headers["authorization"].to_str().expect("text");
    let (_, signature) = header.split_once("Signature=").expect("a signature");
    (signed.chain.expect("a body in pieces"), signature.to_owned())
}

/// Sends a body through, as it arrives in pieces of `step` bytes.
pub fn through(payload: &Payload, theirs: &str, ours: &str, body: &[u8], step: usize) -> Result<Vec<u8>, PieceError> {
    let mut pieces = Pieces::new(payload, chain(payload, theirs).0, chain(payload, ours).0).expect("a body in pieces");
    let mut out = Vec::new();
    for part in body.chunks(step.max(1)) {
        pieces.push(Bytes::copy_from_slice(part), now())?;
        while let Some(bytes) = pieces.pop() {
            out.extend_from_slice(&bytes);
        }
    }
    pieces.end()?;
    while let Some(bytes) = pieces.pop() {
        out.extend_from_slice(&bytes);
    }
    assert_eq!((pieces.held(), out.len()), (0, body.len()), "what goes out is as long as what came in");
    Ok(out)
}
