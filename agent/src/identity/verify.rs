//! Verification: a token and the configured issuers → a principal, or why not.
//!
//! Owns the order of the checks. What the token says before its signature is verified only selects the issuer and
//! the key. Runs on the task that asks; waits for the provider if its keys are not at hand.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::keys::{Choice, choose};
use super::provider::{KeySet, Patience, Provider};
use super::token::{Draft, asymmetric, printable};
use super::{IdentityError, Principal, claims};
use crate::config::{Identity, Issuer};
use crate::credential::Secret;

/// Verifies tokens of the configured issuers.
pub struct Verifier {
    issuers: Vec<Trusted>,
}

struct Trusted {
    provider: Provider,
    algorithms: Vec<Algorithm>,
}

impl Verifier {
    /// Reads the roots, but asks no provider yet: a provider that is down must not keep the daemon from starting.
    pub fn new(config: &Identity) -> Result<Self, IdentityError> {
        Self::with_patience(config, Patience::default())
    }

    pub(super) fn with_patience(config: &Identity, patience: Patience) -> Result<Self, IdentityError> {
        let issuers = config
            .issuers
            .iter()
            .map(|issuer| {
                let algorithms = algorithms(issuer)?;
                Ok(Trusted { provider: Provider::new(issuer.clone(), patience)?, algorithms })
            })
            .collect::<Result<_, IdentityError>>()?;
        Ok(Self { issuers })
    }

    /// The principal that `token` stands for. Surrounding white space does not count.
    pub async fn verify(&self, token: &str) -> Result<Principal, IdentityError> {
        let draft = Draft::parse(token)?;
        let trusted = self
            .issuers
            .iter()
            .find(|t| t.provider.is_named(&draft.issuer))
            .ok_or_else(|| IdentityError::UnknownIssuer(printable(&draft.issuer)))?;
        let algorithm = trusted.algorithm(&draft)?;
        let keys = trusted.provider.keys().await?;
        let claims = match trusted.attempt(&draft, algorithm, &keys) {
            Attempt::Done(claims) => claims,
            Attempt::Failed(e) => return Err(e),
            Attempt::OtherKey(e) => match trusted.provider.newer(&keys).await {
                None => return Err(e),
                Some(newer) => match trusted.attempt(&draft, algorithm, &newer) {
                    Attempt::Done(claims) => claims,
                    Attempt::Failed(e) | Attempt::OtherKey(e) => return Err(e),
                },
            },
        };
        let principal = claims::principal(&draft.issuer, &trusted.provider.config, claims)?;
        Ok(Principal { token: Some(Secret::new(draft.text)), ..principal })
    }
}

/// What came of trying one key set.
enum Attempt {
    Done(Map<String, Value>),
    Failed(IdentityError),
    /// The key may have been published since.
    OtherKey(IdentityError),
}

impl Trusted {
    fn algorithm(&self, draft: &Draft<'_>) -> Result<Algorithm, IdentityError> {
        draft.algorithm.known.filter(|a| self.algorithms.contains(a)).ok_or_else(|| IdentityError::Algorithm {
            algorithm: draft.algorithm.name.clone(),
            issuer: self.provider.config.url.to_string(),
            allowed: self.provider.config.algorithms.join(", "),
        })
    }

    fn attempt(&self, draft: &Draft<'_>, algorithm: Algorithm, set: &Arc<KeySet>) -> Attempt {
        let issuer = &set.issuer;
        // The discovery document has the last word on how this provider writes its own name.
        if draft.issuer != *issuer {
            return Attempt::Failed(IdentityError::Claim {
                claim: "iss".into(),
                problem: format!("is `{}`, and the provider calls itself `{issuer}`", printable(&draft.issuer)),
            });
        }
        let unknown = |key: String| IdentityError::UnknownKey {
            issuer: issuer.clone(),
            key,
            algorithm: draft.algorithm.name.clone(),
        };
        let named = || draft.kid.as_deref().map_or("without a `kid`".into(), |k| format!("`{}`", printable(k)));
        match choose(&set.keys, draft.kid.as_deref(), algorithm) {
            Choice::Key(key) => match self.decode(draft, algorithm, &key.decoding, issuer) {
                Ok(claims) => Attempt::Done(claims),
                // Without a key id, a rotated key looks like a wrong signature.
                Err(e @ IdentityError::Signature(_)) if draft.kid.is_none() => Attempt::OtherKey(e),
                Err(e) => Attempt::Failed(e),
            },
            Choice::Unknown => Attempt::OtherKey(unknown(named())),
            Choice::Mismatch if draft.kid.is_none() => Attempt::OtherKey(unknown(named())),
            Choice::Mismatch => Attempt::Failed(unknown(named())),
            Choice::Ambiguous => Attempt::Failed(unknown("that the token names unambiguously".into())),
        }
    }

    fn decode(
        &self,
        draft: &Draft<'_>,
        algorithm: Algorithm,
        key: &DecodingKey,
        issuer: &str,
    ) -> Result<Map<String, Value>, IdentityError> {
        let config = &self.provider.config;
        let mut rules = Validation::new(algorithm);
        rules.set_issuer(&[issuer]);
        rules.set_audience(&config.audience);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.validate_nbf = true;
        rules.leeway = config.leeway.as_secs();
        match jsonwebtoken::decode(draft.text, key, &rules) {
            Ok(data) => Ok(data.claims),
            Err(e) => Err(self.explain(e.into_kind(), issuer)),
        }
    }

    fn explain(&self, kind: ErrorKind, issuer: &str) -> IdentityError {
        let claim = |claim: &str, problem: &str| IdentityError::Claim { claim: claim.into(), problem: problem.into() };
        match kind {
            ErrorKind::InvalidSignature => IdentityError::Signature(issuer.into()),
            ErrorKind::ExpiredSignature => IdentityError::Expired,
            ErrorKind::ImmatureSignature => IdentityError::NotYetValid,
            ErrorKind::InvalidAudience => IdentityError::Audience {
                issuer: issuer.into(),
                expected: self.provider.config.audience.iter().map(|a| format!("`{a}`")).collect::<Vec<_>>().join(", "),
            },
            ErrorKind::InvalidIssuer => claim("iss", "is not the issuer's"),
            ErrorKind::MissingRequiredClaim(name) => claim(&name, "is missing or of the wrong type"),
            ErrorKind::InvalidClaimFormat(name) => claim(&name, "is of the wrong type"),
            other => IdentityError::Malformed(printable(&format!("{other:?}"))),
        }
    }
}

fn algorithms(issuer: &Issuer) -> Result<Vec<Algorithm>, IdentityError> {
    issuer
        .algorithms
        .iter()
        .map(|name| {
            name.parse().ok().filter(|a| asymmetric(*a)).ok_or_else(|| IdentityError::Issuer {
                issuer: issuer.url.to_string(),
                message: format!("`algorithms` contains `{name}`, which is not an asymmetric algorithm we know"),
            })
        })
        .collect()
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.issuers.iter().map(|t| t.provider.config.url.as_str())).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::super::testing::{Issuer as Idp, Pair, now};
    use super::*;

    const EAGER: Patience = Patience {
        timeout: Duration::from_secs(2),
        stale: Duration::from_millis(300),
        retry: Duration::ZERO,
        burst: 100,
        refill: Duration::from_secs(1),
    };

    async fn refusal(idp: &Idp, token: &str) -> IdentityError {
        idp.verifier().verify(token).await.unwrap_err()
    }

    #[tokio::test]
    async fn takes_a_good_token_of_each_kind_of_key() {
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            let idp = Idp::with_key(Pair::new("k", algorithm)).await;
            let principal = idp.verifier().verify(&format!("{}\n", idp.token("alice"))).await.unwrap();
            assert_eq!(principal.subject, "alice");
            assert_eq!(principal.issuer.as_deref(), Some(idp.url.as_str()));
            assert_eq!(principal.groups, ["readers"]);
            assert!(!principal.is_expired(std::time::SystemTime::now()));
            assert_eq!(principal.claims["aud"], json!("tollgate"));
        }
    }

    #[tokio::test]
    async fn asks_the_provider_once_for_many_tokens() {
        let idp = Idp::start().await;
        let verifier = Arc::new(idp.verifier());
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let (verifier, token) = (verifier.clone(), idp.token(&n.to_string()));
                tokio::spawn(async move { verifier.verify(&token).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(idp.asked.load(Ordering::Relaxed), 2, "one discovery document and one key set");
    }

    #[tokio::test]
    async fn refuses_wrong_claims() {
        let idp = Idp::start().await;
        let verifier = idp.verifier();
        let text = |v: &str| json!(v);
        for (claim, value, expected) in [
            ("exp", json!(now() - 60), "has expired"),
            ("exp", json!(null), "`exp` is missing or of the wrong type"),
            ("exp", text("4102444800"), "`exp` is missing or of the wrong type"),
            ("exp", json!(-1), "`exp` is missing or of the wrong type"),
            ("exp", json!(u64::MAX), "`exp` is missing or not a time"),
            ("nbf", json!(now() + 60), "does not count yet"),
            ("nbf", text("x"), "`nbf` is of the wrong type"),
            ("aud", text("other"), "for another audience than `tollgate`"),
            ("aud", json!(["a", "b"]), "for another audience"),
            ("aud", json!([]), "for another audience"),
            ("aud", json!(null), "`aud` is missing"),
            ("aud", json!({"tollgate": 1}), "`aud` is missing or of the wrong type"),
            ("iss", text("https://evil.example"), "issuer `https://evil.example` is not configured"),
            ("iss", text(&format!("{}.evil.example", idp.url)), "is not configured"),
            ("iss", text(&format!("{}/", idp.url)), "the provider calls itself"),
            ("sub", json!(null), "`sub` is missing"),
            ("groups", json!(true), "`groups` is neither text nor a list"),
        ] {
            let mut claims = idp.claims("alice");
            claims[claim] = value.clone();
            let message = verifier.verify(&idp.key.sign(&idp.key.header(), &claims)).await.unwrap_err().to_string();
            assert!(message.contains(expected), "{claim} = {value}: {message}");
        }
        let mut claims = idp.claims("alice");
        claims["aud"] = json!(["other", "tollgate"]);
        verifier.verify(&idp.key.sign(&idp.key.header(), &claims)).await.unwrap();
    }

    #[tokio::test]
    async fn refuses_an_altered_token_and_a_strangers_key() {
        let idp = Idp::start().await;
        let token = idp.token("alice");
        let parts: Vec<&str> = token.split('.').collect();
        let mut claims = idp.claims("root");
        claims["groups"] = json!(["admins"]);
        let altered = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]);
        assert!(matches!(refusal(&idp, &altered).await, IdentityError::Signature(_)));
        let stranger = Pair::new("one", Algorithm::ES256);
        let forged = stranger.sign(&stranger.header(), &claims);
        assert!(matches!(refusal(&idp, &forged).await, IdentityError::Signature(_)));
        let anonymous = stranger.sign(&Header::new(Algorithm::ES256), &claims);
        assert!(matches!(refusal(&idp, &anonymous).await, IdentityError::Signature(_)));
    }

    #[tokio::test]
    async fn refuses_alg_none_and_key_confusion() {
        let idp = Idp::with_key(Pair::new("one", Algorithm::RS256)).await;
        let encode = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
        for alg in ["none", "None", "NONE", ""] {
            let token = format!("{}.{}.", encode(json!({"alg": alg})), encode(idp.claims("root")));
            assert!(matches!(refusal(&idp, &token).await, IdentityError::Malformed(_)));
            assert!(matches!(refusal(&idp, &format!("{token}AA")).await, IdentityError::Algorithm { .. }));
        }
        // The public key, which everybody has, as the secret of an HMAC: in each form that a verifier might feed it.
        let jwk = &idp.key.jwk;
        let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
        for secret in [modulus, jwk["n"].as_str().unwrap().as_bytes().to_vec(), jwk.to_string().into_bytes()] {
            let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::HS256) };
            let token = jsonwebtoken::encode(&header, &idp.claims("root"), &EncodingKey::from_secret(&secret)).unwrap();
            assert!(matches!(refusal(&idp, &token).await, IdentityError::Algorithm { .. }));
        }
        // An algorithm of the same family that the issuer may not use, and one that is not this key's.
        let other = Header { kid: Some("one".into()), ..Header::new(Algorithm::PS256) };
        let token = idp.key.sign(&other, &idp.claims("root"));
        assert!(matches!(refusal(&idp, &token).await, IdentityError::Algorithm { .. }));
        let curve = Pair::new("one", Algorithm::ES256);
        let token = curve.sign(&curve.header(), &idp.claims("root"));
        assert!(matches!(refusal(&idp, &token).await, IdentityError::UnknownKey { .. }));
    }

    #[tokio::test]
    async fn refuses_a_key_that_the_token_brings() {
        let idp = Idp::start().await;
        let own = Pair::new("mine", Algorithm::ES256);
        let embedded = Header { jwk: Some(serde_json::from_value(own.jwk.clone()).unwrap()), ..own.header() };
        let linked = Header { jku: Some(format!("{}/jwks", idp.url)), ..own.header() };
        let chained = Header { x5u: Some(idp.url.clone()), ..own.header() };
        for (header, name) in [(embedded, "jwk"), (linked, "jku"), (chained, "x5u")] {
            let refused = refusal(&idp, &own.sign(&header, &idp.claims("root"))).await;
            assert_eq!(refused, IdentityError::Header(name.into()));
        }
        assert_eq!(idp.asked.load(Ordering::Relaxed), 0, "nothing was asked for such a token");
        let critical = Header { crit: Some(vec!["exp".into()]), ..idp.key.header() };
        assert_eq!(
            refusal(&idp, &idp.key.sign(&critical, &idp.claims("a"))).await,
            IdentityError::Header("crit".into())
        );
    }

    #[tokio::test]
    async fn follows_a_rotation_and_forgets_the_old_key() {
        let idp = Idp::start().await;
        let verifier = idp.verifier();
        verifier.verify(&idp.token("alice")).await.unwrap();
        let next = Pair::new("two", Algorithm::ES256);
        let token = next.sign(&next.header(), &idp.claims("bob"));
        assert!(matches!(verifier.verify(&token).await.unwrap_err(), IdentityError::UnknownKey { .. }));
        idp.publish(&[&next.jwk]);
        assert_eq!(verifier.verify(&token).await.unwrap().subject, "bob");
        assert!(matches!(verifier.verify(&idp.token("alice")).await.unwrap_err(), IdentityError::UnknownKey { .. }));
    }

    #[tokio::test]
    async fn unknown_keys_do_not_make_us_hammer_the_provider() {
        let idp = Idp::start().await;
        let verifier = idp.verifier();
        let stranger = Pair::new("x", Algorithm::ES256);
        for n in 0..40 {
            let header = Header { kid: Some(n.to_string()), ..stranger.header() };
            verifier.verify(&stranger.sign(&header, &idp.claims("x"))).await.unwrap_err();
        }
        let asked = idp.asked.load(Ordering::Relaxed);
        assert!(asked <= 2 + 2 * Patience::default().burst as usize, "{asked} requests");
    }

    #[tokio::test]
    async fn old_keys_count_for_a_while_when_the_provider_is_away() {
        let idp = Idp::start().await;
        let verifier = idp.impatient(EAGER, Duration::from_millis(50));
        verifier.verify(&idp.token("alice")).await.unwrap();
        idp.status(503);
        tokio::time::sleep(Duration::from_millis(60)).await;
        verifier.verify(&idp.token("alice")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let refused = verifier.verify(&idp.token("alice")).await.unwrap_err();
        assert!(refused.is_transient());
        assert!(refused.to_string().contains("503"), "{refused}");
        idp.status(200);
        verifier.verify(&idp.token("alice")).await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_provider_is_not_asked_again_at_once() {
        let idp = Idp::start().await;
        idp.status(500);
        let verifier = idp.verifier();
        for _ in 0..5 {
            verifier.verify(&idp.token("alice")).await.unwrap_err();
        }
        assert_eq!(idp.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn refuses_a_provider_that_is_not_what_it_should_be() {
        let idp = Idp::start().await;
        let well_known = "/.well-known/openid-configuration";
        let huge = json!({"issuer": idp.url, "x": "y".repeat(2 << 20)});
        for (document, expected) in [
            (json!({"issuer": "https://evil.example", "jwks_uri": format!("{}/jwks", idp.url)}), "is of `https://evil"),
            (json!({"issuer": format!("{}/x", idp.url)}), "check `url`"),
            (json!({"issuer": idp.url}), "has no `jwks_uri`"),
            (json!({"issuer": idp.url, "jwks_uri": "http://idp.example/jwks"}), "neither https nor on loopback"),
            (json!({"issuer": idp.url, "jwks_uri": "file:///etc/passwd"}), "neither https nor on loopback"),
            (json!({"issuer": idp.url, "jwks_uri": format!("{}/none", idp.url)}), "404"),
            (huge, "length limit exceeded"),
            (json!([]), "check `url`"),
        ] {
            idp.page(well_known, document);
            let message = refusal(&idp, &idp.token("alice")).await.to_string();
            assert!(message.contains(expected), "{message}");
        }
        idp.status(302);
        assert!(refusal(&idp, &idp.token("alice")).await.to_string().contains("redirects are not followed"));
        idp.pages.lock().unwrap().insert(well_known.into(), (200, "<html>".into()));
        assert!(refusal(&idp, &idp.token("alice")).await.to_string().contains("not JSON"));
    }

    #[tokio::test]
    async fn says_what_is_wrong_with_a_configured_issuer() {
        let idp = Idp::start().await;
        for (change, expected) in [
            ((|c| c.algorithms = vec!["HS256".into()]) as fn(&mut Issuer), "not an asymmetric algorithm"),
            (|c| c.extra_root = Some("/nonexistent.pem".into()), "cannot read `extra_root`"),
            (|c| c.url.set_query(Some("x")), "has a query or a fragment"),
        ] {
            let mut config = idp.config();
            change(&mut config.issuers[0]);
            let message = Verifier::new(&config).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
