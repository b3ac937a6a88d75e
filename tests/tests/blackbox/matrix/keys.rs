//! Cases 2, 3 and 8: keys and queries that two encoders write in two ways, by every client; bytes read back and compared.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tollgate_tests::bed::BUCKET;
use tollgate_tests::host::{Host, unique};

use super::{Client, text};

/// Each stands below a folder of its own, so that no two tests meet.
const KEYS: [&str; 12] = [
    "with a space",
    "plus+plus",
    "equals=equals&and",
    "star*star",
    "at@colon:comma,semicolon;",
    "100%25 and %2F",
    "quotes'\"(round)[square]{curly}",
    "中文/日本語/한국어",
    "😀/é and e\u{301}",
    "env:/state",
    "~tilde$dollar!bang",
    "question?hash#pipe|caret^back\\slash",
];

/// Keys that a server of files cannot store as they are; a bucket can.
const DOTS: [&str; 2] = ["two//slashes", "a/./dot"];

fn keys(client: Client, keys: &[&str]) {
    let host = Host::shared();
    let agent = client.agent();
    let folder = unique("keys");
    let (from, to) = (host.work("from"), host.work("to"));
    for dir in [&from, &to] {
        fs::create_dir(dir).expect("a directory");
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("its mode");
    }
    let names: Vec<String> = keys.iter().map(|key| format!("{folder}/{key}")).collect();
    // Each has contents of its own: two keys that become one are seen.
    let contents = |n: usize| format!("contents of {}", names[n]).into_bytes();
    for n in 0..names.len() {
        fs::write(from.join(n.to_string()), contents(n)).expect("written");
    }
    let mut verb = vec!["keys", BUCKET, text(&from), text(&to)];
    verb.extend(names.iter().map(String::as_str));
    client.call(&agent, &verb);
    let timeline = agent.timeline();
    for (n, name) in names.iter().enumerate() {
        let read = fs::read(to.join(n.to_string())).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&contents(n)), "{name}");
        let arn = format!("arn:aws:s3:::{BUCKET}/{name}");
        let of = |action: &str| {
            timeline.exchanges.iter().any(|e| e.action.split(' ').any(|a| a == action) && e.resources.contains(&arn))
        };
        assert!(of("s3:PutObject") && of("s3:GetObject"), "`{arn}` is not in {timeline:#?}");
    }
    assert!(timeline.exchanges.iter().all(|e| e.decision == "allow" && e.status == Some(200)), "{timeline:#?}");
}

/// Prefixes as Terraform's workspaces have them, and a delimiter without a value.
fn lists(client: Client) {
    let host = Host::shared();
    let agent = client.agent();
    let folder = unique("list");
    let name = format!("{folder}/env:/a b+c=d&e");
    let path = host.dir().join("s3").join(BUCKET).join(&name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, b"x").expect("written");
    for (prefix, found) in [("env:/", true), ("env:/a b+c=d&e", true), ("env:/a%20b", false), ("env:/a+b", false)] {
        let answer = client.call(&agent, &["list", BUCKET, &format!("{folder}/{prefix}"), ""]);
        let keys: Option<Vec<String>> = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(keys.unwrap_or_default(), if found { vec![name.clone()] } else { vec![] }, "{prefix}");
    }
    let lists: Vec<Value> = host_lists(&agent.timeline());
    assert!(!lists.is_empty());
}

/// What the newest session listed.
fn host_lists(timeline: &tollgate_tests::host::Timeline) -> Vec<Value> {
    let found = timeline.exchanges.iter().filter(|e| e.action == "s3:ListBucket");
    found.map(|e| serde_json::from_str(&e.parameters).expect("JSON")).collect()
}

macro_rules! hard {
    ($($name:ident: $client:ident),*) => {$(
        mod $name {
            use super::super::Client::$client;

            #[test]
            fn hard_keys() {
                super::keys($client, &super::KEYS);
            }
            #[test]
            fn hard_prefixes() {
                super::lists($client);
            }
        }
    )*};
}

hard!(cli: Cli, cli2: Cli2, boto3: Boto3, js: Js, rust: Rust, go: Go, java: Java);

#[test]
fn rclone_hard_keys() {
    keys(Client::Rclone, &KEYS);
}

#[test]
fn doubled_slashes_and_dots_stay_as_they_are() {
    for client in [Client::Boto3, Client::Js, Client::Rust, Client::Go] {
        keys(client, &DOTS);
    }
}
