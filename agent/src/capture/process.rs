//! Who a process is, from `/proc`.
//!
//! Best effort: the process may be gone, or have become another program since it connected.

use std::io;
use std::path::PathBuf;

/// Most bytes of a command line that are read.
const MAX_ARGUMENTS: usize = 64 << 10;

/// A process's executable and arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// As the kernel shows it; ends in ` (deleted)` if the file is gone.
    pub exe: PathBuf,
    /// Arguments, lossily decoded; may hold secrets.
    pub argv: Vec<String>,
}

/// Reads `/proc/<pid>`. `NotFound` if the process is gone.
pub fn process(pid: u32) -> io::Result<Process> {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    let mut line = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/cmdline"))?;
    io::Read::read_to_end(&mut io::Read::take(file, MAX_ARGUMENTS as u64), &mut line)?;
    Ok(Process { exe, argv: split(&line) })
}

fn split(line: &[u8]) -> Vec<String> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_an_executable() {
        let me = process(std::process::id()).expect("/proc");
        assert_eq!(me.exe, std::env::current_exe().expect("an executable"));
        assert!(!me.argv.is_empty());
    }

    #[test]
    fn empty_arguments_stay() {
        assert_eq!(split(b"aws\0\0s3\0"), ["aws", "", "s3"]);
        assert!(split(b"").is_empty());
    }
}
