//! Client × service: unmodified clients with an empty environment do what they always do, and only the daemon holds
//! the key that the servers verify.

use std::fs;
use std::path::Path;

use tollgate_tests::bed::{ACCOUNT, BUCKET};
use tollgate_tests::host::{Agent, Host, unique};

mod keys;

/// How each client is called; all take the same verbs, as far as they have them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Cli,
    Cli2,
    Boto3,
    Js,
    Rust,
    Go,
    /// A program on the Go SDK of today.
    Rclone,
    Java,
    Curl,
}

impl Client {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Cli2 => "cli2",
            Self::Boto3 => "boto3",
            Self::Js => "js",
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Rclone => "rclone",
            Self::Java => "java",
            Self::Curl => "curl",
        }
    }

    fn agent(self) -> Agent<'static> {
        let agent = Host::shared().agent(&format!("matrix-{}", self.name()));
        // Java reads its command line by the locale, and has question marks for what that does not have.
        if self == Self::Java { agent.env("LC_ALL", "C.UTF-8") } else { agent }
    }

    /// The words before the verb.
    pub(crate) fn command(self) -> Vec<String> {
        let clients = Host::shared().dir().join("clients").display().to_string();
        let script = |program: &str, name: &str| vec![program.to_owned(), format!("{clients}/{name}")];
        let cli = |program: &str| [script("sh", "client.sh"), vec![program.into()]].concat();
        match self {
            Self::Cli => cli("aws"),
            Self::Cli2 => cli("aws2"),
            Self::Boto3 => script("python3", "client.py"),
            Self::Js => script("node", "js/client.mjs"),
            Self::Rust => vec!["tollgate-rust-client".into()],
            Self::Go => vec!["go-client".into()],
            Self::Rclone => script("sh", "rclone.sh"),
            Self::Java => vec!["java-client".into()],
            Self::Curl => script("sh", "curl.sh"),
        }
    }

    /// Runs a verb, and checks that nothing the agent can see holds the key.
    fn call(self, agent: &Agent<'_>, verb: &[&str]) -> String {
        let host = Host::shared();
        let command = self.command();
        let argv: Vec<&str> = command.iter().map(String::as_str).chain(verb.iter().copied()).collect();
        let output = agent.run(&argv);
        assert!(!output.text().contains(&host.info.held_access_key_id), "the held key came out: {output}");
        assert!(!output.text().contains(&host.info.held_secret_access_key), "the held secret came out: {output}");
        output.ok()
    }
}

/// The identity that moto finds behind the signature's key: only the held one has this name.
fn sts(client: Client) {
    let agent = client.agent();
    assert_eq!(client.call(&agent, &["sts"]), format!("arn:aws:iam::{ACCOUNT}:user/held"));
    let timeline = agent.timeline();
    let exchange = timeline.only("sts:GetCallerIdentity");
    assert_eq!((exchange.decision.as_str(), exchange.status), ("allow", Some(200)));
    assert!(exchange.ended.is_some_and(|ended| ended > exchange.started), "{exchange:?}");
    assert_eq!(exchange.policies, ["tests-allow"]);
}

fn s3(client: Client, size: usize) {
    s3_as(client, size, &[]);
}

/// `mode`: what the client is told besides.
fn s3_as(client: Client, size: usize, mode: &[&str]) {
    let host = Host::shared();
    let agent = client.agent();
    let bytes = noise(size);
    let (from, to, key) = (host.file("from", &bytes), host.work("to"), unique("objects/a key+with=signs"));
    // curl takes a URL.
    let said = if client == Client::Curl {
        key.replace(' ', "%20").replace('+', "%2B").replace('=', "%3D")
    } else {
        key.clone()
    };
    client.call(&agent, &[&["s3", BUCKET, &said, text(&from), text(&to)], mode].concat());
    assert!(fs::read(&to).expect("downloaded") == bytes, "the bytes that came back are not those that were sent");
    let stored = host.dir().join("s3").join(BUCKET).join(&key);
    assert!(fs::read(&stored).expect("stored") == bytes, "the bytes that were stored are not those that were sent");
    let timeline = agent.timeline();
    assert!(timeline.exchanges.iter().all(|e| e.decision == "allow" && e.error.is_none()), "{timeline:#?}");
    let sum = |part: fn(&tollgate_tests::host::Exchange) -> Option<i64>| {
        timeline.exchanges.iter().filter_map(part).sum::<i64>()
    };
    let size = i64::try_from(size).expect("small");
    assert!(sum(|e| e.bytes_sent) >= size && sum(|e| e.bytes_received) >= size, "{timeline:#?}");
    for file in [from, to, stored] {
        fs::remove_file(file).expect("removed");
    }
}

fn dynamodb(client: Client) {
    let agent = client.agent();
    let table = unique("table");
    assert_eq!(client.call(&agent, &["dynamodb", &table, "grüße"]), "grüße");
    let timeline = agent.timeline();
    let arn = format!("arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/{table}");
    for action in ["dynamodb:CreateTable", "dynamodb:PutItem", "dynamodb:GetItem"] {
        assert_eq!(timeline.only(action).resources, [arn.as_str()]);
    }
}

fn ec2(client: Client) {
    let agent = client.agent();
    let group = unique("group");
    assert_eq!(client.call(&agent, &["ec2", &group]), group);
    agent.timeline().only("ec2:CreateSecurityGroup");
    agent.timeline().only("ec2:DescribeSecurityGroups");
}

fn sqs(client: Client) {
    let agent = client.agent();
    let queue = unique("queue");
    assert_eq!(client.call(&agent, &["sqs", &queue, "a body & more"]), "a body & more");
    let timeline = agent.timeline();
    let arn = format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{queue}");
    assert_eq!(timeline.only("sqs:SendMessage").resources, [arn]);
}

macro_rules! matrix {
    ($($name:ident: $client:ident),*) => {$(
        mod $name {
            use super::Client::$client;

            #[test]
            fn sts_get_caller_identity() {
                super::sts($client);
            }
            #[test]
            fn s3_small_round_trip() {
                super::s3($client, 1000);
            }
            #[test]
            fn s3_empty_round_trip() {
                super::s3($client, 0);
            }
            #[test]
            fn s3_64_mib_round_trip() {
                super::s3($client, 64 << 20);
            }
            #[test]
            fn dynamodb_table_and_item() {
                super::dynamodb($client);
            }
            #[test]
            fn ec2_write_and_describe() {
                super::ec2($client);
            }
            #[test]
            fn sqs_send_and_receive() {
                super::sqs($client);
            }
        }
    )*};
}

matrix!(cli: Cli, boto3: Boto3, js: Js, rust: Rust);

/// Clients that cost more to start: one call of each kind, and an upload that goes in several parts or chunks.
macro_rules! short {
    ($($name:ident: $client:ident),*) => {$(
        mod $name {
            use super::Client::$client;

            #[test]
            fn sts_get_caller_identity() {
                super::sts($client);
            }
            #[test]
            fn s3_small_round_trip() {
                super::s3($client, 1000);
            }
            #[test]
            fn s3_round_trip_in_parts() {
                super::s3($client, 11 << 20);
            }
        }
    )*};
}

short!(cli2: Cli2, go: Go, java: Java, curl: Curl);

#[test]
fn cli2_dynamodb_table_and_item() {
    dynamodb(Client::Cli2);
}

#[test]
fn go_dynamodb_table_and_item() {
    dynamodb(Client::Go);
}

#[test]
fn rclone_s3_round_trip_in_parts() {
    s3(Client::Rclone, 1000);
    s3(Client::Rclone, 11 << 20);
}

/// The Java SDK has each way to sign a body; over TLS it signs none, unless it is told to.
#[test]
fn java_s3_with_a_checksum_behind_it() {
    s3_as(Client::Java, 300_000, &["trailer"]);
}

#[test]
fn java_s3_in_signed_chunks() {
    s3_as(Client::Java, 300_000, &["signed"]);
}

#[test]
fn java_s3_in_signed_chunks_with_a_checksum_behind_them() {
    s3_as(Client::Java, 300_000, &["signed-trailer"]);
}

#[test]
fn java_kms_key_made_and_described() {
    let agent = Client::Java.agent();
    assert_eq!(Client::Java.call(&agent, &["kms", "a \"description\" & more"]), "a \"description\" & more");
    let timeline = agent.timeline();
    timeline.only("kms:CreateKey");
    timeline.only("kms:DescribeKey");
}

#[test]
fn curl_dynamodb_list_tables() {
    let agent = Client::Curl.agent();
    assert!(Client::Curl.call(&agent, &["dynamodb"]).contains("TableNames"));
    assert_eq!(agent.timeline().only("dynamodb:ListTables").status, Some(200));
}

/// What an agent can look at holds placeholders only: its environment, its files, the metadata service.
#[test]
fn the_held_key_is_nowhere_an_agent_can_look() {
    let host = Host::shared();
    let agent = host.agent("looking");
    let seen = agent
        .run(&[
            "sh",
            "-c",
            "env; cat ~/.aws/* /proc/self/environ; aws configure list; aws configure export-credentials; \
             cat $1/held-secret $1/tollgate.toml $1/state/* $1/run/sessions/*/* 2>&1; true",
            "sh",
            text(host.dir()),
        ])
        .text();
    assert!(seen.contains("ca_bundle"), "{seen}");
    assert!(seen.contains("held-secret: Permission denied"), "{seen}");
    assert!(!seen.contains(&host.info.held_secret_access_key), "{seen}");
    // The key's id stands in a file that the agent may not read, and nowhere else.
    assert!(!seen.contains(&host.info.held_access_key_id), "{seen}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Bytes without a pattern that a mistake in order or length could hide in.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
