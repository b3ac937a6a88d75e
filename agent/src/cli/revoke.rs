//! `tollgate sessions revoke`.

use crate::control::{Client, Revoke};
use crate::daemon::Processes;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub(super) struct Args {
    /// The session.
    #[arg(group = "which")]
    id: Option<String>,
    /// All sessions that act for this subject; * stands for any text.
    #[arg(long, group = "which")]
    subject: Option<String>,
    /// All sessions of this issuer's principals.
    #[arg(long, group = "which")]
    issuer: Option<String>,
    /// All sessions in this cgroup or below it, as a path below the cgroup mount.
    #[arg(long, group = "which", value_name = "CGROUP")]
    tag: Option<String>,
    /// Kill their processes at once; also those that --freeze left.
    #[arg(long, conflicts_with = "freeze")]
    kill: bool,
    /// Stop their processes where they are, and keep them, to be looked at.
    #[arg(long)]
    freeze: bool,
    /// Why.
    #[arg(long)]
    note: Option<String>,
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<()> {
    let processes = match (args.kill, args.freeze) {
        (true, _) => Processes::Kill,
        (_, true) => Processes::Freeze,
        _ => Processes::HangUp,
    };
    let Args { id, subject, issuer, tag, note, .. } = args;
    let asked = Revoke { id, subject, issuer, tag, processes, note: note.unwrap_or_default() };
    let answer = client.post("/v1/sessions/revoke", &asked).await?;
    for (what, verb) in [("revoked", "revoked"), ("killed", "what was left of it is killed")] {
        for id in answer[what].as_array().into_iter().flatten() {
            println!("{}: {verb}", id.as_str().unwrap_or_default());
        }
    }
    Ok(())
}
