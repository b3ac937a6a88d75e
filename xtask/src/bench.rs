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

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use contender::{Contender, Kind, Upstream};
use measure::Plan;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who takes part; the files are only written when all do.
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL)]
    only: Vec<Kind>,
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
        build("tollgate-tests", "--bin", "tollgate-load")?;
        if args.only.contains(&Kind::Tollgate) {
            build("tollgate", "--bin", "tollgate")?;
            build("tollgate", "--example", "alone")?;
        }
    }
    if args.only.contains(&Kind::Nginx) {
        tools::install_nginx(&places.root)?;
    }
    if args.only.contains(&Kind::Mitmproxy) {
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
    let upstream = Upstream::start(places)?;
    let mut results = measure::Results::default();
    if args.only.contains(&Kind::Tollgate) {
        results.stages = Some(alone::measure(places)?);
        measure::connects(places, &upstream, &plan, &mut results.connect)?;
    }
    say(&format!("starting {}", args.only.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
    let mut contenders =
        args.only.iter().map(|kind| Contender::start(*kind, places, &upstream)).collect::<anyhow::Result<Vec<_>>>()?;
    measure::all(&contenders, &plan, &mut results)?;
    let versions = tools::versions(places, &args.only);
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
    if args.quick || Kind::ALL.iter().any(|k| !args.only.contains(k)) {
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
