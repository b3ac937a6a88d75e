//! Running other programs so that whoever waits sees what for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};

/// The repository.
pub fn root() -> PathBuf {
    // Invariant: the manifest of this crate lies one below the repository's root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo as it started us, in the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a step with its output in sight, and says how long it took.
pub fn step(what: &str, command: &mut Command) -> anyhow::Result<()> {
    println!("── {what}");
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {}", show(command)))?;
    ensure!(status.success(), "{what} failed ({status}): {}", show(command));
    println!("── {what}: done in {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

/// The command as one could type it.
fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
