//! Recognising and judging a small request: nanoseconds at the median for each set of policies, and what loading them took.

use std::hint::black_box;
use std::time::Instant;

use http::Request;
use tollgate::aws::endpoint::resolve;
use tollgate::aws::model::catalog;
use tollgate::aws::operation::{Scope, route};
use tollgate::config::Mode;
use tollgate::identity::Principal;
use tollgate::policy::{CredentialFacts, Effect, PolicySet, ProcessFacts, Question, SessionFacts};

const HOST: &str = "dynamodb.us-east-1.amazonaws.com";
const BODY: &[u8] = br#"{"TableName":"orders","Key":{"id":{"S":"0123456789"}},"ConsistentRead":true}"#;
/// Actions of other services.
const OTHERS: &[&str] = &[
    "s3:GetObject",
    "s3:PutObject",
    "ec2:RunInstances",
    "ec2:StopInstances",
    "sqs:SendMessage",
    "sns:Publish",
    "lambda:InvokeFunction",
    "kms:Decrypt",
    "ssm:GetParameter",
    "secretsmanager:GetSecretValue",
    "iam:CreateRole",
    "rds:CreateDBInstance",
];

pub fn measure() -> anyhow::Result<serde_json::Value> {
    let mut out = serde_json::Map::new();
    for (name, all, own) in [("few", 10, 5), ("many", 1_000, 5), ("own", 1_000, 100)] {
        let start = Instant::now();
        let set = policies(all, own)?;
        let loaded = start.elapsed();
        let mut times: Vec<u64> = (0..20_000).map(|_| once(&set)).collect::<Result<_, _>>()?;
        // The first ones fill the index.
        let times = &mut times[1_000..];
        times.sort_unstable();
        let figure = serde_json::json!({
            "policies": all, "of_the_service": own, "median_ns": times[times.len() / 2], "p99_ns": times[times.len() * 99 / 100],
            "load_ms": loaded.as_millis() as u64,
        });
        out.insert(name.to_owned(), figure);
    }
    Ok(out.into())
}

/// Policies of which some name the service that is asked.
fn policies(all: usize, own: usize) -> anyhow::Result<PolicySet> {
    let mut text = String::new();
    for n in 0..all {
        let (action, condition) = if n < own {
            (
                "dynamodb:GetItem",
                format!("context.parameters has TableName && context.parameters.TableName == \"orders{n}\""),
            )
        } else {
            (OTHERS[n % OTHERS.len()], format!("resource.arn like \"arn:aws:*:thing{n}\""))
        };
        let effect = if n % 5 == 4 { "forbid" } else { "permit" };
        text +=
            &format!("{effect} (principal, action == AWS::Action::\"{action}\", resource) when {{ {condition} }};\n");
    }
    text += "permit (principal, action == AWS::Action::\"dynamodb:GetItem\", resource) \
             when { context.parameters has TableName && context.parameters.TableName == \"orders\" };\n";
    PolicySet::from_sources(&[("bench.cedar", &text)], Mode::Enforce, catalog())
        .map_err(|e| anyhow::anyhow!("{}", e.first().map(ToString::to_string).unwrap_or_default()))
}

/// From the head of a request to the decision, in nanoseconds.
fn once(set: &PolicySet) -> anyhow::Result<u64> {
    let (parts, ()) = Request::post("/")
        .header("host", HOST)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "DynamoDB_20120810.GetItem")
        .header("x-amz-date", "20260102T030405Z")
        .header("user-agent", "aws-sdk-rust/1.3.14 os/linux lang/rust/1.95.0")
        .body(())?
        .into_parts();
    let principal = Principal::unidentified();
    let start = Instant::now();
    let endpoint = resolve(HOST).ok_or_else(|| anyhow::anyhow!("not AWS's"))?;
    let found = route(&endpoint, Some(Scope { region: "us-east-1", service: "dynamodb" }), &parts)?;
    let operation = found.finish("", Some(BODY), Some("123456789012"))?;
    let decision = set.decide(&Question {
        principal: &principal,
        operation: &operation,
        session: SessionFacts { id: "s-0123456789abcdef", name: "bench" },
        process: ProcessFacts { exe: "/usr/bin/python3", pid: 1, uid: 1000 },
        credential: CredentialFacts { kind: "binding", ..CredentialFacts::default() },
        endpoint: HOST,
    });
    let took = start.elapsed();
    anyhow::ensure!(black_box(decision.effect) == Effect::Allow, "it was not permitted: {}", decision.reason);
    Ok(took.as_nanos() as u64)
}
