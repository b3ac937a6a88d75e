//! Answers of real operations, as the model has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;

fn asked(service: &str, name: &str, protocol: Protocol) -> View {
    Masks::none(When::Asked, Vec::new()).agent(&operation(service, name, protocol), Some("secrets")).expect("it hides")
}

fn text(view: &View, body: &str) -> String {
    let out = cut_everywhere(view, &json_answer(), body.as_bytes()).unwrap_or_else(|e| panic!("{e}: {body}"));
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn the_model_says_what_is_sensitive_in_json() {
    for (service, name, body, path) in [
        ("secretsmanager", "GetSecretValue", r#"{"Name":"n","SecretString":"?"}"#, "/SecretString"),
        (
            "ssm",
            "GetParameter",
            r#"{"Parameter":{"Name":"n","Type":"SecureString","Value":"?","Version":3}}"#,
            "/Parameter/Value",
        ),
        ("ssm", "GetParametersByPath", r#"{"Parameters":[{"Name":"n","Value":"?"}]}"#, "/Parameters/0/Value"),
        (
            "lambda",
            "GetFunctionConfiguration",
            r#"{"Name":"n","Environment":{"Variables":{"A":"?"}}}"#,
            "/Environment/Variables/A",
        ),
        ("ecs", "DescribeTaskDefinition", r#"{"Name":"n","Password":"?"}"#, "/Password"),
    ] {
        let protocol = if service == "lambda" { Protocol::RestJson } else { Protocol::Json11 };
        let out = text(&asked(service, name, protocol), &body.replace('?', SECRET));
        assert!(!out.contains(SECRET), "{out}");
        let value: Value = serde_json::from_str(&out).expect("JSON");
        assert!(value.pointer(path).and_then(Value::as_str).is_some_and(|t| t.starts_with("masked:")), "{out}");
        assert!(out.contains("\"n\""), "{out}");
    }
}

#[test]
fn a_blob_stays_base64() {
    let source = format!(r#"{{"KeyId":"k","Plaintext":"{}"}}"#, STANDARD.encode(SECRET));
    let out: Value = serde_json::from_str(&text(&asked("kms", "Decrypt", Protocol::Json11), &source)).expect("JSON");
    let plain = STANDARD.decode(out["Plaintext"].as_str().expect("a text")).expect("base64");
    assert!(plain.starts_with(b"masked:"), "{out}");
    assert_eq!(out["KeyId"], "k");
}

#[test]
fn query_and_ec2_are_hidden_by_the_names_of_the_model() {
    let source = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n<AssumeRoleResult><Credentials><AccessKeyId>AKIA</AccessKeyId>\
         <SecretAccessKey>{SECRET}</SecretAccessKey><Expiration>2026-01-02T03:04:05Z</Expiration></Credentials></AssumeRoleResult>\
         <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"
    );
    assert_eq!(text(&asked("sts", "AssumeRole", Protocol::Query), &source), source.replace(SECRET, &token(SECRET)));
    let rules = masks(
        "[[rule]]\naction = 'ec2:DescribeInstances'\npath = ['$.Reservations[*].Instances[*].Tags[*].Value', '$.Reservations[*].Instances[*].LaunchTime']\n\
         [[rule]]\naction = 'iam:ListUsers'\npath = '$.Users[0].UserName'\n\
         [[rule]]\naction = 'sqs:ReceiveMessage'\npath = ['$.Messages[*].Body', \"$.Messages[*].Attributes['SenderId']\"]\n",
    );
    let source = format!(
        "<DescribeInstancesResponse><requestId>r</requestId><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>\
         <launchTime>2026-01-02T03:04:05.000Z</launchTime><tagSet><item><key>k</key><value>{SECRET}</value></item></tagSet></item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
    );
    let view = rules.agent(&operation("ec2", "DescribeInstances", Protocol::Ec2), None).expect("a rule");
    let moment = key().of(b"2026-01-02T03:04:05.000Z").moment();
    assert_eq!(
        text(&view, &source),
        source.replace(SECRET, &token(SECRET)).replace("2026-01-02T03:04:05.000Z", &moment)
    );
    let source = "<ListUsersResponse><ListUsersResult><Users><member><UserName>a</UserName></member><member><UserName>b</UserName></member></Users></ListUsersResult></ListUsersResponse>";
    let view = rules.agent(&operation("iam", "ListUsers", Protocol::Query), None).expect("a rule");
    assert_eq!(text(&view, source), source.replace(">a<", &format!(">{}<", token("a"))));
}

#[test]
fn flat_lists_and_maps_of_xml_are_found() {
    let rules = masks(
        "[[rule]]\naction = 's3:ListBucket'\npath = ['$.Contents[*].Key', '$.CommonPrefixes[1].Prefix']\n\
         [[rule]]\naction = 'cloudfront:GetDistributionConfig'\npath = '$..Comment'\n\
         [[rule]]\naction = 'sns:GetTopicAttributes'\npath = '$.Attributes.Policy'\n",
    );
    let source = "<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name><Contents><Key>k</Key><Size>1</Size></Contents><Contents><Key>l</Key></Contents></ListBucketResult>";
    let view = rules.agent(&operation("s3", "ListObjectsV2", Protocol::RestXml), None).expect("a rule");
    assert_eq!(
        text(&view, source),
        source.replace(">k<", &format!(">{}<", token("k"))).replace(">l<", &format!(">{}<", token("l")))
    );
    let source = "<DistributionConfig><CallerReference>r</CallerReference><Comment>c</Comment></DistributionConfig>";
    let view = rules.agent(&operation("cloudfront", "GetDistributionConfig", Protocol::RestXml), None).expect("a rule");
    assert_eq!(text(&view, source), source.replace(">c<", &format!(">{}<", token("c"))));
    let source = "<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes><entry><key>Policy</key><value>p</value></entry>\
                  <entry><key>Owner</key><value>o</value></entry></Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>";
    let view = rules.agent(&operation("sns", "GetTopicAttributes", Protocol::Query), None).expect("a rule");
    assert_eq!(text(&view, source), source.replace(">p<", &format!(">{}<", token("p"))));
    // A value before its key may be the one.
    let source = source.replace("<key>Policy</key><value>p</value>", "<value>p</value><key>Policy</key>");
    assert!(!text(&view, &source).contains(">p<"));
}

#[test]
fn a_number_of_dynamodb_stays_one() {
    let rules = masks("[[rule]]\naction = 'dynamodb:GetItem'\npath = ['$.Item.card', '$.Item.deep.M.n']\n");
    let view = rules.agent(&operation("dynamodb", "GetItem", Protocol::Json10), None).expect("a rule");
    let source = r#"{"Item":{"id":{"S":"1"},"card":{"N":"12"},"deep":{"M":{"n":{"NS":["1","2"]},"o":{"BOOL":true}}}}}"#;
    let out = text(&view, source);
    let number = |t: &str| key().of(t.as_bytes()).number();
    let expected = format!(
        r#"{{"Item":{{"id":{{"S":"1"}},"card":{{"N":"{}"}},"deep":{{"M":{{"n":{{"NS":["{}","{}"]}},"o":{{"BOOL":true}}}}}}}}}}"#,
        number("12"),
        number("1"),
        number("2")
    );
    assert_eq!(out, expected);
}

#[test]
fn what_rules_say_of_the_record_alone_the_agent_sees() {
    let rules = masks(
        "[[rule]]\naction = 'dynamodb:GetItem'\npath = '$.Item.a'\n\
         [[rule]]\naction = 'dynamodb:GetItem'\npath = '$.Item.b'\nonly = 'record'\n\
         [[rule]]\naction = 'dynamodb:PutItem'\nrequest = '$.Item.c.S'\n",
    );
    let get = operation("dynamodb", "GetItem", Protocol::Json10);
    let source = format!(r#"{{"Item":{{"a":{{"S":"{SECRET}"}},"b":{{"S":"B"}},"password":{{"S":"P"}}}}}}"#);
    let agent = text(&rules.agent(&get, None).expect("a rule"), &source);
    assert!(!agent.contains(SECRET) && agent.contains(r#""B""#) && agent.contains(r#""P""#), "{agent}");
    let record = text(&rules.record(&get, None), &source);
    assert!(![SECRET, r#""B""#, r#""P""#].iter().any(|s| record.contains(s)), "{record}");
    let put = operation("dynamodb", "PutItem", Protocol::Json10);
    assert!(rules.agent(&put, None).is_none(), "the request is no answer");
    let kept = rules.parameters(&put, format!(r#"{{"Item":{{"c":{{"S":"{SECRET}"}},"d":{{"S":"D"}}}}}}"#), key);
    assert_eq!(kept, format!(r#"{{"Item":{{"c":{{"S":"{}"}},"d":{{"S":"D"}}}}}}"#, token(SECRET)));
}

#[test]
fn who_is_asked_for_and_what_is_left_out() {
    let operation = operation("secretsmanager", "GetSecretValue", Protocol::Json11);
    let masks = |when, except: &[&str]| {
        Masks::parse("masks.toml", "", when, except.iter().map(|e| (*e).to_owned()).collect()).expect("good")
    };
    assert!(masks(When::Asked, &[]).agent(&operation, None).is_none());
    assert!(masks(When::Asked, &[]).agent(&operation, Some("secrets")).is_some());
    assert!(masks(When::Always, &[]).agent(&operation, None).is_some());
    assert!(masks(When::Always, &["secretsmanager:*"]).agent(&operation, None).is_none());
    // A name is enough, whatever the model says.
    let view = masks(When::Never, &[]).agent(&operation, Some("secrets")).expect("names");
    assert!(!text(&view, &format!(r#"{{"SecretString":"{SECRET}"}}"#)).contains(SECRET));
    // Nothing that the model knows of is sensitive there.
    let identity = super::operation("sts", "GetCallerIdentity", Protocol::Query);
    assert!(masks(When::Always, &[]).agent(&identity, None).is_none());
}

#[test]
fn events_are_framed_anew() {
    let frame = |headers: &[(&str, &str)], payload: &[u8]| {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(name.len() as u8);
            head.extend(name.as_bytes());
            head.push(7);
            head.extend((value.len() as u16).to_be_bytes());
            head.extend(value.as_bytes());
        }
        let mut out = ((16 + head.len() + payload.len()) as u32).to_be_bytes().to_vec();
        out.extend((head.len() as u32).to_be_bytes());
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out.extend(head);
        out.extend(payload);
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out
    };
    let event = |name: &str, payload: &str| {
        frame(
            &[(":message-type", "event"), (":event-type", name), (":content-type", "application/json")],
            payload.as_bytes(),
        )
    };
    let rules = masks(
        "[[rule]]\naction = 'bedrock:InvokeModelWithResponseStream'\npath = '$.stream.contentBlockDelta.delta.text'\n",
    );
    // The action is the same for both ways to ask.
    let operation = operation("bedrock-runtime", "ConverseStream", Protocol::RestJson);
    let view = rules.agent(&operation, None).expect("a rule");
    let body = |secret: &str| {
        let delta = |text: &str| format!(r#"{{"contentBlockIndex":0,"delta":{{"text":"{text}"}}}}"#);
        let error = frame(&[(":message-type", "exception"), (":exception-type", "x")], b"{}");
        [
            event("messageStart", r#"{"role":"assistant"}"#),
            event("contentBlockDelta", &delta(secret)),
            event("messageStop", "{}"),
            error,
        ]
        .concat()
    };
    let answer = Answer { content_type: Some("application/vnd.amazon.eventstream"), ..Answer::default() };
    assert_eq!(cut_everywhere(&view, &answer, &body(SECRET)), Ok(body(&token(SECRET))));
    let mut wrong = body(SECRET);
    wrong[120] ^= 1;
    assert!(through(&view, &answer, &wrong, 3).is_err(), "a wrong checksum");
    assert!(through(&view, &answer, &body(SECRET)[..100], 3).is_err(), "cut short");
    assert!(through(&view, &answer, &[0xff; 64], 3).is_err(), "too long");
}

#[test]
fn members_in_the_head_are_hidden_too() {
    let rules = masks(
        "[[rule]]\naction = 's3:GetObject'\nresource = 'arn:aws:x:*'\npath = ['$.Metadata.owner', '$.LastModified', '$.ContentLanguage']\n",
    );
    let view = rules.agent(&operation("s3", "GetObject", Protocol::RestXml), None).expect("a rule");
    let mut headers = http::HeaderMap::new();
    for (name, value) in [
        ("x-amz-meta-owner", SECRET),
        ("x-amz-meta-other", "o"),
        ("last-modified", "Fri, 02 Jan 2026 03:04:05 GMT"),
        ("content-language", "de"),
        ("content-type", "text/plain"),
    ] {
        headers.insert(http::HeaderName::from_static(name), value.parse().expect("a value"));
    }
    let mut found: Vec<(String, Option<String>)> = view
        .headers(&headers, &key())
        .into_iter()
        .map(|(n, v)| (n.to_string(), v.map(|v| v.to_str().expect("text").to_owned())))
        .collect();
    found.sort();
    let expected =
        [("content-language", Some(token("de"))), ("last-modified", None), ("x-amz-meta-owner", Some(token(SECRET)))];
    assert_eq!(found, expected.map(|(n, v)| (n.to_owned(), v)));
    // The body is none of it.
    assert!(view.stream(&Answer::default(), key()).expect("readable").is_none());
    let mut elsewhere = operation("s3", "GetObject", Protocol::RestXml);
    elsewhere.needs[0].resources = vec!["arn:aws:s3:::other/k".into()];
    assert!(rules.agent(&elsewhere, None).is_none());
}
