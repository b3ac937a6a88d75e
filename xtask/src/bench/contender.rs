//! Who takes part: each with its server, its address, and how a client goes through it.
//!
//! Owns the configurations of the neighbours, chosen to their advantage where there was a choice.

mod tollgate;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use super::process::{Ready, Server, children};
use super::{Places, run_command};

/// Key that the load client signs with where it gets none from the metadata service.
const CLIENT_KEY: &str = "AKIABENCHCLIENTKEY01:bench-client-secret-that-is-worth-nothing";
/// Key that Tollgate and mitmproxy sign with.
pub const HELD_KEY: &str = "AKIABENCHHELDKEY0001";
const HELD_SECRET: &str = "bench-held-secret-that-is-worth-nothing-also";

const UPSTREAM: &str = "127.0.0.1:8443";
const PLAIN: &str = "127.0.0.1:8081";
const NGINX: &str = "127.0.0.1:8444";
const MITMPROXY: &str = "127.0.0.1:8445";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Direct,
    Nginx,
    Mitmproxy,
    Tollgate,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Direct, Self::Nginx, Self::Mitmproxy, Self::Tollgate];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Mitmproxy => "mitmproxy",
            Self::Tollgate => "tollgate",
        })
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|k| k.to_string() == text)
            .ok_or_else(|| format!("`{text}` is not one of direct, nginx, mitmproxy, tollgate"))
    }
}

/// The server behind them all.
#[derive(Debug)]
pub struct Upstream {
    _server: Server,
    certs: PathBuf,
    /// Accepts and closes, without TLS.
    pub plain: SocketAddr,
}

impl Upstream {
    pub fn start(places: &Places) -> anyhow::Result<Self> {
        let certs = places.work.join("certs");
        run_command(Command::new(&places.load).args(["certs", "--dir"]).arg(&certs))?;
        let mut command = Command::new(&places.load);
        command.args(["serve", "--listen", UPSTREAM, "--accept", PLAIN, "--certs"]).arg(&certs);
        let mut server = Server::start("the upstream", &mut command, places.work.join("upstream.log"))?;
        server.wait_for(&Ready::Listens(UPSTREAM.parse()?))?;
        Ok(Self { _server: server, certs, plain: PLAIN.parse()? })
    }
}

/// One of those that are measured.
#[derive(Debug)]
pub struct Contender {
    pub kind: Kind,
    /// Absent for the direct way.
    server: Option<Server>,
    /// Where the client connects to.
    pub to: SocketAddr,
    ca: PathBuf,
    /// Program and leading arguments that start the load client.
    client: Vec<String>,
    credentials: &'static str,
}

impl Contender {
    pub fn start(kind: Kind, places: &Places, upstream: &Upstream) -> anyhow::Result<Self> {
        let ca = upstream.certs.join("ca.pem");
        let client = vec![places.load.display().to_string()];
        let of = |server, to: &str, ca| {
            anyhow::Ok(Self { kind, server, to: to.parse()?, ca, client, credentials: CLIENT_KEY })
        };
        match kind {
            Kind::Direct => of(None, UPSTREAM, ca),
            Kind::Nginx => of(Some(nginx(places, upstream)?), NGINX, ca),
            Kind::Mitmproxy => of(Some(mitmproxy(places, upstream)?), MITMPROXY, ca),
            Kind::Tollgate => tollgate::start(places, upstream),
        }
    }

    /// A client that takes this way, with the verb's own arguments to be added.
    pub fn client(&self, verb: &[&str]) -> Command {
        let mut command = self.bare(verb);
        command.args(["--to", &self.to.to_string(), "--credentials", self.credentials, "--ca"]).arg(&self.ca);
        command
    }

    /// The connect client, which takes no credentials.
    pub fn connect_client(&self, tls: bool) -> Command {
        let mut command = self.bare(&["connect"]);
        command.args(["--to", &self.to.to_string()]);
        if tls {
            command.arg("--ca").arg(&self.ca);
        }
        command
    }

    fn bare(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.client[0]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(&self.client[1..]).args(verb);
        command
    }

    /// The processes whose CPU and memory count; those that Tollgate started for its sessions do not.
    pub fn pids(&self) -> Vec<u32> {
        let Some(server) = &self.server else { return Vec::new() };
        let mut pids = vec![server.pid()];
        if self.kind == Kind::Nginx {
            pids.extend(children(server.pid()));
        }
        pids
    }

    /// Whether the upstream should see another key than the client's.
    pub fn signs_anew(&self) -> bool {
        matches!(self.kind, Kind::Mitmproxy | Kind::Tollgate)
    }

    /// Ends Tollgate and takes its programs out of the kernel.
    pub fn unload(self, places: &Places) -> anyhow::Result<()> {
        if let Some(server) = self.server {
            server.stop()?;
        }
        tollgate::unpin(places)
    }
}

fn nginx(places: &Places, upstream: &Upstream) -> anyhow::Result<Server> {
    let dir = places.work.join("nginx");
    std::fs::create_dir_all(&dir)?;
    let (certs, here) = (upstream.certs.display(), dir.display());
    let config = dir.join("nginx.conf");
    std::fs::write(
        &config,
        format!(
            "daemon off;\nworker_processes 1;\npid {here}/nginx.pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 8192; }}\n\
             http {{\n\
               access_log off;\n\
               client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
               upstream shared {{ server {UPSTREAM}; keepalive 64; keepalive_requests 100000000; }}\n\
               server {{\n\
                 listen {NGINX} ssl;\n\
                 ssl_certificate {certs}/server.pem; ssl_certificate_key {certs}/server.key;\n\
                 ssl_protocols TLSv1.2 TLSv1.3;\n\
                 keepalive_requests 100000000; keepalive_timeout 300s; client_max_body_size 0; tcp_nodelay on;\n\
                 location / {{\n\
                   proxy_pass https://shared; proxy_http_version 1.1;\n\
                   proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
                   proxy_ssl_server_name on; proxy_ssl_name $host; proxy_ssl_protocols TLSv1.2 TLSv1.3;\n\
                   proxy_ssl_verify on; proxy_ssl_trusted_certificate {certs}/ca.pem;\n\
                   proxy_request_buffering off; client_body_buffer_size 256k;\n\
                   proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 64k;\n\
                 }}\n\
               }}\n\
             }}\n"
        ),
    )?;
    let mut command = Command::new(&places.nginx);
    command.arg("-p").arg(&dir).arg("-c").arg(&config);
    let mut server = Server::start("nginx", &mut command, places.work.join("nginx.log"))?;
    server.wait_for(&Ready::Listens(NGINX.parse()?))?;
    Ok(server)
}

fn mitmproxy(places: &Places, upstream: &Upstream) -> anyhow::Result<Server> {
    let dir = places.work.join("mitmproxy");
    std::fs::create_dir_all(&dir)?;
    let script = dir.join("resign.py");
    std::fs::write(&script, include_str!("resign.py"))?;
    let listen: SocketAddr = MITMPROXY.parse()?;
    let certs = upstream.certs.display();
    let mut command = Command::new(&places.mitmdump);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &dir)
        .env("BENCH_HELD_KEY", HELD_KEY)
        .env("BENCH_HELD_SECRET", HELD_SECRET);
    command.args([
        "--quiet",
        "--mode",
        &format!("reverse:https://{UPSTREAM}"),
        "--listen-host",
        &listen.ip().to_string(),
    ]);
    command
        .args(["--listen-port", &listen.port().to_string(), "--certs", &format!("*={certs}/server-both.pem"), "-s"])
        .arg(&script);
    for option in [
        format!("confdir={}", dir.display()),
        format!("ssl_verify_upstream_trusted_ca={certs}/ca.pem"),
        "keep_host_header=true".into(),
        "stream_large_bodies=1m".into(),
        "connection_strategy=lazy".into(),
        "flow_detail=0".into(),
    ] {
        command.args(["--set", &option]);
    }
    let mut server = Server::start("mitmproxy", &mut command, places.work.join("mitmproxy.log"))?;
    server.wait_for(&Ready::Listens(listen))?;
    Ok(server)
}
