//! Where the client's keys come from: the metadata service, as an SDK's default chain would, or the command line.
//!
//! Never sends a secret anywhere.

use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use aws_credential_types::Credentials;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

const METADATA: ([u8; 4], u16) = ([169, 254, 169, 254], 80);
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// The argument of `--credentials`.
#[derive(Debug, Clone)]
pub enum Source {
    /// The instance metadata service, version 2.
    Imds,
    Fixed {
        access_key_id: String,
        secret: String,
    },
}

impl FromStr for Source {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "imds" {
            return Ok(Self::Imds);
        }
        let (id, secret) = text.split_once(':').ok_or("give `imds` or `ACCESS_KEY_ID:SECRET`")?;
        Ok(Self::Fixed { access_key_id: id.into(), secret: secret.into() })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleCredentials {
    access_key_id: String,
    secret_access_key: String,
    token: String,
}

impl Source {
    pub async fn load(&self) -> anyhow::Result<Credentials> {
        match self {
            Self::Fixed { access_key_id, secret } => Ok(Credentials::new(access_key_id, secret, None, None, "fixed")),
            Self::Imds => {
                let token =
                    ask(Method::PUT, "/latest/api/token", ("x-aws-ec2-metadata-token-ttl-seconds", "21600")).await?;
                let with = ("x-aws-ec2-metadata-token", token.trim());
                let role = ask(Method::GET, ROLES, with).await?;
                let role = role.lines().next().context("the metadata service names no role")?;
                let found: RoleCredentials =
                    serde_json::from_str(&ask(Method::GET, &format!("{ROLES}{role}"), with).await?)?;
                Ok(Credentials::new(found.access_key_id, found.secret_access_key, Some(found.token), None, "imds"))
            }
        }
    }
}

async fn ask(method: Method, path: &str, header: (&str, &str)) -> anyhow::Result<String> {
    let stream =
        TcpStream::connect(SocketAddr::from(METADATA)).await.context("cannot connect to the metadata service")?;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let task = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "169.254.169.254")
        .header(header.0, header.1)
        .body(Empty::<Bytes>::new())?;
    let response = send.send_request(request).await?;
    let status = response.status();
    let text = String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?;
    task.abort();
    if !status.is_success() {
        bail!("the metadata service answered {status} for `{path}`: {text}");
    }
    Ok(text)
}
