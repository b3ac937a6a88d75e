//! The model against botocore: requests as its serializer makes them, and hosts as its rule sets produce them.
//!
//! `model/roundtrip.py` makes both, for all operations and all services; nothing is sent. Needs `.tools/clients`
//! (`cargo xtask tools clients`); without it this fails where CI is set, and says that it was skipped elsewhere. The
//! rates are part of docs/model.md: `TOLLGATE_BLESS=1 cargo test -p tollgate --test model && cargo xtask model` renews
//! them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use http::Request;
use serde_json::Value;
use tollgate::aws::endpoint::{HostClass, resolve};
use tollgate::aws::model::{Place, index};
use tollgate::aws::operation::{BodyNeed, Operation, Scope, route};

/// What has to be reached; the rates themselves are compared with those of the docs.
const EXACT: f64 = 0.999;
const ACTION: f64 = 0.999;
const MEMBERS: f64 = 0.99;
/// What is missed are names that the rules produce and nobody has: regions of one partition under the domain of another.
const HOSTS: f64 = 0.9996;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The generator, running; `None`: its Python is not there, and need not be.
fn generator(what: &str) -> Option<Child> {
    let python = root().join(".tools/clients/bin/python");
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "`{}` is missing; run `cargo xtask tools clients`", python.display());
        eprintln!("SKIPPED: `{}` is missing; run `cargo xtask tools clients`", python.display());
        return None;
    }
    let script = root().join("agent/tests/model/roundtrip.py");
    let mut command = Command::new(python);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "TOLLGATE_SEED"));
    command.args(["-X", "utf8"]).arg(script).arg(what).stdout(Stdio::piped());
    Some(command.spawn().expect("the generator starts"))
}

fn rows(child: &mut Child) -> impl Iterator<Item = Value> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("a JSON line"))
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

fn understand(row: &Value) -> Result<Operation, String> {
    let url = text(row, "url").strip_prefix("https://").unwrap_or_default();
    let (host, target) = url.split_once('/').unwrap_or((url, ""));
    let endpoint = resolve(host).ok_or_else(|| format!("{host} is not AWS's"))?;
    let mut request = Request::builder().method(text(row, "method")).uri(format!("/{target}"));
    for header in row["headers"].as_array().expect("headers") {
        request = request.header(header[0].as_str().unwrap_or_default(), header[1].as_str().unwrap_or_default());
    }
    let (parts, ()) = request.body(()).map_err(|e| e.to_string())?.into_parts();
    let scope = row["scope"].as_str().map(|service| Scope { service, region: text(row, "region") });
    let route = route(&endpoint, scope, &parts).map_err(|e| e.to_string())?;
    let body = base64::engine::general_purpose::STANDARD.decode(text(row, "body")).expect("base64");
    let body = (route.body_needed() == BodyNeed::Read).then_some(body.as_slice());
    route.finish(parts.uri.query().unwrap_or_default(), body, Some("123456789012")).map_err(|e| e.to_string())
}

/// Whether what was found needs what the operation needs: S3 has names of their own for versions and adds what headers
/// ask for, DynamoDB's transactions narrow what they may need to what they do.
fn same_actions(expected: &[&str], found: &[&str]) -> bool {
    let has = |a: &str| found.iter().any(|f| *f == a || f.replace("ObjectVersion", "Object") == a);
    let within = || found.iter().all(|f| expected.contains(f));
    (expected.is_empty() && found[0] == "unknown:unknown")
        || (!expected.is_empty()
            && (expected.iter().all(|a| has(a)) || (expected[0].starts_with("dynamodb:") && within())))
}

#[derive(Default)]
struct Tally {
    right: usize,
    all: usize,
    misses: Vec<String>,
}

impl Tally {
    fn count(&mut self, right: bool, miss: impl FnOnce() -> String) {
        self.all += 1;
        if right {
            self.right += 1;
        } else {
            self.misses.push(miss());
        }
    }

    fn rate(&self) -> f64 {
        self.right as f64 / self.all as f64
    }

    fn cell(&self) -> String {
        format!("{} of {} ({:.2} %)", self.right, self.all, 100.0 * self.rate())
    }
}

/// Compares a part of the docs' rates with what was measured, or renews it.
fn compare(part: &str, measured: &str) {
    let path = root().join(format!("xtask/src/model/rates-{part}.md"));
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        std::fs::write(&path, measured).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, measured, "the docs give other rates; renew them as this file's head says");
}

/// Why a request is not read as what was meant.
fn why(miss: &str) -> Option<&'static str> {
    const REASONS: &[(&str, &str)] = &[
        ("s3:GetBucketLifecycle", "an older name of the same request"),
        ("s3:PutBucketLifecycle", "an older name of the same request"),
        ("s3:GetBucketNotification", "an older name of the same request"),
        ("s3:PutBucketNotification", "an older name of the same request"),
        ("`SourceRegion`", "SDKs take it for themselves and send none"),
        ("greengrassv2:", "a twin with the same host, path and action calls the member otherwise"),
        ("qconnect:", "a twin with the same host, path and action has no such member"),
        ("cloudsearchdomain:Search", "it is a form without a bound, and not read"),
        ("`userProperties`", "JSON in base64 in a header stays as it came"),
        ("`sessionAttributes`", "JSON in base64 in a header stays as it came"),
        ("`requestAttributes`", "JSON in base64 in a header stays as it came"),
        ("`activeContexts`", "JSON in base64 in a header stays as it came"),
        ("s3:CompleteMultipartUpload", "its body decides nothing, and is not read"),
    ];
    REASONS.iter().find(|(part, _)| miss.contains(part)).map(|(_, reason)| *reason)
}

/// Where what was found is not what was sent, at any depth. What leaves no trace in forms and XML may be absent.
fn differs(sent: &Value, found: &Value, path: &str) -> Option<String> {
    match (sent, found) {
        (Value::Object(sent), Value::Object(found)) => {
            let more = found.keys().find(|name| !sent.contains_key(*name));
            let less = sent.iter().find_map(|(name, sent)| {
                differs(sent, found.get(name).unwrap_or(&Value::Null), &format!("{path}.{name}"))
            });
            less.or_else(|| more.map(|name| format!("`{path}.{name}` was not sent")))
        }
        (Value::Array(sent), Value::Array(found)) if sent.len() == found.len() => {
            sent.iter().zip(found).find_map(|(sent, found)| differs(sent, found, path))
        }
        (Value::Number(sent), Value::Number(found)) if sent.as_f64() == found.as_f64() => None,
        (sent, found) if sent == found => None,
        (sent, found) => Some(format!("`{path}` is {found} and was sent as {sent}").chars().take(200).collect()),
    }
}

#[test]
fn requests_of_all_operations_are_recognised() {
    let Some(mut child) = generator("requests") else { return };
    let index = index().expect("a sound model");
    let (mut exact, mut action, mut parameters) = (Tally::default(), Tally::default(), Tally::default());
    let mut not_made: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows(&mut child) {
        let (service, op) = (text(&row, "service"), text(&row, "op"));
        if row.get("failed").is_some() {
            *not_made.entry(service.to_owned()).or_default() += 1;
            continue;
        }
        let (_, known) = index.service(service).expect("a service of the model");
        let detail = known.detail().expect("a sound service");
        let wanted = detail.operation(op).expect("an operation of the model");
        let what = format!("{service}:{op}{}", if row["full"] == true { " (all members)" } else { "" });
        let found = match understand(&row) {
            Ok(found) => found,
            Err(e) => {
                exact.count(false, || format!("{what}: {e}"));
                action.count(false, || format!("{what}: {e}"));
                continue;
            }
        };
        let told = || format!("{what}: taken for {}:{} {:?}", found.service, found.name, found.actions());
        exact.count(found.name == op && found.service == known.iam, told);
        action.count(same_actions(&wanted.actions().collect::<Vec<_>>(), &found.actions()), told);
        if found.name != op {
            continue;
        }
        let streamed: Vec<&str> =
            detail.input(wanted).iter().filter(|m| wanted.stream && m.place == Place::Body).map(|m| m.name).collect();
        let sent = row["params"].as_object().expect("parameters");
        let differs = sent
            .iter()
            .filter(|(name, _)| !streamed.contains(&name.as_str()))
            .find_map(|(name, sent)| differs(sent, found.parameters.get(name.as_str()).unwrap_or(&Value::Null), name));
        parameters.count(differs.is_none(), || format!("{what}: {}", differs.unwrap_or_default()));
    }
    assert!(child.wait().expect("it ends").success(), "the generator failed");
    let mut report = String::from(
        "\n## Rates\n\nRequests made by botocore's serializer and endpoint rules, for every operation, once with the required members and once\nwith all of them, with random values as deep as their shapes go, read by `aws::operation`. The same seed is used for what\nis reported here; `TOLLGATE_SEED` tries another:\n\n| | |\n|---|---|\n",
    );
    let _ = writeln!(report, "| the right operation | {} |", exact.cell());
    let _ = writeln!(report, "| the right IAM actions | {} |", action.cell());
    let _ = writeln!(report, "| all members, at every depth, with their values and types | {} |", parameters.cell());
    report.push_str("\nThe `Get/PutBucketLifecycle` and `Get/PutBucketNotification` requests are older names of what they are taken for. S3's\nevent holds (`x-amz-object-lock-event-hold…`) are in no IAM action that is known: a request with one needs\n`unknown:unknown` besides its own actions.\n");
    let total: usize = not_made.values().sum();
    let list: Vec<String> = not_made.iter().map(|(service, n)| format!("{service} {n}")).collect();
    let _ = writeln!(
        report,
        "\nNot made by the generator (bearer tokens, SigV4A, event streams): {total}: {}.",
        list.join(", ")
    );
    for (what, tally) in [("operation", &exact), ("action", &action), ("members", &parameters)] {
        let _ = writeln!(report, "\nOther than the right {what} ({}):\n", tally.misses.len());
        for miss in &tally.misses {
            let _ = writeln!(report, "- {miss}; {}", why(miss).unwrap_or("NO REASON IS KNOWN"));
        }
    }
    eprintln!("{report}");
    assert!(!report.contains("NO REASON"), "a miss for which the test gives no reason");
    assert!(exact.all > 39_000 && total < 500, "{} requests, {total} not made", exact.all);
    if std::env::var_os("TOLLGATE_SEED").is_none() {
        compare("requests", &report);
    }
    assert!(exact.rate() >= EXACT && action.rate() >= ACTION && parameters.rate() >= MEMBERS, "rates fell");
}

#[test]
fn hosts_of_all_rule_sets_are_recognised() {
    let Some(mut child) = generator("endpoints") else { return };
    let index = index().expect("a sound model");
    let mut hosts = Tally::default();
    for row in rows(&mut child) {
        if row.get("failed").is_some() {
            continue;
        }
        let (service, host) = (text(&row, "service"), text(&row, "host"));
        let Some(found) = resolve(host) else {
            hosts.count(false, || format!("{service}: `{host}` is not under one of AWS's domains"));
            continue;
        };
        let number = index.service(service).map(|(n, _)| n);
        let region = row["region"].as_str().unwrap_or(text(&row, "asked"));
        // A global host says no region; then the scope's is taken.
        // GovCloud's users of a shared one are told by their scope.
        let gov = text(&row, "partition") == "aws-us-gov" && found.gov_region == Some(region);
        let placed = gov
            || (found.region.as_deref().is_none_or(|r| r == region || region.ends_with("-global") || region == "*")
                && (found.partition == text(&row, "partition") || found.region.is_none()));
        let right = found.class == HostClass::Api
            && number.is_some_and(|n| found.services.contains(&n))
            && placed
            && row["bucket"].as_str().is_none_or(|b| found.bucket.as_deref() == Some(b));
        let signs = found.signing.as_deref() == Some(text(&row, "signing"))
            || number.is_some_and(|n| index.services[usize::from(n)].signing.contains(&text(&row, "signing")));
        hosts.count(right && signs, || {
            format!("{service}: `{host}` ({region}): {:?} {:?} {:?}", found.class, found.signing, found.region)
        });
    }
    assert!(child.wait().expect("it ends").success(), "the generator failed");
    let mut report = String::from(
        "\nHosts that the rule sets produce for every service, region, partition, FIPS and dual stack, and for S3's buckets,\naccess points, outposts, object lambdas and directory buckets, read by `aws::endpoint`:\n\n| | |\n|---|---|\n",
    );
    let _ = writeln!(report, "| the right service, region, partition, bucket and signing name | {} |", hosts.cell());
    let _ = writeln!(report, "\nOthers ({}):\n", hosts.misses.len());
    for miss in &hosts.misses {
        let _ = writeln!(report, "- {miss}");
    }
    if !hosts.misses.is_empty() {
        report.push_str(
            "\nRule sets produce these, but nobody has them: they name a region of one partition under the domain of another.\nThey are not recognised, so that nothing is signed for them.\n",
        );
    }
    eprintln!("{}", report.chars().take(6_000).collect::<String>());
    assert!(hosts.all > 80_000, "only {} hosts", hosts.all);
    let nobody_s = |miss: &String| miss.contains(".api.aws`") && miss.contains("Unknown None");
    assert!(hosts.misses.iter().all(nobody_s), "a miss of another kind");
    compare("hosts", &report);
    assert!(hosts.rate() >= HOSTS, "the rate fell");
}
