//! `docs/benchmarks.md`: the rows as tables, and what a reader must know to judge them.
//!
//! Owns the text only.

use std::fmt::Write as _;
use std::time::Duration;

use super::measure::{Plan, Results};
use super::profile::Profile;
use super::rows::Row;

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench` (as root, on Debian; about five minutes); the same rows are in `benchmarks.json`. All figures are of one run on one
machine that client, proxy and upstream shared, so take the ratios, not the figures.

";

const HOW: &str = "
## How it was measured
- Everything runs in a network namespace with loopback only. One upstream (hyper and rustls, HTTP/1.1, TLS 1.3, ECDSA P-256) serves all; one client
  (hyper and rustls, one thread) asks all in turns, round by round, and the medians of the rounds count. Requests are signed before the clock starts.
- **direct**: the client on the upstream. **nginx**: TLS in, TLS out with the certificate verified, connections kept alive on both sides, one worker,
  no access log, unbuffered both ways with large buffers (the fastest of three settings tried). **mitmproxy**: reverse mode, a script that signs anew with a cached key, large bodies streamed.
  **tollgate**: the client in a session of `tollgate run`, connecting to an address that only capture makes arrive; placeholder from the metadata
  service, signature verified, Cedar decision, record with the default durability (synced to disk before a request leaves), signed anew.
- Suites are those that each chooses by itself: Tollgate AES-128-GCM, on both sides; nginx what its client and OpenSSL prefer, AES-256-GCM.
- The upstream names the access key it saw; a run fails if Tollgate or mitmproxy did not sign anew.
- Small: DynamoDB `GetItem`, 512 distinct requests, about 0.6 KiB with the headers. Large: S3 `GetObject`, `PutObject` with an unsigned payload, and
  `PutObject` as aws-chunked with a trailer, on one connection.
- *Recognise and judge* is from host, head and body of a signed DynamoDB `GetItem` to the decision, on one thread, with nothing else: no network, no
  signature, no record. *Verify and sign* is from its parts to the signed ones, *signed chunks* an upload of 32 MiB in chunks of 128 KiB that comes in
  pieces of 16 KiB (`agent/examples/alone`).
- CPU is user and system time of the proxy's processes (`/proc/PID/stat`), over all requests of a run. Memory is `VmRSS`; an idle connection is one that
  made a request and stays; they are opened one after another and share one pooled connection upstream. *Growth* is the peak during the transfer less what was resident before it.
- Connect is the time of connect(2) alone, one at a time, to a listener that only accepts. It is taken in pairs, *without* Tollgate loaded and at once
  afterwards with it (*without* is the mean of before it was loaded and after it was unloaded); the ratio is the median of the pairs' ratios.
  Indistinguishable is taken as: within 5 %.
";

pub fn markdown(
    rows: &[Row],
    results: &Results,
    profile: Option<&Profile>,
    versions: &[String],
    plan: &Plan,
    took: Duration,
) -> String {
    let mut text = String::from(HEAD);
    for line in versions {
        let _ = writeln!(text, "- {line}");
    }
    let _ = writeln!(
        text,
        "- {} rounds of {} s; {} MiB bodies{}; {:.0} s in all",
        plan.rounds,
        plan.seconds,
        plan.bytes >> 20,
        if plan.slow_rounds < plan.rounds { format!(" (mitmproxy {} round)", plan.slow_rounds) } else { String::new() },
        took.as_secs_f64()
    );
    table(&mut text, "Targets", rows.iter().filter(|r| r.met.is_some()), true);
    table(&mut text, "All comparisons", rows.iter().filter(|r| r.met.is_none() && r.against.is_some()), false);
    table(&mut text, "Plain figures", rows.iter().filter(|r| r.met.is_none() && r.against.is_none()), false);
    spread(&mut text, results);
    if let Some(profile) = profile {
        shares(&mut text, profile);
    }
    text + HOW
}

fn table<'a>(text: &mut String, title: &str, rows: impl Iterator<Item = &'a Row>, targets: bool) {
    let _ = write!(text, "\n## {title}\n| figure | value | against | ratio |");
    text.push_str(if targets { " target | met |\n|---|---:|---|---:|---|---|\n" } else { "\n|---|---:|---|---:|\n" });
    for row in rows {
        let against = row.against.as_deref().unwrap_or("");
        let ratio = row.ratio.map_or(String::new(), |r| r.to_string());
        let _ = write!(text, "| {} | {} {} | {against} | {ratio} |", row.name, row.value, row.unit);
        if targets {
            let _ = write!(
                text,
                " {} | {} |",
                row.target.as_deref().unwrap_or(""),
                if row.met == Some(true) { "yes" } else { "**no**" }
            );
        }
        text.push('\n');
    }
}

/// What is worth reading of a profile.
fn shares(text: &mut String, profile: &Profile) {
    let _ = writeln!(
        text,
        "\n## Where Tollgate's time goes\nSmall requests, {} samples of the daemon's threads, by timer.",
        profile.samples
    );
    for (title, shares) in [
        ("what the processor does", &profile.work),
        ("the innermost room on the stack, with what it calls", &profile.rooms),
    ] {
        let _ = writeln!(text, "\n| {title} | share |\n|---|---:|");
        for (name, share) in shares.iter().filter(|(_, share)| *share >= 0.005) {
            let _ = writeln!(text, "| {name} | {:.1} % |", share * 100.0);
        }
    }
}

/// Lowest and highest round of what the targets rest on, so that noise can be seen.
fn spread(text: &mut String, results: &Results) {
    text.push_str("\n## Spread over the rounds\n| figure | lowest | highest |\n|---|---:|---:|\n");
    let mut line = |name: String, values: Vec<f64>, unit: &str| {
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        if low.is_finite() {
            let _ = writeln!(text, "| {name} | {low:.1} {unit} | {high:.1} {unit} |");
        }
    };
    for ((kind, n), runs) in &results.small {
        line(format!("small requests, {n} at once, {kind}"), runs.iter().map(|r| r.per_second).collect(), "/s");
        line(format!("small requests, {n} at once, CPU, {kind}"), runs.iter().filter_map(|r| r.cpu_us).collect(), "µs");
    }
    for ((kind, transfer), runs) in &results.bulk {
        line(format!("{}, {kind}", transfer.name()), runs.iter().map(|r| r.mb_per_second).collect(), "MB/s");
    }
    let connect = &results.connect;
    for (name, runs) in [("without", &connect.without), ("untagged", &connect.untagged), ("tagged", &connect.tagged)] {
        line(format!("connect, {name}, p50"), runs.iter().map(|r| r.connect.p50_us).collect(), "µs");
    }
}
