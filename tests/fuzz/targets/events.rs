//! Signed event streams: the codec with right checksums on whatever comes, and what is signed in both directions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::aws::sigv4::Payload;
use tollgate_fuzz::signer::{Signer, checksums};
use tollgate_fuzz::{chain, through};

fuzz_target!(|data: &[u8]| {
    let [step, how, rest @ ..] = data else { return };
    let step = usize::from(*step) + 1;
    if how & 1 == 0 {
        let mut event = rest.to_vec();
        if how & 2 == 2 && event.len() >= 16 {
            // Past the length and the checksums, to what stands in it.
            let length = (event.len() as u32).to_be_bytes();
            event[..4].copy_from_slice(&length);
            checksums(&mut event);
        }
        let through = through(&Payload::Events, "agent", "held", &event, step);
        assert!(event.is_empty() || through.is_err(), "an unsigned event went through");
        return;
    }
    let pieces: Vec<&[u8]> = rest.split(|b| *b == 0xff).collect();
    let signed = |secret| Signer::new(secret, chain(&Payload::Events, secret).1).events(&pieces);
    let body = signed("agent");
    let out = through(&Payload::Events, "agent", "held", &body, step).expect("what is signed goes through");
    assert_eq!(out, signed("held"), "not what AWS expects");
    assert_eq!(through(&Payload::Events, "held", "agent", &out, 7).expect("and back"), body);
});
