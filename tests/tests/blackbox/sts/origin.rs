//! Credentials that no independent server hands out: SSO's, Cognito's, those of S3 Express sessions, and answers that are
//! compressed, incomplete or carry checksums. `clients/python/origin.py` gives them, and verifies what is signed with them.

use std::sync::OnceLock;

use serde_json::Value;
use tollgate_tests::bed::ACCOUNT;
use tollgate_tests::host::{Agent, Host, POLICIES, Running, Settings, wait_for};

const PORT: u16 = 9431;
/// As the origin has them.
const REAL: [&str; 3] = ["ASIAREALREALREALREAL", "real/secret+of/the/origin", "real//token+of/the/origin"];

struct World {
    host: Host,
    _origin: Running,
}

fn world() -> &'static Host {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(|| {
        // SSO's portal has no IAM actions.
        let policies = format!(
            r#"{POLICIES}
@id("tests-unknown")
permit (principal, action == AWS::Action::"unknown:unknown", resource);

@id("tests-elsewhere")
@reason("Sessions of this name use no credentials of other accounts.")
forbid (principal, action, resource)
when {{ context.session.name like "at-home-*" && context.credential.account != "{ACCOUNT}" && context.credential.kind == "derived" }};
"#
        );
        let hosts = [
            "portal.sso.us-east-1.amazonaws.com",
            "cognito-identity.us-east-1.amazonaws.com",
            "kms.us-east-1.amazonaws.com",
            "sts.eu-west-1.amazonaws.com",
            "*.s3express-use1-az4.us-east-1.amazonaws.com",
        ];
        let top = hosts.map(|h| format!("[[upstream]]\nhost = \"{h}\"\naddress = \"127.0.0.1:{PORT}\"\ntls = false\n"));
        let host = Host::start(Settings { policies, top: top.concat(), ..Settings::default() });
        let origin = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/origin.py");
        let ready = host.work("ready");
        let script = std::fs::read_to_string(origin).expect("the origin");
        let running = host.outsider("origin").start(&[
            "python3",
            "-c",
            &script,
            &PORT.to_string(),
            &host.info.held_access_key_id,
            &host.info.held_secret_access_key,
            ready.to_str().expect("UTF-8"),
        ]);
        wait_for("the origin", || ready.exists().then_some(()));
        World { host, _origin: running }
    });
    &world.host
}

fn ask(agent: &Agent<'_>, script: &str) -> Vec<Value> {
    agent.probe(&format!(
        "import boto3, botocore\nfrom botocore.config import Config\nplain = dict(region_name='us-east-1')\n{script}"
    ))
}

/// What the agent saw, and what the daemon wrote.
#[track_caller]
fn nowhere(host: &Host, seen: &[Value]) {
    let seen = serde_json::to_string(seen).expect("JSON");
    let record = std::fs::read(host.dir().join("state/record.db")).expect("the record");
    let wal = std::fs::read(host.dir().join("state/record.db-wal")).unwrap_or_default();
    let log = host.daemon_log();
    for secret in REAL {
        assert!(!seen.contains(secret), "{secret}: {seen}");
        for bytes in [&record, &wal, log.as_bytes()] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} was written");
        }
    }
}

#[test]
fn ssos_and_cognitos_credentials_sign_through_tollgate_alone() {
    let host = world();
    for (name, script) in [
        (
            "sso",
            "found = boto3.client('sso', **plain).get_role_credentials(roleName='r', accountId='111122223333', accessToken='a-token-of-sso')\n\
             keys = found['roleCredentials']\nend = keys['expiration'] / 1000\n\
             keys = dict(aws_access_key_id=keys['accessKeyId'], aws_secret_access_key=keys['secretAccessKey'], aws_session_token=keys['sessionToken'])",
        ),
        (
            "cognito",
            "found = boto3.client('cognito-identity', **plain).get_credentials_for_identity(IdentityId='us-east-1:1')\n\
             keys = found['Credentials']\nend = keys['Expiration'].timestamp()\n\
             keys = dict(aws_access_key_id=keys['AccessKeyId'], aws_secret_access_key=keys['SecretKey'], aws_session_token=keys['SessionToken'])",
        ),
    ] {
        let agent = host.agent(name);
        let seen = ask(
            &agent,
            &format!(
                "{script}\nshow(keys)\nshow(found['ResponseMetadata']['HTTPHeaders'])\nshow(end - time.time())\n\
                 show(boto3.client('kms', **plain, **keys).list_keys()['Keys'])\n\
                 try: boto3.client('kms', **plain).list_keys()\nexcept botocore.exceptions.ClientError as e: show(str(e))"
            ),
        );
        assert!(seen[0]["aws_access_key_id"].as_str().is_some_and(|id| id.starts_with("ASIA")), "{seen:?}");
        // The origin's own checksums would be of other bytes; clients that look at them would not take the answer.
        for stale in ["x-amz-crc32", "content-md5", "etag"] {
            assert_eq!(seen[1].get(stale), None, "{stale}: {seen:?}");
        }
        let left = seen[2].as_f64().expect("seconds");
        assert!((600.0..=900.0).contains(&left), "{left}");
        assert_eq!(seen[3][0]["KeyId"], "of-the-origin", "signed with the real key: {seen:?}");
        assert!(seen[4].as_str().expect("text").contains("not signed as it should be"), "{seen:?}");
        nowhere(host, &seen);
        let timeline = agent.timeline();
        let account = timeline.exchanges.iter().find(|e| e.action == "kms:ListKeys").map(|e| e.status);
        assert_eq!(account, Some(Some(200)));
        assert!(!timeline.exchanges[0].parameters.contains("a-token-of-sso"), "{timeline:#?}");
    }
}

#[test]
fn an_answer_that_cannot_be_exchanged_is_not_passed_on() {
    let host = world();
    let agent = host.agent("odd");
    let seen = ask(
        &agent,
        r#"
cognito = boto3.client("cognito-identity", **plain, config=Config(retries={"total_max_attempts": 1}))
for which in ["us-east-1:gzip", "us-east-1:partial"]:
    try: show(str(cognito.get_credentials_for_identity(IdentityId=which)))
    except botocore.exceptions.ClientError as e: show([e.response["Error"]["Code"], e.response["Error"]["Message"]])
"#,
    );
    for answer in &seen {
        assert_eq!(answer[0], "AccessDeniedException", "{seen:?}");
        assert!(answer[1].as_str().expect("text").contains("could not be exchanged for placeholders"), "{seen:?}");
    }
    let timeline = agent.timeline();
    timeline.event("refused", "it is compressed");
    timeline.event("refused", "a key in it has no session token");
    assert!(timeline.exchanges.iter().all(|e| e.status == Some(403)), "{timeline:#?}");
    nowhere(host, &seen);
}

#[test]
fn an_s3_express_sessions_credentials_become_placeholders_for_its_bucket() {
    let host = world();
    let agent = host.agent("express");
    let seen = ask(
        &agent,
        r#"
keys = boto3.client("s3", **plain).create_session(Bucket="b--use1-az4--x-s3")["Credentials"]
show(json.loads(json.dumps(keys, default=str)))
given = dict(aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys["SessionToken"])
try: show(boto3.client("kms", **plain, **given).list_keys()["Keys"])
except botocore.exceptions.ClientError as e: show(str(e))
"#,
    );
    assert!(seen[0]["AccessKeyId"].as_str().is_some_and(|id| id.starts_with("ASIA")), "{seen:?}");
    assert!(seen[1].as_str().expect("text").contains("credentials of an S3 Express session"), "{seen:?}");
    agent.timeline().only("s3express:CreateSession");
    nowhere(host, &seen);
}

/// Unsigned, and of another account: which the record and the policies know.
#[test]
fn samls_credentials_are_of_the_account_that_the_answer_names() {
    let host = world();
    let script = r#"
from botocore import UNSIGNED
sts = boto3.client("sts", region_name="eu-west-1", config=Config(signature_version=UNSIGNED))
keys = sts.assume_role_with_saml(RoleArn="arn:aws:iam::999988887777:role/saml", PrincipalArn="arn:aws:iam::999988887777:saml-provider/p", SAMLAssertion="YXNzZXJ0aW9u")["Credentials"]
given = dict(aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys["SessionToken"])
try: show(boto3.client("kms", **plain, **given).describe_key(KeyId="x"))
except botocore.exceptions.ClientError as e: show(str(e))
"#;
    let agent = host.agent("saml");
    let seen = ask(&agent, script);
    nowhere(host, &seen);
    let timeline = agent.timeline();
    let role = timeline.only("sts:AssumeRoleWithSAML");
    assert_eq!(
        (role.status, role.resources.as_slice()),
        (Some(200), &["arn:aws:iam::999988887777:role/saml".to_owned()][..])
    );
    assert_eq!(timeline.only("kms:DescribeKey").resources, ["arn:aws:kms:us-east-1:999988887777:key/x"]);
    let seen = ask(&host.agent("at-home"), script);
    assert!(
        seen[0].as_str().expect("text").contains("Sessions of this name use no credentials of other accounts."),
        "{seen:?}"
    );
}
