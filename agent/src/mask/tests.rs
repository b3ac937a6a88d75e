//! Every protocol and encoding, cut at every byte: the same comes out, and nothing secret.

use std::io::Write as _;

use super::plan::{Answer, View};
use super::stream::Stream;
use super::token::{Keyed, Master};
use super::{MaskError, Masks, When};
use crate::aws::model::{self, Input};
use crate::aws::operation::{AccessLevel, Need, Operation, Protocol};

mod forms;
mod operations;

pub(super) const SECRET: &str = "hunter2-is-a-secret";

pub(super) fn key() -> Keyed {
    Master::new([7; 32]).kept("s-1")
}

pub(super) fn token(value: &str) -> String {
    key().of(value.as_bytes()).text()
}

pub(super) fn masks(text: &str) -> Masks {
    Masks::parse("masks.toml", text, When::Asked, Vec::new())
        .unwrap_or_else(|e| panic!("{}", e.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// An operation as the gateway would have it.
pub(super) fn operation(service: &str, name: &str, protocol: Protocol) -> Operation {
    let (_, found) = model::index().and_then(|i| i.service(service)).expect(service);
    let detail = found.detail().expect("sound");
    let op = detail.operation(name).expect(name);
    Operation {
        service: found.iam.to_owned(),
        name: name.to_owned(),
        signing_name: found.signing[0].to_owned(),
        region: "us-east-1".into(),
        partition: "aws",
        protocol,
        needs: op.actions().map(|a| Need::new(a, vec!["arn:aws:x:us-east-1:1:y/z".into()])).collect(),
        access: AccessLevel::Read,
        parameters: serde_json::Map::new(),
        input: Some(Input { detail, op }),
        credentials_in_output: false,
    }
}

/// What comes out of a body that comes in pieces of `step` bytes.
pub(super) fn through(view: &View, answer: &Answer<'_>, body: &[u8], step: usize) -> Result<Vec<u8>, MaskError> {
    let Some(mut stream) = view.stream(answer, key())? else { return Ok(body.to_vec()) };
    let mut out = Vec::new();
    for piece in body.chunks(step.max(1)) {
        stream.push(piece, &mut out)?;
    }
    stream.finish(&mut out)?;
    Ok(out)
}

/// The same in one piece, in bytes by themselves, and cut in two at every byte.
pub(super) fn cut_everywhere(view: &View, answer: &Answer<'_>, body: &[u8]) -> Result<Vec<u8>, MaskError> {
    let whole = through(view, answer, body, body.len());
    assert_eq!(through(view, answer, body, 1), whole, "byte by byte");
    for at in 1..body.len() {
        let two = |stream: Option<Stream>| -> Result<Vec<u8>, MaskError> {
            let Some(mut stream) = stream else { return Ok(body.to_vec()) };
            let mut out = Vec::new();
            stream.push(&body[..at], &mut out)?;
            stream.push(&body[at..], &mut out)?;
            stream.finish(&mut out)?;
            Ok(out)
        };
        assert_eq!(view.stream(answer, key()).and_then(two), whole, "cut at {at}");
    }
    whole
}

pub(super) fn json_answer() -> Answer<'static> {
    Answer { content_type: Some("application/json"), ..Answer::default() }
}

#[test]
fn every_encoding_is_taken_off_and_a_bomb_is_seen() {
    let masks = Masks::none(When::Asked, Vec::new());
    let view = masks
        .agent(&operation("secretsmanager", "GetSecretValue", Protocol::Json11), Some("secrets"))
        .expect("it hides");
    let body = format!(r#"{{"Name":"n","SecretString":"{SECRET}","Fill":"{}"}}"#, "abc ".repeat(3000));
    let expected = through(&view, &json_answer(), body.as_bytes(), 7).expect("masked");
    assert!(!String::from_utf8_lossy(&expected).contains(SECRET));
    let bomb = format!("{}{}", " ".repeat(600 << 20 >> 4), body);
    for name in ["gzip", "x-gzip", "deflate", "br", "zstd", "GZIP", "aws-chunked,gzip"] {
        let packed = packed(name, body.as_bytes());
        let answer = Answer { content_encoding: Some(name), ..json_answer() };
        for step in [1, 3, 1000, packed.len()] {
            assert_eq!(through(&view, &answer, &packed, step).as_ref(), Ok(&expected), "{name}, {step}");
        }
        assert!(through(&view, &answer, &packed[..packed.len() - 9], 100).is_err(), "{name}, cut short");
        assert!(through(&view, &answer, b"not packed at all, whatever they say", 100).is_err(), "{name}");
    }
    for name in ["gzip", "br", "zstd"] {
        let answer = Answer { content_encoding: Some(name), ..json_answer() };
        let error = through(&view, &answer, &self::packed(name, bomb.as_bytes()), 1 << 16).err();
        assert_eq!(error, Some(MaskError::Limit("it unpacks to far more than came")), "{name}");
    }
    // `deflate` as some servers have it, without zlib's head.
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    raw.write_all(body.as_bytes()).expect("packed");
    let answer = Answer { content_encoding: Some("deflate"), ..json_answer() };
    assert_eq!(through(&view, &answer, &raw.finish().expect("packed"), 10), Ok(expected));
    for (name, refused) in [("rot13", true), ("gzip, gzip", true), ("identity", false), ("aws-chunked", false)] {
        let answer = Answer { content_encoding: Some(name), ..json_answer() };
        assert_eq!(through(&view, &answer, body.as_bytes(), 99).is_err(), refused, "{name}");
    }
}

pub(super) fn packed(name: &str, body: &[u8]) -> Vec<u8> {
    match name {
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).and_then(|()| encoder.finish()).expect("packed")
        }
        "br" => {
            let mut out = Vec::new();
            let params = brotli::enc::BrotliEncoderParams { quality: 3, ..Default::default() };
            brotli::BrotliCompress(&mut &body[..], &mut out, &params).expect("packed");
            out
        }
        "zstd" => zstd::bulk::compress(body, 1).expect("packed"),
        _ => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(body).and_then(|()| encoder.finish()).expect("packed")
        }
    }
}
