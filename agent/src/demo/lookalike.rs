//! A look-alike of AWS for the demonstration: STS, S3, EC2 and Secrets Manager, small but strict.
//!
//! Owns a TLS listener and what its pretended account holds. Checks the signature of every request against the one
//! held key before it reads anything else in it, so a placeholder, or any other key, gets what AWS would answer.
//! Runs as tasks of the demonstration; it must never be reachable from outside its network namespace.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::DemoError;
use super::ca::Ca;
use crate::aws::sigv4::{self, Claim, Payload, SigningKeys};
use crate::credential::Secret;

mod chunked;
mod ec2;
mod s3;
mod secrets;
mod sts;

/// Account that the look-alike pretends to be.
pub const ACCOUNT: &str = "111122223333";
/// Largest body it takes.
const LARGEST_BODY: usize = 256 << 20;

/// The one key that opens it.
#[derive(Debug, Clone)]
pub struct HeldKey {
    pub access_key_id: String,
    pub secret_access_key: Secret,
}

/// A running look-alike.
#[derive(Debug, Clone)]
pub struct LookAlike {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    key: HeldKey,
    signing_keys: SigningKeys,
    accepted: AtomicU64,
    refused: AtomicU64,
    account: Mutex<Account>,
}

/// What the pretended account holds.
#[derive(Debug, Default)]
struct Account {
    s3: s3::Buckets,
    ec2: ec2::Instances,
}

/// A request whose signature is good.
struct Call {
    parts: request::Parts,
    claim: Claim,
    body: Bytes,
}

type Answer = Response<Full<Bytes>>;

impl LookAlike {
    /// Serves at `address`, with certificates of `ca`, whoever signs with `key`. The bucket exists from the start.
    pub async fn start(address: SocketAddr, ca: &Ca, key: HeldKey, bucket: &str) -> Result<Self, DemoError> {
        let mut account = Account::default();
        account.s3.create(bucket);
        let inner = Inner {
            key,
            signing_keys: SigningKeys::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            account: Mutex::new(account),
        };
        let this = Self { inner: Arc::new(inner) };
        let acceptor = TlsAcceptor::from(ca.server()?);
        let listener = TcpListener::bind(address).await.map_err(|source| DemoError::Listen { address, source })?;
        let serving = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, this) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        let this = this.clone();
                        async move { Ok::<_, Infallible>(this.answer(request).await) }
                    });
                    // A client that goes away in the middle is no fault of the look-alike.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(this)
    }

    /// Requests with a good signature, and those refused for want of one.
    pub fn counts(&self) -> (u64, u64) {
        (self.inner.accepted.load(Ordering::Relaxed), self.inner.refused.load(Ordering::Relaxed))
    }

    /// Instances that somebody managed to start.
    pub fn instances(&self) -> usize {
        self.account().ec2.count()
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, LARGEST_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                return xml_error(StatusCode::BAD_REQUEST, "IncompleteBody", "The body broke off or is too large.");
            }
        };
        let call = match self.authenticate(parts, body) {
            Ok(call) => call,
            Err(refusal) => {
                self.inner.refused.fetch_add(1, Ordering::Relaxed);
                return *refusal;
            }
        };
        self.inner.accepted.fetch_add(1, Ordering::Relaxed);
        let mut account = self.account();
        match call.claim.service.as_str() {
            "sts" => sts::answer(&call),
            "s3" => s3::answer(&mut account.s3, &call),
            "ec2" => ec2::answer(&mut account.ec2, &call),
            "secretsmanager" => secrets::answer(&call),
            other => {
                xml_error(StatusCode::NOT_FOUND, "UnknownService", &format!("This look-alike has no service {other}."))
            }
        }
    }

    /// As AWS does it: the key must be known, and the signature must be that key's over exactly this request.
    fn authenticate(&self, parts: request::Parts, body: Bytes) -> Result<Call, Box<Answer>> {
        let refuse = |code: &str, message: &str| Err(Box::new(xml_error(StatusCode::FORBIDDEN, code, message)));
        let claim = match sigv4::claim(&parts) {
            Ok(Some(claim)) => claim,
            Ok(None) => return refuse("MissingAuthenticationToken", "The request is not signed."),
            Err(e) => return refuse("IncompleteSignature", &e.to_string()),
        };
        if claim.access_key_id != self.inner.key.access_key_id {
            return refuse("InvalidClientTokenId", "The security token included in the request is invalid.");
        }
        let streaming = matches!(claim.payload, Payload::Unsigned | Payload::StreamingUnsignedTrailer);
        let digest = (!streaming).then(|| sigv4::sha256_hex(&body));
        if let (Payload::Hashed(declared), Some(digest)) = (&claim.payload, &digest)
            && declared != digest
        {
            return refuse("XAmzContentSHA256Mismatch", "The body is not the one that was signed.");
        }
        let given = sigv4::Given {
            body_sha256: digest.as_deref(),
            bucket: None,
            secret: &self.inner.key.secret_access_key,
            token: None,
            now: SystemTime::now(),
        };
        match sigv4::verify(&claim, &parts, &given, &self.inner.signing_keys) {
            // It reads no body in pieces, and Tollgate sends none unless an agent did.
            Ok(Some(_)) => refuse("NotImplemented", "The look-alike takes no signed chunks."),
            Ok(None) => Ok(Call { parts, claim, body }),
            Err(e) => refuse("SignatureDoesNotMatch", &e.to_string()),
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // A panic while it was held left nothing half done that matters here.
        self.inner.account.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Call {
    /// A parameter of a query-protocol request, from the body.
    fn form(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(&self.body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// A parameter of the query string; empty if it has no value.
    fn query(&self, name: &str) -> Option<String> {
        let query = self.parts.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }
}

fn respond(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    if let Ok(kind) = kind.parse() {
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    answer
}

fn xml(body: String) -> Answer {
    respond(StatusCode::OK, "text/xml", format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}"))
}

/// An error in the shape that the query protocol and S3 both understand.
fn xml_error(status: StatusCode, code: &str, message: &str) -> Answer {
    let (code, message) = (escape(code), escape(message));
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><Code>{code}</Code><Message>{message}</Message><RequestId>look-alike</RequestId></ErrorResponse>"
    );
    respond(status, "text/xml", body)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
