//! Small signed requests over kept-alive connections, one in flight on each.
//!
//! Owns the closed loop and its clock. One thread runs all connections, so that the client leaves the rest of the
//! machine to who is measured.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::bail;
use http_body_util::BodyExt as _;
use serde::Serialize;

use super::request::{self, Signed};
use super::stats::Latency;
use super::transport::{self, Target};
use super::{SEEN_KEY, SMALL_HOST};

/// Distinct requests that a run goes round in.
const DISTINCT: usize = 512;
/// Not counted, at the start of a run.
const WARM_UP: Duration = Duration::from_millis(700);

#[derive(Debug, Serialize)]
pub struct Report {
    pub connections: usize,
    pub requests: usize,
    /// Requests before the clock started, so that a proxy's CPU time can be divided by all of them.
    pub uncounted: usize,
    pub seconds: f64,
    pub per_second: f64,
    #[serde(flatten)]
    pub latency: Latency,
    /// Access key that the upstream saw; another than the client's own where a proxy signs anew.
    pub seen_key: String,
}

#[derive(Default)]
struct Tally {
    samples: Vec<Duration>,
    uncounted: usize,
    seen_key: String,
}

pub async fn run(target: &Target, connections: usize, length: Duration) -> anyhow::Result<Report> {
    let credentials = target.credentials.load().await?;
    let requests: Rc<Vec<Signed>> =
        Rc::new((0..DISTINCT).map(|n| request::get_item(&credentials, n)).collect::<Result<_, _>>()?);
    let tls = transport::tls(&target.ca)?;
    let tally = Rc::new(RefCell::new(Tally { samples: Vec::with_capacity(1 << 19), ..Tally::default() }));
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push(transport::open(target.address, tls.clone(), SMALL_HOST).await?);
    }
    let begin = Instant::now() + WARM_UP;
    let end = begin + length;
    let local = tokio::task::LocalSet::new();
    let mut tasks = Vec::with_capacity(connections);
    for (n, mut connection) in opened.into_iter().enumerate() {
        let (requests, tally) = (requests.clone(), tally.clone());
        tasks.push(local.spawn_local(async move {
            let mut next = n * 31;
            loop {
                let started = Instant::now();
                if started >= end {
                    return Ok(());
                }
                let signed = &requests[next % requests.len()];
                next += 1;
                connection.ready().await?;
                let response = connection.send_request(signed.request()).await?;
                let (parts, body) = response.into_parts();
                let body = body.collect().await?.to_bytes();
                let took = started.elapsed();
                if !parts.status.is_success() {
                    bail!("answer {}: {}", parts.status, String::from_utf8_lossy(&body));
                }
                let mut tally = tally.borrow_mut();
                if started >= begin {
                    tally.samples.push(took);
                } else {
                    tally.uncounted += 1;
                }
                if tally.seen_key.is_empty() {
                    tally.seen_key =
                        parts.headers.get(SEEN_KEY).and_then(|v| v.to_str().ok()).unwrap_or("none").to_owned();
                }
            }
        }));
    }
    local
        .run_until(async {
            for task in tasks {
                task.await??;
            }
            anyhow::Ok(())
        })
        .await?;
    let mut tally = tally.borrow_mut();
    let requests = tally.samples.len();
    let latency = Latency::of(&mut tally.samples);
    let seconds = length.as_secs_f64();
    Ok(Report {
        connections,
        requests,
        uncounted: tally.uncounted,
        seconds,
        per_second: requests as f64 / seconds,
        latency,
        seen_key: tally.seen_key.clone(),
    })
}
