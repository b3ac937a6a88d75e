//! `tollgate approvals`.

use super::table;
use crate::approval::Pending;
use crate::control::Client;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Requests that wait.
    List {
        #[arg(long)]
        json: bool,
    },
    /// Let a request through, once.
    Approve { id: String },
    /// Turn a request down.
    Deny { id: String },
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<()> {
    let (id, verb) = match args.verb {
        Verb::List { json } => {
            let answer = client.get("/v1/approvals").await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&answer)?);
                return Ok(());
            }
            let pending: Vec<Pending> = serde_json::from_value(answer)?;
            if pending.is_empty() {
                println!("nothing waits");
            }
            for p in pending {
                let [subject, action, resource, group, parameters] =
                    [&p.subject, &p.action, &p.resource, &p.group, &p.parameters].map(|t| table::plain(t));
                println!("{}  {subject} asks for {action} on {resource}\n    for `{group}`, with {parameters}", p.id);
            }
            return Ok(());
        }
        Verb::Approve { id } => (id, "approve"),
        Verb::Deny { id } => (id, "deny"),
    };
    client.post(&format!("/v1/approvals/{id}/{verb}"), &()).await?;
    println!("{id}: {verb}");
    Ok(())
}
