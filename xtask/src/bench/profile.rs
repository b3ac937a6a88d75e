//! Where Tollgate's time goes: samples of the daemon under small requests, sorted into kinds of work and into rooms.
//!
//! Owns the sorting. Uses `perf` with a timer, since many virtual machines count no cycles; without `perf` there is no
//! profile and the rest of the run stands.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::client::{self, Small};
use super::contender::Contender;
use super::say;

const SECONDS: &str = "4";
const CONNECTIONS: &str = "16";

/// Shares of all samples, the largest first.
#[derive(Debug)]
pub struct Profile {
    pub samples: usize,
    /// By the innermost function: what the processor did.
    pub work: Vec<(String, f64)>,
    /// By the innermost function of Tollgate on the stack: for whom it did it.
    pub rooms: Vec<(String, f64)>,
}

/// Samples the contender under load; `None` where `perf` is not there.
pub fn of(contender: &Contender, work: &Path) -> anyhow::Result<Option<Profile>> {
    if !Command::new("perf")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
    {
        say("no `perf` here, so no profile (Debian: linux-perf)");
        return Ok(None);
    }
    say("profile of small requests");
    let pids: Vec<_> = contender.pids().iter().map(ToString::to_string).collect();
    let data = work.join("perf.data");
    let mut perf = Command::new("perf")
        .args([
            "record",
            "--quiet",
            "--event",
            "cpu-clock",
            "--freq",
            "399",
            "--call-graph",
            "dwarf,16384",
            "--pid",
            &pids.join(","),
            "--output",
        ])
        .arg(&data)
        .args(["--", "sleep", SECONDS])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    client::report::<Small>(contender.client(&["small"]).args(["--connections", CONNECTIONS, "--seconds", SECONDS]))?;
    perf.wait()?;
    let output = Command::new("perf")
        .args(["script", "--no-inline", "--fields", "ip,sym,dso", "--input"])
        .arg(&data)
        .stderr(Stdio::null())
        .output()
        .context("cannot read the samples")?;
    ensure!(output.status.success(), "`perf script` ended with {}", output.status);
    let _ = std::fs::remove_file(data);
    Ok(Some(sorted(&String::from_utf8_lossy(&output.stdout))))
}

fn sorted(script: &str) -> Profile {
    let (mut work, mut rooms) = (BTreeMap::<&str, usize>::new(), BTreeMap::<String, usize>::new());
    let mut samples = 0;
    for stack in script.split("\n\n") {
        let frames: Vec<_> = stack.lines().filter_map(frame).collect();
        if frames.is_empty() {
            continue;
        }
        samples += 1;
        *work.entry(kind(&frames)).or_default() += 1;
        *rooms.entry(room(&frames)).or_default() += 1;
    }
    let shares = |counts: Vec<(String, usize)>| {
        let mut shares: Vec<_> = counts.into_iter().map(|(name, n)| (name, n as f64 / samples.max(1) as f64)).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares
    };
    Profile {
        samples,
        work: shares(work.into_iter().map(|(k, n)| (k.to_owned(), n)).collect()),
        rooms: shares(rooms.into_iter().collect()),
    }
}

/// Symbol and object of a line such as `    7f12 hyper::proto::h1::Conn::poll+0x10 (/usr/bin/tollgate)`.
fn frame(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.trim().split_once(' ')?;
    let (symbol, object) = rest.trim().rsplit_once(" (")?;
    Some((symbol, object.trim_end_matches(')')))
}

/// What the processor did: the innermost frame, and for the kernel the system call around it.
fn kind(frames: &[(&str, &str)]) -> &'static str {
    let (symbol, object) = frames[0];
    if is_kernel(object) {
        let kernel: Vec<_> = frames.iter().take_while(|f| is_kernel(f.1)).map(|f| f.0).collect();
        let within = |names: &[&str]| kernel.iter().any(|s| names.iter().any(|n| s.contains(n)));
        return if within(&["fsync", "fdatasync", "vfs_write", "vfs_read", "pwrite", "pread", "ext4", "jbd2"])
            && !within(&["sock_"])
        {
            "kernel: files"
        } else if within(&["sock_", "tcp_", "inet_"]) {
            "kernel: network"
        } else if within(&["epoll"]) {
            "kernel: epoll"
        } else if within(&["futex"]) {
            "kernel: futex"
        } else if within(&["fault", "mmap", "munmap", "madvise", "brk"]) {
            "kernel: memory"
        } else if within(&["schedule", "idle"]) {
            "kernel: scheduling"
        } else {
            "kernel: other"
        };
    }
    if object.contains("vdso") {
        return "clock";
    }
    if object.contains("libc") {
        return if ["malloc", "free", "calloc", "realloc", "arena", "unlink_chunk"].iter().any(|n| symbol.contains(n)) {
            "allocator"
        } else {
            "libc: copying and comparing"
        };
    }
    if symbol.trim_start_matches('_').starts_with("mi_") {
        return "allocator";
    }
    // Its C and assembly functions have names of every kind, but a wrapper with the library's name is near.
    if !symbol.contains("::") && frames.iter().take(8).any(|f| f.0.contains("aws_lc")) {
        return "cryptography (aws-lc)";
    }
    let by_name: [(&[&str], &str); 14] = [
        (&["aws_lc"], "cryptography (aws-lc)"),
        (&["sha2::", "hmac::"], "cryptography (sha2)"),
        (&["rustls", "webpki"], "rustls"),
        (&["hyper", "http::", "httparse", "h2::", "http_body"], "hyper, http"),
        (&["tokio", "mio::"], "tokio"),
        (&["sqlite", "rusqlite"], "SQLite"),
        (&["cedar", "lalrpop"], "Cedar"),
        (&["serde", "quick_xml"], "parsing (serde, XML)"),
        (&["aws_sigv4", "aws_smithy", "aws_credential"], "aws-sigv4"),
        (&["zstd", "ZSTD", "HUF_", "FSE_"], "zstd"),
        (&["tollgate::"], "Tollgate's own code"),
        (&["alloc::", "core::", "std::", "hashbrown", "<str", "<T"], "standard library"),
        (&["time::", "chrono"], "clock"),
        (&["tracing"], "tracing"),
    ];
    let name = symbol.trim_start_matches(['<', '_', '&']);
    by_name
        .iter()
        .find(|(starts, _)| starts.iter().any(|s| name.starts_with(s) || symbol.starts_with(s)))
        .map_or("other", |(_, kind)| kind)
}

fn is_kernel(object: &str) -> bool {
    object.starts_with("[kernel") || object.starts_with("[guest.kernel") || object.contains("bpf_prog")
}

/// The room that is nearest to what the processor did; the gateway's own loop and the libraries it drives where there is none.
fn room(frames: &[(&str, &str)]) -> String {
    let found = frames.iter().find_map(|(symbol, _)| {
        let name = symbol.trim_start_matches(['<', '&']);
        let rest = name.strip_prefix("tollgate::")?;
        let mut parts =
            rest.split("::").map(|p| p.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or(""));
        let (first, second) = (parts.next()?, parts.next().unwrap_or(""));
        let module = second.chars().next().is_some_and(|c| c.is_ascii_lowercase()) && second.len() > 1;
        Some(if module { format!("{first}::{second}") } else { first.to_owned() })
    });
    if let Some(room) = found {
        return room;
    }
    let library = |names: &[&str]| frames.iter().any(|(symbol, _)| names.iter().any(|n| symbol.contains(n)));
    String::from(if library(&["sqlite", "rusqlite"]) {
        "(SQLite, no room on the stack)"
    } else if library(&["rustls"]) {
        "(TLS, no room on the stack)"
    } else if library(&["hyper"]) {
        "(HTTP, no room on the stack)"
    } else {
        "(runtime)"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_sorted_by_work_and_by_room() {
        let script = "\
            ffffffff81 tcp_sendmsg ([kernel.kallsyms])\n ffffffff82 sock_write_iter ([kernel.kallsyms])\n 55d0 tollgate::gateway::upstream::Pool::send (/x/tollgate)\n\n\
            55d1 aws_lc_0_38_0_aes_gcm_enc (/x/tollgate)\n 55d2 rustls::conn::write (/x/tollgate)\n 55d3 hyper::proto::h1::poll (/x/tollgate)\n\n\
            55d4 _int_malloc (/lib/libc.so.6)\n 55d5 <tollgate::policy::Decision as Clone>::clone (/x/tollgate)\n";
        let profile = sorted(script);
        assert_eq!(profile.samples, 3);
        let names =
            |shares: &[(String, f64)]| shares.iter().map(|(n, _)| n.clone()).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(
            names(&profile.work),
            ["allocator", "cryptography (aws-lc)", "kernel: network"].map(String::from).into()
        );
        assert_eq!(
            names(&profile.rooms),
            ["gateway::upstream", "policy", "(TLS, no room on the stack)"].map(String::from).into()
        );
    }
}
