//! What the reader of the demonstration sees.

use serde_json::Value;

use super::shell::Outcome;
use super::stage::Stage;

/// What happened at the look-alike's side.
#[derive(Debug)]
pub(super) struct Seen {
    pub accepted: u64,
    pub refused: u64,
    pub instances: usize,
    pub leaked: bool,
    pub held: String,
    pub subject: &'static str,
}

const LINES: usize = 12;

pub(super) fn opening(stage: &Stage, program: &str) {
    println!("Tollgate's demonstration. Everything happens in a network namespace of its own, on this machine alone.");
    println!("  the agent        a shell as the user `nobody`, in a tagged cgroup, with an empty environment");
    println!("  its program      {program}, unmodified");
    println!(
        "  AWS              a look-alike that verifies every signature against one key, which only the daemon has"
    );
    println!("  its identity     a token of an OIDC provider, verified by the daemon");
    println!("  the policies     those of the repository's `policies/`, in {}", stage.path("policies").display());
}

pub(super) fn step(title: &str, command: &str, tagged: bool, outcome: &Outcome, well: bool) {
    println!("\n{} {title}", if well { "✔" } else { "✘" });
    println!("  {}$ {command}", if tagged { "agent" } else { "outside" });
    let lines: Vec<&str> = outcome.output.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in lines.iter().take(LINES) {
        println!("    {line}");
    }
    if lines.len() > LINES {
        println!("    … {} more lines", lines.len() - LINES);
    }
    if outcome.status != 0 {
        println!("    (exit code {})", outcome.status);
    }
    if !well {
        println!("    This is not what should have happened.");
    }
}

pub(super) fn timeline(text: &str) {
    println!("\n── The session as Tollgate recorded it: `tollgate sessions show`\n");
    print!("{text}");
}

/// Shows the first blocked event; whether there is one.
pub(super) fn blocked(events: &str) -> bool {
    println!(
        "\n── The blocked event as journald shows it: `journalctl -u tollgate TOLLGATE_EVENT=blocked -o verbose`\n"
    );
    let event = events.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let Some(fields) = event.as_ref().and_then(|event| event["fields"].as_object()) else {
        println!("✘ There is none, and there should be one.");
        return false;
    };
    for (name, value) in fields {
        println!("    {name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    true
}

/// Tells what the reader has seen; whether the look-alike's side agrees.
pub(super) fn summary(seen: &Seen) -> bool {
    let checks = [
        (
            seen.accepted > 0 && seen.refused == 0,
            format!(
                "{} requests reached AWS, each signed with the held key; {} with another",
                seen.accepted, seen.refused
            ),
        ),
        (seen.instances == 0, format!("{} instances were started", seen.instances)),
        (
            !seen.leaked,
            format!(
                "the held key {} was {} in anything that the agent saw",
                seen.held,
                if seen.leaked { "found" } else { "nowhere" }
            ),
        ),
    ];
    println!("\n── What you have just seen\n");
    println!(
        "  An unmodified program, with nothing set for it, made AWS calls from a tagged cgroup. The kernel brought its"
    );
    println!(
        "  connections to Tollgate, the metadata service gave it a placeholder that is worthless elsewhere, and every"
    );
    println!("  request was read, decided by policy for `{}`, recorded, and", seen.subject);
    println!("  signed anew with a key that never left the daemon. What policy denies came back as AWS's own error.\n");
    for (well, text) in &checks {
        println!("  {} {text}", if *well { "✔" } else { "✘" });
    }
    checks.iter().all(|(well, _)| *well)
}

pub(super) fn closing(stage: &Stage, keep: bool, all_well: bool) {
    println!();
    if keep {
        println!("  Files are kept in {}.", stage.path("").display());
    }
    println!(
        "{}",
        if all_well {
            "All steps went as they should."
        } else {
            "Some steps did not go as they should; see ✘ above."
        }
    );
}
