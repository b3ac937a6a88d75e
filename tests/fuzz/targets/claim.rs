//! Signatures: what is read of them, and that what we sign in their place verifies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::aws::sigv4::{self, Given, Order, Payload};
use tollgate::credential::Secret;
use tollgate_fuzz::{held, keys, message, now};

fuzz_target!(|data: &[u8]| {
    let Some(mut message) = message(data) else { return };
    let Ok(Some(claim)) = sigv4::claim(&message.parts) else { return };
    if sigv4::hoist(&mut message.parts, &claim).is_err() {
        return;
    }
    let digest = sigv4::sha256_hex(message.body);
    // Whatever it says, nobody guesses a signature.
    let nobody = Secret::new("placeholder");
    let given = Given { body_sha256: Some(&digest), bucket: None, secret: &nobody, token: None, now: now() };
    assert!(sigv4::verify(&claim, &message.parts, &given, keys()).is_err(), "verified: {claim:?}");

    let payload = match claim.payload {
        Payload::Absent => Payload::Hashed(digest.clone()),
        other => other,
    };
    let held = held("held");
    let order = Order {
        payload: &payload,
        held: &held,
        algorithm: claim.algorithm,
        token_kind: claim.token_kind,
        region: &claim.region,
        signing_name: &claim.service,
        now: now(),
    };
    if sigv4::sign(&mut message.parts, &order, keys()).is_err() {
        return;
    }
    let ours = sigv4::claim(&message.parts).expect("what we sign can be read").expect("a signature");
    assert_eq!((ours.access_key_id.as_str(), &ours.payload), (held.access_key_id.as_str(), &payload));
    let token = held.session_token.as_ref();
    let given = Given { body_sha256: Some(&digest), bucket: None, secret: &held.secret_access_key, token, now: now() };
    sigv4::verify(&ours, &message.parts, &given, keys()).expect("what we sign verifies");
});
