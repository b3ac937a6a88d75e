//! Requests and what they are.

use super::*;
use crate::aws::endpoint::resolve;

fn read(host: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Result<Operation, Malformed> {
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let endpoint = resolve(host).expect("AWS's");
    let service = endpoint.signing.clone().unwrap_or_else(|| "x".into());
    let region = endpoint.region.clone().unwrap_or_else(|| "us-east-1".into());
    let route = route(&endpoint, Some(Scope { region: &region, service: &service }), &parts)?;
    route.finish(parts.uri.query().unwrap_or_default(), Some(body.as_bytes()), Some("123456789012"))
}

#[test]
fn s3_operations() {
    let cases = [
        ("GET", "s3.us-east-1.amazonaws.com", "/", "ListBuckets", "s3:ListAllMyBuckets", "*"),
        (
            "GET",
            "s3.us-east-1.amazonaws.com",
            "/b?list-type=2&prefix=a%2F",
            "ListObjectsV2",
            "s3:ListBucket",
            "arn:aws:s3:::b",
        ),
        (
            "GET",
            "b.s3.us-east-1.amazonaws.com",
            "/?location",
            "GetBucketLocation",
            "s3:GetBucketLocation",
            "arn:aws:s3:::b",
        ),
        (
            "GET",
            "b.s3.us-east-1.amazonaws.com",
            "/a%20b/%2e%2e/c?x-id=GetObject",
            "GetObject",
            "s3:GetObject",
            "arn:aws:s3:::b/a b/../c",
        ),
        (
            "GET",
            "b.s3.us-east-1.amazonaws.com",
            "/k?versionId=1",
            "GetObject",
            "s3:GetObjectVersion",
            "arn:aws:s3:::b/k",
        ),
        ("HEAD", "s3.us-east-1.amazonaws.com", "/b/k", "HeadObject", "s3:GetObject", "arn:aws:s3:::b/k"),
        ("PUT", "s3.us-east-1.amazonaws.com", "/b//k", "PutObject", "s3:PutObject", "arn:aws:s3:::b//k"),
        (
            "POST",
            "b.s3.us-east-1.amazonaws.com",
            "/k?uploads",
            "CreateMultipartUpload",
            "s3:PutObject",
            "arn:aws:s3:::b/k",
        ),
        ("POST", "b.s3.us-east-1.amazonaws.com", "/?delete", "DeleteObjects", "s3:DeleteObject", "arn:aws:s3:::b/*"),
        // What is not listed is not guessed at.
        ("GET", "b.s3.us-east-1.amazonaws.com", "/?acl", "unknown", "unknown:unknown", "*"),
        ("PUT", "b.s3.us-east-1.amazonaws.com", "/?policy", "unknown", "unknown:unknown", "*"),
        ("GET", "b.s3.us-east-1.amazonaws.com", "/k?tagging", "unknown", "unknown:unknown", "*"),
        ("PATCH", "b.s3.us-east-1.amazonaws.com", "/k", "unknown", "unknown:unknown", "*"),
    ];
    for (method, host, target, name, action, resource) in cases {
        let o = read(host, method, target, &[], "").expect("well-formed");
        assert_eq!(
            (o.name.as_str(), o.actions[0].as_str(), o.resources[0].as_str()),
            (name, action, resource),
            "{method} {target}"
        );
    }
}

#[test]
fn a_copy_needs_both_ends_and_extra_powers_are_not_known() {
    let host = "b.s3.us-east-1.amazonaws.com";
    let copy = read(host, "PUT", "/k", &[("x-amz-copy-source", "/other/s%20k?versionId=3")], "").expect("well-formed");
    assert_eq!(copy.actions, ["s3:PutObject", "s3:GetObject"]);
    assert_eq!(copy.resources, ["arn:aws:s3:::b/k", "arn:aws:s3:::other/s k"]);
    let public = read(host, "PUT", "/k", &[("x-amz-acl", "public-read")], "").expect("well-formed");
    assert_eq!(public.actions, ["unknown:unknown"]);
}

#[test]
fn query_and_json_operations() {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let o = read("sts.us-east-1.amazonaws.com", "POST", "/", &form, "Action=GetCallerIdentity&Version=2011-06-15")
        .expect("well-formed");
    assert_eq!(
        (o.actions[0].as_str(), o.access, o.credentials_in_output),
        ("sts:GetCallerIdentity", AccessLevel::Read, false)
    );
    let o =
        read("sts.us-east-1.amazonaws.com", "POST", "/", &form, "Action=AssumeRole&RoleArn=x").expect("well-formed");
    assert!(o.credentials_in_output);
    let o = read("ec2.us-east-1.amazonaws.com", "POST", "/", &form, "Action=RunInstances&InstanceType=t3.micro")
        .expect("well-formed");
    assert_eq!(
        (o.actions[0].as_str(), &o.parameters["InstanceType"], o.protocol),
        ("ec2:RunInstances", &Value::from("t3.micro"), Protocol::Ec2)
    );
    let json = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "DynamoDB_20120810.GetItem")];
    let o = read("dynamodb.us-east-1.amazonaws.com", "POST", "/", &json, r#"{"TableName":"t","Key":{"a":{"S":"1"}}}"#)
        .expect("well-formed");
    assert_eq!(
        (o.actions[0].as_str(), o.resources[0].as_str()),
        ("dynamodb:GetItem", "arn:aws:dynamodb:us-east-1:123456789012:table/t")
    );
    let foreign = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "TrentService.Decrypt")];
    assert_eq!(
        read("dynamodb.us-east-1.amazonaws.com", "POST", "/", &foreign, "{}").expect("well-formed").actions,
        ["unknown:unknown"]
    );
    assert_eq!(
        read("nobody.us-east-1.amazonaws.com", "GET", "/", &[], "").expect("well-formed").actions,
        ["unknown:unknown"]
    );
}

#[test]
fn two_readings_are_refused() {
    let json = "application/x-amz-json-1.0";
    let dynamo = "dynamodb.us-east-1.amazonaws.com";
    let target = ("x-amz-target", "DynamoDB_20120810.GetItem");
    let cases: &[(&str, &str, &str, &[(&str, &str)], &str)] = &[
        ("sts.us-east-1.amazonaws.com", "POST", "/", &[], "Action=GetCallerIdentity&Action=AssumeRole"),
        ("sts.us-east-1.amazonaws.com", "POST", "/?Action=GetCallerIdentity", &[], "Action=AssumeRole"),
        ("s3.us-east-1.amazonaws.com", "GET", "/b?prefix=a&prefix=b", &[], ""),
        (dynamo, "POST", "/", &[("content-type", json), target, ("x-amz-target", "DynamoDB_20120810.PutItem")], "{}"),
        (dynamo, "POST", "/", &[("content-type", "application/x-www-form-urlencoded"), target], "{}"),
        (dynamo, "POST", "/", &[("content-type", json), target], r#"{"TableName":"a","TableName":"b"}"#),
        (dynamo, "POST", "/", &[("content-type", json), target], r#"{"Key":{"a":[{"b":1,"b":2}]}}"#),
        (dynamo, "POST", "/", &[("content-type", json), target], "[1]"),
        (dynamo, "POST", "/?x=1", &[("content-type", json), target], "{}"),
    ];
    for (host, method, target, headers, body) in cases {
        assert!(read(host, method, target, headers, body).is_err(), "{target} {headers:?} {body}");
    }
}

#[test]
fn a_scope_cannot_choose_another_service_or_region() {
    let (parts, ()) = http::Request::builder().method("POST").uri("/").body(()).expect("a request").into_parts();
    let endpoint = resolve("ec2.eu-west-1.amazonaws.com").expect("AWS's");
    assert!(route(&endpoint, Some(Scope { region: "eu-west-1", service: "iam" }), &parts).is_err());
    assert!(route(&endpoint, Some(Scope { region: "us-east-1", service: "ec2" }), &parts).is_err());
    assert!(route(&endpoint, Some(Scope { region: "eu-west-1", service: "ec2" }), &parts).is_ok());
}
