//! `tollgate aws identify`: requests as JSON lines in, what they are as JSON lines out.
//!
//! A line that is no request gets a line with `error`, and the next one is read; the exit code tells of it at the end.

use std::io::{self, BufRead, Write};

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::aws::Endpoint;
use crate::aws::endpoint::{HostClass, resolve};
use crate::aws::operation::{self, AccessLevel, BodyNeed, Operation, Protocol, Scope};
use crate::aws::sigv4::{self, Claim};
use crate::gateway;

/// Reads requests from standard input, one a line, and prints a line for each.
///
/// A request: {"method": "GET", "url": "https://…", "headers": [["name", "value"], …], "body": "base64"}; `headers` and
/// `body` may be left out. Parameters are printed as they are, secrets too. The exit code is 1 if any line was no request.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The account of the held credentials, for ARNs; `*` stands for it otherwise.
    #[arg(long)]
    account: Option<String>,
}

/// One line of input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    each_line(|line| identify(line, args.account.as_deref()))
}

/// Answers every line of standard input; an error if there was one that is no request.
pub(super) fn each_line(answer: impl Fn(&[u8]) -> anyhow::Result<Value>) -> anyhow::Result<()> {
    let wrong = answer_all(io::stdin().lock(), io::stdout().lock(), answer)?;
    if wrong > 0 {
        bail!("{wrong} line(s) of the input are no requests; each has a line with `error` in the output");
    }
    Ok(())
}

/// Answers every line; gives the number of those that are no requests.
pub(super) fn answer_all(
    input: impl BufRead,
    mut output: impl Write,
    answer: impl Fn(&[u8]) -> anyhow::Result<Value>,
) -> io::Result<usize> {
    let mut wrong = 0;
    for (line, n) in input.split(b'\n').zip(1usize..) {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = answer(&line).unwrap_or_else(|e| {
            wrong += 1;
            json!({"line": n, "error": format!("{e:#}")})
        });
        writeln!(output, "{answer}")?;
        // Whoever asks one request at a time waits for its answer.
        output.flush()?;
    }
    Ok(wrong)
}

/// A request as a line has it.
pub(in crate::cli) struct Asked {
    pub parts: Parts,
    pub host: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub(in crate::cli) fn read(line: &[u8]) -> anyhow::Result<Self> {
        let line: Line = serde_json::from_slice(line).map_err(|e| anyhow::anyhow!("not a request as JSON: {e}"))?;
        let body = STANDARD.decode(&line.body).map_err(|e| anyhow::anyhow!("`body` is not base64: {e}"))?;
        let uri: http::Uri = line.url.parse().map_err(|e| anyhow::anyhow!("`url` is not a URL: {e}"))?;
        let Some(host) = uri.host() else { bail!("`url` has no host; write it whole, with `https://`") };
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = http::Request::builder().method(line.method.as_str()).uri(target);
        for (name, value) in &line.headers {
            request = request.header(name.as_str(), value.as_bytes());
        }
        if !line.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", host);
        }
        let (parts, ()) = request.body(()).map_err(|e| anyhow::anyhow!("method or headers: {e}"))?.into_parts();
        Ok(Self { parts, host: host.to_owned(), body })
    }

    /// The claim and the operation, as the data path finds them. `Err`: it would refuse the request unjudged.
    pub(in crate::cli) fn understood(
        &mut self,
        endpoint: &Endpoint,
        account: Option<&str>,
    ) -> Result<(Option<Claim>, Operation), String> {
        let parts = &mut self.parts;
        gateway::check_form(parts, &endpoint.host)?;
        let claim = sigv4::claim(parts).map_err(|e| e.to_string())?;
        if let Some(claim) = &claim {
            sigv4::hoist(parts, claim).map_err(|e| e.to_string())?;
        }
        let scope =
            claim.as_ref().map(|c| Scope { region: c.region_at(endpoint.region.as_deref()), service: &c.service });
        let route = operation::route(endpoint, scope, parts).map_err(|e| e.to_string())?;
        let body = (route.body_needed() == BodyNeed::Read).then_some(self.body.as_slice());
        let operation =
            route.finish(parts.uri.query().unwrap_or_default(), body, account).map_err(|e| e.to_string())?;
        Ok((claim, operation))
    }
}

/// What one request is. `Err`: it is none.
fn identify(line: &[u8], account: Option<&str>) -> anyhow::Result<Value> {
    let mut asked = Asked::read(line)?;
    let unknown = |reason: String| Ok(json!({"service": "unknown", "operation": "unknown", "reason": reason}));
    let Some(endpoint) = resolve(&asked.host) else {
        return unknown(format!("`{}` is not under one of AWS's domains", asked.host));
    };
    let found = asked.understood(&endpoint, account).map(|(_, operation)| operation);
    let operation = match found {
        Ok(operation) => operation,
        // The data path refuses it unjudged.
        Err(reason) => return unknown(reason),
    };
    let mut answer = describe(&operation);
    if let Some(reason) = why_unknown(&operation, endpoint.class) {
        answer["reason"] = reason.into();
    }
    Ok(answer)
}

fn describe(operation: &Operation) -> Value {
    json!({
        "service": operation.service,
        "operation": operation.name,
        "actions": operation.actions(),
        "access": access(operation.access),
        "resources": operation.resources(),
        "needs": operation.needs.iter().map(|n| json!({"action": n.action, "resources": n.resources})).collect::<Vec<_>>(),
        "parameters": operation.parameters,
        "region": operation.region,
        "partition": operation.partition,
        "signing_name": operation.signing_name,
        "protocol": protocol(operation.protocol),
    })
}

fn why_unknown(operation: &Operation, class: HostClass) -> Option<String> {
    if !operation.needs.iter().any(|n| n.action == operation::UNKNOWN) {
        return None;
    }
    Some(match (class, operation.name.as_str()) {
        (HostClass::Customer, _) => "the host is a customer's or a download host; no AWS API stands behind it".into(),
        (HostClass::Unknown, _) => "the host is under one of AWS's domains, but is none that is known".into(),
        (HostClass::Api, "unknown") => "no operation of the host's services looks like this request".into(),
        (HostClass::Api, name) => {
            format!("no IAM action is known for `{name}`, or for a header that it carries; docs/model.md lists those")
        }
    })
}

fn access(level: AccessLevel) -> &'static str {
    match level {
        AccessLevel::Read => "Read",
        AccessLevel::List => "List",
        AccessLevel::Write => "Write",
        AccessLevel::Tagging => "Tagging",
        AccessLevel::PermissionsManagement => "Permissions management",
        AccessLevel::Unknown => "unknown",
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Query => "query",
        Protocol::Ec2 => "ec2",
        Protocol::Json10 => "json 1.0",
        Protocol::Json11 => "json 1.1",
        Protocol::RestJson => "rest-json",
        Protocol::RestXml => "rest-xml",
        Protocol::RpcV2Cbor => "rpc-v2-cbor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(input: &str) -> (usize, Vec<Value>) {
        let mut out = Vec::new();
        let wrong = answer_all(input.as_bytes(), &mut out, |l| identify(l, Some("123456789012"))).expect("a buffer");
        let lines = String::from_utf8(out).expect("text");
        (wrong, lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect())
    }

    #[test]
    fn requests_are_identified_and_bad_lines_do_not_end_it() {
        let form = STANDARD.encode("Action=RunInstances&Version=2016-11-15&InstanceType=t3.micro&MaxCount=2");
        let input = [
            r#"{"method":"GET","url":"https://b.s3.eu-west-1.amazonaws.com/k%20l?versionId=1"}"#.to_owned(),
            "{".to_owned(),
            String::new(),
            format!(
                r#"{{"method":"POST","url":"https://ec2.us-east-1.amazonaws.com/","headers":[["content-type","application/x-www-form-urlencoded"]],"body":"{form}"}}"#
            ),
            r#"{"method":"GET","url":"/x"}"#.to_owned(),
            r#"{"method":"GET","url":"https://example.com/"}"#.to_owned(),
            r#"{"method":"GET","url":"https://sts.amazonaws.com/","body":"%"}"#.to_owned(),
            r#"{"method":"GET","url":"https://sts.amazonaws.com/","headers":[["host","iam.amazonaws.com"]]}"#
                .to_owned(),
            r#"{"method":"PATCH","url":"https://b.s3.eu-west-1.amazonaws.com/k"}"#.to_owned(),
            r#"{"method":"GET","url":"https://x.eu-west-1.elb.amazonaws.com/"}"#.to_owned(),
        ];
        let (wrong, found) = answers(&input.join("\n"));
        assert_eq!((wrong, found.len()), (3, 9));
        assert_eq!(
            (&found[0]["actions"][0], &found[0]["resources"][0], &found[0]["region"], &found[0]["access"]),
            (&json!("s3:GetObjectVersion"), &json!("arn:aws:s3:::b/k l"), &json!("eu-west-1"), &json!("Read"))
        );
        assert_eq!((&found[1]["line"], found[1]["error"].is_string()), (&json!(2), true));
        assert_eq!(found[2]["parameters"], json!({"InstanceType": "t3.micro", "MaxCount": 2}));
        assert_eq!(found[2]["operation"], "RunInstances");
        let said = |n: usize, field: &str, text: &str| {
            assert!(found[n][field].as_str().is_some_and(|t| t.contains(text)), "{}", found[n]);
        };
        said(3, "error", "no host");
        said(4, "reason", "not under one of AWS's domains");
        said(5, "error", "not base64");
        said(6, "reason", "the connection was made to");
        said(7, "reason", "no operation of the host's services");
        said(8, "reason", "customer's or a download host");
        assert_eq!(found[7]["actions"], json!(["unknown:unknown"]));
    }
}
