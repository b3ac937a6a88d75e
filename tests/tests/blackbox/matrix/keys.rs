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

/// The programs that copy folders ask for what is there, and s3s-fs lists a plus and a percent sign as they are though
/// it says that they are encoded: those two are copied by name.
fn all_keys(client: Client) {
    if !copies(client) {
        return keys(client, &KEYS);
    }
    let (by_name, listed): (Vec<&str>, Vec<&str>) = KEYS.iter().partition(|key| key.contains(['+', '%']));
    keys(client, &listed);
    let host = Host::shared();
    for key in by_name {
        let agent = client.agent();
        let (from, to, name) =
            (host.file("from", key.as_bytes()), host.work("to"), format!("{}/{key}", unique("keys")));
        client.call(&agent, &["s3", BUCKET, &name, text(&from), text(&to)]);
        assert_eq!(fs::read_to_string(&to).expect("downloaded"), key);
        let timeline = agent.timeline();
        let arn = format!("arn:aws:s3:::{BUCKET}/{name}");
        assert!(timeline.exchanges.iter().all(|e| e.resources == [arn.as_str()]), "{timeline:#?}");
    }
}

/// Whether the client is a program to copy files with: it is given a folder, whose files have the keys' names.
fn copies(client: Client) -> bool {
    matches!(client, Client::Cli | Client::Cli2)
}

fn keys(client: Client, keys: &[&str]) {
    let host = Host::shared();
    let agent = client.agent();
    let folder = unique("keys");
    let (from, to) = (host.work("from"), host.work("to"));
    fs::create_dir(&to).expect("a directory");
    fs::set_permissions(&to, fs::Permissions::from_mode(0o777)).expect("its mode");
    let names: Vec<String> = keys.iter().map(|key| format!("{folder}/{key}")).collect();
    let file = |n: usize| if copies(client) { keys[n].to_owned() } else { n.to_string() };
    // Each has contents of its own: two keys that become one are seen.
    let contents = |n: usize| format!("contents of {}", names[n]).into_bytes();
    for n in 0..names.len() {
        let path = from.join(file(n));
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, contents(n)).expect("written");
    }
    if copies(client) {
        client.call(&agent, &["tree", BUCKET, &folder, text(&from), text(&to)]);
    } else {
        let mut verb = vec!["keys", BUCKET, text(&from), text(&to)];
        verb.extend(names.iter().map(String::as_str));
        client.call(&agent, &verb);
    }
    let timeline = agent.timeline();
    for (n, name) in names.iter().enumerate() {
        let read = fs::read(to.join(file(n))).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&contents(n)), "{name}");
        let arn = format!("arn:aws:s3:::{BUCKET}/{name}");
        let of = |action: &str| {
            timeline.exchanges.iter().any(|e| e.action.split(' ').any(|a| a == action) && e.resources.contains(&arn))
        };
        assert!(of("s3:PutObject") && of("s3:GetObject"), "`{arn}` is not in {timeline:#?}");
    }
    assert!(timeline.exchanges.iter().all(|e| e.decision == "allow"), "{timeline:#?}");
}

/// Prefixes as Terraform's workspaces have them, and a delimiter without a value.
fn lists(client: Client) {
    let host = Host::shared();
    let agent = client.agent();
    let folder = unique("list");
    let name = format!("{folder}/env:/a b=c&d");
    let path = host.dir().join("s3").join(BUCKET).join(&name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, b"x").expect("written");
    for (prefix, found) in [("env:/", true), ("env:/a b=c&d", true), ("env:/a%20b", false), ("env:/a+b", false)] {
        let answer = client.call(&agent, &["list", BUCKET, &format!("{folder}/{prefix}"), "/"]);
        let keys: Option<Vec<String>> = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(keys.unwrap_or_default(), if found { vec![name.clone()] } else { vec![] }, "{prefix}");
        // The newest session is that of the call.
        let timeline = agent.timeline();
        let parameters: Value = serde_json::from_str(&timeline.only("s3:ListBucket").parameters).expect("JSON");
        assert_eq!(parameters["Prefix"], format!("{folder}/{prefix}"), "{parameters}");
    }
    // What a server makes of an empty one is its own matter; the signature must hold.
    client.call(&agent, &["list", BUCKET, &folder, ""]);
    assert_eq!(agent.timeline().only("s3:ListBucket").status, Some(200));
}

macro_rules! hard {
    ($($name:ident: $client:ident),*) => {$(
        mod $name {
            use super::super::Client::$client;

            #[test]
            fn hard_keys() {
                super::all_keys($client);
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
