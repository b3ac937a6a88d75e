//! `AssumeRoleWithWebIdentity` from inside a session, as CI's web identity profiles do it: the daemon answers, and the
//! session acts for whom the token names from then on.

use std::sync::OnceLock;

use serde_json::{Value, json};
use tollgate_tests::bed::{ACCOUNT, BUCKET};
use tollgate_tests::host::{Agent, Host, Provider, Settings};

const PORT: u16 = 9411;

/// Nobody may do anything but who has a token; `s3-readers` is a group of alice's.
const POLICIES: &str = r#"
@id("unidentified")
@reason("This session has no verified identity.")
forbid (principal, action, resource)
unless { principal.identified };

@id("web-identity")
permit (principal, action in [AWS::Action::"sts:AssumeRoleWithWebIdentity", AWS::Action::"sts:GetCallerIdentity"], resource)
unless { context.session.name like "not-here-*" };

@id("readers")
permit (principal in Tollgate::Group::"s3-readers", action in [AWS::Action::"s3:Get*", AWS::Action::"s3:List*"], resource);
"#;

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let extra = format!("[[identity.issuer]]\nurl = \"http://127.0.0.1:{PORT}\"\naudience = [\"tollgate\"]\n");
        Host::start(Settings { policies: POLICIES.into(), extra, ..Settings::default() })
    })
}

fn provider() -> &'static Provider {
    static PROVIDER: OnceLock<Provider> = OnceLock::new();
    PROVIDER.get_or_init(|| host().provider(PORT))
}

fn role() -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/ci/deploy")
}

/// An agent whose configuration, and nothing else, names the role and the token's file.
fn configured(name: &str, token: &str) -> Agent<'static> {
    let agent = host().agent(name);
    let token = host().file("token", token.as_bytes());
    let aws = agent.home().join(".aws");
    std::fs::create_dir(&aws).expect("a directory");
    let config = format!(
        "[default]\nregion = us-east-1\nrole_arn = {}\nrole_session_name = run-7\nweb_identity_token_file = {}\n",
        role(),
        token.display()
    );
    std::fs::write(aws.join("config"), config).expect("a file");
    for file in ["", "config"] {
        std::os::unix::fs::chown(aws.join(file), Some(65534), Some(65534)).expect("chown");
    }
    agent
}

const LIST: [&str; 5] = ["s3api", "list-objects-v2", "--bucket", BUCKET, "--output"];

#[test]
fn a_web_identity_profile_works_with_unmodified_clients_and_binds_the_session() {
    let python = format!("import boto3\nboto3.client('s3').list_objects_v2(Bucket='{BUCKET}')");
    let js = format!(
        "const {{ S3Client, ListObjectsV2Command }} = await import('@aws-sdk/client-s3');\
         await new S3Client().send(new ListObjectsV2Command({{ Bucket: '{BUCKET}' }}))"
    );
    let js_file = host().dir().join("clients/js/web-identity.mjs");
    std::fs::write(&js_file, js).expect("a script");
    let js_file = js_file.display().to_string();
    let cli = [&["aws"], &LIST[..], &["json"]].concat();
    for (name, command) in [("cli", cli), ("boto3", vec!["python3", "-c", &python]), ("js", vec!["node", &js_file])] {
        let agent = configured(name, &provider().issue("alice", "tollgate", 3600));
        agent.run(&command).ok();
        let timeline = agent.timeline();
        assert_eq!(timeline.session["issuer"], Value::Null, "it began without a token");
        let assumed = timeline.only("sts:AssumeRoleWithWebIdentity");
        assert_eq!(
            (assumed.decision.as_str(), assumed.status, assumed.subject.as_str()),
            ("allow", Some(200), "alice")
        );
        assert_eq!(assumed.resources, [role()]);
        assert!(assumed.parameters.contains("\"WebIdentityToken\":\"masked:"), "{assumed:?}");
        let list = timeline.only("s3:ListBucket");
        assert_eq!((list.decision.as_str(), list.subject.as_str()), ("allow", "alice"), "{name}");
        let bound = timeline.event("identity", "bound by AssumeRoleWithWebIdentity");
        assert_eq!(bound.field("TOLLGATE_SUBJECT"), "alice");
    }
    assert!(host().world().is_empty(), "{:?}", host().world());
}

#[test]
fn the_answer_is_sts_and_the_credentials_are_the_sessions_placeholder() {
    let agent = host().agent("answer");
    let token = provider().issue("alice", "tollgate", 3600);
    let script = format!(
        r#"
import boto3
from botocore import UNSIGNED
from botocore.config import Config
sts = boto3.client("sts", region_name="us-east-1", config=Config(signature_version=UNSIGNED))
answer = sts.assume_role_with_web_identity(RoleArn="{}", RoleSessionName="run-7", WebIdentityToken="{token}", DurationSeconds=900)
answer.pop("ResponseMetadata")
show(json.loads(json.dumps(answer, default=str)))
show(placeholder()["AccessKeyId"])
show(answer["Credentials"]["Expiration"].timestamp() - time.time())
"#,
        role()
    );
    let seen = agent.probe(&script);
    let answer = &seen[0];
    assert_eq!(answer["SubjectFromWebIdentityToken"], "alice");
    assert_eq!(answer["AssumedRoleUser"]["Arn"], format!("arn:aws:sts::{ACCOUNT}:assumed-role/deploy/run-7"));
    assert_eq!(answer["Provider"], provider().issuer);
    assert_eq!(answer["Credentials"]["AccessKeyId"], seen[1]);
    let left = seen[2].as_f64().expect("seconds");
    assert!((800.0..=900.0).contains(&left), "{left}");
}

/// What the daemon says to a token, from a session of this name.
fn tried(name: &str, flags: &[&str], tokens: &[&str], role: &str) -> (Agent<'static>, Vec<Value>) {
    let agent = host().agent(name).flags(flags);
    let script = format!(
        r#"
for token in {}:
    body = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=run-7&RoleArn={role}&WebIdentityToken=" + token
    show(ask(tls(STS), message("POST / HTTP/1.1", [("Host", STS), ("Content-Type", "application/x-www-form-urlencoded")], body)))
"#,
        json!(tokens)
    );
    let seen = agent.probe(&script);
    (agent, seen)
}

#[track_caller]
fn refused(answer: &Value, expected: &str) {
    assert_eq!(answer[0], 403, "{answer}");
    let text = answer[1].as_str().expect("text");
    assert!(text.contains("<Code>AccessDenied</Code>") && text.contains(expected), "{text}");
    assert!(!text.contains("SecretAccessKey"), "{text}");
}

#[test]
fn a_session_keeps_its_identity() {
    let [alice, bob, again] = ["alice", "bob", "alice"].map(|name| provider().issue(name, "tollgate", 3600));
    let (agent, seen) = tried("twice", &[], &[&alice, &bob, &again], &role());
    assert_eq!((seen[0][0].as_u64(), seen[2][0].as_u64()), (Some(200), Some(200)), "{seen:?}");
    refused(&seen[1], "acts for `alice` already");
    agent.timeline().event("refused", "acts for `alice` already");
    // One that was started with a token of bob's.
    let file = host().file("token", bob.as_bytes());
    let flags = ["--identity-token-file", file.to_str().expect("UTF-8")];
    let (_, seen) = tried("started", &flags, &[&alice, &bob], &role());
    refused(&seen[0], "acts for `bob` already");
    assert_eq!(seen[1][0], 200, "{seen:?}");
}

#[test]
fn bad_tokens_foreign_accounts_and_forbidden_sessions_bind_nothing() {
    let good = provider().issue("alice", "tollgate", 3600);
    let other = provider().issue("alice", "elsewhere", 3600);
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    let (agent, seen) = tried("bad", &[], &[&other, &forged, "x"], &role());
    refused(&seen[0], "another audience");
    refused(&seen[1], "signature does not match");
    refused(&seen[2], "not a signed token");
    assert!(agent.timeline().exchanges.iter().all(|e| e.subject == "unidentified"));
    let (_, seen) = tried("account", &[], &[&good], "arn:aws:iam::999999999999:role/deploy");
    refused(&seen[0], "the role is of account 999999999999");
    let (agent, seen) = tried("not-here", &[], &[&good], &role());
    refused(&seen[0], "Tollgate denied sts:AssumeRoleWithWebIdentity");
    let timeline = agent.timeline();
    assert!(timeline.events.iter().all(|e| !e.reason().contains("bound by")), "{timeline:#?}");
    assert!(host().world().is_empty(), "{:?}", host().world());
}

/// A token counts whoever shows it, so it is not recorded, however the request around it reads.
#[test]
fn a_token_is_nowhere_in_the_record() {
    let token = provider().issue("alice", "tollgate", 3600);
    let agent = host().agent("unrecorded");
    // Not in the command line, which is recorded.
    let file = host().file("token", token.as_bytes());
    let seen = agent.probe(&format!(
        r#"
token = open("{file}").read()
form = [("Host", STS), ("Content-Type", "application/x-www-form-urlencoded")]
for body in [
    "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=x&RoleArn={role}&WebIdentityToken=" + token,
    "Action=AssumeRoleWithWebIdentity&Action=x&Version=2011-06-15&RoleSessionName=run&RoleArn={role}&WebIdentityToken=" + token,
    "Action=NoSuchOperation&Version=2011-06-15&WebIdentityToken=" + token,
    "Action=AssumeRoleWithSAML&Version=2011-06-15&RoleArn={role}&PrincipalArn={role}&SAMLAssertion=" + token,
]:
    show(ask(tls(STS), message("POST / HTTP/1.1", form, body))[0])
show(ask(tls(STS), message("POST /?Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=x&RoleArn={role}&WebIdentityToken=" + token + " HTTP/1.1", form, ""))[0])
"#,
        role = role(),
        file = file.display()
    ));
    assert!(seen.iter().all(|status| status.as_u64().is_some_and(|s| s >= 400)), "{seen:?}");
    let timeline = agent.timeline();
    assert_eq!(timeline.exchanges.len(), 5, "{timeline:#?}");
    // Nor are the bytes of what was not understood.
    assert!(timeline.exchanges.iter().all(|e| !e.parameters.contains("tollgate:body")), "{timeline:#?}");
    let payload = token.split('.').nth(1).expect("a JWT");
    for file in ["state/record.db", "state/record.db-wal"] {
        let bytes = std::fs::read(host().dir().join(file)).unwrap_or_default();
        assert!(!bytes.windows(payload.len()).any(|w| w == payload.as_bytes()), "the token is in {file}");
    }
    assert!(!host().daemon_log().contains(payload));
}

/// Unsigned, but not one of the operations that need no signature.
#[test]
fn nothing_else_goes_unsigned() {
    let agent = host().agent("unsigned");
    let seen = agent.probe(
        r#"
form = [("Content-Type", "application/x-www-form-urlencoded")]
def unsigned(host, body, fields, line="POST / HTTP/1.1"): show(ask(tls(host), message(line, [("Host", host), *fields], body)))
unsigned(STS, WHO, form)
unsigned(STS, "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::123456789012:role/x&RoleSessionName=xx", form)
unsigned("dynamodb.us-east-1.amazonaws.com", "{}", [("X-Amz-Target", "DynamoDB_20120810.ListTables"), ("Content-Type", "application/x-amz-json-1.0")])
unsigned(S3, "", [], "GET /tollgate-test HTTP/1.1")
unsigned("iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08", form)
"#,
    );
    for answer in &seen {
        assert_eq!(answer[0], 403, "{answer}");
        assert!(answer[1].as_str().expect("text").contains("the request is not signed"), "{answer}");
    }
    assert_eq!(seen.len(), 5);
}
