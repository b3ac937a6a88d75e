//! The held signature in the place of the agent's, over the head and over the pieces of the body.
//!
//! Owns which body goes up with which check. Runs on the exchange's task; the pieces are signed as they pass.

use bytes::Bytes;
use http::Request;

use super::refusal::{self, Refusal};
use super::{Exchange, Read};
use crate::aws::error::ErrorKind;
use crate::aws::operation::Operation;
use crate::aws::sigv4::{self, Algorithm, Chain, Claim, Payload, Pieces};
use crate::credential::Held;
use crate::gateway::body::{Check, RequestBody};
use crate::journal::Kind;

impl Exchange<'_> {
    /// The agent's request with the agent's signature gone and the held one in its place.
    pub(super) fn sign(
        &mut self,
        operation: &Operation,
        held: &Held,
        claim: &Claim,
        payload: Payload,
        theirs: Option<Chain>,
        body: Read,
    ) -> Result<Request<RequestBody>, Refusal> {
        let mut parts = self.outgoing();
        let order = sigv4::Order {
            payload: &payload,
            held,
            algorithm: claim.algorithm,
            token_kind: claim.token_kind,
            region: if claim.algorithm == Algorithm::V4a { &claim.region } else { &operation.region },
            signing_name: &operation.signing_name,
            now: self.started,
        };
        let signed = sigv4::sign(&mut parts, &order, &self.connection.core.signing_keys).map_err(|e| {
            Refusal::new(ErrorKind::Internal, "the request could not be signed, so it was not sent").with_detail(e)
        })?;
        let pieces = theirs.zip(signed.chain).and_then(|(theirs, ours)| Pieces::new(&payload, theirs, ours));
        let body = match (body, payload, pieces) {
            (Read::Whole(bytes), _, Some(pieces)) => RequestBody::Whole(self.resign(bytes, pieces)?),
            (Read::Whole(bytes), ..) => RequestBody::Whole(bytes),
            (Read::Stream(incoming), payload, pieces) => {
                let check = match (payload, pieces) {
                    (Payload::Hashed(hex), _) => Check::Hash(Box::default(), hex),
                    (_, Some(pieces)) => Check::Pieces(Box::new(pieces), false),
                    _ => Check::None,
                };
                let late = matches!(check, Check::Pieces(..)).then(|| {
                    let mut event = self.event(Kind::Refused, operation, &[]);
                    event.exchange = self.recorded.map(|id| id.0);
                    (self.connection.core.clone(), event)
                });
                RequestBody::stream(incoming, check, self.passage.clone(), late)
            }
        };
        Ok(Request::from_parts(parts, body))
    }

    /// A body in pieces that has been read whole.
    fn resign(&self, bytes: Bytes, mut pieces: Pieces) -> Result<Bytes, Refusal> {
        let mut resigned = Vec::with_capacity(bytes.len());
        pieces.push(bytes, self.started).and_then(|()| pieces.end()).map_err(|e| refusal::of_pieces(&e))?;
        while let Some(piece) = pieces.pop() {
            resigned.extend_from_slice(&piece);
        }
        Ok(resigned.into())
    }
}
