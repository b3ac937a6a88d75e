//! Real clients read masked answers without noticing: types, checksums, lengths.

use std::io::Write as _;

use serde_json::{Value, json};
use tollgate_tests::bed::BUCKET;
use tollgate_tests::host::Host;

use super::{SECRET, is_token, python, start};

/// Puts what the rules are about where it belongs.
fn furnish(host: &Host) {
    let people = json!({"people": [{"name": "Ann", "ssn": "123-45-6789"}, {"name": "Bob", "ssn": 987654321}], "x": {"secret": {"a": [SECRET, 1, true]}}});
    let text = format!("Ann <ann@example.com>, E-123456, 4111 1111 1111 1111\n{}\n", "plain text\n".repeat(100_000));
    let script = format!(
        r#"
import gzip
s3, db = boto3.client("s3"), boto3.client("dynamodb")
people = json.dumps({people}).encode()
s3.put_object(Bucket="{BUCKET}", Key="masked/people.json", Body=people)
s3.put_object(Bucket="{BUCKET}", Key="masked/packed.json", Body=gzip.compress(people), ContentEncoding="gzip")
s3.put_object(Bucket="{BUCKET}", Key="masked/note.txt", Body=sys.stdin.buffer.read())
db.create_table(TableName="t", BillingMode="PAY_PER_REQUEST", AttributeDefinitions=[{{"AttributeName": "id", "AttributeType": "S"}}],
    KeySchema=[{{"AttributeName": "id", "KeyType": "HASH"}}])
db.put_item(TableName="t", Item={{"id": {{"S": "1"}}, "value": {{"S": "seen"}}, "card": {{"S": "{SECRET}"}}, "raw": {{"B": b"{SECRET}"}},
    "deep": {{"M": {{"n": {{"N": "42"}}, "set": {{"NS": ["1", "2"]}}, "flag": {{"BOOL": True}}}}}}}})
print("null")
"#,
        people = python_literal(&people),
    );
    python(&host.agent("plain").stdin(text.as_bytes()), &script);
}

fn python_literal(value: &Value) -> String {
    value.to_string().replace("true", "True")
}

#[test]
fn the_cli_boto3_and_javascript_read_what_is_left() {
    let host = start();
    furnish(&host);
    let agent = host.agent("clients");
    let object = |found: &Value| {
        assert!(is_token(&found["people"][0]["ssn"]), "{found}");
        assert!(found["people"][1]["ssn"].is_number() && found["people"][1]["ssn"] != 987_654_321, "{found}");
        assert_eq!((&found["people"][0]["name"], &found["people"][1]["name"]), (&"Ann".into(), &"Bob".into()));
        let hidden = &found["x"]["secret"]["a"];
        assert!(is_token(&hidden[0]) && hidden[1].is_number() && hidden[2] == false, "{found}");
    };
    let item = |found: &Value| {
        assert_eq!(found["value"]["S"], "seen");
        assert!(is_token(&found["card"]["S"]), "{found}");
        assert!(
            found["deep"]["M"]["n"]["N"].as_str().is_some_and(|n| n != "42" && n.parse::<u64>().is_ok()),
            "{found}"
        );
        assert_eq!(found["deep"]["M"]["flag"]["BOOL"], false);
    };
    let script = format!(
        r##"
from decimal import Decimal
s3 = boto3.client("s3")
answer = s3.get_object(Bucket="{BUCKET}", Key="masked/people.json", ChecksumMode="ENABLED")
packed = s3.get_object(Bucket="{BUCKET}", Key="masked/packed.json")
s3.download_file("{BUCKET}", "masked/note.txt", "note.txt")
table = boto3.resource("dynamodb").Table("t").get_item(Key={{"id": "1"}})["Item"]
assert isinstance(table["deep"]["n"], Decimal) and len(table["deep"]["set"]) == 2, table
assert bytes(table["raw"]).startswith(b"masked:"), table
print(json.dumps({{
    "object": json.load(answer["Body"]), "packed": json.load(packed["Body"]), "encoding": packed.get("ContentEncoding"),
    "note": open("note.txt").read()[:200], "length": len(open("note.txt").read()),
    "item": boto3.client("dynamodb").get_item(TableName="t", Key={{"id": {{"S": "1"}}}}, ProjectionExpression="id, #v, card, deep",
        ExpressionAttributeNames={{"#v": "value"}})["Item"],
}}, default=list))
"##
    );
    let found = python(&agent, &script);
    object(&found["object"]);
    object(&found["packed"]);
    assert_eq!((&found["encoding"], &found["object"]), (&Value::Null, &found["packed"]));
    item(&found["item"]);
    let note = found["note"].as_str().expect("text");
    for hidden in ["ann@example.com", "E-123456", "4111"] {
        assert!(!note.contains(hidden), "{note}");
    }
    assert!(note.starts_with("Ann <masked:") && note.matches("masked:").count() == 3, "{note}");
    assert!(found["length"].as_u64().is_some_and(|n| n > 1_100_000), "{}", found["length"]);

    let key = r#"{"id":{"S":"1"}}"#;
    for aws in ["aws", "aws2"] {
        let agent = host.agent("clients-cli");
        let text =
            agent.run(&[aws, "dynamodb", "get-item", "--table-name", "t", "--key", key, "--output", "json"]).ok();
        item(&serde_json::from_str::<Value>(&text).expect("JSON")["Item"]);
        // Version 2's copy asks for the length first (HeadObject), and takes no object of another.
        let get = match aws {
            "aws" => format!("aws s3 cp s3://{BUCKET}/masked/people.json -"),
            _ => format!(
                "f=$(mktemp) && {aws} s3api get-object --bucket {BUCKET} --key masked/people.json $f >&2 && cat $f && rm $f"
            ),
        };
        let text = agent.run(&["sh", "-c", &get]).ok();
        object(&serde_json::from_str(&text).expect("JSON"));
    }
    let script = host.dir().join("clients/js/mask.mjs");
    let text = agent.run(&["node", script.to_str().expect("UTF-8"), BUCKET, "masked/people.json", "t"]).ok();
    let found: Value = serde_json::from_str(&text).expect("JSON");
    object(&found["object"]);
    item(&found["item"]);
    let timeline = agent.timeline();
    assert!(timeline.exchanges.iter().all(|e| e.error.is_none()), "{timeline:#?}");
}

/// DynamoDB's answers have a checksum that SDKs look at, Go's and Rust's among them.
#[test]
fn checksums_of_dynamodb_are_right() {
    let host = Host::start(tollgate_tests::host::Settings {
        policies: super::POLICIES.into(),
        masks: "[[rule]]\naction = 'dynamodb:GetItem'\npath = '$.Item.value'\n".into(),
        ..Default::default()
    });
    let clients = host.dir().join("clients").display().to_string();
    for (n, command) in [
        vec!["go-client".to_owned()],
        vec!["tollgate-rust-client".to_owned()],
        vec!["python3".to_owned(), format!("{clients}/client.py")],
        vec!["node".to_owned(), format!("{clients}/js/client.mjs")],
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{n}");
        let argv: Vec<&str> = command.iter().map(String::as_str).chain(["dynamodb", &table, SECRET]).collect();
        let text = host.agent("checksums").run(&argv).ok();
        assert!(text.starts_with("masked:"), "{command:?}: {text}");
    }
}

/// The answers of the protocols that are neither JSON nor bodies of S3.
#[test]
fn xml_and_cbor_are_masked() {
    let host = start();
    let script = format!(
        r#"
iam, cw = boto3.client("iam"), boto3.client("cloudwatch")
iam.create_user(UserName="u", Path="/{path}/")
cw.put_metric_alarm(AlarmName="a", AlarmDescription="{SECRET}", MetricName="m", Namespace="n", Period=60, EvaluationPeriods=1,
    Threshold=1.0, ComparisonOperator="GreaterThanThreshold", Statistic="Sum")
print(json.dumps([iam.get_user(UserName="u")["User"]["Path"], cw.describe_alarms()["MetricAlarms"][0]["AlarmDescription"],
    cw.describe_alarms()["MetricAlarms"][0]["AlarmName"]]))
"#,
        path = SECRET.replace(' ', "-"),
    );
    let found = python(&host.agent("protocols"), &script);
    assert!(is_token(&found[0]) && is_token(&found[1]), "{found}");
    assert_eq!(found[2], "a");
}

/// An answer that is much longer than what is held of it.
#[test]
fn a_long_answer_takes_no_memory() {
    let host = start();
    let mut object = b"{\"people\":[".to_vec();
    for n in 0..400_000 {
        let comma = if n == 0 { "" } else { "," };
        write!(object, "{comma}{{\"name\":\"{n:0100}\",\"ssn\":\"123-45-6789\"}}").expect("written");
    }
    object.extend(b"]}");
    let from = host.file("long", &object);
    let target = host.dir().join("s3").join(BUCKET).join("masked");
    std::fs::create_dir_all(&target).expect("a folder");
    std::fs::rename(&from, target.join("long.json")).expect("an object");
    let get = |key: &str| {
        format!(
            "n = 0\nbad = False\nfor piece in boto3.client('s3').get_object(Bucket='{BUCKET}', Key='{key}')['Body'].iter_chunks(1 << 20):\n    \
             n += len(piece)\n    bad |= b'123-45-6789' in piece\nprint(json.dumps([n, bad]))"
        )
    };
    let short = host.dir().join("s3").join(BUCKET).join("masked/short.json");
    std::fs::write(short, "{}").expect("an object");
    python(&host.agent("first"), &get("masked/short.json"));
    let before = host.daemon_memory();
    let found = python(&host.agent("long"), &get("masked/long.json"));
    assert_eq!(found[1], false);
    assert!(found[0].as_u64().is_some_and(|n| n > object.len() as u64), "{found}");
    let grown = host.daemon_memory() - before;
    assert!(grown < 16 << 20, "it grew by {grown} bytes over an answer of {}", object.len());
}
