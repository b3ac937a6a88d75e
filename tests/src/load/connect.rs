//! Latency of connect(2), and of connect and TLS handshake together.
//!
//! Owns the clock around the two calls. Blocking, on one thread: nothing but the system call is between two readings.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustls::ClientConnection;
use rustls_pki_types::ServerName;
use serde::Serialize;

use super::stats::Latency;
use super::{SMALL_HOST, transport};

const WARM_UP: usize = 200;

#[derive(Debug, Serialize)]
pub struct Report {
    pub connect: Latency,
    /// Connect and handshake, without resumption; absent where no roots were given.
    pub tls: Option<Latency>,
}

/// Connects so many times, with a pause between two, and closes at once.
pub fn run(to: SocketAddr, ca: Option<&Path>, samples: usize, pause: Duration) -> anyhow::Result<Report> {
    let tls = match ca {
        None => None,
        Some(ca) => {
            let mut config = transport::tls(ca)?.as_ref().clone();
            config.resumption = rustls::client::Resumption::disabled();
            Some(std::sync::Arc::new(config))
        }
    };
    let name = ServerName::try_from(SMALL_HOST)?;
    let mut connected = Vec::with_capacity(samples);
    let mut secured = Vec::with_capacity(samples);
    for n in 0..samples + WARM_UP {
        let started = Instant::now();
        let mut stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
        let first = started.elapsed();
        if let Some(config) = &tls {
            let mut connection = ClientConnection::new(config.clone(), name.clone())?;
            stream.set_nodelay(true)?;
            while connection.is_handshaking() {
                connection.complete_io(&mut stream)?;
            }
            if n >= WARM_UP {
                secured.push(started.elapsed());
            }
        }
        if n >= WARM_UP {
            connected.push(first);
        }
        drop(stream);
        std::thread::sleep(pause);
    }
    Ok(Report { connect: Latency::of(&mut connected), tls: tls.map(|_| Latency::of(&mut secured)) })
}
