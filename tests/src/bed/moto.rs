//! moto: an independent server for most of AWS that recomputes every signature with botocore's own code.
//!
//! Its first calls need no signature; with them it makes the user whose key the daemon is to hold. From then on a
//! wrong signature is a 403.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const PORT: u16 = 5000;
/// How many calls are free: the three of [`Moto::make_held_key`].
const FREE_CALLS: &str = "3";

#[derive(Debug)]
pub struct Moto {
    pub address: SocketAddr,
    _process: Child,
}

/// A user's key as moto made it.
#[derive(Debug, Clone)]
pub struct Key {
    pub access_key_id: String,
    pub secret_access_key: String,
}

impl Moto {
    pub async fn start(tools: &Path, dir: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(dir.join("moto.log"))?;
        let python = tools.join("moto/bin/python");
        ensure!(python.exists(), "`{}` is missing; run `cargo xtask tools`", python.display());
        // Dies with the bed, even if that is killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &PORT.to_string()])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("INITIAL_NO_AUTH_ACTION_COUNT", FREE_CALLS)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting moto")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).await.is_err() {
            ensure!(
                Instant::now() < end,
                "moto did not listen within a minute; see `{}`",
                dir.join("moto.log").display()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { address, _process: process })
    }

    /// Makes a user that may do everything, and its key.
    pub async fn make_held_key(&self) -> anyhow::Result<Key> {
        self.iam("Action=CreateUser&UserName=held").await?;
        let answer = self.iam("Action=CreateAccessKey&UserName=held").await?;
        self.iam(
            "Action=PutUserPolicy&UserName=held&PolicyName=all&PolicyDocument=%7B%22Version%22%3A%222012-10-17%22%2C\
             %22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D",
        )
        .await?;
        Ok(Key {
            access_key_id: element(&answer, "AccessKeyId")?,
            secret_access_key: element(&answer, "SecretAccessKey")?,
        })
    }

    async fn iam(&self, form: &str) -> anyhow::Result<String> {
        let body = format!("{form}&Version=2010-05-08");
        let request = format!(
            "POST / HTTP/1.0\r\nHost: iam.amazonaws.com\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=setup/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let head = answer.lines().next().unwrap_or_default();
        ensure!(head.contains(" 200 "), "moto refused `{form}`: {answer}");
        Ok(answer)
    }
}

fn element(xml: &str, name: &str) -> anyhow::Result<String> {
    let (_, rest) =
        xml.split_once(&format!("<{name}>")).with_context(|| format!("moto's answer has no `{name}`: {xml}"))?;
    let (text, _) = rest.split_once('<').context("moto's answer ends early")?;
    Ok(text.to_owned())
}
