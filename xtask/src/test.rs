//! `cargo xtask test`: all that must hold, in the order of what fails soonest.
//!
//! Owns the list of steps and nothing else. Every step runs, and fails, for real: what is missing is installed, and what
//! cannot be installed is an error that says so.

use std::process::Command;
use std::time::Instant;

use anyhow::{bail, ensure};

use crate::process::{cargo, root, step};
use crate::tools::{self, Tool};
use crate::{demo, ebpf, kernels, model};

/// Programs that the tests start, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("node", "nodejs"),
    ("journalctl", "systemd"),
    ("gcc", "gcc"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these steps; all if none is named.
    #[arg(value_enum)]
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    /// Formatting.
    Format,
    /// Clippy, warnings are errors.
    Lint,
    /// Licences, bans, sources, and advisories where their database is in reach.
    Deny,
    /// The kernel side's object came from its sources.
    Ebpf,
    /// The model of AWS came from its sources.
    Model,
    /// Unit and integration tests.
    Unit,
    /// Black-box tests: real clients, independent servers.
    Blackbox,
    /// The kernel side on Debian 12's own kernel, in an emulated machine.
    Kernel,
    /// The demonstration, with the AWS CLI and with curl.
    Demo,
}

const ALL: [Step; 9] = [
    Step::Format,
    Step::Lint,
    Step::Deny,
    Step::Ebpf,
    Step::Model,
    Step::Unit,
    Step::Blackbox,
    Step::Kernel,
    Step::Demo,
];

pub fn run(args: &Args) -> anyhow::Result<()> {
    let steps = if args.steps.is_empty() { &ALL[..] } else { &args.steps };
    let began = Instant::now();
    // Tests make namespaces, cgroups and load programs. Without root they could only pass by not running.
    ensure!(tools::is_root()?, "the tests make namespaces and load eBPF programs; run this as root");
    for step in steps {
        match step {
            Step::Format => format()?,
            Step::Lint => lint()?,
            Step::Deny => deny()?,
            Step::Ebpf => ebpf::check()?,
            Step::Model => model::check()?,
            Step::Unit => unit()?,
            Step::Blackbox => blackbox()?,
            Step::Kernel => kernels::check(&["6.1".into()])?,
            Step::Demo => demo::both()?,
        }
    }
    println!("── all of {steps:?} passed in {:.0} s", began.elapsed().as_secs_f32());
    Ok(())
}

fn format() -> anyhow::Result<()> {
    step("formatting", cargo().args(["fmt", "--all", "--check"]))
}

fn lint() -> anyhow::Result<()> {
    let mut clippy = cargo();
    clippy.args(["clippy", "--locked", "--quiet", "--workspace", "--exclude", "tollgate-ebpf", "--all-targets"]);
    step("lints", clippy.args(["--", "-D", "warnings"]))
}

fn deny() -> anyhow::Result<()> {
    tools::install(&[Tool::Deny])?;
    let check = |what: &[&str]| {
        let mut deny = Command::new(tools::cargo_deny());
        deny.current_dir(root()).args(["--log-level", "error", "--workspace", "check"]).args(what);
        deny
    };
    step("dependencies: licences, bans, sources", &mut check(&["licenses", "bans", "sources"]))?;
    // The advisories are a repository elsewhere. Out of reach is said, not passed over; a finding is a failure.
    let output = check(&["advisories"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("── dependencies: no advisory");
    } else if text.contains("failed to fetch advisory database") {
        println!("── dependencies: the advisory database is out of reach, so advisories were NOT checked");
    } else {
        bail!("cargo deny found advisories:\n{text}");
    }
    Ok(())
}

fn unit() -> anyhow::Result<()> {
    tools::programs(&PROGRAMS)?;
    tools::install(&[Tool::Clients])?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--workspace", "--exclude", "tollgate-ebpf", "--lib", "--bins"]);
    step("unit tests", tests.env("CI", "true"))?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--package", "tollgate", "--tests"]);
    step("integration tests", tests.env("CI", "true"))
}

fn blackbox() -> anyhow::Result<()> {
    tools::programs(&PROGRAMS)?;
    tools::install(&tools::BLACKBOX)?;
    let mut build = cargo();
    build.args(["build", "--locked", "--workspace", "--exclude", "tollgate-ebpf", "--exclude", "xtask", "--bins"]);
    step("building what is tested", &mut build)?;
    let mut tests = cargo();
    tests.args(["test", "--locked", "--package", "tollgate-tests", "--test", "blackbox"]);
    step("black-box tests", tests.env("CI", "true"))
}
