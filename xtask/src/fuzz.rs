//! `cargo xtask fuzz`: what reads hostile bytes, by libFuzzer.
//!
//! Owns how the targets of `tests/fuzz` are built and run. They are instrumented for coverage, not for addresses: the code
//! that they reach has no `unsafe` of its own, and so the stable compiler does. What a run finds worth keeping goes to
//! `tests/fuzz/found/`; with `--minimise` what of it reaches new code goes into the corpus.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::process::{root, step};
use crate::tools::{self, Tool};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Puts what has been found into the corpus, as little of it as covers the same.
    #[arg(long)]
    minimise: bool,
    /// Only these; all if none is named.
    targets: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    tools::install(&[Tool::Fuzz])?;
    let folder = root().join("tests/fuzz");
    let all = targets(&folder)?;
    for target in &args.targets {
        ensure!(all.contains(target), "there is no target `{target}`; there are {}", all.join(", "));
    }
    let mut build = Command::new(tools::cargo_fuzz());
    build.current_dir(&folder).args(["build", "--fuzz-dir", ".", "--sanitizer", "none", "--codegen-units", "16"]);
    build.arg("--target-dir").arg(built());
    step("fuzz targets", &mut build)?;
    for target in if args.targets.is_empty() { &all } else { &args.targets } {
        let (found, corpus) = (folder.join("found").join(target), folder.join("corpus").join(target));
        let artifacts = folder.join("artifacts").join(target);
        for dir in [&found, &corpus, &artifacts] {
            std::fs::create_dir_all(dir).with_context(|| format!("making `{}`", dir.display()))?;
        }
        let mut fuzz = Command::new(binary(target)?);
        // libFuzzer takes the directory's name as it is.
        fuzz.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-rss_limit_mb=2048");
        if args.minimise {
            fuzz.arg("-merge=1").arg(&corpus).arg(&found);
        } else {
            fuzz.arg(format!("-max_total_time={}", args.seconds)).args(["-max_len=8192", "-timeout=10"]);
            fuzz.args(["-print_final_stats=1", "-verbosity=1"]).arg(&found).arg(&corpus);
        }
        step(&format!("fuzzing {target}"), &mut fuzz)?;
    }
    Ok(())
}

/// A file each.
fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder.join("targets")).context("reading tests/fuzz/targets")?;
    let names = entries.filter_map(|e| Some(e.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    Ok(names)
}

fn built() -> PathBuf {
    root().join("target/fuzz")
}

/// cargo-fuzz builds for a target that it names, whichever the host's is.
fn binary(target: &str) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(built()).context("reading target/fuzz")?;
    let mut found = entries.filter_map(|e| Some(e.ok()?.path().join("release").join(target)));
    found.find(|path| path.is_file()).with_context(|| format!("`{target}` was not built"))
}
