//! Tokens by which AWS tells that a request is sent again.
//!
//! Owns reading `tokens.txt`, which `cargo xtask model` makes out of botocore: a line for each signing name and member,
//! with the operations. A client that gives up and is started again sends another token; the request is the same. Pure.

use std::collections::HashMap;
use std::sync::OnceLock;

static TEXT: &str = include_str!("tokens.txt");

/// Whether a top-level member of an operation's input is such a token.
pub fn is_idempotency_token(signing_name: &str, operation: &str, member: &str) -> bool {
    static TOKENS: OnceLock<HashMap<(&str, &str), Vec<&str>>> = OnceLock::new();
    let tokens = TOKENS.get_or_init(|| TEXT.lines().filter_map(line).collect());
    tokens.get(&(signing_name, member)).is_some_and(|operations| operations.binary_search(&operation).is_ok())
}

fn line(line: &'static str) -> Option<((&'static str, &'static str), Vec<&'static str>)> {
    let mut words = line.split(' ');
    let key = (words.next()?, words.next()?);
    let mut operations: Vec<&str> = words.collect();
    operations.sort_unstable();
    Some((key, operations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_their_operation_alone() {
        for (signing, operation, member, expected) in [
            ("ec2", "RunInstances", "ClientToken", true),
            ("ec2", "DescribeInstances", "ClientToken", false),
            ("ec2", "RunInstances", "ImageId", false),
            ("dynamodb", "TransactWriteItems", "ClientRequestToken", true),
            ("secretsmanager", "CreateSecret", "ClientRequestToken", true),
            // Filled in by clients, and what the request is about.
            ("athena", "StopQueryExecution", "QueryExecutionId", false),
            ("athena", "StartQueryExecution", "ClientRequestToken", true),
        ] {
            assert_eq!(is_idempotency_token(signing, operation, member), expected, "{signing} {operation} {member}");
        }
    }
}
