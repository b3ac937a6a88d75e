//! What is too much, and what can be read in two ways below the head.

use super::*;

const DYNAMO: &str = "dynamodb.us-east-1.amazonaws.com";
const BUCKET: &str = "b.s3.us-east-1.amazonaws.com";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn dynamo(operation: &str, body: &str) -> Result<Operation, Malformed> {
    let target = format!("DynamoDB_20120810.{operation}");
    read(DYNAMO, "POST", "/", &[("content-type", "application/x-amz-json-1.0"), ("x-amz-target", &target)], body)
}

fn refused(found: Result<Operation, Malformed>, because: &str) {
    match found {
        Err(Malformed(text)) => assert!(text.contains(because), "{text}"),
        Ok(operation) => panic!("read as {} of {} resources", operation.name, operation.resources().len()),
    }
}

fn cbor(body: &[u8]) -> Result<Operation, Malformed> {
    let headers = [("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor")];
    let (parts, ()) = post("/service/GraniteServiceVersion20100801/operation/PutMetricData", &headers);
    let route = route(&resolve("monitoring.us-east-1.amazonaws.com").expect("AWS's"), None, &parts)?;
    route.finish("", Some(body), None)
}

/// A body of short values would be a hundred times its size in memory.
#[test]
fn no_reader_makes_more_values_than_the_budget() {
    let most = super::super::budget::VALUES;
    let array = |n: usize| format!(r#"{{"Key":[{}0]}}"#, "0,".repeat(n));
    assert!(dynamo("GetItem", &array(most / 2)).is_ok());
    refused(dynamo("GetItem", &array(most)), "more than 200000 values");

    let parts = "a.".repeat(30);
    let form = |n: usize| (0..n).map(|i| format!("&k{i}.{parts}a=")).collect::<String>();
    let sts = |body: &str| read("sts.us-east-1.amazonaws.com", "POST", "/", &[FORM], body);
    assert!(sts(&format!("Action=GetCallerIdentity{}", form(most / 40))).is_ok());
    refused(sts(&format!("Action=GetCallerIdentity{}", form(most / 30))), "more than 200000 values");
    refused(sts(&"&".repeat(most).split('&').map(|_| "a=&").collect::<String>()), "more than 200000 values");

    let xml = |n: usize| format!("<Tagging>{}</Tagging>", "<a/>".repeat(n));
    assert!(read(BUCKET, "PUT", "/?tagging", &[], &xml(most / 2)).is_ok());
    refused(read(BUCKET, "PUT", "/?tagging", &[], &xml(most)), "more than 200000 values");

    // {"Namespace": [0, …]}; the array without and with a length of its own.
    let body = |head: &[u8], n: usize, end: &[u8]| [b"\xa1iNamespace", head, &vec![0; n], end].concat();
    assert!(cbor(&body(&[0x9f], most / 2, &[0xff])).is_ok());
    refused(cbor(&body(&[0x9f], most, &[0xff])), "more than 200000 values");
    let length = u32::try_from(most).expect("small").to_be_bytes();
    refused(cbor(&body(&[&[0x9a], length.as_slice()].concat(), most, &[])), "more than 200000 values");
}

/// The counting goes by heads: what stands in texts and bytes is no value, whatever their length is written in.
#[test]
fn long_texts_are_one_value() {
    let text = vec![b'0'; 300_000];
    for length in [&b"\x7a\x00\x04\x93\xe0"[..], b"\x7b\x00\x00\x00\x00\x00\x04\x93\xe0"] {
        let found = cbor(&[b"\xa1iNamespace", length, &text].concat()).expect("well-formed");
        assert_eq!(found.parameters["Namespace"].as_str().map(str::len), Some(300_000));
    }
    assert!(cbor(b"\xa1iNamespace\x7b\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    assert!(dynamo("GetItem", &format!(r#"{{"TableName":"{}"}}"#, "0".repeat(300_000))).is_ok());
}

#[test]
fn more_tables_and_objects_than_aws_takes_are_refused() {
    let tables = |n: usize| (0..n).map(|i| format!(r#""t{i}":{{}}"#)).collect::<Vec<_>>().join(",");
    let found = dynamo("BatchGetItem", &format!(r#"{{"RequestItems":{{{}}}}}"#, tables(100))).expect("well-formed");
    assert_eq!(found.resources().len(), 100);
    refused(dynamo("BatchGetItem", &format!(r#"{{"RequestItems":{{{}}}}}"#, tables(101))), "DynamoDB takes 100");
    let items = |n: usize| vec![r#"{"Get":{"TableName":"t"}}"#; n].join(",");
    let found = dynamo("TransactGetItems", &format!(r#"{{"TransactItems":[{}]}}"#, items(100))).expect("well-formed");
    assert_eq!(found.resources(), ["arn:aws:dynamodb:us-east-1:123456789012:table/t"]);
    refused(dynamo("TransactGetItems", &format!(r#"{{"TransactItems":[{}]}}"#, items(101))), "DynamoDB takes 100");
    let statements = vec![r#"{"Statement":"SELECT"}"#; 101].join(",");
    refused(dynamo("BatchExecuteStatement", &format!(r#"{{"Statements":[{statements}]}}"#)), "DynamoDB takes 100");

    let objects = |n: usize| format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(n));
    let found = read(BUCKET, "POST", "/?delete", &[], &objects(1_000)).expect("well-formed");
    assert_eq!(found.needs[0].resources.len(), 1_000);
    refused(read(BUCKET, "POST", "/?delete", &[], &objects(1_001)), "S3 takes 1000");
    let query = (0..1_001).map(|n| format!("&a{n}")).collect::<String>();
    refused(read(BUCKET, "GET", &format!("/?list-type=2{query}"), &[], ""), "more than 1000 parameters");
}

#[test]
fn another_accounts_resource_is_not_ours() {
    let sqs = |operation: &str, body: &str| {
        let target = format!("AmazonSQS.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
        read("sqs.us-east-1.amazonaws.com", "POST", "/", &headers, body)
            .expect("well-formed")
            .resources()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let url = |owner: &str| format!(r#"{{"QueueUrl":"https://sqs.us-east-1.amazonaws.com/{owner}jobs"}}"#);
    assert_eq!(sqs("SendMessage", &url("999999999999/")), ["arn:aws:sqs:us-east-1:999999999999:jobs"]);
    assert_eq!(sqs("SendMessage", &url("123456789012/")), ["arn:aws:sqs:us-east-1:123456789012:jobs"]);
    for unclear in ["", "queue/", "1234567890123/"] {
        assert_eq!(sqs("SendMessage", &url(unclear)), ["*"], "{unclear}");
    }
    assert_eq!(sqs("SendMessage", r#"{"QueueUrl":"jobs"}"#), ["*"]);
    let named = r#"{"QueueName":"jobs","QueueOwnerAWSAccountId":"999999999999"}"#;
    assert_eq!(sqs("GetQueueUrl", named), ["arn:aws:sqs:us-east-1:999999999999:jobs"]);
    assert_eq!(sqs("GetQueueUrl", r#"{"QueueName":"jobs"}"#), ["arn:aws:sqs:us-east-1:123456789012:jobs"]);
    let form = read("sqs.us-east-1.amazonaws.com", "POST", "/999999999999/q", &[FORM], "Action=SendMessage");
    assert_eq!(form.expect("well-formed").resources(), ["arn:aws:sqs:us-east-1:999999999999:q"]);

    let json = |host: &str, target: &str, body: &str| {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        read(host, "POST", "/", &headers, body)
            .expect("well-formed")
            .resources()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let ecr = |body: &str| {
        json("api.ecr.us-east-1.amazonaws.com", "AmazonEC2ContainerRegistry_V20150921.BatchGetImage", body)
    };
    let image = r#"{"registryId":"999999999999","repositoryName":"r"}"#;
    assert_eq!(ecr(image), ["arn:aws:ecr:us-east-1:999999999999:repository/r"]);
    assert_eq!(ecr(r#"{"repositoryName":"r"}"#), ["arn:aws:ecr:us-east-1:123456789012:repository/r"]);
    assert_eq!(ecr(r#"{"registryId":"other","repositoryName":"r"}"#), ["*"]);
    let glue = |body: &str| json("glue.us-east-1.amazonaws.com", "AWSGlue.BatchDeletePartition", body);
    let resources = glue(r#"{"DatabaseName":"d","CatalogId":"999999999999"}"#);
    assert_eq!(resources[0], "arn:aws:glue:us-east-1:999999999999:database/d");
    assert!(!resources.iter().any(|r| r.contains("123456789012")), "{resources:?}");
    // Whether the resource or something else is the other account's cannot be told: both are judged.
    let authorize = |owner: &str| {
        let body = format!("Action=AuthorizeEndpointAccess&Version=2012-12-01&ClusterIdentifier=c{owner}");
        read("redshift.us-east-1.amazonaws.com", "POST", "/", &[FORM], &body)
            .expect("well-formed")
            .resources()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (own, same) = (authorize(""), authorize("&Account=123456789012"));
    assert_eq!(own, ["arn:aws:redshift:us-east-1:123456789012:cluster:c"]);
    assert_eq!(own, same);
    let other = authorize("&Account=999999999999");
    assert!(other.contains(&"*".to_owned()) && own.iter().all(|r| other.contains(r)), "{other:?}");
}

#[test]
fn an_encoded_slash_does_not_join_bucket_and_key() {
    let path = |target: &str| read("s3.us-east-1.amazonaws.com", "GET", target, &[], "");
    refused(path("/bucket%2Fkey"), "encoded `/`");
    refused(path("/bucket%2fsub/key"), "encoded `/`");
    assert_eq!(path("/bucket/a%2Fb").expect("well-formed").resources(), ["arn:aws:s3:::bucket/a/b"]);
}

#[test]
fn xml_of_two_readings_is_refused() {
    let delete = |body: &str| read(BUCKET, "POST", "/?delete", &[], body);
    let object = "<Object><Key>a</Key></Object>";
    for declared in ["", "<?xml version='1.0'?>", "<?xml version=\"1.0\" encoding=\"utf-8\"?>"] {
        assert!(
            delete(&format!("{declared}<Delete xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>{object}</Delete>"))
                .is_ok()
        );
    }
    refused(delete(&format!("<?xml version='1.0' encoding='UTF-7'?><Delete>{object}</Delete>")), "XML 1.0 in UTF-8");
    refused(delete(&format!("<?xml version='1.1'?><Delete>{object}</Delete>")), "XML 1.0 in UTF-8");
    refused(delete(&format!("<Delete>{object}<s:Object><s:Key>b</s:Key></s:Object></Delete>")), "namespace prefix");
    refused(delete("<Delete><Object><Key>a\u{1}</Key></Object></Delete>"), "control characters");
    refused(delete("<Delete><Object><Key>a&#1;</Key></Object></Delete>"), "control characters");
    refused(delete(&format!("<Delete>{object}<object><Key>b</Key></object></Delete>")), "not spelt as AWS");
    // It may be new, or be taken for the member that it nearly is: then something else was judged.
    refused(dynamo("GetItem", r#"{"TableName":"a","tablename":"b"}"#), "send `TableName`");
    refused(dynamo("PutItem", r#"{"TableName":"a","Item":{"k":{"s":"1"}}}"#), "send `S`");
    assert!(dynamo("GetItem", r#"{"TableName":"a","Brandnew":"b"}"#).is_ok());
    let form = |body: &str| read("sts.us-east-1.amazonaws.com", "POST", "/", &[FORM], body);
    refused(form("Action=GetAccessKeyInfo&accesskeyid=a"), "send `AccessKeyId`");
    refused(delete("<Delete><Object><Key>a</Key><Other>b</Other></Object></Delete>"), "no member of");
    // The type of a grantee is an attribute with a prefix, and is AWS's own.
    let grant = "<AccessControlPolicy><AccessControlList><Grant><Grantee xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' \
                 xsi:type='Group'><URI>u</URI></Grantee><Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>";
    assert!(read(BUCKET, "PUT", "/?acl", &[], grant).is_ok());
}

#[test]
fn a_plain_plus_in_a_query_or_a_copy_source_is_refused() {
    refused(read(BUCKET, "GET", "/?list-type=2&prefix=a+b", &[], ""), "%20 or %2B");
    let found = read(BUCKET, "GET", "/?list-type=2&prefix=a%2Bb", &[], "").expect("well-formed");
    assert_eq!(found.parameters["Prefix"], "a+b");
    refused(read("lambda.us-east-1.amazonaws.com", "GET", "/2015-03-31/functions?Marker=a+b", &[], ""), "%20 or %2B");
    let copy = |source: &str| read(BUCKET, "PUT", "/k", &[("x-amz-copy-source", source)], "");
    refused(copy("/o/a+b"), "%20 or %2B");
    assert!(copy("/o/a%2Bb").expect("well-formed").resources().contains(&"arn:aws:s3:::o/a+b"));
}

#[test]
fn what_is_judged_is_the_body_and_not_an_envelope_or_another_charset() {
    let digest = |value: &'static str| [("x-amz-content-sha256", value)];
    let chunked = digest("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    refused(read(BUCKET, "PUT", "/?policy", &chunked, "{}"), "aws-chunked");
    refused(read(BUCKET, "POST", "/?delete", &chunked, "<Delete/>"), "aws-chunked");
    assert!(read(BUCKET, "PUT", "/k", &chunked, "").is_ok());
    assert!(read(BUCKET, "PUT", "/?policy", &digest("UNSIGNED-PAYLOAD"), "{}").is_ok());
    for (charset, fits) in [("UTF-8", true), ("\"utf-8\"", true), ("utf-16", false), ("utf-8; charset=utf-7", false)] {
        let kind = format!("application/x-www-form-urlencoded; charset={charset}");
        let found =
            read("sts.us-east-1.amazonaws.com", "POST", "/", &[("content-type", &kind)], "Action=GetCallerIdentity");
        assert_eq!(found.is_ok(), fits, "{charset}");
    }
}

#[test]
fn a_header_that_is_not_text_is_not_absent() {
    let mut request = http::Request::builder().method("PUT").uri("/k");
    let value = http::HeaderValue::from_bytes(b"a\xe9").expect("a header");
    request = request.header("x-amz-meta-a", value);
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    let found = route(&resolve(BUCKET).expect("AWS's"), None, &parts);
    assert!(found.is_err_and(|e| e.to_string().contains("x-amz-meta-a")));
}
