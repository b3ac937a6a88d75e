//! A whole request → operation: host, route, parameters, resources.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::aws::endpoint::resolve;
use tollgate::aws::operation::Scope;
use tollgate::aws::sigv4;
use tollgate_fuzz::{message, understand};

fuzz_target!(|data: &[u8]| {
    let Some(message) = message(data) else { return };
    let Some(endpoint) = resolve(message.host) else { return };
    let claim = sigv4::claim(&message.parts);
    let scope = match &claim {
        Ok(Some(claim)) => Some(Scope { region: &claim.region, service: &claim.service }),
        _ => None,
    };
    let _ = understand(&endpoint, scope, &message.parts, message.body);
});
