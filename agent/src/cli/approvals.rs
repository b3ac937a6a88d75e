//! `tollgate approvals`.

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::{inside, table};
use crate::approval::{State, Status, View, Vote, clock};
use crate::control::{Client, Say};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Requests that wait, or that were approved and can still be used.
    List {
        /// Only this state: pending, approved, denied, expired, cancelled, consumed, revoked; or all.
        #[arg(long)]
        state: Option<String>,
        /// Only this session's.
        #[arg(long)]
        session: Option<String>,
        /// Only those in which this text stands.
        #[arg(long)]
        search: Option<String>,
        /// At most so many, the newest.
        #[arg(long, default_value_t = 10_000)]
        limit: u32,
        #[arg(long)]
        json: bool,
    },
    /// All that is known of one request.
    Show {
        id: String,
        #[arg(long)]
        json: bool,
    },
    /// Let a request through: once, or what is like it for a time.
    Approve {
        id: String,
        /// Also what is like it, until so long after it was asked: 30m, 2h.
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        window: Option<u64>,
        /// With --for: on other resources, too; an ARN in which * stands for any text.
        #[arg(long, value_name = "PATTERN", requires = "window")]
        resource: Option<String>,
        /// Why.
        #[arg(long)]
        note: Option<String>,
        /// Alone, in an emergency, where the policy knows one.
        #[arg(long, requires = "note")]
        break_glass: bool,
    },
    /// Turn a request down.
    Deny {
        id: String,
        /// Why; the agent is told.
        #[arg(long)]
        note: Option<String>,
    },
    /// Take back what was approved, and not used up.
    Revoke {
        id: String,
        /// Why.
        #[arg(long)]
        note: Option<String>,
    },
    /// Return when a request has been answered; fails unless it was approved. Governed processes may, for their own.
    Wait {
        id: String,
        /// Give up after so long: 30s, 10m.
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        timeout: Option<u64>,
    },
    /// Show what waits and what becomes of it, as it happens.
    Watch {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

fn seconds(text: &str) -> Result<u64, String> {
    crate::policy::duration(text).filter(|s| *s > 0).ok_or_else(|| "write a number and s, m or h: 90s, 30m, 2h".into())
}

/// How long one question of `wait` is left open.
const PATIENCE: u64 = 20;

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<()> {
    match args.verb {
        Verb::List { state, session, search, limit, json } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            for (name, value) in [("state", state), ("session", session), ("search", search)] {
                if let Some(value) = value {
                    query.append_pair(name, &value);
                }
            }
            let answer = client.get(&format!("/v1/approvals?{}", query.finish())).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&answer)?);
                return Ok(());
            }
            let all: Vec<View> = serde_json::from_value(answer)?;
            if all.is_empty() {
                println!("nothing waits");
            }
            all.iter().for_each(|a| println!("{}", brief(a)));
            Ok(())
        }
        Verb::Show { id, json } => {
            let answer = client.get(&format!("/v1/approvals/{}", segment(&id))).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&answer)?);
                return Ok(());
            }
            print!("{}", whole(&answer)?);
            Ok(())
        }
        Verb::Approve { id, window, resource, note, break_glass } => {
            let say = Say { note, window, resource, emergency: break_glass };
            let view = answer(client, &id, "approve", &say).await?;
            match (view.status.state, &view.status.window) {
                (State::Pending, _) => println!("{id}: you have said yes; it waits for {}", missing(&view)),
                (_, Some(window)) => println!("{id}: approved until {}", clock(window.ends)),
                _ => println!("{id}: approved"),
            }
            Ok(())
        }
        Verb::Deny { id, note } => {
            answer(client, &id, "deny", &Say { note, ..Say::default() }).await?;
            println!("{id}: denied");
            Ok(())
        }
        Verb::Revoke { id, note } => {
            answer(client, &id, "revoke", &Say { note, ..Say::default() }).await?;
            println!("{id}: revoked");
            Ok(())
        }
        Verb::Wait { id, timeout } => wait(client, &id, timeout).await,
        Verb::Watch { json } => watch(client, json).await,
    }
}

async fn answer(client: &Client, id: &str, verb: &str, say: &Say) -> anyhow::Result<View> {
    let answer = client.post(&format!("/v1/approvals/{}/{verb}", segment(id)), say).await?;
    serde_json::from_value(answer["approval"].clone()).context("use the same version of the command and the daemon")
}

async fn wait(client: &Client, id: &str, timeout: Option<u64>) -> anyhow::Result<()> {
    let end = timeout.map(|t| std::time::Instant::now() + std::time::Duration::from_secs(t));
    let within = inside::is_governed();
    loop {
        let left = end
            .map_or(PATIENCE, |end| end.saturating_duration_since(std::time::Instant::now()).as_secs().min(PATIENCE));
        let path = format!("approvals/{}/wait?seconds={left}", segment(id));
        let answer = if within { inside::get(&path).await? } else { client.get(&format!("/v1/{path}")).await? };
        let status = &answer["approval"];
        let state = status["state"].as_str().unwrap_or_default();
        let text = |name: &str| table::plain(status[name].as_str().unwrap_or_default());
        match state {
            "approved" | "consumed" => {
                println!("{id}: {state}");
                return Ok(());
            }
            "pending" if end.is_some_and(|end| std::time::Instant::now() >= end) => {
                anyhow::bail!("{id} still waits; ask again, or have somebody answer it")
            }
            "pending" => {}
            _ => {
                let (by, why) = (text("who"), text("why"));
                let by = if by.is_empty() { by } else { format!(" by {by}") };
                let why = if why.is_empty() { why } else { format!(": {why}") };
                anyhow::bail!("{id} is {state}{by}{why}")
            }
        }
    }
}

async fn watch(client: &Client, json: bool) -> anyhow::Result<()> {
    let mut stream = client.stream("/v1/approvals/watch", &json!({})).await?;
    let mut buffer = Vec::new();
    while let Some(frame) = stream.frame().await {
        let Ok(data) = frame.context("the daemon went away")?.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let value: Value = serde_json::from_slice(&line)?;
            if json {
                println!("{value}");
            } else if let Ok(view) = serde_json::from_value::<View>(value["approval"].clone()) {
                println!("{}  {}", clock(view.status.changed), brief(&view));
            } else {
                println!("… and {} more steps", value["missed"]);
            }
        }
    }
    anyhow::bail!("the daemon went away")
}

/// One request in two or three lines.
fn brief(view: &View) -> String {
    let (ask, status) = (&view.ask, &view.status);
    let resource = match ask.resources.as_slice() {
        [] => "*".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    let mut text = format!(
        "{}  {}  {} asks for {} on {}\n    of {}, with {}",
        view.id,
        stands(status),
        table::plain(&ask.subject),
        table::plain(&ask.action),
        table::short(&resource, 120),
        table::plain(&ask.terms.whom()),
        table::short(&ask.parameters, 400),
    );
    if let Some(note) = &status.note {
        text += &format!("\n    says: {}", table::short(note, 200));
    }
    text
}

fn stands(status: &Status) -> String {
    match (status.state, &status.window) {
        (State::Pending, _) => format!("until {}", clock(status.deadline)),
        (State::Approved, Some(window)) => format!("approved until {}", clock(window.ends)),
        (state, _) => state.as_str().to_owned(),
    }
}

fn missing(view: &View) -> String {
    let (yes, people) = (view.status.votes.len(), view.ask.terms.people.max(1));
    format!("{} ({yes} of {people} so far)", table::plain(&view.ask.terms.whom()))
}

fn whole(answer: &Value) -> anyhow::Result<String> {
    let view: View = serde_json::from_value(answer["approval"].clone())?;
    let (ask, status) = (&view.ask, &view.status);
    let plain = |text: &str| table::plain(text);
    let mut out = format!("request {}, {}\n", view.id, stands(status));
    let mut line = |name: &str, text: &str| out += &format!("  {name:11} {text}\n");
    line("asks", &format!("{} ({})", plain(&ask.subject), plain(ask.issuer.as_deref().unwrap_or("no identity"))));
    line(
        "session",
        &format!("{} `{}`, user {}, {} ({})", ask.session, plain(&ask.session_name), ask.uid, plain(&ask.exe), ask.pid),
    );
    line(
        "operation",
        &format!(
            "{} ({}), in {} of account {}",
            plain(&ask.operation),
            plain(&ask.action),
            plain(&ask.region),
            plain(ask.account.as_deref().unwrap_or("unknown"))
        ),
    );
    ask.resources.iter().for_each(|r| line("resource", &plain(r)));
    line("parameters", &plain(&ask.parameters));
    if let Some(note) = &status.note {
        line("it says", &plain(note));
    }
    line("policy", &format!("{}: {}", plain(&ask.policies.join(" ")), plain(&ask.reason)));
    line("of", &plain(&ask.terms.whom()));
    line("deadline", &format!("{} UTC", table::time(status.deadline)));
    for Vote { name, note, .. } in &status.votes {
        line(
            "yes",
            &format!("{}{}", plain(name), note.as_ref().map(|n| format!(": {}", plain(n))).unwrap_or_default()),
        );
    }
    for step in answer["steps"].as_array().into_iter().flatten() {
        let text = |name: &str| plain(step[name].as_str().unwrap_or_default());
        let by = if text("who").is_empty() { String::new() } else { format!(" by {}", text("who")) };
        let why = if text("why").is_empty() { String::new() } else { format!(": {}", text("why")) };
        line(&clock(step["at"].as_i64().unwrap_or_default()), &format!("{}{by}{why}", text("state")));
    }
    Ok(out)
}

/// An id as a part of a path: whatever else it may be, the daemon is to say that there is no such request.
fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%2D", "-")
}
