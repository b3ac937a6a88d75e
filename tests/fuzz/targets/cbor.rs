//! CBOR bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_fuzz::body_of;

/// Heads, and the names that they are signed for.
const CALLS: &[(&str, &str)] = &[
    (
        "POST monitoring.us-east-1.amazonaws.com /service/GraniteServiceVersion20100801/operation/PutMetricData\nsmithy-protocol: rpc-v2-cbor\ncontent-type: application/cbor",
        "monitoring",
    ),
    (
        "POST monitoring.us-east-1.amazonaws.com /service/GraniteServiceVersion20100801/operation/GetMetricData\nsmithy-protocol: rpc-v2-cbor\ncontent-type: application/cbor",
        "monitoring",
    ),
    (
        "POST codebuild.us-east-1.amazonaws.com /service/CodeBuild_20161006/operation/CreateProject\nsmithy-protocol: rpc-v2-cbor\ncontent-type: application/cbor",
        "codebuild",
    ),
    (
        "POST textract.us-east-1.amazonaws.com /service/Textract/operation/AnalyzeDocument\nsmithy-protocol: rpc-v2-cbor\ncontent-type: application/cbor",
        "textract",
    ),
];

fuzz_target!(|data: &[u8]| body_of(CALLS, data));
