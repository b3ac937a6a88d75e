//! `cargo xtask bench`: Tollgate against its neighbours, in one run on one machine.
//!
//! Owns the order of a run: build, own namespaces, start everybody, measure in turns, write `docs/benchmarks.*`.
//! Never sends a packet off the machine: all of it happens in a network namespace with nothing but loopback.

mod alone;
mod client;
mod contender;
mod measure;
mod process;
mod profile;
mod report;
mod rows;
mod tools;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, bail};

use contender::{Contender, Kind, Upstream};
use measure::Plan;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who takes part, or `masking`, which is measured by itself; the files are only written when all take part.
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL.map(Part::Who))]
    only: Vec<Part>,
    /// One short round, for a first look; writes nothing.
    #[arg(long)]
    quick: bool,
    /// Does not build; takes the binaries that are there.
    #[arg(long)]
    no_build: bool,
    /// Set by the command itself once it is in its namespaces.
    #[arg(long, hide = true)]
    inside: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Who(Kind),
    Masking,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Who(kind) => kind.fmt(f),
            Self::Masking => f.write_str("masking"),
        }
    }
}

impl FromStr for Part {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "masking" { Ok(Self::Masking) } else { text.parse().map(Self::Who) }
    }
}

impl Args {
    fn who(&self) -> Vec<Kind> {
        let kind = |part: &Part| match part {
            Part::Who(kind) => Some(*kind),
            Part::Masking => None,
        };
        self.only.iter().filter_map(kind).collect()
    }
}

/// Where things are.
#[derive(Debug, Clone)]
struct Places {
    root: PathBuf,
    /// Emptied at the start of each run.
    work: PathBuf,
    load: PathBuf,
    alone: PathBuf,
    tollgate: PathBuf,
    nginx: PathBuf,
    mitmdump: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has no root")?.to_path_buf();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let places = Places {
        work: target.join("bench"),
        load: target.join("release/tollgate-load"),
        alone: target.join("release/examples/alone"),
        tollgate: target.join("release/tollgate"),
        nginx: tools::nginx(&root),
        mitmdump: tools::mitmdump(&root),
        root,
    };
    if !args.inside {
        prepare(args, &places)?;
        return enter(args);
    }
    run_command(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let _ = std::fs::remove_dir_all(&places.work);
    std::fs::create_dir_all(&places.work)?;
    measure(args, &places)
}

/// Everything that may need the network or a compiler.
fn prepare(args: &Args, places: &Places) -> anyhow::Result<()> {
    let who = args.who();
    if !args.no_build {
        let build = |package: &str, kind: &str, name: &str| {
            say(&format!("building `{name}`, optimised"));
            run_command(Command::new("cargo").current_dir(&places.root).args([
                "build",
                "--release",
                "--package",
                package,
                kind,
                name,
            ]))
        };
        if !who.is_empty() {
            build("tollgate-tests", "--bin", "tollgate-load")?;
        }
        if who.contains(&Kind::Tollgate) {
            build("tollgate", "--bin", "tollgate")?;
        }
        if who.contains(&Kind::Tollgate) || args.only.contains(&Part::Masking) {
            build("tollgate", "--example", "alone")?;
        }
    }
    if who.contains(&Kind::Nginx) {
        tools::install_nginx(&places.root)?;
    }
    if who.contains(&Kind::Mitmproxy) {
        tools::install_mitmproxy(&places.root)?;
    }
    Ok(())
}

/// Starts this command again in a network and a mount namespace of its own.
fn enter(args: &Args) -> anyhow::Result<()> {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .args(["bench", "--inside"]);
    let names: Vec<_> = args.only.iter().map(ToString::to_string).collect();
    command.args(["--only", &names.join(",")]);
    if args.quick {
        command.arg("--quick");
    }
    run_command(&mut command)
}

fn measure(args: &Args, places: &Places) -> anyhow::Result<()> {
    let plan = if args.quick { Plan::quick() } else { Plan::full() };
    let began = std::time::Instant::now();
    let who = args.who();
    let mut results = measure::Results::default();
    if who.is_empty() {
        results.stages = Some(alone::measure(places, false)?);
        let rows = rows::of(&results, &plan);
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let upstream = Upstream::start(places)?;
    if who.contains(&Kind::Tollgate) {
        results.stages = Some(alone::measure(places, true)?);
        measure::connects(places, &upstream, &plan, &mut results.connect)?;
    }
    say(&format!("starting {}", who.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
    let mut contenders =
        who.iter().map(|kind| Contender::start(*kind, places, &upstream)).collect::<anyhow::Result<Vec<_>>>()?;
    measure::all(&contenders, &plan, &mut results)?;
    let versions = tools::versions(places, &who);
    let profiled = contenders
        .iter()
        .find(|c| c.kind == Kind::Tollgate)
        .map(|c| profile::of(c, &places.work))
        .transpose()?
        .flatten();
    if let Some(at) = contenders.iter().position(|c| c.kind == Kind::Tollgate) {
        contenders.remove(at).unload(places)?;
    }
    drop(contenders);
    let rows = rows::of(&results, &plan);
    let text = report::markdown(&rows, &results, profiled.as_ref(), &versions, &plan, began.elapsed());
    println!("{text}");
    if args.quick || Kind::ALL.iter().any(|k| !who.contains(k)) {
        say("a partial or quick run: docs/benchmarks.* stay as they are");
        return Ok(());
    }
    let docs = places.root.join("docs");
    std::fs::create_dir_all(&docs)?;
    std::fs::write(docs.join("benchmarks.md"), text)?;
    std::fs::write(docs.join("benchmarks.json"), serde_json::to_string_pretty(&rows)? + "\n")?;
    say("written: docs/benchmarks.md and docs/benchmarks.json");
    Ok(())
}

fn say(text: &str) {
    eprintln!("bench: {text}");
}

fn run_command(command: &mut Command) -> anyhow::Result<()> {
    let status =
        command.status().with_context(|| format!("cannot start `{}`", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("`{}` ended with {status}", command.get_program().to_string_lossy());
    }
    Ok(())
}
