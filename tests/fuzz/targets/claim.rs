//! Signatures: what is read of them, and that what we sign in their place verifies.
#![no_main]

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tollgate::aws::sigv4::{self, Payload, SigningKeys};
use tollgate::credential::{Held, Secret};
use tollgate_fuzz::message;

const KEY: &str = "AKIAHELDHELDHELDHELD";
const TOKEN: &str = "held-token";

/// The moment at which all is signed: 2026-01-02T03:04:05Z, the one of the corpus.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

fn keys() -> &'static SigningKeys {
    static KEYS: OnceLock<SigningKeys> = OnceLock::new();
    KEYS.get_or_init(SigningKeys::default)
}

fuzz_target!(|data: &[u8]| {
    let Some(mut message) = message(data) else { return };
    let Ok(Some(claim)) = sigv4::claim(&message.parts) else { return };
    let secret = Secret::new("placeholder");
    let digest = sigv4::sha256_hex(message.body);
    // Whatever it says, nobody guesses a signature.
    let verified = sigv4::verify(&claim, &message.parts, Some(&digest), &secret, None, now(), keys());
    assert!(verified.is_err(), "verified: {claim:?}");
    let payload = match claim.payload {
        Payload::Absent => Payload::Hashed(digest.clone()),
        other => other,
    };
    let held = Held {
        access_key_id: KEY.into(),
        secret_access_key: Secret::new("held"),
        session_token: Some(Secret::new(TOKEN)),
        expires: None,
        account: None,
    };
    if sigv4::sign(&mut message.parts, &payload, &held, &claim.region, &claim.service, now(), keys()).is_err() {
        return;
    }
    let ours = sigv4::claim(&message.parts).expect("what we sign can be read").expect("a signature");
    assert_eq!((ours.access_key_id.as_str(), &ours.payload), (KEY, &payload));
    let token = Secret::new(TOKEN);
    let verified =
        sigv4::verify(&ours, &message.parts, Some(&digest), &held.secret_access_key, Some(&token), now(), keys());
    verified.expect("what we sign verifies");
});
