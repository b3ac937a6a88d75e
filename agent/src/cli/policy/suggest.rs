//! `tollgate policy suggest`: policies that permit what sessions did.
//!
//! Owns the choice of what they did, and the proof: what is printed has permitted all of it.

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::aws::model;
use crate::cli::table;
use crate::config::Mode;
use crate::control::{Client, Recorded};
use crate::policy::suggest::suggest;
use crate::policy::{Effect, PolicySet};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose calls are to be permitted; may be given several times.
    #[arg(long, value_name = "ID", required = true)]
    session: Vec<String>,
    #[arg(long, value_enum, default_value_t = Format::Cedar)]
    format: Format,
    /// Calls that were denied, too; those that observe mode let through always are.
    #[arg(long)]
    denied: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Policies for Tollgate.
    Cedar,
    /// A policy document for IAM, of what the same calls need there.
    Iam,
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<ExitCode> {
    let (mut calls, mut approved) = (Vec::new(), 0);
    for id in &args.session {
        let answer = client.get(&format!("/v1/sessions/{id}/cases")).await?;
        let recorded: Vec<Recorded> = serde_json::from_value(answer).context("the daemon is of another version")?;
        for call in recorded.into_iter().filter(|r| !r.unasked && (args.denied || r.decision != "deny" || r.observed)) {
            approved += usize::from(call.decision == "hold" && !call.observed);
            let operation = call.case.operation().map_err(|e| anyhow::anyhow!("{}: {e}", call.case.name))?;
            calls.push((call.case.who(), operation, call.case));
        }
    }
    if calls.is_empty() {
        bail!("there is no call that was let through in {}; see `tollgate sessions show`", args.session.join(", "));
    }
    let found = suggest(calls.iter().map(|(who, operation, _)| (who, operation)));
    // What is printed has been tried.
    let set = PolicySet::from_sources(&[("suggested.cedar", &found.cedar)], Mode::Enforce, model::catalog())
        .map_err(|e| anyhow::anyhow!("what would be suggested is not valid: {}", e[0]))?;
    let known =
        |needs: &[crate::aws::operation::Need]| needs.iter().all(|n| n.action != crate::aws::operation::UNKNOWN);
    for (_, operation, case) in calls.iter().filter(|(_, o, _)| known(&o.needs)) {
        let decision = case.judge(&set, operation);
        if decision.effect != Effect::Allow {
            bail!("what would be suggested does not permit {}: {}", table::plain(&case.name), decision.reason);
        }
    }
    let mut notes: Vec<String> = found.left_out.iter().map(|why| format!("left out: {why}")).collect();
    if approved > 0 {
        notes.push(format!(
            "a person approved {approved} of the calls: put `@approval(\"…\")` on the policies that should go on asking"
        ));
    }
    let incomplete = calls.iter().filter(|(_, _, case)| !case.incomplete.is_empty()).count();
    if incomplete > 0 {
        notes.push(format!(
            "{incomplete} of the calls are not recorded whole; see `tollgate policy test --from-session`"
        ));
    }
    match args.format {
        Format::Cedar => {
            println!("// From {} calls of {}.", calls.len(), args.session.join(", "));
            notes.iter().for_each(|note| println!("// {}", table::plain(note)));
            println!("\n{}", found.cedar.trim_end());
        }
        Format::Iam => {
            if found.cedar.contains("context.parameters") {
                notes.push("the Cedar form also holds some actions to the parameters they were seen with".into());
            }
            notes.iter().for_each(|note| eprintln!("tollgate: {}", table::plain(note)));
            println!("{:#}", found.iam);
        }
    }
    Ok(ExitCode::SUCCESS)
}
