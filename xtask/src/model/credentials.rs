//! Operations whose answers carry credentials: the agent's table, and `docs/credential-operations.md`.
//!
//! `credentials.py` finds them in botocore's models, `credentials.toml` says by hand what is done about each. Owns both
//! texts, and that nothing of AWS's own keys is left out: the generator fails on an operation that hands one out and
//! that the list does not name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::Sources;
use super::pack::Model;
use crate::process::root;

pub const TABLE: &str = "agent/src/aws/handout/table.txt";
pub const DOCUMENT: &str = "docs/credential-operations.md";

type Listed = BTreeMap<String, Vec<String>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hand {
    placeholder: Listed,
    here: Listed,
    denied: Vec<Denied>,
}

#[derive(Debug, Deserialize)]
struct Denied {
    reason: String,
    #[serde(flatten)]
    operations: Listed,
}

/// What `credentials.py` says of an operation.
#[derive(Debug, Deserialize)]
struct Found {
    service: String,
    op: String,
    unsigned: bool,
    members: Vec<String>,
    /// Where a key stands, and the names of its id, secret, token and end.
    keys: Vec<(Vec<String>, String, String, String, String)>,
}

/// One operation with what is done about it.
struct Row {
    treatment: &'static str,
    /// The sites of the keys, or the reason.
    rest: String,
    unsigned: bool,
    members: Vec<String>,
}

pub struct Handouts {
    rows: BTreeMap<(String, String), Row>,
    /// By botocore's service, for the table.
    prefixes: BTreeMap<String, String>,
}

impl Handouts {
    pub fn of(model: &Model, sources: &Sources) -> anyhow::Result<Self> {
        let here = root().join("xtask/src/model");
        let output = Command::new(&sources.python)
            .args(["-I", "-X", "utf8"])
            .arg(here.join("credentials.py"))
            .arg(sources.packages.join("botocore/data"))
            .stderr(Stdio::inherit())
            .output()
            .context("starting credentials.py")?;
        ensure!(output.status.success(), "credentials.py failed ({}); what it says is above", output.status);
        let found: Vec<Found> =
            serde_json::from_slice(&output.stdout).context("reading what credentials.py printed")?;
        let text = fs::read_to_string(here.join("credentials.toml"))?;
        let mut hand = treatments(toml::from_str(&text).context("reading credentials.toml")?)?;
        let known: BTreeSet<(String, String)> =
            model.services.iter().flat_map(|s| s.ops.iter().map(|o| (s.id.clone(), o.name.clone()))).collect();
        if let Some((service, op)) = hand.keys().find(|key| !known.contains(key)) {
            bail!("credentials.toml names the operation `{service}:{op}`, which botocore does not know; correct it");
        }
        let mut rows = BTreeMap::new();
        for found in found {
            let key = (found.service.clone(), found.op.clone());
            let row = match hand.remove(&key) {
                Some(("placeholder", _)) => {
                    ensure!(!found.keys.is_empty(), "`{}:{}` hands out no key of AWS's", found.service, found.op);
                    Row {
                        treatment: "placeholder",
                        rest: sites(&found.keys),
                        unsigned: found.unsigned,
                        members: found.members,
                    }
                }
                Some((treatment, rest)) => Row { treatment, rest, unsigned: found.unsigned, members: found.members },
                None if !found.keys.is_empty() => bail!(
                    "`{}:{}` hands out a key of AWS's; say in credentials.toml what to do about it",
                    found.service,
                    found.op
                ),
                None => {
                    Row { treatment: "policy", rest: String::new(), unsigned: found.unsigned, members: found.members }
                }
            };
            rows.insert(key, row);
        }
        // Their members do not say so.
        for (key, (treatment, rest)) in hand {
            rows.insert(key, Row { treatment, rest, unsigned: false, members: Vec::new() });
        }
        let prefixes = model.services.iter().map(|s| (s.id.clone(), s.iam.clone())).collect();
        Ok(Self { rows, prefixes })
    }

    /// Lines of: IAM prefix, operation, treatment, `unsigned` where no signature is needed, sites or reason.
    pub fn table(&self) -> anyhow::Result<String> {
        let mut lines: BTreeMap<(&str, &str), String> = BTreeMap::new();
        for ((service, op), row) in &self.rows {
            if row.treatment == "policy" && !row.unsigned {
                continue;
            }
            let prefix = &self.prefixes[service];
            let unsigned = if row.unsigned { "unsigned" } else { "signed" };
            let line = format!("{prefix}\t{op}\t{}\t{unsigned}\t{}\n", row.treatment, row.rest);
            let other = lines.insert((prefix.as_str(), op.as_str()), line.clone()).filter(|other| *other != line);
            ensure!(other.is_none(), "two services have an operation `{prefix}:{op}`, which are not treated alike");
        }
        Ok(lines.into_values().collect())
    }

    pub fn document(&self) -> String {
        let mut out = String::from(HEAD);
        let count = |t: &str| self.rows.values().filter(|r| r.treatment == t).count();
        for (treatment, meaning) in MEANINGS {
            let _ = writeln!(out, "| `{treatment}` | {} | {meaning} |", count(treatment));
        }
        let unsigned = self.rows.values().filter(|r| r.unsigned).count();
        let _ = writeln!(out, "\n{unsigned} operations need no signature (`unsigned` below); {UNSIGNED}");
        for (treatment, _) in MEANINGS.iter().filter(|(t, _)| *t != "policy") {
            let _ = writeln!(out, "\n## {treatment}\n\n| operation | members | |\n|---|---|---|");
            for ((service, op), row) in self.rows.iter().filter(|(_, r)| r.treatment == *treatment) {
                let note = if row.treatment == "denied" { row.rest.as_str() } else { "" };
                let sign = if row.unsigned { " (unsigned)" } else { "" };
                let members = row.members.join("`, `");
                let members = if members.is_empty() { String::new() } else { format!("`{members}`") };
                let _ = writeln!(out, "| `{service}:{op}`{sign} | {members} | {note} |");
            }
        }
        out.push_str("\n## policy\n\nBy botocore's service; operations without such members stand here for needing no signature.\n\n");
        let mut services: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((service, op), row) in self.rows.iter().filter(|(_, r)| r.treatment == "policy") {
            let sign = if row.unsigned { " (unsigned)" } else { "" };
            services.entry(service).or_default().push(format!("{op}{sign}"));
        }
        for (service, ops) in services {
            let _ = writeln!(out, "- {service}: {}", ops.join(", "));
        }
        out
    }
}

/// `Credentials/AccessKeyId,SecretAccessKey,SessionToken,Expiration`, several separated by spaces.
fn sites(keys: &[(Vec<String>, String, String, String, String)]) -> String {
    let site = |(path, id, secret, token, ends): &(Vec<String>, String, String, String, String)| {
        format!("{}/{id},{secret},{token},{ends}", path.join("."))
    };
    keys.iter().map(site).collect::<Vec<_>>().join(" ")
}

type Treatments = BTreeMap<(String, String), (&'static str, String)>;

fn treatments(hand: Hand) -> anyhow::Result<Treatments> {
    let mut all = Treatments::new();
    let mut add = |treatment: &'static str, reason: &str, listed: Listed| {
        for (service, ops) in listed {
            for op in ops {
                let key = (service.clone(), op);
                ensure!(!all.contains_key(&key), "credentials.toml names `{}:{}` twice", key.0, key.1);
                all.insert(key, (treatment, reason.to_owned()));
            }
        }
        Ok(())
    };
    add("placeholder", "", hand.placeholder)?;
    add("here", "", hand.here)?;
    for denied in hand.denied {
        ensure!(!denied.reason.contains(['\t', '\n', '|']), "a reason of credentials.toml is not one line of text");
        add("denied", &denied.reason, denied.operations)?;
    }
    Ok(all)
}

const MEANINGS: [(&str, &str); 4] = [
    (
        "placeholder",
        "the key, its secret and its token are held by the daemon; the agent gets a placeholder that works through Tollgate and ends when the real one does",
    ),
    ("here", "answered by the daemon itself, nothing is sent"),
    ("denied", "not sent, whatever the policies say"),
    (
        "policy",
        "what policies decide, like any other operation: secrets that somebody stored, settings that hold one; `@mask` hides them ([masking.md](masking.md))",
    ),
];

const UNSIGNED: &str = "without one they are judged like any other, and sent without one if permitted.";

const HEAD: &str = "\
# Operations whose answers carry credentials

Found by looking through the output of every operation in botocore's models for members that are named like credentials.
What is done about each is in `xtask/src/model/credentials.toml`, by hand; an operation that hands out a key of AWS's and
is not named there stops the generator. Written by `cargo xtask model`. How it works: [credentials.md](credentials.md).

| | operations | what Tollgate does |
|---|---|---|
";
