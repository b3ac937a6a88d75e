//! Answers whose secrets are hidden from the agent and from all that the daemon writes, and those that cannot be read and
//! are not passed.

use serde_json::Value;
use tollgate_tests::bed::BUCKET;
use tollgate_tests::host::{Agent, Host, Settings};

mod clients;
mod nowhere;
mod rules;

const POLICIES: &str = r#"
@id("tests-allow")
permit (principal, action, resource)
unless { context.session.name like "masked-*" };

@id("tests-mask")
@mask("secrets")
permit (principal, action, resource)
when { context.session.name like "masked-*" };
"#;

/// Rules are about every session: those that must see what there is look through others.
const RULES: &str = r#"
[[rule]]
action = "dynamodb:GetItem"
path = ["$.Item.card", "$.Item.deep.M.*", "$.Item.raw"]

[[rule]]
action = "dynamodb:PutItem"
request = ["$.Item.card", "$.Item.deep", "$.Item.raw"]

[[rule]]
action = "s3:GetObject"
resource = "arn:aws:s3:::tollgate-test/masked/*.json"
as = "json"
path = ["$.Body.people[*].ssn", "$.Body..secret"]

[[rule]]
action = "s3:GetObject"
resource = "arn:aws:s3:::tollgate-test/masked/*.txt"
as = "text"
path = "$.Body"
patterns = ["email", "card-number", "private-key", "employee"]

[[rule]]
action = "iam:GetUser"
path = "$.User.Path"

[[rule]]
action = "cloudwatch:DescribeAlarms"
path = "$.MetricAlarms[*].AlarmDescription"

[[pattern]]
name = "employee"
regex = "E-[0-9]{6}"
"#;

const SECRET: &str = "correct horse battery staple";

fn start() -> Host {
    Host::start(Settings { policies: POLICIES.into(), masks: RULES.into(), ..Settings::default() })
}

/// Runs Python that has the packages of the clients and prints JSON.
fn python(agent: &Agent<'_>, script: &str) -> Value {
    let text = agent.python(&format!("import boto3, json, sys\n{script}")).ok();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn is_token(value: &Value) -> bool {
    value.as_str().is_some_and(|s| s.starts_with("masked:"))
}

#[test]
fn a_secret_is_masked_in_the_answer_and_nowhere_recorded() {
    let host = start();
    let create = ["aws", "secretsmanager", "create-secret", "--name", "lunch", "--secret-string", SECRET];
    host.agent("plain").run(&create).ok();
    let get = ["aws", "secretsmanager", "get-secret-value", "--secret-id", "lunch", "--output", "json"];
    // It is there to be had.
    let plain: Value = serde_json::from_str(&host.agent("plain").run(&get).ok()).expect("JSON");
    assert_eq!(plain["SecretString"], SECRET);
    let agent = host.agent("masked-json");
    let text = agent.run(&get).ok();
    assert!(!text.contains(SECRET), "{text}");
    let masked: Value = serde_json::from_str(&text).expect("JSON");
    assert!(is_token(&masked["SecretString"]), "{text}");
    for field in ["Name", "ARN", "VersionId"] {
        assert_eq!(masked[field], plain[field], "{text}");
    }
    let timeline = agent.timeline();
    let exchange = timeline.only("secretsmanager:GetSecretValue");
    assert_eq!((exchange.decision.as_str(), exchange.status, exchange.error.as_deref()), ("allow", Some(200), None));
    // The request that made it held it too.
    let sessions: Vec<Value> =
        serde_json::from_str(&host.tollgate(&["sessions", "list", "--json"]).ok()).expect("JSON");
    assert_eq!(sessions.len(), 3, "{sessions:?}");
    for session in sessions {
        let shown = host.tollgate(&["sessions", "show", session["id"].as_str().expect("an id"), "--json"]).ok();
        assert!(!exchanges(&shown).contains(SECRET), "{shown}");
    }
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
}

/// Exchanges of a timeline as text: the command line of the session is its caller's own.
fn exchanges(shown: &str) -> String {
    let shown: Value = serde_json::from_str(shown).expect("JSON");
    assert_eq!(shown["exchanges"].as_array().map(Vec::len), Some(1), "{shown}");
    shown["exchanges"].to_string()
}

#[test]
fn an_answer_that_cannot_be_masked_is_not_passed_on() {
    let host = start();
    let put = format!(
        "s3 = boto3.client('s3')\nfor key in ['masked/not.json', 'masked/late.json']:\n    \
         s3.put_object(Bucket='{BUCKET}', Key=key, Body=(b'[' + b'1,' * 600000 if 'late' in key else b'') + b'no JSON {SECRET}')\nprint('null')"
    );
    python(&host.agent("plain"), &put);
    let agent = host.agent("denied-by-the-mask");
    let get = |key: &str, more: &str| {
        format!("boto3.client('s3').get_object(Bucket='{BUCKET}', Key='{key}'{more})['Body'].read()")
    };
    let text = agent.python(&format!("import boto3\nprint({})", get("masked/not.json", ""))).failed();
    assert!(text.contains("(AccessDenied) when calling the GetObject"), "{text}");
    let sentence =
        "the answer must be masked and could not be read, so it is not passed on: it is not the JSON that was expected";
    assert!(text.contains(sentence), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    let timeline = agent.timeline();
    let exchange = timeline.only("s3:GetObject");
    assert_eq!((exchange.decision.as_str(), exchange.status), ("allow", Some(403)), "{exchange:?}");
    assert!(exchange.error.as_deref().is_some_and(|e| e.contains("the endpoint answered 200")), "{exchange:?}");
    // A part of it could be anything.
    let text =
        agent.python(&format!("import boto3\nprint({})", get("masked/not.json", ", Range='bytes=4-40'"))).failed();
    assert!(text.contains("a part of something that can only be read whole"), "{text}");
    // What turns out late breaks off, and nothing that was not read has gone on.
    let script = format!(
        "import boto3\nbody = boto3.client('s3').get_object(Bucket='{BUCKET}', Key='masked/late.json')['Body']\ngot = b''\ntry:\n    \
         for piece in body.iter_chunks(1024):\n        got += piece\n    print('whole')\nexcept Exception as e:\n    print(type(e).__name__, len(got) > 0, set(got) <= set(b'[1,'))"
    );
    let late = host.agent("late");
    let text = late.python(&script).ok();
    assert!(text.ends_with("True True") && !text.contains("whole"), "{text}");
    let timeline = late.timeline();
    let exchange = timeline.only("s3:GetObject");
    assert!(exchange.error.as_deref().is_some_and(|e| e.contains("what follows could not be read")), "{exchange:?}");
    timeline.event("refused", "what follows could not be read");
    let said = host.tollgate(&["verify"]);
    assert!(said.status.success() && said.stdout.starts_with("intact"), "{said}");
}
