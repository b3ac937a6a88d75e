//! Answers on their way through the masker: heads, outcomes, and what breaks off.

use std::sync::Arc;
use std::time::SystemTime;

use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};

use super::*;
use crate::mask::{Masks, Master, When};
use crate::record::testing;
use crate::record::{ExchangeId, Outcome, Reader};

/// A view of an operation that is not known, by its protocol: names alone say what is secret.
fn view(protocol: crate::aws::operation::Protocol) -> View {
    let operation = Operation {
        service: "unknown".into(),
        name: "unknown".into(),
        signing_name: "x".into(),
        region: "us-east-1".into(),
        partition: "aws",
        protocol,
        needs: Vec::new(),
        access: crate::aws::AccessLevel::Unknown,
        parameters: serde_json::Map::new(),
        input: None,
        credentials_in_output: false,
    };
    Masks::none(When::Asked, Vec::new()).agent(&operation, Some("secrets")).expect("something to hide")
}

fn key() -> Keyed {
    Master::new([1; 32]).kept("s-1")
}

/// What becomes of a body of JSON, with the store and the exchange it was for; `None`: it goes on as a stream.
async fn attempt(
    builder: response::Builder,
    body: impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin,
) -> (testing::Scratch, ExchangeId, Result<Option<Response<Bytes>>, Refusal>) {
    let scratch = testing::Scratch::open();
    let id = scratch.store.intent(testing::intent(&scratch.session, 1)).await.expect("written");
    let completion = Completion::new(scratch.store.clone(), id, 200, Some("aws-1".into()), Arc::default());
    let (parts, body) = builder.header("content-type", "application/json").body(body).expect("a response").into_parts();
    let stream = match stream(&parts, &view(crate::aws::operation::Protocol::Json11), key()) {
        Ok(stream) => stream.expect("something to hide"),
        Err(e) => {
            let refusal = unreadable(&parts, &e, completion);
            return (scratch, id, Err(refusal));
        }
    };
    let went_on = std::cell::Cell::new(false);
    let result = veiled(parts, body, stream, false, completion, |_, _, ready, _| {
        went_on.set(true);
        ResponseBody::Whole(ready)
    })
    .await;
    let result = match result {
        Ok(_) if went_on.get() => Ok(None),
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.map(|b| b.to_bytes()).unwrap_or_else(|e| panic!("{e}"));
            Ok(Some(Response::from_parts(parts, bytes)))
        }
        Err(refusal) => Err(refusal),
    };
    (scratch, id, result)
}

#[tokio::test]
async fn an_answer_that_cannot_be_masked_leaves_one_outcome_the_refusal() {
    let packed = Response::builder().header("content-encoding", "rot13");
    for (builder, body) in [(Response::builder(), "no JSON"), (packed, "{}")] {
        let (scratch, id, result) = attempt(builder, Full::new(Bytes::from(body))).await;
        let refusal = result.expect_err("it is not passed on");
        assert_eq!(refusal.kind, ErrorKind::AccessDenied);
        let detail = refusal.detail.expect("said to the operator");
        assert!(detail.contains("answered 200, request aws-1"), "{detail}");
        // As `refuse` does.
        scratch.store.outcome(
            id,
            Outcome {
                status: 403,
                request_id: None,
                bytes_sent: 0,
                bytes_received: 0,
                ended: SystemTime::now(),
                error: Some(detail),
            },
        );
        scratch.store.flush().await;
        let reader = Reader::open(scratch.store.path()).expect("opens");
        let (links, _) = reader.verify(scratch.store.laid_out()).expect("reads").expect("nobody tampered");
        assert_eq!(links, 2, "an intent and one outcome");
        assert_eq!(reader.exchanges(scratch.session.as_str()).expect("reads")[0].status, Some(403));
    }
}

#[tokio::test]
async fn checksums_are_right_or_gone() {
    let head = || {
        Response::builder()
            .header("content-length", "99")
            .header("x-amz-crc32", "1")
            .header("x-amz-checksum-crc64nvme", "AAAA")
            .header("content-md5", "AAAA")
            .header("x-amzn-requestid", "aws-1")
    };
    let (scratch, _, result) = attempt(head(), Full::new(Bytes::from(r#"{"SecretString":"hush"}"#))).await;
    let response = result.map_err(|r| r.message).expect("masked").expect("whole");
    assert!(!String::from_utf8_lossy(response.body()).contains("hush"));
    assert_eq!(response.headers()["x-amz-crc32"], crc32fast::hash(response.body()).to_string());
    for gone in ["content-length", "x-amz-checksum-crc64nvme", "content-md5"] {
        assert!(!response.headers().contains_key(gone), "{gone}");
    }
    assert_eq!(response.headers()["x-amzn-requestid"], "aws-1");
    scratch.store.flush().await;
    let rows = Reader::open(scratch.store.path()).and_then(|r| r.exchanges(scratch.session.as_str()));
    assert_eq!(rows.expect("reads")[0].status, Some(200));
    // Nothing was hidden: nothing is different.
    let (_, _, result) = attempt(head(), Full::new(Bytes::from(r#"{"Name":"n"}"#))).await;
    let response = result.map_err(|r| r.message).expect("masked").expect("whole");
    assert_eq!(
        (&response.headers()["x-amz-crc32"], &response.headers()["content-length"]),
        (&"1".parse().unwrap(), &"99".parse().unwrap())
    );
}

#[tokio::test]
async fn a_long_answer_goes_on_before_its_end() {
    let piece = |n: usize| Bytes::from(format!("{}{{\"n\":\"{}\"}}", if n == 0 { '[' } else { ',' }, "x".repeat(1000)));
    let frames = (0..10_000).map(move |n| Ok::<_, std::convert::Infallible>(Frame::data(piece(n))));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let (_, _, result) = attempt(Response::builder(), body).await;
    assert!(result.map_err(|r| r.message).expect("masked").is_none());
}

#[test]
fn a_part_is_refused() {
    let (parts, ()) = Response::builder()
        .status(206)
        .header("content-type", "application/json")
        .body(())
        .expect("a response")
        .into_parts();
    let why = stream(&parts, &view(crate::aws::operation::Protocol::Json11), key()).expect_err("refused");
    assert!(why.contains("a part of something"), "{why}");
}
