//! `tollgate unpin`: takes away what the kernel side has pinned, for uninstalling or a change of version.
//!
//! Works without the daemon, and only without it: under a running one, its sessions would go free while it believes that
//! it governs them.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::capture;
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file, for `capture.bpffs` and the control socket.
    #[arg(long, default_value = "/etc/tollgate/tollgate.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "only root may take the pins away, because what they govern goes free; run this as root"
    );
    let config = Config::load(&args.config)?;
    println!("{}", unpin(&config.capture.bpffs, &config.control_socket())?);
    Ok(())
}

/// Gives what is to be said about it.
fn unpin(bpffs: &Path, socket: &Path) -> anyhow::Result<String> {
    match UnixStream::connect(socket) {
        // Whatever else goes wrong, somebody may be there.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
        Ok(_) => anyhow::bail!(
            "a daemon answers at `{}`, and its sessions would go free; stop it first (`systemctl stop tollgate`)",
            socket.display()
        ),
        Err(e) => {
            return Err(e).with_context(|| {
                format!("cannot tell whether a daemon answers at `{}`; nothing was unpinned", socket.display())
            });
        }
    }
    if !bpffs.try_exists().with_context(|| format!("cannot look at `{}`", bpffs.display()))? {
        return Ok(format!("there is nothing at `{}`: nothing was governed through it", bpffs.display()));
    }
    capture::unpin(bpffs)?;
    Ok(format!(
        "unpinned `{}`: what was tagged is no longer governed. Processes of earlier sessions that still run reach AWS, and \
         everything else, without Tollgate",
        bpffs.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn not_under_a_running_daemon_and_whole_without_one() {
        let dir = std::env::temp_dir().join(format!("tollgate-unpin-{:016x}", rand::random::<u64>()));
        let (bpffs, socket) = (dir.join("pins"), dir.join("control.sock"));
        let map = bpffs.join(format!("v{}/maps/FLOWS", tollgate_common::SCHEMA));
        std::fs::create_dir_all(map.parent().expect("it has one")).expect("made");
        std::fs::write(&map, "").expect("written");
        let daemon = UnixListener::bind(&socket).expect("listens");
        let why = unpin(&bpffs, &socket).expect_err("a daemon runs").to_string();
        assert!(why.contains("a daemon answers") && why.contains("stop it first"), "{why}");
        assert!(map.exists(), "nothing is taken from under a daemon");
        drop(daemon);
        let said = unpin(&bpffs, &socket).expect("nobody answers at the socket that was left");
        assert!(said.contains("no longer governed"), "{said}");
        assert!(!bpffs.exists());
        let again = unpin(&bpffs, &socket).expect("nothing to do");
        assert!(again.contains("there is nothing"), "{again}");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
