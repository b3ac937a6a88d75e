//! Requests and what they are.

use super::*;
use crate::aws::endpoint::resolve;

mod limits;

fn post(path: &str, headers: &[(&str, &str)]) -> (http::request::Parts, ()) {
    let mut request = http::Request::builder().method("POST").uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts()
}

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

/// Actions, each with its resources.
fn needs(operation: &Operation) -> Vec<String> {
    operation.needs.iter().map(|n| format!("{} {}", n.action, n.resources.join(" "))).collect()
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
        ("GET", "b.s3.us-east-1.amazonaws.com", "/?acl", "GetBucketAcl", "s3:GetBucketAcl", "arn:aws:s3:::b"),
        ("PUT", "b.s3.us-east-1.amazonaws.com", "/?policy", "PutBucketPolicy", "s3:PutBucketPolicy", "arn:aws:s3:::b"),
        (
            "GET",
            "b.s3.us-east-1.amazonaws.com",
            "/k?tagging",
            "GetObjectTagging",
            "s3:GetObjectTagging",
            "arn:aws:s3:::b/k",
        ),
        (
            "GET",
            "b.s3.us-east-1.amazonaws.com",
            "/k?tagging&versionId=1",
            "GetObjectTagging",
            "s3:GetObjectVersionTagging",
            "arn:aws:s3:::b/k",
        ),
        (
            "DELETE",
            "b.s3.us-east-1.amazonaws.com",
            "/k?versionId=1",
            "DeleteObject",
            "s3:DeleteObjectVersion",
            "arn:aws:s3:::b/k",
        ),
        (
            "PUT",
            "b.s3.us-east-1.amazonaws.com",
            "/k?uploadId=u&partNumber=1",
            "UploadPart",
            "s3:PutObject",
            "arn:aws:s3:::b/k",
        ),
        ("GET", "s3.us-east-1.amazonaws.com", "/b/", "ListObjects", "s3:ListBucket", "arn:aws:s3:::b"),
        (
            "GET",
            "ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com",
            "/a/k",
            "GetObject",
            "s3:GetObject",
            "arn:aws:s3:us-east-1:123456789012:accesspoint/ap/object/a/k",
        ),
        (
            "GET",
            "m.mrap.accesspoint.s3-global.amazonaws.com",
            "/k",
            "GetObject",
            "s3:GetObject",
            "arn:aws:s3::123456789012:accesspoint/m.mrap/object/k",
        ),
        (
            "GET",
            "ap-123456789012.s3-object-lambda.us-east-1.amazonaws.com",
            "/k",
            "GetObject",
            "s3-object-lambda:GetObject",
            "arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/ap/object/k",
        ),
        (
            "GET",
            "ap-123456789012.op-1.s3-outposts.us-east-1.amazonaws.com",
            "/k",
            "GetObject",
            "s3-outposts:GetObject",
            "arn:aws:s3-outposts:us-east-1:123456789012:outpost/op-1/accesspoint/ap/object/k",
        ),
        (
            "GET",
            "s3express-control.us-east-1.amazonaws.com",
            "/",
            "ListDirectoryBuckets",
            "s3express:ListAllMyDirectoryBuckets",
            "*",
        ),
        // What is not listed is not guessed at; one parameter more is another operation, or none.
        ("PATCH", "b.s3.us-east-1.amazonaws.com", "/k", "unknown", "unknown:unknown", "*"),
        ("GET", "b.s3.us-east-1.amazonaws.com", "/?acl&policy", "unknown", "unknown:unknown", "*"),
        ("GET", "b.s3.us-east-1.amazonaws.com", "/?nosuch", "unknown", "unknown:unknown", "*"),
        ("PUT", "b.s3.us-east-1.amazonaws.com", "/k?x-amz-acl=public-read", "unknown", "unknown:unknown", "*"),
        ("GET", "s3.us-east-1.amazonaws.com", "//k", "unknown", "unknown:unknown", "*"),
    ];
    for (method, host, target, name, action, resource) in cases {
        let o = read(host, method, target, &[], "").expect("well-formed");
        assert_eq!((o.name.as_str(), o.actions()[0], o.resources()[0]), (name, action, resource), "{method} {target}");
    }
}

#[test]
fn a_copy_needs_both_ends_and_extra_powers_are_not_known() {
    let host = "b.s3.us-east-1.amazonaws.com";
    let copy = read(host, "PUT", "/k", &[("x-amz-copy-source", "/other/s%20k?versionId=3")], "").expect("well-formed");
    assert_eq!(needs(&copy), ["s3:PutObject arn:aws:s3:::b/k", "s3:GetObjectVersion arn:aws:s3:::other/s k"]);
    let header = ("x-amz-server-side-encryption-aws-kms-key-id", "1-2");
    let keyed = read(host, "PUT", "/k", &[("x-amz-copy-source", "/other/s"), header], "").expect("well-formed");
    let expected = [
        "s3:PutObject arn:aws:s3:::b/k",
        "s3:GetObject arn:aws:s3:::other/s",
        "kms:GenerateDataKey arn:aws:kms:us-east-1:123456789012:key/1-2",
    ];
    assert_eq!(needs(&keyed), expected);
    for (method, target, header, actions) in [
        ("PUT", "/k", "x-amz-acl", &["s3:PutObject", "s3:PutObjectAcl"] as &[_]),
        ("PUT", "/k", "x-amz-grant-read", &["s3:PutObject", "s3:PutObjectAcl"]),
        ("PUT", "/k", "x-amz-tagging", &["s3:PutObject", "s3:PutObjectTagging"]),
        ("PUT", "/k", "x-amz-object-lock-mode", &["s3:PutObject", "s3:PutObjectRetention"]),
        ("PUT", "/k", "x-amz-object-lock-legal-hold", &["s3:PutObject", "s3:PutObjectLegalHold"]),
        ("PUT", "/k?acl", "x-amz-acl", &["s3:PutObjectAcl"]),
        ("PUT", "/k?acl&versionId=1", "x-amz-acl", &["s3:PutObjectVersionAcl"]),
        ("PUT", "/", "x-amz-acl", &["s3:CreateBucket", "s3:PutBucketAcl"]),
        ("PUT", "/", "x-amz-object-ownership", &["s3:CreateBucket", "s3:PutBucketOwnershipControls"]),
        ("DELETE", "/k", "x-amz-bypass-governance-retention", &["s3:DeleteObject", "s3:BypassGovernanceRetention"]),
        // Powers that the operation does not take, or that are not known.
        ("GET", "/k", "x-amz-acl", &["unknown:unknown"]),
        ("PUT", "/k", "x-amz-object-lock-new", &["unknown:unknown"]),
        // One that the operation takes, and for which no action is known.
        ("PUT", "/k", "x-amz-object-lock-event-hold", &["s3:PutObject", "unknown:unknown"]),
        ("GET", "/k", "x-amz-copy-source", &["unknown:unknown"]),
    ] {
        let o = read(host, method, target, &[(header, "x")], "").expect("well-formed");
        assert_eq!(o.actions(), actions, "{method} {target} {header}");
    }
}

#[test]
fn many_objects_are_all_named() {
    let body =
        "<Delete><Object><Key>a/1</Key></Object><Object><Key>b&amp;2</Key><VersionId>v</VersionId></Object></Delete>";
    let o = read("b.s3.us-east-1.amazonaws.com", "POST", "/?delete", &[], body).expect("well-formed");
    assert_eq!(needs(&o), ["s3:DeleteObject arn:aws:s3:::b/a/1", "s3:DeleteObjectVersion arn:aws:s3:::b/b&2"]);
    let bypass = [("x-amz-bypass-governance-retention", "true")];
    let versions = "<Delete><Object><Key>a</Key><VersionId>v</VersionId></Object></Delete>";
    let o = read("b.s3.us-east-1.amazonaws.com", "POST", "/?delete", &bypass, versions).expect("well-formed");
    assert_eq!(needs(&o), ["s3:DeleteObjectVersion arn:aws:s3:::b/a", "s3:BypassGovernanceRetention arn:aws:s3:::b/a"]);
    for body in ["<Delete>", "<!DOCTYPE x><Delete/>", "<Delete>&x;</Delete>", "<Delete/><Delete/>", "{}"] {
        assert!(read("b.s3.us-east-1.amazonaws.com", "POST", "/?delete", &[], body).is_err(), "{body}");
    }
}

#[test]
fn rest_rpc_and_nested_members() {
    let json = [("content-type", "application/json")];
    let o =
        read("lambda.us-east-1.amazonaws.com", "POST", "/2015-03-31/functions/my%3Afn/invocations", &json, "not read")
            .expect("well-formed");
    assert_eq!((o.name.as_str(), o.actions()[0]), ("Invoke", "lambda:InvokeFunction"));
    assert_eq!(o.resources(), ["arn:aws:lambda:us-east-1:123456789012:function:my:fn"]);
    let o = read(
        "lambda.us-east-1.amazonaws.com",
        "POST",
        "/2015-03-31/functions/",
        &json,
        r#"{"FunctionName":"f","Role":"r"}"#,
    )
    .expect("well-formed");
    assert_eq!((o.name.as_str(), &o.parameters["Role"]), ("CreateFunction", &Value::from("r")));
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let body = "Action=DescribeInstances&Version=2016-11-15&InstanceId.2=i-2&InstanceId.1=i-1&Filter.1.Name=n&Filter.1.Value.1=v&MaxResults=5&DryRun=true";
    let o = read("ec2.us-east-1.amazonaws.com", "POST", "/", &form, body).expect("well-formed");
    assert_eq!(
        Value::Object(o.parameters),
        serde_json::json!({
            "DryRun": true, "Filters": [{"Name": "n", "Values": ["v"]}], "InstanceIds": ["i-1", "i-2"], "MaxResults": 5
        })
    );
    let o = read(
        "ec2.us-east-1.amazonaws.com",
        "POST",
        "/",
        &form,
        "Action=TerminateInstances&InstanceId.1=i-1&InstanceId.2=i-2",
    )
    .expect("well-formed");
    assert_eq!(o.resources()[1], "arn:aws:ec2:us-east-1:123456789012:instance/i-2");
    let o = read("sqs.us-east-1.amazonaws.com", "POST", "/123456789012/q", &form, "Action=SendMessage&MessageBody=m")
        .expect("well-formed");
    assert_eq!((o.actions()[0], o.resources()[0]), ("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:q"));
    let dynamo = |op: &str, body: &str| {
        let target = format!("DynamoDB_20120810.{op}");
        let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
        read("dynamodb.us-east-1.amazonaws.com", "POST", "/", &headers, body).expect("well-formed")
    };
    let o =
        dynamo("TransactWriteItems", r#"{"TransactItems":[{"Put":{"TableName":"a"}},{"Delete":{"TableName":"b"}}]}"#);
    let table = |name: &str| format!("arn:aws:dynamodb:us-east-1:123456789012:table/{name}");
    assert_eq!(needs(&o), [format!("dynamodb:PutItem {}", table("a")), format!("dynamodb:DeleteItem {}", table("b"))]);
    let o = dynamo("ExecuteStatement", r#"{"Statement":" update \"t\" set a=1"}"#);
    assert_eq!(needs(&o), [format!("dynamodb:PartiQLUpdate {}", table("t"))]);
    let statements = r#"{"Statements":[{"Statement":"SELECT * FROM a"},{"Statement":"DELETE FROM b WHERE k=1"},{"Statement":"SELECT * FROM c, d"}]}"#;
    let o = dynamo("BatchExecuteStatement", statements);
    assert_eq!(o.actions(), ["dynamodb:PartiQLSelect", "dynamodb:PartiQLDelete"]);
    assert_eq!(o.needs[1].resources, [table("b")]);
    let o =
        dynamo("TransactWriteItems", r#"{"TransactItems":[{"Put":{"TableName":"a"}},{"Other":{"TableName":"b"}}]}"#);
    assert_eq!((o.actions().len(), o.resources()), (4, vec!["*"]));
    assert_eq!(dynamo("ExecuteStatement", r#"{"Statement":"-- x\nDELETE FROM t"}"#).actions().len(), 4);
    assert_eq!(
        dynamo("BatchGetItem", r#"{"RequestItems":{"t":{}}}"#).resources(),
        ["arn:aws:dynamodb:us-east-1:123456789012:table/t"]
    );
}

#[test]
fn each_action_has_its_own_resources() {
    let json = |host: &str, target: &str, body: &str| {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        needs(&read(host, "POST", "/", &headers, body).expect("well-formed"))
    };
    let found =
        json("kms.us-east-1.amazonaws.com", "TrentService.ReEncrypt", r#"{"SourceKeyId":"a","DestinationKeyId":"b"}"#);
    let key = |id: &str| format!("arn:aws:kms:us-east-1:123456789012:key/{id}");
    assert_eq!(found, [format!("kms:ReEncryptFrom {}", key("a")), format!("kms:ReEncryptTo {}", key("b"))]);
}

#[test]
fn who_names_a_role_passes_it() {
    let role = "arn:aws:iam::123456789012:role/ci/builder";
    let passed = |o: Result<Operation, Malformed>| {
        let o = o.expect("well-formed");
        let found: Vec<Vec<String>> =
            o.needs.iter().filter(|n| n.action == "iam:PassRole").map(|n| n.resources.clone()).collect();
        assert!(found.len() < 2 && o.needs[0].action != "iam:PassRole", "{found:?}");
        found.concat()
    };
    let json = [("content-type", "application/json")];
    let lambda =
        |body: &str| passed(read("lambda.us-east-1.amazonaws.com", "POST", "/2015-03-31/functions/", &json, body));
    assert_eq!(lambda(&format!(r#"{{"FunctionName":"f","Role":"{role}"}}"#)), [role]);
    assert_eq!(lambda(r#"{"FunctionName":"f"}"#), [""; 0]);
    // What is no role's ARN may still be a role.
    assert_eq!(lambda(r#"{"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/*"}"#), ["*"]);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let ec2 = |body: &str| passed(read("ec2.us-east-1.amazonaws.com", "POST", "/", &form, body));
    assert_eq!(ec2("Action=RunInstances&IamInstanceProfile.Name=p"), ["*"]);
    assert_eq!(ec2("Action=RunInstances&ImageId=ami-1"), [""; 0]);
    assert_eq!(
        ec2(
            "Action=CreateLaunchTemplate&LaunchTemplateData.IamInstanceProfile.Arn=arn%3Aaws%3Aiam%3A%3A1%3Ainstance-profile%2Fp"
        ),
        ["*"]
    );
    let target = |host: &str, target: &str, body: &str| {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        passed(read(host, "POST", "/", &headers, body))
    };
    let ecs = "ecs.us-east-1.amazonaws.com";
    let register = "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition";
    assert_eq!(target(ecs, register, &format!(r#"{{"taskRoleArn":"{role}","executionRoleArn":"{role}"}}"#)), [role]);
    assert_eq!(target(ecs, register, r#"{"taskRoleArn":"builder"}"#), ["*"]);
    let nested = format!(r#"{{"pipeline":{{"roleArn":"{role}","stages":[{{"actions":[{{"roleArn":"{role}2"}}]}}]}}}}"#);
    let pipeline = "codepipeline.us-east-1.amazonaws.com";
    assert_eq!(
        target(pipeline, "CodePipeline_20150709.CreatePipeline", &nested),
        [role.to_owned(), format!("{role}2")]
    );
    let iam = |body: &str| passed(read("iam.amazonaws.com", "POST", "/", &form, body));
    assert_eq!(iam("Action=AddRoleToInstanceProfile&RoleName=r&InstanceProfileName=p"), ["*"]);
    assert_eq!(iam("Action=GetRole&RoleName=r"), [""; 0]);
    let role = "arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fr";
    let sts = format!("Action=AssumeRole&RoleArn={role}&RoleSessionName=s");
    assert_eq!(passed(read("sts.us-east-1.amazonaws.com", "POST", "/", &form, &sts)), [""; 0]);
}

#[test]
fn one_operation_in_each_protocol_of_its_service() {
    let host = "monitoring.us-east-1.amazonaws.com";
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let query =
        read(host, "POST", "/", &form, "Action=ListMetrics&Version=2010-08-01&Namespace=n").expect("well-formed");
    let json =
        [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "GraniteServiceVersion20100801.ListMetrics")];
    let json = read(host, "POST", "/", &json, r#"{"Namespace":"n"}"#).expect("well-formed");
    assert_eq!((json.actions(), &json.parameters), (query.actions(), &query.parameters));
    assert_eq!(json.actions(), ["cloudwatch:ListMetrics"]);
    let headers = [("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor")];
    let path = "/service/GraniteServiceVersion20100801/operation/ListMetrics";
    let (parts, ()) = post(path, &headers);
    let route = route(&resolve(host).expect("AWS's"), None, &parts).expect("well-formed");
    assert_eq!(route.protocol(), Protocol::RpcV2Cbor);
    let bytes = [&[0xa1][..], b"iNamespace", b"an"].concat();
    let o = route.finish("", Some(&bytes), None).expect("well-formed");
    assert_eq!((o.name.as_str(), o.parameters), ("ListMetrics", json.parameters));
}

#[test]
fn query_and_json_operations() {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let o = read("sts.us-east-1.amazonaws.com", "POST", "/", &form, "Action=GetCallerIdentity&Version=2011-06-15")
        .expect("well-formed");
    assert_eq!(
        (o.actions()[0], o.access, o.credentials_in_output),
        ("sts:GetCallerIdentity", AccessLevel::Read, false)
    );
    let o =
        read("sts.us-east-1.amazonaws.com", "POST", "/", &form, "Action=AssumeRole&RoleArn=x").expect("well-formed");
    assert!(o.credentials_in_output);
    let o = read("ec2.us-east-1.amazonaws.com", "POST", "/", &form, "Action=RunInstances&InstanceType=t3.micro")
        .expect("well-formed");
    assert_eq!(
        (o.actions()[0], &o.parameters["InstanceType"], o.protocol),
        ("ec2:RunInstances", &Value::from("t3.micro"), Protocol::Ec2)
    );
    let json = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "DynamoDB_20120810.GetItem")];
    let o = read("dynamodb.us-east-1.amazonaws.com", "POST", "/", &json, r#"{"TableName":"t","Key":{"a":{"S":"1"}}}"#)
        .expect("well-formed");
    assert_eq!(
        (o.actions()[0], o.resources()[0]),
        ("dynamodb:GetItem", "arn:aws:dynamodb:us-east-1:123456789012:table/t")
    );
    let foreign = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "TrentService.Decrypt")];
    assert_eq!(
        read("dynamodb.us-east-1.amazonaws.com", "POST", "/", &foreign, "{}").expect("well-formed").actions(),
        ["unknown:unknown"]
    );
    assert_eq!(
        read("nobody.us-east-1.amazonaws.com", "GET", "/", &[], "").expect("well-formed").actions(),
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
        (dynamo, "POST", "/", &[("content-type", json), target, ("smithy-protocol", "rpc-v2-cbor")], "{}"),
        (dynamo, "POST", "/", &[("content-type", "application/cbor"), ("smithy-protocol", "json")], "{}"),
        ("sts.us-east-1.amazonaws.com", "POST", "/", &[("content-type", json)], r#"{"Action":"AssumeRole"}"#),
        ("ec2.us-east-1.amazonaws.com", "POST", "/", &[], "Action=RunInstances&ImageId=a&ImageId.1=b"),
        ("ec2.us-east-1.amazonaws.com", "POST", "/", &[], "Action=RunInstances&Action.1=b"),
        ("ec2.us-east-1.amazonaws.com", "POST", "/", &[], "Action=DescribeInstances&action=RunInstances"),
        (dynamo, "POST", "/", &[("content-type", json), target, ("content-encoding", "gzip")], "{}"),
        ("lambda.us-east-1.amazonaws.com", "GET", "/2015-03-31/functions", &[("x-http-method-override", "POST")], ""),
        (
            "sqs.us-east-1.amazonaws.com",
            "POST",
            "/1/q",
            &[],
            "Action=SendMessage&QueueUrl=https%3A%2F%2Fsqs%2F1%2Fother",
        ),
        ("lambda.us-east-1.amazonaws.com", "POST", "/2015-03-31/functions/f/%69nvocations", &[], ""),
        ("lambda.us-east-1.amazonaws.com", "GET", "/2015-03-31/functions/../layers", &[], ""),
        ("lambda.us-east-1.amazonaws.com", "GET", "/2015-03-31/functions?Marker=a&Marker=b", &[], ""),
        (
            "lambda.us-east-1.amazonaws.com",
            "POST",
            "/2015-03-31/functions",
            &[("content-type", "application/cbor")],
            "{}",
        ),
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

/// Whatever comes, there is an answer: a small generator stands in for a fuzzer, which runs elsewhere.
#[test]
fn nothing_that_is_sent_panics() {
    let seeds: &[(&str, &str, &str, &[(&str, &str)], &str)] = &[
        (
            "b.s3.us-east-1.amazonaws.com",
            "POST",
            "/k/%41?delete&versionId=1",
            &[],
            "<Delete><Object a='1'><Key>&lt;k</Key></Object></Delete>",
        ),
        ("b.s3.us-east-1.amazonaws.com", "PUT", "/k", &[("x-amz-copy-source", "/o/k%20?versionId=1")], ""),
        (
            "ec2.us-east-1.amazonaws.com",
            "POST",
            "/",
            &[],
            "Action=RunInstances&Filter.1.Name=n&Filter.1.Value.1=v&X.0.y=%41",
        ),
        (
            "sns.us-east-1.amazonaws.com",
            "POST",
            "/",
            &[],
            "Action=Publish&MessageAttributes.entry.1.Name=n&MessageAttributes.entry.1.Value.DataType=v",
        ),
        (
            "dynamodb.us-east-1.amazonaws.com",
            "POST",
            "/",
            &[("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "DynamoDB_20120810.TransactWriteItems")],
            r#"{"TransactItems":[{"Put":{"TableName":"a","Item":{"k":{"S":"v"}}}}],"ClientRequestToken":null}"#,
        ),
        (
            "monitoring.us-east-1.amazonaws.com",
            "POST",
            "/service/GraniteServiceVersion20100801/operation/PutMetricData",
            &[("smithy-protocol", "rpc-v2-cbor")],
            "\u{bf}iNamespaceanaxjMetricData\u{9f}",
        ),
        ("lambda.us-east-1.amazonaws.com", "POST", "/2015-03-31/functions/a%3Ab/invocations?Qualifier=1", &[], ""),
        ("123456789012.s3-control.us-east-1.amazonaws.com", "GET", "/v20180820/mrap/instances/a/b/policy", &[], ""),
        ("x.execute-api.us-east-1.amazonaws.com", "GET", "/stage/%40connections/1", &[], ""),
    ];
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let mut understood = 0;
    for round in 0..20_000 {
        let (host, method, target, headers, body) = seeds[round % seeds.len()];
        let mut change = |text: &str, alphabet: &[u8]| {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..random(4) {
                let at = random(bytes.len());
                match (random(3), bytes.is_empty()) {
                    (0, false) => bytes[at] = alphabet[random(alphabet.len())],
                    (1, false) => drop(bytes.remove(at)),
                    _ => bytes.insert(at, alphabet[random(alphabet.len())]),
                }
            }
            bytes
        };
        let host = String::from_utf8_lossy(&change(host, b"abs3-.0vpce")).into_owned();
        let target = String::from_utf8_lossy(&change(target, b"/%.?&=+a2F{}")).into_owned();
        let body = change(body, b"{}[]<>&;\"'.=:%\x00\x9f\xbf\xff0aA");
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (Ok(request), Some(endpoint)) = (request.body(()), resolve(&host)) else { continue };
        let (parts, ()) = request.into_parts();
        let Ok(route) = route(&endpoint, None, &parts) else { continue };
        let found = route.finish(parts.uri.query().unwrap_or_default(), Some(&body), None);
        understood += usize::from(found.is_ok_and(|o| o.name != "unknown"));
    }
    assert!(understood > 1_000, "only {understood} were anything at all");
}
