//! The multi-region access point and the directory bucket of `servers/multiregion.py`, behind TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::ca::Ca;
use super::front;
use super::moto::Key;

#[derive(Debug)]
pub struct MultiRegion {
    pub address: SocketAddr,
    _process: Child,
}

impl MultiRegion {
    pub async fn start(ca: &Ca, tools: &Path, dir: &Path, key: &Key) -> anyhow::Result<Self> {
        let log = std::fs::File::create(dir.join("multiregion.log"))?;
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(tools.join("moto/bin/python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/multiregion.py"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HELD_ID", &key.access_key_id)
            .env("HELD_SECRET", &key.secret_access_key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting the multi-region access point")?;
        let stdout = process.stdout.take().context("it has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let port = line.trim().parse().context("the multi-region access point did not say its port")?;
        let address = front::splice(ca, (Ipv4Addr::LOCALHOST, port).into()).await?;
        Ok(Self { address, _process: process })
    }
}
