//! Where binaries, tools and client scripts come from, and where agents find them.
//!
//! Agents are `nobody`, who may not pass the directories above the project, so everything is bound, read-only, below
//! the host's own directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Host, Output};

/// `PATH` of everything that is not an agent.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A binary of this workspace, from the directory that the running test was built into.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test binary");
    let target = test.ancestors().nth(2).expect("target/…/deps/test");
    let path = std::env::var_os("TOLLGATE_BIN_DIR").map_or_else(|| target.to_owned(), PathBuf::from).join(name);
    assert!(
        path.exists(),
        "`{}` is missing; run `cargo build --workspace --exclude tollgate-ebpf`, or name its directory in TOLLGATE_BIN_DIR",
        path.display()
    );
    path
}

/// Where `cargo xtask tools` puts what the tests need.
pub fn tools() -> PathBuf {
    let tools = project().join(".tools");
    fs::canonicalize(&tools).unwrap_or_else(|e| panic!("`{}`: {e}; run `cargo xtask tools`", tools.display()))
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Puts binaries, tools and scripts into the host's directory.
pub(super) fn furnish(host: &Host) {
    refuse_stale();
    let bin = host.dir.join("bin");
    let clients = host.dir.join("clients");
    for dir in [&bin, &clients, &clients.join("js"), &clients.join("signing")] {
        fs::create_dir(dir).expect("a directory");
    }
    for name in ["tollgate", "tollgate-rust-client"] {
        bind(host, &binary(name), &bin.join(name));
    }
    bind(host, &find("node"), &bin.join("node"));
    let tools = tools();
    bind(host, &tools.join("clients"), &clients.join("venv"));
    bind(host, &tools.join("js/node_modules"), &clients.join("js/node_modules"));
    bind(host, &tools.join("cli2"), &clients.join("cli2"));
    bind(host, &tools.join("java"), &clients.join("java"));
    for name in ["go-client", "rclone"] {
        bind(host, &tools.join("go").join(name), &bin.join(name));
    }
    // Its packages have a curve that the clients' do not.
    bind(host, &tools.join("moto/lib"), &clients.join("moto"));
    bind(host, &tools.join("signing/node_modules"), &clients.join("signing/node_modules"));
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    for (from, to) in [
        ("js/client.mjs", "js/client.mjs"),
        ("js/denied.mjs", "js/denied.mjs"),
        ("js/mask.mjs", "js/mask.mjs"),
        ("signing/client.mjs", "signing/client.mjs"),
        ("python/denied.py", "denied.py"),
        ("python/client.py", "client.py"),
        ("python/probe.py", "probe.py"),
        ("cli/client.sh", "client.sh"),
        ("curl/client.sh", "curl.sh"),
        ("rclone/client.sh", "rclone.sh"),
    ] {
        fs::copy(scripts.join(from), clients.join(to)).unwrap_or_else(|e| panic!("`{from}`: {e}"));
    }
    // An environment of Python finds itself by the path that it was started with, so links would not do.
    let venv = clients.join("venv/bin");
    script(&bin.join("python3"), &format!("exec {0}/python3 \"$@\"", venv.display()));
    script(&bin.join("aws2"), &format!("exec {}/cli2/aws \"$@\"", clients.display()));
    // One program that starts, does little and ends: what makes it quick, not what makes it trust.
    let java = "exec /usr/bin/java -XX:TieredStopAtLevel=1 -XX:-UsePerfData -cp";
    script(&bin.join("java-client"), &format!("{java} '{0}/java:{0}/java/jars/*' Client \"$@\"", clients.display()));
    script(&bin.join("aws"), &format!("exec {0}/python3 {0}/aws \"$@\"", venv.display()));
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn bind(host: &Host, from: &Path, to: &Path) {
    if from.is_dir() { fs::create_dir(to) } else { fs::write(to, "") }.expect("a mount point");
    let (from, to) = (from.to_str().expect("UTF-8"), to.to_str().expect("UTF-8"));
    let bound: Output = host.root(&["mount", "--bind", "-o", "ro", from, to]);
    bound.ok();
}

fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| p.is_file());
    let found = found.unwrap_or_else(|| panic!("`{program}` is not on PATH; run `cargo xtask tools`"));
    // A version manager's stand-in is a script that works for its own user only.
    let real = Command::new(&found).args(["-p", "process.execPath"]).output().expect("node runs");
    PathBuf::from(String::from_utf8_lossy(&real.stdout).trim())
}

/// `cargo test` builds the tests, but not the daemon that they test.
fn refuse_stale() {
    let built = modified(&binary("tollgate"));
    let mut folders = vec![project().join("agent/src"), project().join("common/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources").map(|e| e.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::env::var_os("TOLLGATE_BIN_DIR").is_none() {
                assert!(
                    modified(&path) <= built,
                    "`{}` is newer than the daemon; run `cargo build --workspace --exclude tollgate-ebpf`",
                    path.display()
                );
            }
        }
    }
}

fn modified(path: &Path) -> std::time::SystemTime {
    fs::metadata(path).and_then(|m| m.modified()).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()))
}
