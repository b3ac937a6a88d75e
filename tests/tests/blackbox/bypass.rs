//! What a hostile agent tries to get round the control point: from inside `tollgate run`, as `nobody`, for real.
//!
//! Every attempt ends in one of three ways: it is refused, it comes to the gateway like any other connection, or only
//! the host can stop it. Those of the third kind stand in THREATS.md under "Not stopped", and the tests here hold that
//! list to the truth. Whoever gets to an AWS address unjudged leaves the name of the test in the outside world's log.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use tollgate_tests::host::{Agent, Event, Host, POLICIES, Settings, unique, wait_for};

mod endpoints;
mod processes;
mod sockets;

/// What the scripts have in common.
const PRELUDE: &str = include_str!("bypass/prelude.py");
/// What the agent of the demonstration does: credentials from the metadata service, a signature with them.
const CURL: &str = include_str!("../../../agent/src/demo/curl.sh");

/// All that is recognised is permitted, so that a refusal is that of what a test is about.
const ALSO: &str = r#"
@id("unknown-by-name")
permit (principal, action == AWS::Action::"unknown:unknown", resource)
when { context.session.name like "knows-*" };
"#;

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::start(Settings { policies: format!("{POLICIES}{ALSO}"), ..Settings::default() }))
}

/// A name of AWS's that no other test uses.
fn aws_name(test: &str) -> String {
    format!("{}.s3.us-east-1.amazonaws.com", unique(test))
}

/// Runs a script that ends by printing JSON; `NAME` is what it is to ask for.
#[track_caller]
fn outcomes(agent: &Agent<'_>, name: &str, script: &str) -> Value {
    let said = agent.run(&["python3", "-c", &python(name, script)]).ok();
    serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {said}"))
}

fn python(name: &str, script: &str) -> String {
    format!("NAME = {name:?}\nDIR = {:?}\n{PRELUDE}\n{script}", text(host().dir()))
}

/// Whether a TLS connection for that name got out.
fn reached(name: &str) -> bool {
    host().world().iter().any(|entry| entry["name"] == name)
}

/// Waits for an event of the agent's session.
#[track_caller]
fn told(agent: &Agent<'_>, kind: &str, reason: &str) -> Event {
    wait_for(&format!("an event `{kind}` with `{reason}`"), || {
        agent.timeline().events.into_iter().find(|e| e.kind == kind && e.reason().contains(reason))
    })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What THREATS.md says of itself: each line names tests, and they exist.
#[test]
fn threats_names_the_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let threats = std::fs::read_to_string(root.join("THREATS.md")).expect("THREATS.md");
    let names = |text: &str| -> Vec<String> {
        text.split('`').filter(|t| t.contains("::") && !t.contains(' ') && *t != "::").map(str::to_owned).collect()
    };
    for name in names(&threats) {
        let (module, function) = name.split_once("::").expect("a path");
        let file = match module {
            "capture" => root.join("agent/tests/capture.rs"),
            module => root.join("tests/tests/blackbox").join(module).with_extension("rs"),
        };
        let source = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: `{}`: {e}", file.display()));
        assert!(source.contains(&format!("fn {function}(")), "{name}: no such function");
    }
    let stopped = threats.split("## ").find(|part| part.starts_with("Stopped")).expect("the part");
    let rows: Vec<&str> = stopped.lines().filter(|l| l.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        assert!(!names(row).is_empty(), "this line names no test: {row}");
    }
}
