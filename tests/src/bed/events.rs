//! An endpoint for event streams both ways: verifies the request and each of its events by the `aws-sigv4` crate, and
//! says every event back at once. HTTP/2 or HTTP/1.1.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use aws_credential_types::Credentials;
use aws_sigv4::event_stream::{sign_empty_message, sign_message};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder, read_message_from, write_message_to};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::ca::{AWS_NAMES, Ca};
use super::moto::Key;

const REGION: &str = "us-east-1";
const SERVICE: &str = "bedrock";

pub async fn serve(ca: &Ca, key: &Key) -> anyhow::Result<SocketAddr> {
    let acceptor = TlsAcceptor::from(ca.server(&AWS_NAMES, &[b"h2", b"http/1.1"])?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the event streams")?;
    let address = listener.local_addr()?;
    let key = key.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, key) = (acceptor.clone(), key.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| answer(request, key.clone()));
                // A client that goes away in the middle is no fault of the server.
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

/// Frames as somebody else makes them.
struct Told(mpsc::Receiver<Bytes>);

impl Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|told| told.map(|bytes| Ok(Frame::data(bytes))))
    }
}

async fn answer(request: Request<Incoming>, key: Key) -> Result<Response<Told>, Infallible> {
    let (parts, body) = request.into_parts();
    let credentials = Credentials::new(key.access_key_id, key.secret_access_key, None, None, "test");
    let (tell, told) = mpsc::channel(16);
    let seed = verified(&parts, &credentials);
    let status = if seed.is_ok() { 200 } else { 403 };
    tokio::spawn(async move {
        let result = match seed {
            Ok(seed) => echo(body, seed, &credentials, &tell).await,
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            let text = serde_json::json!({ "message": format!("{e:#}") }).to_string();
            let text = if status == 403 { text.into() } else { event("exception", "validationException", text.into()) };
            let _ = tell.send(text).await;
        }
    });
    let kind = if status == 200 { "application/vnd.amazon.eventstream" } else { "application/json" };
    let response = Response::builder().status(status).header("content-type", kind).body(Told(told));
    Ok(response.expect("a response"))
}

/// The signature of the head, which is that of the crate.
fn verified(parts: &Parts, credentials: &Credentials) -> anyhow::Result<String> {
    let header =
        |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).with_context(|| format!("no {name}"));
    let authorization = header("authorization")?.to_owned();
    let signed =
        authorization.split("SignedHeaders=").nth(1).and_then(|r| r.split(',').next()).context("no headers")?;
    let payload = header("x-amz-content-sha256")?;
    ensure!(payload == "STREAMING-AWS4-HMAC-SHA256-EVENTS", "the payload is `{payload}`");
    let d = header("x-amz-date")?;
    ensure!(d.len() == 16, "the date is `{d}`");
    let rfc = format!("{}-{}-{}T{}:{}:{}Z", &d[..4], &d[4..6], &d[6..8], &d[9..11], &d[11..13], &d[13..15]);
    let time = SystemTime::try_from(DateTime::from_str(&rfc, Format::DateTime)?)?;
    let identity: Identity = credentials.clone().into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(SERVICE)
        .time(time)
        .settings(settings)
        .build()?
        .into();
    let host = parts.uri.authority().map(|a| a.as_str()).map_or_else(|| header("host"), Ok)?;
    let own = ["x-amz-date", "x-amz-content-sha256", "host"];
    let covered = signed.split(';').filter(|n| !own.contains(n));
    let covered = covered.map(|n| Ok((n, header(n)?))).collect::<anyhow::Result<Vec<_>>>()?;
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let body = SignableBody::Precomputed(payload.to_owned());
    let uri = format!("https://{host}{path}");
    let request = SignableRequest::new(parts.method.as_str(), uri, covered.into_iter(), body)?;
    let (_, signature) = sign(request, &params)?.into_parts();
    ensure!(authorization.ends_with(&format!("Signature={signature}")), "SignatureDoesNotMatch: {authorization}");
    Ok(signature)
}

async fn echo(
    mut body: Incoming,
    mut last: String,
    credentials: &Credentials,
    tell: &mpsc::Sender<Bytes>,
) -> anyhow::Result<()> {
    let identity: Identity = credentials.clone().into();
    let (mut decoder, mut buffer) = (MessageFrameDecoder::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let DecodedFrame::Complete(outer) = decoder.decode_frame(&mut buffer)? {
            let date = outer.headers().iter().find(|h| h.name().as_str() == ":date").context("no :date")?;
            let HeaderValue::Timestamp(date) = date.value() else { anyhow::bail!(":date is no time") };
            let params = SigningParams::builder()
                .identity(&identity)
                .region(REGION)
                .name(SERVICE)
                .time(SystemTime::try_from(*date)?)
                .settings(())
                .build()?;
            let inner = match outer.payload().clone() {
                payload if payload.is_empty() => None,
                mut payload => Some(read_message_from(&mut payload)?),
            };
            let (expected, signature) = match &inner {
                Some(inner) => sign_message(inner, &last, &params),
                None => sign_empty_message(&last, &params),
            }?
            .into_parts();
            let of = |m: &Message| m.headers().iter().find(|h| h.name().as_str() == ":chunk-signature").cloned();
            ensure!(of(&outer) == of(&expected), "SignatureDoesNotMatch: an event's");
            last = signature;
            let Some(inner) = inner else { return Ok(()) };
            tell.send(event("event", "chunk", inner.payload().clone())).await?;
        }
    }
    anyhow::bail!("the stream ended without its last event")
}

fn event(kind: &str, name: &str, payload: Bytes) -> Bytes {
    let header = |n: &str, v: &str| Header::new(n.to_owned(), HeaderValue::String(v.to_owned().into()));
    let named = if kind == "event" { ":event-type" } else { ":exception-type" };
    let message = Message::new(payload)
        .add_header(header(":message-type", kind))
        .add_header(header(named, name))
        .add_header(header(":content-type", "application/json"));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).expect("a short event");
    bytes.into()
}
