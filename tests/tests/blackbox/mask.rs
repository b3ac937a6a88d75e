//! Answers whose secrets are hidden from the agent, and those that cannot be read and are not passed.

use serde_json::Value;
use tollgate_tests::host::{Host, Settings};

const POLICIES: &str = r#"
@id("tests-allow")
permit (principal, action, resource)
unless { context.session.name like "masked-*" };

@id("tests-mask")
@mask("x")
permit (principal, action, resource)
when { context.session.name like "masked-*" };
"#;

const SECRET: &str = "correct horse battery staple";

fn start() -> Host {
    let host = Host::start(Settings { policies: POLICIES.into(), ..Settings::default() });
    let create = ["aws", "secretsmanager", "create-secret", "--name", "lunch", "--secret-string", SECRET];
    host.agent("plain").run(&create).ok();
    host
}

#[test]
fn a_secret_is_masked_in_the_answer_and_nowhere_recorded() {
    let host = start();
    let get = ["aws", "secretsmanager", "get-secret-value", "--secret-id", "lunch", "--output", "json"];
    // It is there to be had.
    let plain: Value = serde_json::from_str(&host.agent("plain").run(&get).ok()).expect("JSON");
    assert_eq!(plain["SecretString"], SECRET);
    let agent = host.agent("masked-json");
    let text = agent.run(&get).ok();
    assert!(!text.contains(SECRET), "{text}");
    let masked: Value = serde_json::from_str(&text).expect("JSON");
    assert!(masked["SecretString"].as_str().is_some_and(|s| s.starts_with("masked:")), "{text}");
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
    let agent = host.agent("masked-xml");
    let text = agent.run(&["aws", "sts", "get-caller-identity"]).failed();
    assert!(text.contains("(AccessDenied) when calling the GetCallerIdentity"), "{text}");
    assert!(text.contains("the answer must be masked and could not be read, so it is not passed on"), "{text}");
    assert!(!text.contains("user/held"), "{text}");
    let timeline = agent.timeline();
    let exchange = timeline.only("sts:GetCallerIdentity");
    assert_eq!(exchange.decision, "allow", "{exchange:?}");
    assert!(exchange.error.as_deref().is_some_and(|e| e.contains("cannot be masked")), "{exchange:?}");
    let said = host.tollgate(&["verify"]);
    assert!(said.status.success() && said.stdout.starts_with("intact"), "{said}");
}
