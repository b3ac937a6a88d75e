//! Held credentials from the AWS SDK's default chain, as the daemon's own environment has them.

use std::path::Path;

use tollgate_tests::bed::ACCOUNT;
use tollgate_tests::host::{Host, Settings};

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
