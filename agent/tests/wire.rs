//! What real clients put on the wire (`tests/corpus/wire`, captured by the script there): each request is read, verified and
//! signed anew by the data path's own functions, and is then still the same operation.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use serde_json::Value;
use tollgate::aws::Operation;
use tollgate::aws::endpoint::resolve;
use tollgate::aws::operation::{BodyNeed, Scope, route};
use tollgate::aws::sigv4::{self, Claim, Given, Order, Payload, Pieces, SigningKeys, Stamp};
use tollgate::credential::{Held, Secret};
use tollgate::gateway::check_form;

/// What the capture's metadata service handed out.
const SECRET: &str = "wire-corpus-secret";
const TOKEN: &str = "wire-corpus-token";
/// What each client must be there with: payload modes and operations.
const CLIENTS: [(&str, &[&str], &[&str]); 9] = [
    (
        "boto3",
        &["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "absent"],
        &["PutObject", "ListObjectsV2", "Invoke", "ListMetrics"],
    ),
    ("cli", &["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "absent"], &["PutObject", "GetCallerIdentity"]),
    ("cli2", &["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "absent"], &["PutObject", "GetCallerIdentity"]),
    ("curl", &["hashed"], &["PutObject", "GetObject", "ListTables"]),
    ("go", &["hashed", "UNSIGNED-PAYLOAD"], &["PutObject", "GetObject", "ListHostedZones", "ListFunctions"]),
    (
        "java",
        &[
            "UNSIGNED-PAYLOAD",
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        ],
        &["PutObject", "GetCallerIdentity", "ListKeys"],
    ),
    ("js", &["hashed"], &["PutObject", "DescribeInstances", "Invoke", "ListMetrics"]),
    ("rclone", &["STREAMING-UNSIGNED-PAYLOAD-TRAILER"], &["PutObject", "HeadObject"]),
    ("rust", &["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "absent"], &["PutObject", "ListQueues"]),
];

struct Captured {
    parts: Parts,
    host: String,
    /// `None`: it was large, and its digest is all there is.
    body: Option<Vec<u8>>,
    digest: String,
}

fn captured(row: &Value) -> Captured {
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    let mut request = Request::builder().method(row["method"].as_str().expect("a method")).uri(text(&row["target"]));
    for header in row["headers"].as_array().expect("headers") {
        request = request.header(text(&header[0]), text(&header[1]));
    }
    let (mut parts, ()) = request.body(()).expect("a request").into_parts();
    let host = text(&Value::from(parts.headers["host"].to_str().expect("text")));
    check_form(&mut parts, &host).expect("well-formed");
    let body = row["body"].as_str().map(|b| base64::engine::general_purpose::STANDARD.decode(b).expect("base64"));
    let digest = body.as_ref().map_or_else(|| text(&row["sha256"]), |b| sigv4::sha256_hex(b));
    Captured { parts, host, body, digest }
}

fn moment(stamp: &Stamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(stamp.unix()).expect("after 1970"))
}

fn understand(request: &Captured, claim: &Claim) -> Operation {
    let endpoint = resolve(&request.host).expect("a host of AWS's");
    let scope = Scope { region: claim.region_at(endpoint.region.as_deref()), service: &claim.service };
    let route = route(&endpoint, Some(scope), &request.parts).expect("a route");
    let body = (route.body_needed() == BodyNeed::Read).then(|| request.body.as_deref().expect("a small body"));
    route.finish(request.parts.uri.query().unwrap_or_default(), body, Some("123456789012")).expect("understood")
}

/// Gives the operation's name and what was said of the body.
fn check(mut request: Captured, keys: &SigningKeys) -> (String, String) {
    let claim = sigv4::claim(&request.parts).expect("readable").expect("signed");
    let now = moment(&claim.stamp);
    let (secret, token) = (Secret::new(SECRET), Secret::new(TOKEN));
    let given = |secret, token| Given { body_sha256: Some(&request.digest), bucket: None, secret, token, now };
    let theirs = sigv4::verify(&claim, &request.parts, &given(&secret, Some(&token)), keys).expect("verified");
    if let Payload::Hashed(declared) = &claim.payload {
        assert_eq!(*declared, request.digest);
    }
    let before = understand(&request, &claim);
    assert_ne!(before.name, "unknown");

    let payload = match &claim.payload {
        Payload::Absent => Payload::Hashed(request.digest.clone()),
        other => other.clone(),
    };
    let held = Held {
        access_key_id: "AKIAHELDHELDHELDHELD".into(),
        secret_access_key: Secret::new("held"),
        session_token: None,
        expires: None,
        account: None,
    };
    let order = Order {
        payload: &payload,
        held: &held,
        algorithm: claim.algorithm,
        token_kind: claim.token_kind,
        region: &before.region,
        signing_name: &before.signing_name,
        now,
    };
    let signed = sigv4::sign(&mut request.parts, &order, keys).expect("signed");
    if let (Some(theirs), Some(ours), Some(body)) = (theirs, signed.chain, &request.body) {
        let mut pieces = Pieces::new(&payload, theirs, ours).expect("in pieces");
        pieces.push(Bytes::copy_from_slice(body), now).expect("signed chunks");
        pieces.end().expect("all of them");
        let length: usize = std::iter::from_fn(|| pieces.pop()).map(|b| b.len()).sum();
        assert_eq!(length, body.len());
    }
    let ours = sigv4::claim(&request.parts).expect("readable").expect("signed");
    assert_eq!(ours.access_key_id, held.access_key_id);
    let given =
        Given { body_sha256: Some(&request.digest), bucket: None, secret: &held.secret_access_key, token: None, now };
    sigv4::verify(&ours, &request.parts, &given, keys).expect("what we sign verifies");
    assert_eq!(understand(&request, &ours), before, "another operation than the one that was judged");
    let mode = match claim.payload {
        Payload::Absent => "absent",
        Payload::Hashed(_) => "hashed",
        ref other => other.header(claim.algorithm).expect("a word"),
    };
    (before.name, mode.to_owned())
}

#[test]
fn what_clients_send_is_understood_verified_and_signed_anew() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("tests/corpus/wire");
    let keys = SigningKeys::default();
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a corpus").map(|e| e.expect("an entry").path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    assert_eq!(all.len(), CLIENTS.len());
    for (client, modes, operations) in CLIENTS {
        let text = std::fs::read_to_string(folder.join(format!("{client}.jsonl"))).expect("a capture");
        let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        let found: Vec<(String, String)> = rows
            .iter()
            .map(|row| {
                println!("{client}: {} {}", row["method"], row["target"]);
                check(captured(row), &keys)
            })
            .collect();
        for mode in modes {
            assert!(found.iter().any(|(_, m)| m == mode), "{client} has no body that is {mode}: {found:?}");
        }
        for operation in operations {
            assert!(found.iter().any(|(o, _)| o == operation), "{client} has no {operation}: {found:?}");
        }
    }
}
