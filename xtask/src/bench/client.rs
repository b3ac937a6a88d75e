//! Runs of the load client, and what it says of them.
//!
//! Owns the shapes of its one line of JSON.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Debug, Clone, Deserialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p99_us: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Small {
    pub requests: usize,
    pub uncounted: usize,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub seen_key: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Bulk {
    pub mb_per_second: f64,
    pub seen_key: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Connect {
    pub connect: Latency,
    pub tls: Option<Latency>,
}

impl Latency {
    fn mean(&self, other: &Self) -> Self {
        Self { p50_us: f64::midpoint(self.p50_us, other.p50_us), p99_us: f64::midpoint(self.p99_us, other.p99_us) }
    }
}

impl Connect {
    /// Of two runs, one before and one after something else.
    pub fn mean(&self, other: &Self) -> Self {
        let tls = self.tls.as_ref().zip(other.tls.as_ref()).map(|(a, b)| a.mean(b));
        Self { connect: self.connect.mean(&other.connect), tls }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Idle {
    pub seen_key: String,
}

/// Runs a client to its end and reads its report.
pub fn report<T: DeserializeOwned>(command: &mut Command) -> anyhow::Result<T> {
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start the load client")?;
    if !output.status.success() {
        bail!("the load client ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().context("the load client said nothing")?;
    serde_json::from_str(line).with_context(|| format!("the load client said `{line}`"))
}

/// A client that has said its line and stays.
#[derive(Debug)]
pub struct Staying(Child);

impl Staying {
    pub fn start<T: DeserializeOwned>(command: &mut Command) -> anyhow::Result<(Self, T)> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start the load client")?;
        let stdout = child.stdout.take().context("the load client has no output")?;
        let this = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let report = serde_json::from_str(&line).with_context(|| format!("the load client said `{line}`"))?;
        Ok((this, report))
    }

    /// Waits for its end.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.0.wait()?;
        Ok(())
    }
}
