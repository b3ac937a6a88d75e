//! The measurements, in turns: each round asks every contender once, so that a slow moment of the machine hits them all.
//!
//! Owns how often and how long. Never judges.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::alone::Stages;
use super::client::{self, Bulk, Connect, Idle, Small, Staying};
use super::contender::{Contender, HELD_KEY, Kind, Upstream};
use super::process::{cpu_seconds, resident_kib};
use super::{Places, say};

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rounds: usize,
    pub seconds: f64,
    /// Connections of the throughput runs; latency is taken at one.
    pub connections: usize,
    pub bytes: u64,
    /// Rounds of the large bodies for mitmproxy, which takes long.
    pub slow_rounds: usize,
    pub connects: usize,
    /// How often connect latency is taken without Tollgate and with it.
    pub pairs: usize,
    pub idle: usize,
}

impl Plan {
    pub fn full() -> Self {
        Self {
            rounds: 3,
            seconds: 4.0,
            connections: 16,
            bytes: 1 << 30,
            slow_rounds: 1,
            connects: 2000,
            pairs: 6,
            idle: 1000,
        }
    }

    pub fn quick() -> Self {
        Self {
            rounds: 1,
            seconds: 2.0,
            connections: 16,
            bytes: 256 << 20,
            slow_rounds: 1,
            connects: 1000,
            pairs: 2,
            idle: 200,
        }
    }
}

/// Small requests of one run.
#[derive(Debug, Clone)]
pub struct SmallRun {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// CPU microseconds of the proxy per request; absent for the direct way.
    pub cpu_us: Option<f64>,
}

/// A large body of one run.
#[derive(Debug, Clone)]
pub struct BulkRun {
    pub mb_per_second: f64,
    /// CPU seconds of the proxy per GiB.
    pub cpu_per_gib: Option<f64>,
    /// Resident KiB before it, and the most during it.
    pub resident: Option<(f64, f64)>,
}

/// Resident KiB of a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub fresh: f64,
    /// After a first request.
    pub warm: f64,
    pub with_idle: f64,
    pub connections: usize,
}

#[derive(Debug, Default)]
pub struct ConnectRuns {
    pub without: Vec<Connect>,
    pub untagged: Vec<Connect>,
    pub tagged: Vec<Connect>,
    /// Connect and handshake.
    pub tls_direct: Vec<Connect>,
    pub tls_tagged: Vec<Connect>,
}

/// What a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transfer {
    Get,
    Put,
    /// aws-chunked with a trailer, as today's SDKs upload.
    PutTrailer,
}

impl Transfer {
    pub const ALL: [Self; 3] = [Self::Get, Self::Put, Self::PutTrailer];

    fn verb(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["bulk", "get"],
            Self::Put => &["bulk", "put"],
            Self::PutTrailer => &["bulk", "put", "--payload", "trailer"],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::PutTrailer => "PUT, chunked with trailer",
        }
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// By contender and number of connections.
    pub small: BTreeMap<(Kind, usize), Vec<SmallRun>>,
    pub bulk: BTreeMap<(Kind, Transfer), Vec<BulkRun>>,
    pub connect: ConnectRuns,
    pub memory: BTreeMap<Kind, Memory>,
    pub stages: Option<Stages>,
    /// Resident KiB at the very end.
    pub at_end: BTreeMap<Kind, f64>,
}

pub fn all(contenders: &[Contender], plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    for contender in contenders.iter().filter(|c| !c.pids().is_empty()) {
        say(&format!("memory of {}, fresh and with {} idle connections", contender.kind, plan.idle));
        results.memory.insert(contender.kind, memory(contender, plan)?);
    }
    for round in 1..=plan.rounds {
        for connections in [1, plan.connections] {
            for contender in contenders {
                let run = small(contender, connections, plan)?;
                say(&format!(
                    "round {round}: small requests, {connections:2} at once, {:9}: {:7.0}/s, p50 {:6.3} ms{}",
                    contender.kind.to_string(),
                    run.per_second,
                    run.p50_us / 1e3,
                    run.cpu_us.map_or(String::new(), |us| format!(", {us:.1} µs CPU each"))
                ));
                results.small.entry((contender.kind, connections)).or_default().push(run);
            }
        }
        for transfer in Transfer::ALL {
            for contender in contenders {
                if contender.kind == Kind::Mitmproxy && round > plan.slow_rounds {
                    continue;
                }
                let run = bulk(contender, transfer, plan)?;
                say(&format!(
                    "round {round}: {} of {} MiB, {:9}: {:5.0} MB/s",
                    transfer.name(),
                    plan.bytes >> 20,
                    contender.kind.to_string(),
                    run.mb_per_second
                ));
                results.bulk.entry((contender.kind, transfer)).or_default().push(run);
            }
        }
    }
    for contender in contenders.iter().filter(|c| !c.pids().is_empty()) {
        results.at_end.insert(contender.kind, resident_kib(&contender.pids()));
    }
    Ok(())
}

/// Connect latency, in pairs: without Tollgate, and at once afterwards with it. A machine's pace changes over a run by more
/// than what is to be seen, and within one pair hardly. Tollgate is not loaded when this is called, nor when it returns.
pub fn connects(places: &Places, upstream: &Upstream, plan: &Plan, runs: &mut ConnectRuns) -> anyhow::Result<()> {
    for pair in 1..=plan.pairs {
        let before = untagged(places, upstream, plan)?;
        let tollgate = Contender::start(Kind::Tollgate, places, upstream)?;
        let measured = with_tollgate(places, upstream, &tollgate, plan, runs);
        tollgate.unload(places)?;
        measured?;
        let after = untagged(places, upstream, plan)?;
        runs.without.push(before.mean(&after));
        let last = |runs: &[Connect]| runs.last().map_or(f64::NAN, |r| r.connect.p50_us);
        say(&format!(
            "connect latency, pair {pair}: {:.2} µs without, {:.2} untagged, {:.2} tagged",
            last(&runs.without),
            last(&runs.untagged),
            last(&runs.tagged)
        ));
    }
    Ok(())
}

fn with_tollgate(
    places: &Places,
    upstream: &Upstream,
    tollgate: &Contender,
    plan: &Plan,
    runs: &mut ConnectRuns,
) -> anyhow::Result<()> {
    // A first session, so that the host has had one: before that the hooks have nothing to ask.
    let tls = connect(tollgate.connect_client(true), plan.connects / 4)?;
    let (untagged, tagged) =
        (untagged(places, upstream, plan)?, connect(tollgate.connect_client(false), plan.connects)?);
    let direct = Contender::start(Kind::Direct, places, upstream)?;
    runs.tls_direct.push(connect(direct.connect_client(true), plan.connects / 4)?);
    runs.tls_tagged.push(tls);
    runs.untagged.push(untagged);
    runs.tagged.push(tagged);
    Ok(())
}

/// connect(2) of an untagged client to a listener that only accepts.
fn untagged(places: &Places, upstream: &Upstream, plan: &Plan) -> anyhow::Result<Connect> {
    let mut command = Command::new(&places.load);
    command.args(["connect", "--to", &upstream.plain.to_string()]);
    connect(command, plan.connects)
}

fn connect(mut command: Command, samples: usize) -> anyhow::Result<Connect> {
    client::report(command.args(["--samples", &samples.to_string()]))
}

fn small(contender: &Contender, connections: usize, plan: &Plan) -> anyhow::Result<SmallRun> {
    let pids = contender.pids();
    let before = cpu_seconds(&pids);
    let report: Small = client::report(contender.client(&["small"]).args([
        "--connections",
        &connections.to_string(),
        "--seconds",
        &plan.seconds.to_string(),
    ]))?;
    let used = cpu_seconds(&pids) - before;
    check_key(contender, &report.seen_key)?;
    let requests = (report.requests + report.uncounted) as f64;
    let cpu_us = (!pids.is_empty()).then_some(used * 1e6 / requests);
    Ok(SmallRun { per_second: report.per_second, p50_us: report.p50_us, p99_us: report.p99_us, cpu_us })
}

fn bulk(contender: &Contender, transfer: Transfer, plan: &Plan) -> anyhow::Result<BulkRun> {
    let pids = contender.pids();
    let (before, resident) = (cpu_seconds(&pids), resident_kib(&pids));
    let ended = AtomicBool::new(false);
    let (report, peak) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0.0_f64;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(resident_kib(&pids));
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        let report =
            client::report::<Bulk>(contender.client(transfer.verb()).args(["--bytes", &plan.bytes.to_string()]));
        ended.store(true, Ordering::Relaxed);
        (report, watch.join().unwrap_or(f64::NAN))
    });
    let report = report?;
    let used = cpu_seconds(&pids) - before;
    check_key(contender, &report.seen_key)?;
    let gib = plan.bytes as f64 / f64::from(1 << 30);
    let proxied = !pids.is_empty();
    Ok(BulkRun {
        mb_per_second: report.mb_per_second,
        cpu_per_gib: proxied.then_some(used / gib),
        resident: proxied.then_some((resident, peak)),
    })
}

fn memory(contender: &Contender, plan: &Plan) -> anyhow::Result<Memory> {
    let pids = contender.pids();
    let fresh = settled(&pids);
    // One first request, so that what is loaded once does not count as the connections'.
    let mut command = contender.client(&["idle"]);
    let (first, report) = Staying::start::<Idle>(command.args(["--connections", "1", "--hold", "1"]))?;
    check_key(contender, &report.seen_key)?;
    let warm = settled(&pids);
    first.finish()?;
    let mut command = contender.client(&["idle"]);
    let (held, report) =
        Staying::start::<Idle>(command.args(["--connections", &plan.idle.to_string(), "--hold", "2"]))?;
    check_key(contender, &report.seen_key)?;
    let with_idle = settled(&pids);
    held.finish()?;
    say(&format!(
        "  {:.1} MiB fresh, {:.1} after a first request, {:.1} with them",
        fresh / 1024.0,
        warm / 1024.0,
        with_idle / 1024.0
    ));
    Ok(Memory { fresh, warm, with_idle, connections: plan.idle })
}

/// Resident memory once it has stopped moving, or after a second.
fn settled(pids: &[u32]) -> f64 {
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut last = resident_kib(pids);
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = resident_kib(pids);
        if (now - last).abs() < 16.0 || Instant::now() > deadline {
            return now;
        }
        last = now;
    }
}

/// A figure of a proxy that was not in the way, or did not sign, would be worth nothing.
fn check_key(contender: &Contender, seen: &str) -> anyhow::Result<()> {
    ensure!(
        (seen == HELD_KEY) == contender.signs_anew(),
        "the upstream saw the key `{seen}` behind {}, which {}",
        contender.kind,
        if contender.signs_anew() { "should have signed anew" } else { "should not have" }
    );
    Ok(())
}
