//! The endpoint's answer on its way to the agent: masked if so decided, else as it streams.
//!
//! Owns what is taken out of the head of an answer. Runs on the exchange's task.

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Response, Version, header};
use http_body_util::{BodyExt, Limited};

use super::Exchange;
use super::form::strip_hop_by_hop;
use super::refusal::Refusal;
use crate::aws::error::ErrorKind;
use crate::aws::handout::{self, Treatment};
use crate::aws::operation::Operation;
use crate::credential::Held;
use crate::gateway::body::{Completion, ResponseBody, at_end};
use crate::gateway::upstream::UpstreamBody;
use crate::policy::Decision;
use crate::record::ExchangeId;

impl Exchange<'_> {
    /// The endpoint's answer: masked if so decided, else as it streams.
    pub(super) async fn answer(
        &self,
        response: Response<UpstreamBody>,
        operation: &Operation,
        decision: &Decision,
        held: Option<&Held>,
        id: ExchangeId,
    ) -> Result<Response<ResponseBody>, Refusal> {
        self.passage.answered.store(true, std::sync::atomic::Ordering::Relaxed);
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        parts.headers.remove(header::TRANSFER_ENCODING);
        // An invitation to QUIC, which is refused in a tag, would only cost the agent time.
        parts.headers.remove(header::ALT_SVC);
        parts.version = Version::HTTP_11;
        let aws_id = ["x-amzn-requestid", "x-amz-request-id"]
            .iter()
            .find_map(|h| parts.headers.get(*h)?.to_str().ok())
            .map(str::to_owned);
        let mut completion = Completion::new(
            self.connection.core.store.clone(),
            id,
            parts.status.as_u16(),
            aws_id,
            self.passage.clone(),
        );
        if let Some(Treatment::Placeholder(sites)) = handout::of(operation).map(|h| &h.treatment)
            && parts.status.is_success()
        {
            return self.exchanged(parts, body, (operation, sites), decision, held, completion).await;
        }
        if parts.status.is_success()
            && let Some(view) = self.view(operation, decision)
        {
            return self.masked(parts, body, (operation, &view), completion).await;
        }
        if at_end(&body) || self.parts.method == http::Method::HEAD {
            completion.set_complete();
        } else if let Some(held) = held
            && (parts.status.is_client_error() || parts.status.is_server_error())
        {
            return scrubbed(parts, body, held, completion).await;
        }
        Ok(Response::from_parts(parts, ResponseBody::Stream(body, Box::new(completion))))
    }
}

/// Longest answer to a failed request; AWS's own are below 10 KiB.
const LONGEST_ERROR: usize = 1 << 20;

/// The answer to a failed request, without what it was signed with: an endpoint that does not take a signature says what
/// it signed itself, our key's id and session token among it.
async fn scrubbed<B>(
    mut parts: http::response::Parts,
    body: B,
    held: &Held,
    completion: Completion,
) -> Result<Response<ResponseBody>, Refusal>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = match Limited::new(body, LONGEST_ERROR).collect().await {
        Err(e) => Err(e.to_string()),
        Ok(_) if parts.headers.contains_key(header::CONTENT_ENCODING) => Err("it is compressed".into()),
        Ok(whole) => Ok(whole.to_bytes()),
    };
    match whole {
        Ok(bytes) => {
            let before = bytes.len();
            let bytes = without_credentials(bytes, held);
            if bytes.len() != before {
                parts.headers.remove(header::CONTENT_LENGTH);
                parts.headers.remove("x-amz-crc32");
            }
            completion.finish(bytes.len() as u64);
            Ok(Response::from_parts(parts, ResponseBody::Whole(bytes)))
        }
        Err(why) => {
            completion.give_up();
            let sentence = "the endpoint refused the request, and its answer could not be read, so it is not passed on";
            Err(Refusal::new(ErrorKind::AccessDenied, sentence).with_detail(format!(
                "the endpoint answered {}, and that cannot be read: {why}",
                parts.status.as_u16()
            )))
        }
    }
}

/// Hides key id and session token, in each spelling that an error may have them in.
fn without_credentials(bytes: Bytes, held: &Held) -> Bytes {
    let token = held.session_token.as_ref().map(|t| t.expose());
    let mut text: Option<String> = None;
    for secret in [Some(held.access_key_id.as_str()), token].into_iter().flatten() {
        let encoded = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
        let slashed = secret.replace('/', "\\/");
        for spelling in [secret, &slashed, &encoded, &encoded.replace("%2D", "-").replace("%5F", "_")] {
            let found = match &text {
                Some(text) => text.contains(spelling),
                None => bytes.windows(spelling.len()).any(|w| w == spelling.as_bytes()),
            };
            if found {
                let now = text.take().unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
                text = Some(now.replace(spelling, "hidden-by-tollgate"));
            }
        }
    }
    text.map_or(bytes, Bytes::from)
}

/// Takes out what speaks of the bytes that were there before others took their place.
pub(super) fn forget_checksums(headers: &mut HeaderMap) {
    for stale in [
        "content-length",
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
        "x-amz-crc32",
        "x-amz-decoded-content-length",
    ] {
        headers.remove(stale);
    }
    let checksums: Vec<HeaderName> =
        headers.keys().filter(|k| k.as_str().starts_with("x-amz-checksum-")).cloned().collect();
    for name in checksums {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_say_what_it_was_signed_with() {
        let held = Held {
            access_key_id: "ASIAHELDHELDHELDHELD".into(),
            secret_access_key: crate::credential::Secret::new("s"),
            session_token: Some(crate::credential::Secret::new("tok/en+with==")),
            expires: None,
            account: None,
        };
        let hide = |text: &str| {
            let bytes = without_credentials(Bytes::copy_from_slice(text.as_bytes()), &held);
            String::from_utf8(bytes.to_vec()).expect("UTF-8")
        };
        assert_eq!(hide("<a>ASIAHELDHELDHELDHELD</a>"), "<a>hidden-by-tollgate</a>");
        assert_eq!(hide("x-amz-security-token:tok/en+with==\n"), "x-amz-security-token:hidden-by-tollgate\n");
        assert_eq!(hide(r#"{"m":"tok\/en+with=="}"#), r#"{"m":"hidden-by-tollgate"}"#);
        assert_eq!(hide("t=tok%2Fen%2Bwith%3D%3D&"), "t=hidden-by-tollgate&");
        assert_eq!(hide("nothing of ours"), "nothing of ours");
    }
}
