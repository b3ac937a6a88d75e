//! Recognising and judging a small request, alone: no network, no signature.
//!
//! Owns the run of `agent/examples/judge.rs`, which times the agent's own code, and its rows.

use std::process::Command;

use serde::Deserialize;

use super::rows::{Goal, Row};
use super::{Places, client, say};

/// Medians over some thousand requests.
#[derive(Debug, Clone, Deserialize)]
pub struct Judging {
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

pub fn measure(places: &Places) -> anyhow::Result<Judging> {
    say("recognising and judging, by itself");
    client::report(&mut Command::new(&places.judge))
}

impl Judging {
    pub fn rows(&self) -> Vec<Row> {
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
