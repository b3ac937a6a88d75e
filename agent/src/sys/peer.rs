//! What `/proc` says of a process that asks us something.

use std::io;

/// Supplementary groups of a process.
pub fn groups(pid: u32) -> io::Result<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("Groups:")).unwrap_or_default();
    Ok(line.split_whitespace().filter_map(|g| g.parse().ok()).collect())
}
