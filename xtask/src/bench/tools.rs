//! The neighbours: finding or installing nginx and mitmproxy, and saying their versions.
//!
//! Owns `.tools/nginx` and `.tools/mitmproxy`. Never starts a service and changes nothing else on the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::contender::Kind;
use super::{Places, run_command, say};

/// nginx of the system if there is one, else the private one.
pub fn nginx(root: &Path) -> PathBuf {
    let system = Path::new("/usr/sbin/nginx");
    if system.exists() { system.into() } else { root.join(".tools/nginx/usr/sbin/nginx") }
}

pub fn mitmdump(root: &Path) -> PathBuf {
    root.join(".tools/mitmproxy/bin/mitmdump")
}

/// Unpacks Debian's package without installing it, so that no service starts.
pub fn install_nginx(root: &Path) -> anyhow::Result<()> {
    if nginx(root).exists() {
        return Ok(());
    }
    say("fetching Debian's nginx into .tools/nginx");
    let dir = root.join(".tools/nginx");
    std::fs::create_dir_all(&dir)?;
    run_command(Command::new("apt-get").current_dir(&dir).args(["download", "nginx"]))
        .context("cannot fetch nginx; `apt-get update` may help")?;
    let package = std::fs::read_dir(&dir)?
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.extension().is_some_and(|e| e == "deb"))
        .context("apt-get left no package")?;
    run_command(Command::new("dpkg-deb").arg("-x").arg(package).arg(&dir))
}

/// A private Python environment with the newest mitmproxy that the newest Python here runs.
pub fn install_mitmproxy(root: &Path) -> anyhow::Result<()> {
    // One whose Python has gone is there and does not run.
    let runs = Command::new(mitmdump(root)).arg("--version").output();
    if runs.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let (python, version) = newest_python()?;
    if version < (3, 12) {
        say(&format!(
            "no Python from 3.12 on was found, so an older mitmproxy runs on Python {}.{}",
            version.0, version.1
        ));
    }
    say(&format!("installing mitmproxy into .tools/mitmproxy, with `{}`", python.display()));
    let dir = root.join(".tools/mitmproxy");
    run_command(Command::new(python).args(["-m", "venv", "--clear"]).arg(&dir))?;
    run_command(Command::new(dir.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "mitmproxy",
    ]))
}

fn newest_python() -> anyhow::Result<(PathBuf, (u32, u32))> {
    let mut candidates: Vec<PathBuf> =
        ["python3.14", "python3.13", "python3.12", "python3.11", "python3"].map(PathBuf::from).to_vec();
    let versions = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv/versions"));
    if let Some(entries) = versions.and_then(|dir| std::fs::read_dir(dir).ok()) {
        candidates.extend(entries.flatten().map(|e| e.path().join("bin/python3")));
    }
    let mut found: Vec<_> = candidates.into_iter().filter_map(|p| Some((python_version(&p)?, p))).collect();
    found.sort();
    match found.pop() {
        Some((version, python)) => Ok((python, version)),
        None => bail!("no Python 3 was found; install one, or leave mitmproxy out with `--only`"),
    }
}

fn python_version(python: &Path) -> Option<(u32, u32)> {
    let output = Command::new(python)
        .args(["-c", "import sys, venv, ssl; print(sys.version_info[0], sys.version_info[1])"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// One line for each contender, and one for the machine.
pub fn versions(places: &Places, kinds: &[Kind]) -> Vec<String> {
    let first_line = |program: &Path, arg: &str| {
        let output = Command::new(program).arg(arg).output().ok()?;
        let all = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&all).lines().next().map(str::to_owned)
    };
    let mut lines = Vec::new();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows the minor version names a builder, not the kernel's behaviour.
    let kernel = kernel.trim().splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    lines.push(format!("{cores} × {}, Linux {kernel}", model.unwrap_or("unknown CPU".into())));
    for kind in kinds {
        match kind {
            Kind::Nginx => {
                lines.extend(first_line(&places.nginx, "-v").map(|l| l.replace("nginx version: nginx/", "nginx ")))
            }
            Kind::Mitmproxy => {
                let python = first_line(&places.mitmdump.with_file_name("python"), "--version").unwrap_or_default();
                lines.extend(
                    first_line(&places.mitmdump, "--version")
                        .map(|l| format!("{} on {python}", l.replace("Mitmproxy:", "mitmproxy"))),
                );
            }
            Kind::Tollgate => lines.extend(first_line(&places.tollgate, "--version")),
            Kind::Direct => {}
        }
    }
    lines
}
