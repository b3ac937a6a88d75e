//! Held credentials from the AWS SDK's default chain, as the daemon's own environment has them, and of roles that are
//! assumed in each session's name.

use std::path::Path;

use tollgate_tests::bed::ACCOUNT;
use tollgate_tests::host::{Host, Settings, wait_for};

fn settings() -> Settings {
    let bindings = format!("[[binding]]\nbroker = {{ kind = \"default-chain\", account = \"{ACCOUNT}\" }}\n");
    Settings { bindings: Some(bindings), ..Settings::default() }
}

/// A daemon without any variables but these.
fn start(host: &Host, env: &[(&str, &str)]) {
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    host.try_start_daemon_with(&env).unwrap_or_else(|log| panic!("the daemon did not start:\n{log}"));
}

/// Asks who it is; moto, which verifies the signature, answers with the name of the held key's user.
#[track_caller]
fn signs(host: &Host, name: &str) {
    let agent = host.agent(name);
    let text = agent.run(&["aws", "sts", "get-caller-identity"]).ok();
    assert!(text.contains("user/held"), "{text}");
    // It is the daemon that has the key.
    let seen = agent.run(&["sh", "-c", "env; cat ~/.aws/* 2>&1; cat /proc/self/mounts"]).text();
    for secret in [&host.info.held_access_key_id, &host.info.held_secret_access_key] {
        assert!(!seen.contains(secret.as_str()), "{seen}");
    }
    let timeline = host.timeline(agent.name());
    assert_eq!(timeline.state(), "ended");
}

/// A refusal that says what to check, and nothing at the endpoint.
#[track_caller]
fn refuses(host: &Host, name: &str) {
    let log = || std::fs::read_to_string(host.dir().join("moto.log")).expect("moto's log");
    let before = log();
    let agent = host.agent(name).env("AWS_MAX_ATTEMPTS", "1");
    let text = agent.run(&["aws", "sts", "get-caller-identity"]).failed();
    assert!(text.contains("(AccessDenied) when calling the GetCallerIdentity"), "{text}");
    assert!(text.contains("there are no credentials for this session's principal"), "{text}");
    // The agent is not told where the daemon looks; the operator is.
    assert!(!text.contains("default chain"), "{text}");
    let timeline = agent.timeline();
    let event = timeline.event("refused", "the AWS SDK's default chain gave no credentials");
    let check = "give the daemon (not the agent) a profile, an instance role or AWS_* variables";
    assert!(event.reason().contains(check), "{event:?}");
    let [exchange] = timeline.exchanges.as_slice() else { panic!("one exchange: {timeline:#?}") };
    assert_eq!((exchange.decision.as_str(), exchange.status), ("refuse", Some(403)), "{exchange:?}");
    assert_eq!(log(), before, "something was sent without credentials");
    assert!(host.world().is_empty(), "{:?}", host.world());
}

#[test]
fn a_daemon_signs_with_the_variables_that_it_was_started_with() {
    let host = Host::without_daemon(settings());
    let home = host.dir().display().to_string();
    let keys = [
        ("AWS_ACCESS_KEY_ID", &*host.info.held_access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &host.info.held_secret_access_key),
    ];
    start(&host, &[&[("HOME", &*home)][..], &keys].concat());
    signs(&host, "variables");
}

#[test]
fn a_daemon_signs_with_its_users_profile_and_refuses_when_it_has_none() {
    let host = Host::without_daemon(settings());
    let home = host.dir().join("daemons-home");
    let env = [("HOME", home.to_str().expect("UTF-8"))];
    private(&home, None);
    start(&host, &env);
    refuses(&host, "nothing");

    host.kill_daemon();
    let profile = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        host.info.held_access_key_id, host.info.held_secret_access_key
    );
    private(&home.join(".aws"), Some(&profile));
    start(&host, &env);
    signs(&host, "profile");
}

/// A directory of root's, with a file `credentials` in it.
fn private(dir: &Path, credentials: Option<&str>) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir(dir).expect("a directory");
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).expect("its mode");
    if let Some(text) = credentials {
        std::fs::write(dir.join("credentials"), text).expect("a file");
    }
}

/// A role of moto's that trusts everybody.
fn make_role(host: &Host, name: &str) {
    let script = format!(
        r#"
import boto3, json
iam = boto3.client("iam")
anybody = {{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "*"}}, "Action": "*"}}]}}
everything = {{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": "*", "Resource": "*"}}]}}
iam.create_role(RoleName="{name}", AssumeRolePolicyDocument=json.dumps(anybody))
iam.put_role_policy(RoleName="{name}", PolicyName="all", PolicyDocument=json.dumps(everything))
"#
    );
    host.agent("maker").python(&script).ok();
}

/// Sessions whose subject or name does not say otherwise make the role with the held key.
fn with_role(host: &Host, binding: &str, issuer: Option<u16>) -> Settings {
    let issuer = issuer
        .map(|port| format!("[[identity.issuer]]\nurl = \"http://127.0.0.1:{port}\"\naudience = [\"tollgate\"]\n"));
    Settings {
        bindings: Some(format!("{binding}\n[[binding]]\n{}\n", host.broker())),
        extra: issuer.unwrap_or_default(),
        ..Settings::default()
    }
}

#[test]
fn a_role_is_assumed_for_each_session_and_names_it() {
    const PORT: u16 = 9421;
    let host = Host::start(Settings::default());
    make_role(&host, "agents");
    let source = host.broker().replace("broker = ", "source = ");
    let binding = format!(
        "[[binding]]\nsubject = \"alice\"\nbroker = {{ kind = \"assume-role\", role_arn = \"arn:aws:iam::{ACCOUNT}:role/agents\", \
         session_name = \"{{session}}-{{session_name}}-and-a-name-that-makes-it-longer-than-it-may-be\", source_identity = \"{{subject}}\", \
         session_tags = {{ who = \"{{subject}}\" }}, {source} }}"
    );
    host.write_settings(&with_role(&host, &binding, Some(PORT)));
    host.tollgate(&["reload"]).ok();
    let provider = host.provider(PORT);
    let mut names = Vec::new();
    for _ in 0..2 {
        let token = host.file("token", provider.issue("alice", "tollgate", 3600).as_bytes());
        let agent = host.agent("named").flags(&["--identity-token-file", token.to_str().expect("UTF-8")]);
        let ask = "aws sts get-caller-identity --query Arn --output text";
        let text = agent.run(&["sh", "-c", &format!("{ask} && {ask}")]).ok();
        let [first, second] = text.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {text}") };
        assert_eq!(first, second, "one role for the whole session");
        let name = first.strip_prefix(&format!("arn:aws:sts::{ACCOUNT}:assumed-role/agents/")).expect(first).to_owned();
        let timeline = agent.timeline();
        assert!(name.starts_with(&format!("{}-named-", timeline.id())) && name.len() == 64, "{name}");
        names.push(name);
    }
    assert_ne!(names[0], names[1]);
    // Another subject is signed for with the held key.
    let text = host.agent("nobody").run(&["aws", "sts", "get-caller-identity"]).ok();
    assert!(text.contains("user/held"), "{text}");
}

#[test]
fn a_role_that_cannot_be_assumed_is_a_refusal_that_says_why() {
    let host = Host::start(Settings::default());
    let source = host.broker().replace("broker = ", "source = ").replace("held-secret", "wrong-secret");
    let wrong = host.dir().join("wrong-secret");
    std::fs::write(&wrong, "w".repeat(40)).expect("a file");
    host.root(&["chmod", "600", wrong.to_str().expect("UTF-8")]).ok();
    let binding = format!(
        "[[binding]]\nbroker = {{ kind = \"assume-role\", role_arn = \"arn:aws:iam::{ACCOUNT}:role/agents\", {source} }}"
    );
    host.write_settings(&with_role(&host, &binding, None));
    host.tollgate(&["reload"]).ok();
    let agent = host.agent("refused").env("AWS_MAX_ATTEMPTS", "1");
    let text = agent.run(&["aws", "sts", "get-caller-identity"]).failed();
    assert!(text.contains("there are no credentials for this session's principal"), "{text}");
    assert!(!text.contains("role/agents"), "{text}");
    let timeline = agent.timeline();
    let event = timeline.event("refused", "could not be assumed: STS answered 403: SignatureDoesNotMatch");
    assert!(event.reason().contains("check its trust policy"), "{event:?}");
}

/// The session's own token is what STS is shown. moto takes that one request without a signature, as STS does.
#[test]
fn a_role_is_assumed_with_the_principals_own_token() {
    const PORT: u16 = 9422;
    let host = Host::start(Settings::default());
    make_role(&host, "by-token");
    let binding = format!(
        "[[binding]]\nissuer = \"http://127.0.0.1:{PORT}\"\nbroker = {{ kind = \"web-identity\", role_arn = \"arn:aws:iam::{ACCOUNT}:role/by-token\", session_name = \"{{subject}}\" }}"
    );
    host.write_settings(&with_role(&host, &binding, Some(PORT)));
    host.tollgate(&["reload"]).ok();
    let provider = host.provider(PORT);
    let free = |n: &str| {
        host.root(&[
            "curl",
            "-sS",
            "-X",
            "POST",
            "-H",
            "Content-Type: text/plain",
            "-d",
            n,
            "http://127.0.0.1:5000/moto-api/reset-auth",
        ])
        .ok();
    };
    let token = host.file("token", provider.issue("bob", "tollgate", 3600).as_bytes());
    let agent = host.agent("by-token").flags(&["--identity-token-file", token.to_str().expect("UTF-8")]);
    free("1");
    let text = agent.run(&["aws", "sts", "get-caller-identity", "--query", "Arn", "--output", "text"]).ok();
    assert_eq!(text, format!("arn:aws:sts::{ACCOUNT}:assumed-role/by-token/bob"));
    // An agent that names another role than the one that it would act as is told so.
    let token = provider.issue("bob", "tollgate", 3600);
    free("1");
    let inside = host.agent("inside");
    let seen = inside.probe(&format!(
        r#"
for role in ["other", "by-token"]:
    body = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=run-7&RoleArn=arn:aws:iam::{ACCOUNT}:role/" + role + "&WebIdentityToken={token}"
    show(ask(tls(STS), message("POST / HTTP/1.1", [("Host", STS), ("Content-Type", "application/x-www-form-urlencoded")], body)))
show(ask(tls(STS), message(*signed(STS, WHO), WHO)))
"#
    ));
    assert_eq!(seen[0][0], 403, "{seen:?}");
    let text = seen[0][1].as_str().expect("text");
    assert!(text.contains(&format!("as arn:aws:iam::{ACCOUNT}:role/by-token, and as no other role")), "{text}");
    assert_eq!(seen[1][0], 200, "{seen:?}");
    assert!(seen[2][1].as_str().expect("text").contains("assumed-role/by-token/bob"), "{seen:?}");
    // What the daemon wrote has neither the token nor what it was exchanged for.
    wait_for("the end of the session", || (inside.timeline().state() == "ended").then_some(()));
    let record = std::fs::read(host.dir().join("state/record.db")).expect("the record");
    assert!(!record.windows(token.len()).any(|w| w == token.as_bytes()), "the token is in the record");
}
