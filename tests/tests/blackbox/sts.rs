//! Case 25: credentials in answers. The agent gets placeholders that work through Tollgate, the real ones never leave the
//! daemon: moto, which made them, verifies that requests were signed with them.

mod origin;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::Value;
use tollgate_tests::bed::ACCOUNT;
use tollgate_tests::host::{Agent, Host, POLICIES, Settings, unique, wait_for};

/// Roles of moto's that anybody may assume and that may do everything.
const ROLES: [&str; 2] = ["first", "second"];

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let policies = format!(
            r#"{POLICIES}
@id("tests-role")
@reason("Sessions of this name assume the role `first` only.")
forbid (principal, action == AWS::Action::"sts:AssumeRole", resource)
when {{ context.session.name like "one-role-*" && resource.arn != "{}" }};
"#,
            arn("first")
        );
        let host = Host::start(Settings { policies, ..Settings::default() });
        make_roles(&host);
        host
    })
}

fn make_roles(host: &Host) {
    let script = r#"
import boto3, json
iam = boto3.client("iam")
anybody = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "*"}]}
everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
for name in NAMES:
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(anybody))
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(everything))
"#;
    host.agent("roles").python(&script.replace("NAMES", &format!("{ROLES:?}"))).ok();
}

fn arn(role: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{role}")
}

/// What moto has made: ids, secrets and tokens of assumed roles.
fn real(host: &Host) -> BTreeSet<String> {
    let text = host.root(&["curl", "-sS", "http://127.0.0.1:5000/moto-api/data.json"]).ok();
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let roles = all["sts"]["AssumedRole"].as_array().expect("assumed roles");
    let mut found = BTreeSet::new();
    for role in roles {
        for name in ["access_key_id", "secret_access_key", "session_token"] {
            found.insert(role[name].as_str().unwrap_or_else(|| panic!("no {name} in {role}")).to_owned());
        }
    }
    assert!(!found.is_empty() && found.len() % 3 == 0, "{all}");
    found
}

/// Nothing that the daemon wrote, nor what the agent saw, has any of the real secrets in it.
#[track_caller]
fn nowhere(host: &Host, seen: &str) {
    let real = real(host);
    let text = host.root(&[
        "sh",
        "-c",
        "cat $1/daemon.log $1/run/sessions/*/* $1/homes/*/.aws/* 2>/dev/null; true",
        "sh",
        &host.dir().display().to_string(),
    ]);
    let mut written = vec![
        ("the daemon's log and files", text.text().into_bytes()),
        ("what the agent saw", seen.as_bytes().to_vec()),
    ];
    for entry in std::fs::read_dir(host.dir().join("state")).expect("the state") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            written.push(("the state directory", std::fs::read(path).expect("reads")));
        }
    }
    for (what, bytes) in written {
        for secret in &real {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} is in {what}");
        }
    }
}

fn assume(agent: &Agent<'_>, script: &str) -> Vec<Value> {
    agent.probe(&format!(
        r#"
import boto3, botocore
from botocore.config import Config
def client(name, keys=None, **more):
    given = dict(aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys["SessionToken"]) if keys else {{}}
    return boto3.client(name, region_name="us-east-1", **given, **more)
def assume(role, name="run", keys=None, **more):
    return client("sts", keys).assume_role(RoleArn="arn:aws:iam::{ACCOUNT}:role/" + role, RoleSessionName=name, **more)
def who(keys=None): return client("sts", keys).get_caller_identity()["Arn"]
def error(call):
    try: return call()
    except botocore.exceptions.ClientError as e: return [e.response["Error"]["Code"], e.response["Error"]["Message"]]
{script}"#
    ))
}

#[test]
fn a_chain_of_roles_signs_with_the_real_keys_which_stay_in_the_daemon() {
    let host = host();
    let agent = host.agent("chain");
    let seen = assume(
        &agent,
        r#"
first = assume("first", "one")
keys = first["Credentials"]
show(json.loads(json.dumps(first, default=str)))
show(who(keys))
second = assume("second", "two", keys)["Credentials"]
show(who(second))
third = assume("first", "three", second)["Credentials"]
show(who(third))
show(who())
table = client("dynamodb", third)
table.create_table(TableName="of-a-role", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}], AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}])
show(table.list_tables()["TableNames"])
show([keys, second, third] == [] or len({keys["AccessKeyId"], second["AccessKeyId"], third["AccessKeyId"], placeholder()["AccessKeyId"]}))
"#,
    );
    let first = &seen[0];
    let id = first["Credentials"]["AccessKeyId"].as_str().expect("an id");
    assert!(id.starts_with("ASIA") && id.len() == 20, "{first}");
    assert_eq!(first["AssumedRoleUser"]["Arn"], format!("arn:aws:sts::{ACCOUNT}:assumed-role/first/one"));
    assert!(first["Credentials"]["Expiration"].as_str().is_some_and(|e| e.starts_with("20")), "{first}");
    let role = |role: &str, name: &str| Value::from(format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}"));
    assert_eq!(seen[1..4], [role("first", "one"), role("second", "two"), role("first", "three")]);
    assert_eq!(seen[4], format!("arn:aws:iam::{ACCOUNT}:user/held"), "the session's own placeholder is as it was");
    assert!(seen[5].as_array().expect("tables").contains(&"of-a-role".into()), "{}", seen[5]);
    assert_eq!(seen[6], 4, "each has a placeholder of its own");
    let timeline = agent.timeline();
    let assumed: Vec<_> = timeline.exchanges.iter().filter(|e| e.action == "sts:AssumeRole").collect();
    assert_eq!(assumed.len(), 3);
    assert!(assumed.iter().all(|e| e.status == Some(200) && e.decision == "allow"), "{timeline:#?}");
    assert_eq!(assumed[1].resources, [arn("second")]);
    nowhere(host, &serde_json::to_string(&seen).expect("JSON"));
}

#[test]
fn profiles_with_a_role_work_in_the_cli_and_in_javascript() {
    let host = host();
    let agent = host.agent("profile");
    let aws = agent.home().join(".aws");
    std::fs::create_dir(&aws).expect("a directory");
    let config = format!(
        "[default]\nregion = us-east-1\n\
         [profile one]\nrole_arn = {}\ncredential_source = Ec2InstanceMetadata\nrole_session_name = by-profile\nregion = us-east-1\n\
         [profile two]\nrole_arn = {}\nsource_profile = one\nrole_session_name = nested\nregion = us-east-1\n",
        arn("first"),
        arn("second")
    );
    std::fs::write(aws.join("config"), config).expect("a file");
    for file in ["", "config"] {
        std::os::unix::fs::chown(aws.join(file), Some(65534), Some(65534)).expect("chown");
    }
    let ask = ["--query", "Arn", "--output", "text"];
    for (profile, expected) in [("one", "first/by-profile"), ("two", "second/nested")] {
        let expected = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{expected}");
        let cli = agent.run(&[&["aws", "--profile", profile, "sts", "get-caller-identity"], &ask[..]].concat());
        assert_eq!(cli.ok(), expected);
        let script = format!(
            "import {{ STSClient, GetCallerIdentityCommand }} from '@aws-sdk/client-sts';\n\
             console.log((await new STSClient({{ profile: '{profile}' }}).send(new GetCallerIdentityCommand({{}}))).Arn)"
        );
        let file = host.dir().join("clients/js").join(format!("{}.mjs", unique("profile")));
        std::fs::write(&file, script).expect("a script");
        let js = agent.run(&["node", file.to_str().expect("UTF-8")]);
        assert_eq!(js.ok(), expected);
    }
    let seen = agent.run(&["aws", "--profile", "two", "--debug", "sts", "get-caller-identity"]);
    let seen = seen.text();
    assert!(seen.contains("<AssumeRoleResult>") && seen.contains("<AccessKeyId>ASIA"), "{seen}");
    nowhere(host, &seen);
}

#[test]
fn policies_decide_which_role() {
    let agent = host().agent("one-role");
    let seen = assume(&agent, "show(error(lambda: assume('second')))\nshow(who(assume('first')['Credentials']))");
    assert_eq!(seen[0][0], "AccessDenied", "{seen:?}");
    assert!(
        seen[0][1].as_str().expect("text").contains("Sessions of this name assume the role `first` only."),
        "{seen:?}"
    );
    assert!(seen[1].as_str().expect("an ARN").contains("assumed-role/first"), "{seen:?}");
}

/// moto gives the same well-known values to everybody, so none of them may come out.
#[test]
fn session_and_federation_tokens_become_placeholders() {
    let host = host();
    let agent = host.agent("tokens");
    let text = agent
        .run(&["sh", "-c", "aws sts get-session-token && aws sts get-federation-token --name bob && aws sts get-session-token --debug 2>&1"])
        .ok();
    for real in ["AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI", "AQoEXAMPLEH4", "AQoDYXdzEPT"] {
        assert!(!text.contains(real), "{real}: {text}");
    }
    assert!(text.contains("\"AccessKeyId\": \"ASIA") && text.contains("federated-user/bob"), "{text}");
}

#[test]
fn what_makes_keys_for_good_is_denied_and_says_why() {
    let host = host();
    let agent = host.agent("for-good");
    let text = agent.run(&["aws", "iam", "create-access-key", "--user-name", "held"]).failed();
    assert!(text.contains("(AccessDenied)") && text.contains("would outlive the session"), "{text}");
    let text = agent.run(&["aws", "ecr-public", "get-authorization-token"]).failed();
    assert!(text.contains("(AccessDeniedException)") && text.contains("outside of AWS's signatures"), "{text}");
    agent.timeline().event("blocked", "outside of AWS's signatures");
}

/// Case 13: three values, of one generation.
#[test]
fn the_three_values_belong_together() {
    let agent = host().agent("coupled");
    let seen = assume(
        &agent,
        r#"
a, b = assume("first", "aa")["Credentials"], assume("first", "bb")["Credentials"]
own = placeholder()
show(error(lambda: who({**a, "SessionToken": b["SessionToken"]})))
show(error(lambda: who({**a, "SecretAccessKey": b["SecretAccessKey"]})))
show(error(lambda: who({**a, "SessionToken": own["Token"]})))
show(error(lambda: client("sts", {**a, "SessionToken": None}).get_caller_identity()))
show(who(a), who(b))
"#,
    );
    for (n, answer) in seen[..4].iter().enumerate() {
        assert_eq!(answer[0], "SignatureDoesNotMatch", "{n}: {answer}");
    }
    assert!(
        seen[4][0].as_str().expect("text").ends_with("first/aa")
            && seen[4][1].as_str().expect("text").ends_with("first/bb")
    );
}

/// Case 13: they end when the real ones do, also while an upload is under way, which goes through.
#[test]
fn they_expire_when_the_real_ones_do() {
    let host = Host::start(Settings::default());
    make_roles(&host);
    let agent = host.agent("expiring");
    let seen = assume(
        &agent,
        r#"
short = boto3.client("sts", region_name="us-east-1", config=Config(parameter_validation=False))
keys = short.assume_role(RoleArn="arn:aws:iam::123456789012:role/first", RoleSessionName="short", DurationSeconds=4)["Credentials"]
show(who(keys))
given = {**keys, "Token": keys["SessionToken"]}
end = keys["Expiration"].timestamp()
payload = json.dumps({"TableName": "slow", "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST", "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}]})
host = "dynamodb.us-east-1.amazonaws.com"
line, fields = signed(host, payload, service="dynamodb", keys=given, headers={"X-Amz-Target": "DynamoDB_20120810.CreateTable", "Content-Type": "application/x-amz-json-1.0"}, s3=True)
whole = message(line, fields, payload)
slow = tls(host)
slow.sendall(whole[:-10])
while time.time() < end + 1.5: time.sleep(0.1)
show(ask(slow, whole[-10:])[0])
show(error(lambda: who(keys)))
show(who())
"#,
    );
    assert!(seen[0].as_str().expect("an ARN").ends_with("first/short"), "{seen:?}");
    assert_eq!(seen[1], 200, "what had begun is not broken off: {seen:?}");
    assert_eq!(seen[2][0], "ExpiredToken", "{seen:?}");
    let text = seen[2][1].as_str().expect("text");
    assert!(text.contains("the credentials that sts:AssumeRole gave have expired; ask it for new ones"), "{text}");
}

#[test]
fn a_session_holds_so_many_and_no_more() {
    let host = Host::start(Settings { gateway: "max_credentials = 2".into(), ..Settings::default() });
    make_roles(&host);
    let agent = host.agent("many");
    let moto =
        || std::fs::read_to_string(host.dir().join("moto.log")).expect("moto's log").matches("\"POST / ").count();
    let seen = assume(
        &agent,
        r#"
a, b = assume("first", "aa")["Credentials"], assume("first", "bb")["Credentials"]
show(error(lambda: assume("first", "cc")))
show(who(a), who(b))
"#,
    );
    assert_eq!(seen[0][0], "AccessDenied", "{seen:?}");
    let text = seen[0][1].as_str().expect("text");
    assert!(text.contains("holds 2 credentials from answers already (`gateway.max_credentials`)"), "{text}");
    assert!(seen[1][0].as_str().expect("an ARN").ends_with("first/aa"), "{seen:?}");
    let before = moto();
    let seen = assume(&host.agent("others"), "show(who(assume('first')['Credentials']))");
    assert_eq!(seen.len(), 1, "another session has room");
    assert!(moto() > before);
}

#[test]
fn they_are_of_one_session_and_die_with_it() {
    let host = host();
    let (owner, thief) = (host.agent("role-owner"), host.agent("role-thief"));
    let (keys, done) = (host.work("keys"), host.work("done"));
    let prelude = format!(
        "import boto3\nc = boto3.client('sts', region_name='us-east-1').assume_role(RoleArn='{}', RoleSessionName='run')['Credentials']\n",
        arn("first")
    );
    let running = owner.start_probe(&format!(
        "{prelude}import os\nopen('{0}.new', 'w').write(json.dumps({{**c, 'Token': c['SessionToken']}}, default=str))\nos.rename('{0}.new', '{0}')\nwait_for('{1}')",
        keys.display(),
        done.display()
    ));
    wait_for("the owner's credentials", || keys.exists().then_some(()));
    let steal = format!(
        "keys = json.load(open('{}'))\nshow(ask(tls(STS), message(*signed(STS, WHO, keys=keys), WHO)))",
        keys.display()
    );
    let stolen = thief.probe(&steal);
    assert!(stolen[0][1].as_str().expect("text").contains("belongs to another session"), "{stolen:?}");
    let id = host.session_id(owner.name()).expect("a session");
    host.tollgate(&["sessions", "revoke", &id]).ok();
    drop(running);
    let late = thief.probe(&steal);
    assert_eq!(late[0][0], 403, "{late:?}");
    assert!(late[0][1].as_str().expect("text").contains("was not issued by Tollgate"), "{late:?}");
}
