//! Signing: a small request verified and signed anew, and signed chunks against SHA-256's own speed. Each figure is the best
//! of several.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use sha2::{Digest, Sha256};
use tollgate::aws::sigv4::{self, Algorithm, Chain, ChunkTerms, Given, Order, Payload, Pieces, SigningKeys, TokenKind};
use tollgate::credential::{Held, Secret};

const ROUNDS: usize = 9;
const CHUNK: usize = 128 << 10;
const CHUNKS: usize = 256;

pub fn measure() -> anyhow::Result<serde_json::Value> {
    let keys = SigningKeys::default();
    let (agent, held) =
        (credentials("ASIAPLACEHOLDER00000", "placeholder"), credentials("ASIAHELDHELDHELDHELD", "held"));
    let body = br#"{"TableName":"t","Key":{"id":{"S":"1"}}}"#;
    let payload = Payload::Hashed(sigv4::sha256_hex(body));
    let now = SystemTime::now();
    let order = |payload, held| Order {
        payload,
        held,
        algorithm: Algorithm::V4,
        token_kind: TokenKind::Security,
        region: "eu-central-1",
        signing_name: "dynamodb",
        now,
    };
    let mut signed = request("POST", "dynamodb.eu-central-1.amazonaws.com", "/");
    sigv4::sign(&mut signed, &order(&payload, &agent), &keys).expect("signed");

    let sign = best(ROUNDS, 2000, || {
        let mut parts = signed.clone();
        sigv4::sign(&mut parts, &order(&payload, &held), &keys).expect("signed");
        parts
    });
    let both = best(ROUNDS, 2000, || {
        let mut parts = signed.clone();
        chain(&parts, &agent, now, &keys, body);
        sigv4::sign(&mut parts, &order(&payload, &held), &keys).expect("signed");
        parts
    });

    let data = Bytes::from(vec![7; CHUNK]);
    let hash = best(ROUNDS, CHUNKS, || Sha256::digest(&data));
    let chunked = Payload::SignedChunks(ChunkTerms { length: (CHUNK * CHUNKS) as u64, trailer: None });
    let mut request = request("PUT", "b.s3.eu-central-1.amazonaws.com", "/k");
    request.headers.insert("x-amz-decoded-content-length", (CHUNK * CHUNKS).into());
    let mut as_agent = request.clone();
    sigv4::sign(&mut as_agent, &order(&chunked, &agent), &keys).expect("signed");
    let theirs = chain(&as_agent, &agent, now, &keys, b"").expect("in pieces");
    let ours = sigv4::sign(&mut request, &order(&chunked, &held), &keys).expect("signed").chain.expect("in pieces");
    let body = agents_body(&as_agent, &agent, &data);
    let chunks = best(ROUNDS, 1, || {
        let mut pieces = Pieces::new(&chunked, theirs.clone(), ours.clone()).expect("in pieces");
        let mut out = 0;
        // As a connection delivers it.
        let mut rest = body.clone();
        while !rest.is_empty() {
            pieces.push(rest.split_to(rest.len().min(16 << 10)), now).expect("good");
            while let Some(bytes) = pieces.pop() {
                out += bytes.len();
            }
        }
        pieces.end().expect("whole");
        out
    });
    let rate = |bytes: usize, time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    let (hashing, chunking) = (rate(CHUNK, hash), rate(CHUNK * CHUNKS, chunks));
    Ok(serde_json::json!({
        "sign_us": sign.as_secs_f64() * 1e6,
        "verify_and_sign_us": both.as_secs_f64() * 1e6,
        "sha256_mb_s": hashing,
        "chunks_mb_s": chunking,
        "chunks_of_sha256": chunking / hashing,
    }))
}

fn credentials(id: &str, secret: &str) -> Held {
    Held {
        access_key_id: id.into(),
        secret_access_key: Secret::new(secret),
        session_token: Some(Secret::new("t".repeat(800))),
        expires: None,
        account: None,
    }
}

fn request(method: &str, host: &str, path: &str) -> Parts {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "DynamoDB_20120810.GetItem")
        .header("user-agent", "bench");
    request.body(()).expect("a request").into_parts().0
}

fn chain(parts: &Parts, agent: &Held, now: SystemTime, keys: &SigningKeys, body: &[u8]) -> Option<Chain> {
    let claim = sigv4::claim(parts).expect("valid").expect("signed");
    let digest = sigv4::sha256_hex(body);
    let given = Given {
        body_sha256: Some(&digest),
        bucket: None,
        secret: &agent.secret_access_key,
        token: agent.session_token.as_ref(),
        now,
    };
    sigv4::verify(&claim, parts, &given, keys).expect("verified")
}

/// The body as the agent's signer makes it, by our own chain from the agent's signature to the agent's.
fn agents_body(parts: &Parts, agent: &Held, data: &Bytes) -> Bytes {
    use hmac::{Hmac, KeyInit, Mac};
    let mac = |key: &[u8], text: &[u8]| -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    };
    let date = parts.headers["x-amz-date"].to_str().expect("text");
    let scope = format!("{}/eu-central-1/dynamodb/aws4_request", &date[..8]);
    let mut key = format!("AWS4{}", agent.secret_access_key.expose()).into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part.as_bytes());
    }
    let authorization = parts.headers["authorization"].to_str().expect("text");
    let mut last = authorization.rsplit_once("Signature=").expect("signed").1.to_owned();
    let (empty, digest) = (sigv4::sha256_hex(b""), sigv4::sha256_hex(data));
    let mut body = Vec::new();
    for n in 0..=CHUNKS {
        let (chunk, digest) = if n < CHUNKS { (&data[..], &digest) } else { (&b""[..], &empty) };
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{last}\n{empty}\n{digest}");
        last = hex::encode(mac(&key, text.as_bytes()));
        body.extend_from_slice(format!("{:x};chunk-signature={last}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.into()
}

/// Time of one run: the best mean of several rounds.
fn best<T>(rounds: usize, runs: usize, mut run: impl FnMut() -> T) -> Duration {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..runs {
            black_box(run());
        }
        start.elapsed() / u32::try_from(runs).unwrap_or(u32::MAX)
    };
    (0..rounds).map(round).min().unwrap_or_default()
}
