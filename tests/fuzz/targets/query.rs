//! The query protocols: forms, and their lists, maps and structures.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_fuzz::body_of;

/// Heads, and the names that they are signed for.
const CALLS: &[(&str, &str)] = &[
    ("POST sts.us-east-1.amazonaws.com /\ncontent-type: application/x-www-form-urlencoded", "sts"),
    ("POST ec2.us-east-1.amazonaws.com /\ncontent-type: application/x-www-form-urlencoded", "ec2"),
    ("POST sns.us-east-1.amazonaws.com /\ncontent-type: application/x-www-form-urlencoded", "sns"),
    ("POST sqs.us-east-1.amazonaws.com /123456789012/queue\ncontent-type: application/x-www-form-urlencoded", "sqs"),
    ("POST rds.us-east-1.amazonaws.com /\ncontent-type: application/x-www-form-urlencoded", "rds"),
    ("POST iam.amazonaws.com /\ncontent-type: application/x-www-form-urlencoded", "iam"),
];

fuzz_target!(|data: &[u8]| body_of(CALLS, data));
