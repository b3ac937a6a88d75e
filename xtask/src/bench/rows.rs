//! From measurements to rows: one figure each, against what, and whether it reaches its target.
//!
//! Owns the targets. Ratios are of medians over the rounds; those of connect latency, medians of the pairs' ratios.

use serde::Serialize;

use super::alone::Stages;
use super::client::Connect;
use super::contender::Kind;
use super::measure::{BulkRun, Plan, Results, SmallRun, Transfer};

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// Whose figure the ratio divides by.
    pub against: Option<String>,
    pub ratio: Option<f64>,
    pub target: Option<String>,
    pub met: Option<bool>,
}

/// What a figure or its ratio has to reach.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    RatioAtLeast(f64),
    RatioUnder(f64),
    RatioWithin(f64, f64),
    ValueUnder(f64),
    ValueAtLeast(f64),
}

impl Row {
    pub(super) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value: round(value), unit, against: None, ratio: None, target: None, met: None }
    }

    pub(super) fn against(mut self, whom: impl ToString, theirs: Option<f64>, ours: f64) -> Self {
        self.against = Some(whom.to_string());
        self.ratio = theirs.filter(|t| *t > 0.0).map(|t| round(ours / t));
        self
    }

    /// The median of the ratios of each pair.
    fn in_pairs(mut self, ours: &[Connect], without: &[Connect]) -> Self {
        self.against = Some("without Tollgate".into());
        self.ratio = median(ours.iter().zip(without).map(|(o, w)| o.connect.p50_us / w.connect.p50_us)).map(round);
        self
    }

    pub(super) fn goal(mut self, goal: Goal) -> Self {
        let ratio = |wanted: &dyn Fn(f64) -> bool| self.ratio.is_some_and(wanted);
        let (text, met) = match goal {
            Goal::RatioAtLeast(least) => (format!("ratio ≥ {least}"), ratio(&|r| r >= least)),
            Goal::RatioUnder(most) => (format!("ratio < {most}"), ratio(&|r| r < most)),
            Goal::RatioWithin(low, high) => (format!("ratio {low} to {high}"), ratio(&|r| (low..=high).contains(&r))),
            Goal::ValueUnder(most) => (format!("< {most} {}", self.unit), self.value < most),
            Goal::ValueAtLeast(least) => (format!("≥ {least} {}", self.unit), self.value >= least),
        };
        self.target = Some(text);
        self.met = Some(met);
        self
    }
}

/// All rows that the results allow.
pub fn of(results: &Results, plan: &Plan) -> Vec<Row> {
    let size =
        if plan.bytes >= 1 << 30 { format!("{} GiB", plan.bytes >> 30) } else { format!("{} MiB", plan.bytes >> 20) };
    let mut rows = Vec::new();
    small(results, &mut rows);
    bulk(results, &size, &mut rows);
    connect(results, &mut rows);
    memory(results, &size, &mut rows);
    rows.extend(results.stages.iter().flat_map(Stages::rows));
    rows
}

fn small(results: &Results, rows: &mut Vec<Row>) {
    let figure = |kind, connections, of: fn(&SmallRun) -> Option<f64>| {
        median(results.small.get(&(kind, connections))?.iter().filter_map(of))
    };
    let mut counts: Vec<_> = results.small.keys().map(|(_, n)| *n).collect();
    counts.sort_unstable();
    counts.dedup();
    let neighbours = [Kind::Direct, Kind::Nginx, Kind::Mitmproxy];
    for n in counts {
        let at = format!("at {n} connection{}", if n == 1 { "" } else { "s" });
        let per_second = |kind| figure(kind, n, |r| Some(r.per_second));
        if let Some(ours) = per_second(Kind::Tollgate) {
            for whom in neighbours {
                rows.push(Row::new(format!("small requests {at}"), ours, "requests/s").against(
                    whom,
                    per_second(whom),
                    ours,
                ));
            }
        }
        let per_cpu = |kind| figure(kind, n, |r| r.cpu_us.map(|us| 1e6 / us));
        if let (Some(ours), true) = (per_cpu(Kind::Tollgate), n > 1) {
            let name = format!("small requests per CPU-second of the proxy, {at}");
            let row = |whom| Row::new(name.clone(), ours, "requests/CPU-s").against(whom, per_cpu(whom), ours);
            rows.push(row(Kind::Nginx).goal(Goal::RatioAtLeast(0.5)));
            rows.push(row(Kind::Mitmproxy).goal(Goal::RatioAtLeast(20.0)));
            rows.push(Row::new(format!("CPU of the proxy per small request, {at}"), 1e6 / ours, "µs").against(
                Kind::Nginx,
                per_cpu(Kind::Nginx).map(|t| 1e6 / t),
                1e6 / ours,
            ));
        }
        for (label, of) in
            [("p50", (|r| Some(r.p50_us / 1e3)) as fn(&SmallRun) -> Option<f64>), ("p99", |r| Some(r.p99_us / 1e3))]
        {
            let latency = |kind| figure(kind, n, of);
            let Some(ours) = latency(Kind::Tollgate) else { continue };
            for whom in neighbours {
                rows.push(Row::new(format!("small requests {at}, {label}"), ours, "ms").against(
                    whom,
                    latency(whom),
                    ours,
                ));
            }
            if let Some(direct) = latency(Kind::Direct) {
                let added = Row::new(format!("small requests {at}, added {label}"), ours - direct, "ms").against(
                    Kind::Direct,
                    None,
                    ours,
                );
                rows.push(if n == 1 && label == "p50" { added.goal(Goal::ValueUnder(0.5)) } else { added });
            }
        }
        for kind in neighbours {
            for (label, unit, value) in
                [("", "requests/s", per_second(kind)), (" per CPU-second", "requests/CPU-s", per_cpu(kind))]
            {
                rows.extend(value.map(|v| Row::new(format!("small requests{label} {at}, {kind}"), v, unit)));
            }
            let latency = [
                ("p50", figure(kind, n, |r| Some(r.p50_us / 1e3))),
                ("p99", figure(kind, n, |r| Some(r.p99_us / 1e3))),
            ];
            for (label, value) in latency {
                rows.extend(value.map(|v| Row::new(format!("small requests {at}, {label}, {kind}"), v, "ms")));
            }
        }
    }
}

fn bulk(results: &Results, size: &str, rows: &mut Vec<Row>) {
    let figure = |kind, transfer, of: fn(&BulkRun) -> Option<f64>| {
        median(results.bulk.get(&(kind, transfer))?.iter().filter_map(of))
    };
    for transfer in Transfer::ALL {
        let name = format!("{size} {}", transfer.name());
        let speed = |kind| figure(kind, transfer, |r| Some(r.mb_per_second));
        let cpu = |kind| figure(kind, transfer, |r| r.cpu_per_gib);
        if let Some(ours) = speed(Kind::Tollgate) {
            for whom in [Kind::Direct, Kind::Nginx, Kind::Mitmproxy] {
                let row = Row::new(name.clone(), ours, "MB/s").against(whom, speed(whom), ours);
                rows.push(if whom == Kind::Nginx { row.goal(Goal::RatioAtLeast(0.8)) } else { row });
            }
        }
        if let Some(ours) = cpu(Kind::Tollgate) {
            rows.push(Row::new(format!("{name}, CPU of the proxy per GiB"), ours, "s").against(
                Kind::Nginx,
                cpu(Kind::Nginx),
                ours,
            ));
        }
        for kind in [Kind::Direct, Kind::Nginx, Kind::Mitmproxy] {
            rows.extend(speed(kind).map(|v| Row::new(format!("{name}, {kind}"), v, "MB/s")));
            rows.extend(cpu(kind).map(|v| Row::new(format!("{name}, CPU per GiB, {kind}"), v, "s")));
        }
    }
}

fn connect(results: &Results, rows: &mut Vec<Row>) {
    let runs = &results.connect;
    let of = |runs: &[Connect], pick: fn(&Connect) -> Option<f64>| median(runs.iter().filter_map(pick));
    let p50 = |c: &Connect| Some(c.connect.p50_us);
    let p99 = |c: &Connect| Some(c.connect.p99_us);
    let (without, untagged, tagged) = (of(&runs.without, p50), of(&runs.untagged, p50), of(&runs.tagged, p50));
    if let Some(without) = without {
        rows.push(Row::new("connect, without Tollgate, p50", without, "µs"));
        rows.extend(of(&runs.without, p99).map(|v| Row::new("connect, without Tollgate, p99", v, "µs")));
    }
    if let Some(ours) = untagged {
        // As wide as two runs without Tollgate may differ on a busy machine.
        rows.push(
            Row::new("connect, untagged, p50", ours, "µs")
                .in_pairs(&runs.untagged, &runs.without)
                .goal(Goal::RatioWithin(0.0, 1.05)),
        );
        rows.extend(of(&runs.untagged, p99).map(|v| {
            Row::new("connect, untagged, p99", v, "µs").against("without Tollgate", of(&runs.without, p99), v)
        }));
    }
    if let Some(ours) = tagged {
        rows.push(
            Row::new("connect, tagged, p50", ours, "µs")
                .in_pairs(&runs.tagged, &runs.without)
                .goal(Goal::RatioUnder(1.2)),
        );
        rows.extend(
            of(&runs.tagged, p99).map(|v| {
                Row::new("connect, tagged, p99", v, "µs").against("without Tollgate", of(&runs.without, p99), v)
            }),
        );
    }
    let tls = |c: &Connect| c.tls.as_ref().map(|l| l.p50_us);
    if let Some(ours) = of(&runs.tls_tagged, tls) {
        rows.push(Row::new("connect and TLS handshake, tagged, p50", ours, "µs").against(
            Kind::Direct,
            of(&runs.tls_direct, tls),
            ours,
        ));
    }
}

fn memory(results: &Results, size: &str, rows: &mut Vec<Row>) {
    for (kind, memory) in results.memory.iter().rev() {
        let ours = *kind == Kind::Tollgate;
        let of = |name: &str| if ours { name.to_owned() } else { format!("{name}, {kind}") };
        let goal = |row: Row, goal| if ours { row.goal(goal) } else { row };
        rows.push(goal(Row::new(of("resident memory, idle"), memory.fresh / 1024.0, "MiB"), Goal::ValueUnder(40.0)));
        rows.push(Row::new(of("resident memory, idle after a first request"), memory.warm / 1024.0, "MiB"));
        let each = (memory.with_idle - memory.warm) / memory.connections as f64;
        rows.push(Row::new(
            of(&format!("resident memory with {} idle connections", memory.connections)),
            memory.with_idle / 1024.0,
            "MiB",
        ));
        rows.push(goal(Row::new(of("resident memory per idle connection"), each, "KiB"), Goal::ValueUnder(20.0)));
        let growth = |transfer| {
            let runs: &Vec<BulkRun> = results.bulk.get(&(*kind, transfer))?;
            runs.iter().filter_map(|r| r.resident.map(|(before, peak)| (peak - before) / 1024.0)).reduce(f64::max)
        };
        for transfer in Transfer::ALL {
            if let Some(grown) = growth(transfer) {
                rows.push(goal(
                    Row::new(of(&format!("resident memory, growth during {size} {}", transfer.name())), grown, "MiB"),
                    Goal::ValueUnder(8.0),
                ));
            }
        }
        if let Some(end) = results.at_end.get(kind) {
            rows.push(Row::new(of("resident memory at the end of the run"), end / 1024.0, "MiB"));
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some(if values.len() % 2 == 1 { values[middle] } else { (values[middle] + values[middle + 1]) / 2.0 })
}

/// Four significant digits: more would be noise.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_digits() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
        assert_eq!((round(26_543.2), round(0.123_456), round(0.0)), (26_540.0, 0.1235, 0.0));
    }

    #[test]
    fn a_goal_without_a_neighbour_is_not_met() {
        let row = Row::new("x", 5.0, "ms").against(Kind::Nginx, None, 5.0).goal(Goal::RatioAtLeast(0.1));
        assert_eq!(row.met, Some(false));
        let row = Row::new("x", 5.0, "ms").against(Kind::Nginx, Some(10.0), 5.0).goal(Goal::RatioAtLeast(0.5));
        assert_eq!((row.ratio, row.met), (Some(0.5), Some(true)));
    }
}
