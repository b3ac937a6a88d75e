//! Bodies in pieces, against what the `aws-sigv4` crate makes of them.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{SigningParams, sign_chunk, sign_trailer};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::event_stream::Message;
use bytes::Bytes;

use super::*;
use crate::aws::sigv4::{Chain, ChunkTerms, LARGEST_PIECE, PieceError, Pieces};

const AGENT_SECRET: &str = "placeholder/placeholder/placeholder/0000";

/// Where signatures of pieces start: the chain, the request's own, whose it is, and when.
type End = (Chain, String, Credentials, SystemTime);

/// The agent's, and ours in its place.
struct Ends {
    theirs: End,
    ours: End,
}

fn ends(payload: &Payload, algorithm: Algorithm) -> Ends {
    let keys = SigningKeys::default();
    let request = || parts("PUT", "/k", &[("host", b"b.s3.amazonaws.com")]);
    let end = |secret: &str, now: SystemTime| {
        let held = Held { secret_access_key: Secret::new(secret), session_token: None, ..held(false) };
        let mut p = request();
        let order = Order {
            payload,
            held: &held,
            algorithm,
            token_kind: TokenKind::Security,
            region: if algorithm == Algorithm::V4a { "*" } else { "eu-central-1" },
            signing_name: "s3",
            now,
        };
        let signed = super::super::sign(&mut p, &order, &keys).expect("signed");
        let seed = authorization(&p).rsplit_once("Signature=").expect("a signature").1.to_owned();
        let credentials = Credentials::new(&held.access_key_id, secret, None, None, "test");
        (p, signed.chain.expect("in pieces"), seed, credentials, now)
    };
    // The agent's clock is an hour behind, before midnight.
    let early = now() - Duration::from_secs(4 * 3600);
    let (mut p, _, seed, credentials, at) = end(AGENT_SECRET, early);
    if let Payload::SignedChunks(terms) = payload {
        // The chain that verifying gives, of the request as it came.
        let length = terms.length.to_string();
        let mut with = request();
        with.headers.insert("x-amz-decoded-content-length", length.parse().expect("a number"));
        if let Some(names) = &terms.trailer {
            with.headers.insert("x-amz-trailer", names.join(",").parse().expect("names"));
        }
        let held = Held { secret_access_key: Secret::new(AGENT_SECRET), session_token: None, ..held(false) };
        let region = if algorithm == Algorithm::V4a { "*" } else { "eu-central-1" };
        let order = Order {
            payload,
            held: &held,
            algorithm,
            token_kind: TokenKind::Security,
            region,
            signing_name: "s3",
            now: early,
        };
        super::super::sign(&mut with, &order, &keys).expect("signed");
        p = with;
    }
    let seed = if matches!(payload, Payload::SignedChunks(_)) {
        authorization(&p).rsplit_once("Signature=").expect("a signature").1.to_owned()
    } else {
        seed
    };
    let claim = claim(&p).expect("valid").expect("signed");
    let secret = Secret::new(AGENT_SECRET);
    let given = Given { body_sha256: None, bucket: None, secret: &secret, token: None, now: now() };
    let chain = super::super::verify(&claim, &p, &given, &keys).expect("verified").expect("in pieces");
    let theirs = (chain, seed, credentials, at);
    let (_, chain, seed, credentials, at) = end(SECRET, now());
    Ends { theirs, ours: (chain, seed, credentials, at) }
}

/// A body in signed chunks as the crate would have it.
fn chunked(end: &End, chunks: &[&[u8]], trailer: Option<(&str, &str)>) -> Vec<u8> {
    let identity: Identity = end.2.clone().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("s3")
        .time(end.3)
        .settings(())
        .build()
        .expect("complete");
    let mut last = end.1.clone();
    let mut body = Vec::new();
    for chunk in chunks.iter().copied().chain([&b""[..]]) {
        let (_, signature) = sign_chunk(&Bytes::copy_from_slice(chunk), &last, &params).expect("signed").into_parts();
        body.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
        if !chunk.is_empty() {
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        last = signature;
    }
    if let Some((name, value)) = trailer {
        let mut headers = Headers::new();
        headers.insert(name.to_owned(), value.to_owned());
        let (_, signature) = sign_trailer(&headers, &last, &params).expect("signed").into_parts();
        body.extend_from_slice(format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes());
    }
    body.extend_from_slice(b"\r\n");
    body
}

fn terms(length: usize, trailer: Option<&str>) -> Payload {
    let trailer = trailer.map(|n| vec![n.to_owned()]);
    Payload::SignedChunks(ChunkTerms { length: u64::try_from(length).expect("small"), trailer })
}

/// What goes out when a body comes in such pieces; what had gone out before an error, too.
fn passed(
    payload: &Payload,
    ends: &Ends,
    body: &[u8],
    at: impl Fn(usize) -> usize,
) -> (Vec<u8>, Result<(), PieceError>) {
    let mut pieces = Pieces::new(payload, ends.theirs.0.clone(), ends.ours.0.clone()).expect("in pieces");
    let (mut out, mut rest, mut result) = (Vec::new(), body, Ok(()));
    while !rest.is_empty() && result.is_ok() {
        let (now, later) = rest.split_at(at(body.len() - rest.len()).clamp(1, rest.len()));
        rest = later;
        result = pieces.push(Bytes::copy_from_slice(now), super::now());
        while let Some(bytes) = pieces.pop() {
            out.extend_from_slice(&bytes);
        }
        let sent = body.len() - rest.len();
        assert_eq!(pieces.held(), (sent - out.len()) as u64);
    }
    if result.is_ok() {
        result = pieces.end();
        while let Some(bytes) = pieces.pop() {
            out.extend_from_slice(&bytes);
        }
    }
    (out, result)
}

#[test]
fn signed_chunks_are_rebuilt_wherever_they_are_split() {
    let (one, two) = (vec![b'a'; 9000], vec![b'\r'; 300]);
    for trailer in [None, Some(("x-amz-checksum-crc32", "AAAAAA=="))] {
        let cases: [&[&[u8]]; 3] = [&[], &[&one, &two], &[b"\n"]];
        for chunks in cases {
            let length = chunks.iter().map(|c| c.len()).sum::<usize>();
            let payload = terms(length, trailer.map(|t| t.0));
            let ends = ends(&payload, Algorithm::V4);
            let (came, expected) = (chunked(&ends.theirs, chunks, trailer), chunked(&ends.ours, chunks, trailer));
            assert_eq!(came.len(), expected.len());
            for split in [1, 2, 3, 7, 64, 4096, 5000, usize::MAX] {
                let (out, result) = passed(&payload, &ends, &came, |_| split);
                assert_eq!(result, Ok(()), "{split}");
                assert!(out == expected, "split at {split}: {}", String::from_utf8_lossy(&out));
            }
            // In two, at every byte of the heads and the end.
            for cut in (0..200.min(came.len())).chain(came.len().saturating_sub(300)..came.len()) {
                let (out, result) = passed(&payload, &ends, &came, |at| if at == 0 { cut } else { usize::MAX });
                assert!(result.is_ok() && out == expected, "cut at {cut}: {result:?}");
            }
        }
    }
}

/// MinIO's clients write their trailer with a newline, and an empty line before its signature.
#[test]
fn a_trailer_in_the_other_spelling_is_taken() {
    let payload = terms(3, Some("x-amz-checksum-crc32c"));
    let ends = ends(&payload, Algorithm::V4);
    let other = |body: Vec<u8>| {
        let text = String::from_utf8(body).expect("ASCII");
        text.replace("AAAAAA==\r\n", "AAAAAA==\n\r\n").into_bytes()
    };
    let trailer = Some(("x-amz-checksum-crc32c", "AAAAAA=="));
    let came = other(chunked(&ends.theirs, &[b"abc"], trailer));
    let (out, result) = passed(&payload, &ends, &came, |_| 5);
    assert_eq!(result, Ok(()));
    assert!(out == other(chunked(&ends.ours, &[b"abc"], trailer)));
}

#[test]
fn nothing_of_an_altered_chunk_goes_out() {
    let chunks: [&[u8]; 3] = [&[1; 100], &[2; 100], &[3; 100]];
    let trailer = Some(("x-amz-checksum-crc32", "AAAAAA=="));
    let payload = terms(300, Some("x-amz-checksum-crc32"));
    let ends = ends(&payload, Algorithm::V4);
    let came = chunked(&ends.theirs, &chunks, trailer);
    let whole = chunked(&ends.ours, &chunks, trailer);
    for at in 0..came.len() {
        let mut altered = came.clone();
        altered[at] ^= 1;
        let (out, result) = passed(&payload, &ends, &altered, |_| 50);
        // The case of a size's digits, and of a trailer's name, says nothing.
        if result.is_ok() {
            panic!("byte {at} ({:?}) was not noticed", char::from(came[at]));
        }
        assert!(whole.starts_with(&out), "byte {at}: {:?}", String::from_utf8_lossy(&out));
        assert!(out.len() <= at.max(1), "byte {at}: {} bytes had gone out", out.len());
    }
    // Chunks in another order, one missing, one twice, the end missing.
    let cut = |n: usize| 85 + n * (102 + 85);
    for (name, body) in [
        ("swapped", [&came[cut(0) - 85..][..187], &came[..187], &came[374..]].concat()),
        ("twice", [&came[..187], &came[..]].concat()),
        ("missing", came[187..].to_vec()),
        ("short", came[..cut(1)].to_vec()),
        ("no trailer", came[..came.len() - 60].to_vec()),
        ("more", [&came[..], b"0"].concat()),
    ] {
        let (out, result) = passed(&payload, &ends, &body, |_| usize::MAX);
        let swapped = name == "swapped" && body == came;
        assert!(swapped || result.is_err() && out.len() < came.len(), "{name}: {result:?}");
    }
}

#[test]
fn chunks_that_cannot_be_read_say_why() {
    let payload = terms(10, None);
    let ends = ends(&payload, Algorithm::V4);
    let signature = "0".repeat(64);
    let big = terms(LARGEST_PIECE + 1, None);
    for (payload, body, expected) in [
        (&payload, "a\r\n".into(), "must begin with `size;chunk-signature=…`"),
        (&payload, format!("0xa;chunk-signature={signature}\r\n"), "must begin with"),
        (&payload, format!("a ;chunk-signature={signature}\r\n"), "must begin with"),
        (&payload, format!("a;x=y;chunk-signature={signature}\r\n"), "must begin with"),
        (&payload, format!("a;chunk-signature={}\r\n", "0".repeat(63)), "must begin with"),
        (&payload, format!("a;chunk-signature={}\r\n", "A".repeat(64)), "must begin with"),
        (&payload, format!("a;chunk-signature={signature}\n"), "does not end with CRLF"),
        (
            &payload,
            format!("b;chunk-signature={signature}\r\n"),
            "hold 11 bytes, but x-amz-decoded-content-length is 10",
        ),
        (&payload, format!("0;chunk-signature={signature}\r\n\r\n"), "hold 0 bytes"),
        (&payload, format!("ffffffffffffffff;chunk-signature={signature}\r\n"), "but x-amz-decoded-content-length"),
        (&payload, "a".repeat(2000), "longer than 1024"),
        (&payload, "a;chunk".into(), "ended before its last chunk"),
        (&payload, String::new(), "ended before its last chunk"),
        (&big, format!("400001;chunk-signature={signature}\r\n"), "chunk 1 has 4194305 bytes, and the largest"),
    ] {
        let (out, result) = passed(payload, &ends, body.as_bytes(), |_| usize::MAX);
        let error = result.expect_err(expected).to_string();
        assert!(out.is_empty() && error.contains(expected), "{body}\n  says: {error}\n  not:  {expected}");
    }
}

/// SigV4A's are padded, so that their length does not depend on chance.
#[test]
fn chunks_of_sigv4a_are_rebuilt_too() {
    for (pad_last, trailer) in [(true, false), (false, true)] {
        let payload = terms(5, trailer.then_some("x-amz-checksum-crc32"));
        let ends = ends(&payload, Algorithm::V4a);
        // A signer of its own, on the crate's key and ECDSA.
        let sign_all = |end: &End| {
            let key = aws_sigv4::sign::v4a::generate_signing_key(end.2.access_key_id(), end.2.secret_access_key());
            let stamp = Stamp::at(end.3).expect("in range");
            let mut last = end.1.clone();
            let mut body = Vec::new();
            let mut piece = |kind: &str, digests: &str| {
                let text = format!(
                    "AWS4-ECDSA-P256-SHA256-{kind}\n{}\n{}/s3/aws4_request\n{last}\n{digests}",
                    stamp.as_str(),
                    stamp.date()
                );
                let hex = aws_sigv4::sign::v4a::calculate_signature(key.as_ref(), text.as_bytes());
                let padded = format!("{hex:*<144}");
                last = if pad_last { padded.clone() } else { hex };
                padded
            };
            let empty = sha256_hex(b"");
            for chunk in [&b"hello"[..], b""] {
                let signature = piece("PAYLOAD", &format!("{empty}\n{}", sha256_hex(chunk)));
                body.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
                if !chunk.is_empty() {
                    body.extend_from_slice(&[chunk, b"\r\n"].concat());
                }
            }
            if trailer {
                let signature = piece("TRAILER", &sha256_hex(b"x-amz-checksum-crc32:AAAAAA==\n"));
                let text = format!("x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:{signature}\r\n");
                body.extend_from_slice(text.as_bytes());
            }
            body.extend_from_slice(b"\r\n");
            body
        };
        let came = sign_all(&ends.theirs);
        let (out, result) = passed(&payload, &ends, &came, |_| 50);
        assert_eq!((result, out.len()), (Ok(()), came.len()));
        // Ours are random: they are verified as theirs were, by taking our chain for an agent's.
        let again = Ends { theirs: ends.ours.clone(), ours: ends.theirs.clone() };
        assert_eq!(passed(&payload, &again, &out, |_| usize::MAX).1, Ok(()));
        let mut altered = came.clone();
        altered[170] ^= 1;
        assert!(passed(&payload, &ends, &altered, |_| usize::MAX).1.is_err());
    }
}

/// Events as the crate signs them.
fn events(end: &End, times: &[SystemTime]) -> Vec<u8> {
    let identity: Identity = end.2.clone().into();
    let (mut last, mut body) = (end.1.clone(), Vec::new());
    for (n, time) in times.iter().enumerate() {
        let params = SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name("s3")
            .time(*time)
            .settings(())
            .build()
            .expect("complete");
        let inner = Message::new(vec![b'x'; n * 1000]);
        let signed = if n + 1 == times.len() {
            aws_sigv4::event_stream::sign_empty_message(&last, &params)
        } else {
            aws_sigv4::event_stream::sign_message(&inner, &last, &params)
        };
        let (message, signature) = signed.expect("signed").into_parts();
        write_message_to(&message, &mut body).expect("written");
        last = signature;
    }
    body
}

#[test]
fn events_are_signed_anew_one_by_one() {
    let ends = ends(&Payload::Events, Algorithm::V4);
    // The agent's go past midnight; ours are all of one moment.
    let hours = |n: u64| ends.theirs.3 + Duration::from_secs(n * 3600);
    let came = events(&ends.theirs, &[hours(0), hours(1), hours(2), hours(3)]);
    let expected = events(&ends.ours, &[now(); 4]);
    for split in [1, 3, 100, usize::MAX] {
        let (out, result) = passed(&Payload::Events, &ends, &came, |_| split);
        assert_eq!(result, Ok(()), "{split}");
        assert!(out == expected, "{split}");
    }
    for at in (0..came.len()).step_by(5) {
        let mut altered = came.clone();
        altered[at] ^= 1;
        let (out, result) = passed(&Payload::Events, &ends, &altered, |_| usize::MAX);
        assert!(result.is_err() && expected.starts_with(&out) && out.len() <= at, "byte {at}: {result:?}");
    }
    let first = u32::from_be_bytes(came[..4].try_into().expect("four")) as usize;
    for (body, expected) in [
        (came[first..].to_vec(), "signature of event 1 does not match"),
        ([&came[..], b"\0\0\0\0"].concat(), "something follows the last one"),
        (came[..came.len() - 1].to_vec(), "the last one is not whole"),
        (b"\0\0\0\x01".to_vec(), "shorter than what every event has"),
        (b"\x7f\0\0\0".to_vec(), "event 1 has 2130706432 bytes"),
        (events(&ends.theirs, &[hours(30), hours(30)]), "hours away from this host's time"),
    ] {
        let error = passed(&Payload::Events, &ends, &body, |_| usize::MAX).1.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}\n  not: {expected}");
    }
    let mut plain = Vec::new();
    write_message_to(&Message::new(&b"x"[..]), &mut plain).expect("written");
    let error = passed(&Payload::Events, &ends, &plain, |_| usize::MAX).1.expect_err("unsigned").to_string();
    assert!(error.contains("must have the headers `:date` and `:chunk-signature`"), "{error}");
}
