//! `tollgate-load`: the load client and the shared upstream of `cargo xtask bench`.
//!
//! Owns the command line only; the work is in `tollgate_tests::load`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tollgate_tests::load::bulk::{self, Direction, Payload};
use tollgate_tests::load::credentials::Source;
use tollgate_tests::load::transport::Target;
use tollgate_tests::load::{connect, idle, server, small};

#[derive(Parser)]
#[command(about = "Load client and upstream of Tollgate's benchmark")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Writes a root and a server certificate for the benchmark's hosts.
    Certs {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Serves DynamoDB-like answers and S3-like objects.
    Serve {
        #[arg(long)]
        listen: SocketAddr,
        /// A second, plain listener that accepts and closes, for connect latency.
        #[arg(long)]
        accept: SocketAddr,
        #[arg(long)]
        certs: PathBuf,
    },
    /// Small signed requests, as many as go through.
    Small {
        #[command(flatten)]
        target: TargetArgs,
        #[arg(long, default_value_t = 16)]
        connections: usize,
        #[arg(long, default_value_t = 4.0)]
        seconds: f64,
    },
    /// One large body.
    Bulk {
        direction: Direction,
        #[command(flatten)]
        target: TargetArgs,
        #[arg(long, default_value_t = 1 << 30)]
        bytes: u64,
        /// How an upload is signed.
        #[arg(long, default_value = "unsigned")]
        payload: Payload,
    },
    /// Latency of connect(2), and of connect and TLS handshake where a CA is given.
    Connect {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long)]
        ca: Option<PathBuf>,
        #[arg(long, default_value_t = 4000)]
        samples: usize,
        /// Microseconds between two connects.
        #[arg(long, default_value_t = 200)]
        pause: u64,
    },
    /// Connections that each made one request and then stay.
    Idle {
        #[command(flatten)]
        target: TargetArgs,
        #[arg(long, default_value_t = 1000)]
        connections: usize,
        /// Seconds to stay after the line of JSON was printed.
        #[arg(long, default_value_t = 5)]
        hold: u64,
    },
}

#[derive(Args)]
struct TargetArgs {
    /// Address to connect to, whatever the host's name.
    #[arg(long)]
    to: SocketAddr,
    /// PEM file with the roots to trust.
    #[arg(long)]
    ca: PathBuf,
    /// `imds`, or `ACCESS_KEY_ID:SECRET`.
    #[arg(long, default_value = "imds")]
    credentials: Source,
}

impl From<TargetArgs> for Target {
    fn from(args: TargetArgs) -> Self {
        Target { address: args.to, ca: args.ca, credentials: args.credentials }
    }
}

fn main() -> anyhow::Result<()> {
    let one = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match Cli::parse().verb {
        Verb::Certs { dir } => server::write_certificates(&dir),
        Verb::Serve { listen, accept, certs } => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(server::serve(listen, accept, &certs)),
        Verb::Small { target, connections, seconds } => {
            print(&one()?.block_on(small::run(&target.into(), connections, Duration::from_secs_f64(seconds)))?)
        }
        Verb::Bulk { direction, target, bytes, payload } => {
            print(&one()?.block_on(bulk::run(&target.into(), direction, payload, bytes))?)
        }
        Verb::Connect { to, ca, samples, pause } => {
            print(&connect::run(to, ca.as_deref(), samples, Duration::from_micros(pause))?)
        }
        Verb::Idle { target, connections, hold } => one()?.block_on(async {
            let held = idle::open(&target.into(), connections).await?;
            print(&held.report)?;
            tokio::time::sleep(Duration::from_secs(hold)).await;
            drop(held);
            Ok(())
        }),
    }
}

fn print<T: serde::Serialize>(report: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
