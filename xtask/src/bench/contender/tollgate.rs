//! Tollgate as a contender: its configuration, its policy, and a client inside a governed session.
//!
//! Owns a bpffs of the run's own, so that nothing stays in the kernel behind it. Everything is on: capture, verification of
//! the placeholder's signature, policy, record with its default durability, re-signing.

use std::path::Path;
use std::process::Command;

use super::{Contender, HELD_KEY, HELD_SECRET, Kind, UPSTREAM, Upstream};
use crate::bench::process::{Ready, Server};
use crate::bench::{Places, run_command};

/// Where the client believes to connect to; only capture makes it arrive.
const CAPTURED: &str = "198.51.100.10:443";
/// What a governed client reads its roots from.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Several policies of the kinds that people write, so that a decision is a decision.
const POLICY: &str = r#"
@id("bench-read-table")
permit (principal, action in [AWS::Action::"dynamodb:GetItem", AWS::Action::"dynamodb:Query"], resource);

@id("bench-no-deletes")
@reason("tables of the benchmark are not deleted")
forbid (principal, action == AWS::Action::"dynamodb:DeleteTable", resource);

@id("bench-objects")
permit (principal, action in [AWS::Action::"s3:GetObject", AWS::Action::"s3:PutObject"], resource);

@id("bench-no-bucket-changes")
forbid (principal, action in [AWS::Action::"s3:DeleteBucket", AWS::Action::"s3:PutBucketPolicy"], resource);
"#;

pub(super) fn start(places: &Places, upstream: &Upstream) -> anyhow::Result<Contender> {
    let dir = places.work.join("tollgate");
    let policies = dir.join("policies");
    let bpffs = bpffs(places);
    for path in [&policies, &bpffs] {
        std::fs::create_dir_all(path)?;
    }
    run_command(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpffs))?;
    std::fs::write(policies.join("bench.cedar"), POLICY)?;
    let secret = dir.join("secret");
    write_private(&secret, HELD_SECRET)?;
    let config = dir.join("tollgate.toml");
    let socket = dir.join("run/control.sock");
    // An earlier start's is no sign that this one is ready.
    let _ = std::fs::remove_file(&socket);
    let text = format!(
        "state_dir = \"{here}/state\"\nruntime_dir = \"{here}/run\"\n\
         [capture]\nbpffs = \"{bpffs}\"\nslice = \"tollgate-bench.slice\"\n\
         [policy]\ndir = \"{policies}\"\n\
         [journal]\nto = \"stderr\"\n\
         [[binding]]\nbroker = {{ kind = \"static\", access_key_id = \"{HELD_KEY}\", secret_access_key_file = \"{secret}\", account = \"111122223333\" }}\n\
         [[upstream]]\nhost = \"*.amazonaws.com\"\naddress = \"{UPSTREAM}\"\nextra_root = \"{certs}/ca.pem\"\n",
        here = dir.display(),
        bpffs = bpffs.join("pins").display(),
        policies = policies.display(),
        secret = secret.display(),
        certs = upstream.certs.display(),
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(&places.tollgate);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["daemon", "--config"]).arg(&config);
    let mut server = Server::start("tollgate", &mut command, places.work.join("tollgate.log"))?;
    server.wait_for(&Ready::Exists(&socket))?;
    let client = [
        &places.tollgate.display().to_string(),
        "run",
        "--socket",
        &socket.display().to_string(),
        "--",
        &places.load.display().to_string(),
    ];
    Ok(Contender {
        kind: Kind::Tollgate,
        server: Some(server),
        to: CAPTURED.parse()?,
        ca: SYSTEM_BUNDLE.into(),
        client: client.map(String::from).to_vec(),
        credentials: "imds",
    })
}

/// Unmounts the run's bpffs, and with it every link that the daemon pinned.
pub(super) fn unpin(places: &Places) -> anyhow::Result<()> {
    run_command(Command::new("umount").arg(bpffs(places)))
}

fn bpffs(places: &Places) -> std::path::PathBuf {
    places.work.join("tollgate/bpf")
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
