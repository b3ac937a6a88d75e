//! XML bodies of S3, of Route 53 and of CloudFront.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_fuzz::body_of;

/// Heads, and the names that they are signed for.
const CALLS: &[(&str, &str)] = &[
    ("POST b.s3.us-east-1.amazonaws.com /?delete", "s3"),
    ("PUT b.s3.us-east-1.amazonaws.com /?lifecycle", "s3"),
    ("PUT b.s3.us-east-1.amazonaws.com /?acl", "s3"),
    ("PUT b.s3.us-east-1.amazonaws.com /", "s3"),
    ("POST route53.amazonaws.com /2013-04-01/hostedzone/Z1/rrset\ncontent-type: application/xml", "route53"),
    ("POST cloudfront.amazonaws.com /2020-05-31/distribution\ncontent-type: application/xml", "cloudfront"),
];

fuzz_target!(|data: &[u8]| body_of(CALLS, data));
