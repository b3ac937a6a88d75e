//! How fast an answer passes while its secrets are hidden, on one core.
//!
//! Megabytes a second of each kind of answer, those of its neighbours on the same bytes (serde_json reads and writes them;
//! SHA-256 looks at each once), and by how much the resident memory grew over a long answer.

use std::hint::black_box;
use std::time::Instant;

use http::Request;
use sha2::{Digest as _, Sha256};
use tollgate::aws::endpoint::resolve;
use tollgate::aws::operation::{Operation, Scope, route};
use tollgate::mask::{Answer, Masks, Master, View, When};

const HOST: &str = "dynamodb.us-east-1.amazonaws.com";
const RULES: &str = "[[rule]]\naction = 'dynamodb:Scan'\npath = ['$.Items[*].ssn', '$.Items[*].contact.M.email']\n\
    [[rule]]\naction = 'dynamodb:Scan'\npath = '$.Items[*].note'\npatterns = ['email', 'aws-access-key']\nprofile = 'secrets'\n";
/// What a connection gives at a time.
const PIECE: usize = 64 << 10;
const ROUNDS: usize = 7;
const ITEMS: usize = 60_000;

pub fn measure() -> anyhow::Result<serde_json::Value> {
    let masks = Masks::parse("bench.toml", RULES, When::Always, Vec::new())
        .map_err(|e| anyhow::anyhow!("{}", e.first().map(ToString::to_string).unwrap_or_default()))?;
    let operation = scan()?;
    // By the model and by rules; with names and patterns besides.
    let plain = masks.agent(&operation, None).ok_or_else(|| anyhow::anyhow!("nothing to hide"))?;
    let all = masks.agent(&operation, Some("secrets")).ok_or_else(|| anyhow::anyhow!("nothing to hide"))?;
    let body = document();
    let hidden = masked(&plain, &body)?;
    anyhow::ensure!(!contains(&hidden, b"123-45-6789"), "a secret came through");
    serde_json::from_slice::<serde::de::IgnoredAny>(&hidden)?;

    let json = speed(&body, || masked(&plain, &body).map(|out| out.len()))?;
    let names = speed(&body, || masked(&all, &body).map(|out| out.len()))?;
    let serde = speed(&body, || {
        let value: serde_json::Value = serde_json::from_slice(&body)?;
        Ok(serde_json::to_vec(&value)?.len())
    })?;
    let sha256 = speed(&body, || Ok(usize::from(Sha256::digest(&body)[0])))?;
    Ok(serde_json::json!({
        "json_mb_s": json, "with_names_and_patterns_mb_s": names, "serde_json_mb_s": serde, "sha256_mb_s": sha256,
        "growth_mib": growth(&plain, &body)? as f64 / 1024.0,
    }))
}

fn scan() -> anyhow::Result<Operation> {
    let (parts, ()) = Request::post("/")
        .header("host", HOST)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "DynamoDB_20120810.Scan")
        .header("x-amz-date", "20260102T030405Z")
        .body(())?
        .into_parts();
    let endpoint = resolve(HOST).ok_or_else(|| anyhow::anyhow!("not AWS's"))?;
    let found = route(&endpoint, Some(Scope { region: "us-east-1", service: "dynamodb" }), &parts)?;
    Ok(found.finish("", Some(br#"{"TableName":"t"}"#), Some("123456789012"))?)
}

/// Items as a table of people has them: a good twentieth of the bytes is hidden.
fn document() -> Vec<u8> {
    let item = |n: usize| {
        format!(
            r#"{{"id":{{"S":"customer-{n:08}"}},"name":{{"S":"Name of customer number {n}"}},"ssn":{{"S":"123-45-6789"}},"visits":{{"N":"{}"}},"contact":{{"M":{{"email":{{"S":"c{n}@example.com"}},"city":{{"S":"Springfield"}},"zip":{{"S":"{:05}"}}}}}},"tags":{{"L":[{{"S":"alpha"}},{{"S":"beta"}},{{"BOOL":true}}]}},"note":{{"S":"Called on Monday; \"wants\" an offer by the end of the month, and a call back before that."}}}}"#,
            n % 977,
            n % 100_000
        )
    };
    let items: Vec<String> = (0..ITEMS).map(item).collect();
    format!(r#"{{"Count":{ITEMS},"Items":[{}],"ScannedCount":{ITEMS}}}"#, items.join(",")).into_bytes()
}

fn masked(view: &View, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::with_capacity(body.len() + body.len() / 4);
    each(view, body, |out| all.extend_from_slice(out))?;
    Ok(all)
}

/// As a connection would have it: a piece comes in, what is masked of it goes out.
fn each(view: &View, body: &[u8], mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let stream = view.stream(&Answer::default(), Master::new([7; 32]).kept("s-0123456789abcdef"))?;
    let mut stream = stream.ok_or_else(|| anyhow::anyhow!("nothing to hide"))?;
    for piece in body.chunks(PIECE) {
        let mut out = Vec::new();
        stream.push(piece, &mut out)?;
        take(&out);
    }
    let mut out = Vec::new();
    stream.finish(&mut out)?;
    take(&out);
    Ok(())
}

/// Megabytes a second at the median.
fn speed(body: &[u8], mut run: impl FnMut() -> anyhow::Result<usize>) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(run()?);
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(body.len() as f64 / 1e6 / times[ROUNDS / 2])
}

/// By how much the resident memory grows while an answer of a gigabyte passes, in KiB.
fn growth(view: &View, body: &[u8]) -> anyhow::Result<u64> {
    let resident = || -> anyhow::Result<u64> {
        let text = std::fs::read_to_string("/proc/self/status")?;
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    };
    // One document of many: what comes after the first is told apart by nothing but its end.
    let (head, tail) = (&body[..body.len() - 1], &body[body.len() - 1..]);
    let key = Master::new([7; 32]).kept("s-0123456789abcdef");
    let mut stream = view.stream(&Answer::default(), key)?.ok_or_else(|| anyhow::anyhow!("nothing to hide"))?;
    let (mut first, mut most) = (0, 0);
    for round in 0..(1usize << 30) / body.len() {
        let bytes = if round == 0 { head } else { &[b",\"More\":", body].concat()[..] };
        for piece in bytes.chunks(PIECE) {
            let mut out = Vec::new();
            stream.push(piece, &mut out)?;
            black_box(out);
        }
        match round {
            0 => {}
            1 => first = resident()?,
            _ => most = most.max(resident()?),
        }
    }
    let mut out = Vec::new();
    stream.push(tail, &mut out)?;
    stream.finish(&mut out)?;
    Ok(most.saturating_sub(first))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}
