//! `tollgate sessions`: a list, and one session told as a story.

use serde_json::Value;

use super::table;
use crate::control::Client;
use crate::record::{EventRow, ExchangeRow, SessionSummary};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Sessions, the newest first.
    List {
        /// open, ended or revoked
        #[arg(long)]
        state: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// What a session did, in order.
    Show {
        id: String,
        #[arg(long)]
        json: bool,
    },
    /// End sessions now: connections cut, placeholders dead, requests that wait cancelled, processes hung up.
    Revoke(super::revoke::Args),
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<()> {
    match args.verb {
        Verb::List { state, json } => {
            let path = state.map_or_else(|| "/v1/sessions".into(), |s| format!("/v1/sessions?state={s}"));
            let answer = client.get(&path).await?;
            if json {
                return print(&answer);
            }
            let sessions: Vec<SessionSummary> = serde_json::from_value(answer)?;
            println!(
                "{:18}  {:19}  {:8} {:>5} {:>7}  {:22}  NAME",
                "SESSION", "STARTED (UTC)", "STATE", "CALLS", "BLOCKED", "SUBJECT"
            );
            for s in sessions {
                println!(
                    "{:18}  {:19}  {:8} {:>5} {:>7}  {:22}  {}",
                    s.id,
                    table::time(s.started),
                    s.state,
                    s.exchanges,
                    s.blocked,
                    table::short(&s.subject, 22),
                    table::short(&s.name, 20)
                );
            }
        }
        Verb::Show { id, json } => {
            let answer = client.get(&format!("/v1/sessions/{id}")).await?;
            if json {
                return print(&answer);
            }
            tell(&answer)?;
        }
        Verb::Revoke(args) => super::revoke::run(client, args).await?,
    }
    Ok(())
}

fn print(value: &Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn tell(answer: &Value) -> anyhow::Result<()> {
    let session: SessionSummary = serde_json::from_value(answer["session"].clone())?;
    let exchanges: Vec<ExchangeRow> = serde_json::from_value(answer["exchanges"].clone())?;
    let events: Vec<EventRow> = serde_json::from_value(answer["events"].clone())?;
    println!("session {}, {}", session.id, session.state);
    println!(
        "  for      {} ({})",
        table::plain(&session.subject),
        table::plain(session.issuer.as_deref().unwrap_or("no identity"))
    );
    println!("  ran      {}", table::plain(&session.command.join(" ")));
    println!("  as user  {}, from {} UTC", session.uid, table::time(session.started));
    println!();
    let mut lines: Vec<(i64, String)> = exchanges.iter().map(|e| (e.started, exchange(&session, e))).collect();
    // Exchanges are shown from their own rows; what else happened comes from the events.
    for event in events.iter().filter(|e| e.fields.get("TOLLGATE_EXCHANGE").is_none()) {
        let message = event.fields.get("MESSAGE").and_then(Value::as_str).unwrap_or_default();
        lines.push((
            event.at,
            format!("{:>9}  {}", table::since(session.started, event.at), table::short(message, 110)),
        ));
    }
    lines.sort_by_key(|(at, _)| *at);
    for (_, line) in lines {
        println!("{line}");
    }
    Ok(())
}

fn exchange(session: &SessionSummary, e: &ExchangeRow) -> String {
    let verdict = match (e.decision.as_str(), e.observed) {
        ("allow", _) => "allowed",
        (_, true) => "OBSERVED",
        ("hold", _) => "approved",
        ("wait", _) => "waits",
        ("deny", _) => "BLOCKED",
        _ => "REFUSED",
    };
    let exe = e.exe.rsplit('/').next().unwrap_or(&e.exe);
    let mut text = format!(
        "{:>9}  {verdict:8}  {} on {}\n{:>21}by {} ({})",
        table::since(session.started, e.started),
        e.action,
        table::short(e.resources.first().map_or("*", String::as_str), 70),
        "",
        exe,
        e.pid,
    );
    if let Some(status) = e.status {
        text += &format!(", HTTP {status}");
    }
    if let (Some(sent), Some(received)) = (e.bytes_sent, e.bytes_received) {
        text += &format!(", {} up, {} down", table::bytes(sent), table::bytes(received));
    }
    if let Some(ended) = e.ended {
        text += &format!(
            ", {:.1} ms",
            std::time::Duration::from_micros(u64::try_from(ended - e.started).unwrap_or(0)).as_secs_f64() * 1e3
        );
    }
    if !e.policies.is_empty() {
        text += &format!(", policy {}", e.policies.join(" "));
    }
    if verdict != "allowed" {
        text += &format!("\n{:>21}{}", "", table::short(&e.reason, 100));
    }
    text
}
