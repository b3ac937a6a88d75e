//! A masked value is in nothing that the daemon wrote: not in its state, not in its runtime directory, not in its log, and
//! not in a core.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tollgate_tests::bed::BUCKET;
use tollgate_tests::host::{Host, wait_for};

use super::{is_token, python, start};

const SECRETS: [&str; 6] = [
    "TopOfTheSecretString77",
    "TopOfTheParameter77",
    "TopOfThePlaintext77",
    "TopOfTheItem77",
    "TopOfTheObject77",
    "TopOfTheBinary77",
];

#[test]
fn a_masked_value_is_in_nothing_that_the_daemon_wrote() {
    let host = start();
    // By way of standard input: command lines are recorded as their callers wrote them.
    let input = serde_json::json!(SECRETS).to_string();
    let script = format!(
        r#"
secret, parameter, plaintext, item, thing, binary = json.load(sys.stdin)
sm, ssm, kms, db, s3 = (boto3.client(n) for n in ["secretsmanager", "ssm", "kms", "dynamodb", "s3"])
sm.create_secret(Name="s", SecretString=secret)
sm.create_secret(Name="b", SecretBinary=binary.encode())
ssm.put_parameter(Name="p", Value=parameter, Type="SecureString")
key = kms.create_key()["KeyMetadata"]["KeyId"]
sealed = kms.encrypt(KeyId=key, Plaintext=plaintext.encode())["CiphertextBlob"]
db.create_table(TableName="n", BillingMode="PAY_PER_REQUEST", AttributeDefinitions=[{{"AttributeName": "id", "AttributeType": "S"}}],
    KeySchema=[{{"AttributeName": "id", "KeyType": "HASH"}}])
db.put_item(TableName="n", Item={{"id": {{"S": "1"}}, "card": {{"S": item}}}})
s3.put_object(Bucket="{BUCKET}", Key="masked/n.json", Body=json.dumps({{"secret": thing}}).encode())
open("sealed", "wb").write(sealed)
print("null")
"#
    );
    let plain = host.agent("plain");
    python(&plain.clone().stdin(input.as_bytes()), &script);
    let script = format!(
        r#"
sm, ssm, kms, db, s3 = (boto3.client(n) for n in ["secretsmanager", "ssm", "kms", "dynamodb", "s3"])
print(json.dumps([
    sm.get_secret_value(SecretId="s")["SecretString"],
    ssm.get_parameter(Name="p", WithDecryption=True)["Parameter"]["Value"],
    kms.decrypt(CiphertextBlob=open("sealed", "rb").read())["Plaintext"].decode(),
    db.get_item(TableName="n", Key={{"id": {{"S": "1"}}}})["Item"]["card"]["S"],
    json.load(s3.get_object(Bucket="{BUCKET}", Key="masked/n.json")["Body"])["secret"],
    sm.get_secret_value(SecretId="b")["SecretBinary"].decode(),
]))
"#
    );
    let agent = host.agent("masked-nowhere").at_home_with(&plain);
    let found = python(&agent, &script);
    assert!(found.as_array().is_some_and(|all| all.len() == SECRETS.len() && all.iter().all(is_token)), "{found}");
    for argv in [
        &["secretsmanager", "get-secret-value", "--secret-id", "s"][..],
        &["ssm", "get-parameter", "--name", "p", "--with-decryption"],
        &["kms", "decrypt", "--ciphertext-blob", "fileb://sealed"],
        &["dynamodb", "get-item", "--table-name", "n", "--key", r#"{"id":{"S":"1"}}"#],
    ] {
        for aws in ["aws", "aws2"] {
            let agent = host.agent("masked-nowhere").at_home_with(&plain);
            let text = agent.run(&[&[aws], argv, &["--output", "json"]].concat()).ok();
            assert!(text.contains("masked:") || text.contains("bWFza2VkO"), "{text}");
            assert!(SECRETS.iter().all(|s| !text.contains(s)), "{text}");
        }
    }
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
    nothing_of(&host, &SECRETS);
    // What the record would show is no more than what is in its files.
    let shown = host.tollgate(&["sessions", "list", "--json"]).ok();
    assert!(SECRETS.iter().all(|s| !shown.contains(s)), "{shown}");
}

/// Looks through all files that the daemon writes, for the values and for their base64.
fn nothing_of(host: &Host, secrets: &[&str]) {
    let spellings: Vec<String> = secrets
        .iter()
        .flat_map(|s| [(*s).to_owned(), aws_smithy_types::base64::encode(s).trim_end_matches('=').to_owned()])
        .collect();
    let mut files = vec![host.dir().join("daemon.log")];
    for folder in ["state", "run"] {
        collect(&host.dir().join(folder), &mut files);
    }
    assert!(files.iter().any(|f| f.ends_with("record.db")), "{files:?}");
    for file in files {
        let Ok(bytes) = fs::read(&file) else { continue };
        for spelling in &spellings {
            let there = bytes.windows(spelling.len()).any(|w| w == spelling.as_bytes());
            assert!(!there, "`{spelling}` is in {}", file.display());
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the daemon's").map(|e| e.expect("an entry")) {
        let kind = entry.file_type().expect("its type");
        if kind.is_dir() {
            collect(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}

#[test]
fn the_daemon_leaves_no_core() {
    let host = start();
    host.agent("plain").run(&["aws", "sts", "get-caller-identity"]).ok();
    host.signal_daemon(Signal::SIGABRT);
    let status = host.daemon_ended();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false), "{status}");
    wait_for("its end", || (!host.daemon_is_running()).then_some(()));
}
