//! aws-chunked with signatures, in both directions: what came in comes back out of what we make of it, however it is cut,
//! and nothing that is not signed goes through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::aws::sigv4::{ChunkTerms, Payload};
use tollgate_fuzz::signer::{Signer, data_of};
use tollgate_fuzz::{chain, through};

fuzz_target!(|data: &[u8]| {
    let [step, how, at, rest @ ..] = data else { return };
    let (step, trailer) = (usize::from(*step) + 1, how & 1 == 1);
    let terms = |length: usize| {
        Payload::SignedChunks(ChunkTerms {
            length: length as u64,
            trailer: trailer.then(|| vec!["x-amz-checksum-crc32".to_owned()]),
        })
    };
    if how & 2 == 0 {
        assert!(through(&terms(rest.len() / 2), "agent", "held", rest, step).is_err(), "unsigned bytes went through");
        return;
    }
    let pieces: Vec<&[u8]> = rest.split(|b| *b == 0xff).collect();
    let payload = terms(pieces.iter().map(|p| p.len()).sum());
    let body = Signer::new("agent", chain(&payload, "agent").1).chunks(&pieces, trailer);
    let out = through(&payload, "agent", "held", &body, step).expect("what is signed goes through");
    assert_eq!(out, Signer::new("held", chain(&payload, "held").1).chunks(&pieces, trailer), "not what S3 expects");
    assert_eq!(through(&payload, "held", "agent", &out, 7).expect("and back"), body);

    let mut altered = body.clone();
    let place = (usize::from(*at) << 3 | usize::from(how >> 5)) % altered.len();
    altered[place] ^= (how >> 2) | 1;
    if let Ok(through) = through(&payload, "agent", "held", &altered, step) {
        // A size may be written in other ways; the data may not differ.
        assert_eq!(data_of(&through), data_of(&body), "altered data went through");
    }
});
