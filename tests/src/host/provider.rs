//! A certified OpenID provider inside the bed's namespaces, and what an attacker would like it to have signed.
//!
//! Runs `tests/oidc/provider.mjs`, which says what each order means. Ends when it is dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::{Host, place};

/// A running provider.
#[derive(Debug)]
pub struct Provider {
    pub issuer: String,
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Host {
    /// Starts a provider on a loopback port of the bed.
    pub fn provider(&self, port: u16) -> Provider {
        let modules = place::tools().join("oidc/node_modules");
        assert!(modules.exists(), "`{}` is missing; run `cargo xtask tools oidc`", modules.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc/provider.mjs");
        let mut command = self.enter();
        command.arg(self.dir().join("bin/node")).arg(script).arg(modules).arg(port.to_string());
        let log = std::fs::File::create(self.dir().join(format!("provider-{port}.log"))).expect("a log file");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().expect("nsenter starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let issuer = answer(&mut output);
        Provider { issuer, talk: Mutex::new((child.stdin.take().expect("piped"), output)), child }
    }
}

impl Provider {
    /// A token as the provider issues it by client credentials: `client` is its subject.
    pub fn issue(&self, client: &str, audience: &str, seconds: u32) -> String {
        let resource = format!("https://{audience}.example/{seconds}");
        self.order(&json!({ "do": "issue", "client": client, "resource": resource }))
    }

    /// Claims of the caller's own; `with` says by which key.
    pub fn sign(&self, header: Value, claims: Value, with: &str) -> String {
        self.order(&json!({ "do": "sign", "header": header, "claims": claims, "with": with }))
    }

    /// A new key signs from now on; the older ones stay published if `keep`.
    pub fn rotate(&self, keep: bool) {
        self.order(&json!({ "do": "rotate", "keep": keep }));
    }

    /// Ends it now: its port is closed when this returns.
    pub fn stop(self) {}

    fn order(&self, order: &Value) -> String {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(talk.0, "{order}").expect("the provider listens");
        answer(&mut talk.1)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("the provider's answer");
    let value: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("the provider said `{line}`: {e}"));
    value["answer"].as_str().unwrap_or_else(|| panic!("the provider refused: {line}")).to_owned()
}
