//! `cargo xtask ebpf`: the kernel side's object, `agent/src/capture/tollgate.bpf.o`.
//!
//! The object lies in the repository so that a plain `cargo build` needs no BPF toolchain. Beside it lies its provenance: the
//! digest of its sources and the toolchain that made it. `--check` always compares the digests, and rebuilds. Where the
//! toolchain is the one that made the object, the bytes must be equal; the bytes of another compiler differ, so there the
//! check is that the sources build and give the same programs and maps, and it says that it could prove no more.
//!
//! The reference is Debian's toolchain, which this installs itself when run as root on Debian.

mod inputs;
mod strip;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use toolchain::Toolchain;

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "agent/src/capture/tollgate.bpf.o";
const PROVENANCE: &str = "agent/src/capture/tollgate.bpf.json";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail unless the object in the repository came from the sources
    #[arg(long)]
    check: bool,
    /// Which compiler to build with
    #[arg(long, value_enum, default_value = "auto")]
    toolchain: toolchain::Choice,
}

/// Where the object came from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Provenance {
    /// SHA-256 of the object.
    object: String,
    /// SHA-256 over the sources, and the locked versions of what they use.
    sources: String,
    compiler: String,
    linker: String,
}

/// Proves that the object in the repository came from the sources.
pub(crate) fn check() -> Result<()> {
    run(&Args { check: true, toolchain: toolchain::Choice::Auto })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = root()?;
    let toolchain = Toolchain::find(args.toolchain, &root)?;
    println!("building the kernel side with {}", toolchain.compiler);
    let object = build(&root, &toolchain)?;
    let made = Provenance {
        object: inputs::digest(&object),
        sources: inputs::sources(&root)?,
        compiler: toolchain.compiler.clone(),
        linker: toolchain.linker.clone(),
    };
    if args.check {
        return compare(&root, &object, &made);
    }
    std::fs::write(root.join(OBJECT), &object)?;
    std::fs::write(root.join(PROVENANCE), serde_json::to_string_pretty(&made)? + "\n")?;
    println!("{OBJECT}: {} bytes, sha256 {}", object.len(), made.object);
    Ok(())
}

fn compare(root: &Path, object: &[u8], made: &Provenance) -> Result<()> {
    let there = std::fs::read(root.join(OBJECT)).with_context(|| format!("{OBJECT}: run `cargo xtask ebpf`"))?;
    let text = std::fs::read(root.join(PROVENANCE)).with_context(|| format!("{PROVENANCE}: run `cargo xtask ebpf`"))?;
    let recorded: Provenance = serde_json::from_slice(&text).with_context(|| PROVENANCE.to_owned())?;
    ensure!(
        recorded.object == inputs::digest(&there),
        "{OBJECT} is not the one that {PROVENANCE} describes: run `cargo xtask ebpf`"
    );
    ensure!(
        recorded.sources == made.sources,
        "the sources of the kernel side have changed since {OBJECT} was built: run `cargo xtask ebpf`"
    );
    if recorded.compiler == made.compiler && recorded.linker == made.linker {
        ensure!(there == object, "{OBJECT} did not come from these sources: the same toolchain gives other bytes");
        println!("{OBJECT} came from these sources: rebuilt, byte for byte the same");
        return Ok(());
    }
    let (old, new) = (strip::symbols(&there)?, strip::symbols(object)?);
    ensure!(old == new, "{OBJECT} has other programs or maps than these sources: {old:?} against {new:?}");
    println!(
        "{OBJECT}: the sources' digest fits, and they give the same programs and maps. The bytes were not compared: \
         it was made by `{}` and `{}`, here are `{}` and `{}`",
        recorded.compiler, recorded.linker, made.compiler, made.linker
    );
    Ok(())
}

/// Builds, and strips what the loader does not read.
fn build(root: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let target_dir = root.join("target/ebpf");
    let mut command = Command::new("cargo");
    toolchain.apply(&mut command);
    command
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--package", "tollgate-ebpf", "--release", "--jobs", "2"])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .args(toolchain.arguments())
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, toolchain)?.join("\x1f"))
        // The loader wants type information, which the linker makes from debug information.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_INCREMENTAL", "0");
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the kernel side does not build; the messages are above");
    }
    let built = std::fs::read(target_dir.join(TARGET).join("release/tollgate-ebpf"))?;
    strip::strip(&built)
}

/// Flags that give the same bytes wherever the sources, the registry and the compiler lie.
fn flags(root: &Path, toolchain: &Toolchain) -> Result<Vec<String>> {
    let mut flags: Vec<String> = [
        "-Clinker=bpf-linker",
        "-Clinker-plugin-lto",
        "-Clink-arg=--btf",
        // The contexts in use are the same on all machines; fixing one makes the object the same, too.
        "--cfg=bpf_target_arch=\"x86_64\"",
    ]
    .map(String::from)
    .to_vec();
    let mut remap = |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    remap(root, "/tollgate");
    for registry in registries()? {
        remap(&registry, "/registry");
    }
    if let Some(library) = toolchain.library_sources() {
        remap(&library, "/rust");
    }
    Ok(flags)
}

/// Cargo names the directory of a registry's sources after a hash of where the registry is.
fn registries() -> Result<Vec<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).context("no CARGO_HOME")?;
    let Ok(entries) = std::fs::read_dir(home.join("registry/src")) else { return Ok(Vec::new()) };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    Ok(found)
}

pub(crate) fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask lies in the workspace")?.to_owned())
}
