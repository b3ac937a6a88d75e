//! The end of a bed: whatever still runs in its namespaces is killed, and what it left on the machine goes.
//!
//! Also when the test that started it was killed, so that no daemon, agent, cgroup or file stays behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of the cgroup, below the cgroup mount, that a bed's daemon makes its sessions in.
pub fn slice(dir: &Path) -> String {
    format!("{}.slice", dir.file_name().unwrap_or_default().to_string_lossy())
}

/// Kills, unmounts and removes; keeps the files if `TOLLGATE_TEST_KEEP` is set.
pub fn take_down(dir: &Path) -> anyhow::Result<()> {
    kill_neighbours()?;
    for mount in cgroup_mounts()? {
        remove_tree(&mount.join(slice(dir)));
    }
    if std::env::var_os("TOLLGATE_TEST_KEEP").is_some() {
        return Ok(());
    }
    for mount in mounts_below(dir)?.iter().rev() {
        super::run("umount", &["--lazy", super::path(mount)?])?;
    }
    // The tools and binaries of the project were bound there: never reach through.
    ensure!(mounts_below(dir)?.is_empty(), "something is still mounted below `{}`, so it stays", dir.display());
    fs::remove_dir_all(dir).with_context(|| format!("removing `{}`", dir.display()))
}

/// Everything else in this network namespace, agents and their daemon alike.
fn kill_neighbours() -> anyhow::Result<()> {
    let mine = fs::read_link("/proc/self/ns/net").context("reading this process's namespace")?;
    let end = Instant::now() + PATIENCE;
    loop {
        let others: Vec<i32> = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id().cast_signed())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|net| net == mine))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "these processes do not die: {others:?}");
        for pid in others {
            // It may have gone by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn remove_tree(cgroup: &Path) {
    let Ok(entries) = fs::read_dir(cgroup) else { return };
    for entry in entries.flatten().filter(|e| e.path().is_dir()) {
        remove_tree(&entry.path());
    }
    let end = Instant::now() + PATIENCE;
    // Busy until the kernel has let go of what was killed.
    while cgroup.exists() && fs::remove_dir(cgroup).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn cgroup_mounts() -> anyhow::Result<BTreeSet<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .collect())
}

fn mounts_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(dir))
        .collect())
}
