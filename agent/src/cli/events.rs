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
    /// At most this many of the newest; with --follow, of those that were there before.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Go on with what happens from now.
    #[arg(long)]
    follow: bool,
    /// One JSON object a line, with all fields.
    #[arg(long)]
    json: bool,
}

/// Events that are asked for at once while following.
const PAGE: u32 = 1000;

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<()> {
    let mut limit = args.limit;
    let mut after = None;
    loop {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &limit.to_string());
        for (name, value) in
            [("kind", args.kind.as_deref()), ("session", args.session.as_deref()), ("after", after.as_deref())]
        {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let rows: Vec<EventRow> = serde_json::from_value(client.get(&format!("/v1/events?{}", query.finish())).await?)?;
        for row in &rows {
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
        // Where there was none, the first one is wanted next.
        after = Some(rows.last().map(|row| row.id.to_string()).or(after).unwrap_or_else(|| "0".into()));
        limit = PAGE;
        if rows.len() < PAGE as usize {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
