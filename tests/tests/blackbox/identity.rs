//! Who a session acts for: tokens of a certified provider, over real HTTP, and every way to lie about it.
//!
//! The policies are those that are shipped. Each test that changes a provider has one of its own, on a port that the
//! host's configuration knows.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tollgate_tests::bed::{ACCOUNT, BUCKET};
use tollgate_tests::host::{Agent, BUDGET, Host, Output, Provider, Settings, wait_for};

const SHARED: u16 = 9401;
const ROTATING: u16 = 9402;
/// Its keys are believed for a second.
const IMPATIENT: u16 = 9403;
const GOING: u16 = 9404;
/// Nobody ever listens there.
const ABSENT: u16 = 9405;

/// What the agent of the demonstration does: credentials from the metadata service, a signature with them.
const CURL: &str = include_str!("../../../agent/src/demo/curl.sh");

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let shipped =
            [include_str!("../../../policies/00-baseline.cedar"), include_str!("../../../policies/10-examples.cedar")];
        let issuers = [(SHARED, ""), (ROTATING, ""), (IMPATIENT, "jwks_max_age = 1\n"), (GOING, ""), (ABSENT, "")];
        let extra = issuers.map(|(port, more)| {
            format!("[[identity.issuer]]\nurl = \"http://127.0.0.1:{port}\"\naudience = [\"tollgate\"]\n{more}\n")
        });
        Host::start(Settings { policies: shipped.concat(), extra: extra.concat(), ..Settings::default() })
    })
}

fn shared() -> &'static Provider {
    static PROVIDER: OnceLock<Provider> = OnceLock::new();
    PROVIDER.get_or_init(|| host().provider(SHARED))
}

/// Runs a command with the token in a file.
fn with_token(agent: Agent<'static>, token: &str, argv: &[&str]) -> (Agent<'static>, Output) {
    let file = host().file("token", token.as_bytes());
    let agent = agent.flags(&["--identity-token-file", text(&file)]);
    let output = agent.run(argv);
    (agent, output)
}

/// A signed request with curl.
fn curl(request: &str) -> [String; 3] {
    ["sh".into(), "-c".into(), format!("{CURL}\n{request}")]
}

const WHO: &str = "signed sts 'https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15'";

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn groups_of_a_verified_token_drive_the_policy() {
    let list = ["aws", "s3api", "list-objects-v2", "--bucket", BUCKET, "--output", "json"];
    let (alice, output) = with_token(host().agent("reader"), &shared().issue("alice", "tollgate", 3600), &list);
    output.ok();
    let (bob, output) =
        with_token(host().agent("nobody-in-particular"), &shared().issue("bob", "tollgate", 3600), &list);
    let message = output.failed();
    assert!(message.contains("AccessDenied") && message.contains("Tollgate denied s3:ListBucket"), "{message}");

    for (agent, subject, decision) in [(alice, "alice", "allow"), (bob, "bob", "deny")] {
        let timeline = agent.timeline();
        assert_eq!(timeline.session["subject"], subject);
        assert_eq!(timeline.session["issuer"], shared().issuer.as_str());
        let exchange = timeline.only("s3:ListBucket");
        assert_eq!((exchange.decision.as_str(), exchange.subject.as_str()), (decision, subject));
        let mut kinds = vec!["session-opened"];
        if decision == "deny" {
            kinds.push("blocked");
        }
        for kind in kinds {
            let event = timeline.event(kind, "");
            assert_eq!(event.field("TOLLGATE_SUBJECT"), subject, "{event:?}");
            assert_eq!(event.field("TOLLGATE_ISSUER"), shared().issuer, "{event:?}");
        }
    }
}

#[test]
fn a_token_in_a_variable_counts_like_one_in_a_file() {
    let token = shared().issue("bob", "tollgate", 3600);
    let agent = host().agent("variable").env("MY_TOKEN", &token).flags(&["--identity-token-env", "MY_TOKEN"]);
    let output = agent.run(&["aws", "sts", "get-caller-identity", "--query", "Account", "--output", "text"]);
    assert_eq!(output.ok(), ACCOUNT);
    assert_eq!(agent.timeline().session["subject"], "bob");
    let message = host().agent("no-variable").flags(&["--identity-token-env", "MISSING"]).run(&["true"]).failed();
    assert!(message.contains("cannot read the token from variable `MISSING`"), "{message}");
}

#[test]
fn without_a_token_the_shipped_policies_deny_with_their_sentence() {
    let agent = host().agent("unidentified");
    let message = agent.run(&["aws", "sts", "get-caller-identity"]).failed();
    assert!(message.contains("AccessDenied"), "{message}");
    assert!(
        message.contains(
            "This session has no verified identity. Start it with a token: tollgate run --identity-token-file FILE."
        ),
        "{message}"
    );
    let timeline = agent.timeline();
    assert_eq!(timeline.session["subject"], "unidentified");
    assert_eq!(timeline.session["issuer"], Value::Null);
    let exchange = timeline.only("sts:GetCallerIdentity");
    assert_eq!((exchange.decision.as_str(), exchange.policies.as_slice()), ("deny", &["unidentified".to_owned()][..]));
    assert_eq!(timeline.event("blocked", "no verified identity").field("TOLLGATE_SUBJECT"), "unidentified");
}

/// Tries to start a session; it must not start, must say why, and must leave an event.
fn refused(name: &str, token: &str, expected: &str) {
    let marker = host().work("started");
    let (_, output) = with_token(host().agent(name), token, &["touch", text(&marker)]);
    let code = output.status.code();
    let message = output.failed();
    assert!(message.contains("the identity token was not taken"), "{name}: {message}");
    assert!(message.contains(expected), "{name}: `{expected}` is not in: {message}");
    assert!(message.contains("the command was not started"), "{name}: {message}");
    assert!(!message.contains(token.get(..40).unwrap_or("no token")), "{name}: the message holds the token: {message}");
    assert!(code.is_some_and(|c| c != 0), "{name}: {code:?}");
    assert!(!marker.exists(), "{name}: the command was started");
    host().event("identity", expected);
}

#[test]
fn forged_tokens_start_no_session() {
    let provider = shared();
    let good = json!({ "sub": "alice", "aud": "tollgate", "exp": seconds() + 600, "groups": ["operators"] });
    // The forger's own claims with the provider's own key are taken: what is refused below is refused for its fault.
    let (_, output) =
        with_token(host().agent("control"), &provider.sign(json!({}), good.clone(), "current"), &["true"]);
    output.ok();

    let sign = |header: Value, with: &str| provider.sign(header, good.clone(), with);
    refused("same-kid", &sign(json!({}), "stranger"), "signature does not match the key");
    refused("no-kid", &sign(json!({"kid": "unheard-of"}), "stranger"), "publishes no signing key `unheard-of`");
    let issued = provider.issue("alice", "tollgate", 600);
    refused("flipped-signature", &flipped(&issued, 2), "signature does not match the key");
    refused("altered-claims", &altered(&issued), "signature does not match the key");
    refused("alg-none", &sign(json!({"alg": "none"}), "nothing"), "it has no signature");
    refused("alg-none-signed", &sign(json!({"alg": "none"}), "current"), "signed with `none`");
    refused("key-confusion", &sign(json!({"alg": "HS256"}), "public-as-secret"), "signed with `HS256`");
    refused("own-key", &sign(json!({"jwk": {"kty": "RSA"}}), "stranger"), "header carries `jwk`");
    refused("own-key-address", &sign(json!({"jku": "http://127.0.0.1:1/"}), "stranger"), "header carries `jku`");
    refused("logout-token", &sign(json!({"typ": "logout+jwt"}), "current"), "`typ` is neither");
}

/// A token with one letter of one part changed.
fn flipped(token: &str, part: usize) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let other = if &parts[part][10..11] == "A" { "B" } else { "A" };
    parts[part].replace_range(10..11, other);
    parts.join(".")
}

/// The claims of a token with a group of the forger's choice added, under the signature of the claims without it.
fn altered(token: &str) -> String {
    let node = "const [h, c, s] = process.argv[1].split('.');\
                const claims = JSON.parse(Buffer.from(c, 'base64url'));\
                claims.groups = ['operators'];\
                console.log([h, Buffer.from(JSON.stringify(claims)).toString('base64url'), s].join('.'))";
    let made = host().outsider("forger").run(&["node", "-e", node, token]).ok();
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (made_parts, issued) = (parts(&made), parts(token));
    assert_eq!((made_parts.len(), &made_parts[0], &made_parts[2]), (3, &issued[0], &issued[2]));
    assert_ne!(made_parts[1], issued[1]);
    made
}

#[test]
fn tokens_with_wrong_claims_start_no_session() {
    let now = seconds();
    let sign = |change: Value| {
        let mut claims = json!({ "sub": "alice", "aud": "tollgate", "exp": now + 600 });
        for (name, value) in change.as_object().expect("an object") {
            match value {
                Value::Null => claims.as_object_mut().expect("an object").remove(name),
                other => claims.as_object_mut().expect("an object").insert(name.clone(), other.clone()),
            };
        }
        shared().sign(json!({}), claims, "current")
    };
    refused("expired", &sign(json!({"exp": now - 3600})), "the token has expired; renew it");
    refused("too-early", &sign(json!({"nbf": now + 3600})), "does not count yet (`nbf`); check the clock");
    refused("no-subject", &sign(json!({"sub": null})), "claim `sub` is missing");
    refused("no-expiry", &sign(json!({"exp": null})), "claim `exp` is missing");
    refused("no-audience", &sign(json!({"aud": null})), "claim `aud` is missing");
    refused("lines-in-subject", &sign(json!({"sub": "alice\nroot"})), "contains control characters");
    refused("odd-groups", &sign(json!({"groups": {"operators": true}})), "`groups` is neither text nor a list");
    let issuer = format!("the token's issuer `http://127.0.0.1:{}`", 9999);
    refused("foreign-issuer", &sign(json!({"iss": "http://127.0.0.1:9999"})), &format!("{issuer} is not configured"));
    refused("no-issuer", &sign(json!({"iss": 7})), "claim `iss` is missing or not text");
    // As the provider itself issues it, for somebody else.
    refused(
        "audience",
        &shared().issue("alice", "elsewhere", 600),
        "for another audience than `tollgate`; check `audience`",
    );
    // Of a configured issuer, by the key of another.
    let another = sign(json!({"iss": format!("http://127.0.0.1:{ABSENT}")}));
    refused(
        "absent-issuer",
        &another,
        &format!("issuer `http://127.0.0.1:{ABSENT}/` does not answer as a provider should"),
    );
}

#[test]
fn what_is_no_token_starts_no_session() {
    refused("oversized", &"a".repeat(17 << 10), "more than the 16384 that are read");
    refused("empty", "", "it is empty");
    refused("garbage", "hello, world, this is no token at all and never was one", "it has 1 parts instead of 3");
    refused("encrypted", "e30.e30.e30.e30.e30", "it is encrypted");
    refused("junk-parts", "!!!.???.---", "its header is not base64url");
    let marker = host().work("started");
    let agent = host().agent("no-file").flags(&["--identity-token-file", "/nonexistent/token"]);
    let message = agent.run(&["touch", text(&marker)]).failed();
    assert!(message.contains("cannot read the token file `/nonexistent/token`"), "{message}");
    // A file that the caller may not read is not read for it.
    let secret = host().dir().join("held-secret");
    let agent = host().agent("not-mine").flags(&["--identity-token-file", text(&secret)]);
    let message = agent.run(&["touch", text(&marker)]).failed();
    assert!(message.contains("cannot read the token file") && message.contains("Permission denied"), "{message}");
    assert!(!marker.exists());
    host().event("identity", "/nonexistent/token");
    host().event("identity", "held-secret");
}

#[test]
fn a_rotated_key_is_fetched_and_a_removed_one_no_longer_counts() {
    let provider = host().provider(ROTATING);
    let old = provider.issue("alice", "tollgate", 3600);
    let start = |name: &str, token: &str| with_token(host().agent(name), token, &["true"]).1;
    start("old-key", &old).ok();
    provider.rotate(true);
    let new = provider.issue("alice", "tollgate", 3600);
    start("new-key", &new).ok();
    start("old-key-still-published", &old).ok();
    provider.rotate(false);
    // Nobody has asked the provider since: its word of before counts, for `jwks_max_age` at the longest.
    start("old-key-still-believed", &old).ok();
    start("newest-key", &provider.issue("alice", "tollgate", 3600)).ok();
    refused("removed-key", &old, "publishes no signing key");
    refused("removed-key", &new, "publishes no signing key");
}

#[test]
fn keys_are_believed_for_their_age_and_longer_only_while_the_provider_is_away() {
    let provider = host().provider(IMPATIENT);
    let old = provider.issue("alice", "tollgate", 3600);
    let start = |name: &str, token: &str| with_token(host().agent(name), token, &["true"]).1;
    start("fresh", &old).ok();
    provider.rotate(false);
    // No token with the new key comes by: only the age of the set makes the daemon ask again.
    wait_for("the removed key's end", || (!start("aged", &old).status.success()).then_some(()));
    refused("aged", &old, "publishes no signing key");
    let new = provider.issue("alice", "tollgate", 3600);
    start("new", &new).ok();
    let provider_url = format!("127.0.0.1:{IMPATIENT}");
    provider.stop();
    // Until the daemon has looked for keys again and found nobody: from then on it is the older ones that count.
    wait_for("a look for keys that fails", || {
        with_token(host().agent("away"), &new, &["true"]).1.ok();
        let log = host().daemon_log();
        let told = log.lines().any(|line| line.contains("older keys still count") && line.contains(&provider_url));
        told.then_some(())
    });
    let (agent, output) = with_token(host().agent("away"), &new, &curl(WHO).each_ref().map(String::as_str));
    assert!(output.ok().contains("user/held"));
    assert_eq!(agent.timeline().session["subject"], "alice");
}

#[test]
fn a_provider_that_is_down_at_the_start_means_no_session() {
    let provider = host().provider(GOING);
    let token = provider.issue("alice", "tollgate", 3600);
    provider.stop();
    refused("down", &token, "cannot connect to 127.0.0.1:9404");
    // Back again, and after the pause between two questions it is asked.
    let provider = host().provider(GOING);
    let token = provider.issue("alice", "tollgate", 3600);
    wait_for("a session", || with_token(host().agent("back"), &token, &["true"]).1.status.success().then_some(()));
}

/// An agent that asks who it is as often as its caller says, and writes each answer to a file of its own.
struct Asking {
    agent: Agent<'static>,
    dir: PathBuf,
    token: PathBuf,
    asked: u32,
    _running: tollgate_tests::host::Running,
}

impl Asking {
    fn start(name: &str, token: &str) -> Self {
        let dir = host().work("asking");
        std::fs::create_dir(&dir).expect("a directory");
        std::os::unix::fs::chown(&dir, Some(65534), Some(65534)).expect("chown");
        let file = host().file("renewed-token", token.as_bytes());
        let agent = host().agent(name).flags(&["--identity-token-file", text(&file)]);
        let script = format!(
            "cd {}; n=1\nwhile :; do until [ -e ask-$n ]; do sleep 0.05; done\n{CURL}\n{WHO} >part 2>&1; mv part said-$n; n=$((n+1)); done",
            dir.display()
        );
        let running = agent.start(&["sh", "-c", &script]);
        Self { agent, dir, token: file, asked: 0, _running: running }
    }

    fn ask(&mut self) -> String {
        self.asked += 1;
        std::fs::write(self.dir.join(format!("ask-{}", self.asked)), "").expect("a file");
        let said = self.dir.join(format!("said-{}", self.asked));
        wait_for("the agent's answer", || std::fs::read_to_string(&said).ok())
    }

    fn renew(&self, token: &str) {
        // As tools do: the new file takes the old one's place whole.
        let new = host().file("next-token", token.as_bytes());
        std::fs::rename(new, &self.token).expect("renamed");
    }
}

#[test]
fn an_expired_token_denies_until_its_file_is_renewed() {
    let mut asking = Asking::start("renewing", &shared().sign(json!({}), short_lived("alice"), "current"));
    let said = asking.ask();
    assert!(said.contains("user/held"), "{said}");
    let end = Instant::now() + BUDGET;
    let said = loop {
        let said = asking.ask();
        if !said.contains("user/held") {
            break said;
        }
        assert!(Instant::now() < end, "the token never expires");
    };
    assert!(said.contains("AccessDenied"), "{said}");
    assert!(said.contains("the session's identity token has expired; renew it"), "{said}");

    // Another's token, however good, is not taken by a session of Alice's.
    asking.renew(&shared().issue("bob", "tollgate", 3600));
    host().event("identity", "the renewed token names `bob`; a session keeps its principal, so it was not taken");
    let said = asking.ask();
    assert!(said.contains("has expired; renew it"), "{said}");
    // Nor is a forged one.
    let forged = json!({ "sub": "alice", "aud": "tollgate", "exp": seconds() + 600 });
    asking.renew(&shared().sign(json!({}), forged, "stranger"));
    wait_for("the forged renewal's event", || {
        let events = asking.agent.timeline().events;
        events.iter().any(|e| e.kind == "identity" && e.reason().contains("signature does not match")).then_some(())
    });
    assert!(asking.ask().contains("has expired; renew it"));

    asking.renew(&shared().issue("alice", "tollgate", 3600));
    wait_for("the renewal", || asking.ask().contains("user/held").then_some(()));
    let timeline = asking.agent.timeline();
    assert_eq!((timeline.session["subject"].as_str(), timeline.state()), (Some("alice"), "open"));
    timeline.event("identity", "token renewed");
    timeline.event("blocked", "identity token has expired");
    assert!(timeline.exchanges.iter().any(|e| e.decision == "deny" && e.subject == "alice"), "{timeline:#?}");
}

/// Claims that count for three seconds more: the shared issuer forgives thirty.
fn short_lived(subject: &str) -> Value {
    json!({ "sub": subject, "aud": "tollgate", "exp": seconds() - 26 })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
