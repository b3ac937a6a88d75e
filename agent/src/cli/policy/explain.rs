//! `tollgate policy explain`: why an exchange is decided as it is.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use crate::cli::table;
use crate::control::{Client, Recorded};
use crate::policy::case::named;
use crate::policy::explain::{Asked, Explanation, Near};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The request id that the agent was given, or the exchange's number: `TOLLGATE_EXCHANGE` of an event.
    exchange: String,
    /// Explain by the policies of this directory, and not by those that the daemon uses.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<ExitCode> {
    // What is no part of a path is no id either.
    if args.exchange.is_empty() || !args.exchange.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)) {
        anyhow::bail!("`{}` is neither a request id nor a number of an exchange", table::plain(&args.exchange));
    }
    let answer = client.get(&format!("/v1/exchanges/{}/explanation", args.exchange)).await?;
    let recorded: Recorded =
        serde_json::from_value(answer["recorded"].clone()).context("the daemon is of another version")?;
    let explanation: Option<Explanation> = match &args.policies {
        Some(dir) if !recorded.unasked => {
            let set = super::good(dir)?;
            let operation = recorded.case.operation().map_err(|e| anyhow::anyhow!(e))?;
            Some(recorded.case.ask(&operation, |question| set.explain(question)))
        }
        _ => serde_json::from_value(answer["explanation"].clone()).context("the daemon is of another version")?,
    };
    if args.json {
        println!("{:#}", json!({"recorded": recorded, "explanation": explanation}));
    } else {
        print!("{}", told(&recorded, explanation.as_ref()));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(recorded: &Recorded, explanation: Option<&Explanation>) -> String {
    let case = &recorded.case;
    let who = case.who();
    let mut text = format!(
        "exchange {}: {}\n  for       {} ({})\n  decided   {}{}, by {}\n            {}\n",
        case.exchange.unwrap_or_default(),
        table::plain(&case.name),
        table::plain(&who.subject),
        table::plain(who.issuer.as_deref().unwrap_or("no identity")),
        recorded.decision,
        if recorded.observed { " (only observed: it was let through)" } else { "" },
        named(&recorded.policies),
        table::plain(&recorded.reason),
    );
    if !case.incomplete.is_empty() {
        text += &format!("  not sure  {}\n", table::plain(&case.incomplete));
    }
    let Some(found) = explanation else {
        return text + "\nIt was refused before the policies were asked; no policy would let it through.\n";
    };
    if recorded.observed {
        text += &format!("  binding   {}, by {}\n", found.decision, named(&found.policies));
    } else if found.decision != recorded.decision {
        text += &format!(
            "  by now    {}, by {}: the policies have changed since, or a person has answered\n",
            found.decision,
            named(&found.policies)
        );
    }
    for asked in &found.asked {
        text += &one(asked);
    }
    if let Some(remedy) = &found.remedy {
        text += "\nwhat would let it through:\n";
        for (id, clause) in &remedy.exceptions {
            text += &format!("    to the forbid `{id}`, before its semicolon, add\n        {}\n", table::plain(clause));
        }
        for line in remedy.permits.lines() {
            text += &format!("    {}\n", table::plain(line));
        }
    } else if found.decision == "deny" {
        text += "\nNo permit and no exception would let it through: a policy above cannot be evaluated for it.\n";
    }
    text
}

fn one(asked: &Asked) -> String {
    let mut text =
        format!("\n{} on {}: {}\n", table::plain(&asked.action), table::plain(&asked.resource), asked.decision);
    if asked.matched.is_empty() {
        text += "    no policy matches\n";
    }
    for p in &asked.matched {
        let trial = if p.observed { ", on trial: it does not count" } else { "" };
        text += &format!("    matches   {} `{}` ({}:{}{trial})\n", p.effect, p.id, p.file, p.line);
    }
    for near in &asked.near {
        text += &nearly(near);
    }
    text
}

fn nearly(near: &Near) -> String {
    let p = &near.policy;
    let trial = if p.observed { ", on trial" } else { "" };
    let mut text = format!("    nearly    {} `{}` ({}:{}{trial})\n", p.effect, p.id, p.file, p.line);
    for m in &near.missing {
        let verdict = match (&m.error, m.part.as_str()) {
            (Some(_), _) => "cannot be evaluated",
            (None, "unless") => "holds, and must not",
            _ => "does not hold",
        };
        let part = if matches!(m.part.as_str(), "when" | "unless") { format!("{} ", m.part) } else { String::new() };
        text += &format!("              {part}{}: {verdict}\n", table::plain(&m.text));
        if let Some(error) = &m.error {
            text += &format!("                  {}\n", table::plain(error));
        }
        for (name, value) in &m.actual {
            text += &format!("                  {} is {}\n", table::plain(name), table::plain(value));
        }
    }
    text
}
