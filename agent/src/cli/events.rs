//! `tollgate events`.

use std::time::Duration;

use super::table;
use crate::control::Client;
use crate::record::EventRow;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only events of this kind: blocked, refused, bypass, held, …
    #[arg(long)]
    kind: Option<String>,
    /// Only events of this session.
    #[arg(long)]
    session: Option<String>,
    /// At most this many of the newest.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Go on with what happens from now.
    #[arg(long)]
    follow: bool,
    /// One JSON object a line, with all fields.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<()> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &args.limit.to_string());
    for (name, value) in [("kind", &args.kind), ("session", &args.session)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let mut after = 0;
    loop {
        let rows: Vec<EventRow> =
            serde_json::from_value(client.get(&format!("/v1/events?{query}&after={after}")).await?)?;
        for row in &rows {
            after = after.max(row.id);
            if args.json {
                println!("{}", serde_json::to_string(row)?);
            } else {
                let message = row.fields.get("MESSAGE").and_then(|m| m.as_str()).unwrap_or_default();
                println!(
                    "{}  {}  {message}",
                    table::time(row.at),
                    row.session.as_deref().unwrap_or("-                 ")
                );
            }
        }
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
