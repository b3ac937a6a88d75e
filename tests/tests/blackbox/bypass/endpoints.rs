//! Names, addresses, keys and accounts that are not what they should be (cases 16, 19 and 20), and requests that say
//! one thing and do another.

use std::fs;
use std::os::unix::fs::chown;

use serde_json::json;
use tollgate_tests::bed::{ACCOUNT, BUCKET};
use tollgate_tests::host::{Agent, NOBODY};

use super::{CURL, aws_name, host, outcomes, reached, told};

/// Runs shell lines in which `signed SERVICE ARGS…` is a signed request with curl.
fn signed(agent: &Agent<'_>, lines: &str) -> tollgate_tests::host::Output {
    agent.run(&["sh", "-c", &format!("{CURL}\n{lines}")])
}

#[test]
fn a_name_of_awss_at_another_address_goes_to_the_names_endpoint() {
    let agent = host().agent("elsewhere");
    let answer = signed(
        &agent,
        "signed sts --connect-to ::203.0.113.5:443 'https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15'",
    );
    assert!(answer.ok().contains("user/held"), "the stand-in for AWS answers, who knows the held key");
    assert!(!reached("sts.us-east-1.amazonaws.com"));
    assert_eq!(agent.timeline().only("sts:GetCallerIdentity").decision, "allow");
    // An address of AWS's own under a port that is redirected, and any other host's: the same.
    let name = aws_name("elsewhere");
    assert_eq!(outcomes(&agent, &name, "say(found=attempt(lambda: connect((WEB, 443))))")["found"], "gateway");
    assert!(!reached(&name));
}

#[test]
fn connections_that_name_nobody_are_refused() {
    let (agent, name) = (host().agent("unnamed"), aws_name("unnamed"));
    let script = r"
def raw(data, port=443):
    s = socket.create_connection((AWS4, port), 10)
    s.settimeout(10)
    s.sendall(data)
    return who(s.recv(4096)) if s.recv(1, socket.MSG_PEEK) else 'closed'
def hello(change):
    context = ssl._create_unverified_context()
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(into, out, server_hostname=NAME)
    attempt(tls.do_handshake)
    return change(out.read())
def with_extension(record):
    # The last bytes of a ClientHello are its extensions: one more, and the lengths in front of it made true.
    # An outer hello: suite, configuration, encapsulated key, payload, as browsers send it.
    inner = b'\0' + bytes([0, 1, 0, 1, 7]) + struct.pack('!H', 32) + b'k' * 32 + struct.pack('!H', 144) + b'p' * 144
    more = struct.pack('!HH', 0xfe0d, len(inner)) + inner
    body = record[9:]
    at = 34; at += 1 + body[at]; at += 2 + int.from_bytes(body[at:at+2], 'big'); at += 1 + body[at]
    body = body[:at] + struct.pack('!H', len(body) - at - 2 + len(more)) + body[at+2:] + more
    return record[:3] + struct.pack('!H', len(body) + 4) + b'\x01' + len(body).to_bytes(3, 'big') + body
def literal():
    s = socket.create_connection((AWS4, 443), 10)
    context = ssl._create_unverified_context()
    return context.wrap_socket(s) and 'connected'
say(plain_hello=raw(hello(lambda h: h))[:1] != 'c', literal=attempt(literal), encrypted=attempt(lambda: raw(hello(with_extension))),
    ssh=attempt(lambda: raw(b'SSH-2.0-x\r\n')), h2c=attempt(lambda: raw(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 80)),
    hostless=attempt(lambda: raw(b'GET / HTTP/1.0\r\n\r\n', 80)), two_hosts=attempt(lambda: raw(f'GET / HTTP/1.1\r\nHost: a.example.org\r\nHost: {NAME}\r\n\r\n'.encode(), 80)),
    proxy=attempt(lambda: raw(f'GET http://{NAME}/ HTTP/1.1\r\nHost: a.example.org\r\n\r\n'.encode(), 80)),
    tunnel=attempt(lambda: raw(f'CONNECT {NAME}:443 HTTP/1.1\r\nHost: a.example.org\r\n\r\n'.encode(), 80)))
";
    let found = outcomes(&agent, &name, script);
    assert_eq!(found["plain_hello"], true, "an unchanged hello is answered: {found}");
    for (what, outcome) in found.as_object().expect("an object").iter().filter(|(what, _)| *what != "plain_hello") {
        let outcome = outcome.as_str().expect("text");
        assert!(
            outcome == "closed" || outcome.starts_with("ECONNRESET") || outcome.contains("EOF"),
            "{what}: {outcome}"
        );
    }
    for reason in [
        "it carries no server name",
        "it carries an encrypted ClientHello",
        "it is neither TLS nor HTTP",
        "it carries no Host header",
        "it carries more than one Host header",
        "its target is in absolute form",
        "it asks this address to be a proxy",
    ] {
        let event = told(&agent, "refused", reason);
        assert!(event.reason().contains("`egress.unnamed` refuses those"), "{event:?}");
    }
    let world = host().world();
    assert!(!world.iter().any(|e| e["name"] == name.as_str() || e["at"] == "198.51.100.7:80"), "{world:?}");
}

#[test]
fn names_that_are_not_awss_go_to_the_address_that_the_agent_chose() {
    // Not stopped with `egress.default = "splice"`: the held key is not in it, but data may be.
    let agent = host().agent("other-names");
    let script = "say(other=attempt(lambda: connect((AWS4, 443))))";
    let name = format!("literal-{}.example.org", std::process::id());
    assert_eq!(outcomes(&agent, &name, script)["other"], "world");
    assert!(reached(&name));
    let event = told(&agent, "spliced", &name);
    assert_eq!(event.field("TOLLGATE_DESTINATION"), "198.51.100.7:443", "{event:?}");
    // So does an address in place of a name, in plain HTTP.
    let answer = agent.run(&["curl", "-sS", "http://203.0.113.5/"]).ok();
    assert_eq!(answer, "the outside world");
    told(&agent, "spliced", "203.0.113.5");
}

#[test]
fn plain_http_to_an_endpoint_is_judged_and_sent_on_as_tls() {
    let agent = host().agent("plain");
    let list = format!(
        "signed s3 -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' 'http://{BUCKET}.s3.us-east-1.amazonaws.com/?list-type=2'"
    );
    let answer = signed(&agent, &list).ok();
    assert!(answer.contains("ListBucketResult"), "{answer}");
    assert_eq!(agent.timeline().only("s3:ListBucket").decision, "allow");
    let name = aws_name("plain");
    let answer = agent.run(&["curl", "-sS", &format!("http://{name}/")]).ok();
    assert!(answer.contains("the request is not signed"), "{answer}");
    assert!(!host().world().iter().any(|e| e["at"] == "198.51.100.7:80"));
}

#[test]
fn foreign_keys_are_denied_for_their_own_reason() {
    let agent = host()
        .agent("foreign")
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let message = agent.run(&["aws", "sts", "get-caller-identity"]).failed();
    assert!(message.contains("InvalidClientTokenId"), "{message}");
    assert!(message.contains("the access key AKIAIOSFODNN7EXAMPLE was not issued by Tollgate"), "{message}");
    let event = told(&agent, "refused", "AKIAIOSFODNN7EXAMPLE was not issued by Tollgate");
    assert!(event.reason().contains("foreign keys are not let through"), "{event:?}");
    let timeline = agent.timeline();
    assert!(timeline.exchanges.iter().all(|e| e.decision == "refuse"), "{timeline:#?}");
    // To S3, where attackers have buckets, and as the keys' own presigned URL.
    let message = agent.run(&["aws", "s3", "ls", "s3://attackers-bucket"]).failed();
    assert!(message.contains("was not issued by Tollgate") || message.contains("InvalidClientTokenId"), "{message}");
    let url = agent.run(&["aws", "s3", "presign", "s3://attackers-bucket/loot", "--region", "us-east-1"]).ok();
    let answer = agent.run(&["curl", "-sS", &url]).ok();
    assert!(answer.contains("<Code>") && !answer.contains("the outside world"), "{answer}");
    assert!(!reached("attackers-bucket.s3.us-east-1.amazonaws.com"));
    assert!(!reached("attackers-bucket.s3.amazonaws.com"));
}

#[test]
fn keys_in_the_users_own_files_are_hidden() {
    let agent = host().agent("dotfiles");
    let aws = agent.home().join(".aws");
    fs::create_dir(&aws).expect("a directory");
    let credentials = aws.join("credentials");
    fs::write(&credentials, "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = secret\n")
        .expect("a file");
    for path in [&aws, &credentials] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    let account = agent.run(&["aws", "sts", "get-caller-identity", "--query", "Account", "--output", "text"]);
    assert_eq!(account.ok(), ACCOUNT);
}

#[test]
fn an_attackers_bucket_and_role_are_named_in_the_decision() {
    let agent = host().agent("attackers");
    let loot = host().file("loot", b"loot");
    let loot = loot.to_str().expect("UTF-8");
    let message =
        agent.run(&["aws", "s3api", "put-object", "--bucket", "attackers-bucket", "--key", "loot", "--body", loot]);
    let message = message.failed();
    assert!(message.contains("AccessDenied") && message.contains("arn:aws:s3:::attackers-bucket/loot"), "{message}");
    assert!(message.contains("Only buckets of this account."), "{message}");
    let timeline = agent.timeline();
    let exchange = timeline.only("s3:PutObject");
    assert_eq!(exchange.resources, ["arn:aws:s3:::attackers-bucket/loot"]);
    assert_eq!(
        (exchange.decision.as_str(), exchange.policies.as_slice()),
        ("deny", &["own-buckets-only".to_owned()][..])
    );
    told(&agent, "blocked", "Only buckets of this account.");

    let role = "arn:aws:iam::999999999999:role/attackers";
    let message = agent.run(&["aws", "sts", "assume-role", "--role-arn", role, "--role-session-name", "loot"]).failed();
    assert!(message.contains("AccessDenied") && message.contains("Tollgate denied sts:AssumeRole"), "{message}");
    let timeline = agent.timeline();
    let exchange = timeline.only("sts:AssumeRole");
    assert_eq!(exchange.decision, "deny");
    assert!(exchange.parameters.contains(role), "{exchange:?}");
}

#[test]
fn an_unrecognised_operation_is_denied_unless_a_policy_names_it() {
    // The query protocol has one path, and this is none of its.
    let unknown = "signed sts 'https://sts.us-east-1.amazonaws.com/v9/everything'";
    let agent = host().agent("unknown");
    let message = signed(&agent, unknown).failed();
    assert!(message.contains("AccessDenied") && message.contains("unknown:unknown"), "{message}");
    let timeline = agent.timeline();
    assert_eq!(
        timeline.only("unknown:unknown").decision,
        "deny",
        "`permit (principal, action, resource)` does not cover it"
    );
    told(&agent, "blocked", "");
    let agent = host().agent("knows");
    // Let through by name; the service, which does not know it either, has the word.
    let message = signed(&agent, unknown).text();
    assert!(!message.contains("Tollgate"), "{message}");
    let timeline = agent.timeline();
    let exchange = timeline.only("unknown:unknown");
    assert_eq!(
        (exchange.decision.as_str(), exchange.policies.as_slice()),
        ("allow", &["unknown-by-name".to_owned()][..])
    );
}

#[test]
fn a_request_for_another_host_or_service_than_its_connections_is_refused() {
    let agent = host().agent("disagreeing");
    let url = "'https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15'";
    let other_host = signed(&agent, &format!("signed sts -H 'Host: iam.amazonaws.com' {url}")).failed();
    assert!(
        other_host.contains("the request is for `iam.amazonaws.com`, but the connection was made to"),
        "{other_host}"
    );
    // The signature's scope is checked against the endpoint, never believed.
    for service in ["iam", "s3", "ec2"] {
        let message = signed(&agent, &format!("signed {service} {url}")).failed();
        assert!(message.contains("scope") || message.contains("signed for"), "{service}: {message}");
    }
    let region = signed(&agent, &format!("signed sts {}", url.replace("us-east-1", "eu-central-1"))).failed();
    assert!(region.contains("region") || region.contains("scope"), "{region}");
    assert!(agent.timeline().exchanges.iter().all(|e| e.decision == "refuse"));
}

#[test]
fn what_was_altered_after_signing_is_refused() {
    let agent = host().agent("altering");
    let script = r"
import boto3, urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
credentials = boto3.Session().get_credentials().get_frozen_credentials()
url = 'https://sts.us-east-1.amazonaws.com/'
def post(change):
    r = AWSRequest('POST', url, headers={'Content-Type': 'application/x-www-form-urlencoded', 'Host': 'sts.us-east-1.amazonaws.com'}, data='Action=GetCallerIdentity&Version=2011-06-15')
    SigV4Auth(credentials, 'sts', 'us-east-1').add_auth(r)
    body, headers = change(r.data, dict(r.headers))
    answer = urllib3.PoolManager(ca_certs='/etc/ssl/certs/ca-certificates.crt').request('POST', url, body=body, headers=headers)
    return f'{answer.status} {answer.data.decode()}'
say(intact=post(lambda b, h: (b, h)), body=post(lambda b, h: (b.decode() if isinstance(b, bytes) else b).replace('CallerIdentity', 'SessionToken') and (b'Action=GetSessionToken&Version=2011-06-15', h)),
    header=post(lambda b, h: (b, {**h, 'X-Amz-Date': '20200101T000000Z'})), token=post(lambda b, h: (b, {k: v for k, v in h.items() if k != 'X-Amz-Security-Token'})))
";
    let found = outcomes(&agent, "-", script);
    let starts = |what: &str| found[what].as_str().expect("text");
    assert!(starts("intact").starts_with("200 "), "{found}");
    for what in ["body", "header", "token"] {
        assert!(starts(what).starts_with("403 ") || starts(what).starts_with("400 "), "{what}: {found}");
    }
    assert!(starts("body").contains("SignatureDoesNotMatch"), "{found}");
    assert_eq!(agent.timeline().exchanges.iter().filter(|e| e.decision == "allow").count(), 1);
    assert_eq!(json!(agent.timeline().exchanges.len()), 4);
}
