//! `tollgate note`: a governed process says what it is about.

use super::inside;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the session's requests are for; shown to whoever is asked to approve them.
    text: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    if !inside::is_governed() {
        anyhow::bail!(
            "this process is not governed, so that there is no session to say something of; run it below `tollgate run`"
        );
    }
    inside::put("note", args.text.into()).await?;
    println!("noted");
    Ok(())
}
