//! JSON bodies: RPC, REST, and those of DynamoDB that name several resources.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_fuzz::body_of;

/// Heads, and the names that they are signed for.
const CALLS: &[(&str, &str)] = &[
    (
        "POST dynamodb.us-east-1.amazonaws.com /\nx-amz-target: DynamoDB_20120810.PutItem\ncontent-type: application/x-amz-json-1.0",
        "dynamodb",
    ),
    (
        "POST dynamodb.us-east-1.amazonaws.com /\nx-amz-target: DynamoDB_20120810.TransactWriteItems\ncontent-type: application/x-amz-json-1.0",
        "dynamodb",
    ),
    (
        "POST dynamodb.us-east-1.amazonaws.com /\nx-amz-target: DynamoDB_20120810.BatchGetItem\ncontent-type: application/x-amz-json-1.0",
        "dynamodb",
    ),
    (
        "POST dynamodb.us-east-1.amazonaws.com /\nx-amz-target: DynamoDB_20120810.BatchExecuteStatement\ncontent-type: application/x-amz-json-1.0",
        "dynamodb",
    ),
    (
        "POST secretsmanager.us-east-1.amazonaws.com /\nx-amz-target: secretsmanager.CreateSecret\ncontent-type: application/x-amz-json-1.1",
        "secretsmanager",
    ),
    (
        "POST ecs.us-east-1.amazonaws.com /\nx-amz-target: AmazonEC2ContainerServiceV20141113.RunTask\ncontent-type: application/x-amz-json-1.1",
        "ecs",
    ),
    ("POST lambda.us-east-1.amazonaws.com /2015-03-31/functions\ncontent-type: application/json", "lambda"),
    ("POST bedrock-runtime.us-east-1.amazonaws.com /model/x-v1:0/converse\ncontent-type: application/json", "bedrock"),
];

fuzz_target!(|data: &[u8]| body_of(CALLS, data));
