//! Placeholders: found by the SDKs' own chain, worth something in their own session only; other keys are worth nothing.

use tollgate_tests::host::{Host, wait_for};

/// Case 19.
#[test]
fn a_foreign_access_key_is_refused_with_a_reason_of_its_own() {
    let host = Host::shared();
    let agent = host
        .agent("foreign")
        .env("AWS_ACCESS_KEY_ID", "AKIAFOREIGNFOREIGN00")
        .env("AWS_SECRET_ACCESS_KEY", "stolen/elsewhere/stolen/elsewhere/stolen");
    for (argv, code) in [
        (&["sts", "get-caller-identity"][..], "InvalidClientTokenId"),
        (&["s3api", "list-objects-v2", "--bucket", "tollgate-test"], "InvalidAccessKeyId"),
        (&["ec2", "describe-instances"], "AuthFailure"),
        (&["dynamodb", "list-tables"], "UnrecognizedClientException"),
    ] {
        let text = agent.run(&[&["aws"], argv].concat()).failed();
        assert!(text.contains(&format!("({code})")), "{text}");
        assert!(text.contains("AKIAFOREIGNFOREIGN00 was not issued by Tollgate"), "{text}");
        let timeline = agent.timeline();
        assert!(timeline.exchanges.iter().all(|e| e.decision == "refuse"), "{timeline:#?}");
        timeline.event("refused", "AKIAFOREIGNFOREIGN00 was not issued");
    }
}

/// The key that the daemon holds is foreign too, should an agent ever come by it.
#[test]
fn the_held_key_itself_is_refused_from_an_agent() {
    let host = Host::shared();
    let agent = host
        .agent("held")
        .env("AWS_ACCESS_KEY_ID", &host.info.held_access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &host.info.held_secret_access_key);
    let text = agent.run(&["aws", "sts", "get-caller-identity"]).failed();
    assert!(text.contains("was not issued by Tollgate"), "{text}");
}

#[test]
fn keys_in_the_users_aws_directory_are_hidden_and_not_used() {
    let host = Host::shared();
    let agent = host.agent("hidden");
    let aws = agent.home().join(".aws");
    std::fs::create_dir(&aws).expect("a directory");
    std::fs::write(
        aws.join("credentials"),
        "[default]\naws_access_key_id = AKIAFILEFILEFILE0000\naws_secret_access_key = file\n",
    )
    .expect("a file");
    std::fs::write(aws.join("config"), "[default]\noutput = text\nregion = us-east-1\n").expect("a file");
    for file in ["", "credentials", "config"] {
        std::os::unix::fs::chown(aws.join(file), Some(65534), Some(65534)).expect("chown");
    }
    let text = agent.run(&["sh", "-c", "aws sts get-caller-identity && ls ~/.aws && cat ~/.aws/config"]).ok();
    assert!(text.contains("user/held") && !text.contains('{'), "the user's own `output = text` is kept: {text}");
    assert!(!text.contains("credentials"), "{text}");
    let after = host.outsider("after").run(&["cat", aws.join("credentials").to_str().expect("UTF-8")]).ok();
    assert!(after.contains("AKIAFILEFILEFILE0000"), "the user's own file is as it was");
}

#[test]
fn the_metadata_service_is_version_two_and_gives_placeholders_and_a_region() {
    let host = Host::shared();
    let agent = host.agent("imds");
    let answers = agent.probe(
        r#"
role = "/latest/meta-data/iam/security-credentials/"
show(imds(role)[0])
show(imds(role, token="guess")[0])
show(imds("/latest/api/token", "GET")[0])
status, token, headers = imds("/latest/api/token", "PUT", x_aws_ec2_metadata_token_ttl_seconds="60")
show(status, headers["x-aws-ec2-metadata-token-ttl-seconds"])
show(imds(role, token=token)[:2])
show(json.loads(imds(role + imds(role, token=token)[1], token=token)[1]))
show(imds("/latest/meta-data/placement/region", token=token)[:2])
show(imds("/latest/meta-data/placement/availability-zone", token=token)[:2])
show(imds("/latest/user-data", token=token)[0])
show(imds(role, token=token, x_forwarded_for="1.2.3.4")[0])
"#,
    );
    assert_eq!(answers[0], 401);
    assert_eq!(answers[1], 401);
    assert_eq!(answers[2], 405);
    assert_eq!(answers[3], serde_json::json!([200, "60"]));
    assert_eq!(answers[4][0], 200);
    let keys = &answers[5];
    assert_eq!((keys["Code"].as_str(), keys["Type"].as_str()), (Some("Success"), Some("AWS-HMAC")));
    let id = keys["AccessKeyId"].as_str().expect("an id");
    assert!(id.starts_with("ASIA") && id.len() == 20, "{id}");
    assert_ne!(id, host.info.held_access_key_id);
    assert_eq!(answers[6], serde_json::json!([200, "us-east-1"]));
    assert_eq!(answers[7], serde_json::json!([200, "us-east-1a"]));
    assert_eq!(answers[8], 404);
    assert_eq!(answers[9], 403);
}

#[test]
fn another_sessions_placeholder_is_refused_while_it_lives_and_after() {
    let host = Host::shared();
    let (owner, thief) = (host.agent("owner"), host.agent("thief"));
    let (keys, done) = (host.work("keys"), host.work("done"));
    let running = owner.start_probe(&format!(
        "import os\nopen('{0}.new', 'w').write(json.dumps(placeholder()))\nos.rename('{0}.new', '{0}')\nwait_for('{1}')",
        keys.display(),
        done.display()
    ));
    wait_for("the owner's placeholder", || keys.exists().then_some(()));
    let steal = format!(
        "keys = json.load(open('{}'))\nshow(ask(tls(STS), message(*signed(STS, WHO, keys=keys), WHO)))",
        keys.display()
    );
    let stolen = thief.probe(&steal);
    assert_eq!(stolen[0][0], 403, "{stolen:?}");
    assert!(stolen[0][1].as_str().expect("text").contains("belongs to another session"), "{stolen:?}");
    thief.timeline().event("refused", &format!("belongs to session {}", owner.timeline().id()));
    std::fs::write(&done, "").expect("a file");
    running.wait(tollgate_tests::host::BUDGET).ok();
    let late = thief.probe(&steal);
    assert_eq!(late[0][0], 403, "{late:?}");
    assert!(late[0][1].as_str().expect("text").contains("was not issued by Tollgate"), "{late:?}");
}

#[test]
fn what_was_altered_after_signing_is_refused() {
    let host = Host::shared();
    let agent = host.agent("altered");
    let answers = agent.probe(
        r#"
keys = placeholder()
other = WHO.replace("GetCallerIdentity", "GetSessionToken")
# The body, of the same length, and not.
show(ask(tls(STS), message(*signed(STS, WHO, keys=keys), WHO.swapcase())))
show(ask(tls(STS), message(*signed(STS, WHO, keys=keys), other)))
# The signature, the date, the token.
line, fields = signed(STS, WHO, keys=keys)
def changed(name, change): return [(k, change(v) if k == name else v) for k, v in fields]
show(ask(tls(STS), message(line, changed("Authorization", lambda v: v[:-1] + ("0" if v[-1] != "0" else "1")), WHO)))
show(ask(tls(STS), message(line, changed("X-Amz-Security-Token", lambda v: v[:-4] + "AAAA"), WHO)))
show(ask(tls(STS), message(line.replace("/ ", "/?x=y "), fields, WHO)))
# The secret.
show(ask(tls(STS), message(*signed(STS, WHO, keys={**keys, "SecretAccessKey": "x" * 40}), WHO)))
# Unaltered, to know that the rest was right.
show(ask(tls(STS), message(line, fields, WHO))[0])
"#,
    );
    for (n, answer) in answers[..6].iter().enumerate() {
        assert_eq!(answer[0], 403, "{n}: {answer}");
        let text = answer[1].as_str().expect("text");
        assert!(text.contains("SignatureDoesNotMatch") || text.contains("InvalidClientTokenId"), "{n}: {text}");
    }
    assert_eq!(answers[6], 200);
    let timeline = agent.timeline();
    assert_eq!(timeline.exchanges.iter().filter(|e| e.decision == "refuse").count(), 6, "{timeline:#?}");
}

/// A streamed upload is sent on while it is hashed: what turns out to be altered is never complete upstream.
#[test]
fn a_streamed_upload_that_was_altered_is_not_stored() {
    let host = Host::shared();
    let agent = host.agent("stream");
    let answers = agent.probe(
        r#"
body = b"a" * (1 << 20)
path = "/tollgate-test/altered"
line, fields = signed(S3, body, "PUT", path, "s3", s3=True)
show(ask(tls(S3), message(line, fields, b"b" + body[1:])))
show(ask(tls(S3), message(line, fields, body[:-1] + b"b")))
"#,
    );
    assert!(!host.dir().join("s3/tollgate-test/altered").exists(), "it was stored");
    assert_eq!(answers.len(), 2);
    for answer in &answers {
        assert_eq!(answer[0], 403, "{answer}");
        assert!(answer[1].as_str().expect("text").contains("<Code>SignatureDoesNotMatch</Code>"), "{answer}");
    }
    let timeline = agent.timeline();
    let [first, last] = timeline.exchanges.as_slice() else { panic!("two exchanges: {timeline:#?}") };
    for exchange in [first, last] {
        assert_eq!(exchange.action, "s3:PutObject");
        assert!(exchange.error.as_deref().is_some_and(|e| e.contains("not the one that was signed")), "{exchange:?}");
    }
}
