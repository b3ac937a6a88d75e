//! Single stages of the data path, each by itself: no network, one thread.
//!
//! Owns the runs of `agent/examples/alone`, which times the agent's own code, and their rows.

use std::process::Command;

use serde::Deserialize;

use super::rows::{Goal, Row};
use super::{Places, client, say};

/// All of them.
#[derive(Debug, Clone)]
pub struct Stages {
    judging: Option<Judging>,
    signing: Option<Signing>,
    masking: Masking,
}

/// Medians over some thousand requests.
#[derive(Debug, Clone, Deserialize)]
struct Judging {
    few: Figure,
    many: Figure,
    own: Figure,
}

#[derive(Debug, Clone, Deserialize)]
struct Figure {
    policies: usize,
    of_the_service: usize,
    median_ns: f64,
    load_ms: f64,
}

/// The best of several.
#[derive(Debug, Clone, Deserialize)]
struct Signing {
    sign_us: f64,
    verify_and_sign_us: f64,
    sha256_mb_s: f64,
    chunks_mb_s: f64,
}

/// Medians.
#[derive(Debug, Clone, Deserialize)]
struct Masking {
    json_mb_s: f64,
    with_names_and_patterns_mb_s: f64,
    serde_json_mb_s: f64,
    sha256_mb_s: f64,
    growth_mib: f64,
}

/// All stages, or masking alone.
pub fn measure(places: &Places, all: bool) -> anyhow::Result<Stages> {
    say("single stages, each by itself");
    let stage = |name| {
        let mut command = Command::new(&places.alone);
        command.arg(name);
        command
    };
    Ok(Stages {
        judging: all.then(|| client::report(&mut stage("judge"))).transpose()?,
        signing: all.then(|| client::report(&mut stage("signing"))).transpose()?,
        masking: client::report(&mut stage("masking"))?,
    })
}

impl Stages {
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = self.judging.as_ref().map_or_else(Vec::new, Judging::rows);
        rows.extend(self.signing.iter().flat_map(Signing::rows));
        rows.extend(self.masking.rows());
        rows
    }
}

impl Signing {
    fn rows(&self) -> Vec<Row> {
        vec![
            Row::new("verify and sign a small request anew", self.verify_and_sign_us, "µs")
                .goal(Goal::ValueUnder(15.0)),
            Row::new("sign a small request", self.sign_us, "µs"),
            Row::new("signed chunks, verified and signed anew", self.chunks_mb_s, "MB/s")
                .against("SHA-256", Some(self.sha256_mb_s), self.chunks_mb_s)
                .goal(Goal::RatioAtLeast(0.6)),
        ]
    }
}

impl Masking {
    fn rows(&self) -> Vec<Row> {
        let name = "masking of JSON as it passes";
        let row = |whom: &str, theirs: f64| {
            Row::new(name, self.json_mb_s, "MB/s").against(whom, Some(theirs), self.json_mb_s)
        };
        vec![
            Row::new(name, self.json_mb_s, "MB/s").goal(Goal::ValueAtLeast(300.0)),
            // Who reads all of it, and writes it again.
            row("serde_json", self.serde_json_mb_s).goal(Goal::RatioAtLeast(1.0)),
            row("SHA-256", self.sha256_mb_s),
            Row::new(format!("{name}, by names and patterns too"), self.with_names_and_patterns_mb_s, "MB/s"),
            Row::new(format!("{name}, growth of resident memory over 1 GiB"), self.growth_mib, "MiB")
                .goal(Goal::ValueUnder(1.0)),
        ]
    }
}

impl Judging {
    fn rows(&self) -> Vec<Row> {
        let name = |f: &Figure| {
            format!("recognise and judge a small request, {} policies, {} of its service", f.policies, f.of_the_service)
        };
        let us = |f: &Figure| f.median_ns / 1e3;
        let (few, many, own) = (&self.few, &self.many, &self.own);
        vec![
            Row::new(name(many), us(many), "µs").goal(Goal::ValueUnder(25.0)),
            // Policies of other services must not count.
            Row::new(format!("{}, growth", name(many)), us(many), "µs")
                .against(format!("{} policies", few.policies), Some(us(few)), us(many))
                .goal(Goal::RatioUnder(1.2)),
            Row::new(name(own), us(own), "µs"),
            Row::new(format!("loading {} policies", many.policies), many.load_ms, "ms"),
        ]
    }
}
