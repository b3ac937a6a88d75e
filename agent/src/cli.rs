//! The command line: one file per verb, over the control socket where the daemon is asked.
//!
//! Owns the arguments and what is printed. Never opens the store itself.

mod approvals;
mod aws;
mod check;
mod daemon;
mod demo;
mod events;
mod inside;
mod note;
mod policy;
mod revoke;
mod run;
mod sessions;
mod table;
mod unpin;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::control::Client;

/// Governs what AI agents do on AWS, without touching the agent.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
struct Cli {
    /// The daemon's control socket.
    #[arg(long, global = true, default_value = "/run/tollgate/control.sock", env = "TOLLGATE_SOCKET")]
    socket: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon.
    Daemon(daemon::Args),
    /// Run a command in a governed session of its own.
    Run(run::Args),
    /// List sessions, show one's timeline, end one.
    Sessions(sessions::Args),
    /// Show events; the newest last.
    Events(events::Args),
    /// See and answer requests that wait for a person.
    Approvals(approvals::Args),
    /// From inside a session: say what its requests are for, to whoever is asked to approve them.
    Note(note::Args),
    /// Say how the daemon is doing.
    Status,
    /// Have the daemon read its configuration and policies again.
    Reload,
    /// Check a configuration file, its policies, keys and roots without a daemon.
    Check(check::Args),
    /// Check, try, explain and suggest policies.
    Policy(policy::Args),
    /// Prove that the record has not been altered.
    Verify,
    /// Say what hosts and requests are to Tollgate, without a daemon.
    Aws(aws::Args),
    /// Take the kernel side away, after the daemon has been stopped: what was tagged is no longer governed.
    Unpin(unpin::Args),
    /// See the main job done on this machine: a look-alike of AWS, an issuer, an agent.
    Demo(demo::Args),
    /// Start a governed command; for the daemon only.
    #[command(name = "__launch", hide = true)]
    Launch { spec: PathBuf },
}

/// Parses, runs, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let client = Client::new(&cli.socket);
    let result = match cli.verb {
        // Single-threaded, and before anything else has been set up.
        Verb::Launch { spec } => return ExitCode::from(crate::launch::launch(&spec)),
        Verb::Policy(args) => return policy::run(&client, args),
        Verb::Daemon(args) => daemon::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Aws(args) => aws::run(args),
        Verb::Unpin(args) => unpin::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Run(args) => match wait(run::run(&client, args)) {
            Ok(code) => return code,
            Err(e) => Err(e),
        },
        Verb::Sessions(args) => wait(sessions::run(&client, args)),
        Verb::Events(args) => wait(events::run(&client, args)),
        Verb::Approvals(args) => wait(approvals::run(&client, args)),
        Verb::Note(args) => wait(note::run(args)),
        Verb::Status => wait(print(&client, "/v1/status")),
        Verb::Verify => wait(verify(&client)),
        Verb::Reload => wait(async {
            client.post("/v1/reload", &()).await?;
            println!("reloaded");
            Ok(())
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("tollgate: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn print(client: &Client, path: &str) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&client.get(path).await?)?);
    Ok(())
}

async fn verify(client: &Client) -> anyhow::Result<()> {
    let answer = client.get("/v1/verify").await?;
    if answer["intact"] == true {
        println!("intact: {} links, head {}", answer["links"], answer["head"].as_str().unwrap_or_default());
        return Ok(());
    }
    anyhow::bail!(altered(&answer["broken"]))
}

/// Where and how the record was altered.
fn altered(broken: &serde_json::Value) -> String {
    let why = broken["why"].as_str().unwrap_or_default();
    match broken["seq"].as_i64() {
        // The chain itself holds.
        Some(0) => format!("the record was altered: {why}"),
        _ => format!("the record was altered at link {}: {why}", broken["seq"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alteration_names_its_link_where_there_is_one() {
        let at = |seq: i64| altered(&serde_json::json!({ "seq": seq, "why": "a link is missing" }));
        assert_eq!(at(2), "the record was altered at link 2: a link is missing");
        assert_eq!(at(0), "the record was altered: a link is missing");
    }
}
