//! The world inside the namespaces of one test host.
//!
//! Owns loopback addresses, private mounts, the name server, the outside world and the independent servers. Lives
//! as long as its standard input is open, so that it dies with the test that started it. Must never run in the
//! host's own network namespace: [`Bed::start`] refuses if there is a route off the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

pub mod ca;
mod dns;
mod events;
mod front;
mod moto;
mod multiregion;
mod s3;
pub(crate) mod teardown;
pub mod world;

pub use teardown::{slice, take_down};

/// Where every AWS name resolves to: nothing of ours listens there but [`world`], which counts whoever gets through.
pub const AWS_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const AWS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
/// Where every other name resolves to.
pub const WEB_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
/// Bucket that exists from the start.
pub const BUCKET: &str = "tollgate-test";
/// Account that moto gives to everything.
pub const ACCOUNT: &str = "123456789012";

/// What the test needs to know about a running bed; one line of JSON on its standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Info {
    /// Process whose namespaces are the bed's.
    pub pid: u32,
    pub held_access_key_id: String,
    pub held_secret_access_key: String,
    /// Root that signs the certificates of the AWS stand-ins; only the daemon is told of it.
    pub aws_root: PathBuf,
    /// Root of the outside world's certificates.
    pub world_root: PathBuf,
    /// TLS fronts of the independent servers.
    pub moto: SocketAddr,
    pub s3: SocketAddr,
    pub multiregion: SocketAddr,
    pub events: SocketAddr,
    /// One JSON object a line for every connection or datagram that reached the outside world.
    pub world_log: PathBuf,
}

/// A running bed.
#[derive(Debug)]
pub struct Bed {
    pub info: Info,
    _moto: moto::Moto,
    _multiregion: multiregion::MultiRegion,
}

impl Bed {
    /// Builds the world in the namespaces of this process.
    pub async fn start(dir: &Path, tools: &Path) -> anyhow::Result<Self> {
        ensure_private_network()?;
        addresses()?;
        mounts(dir)?;

        dns::serve().await?;
        let aws = ca::Ca::new("Test stand-in for AWS")?;
        let world = ca::Ca::new("Test outside world")?;
        let aws_root = dir.join("aws-root.pem");
        let world_root = dir.join("world-root.pem");
        std::fs::write(&aws_root, aws.pem())?;
        std::fs::write(&world_root, world.pem())?;
        let world_log = dir.join("world.jsonl");
        world::serve(&world, &world_log).await?;

        let moto = moto::Moto::start(tools, dir).await?;
        let key = moto.make_held_key().await?;
        let moto_front = front::splice(&aws, moto.address).await?;
        let s3 = s3::serve(&aws, &dir.join("s3"), &key).await?;

        let multiregion = multiregion::MultiRegion::start(&aws, tools, dir, &key).await?;
        let events = events::serve(&aws, &key).await?;

        let info = Info {
            pid: std::process::id(),
            held_access_key_id: key.access_key_id,
            held_secret_access_key: key.secret_access_key,
            aws_root,
            world_root,
            moto: moto_front,
            s3,
            multiregion: multiregion.address,
            events,
            world_log,
        };
        Ok(Self { info, _moto: moto, _multiregion: multiregion })
    }
}

/// A namespace without any route leads nowhere; any other is not ours.
fn ensure_private_network() -> anyhow::Result<()> {
    let routes = std::fs::read_to_string("/proc/net/route").context("reading /proc/net/route")?;
    ensure!(
        routes.lines().count() <= 1,
        "this network namespace has routes; start the bed with `unshare --net --mount`"
    );
    Ok(())
}

fn addresses() -> anyhow::Result<()> {
    run("ip", &["link", "set", "lo", "up"])?;
    for address in [IpAddr::from(AWS_V4), IpAddr::from(WEB_V4)] {
        run("ip", &["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    run("ip", &["address", "add", &format!("{AWS_V6}/128"), "dev", "lo", "nodad"])
}

/// Names come from our own server, and pins vanish with the namespace.
fn mounts(dir: &Path) -> anyhow::Result<()> {
    run("mount", &["--make-rprivate", "/"])?;
    for (name, text) in [
        ("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:3\n"),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ] {
        let Some(file_name) = Path::new(name).file_name() else { bail!("`{name}` has no file name") };
        let source = dir.join(file_name);
        std::fs::write(&source, text)?;
        run("mount", &["--bind", path(&source)?, name])?;
    }
    let bpf = dir.join("bpf");
    std::fs::create_dir_all(&bpf)?;
    run("mount", &["-t", "bpf", "bpf", path(&bpf)?])
}

/// Runs a short tool of the system; its own words are the error.
pub(crate) fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| format!("starting `{program}`"))?;
    ensure!(
        output.status.success(),
        "`{program} {}` failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("`{}` is not UTF-8", path.display()))
}
