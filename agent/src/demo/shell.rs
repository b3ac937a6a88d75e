//! The agent: a plain shell, started in a session or outside of any, that is given one command after the other.
//!
//! It starts with an empty environment but for `PATH` and `HOME`: whatever its commands find, they find by
//! themselves. Runs on the thread that calls it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::DemoError;
use super::stage::PATH;

/// Ends the output of each command.
const MARK: &str = "@@tollgate-demo@@";

/// A shell that waits for commands.
#[derive(Debug)]
pub(super) struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a command did.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub status: i32,
    /// Both its outputs.
    pub output: String,
}

impl Shell {
    /// Starts `launcher`, which must end in running a shell on its own input.
    pub(super) fn start(mut launcher: Command, home: &Path) -> Result<Self, DemoError> {
        let name = format!("{:?}", launcher.get_program());
        let mut process = launcher
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", home)
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| DemoError::Start { command: name.clone(), source })?;
        let missing = || DemoError::Shell(format!("{name} has no pipes"));
        let input = process.stdin.take().ok_or_else(missing)?;
        let output = BufReader::new(process.stdout.take().ok_or_else(missing)?);
        Ok(Self { process, input, output })
    }

    /// Runs one command to its end.
    pub(super) fn run(&mut self, command: &str) -> Result<Outcome, DemoError> {
        let broken = |e: std::io::Error| DemoError::Shell(e.to_string());
        writeln!(self.input, "{{ {command}\n}} </dev/null 2>&1; status=$?; echo; echo \"{MARK} $status\"")
            .map_err(broken)?;
        self.input.flush().map_err(broken)?;
        let mut output = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).map_err(broken)? == 0 {
                return Err(DemoError::Shell(format!("it said: {}", output.trim())));
            }
            if let Some(status) = line.strip_prefix(MARK) {
                let status = status.trim().parse().unwrap_or(-1);
                return Ok(Outcome { status, output: output.trim().to_owned() });
            }
            output.push_str(&line);
        }
    }

    /// Has the shell read definitions.
    pub(super) fn define(&mut self, script: &str) -> Result<(), DemoError> {
        writeln!(self.input, "{script}").map_err(|e| DemoError::Shell(e.to_string()))
    }

    /// Lets the shell end, and waits for it.
    pub(super) fn end(self) -> Result<(), DemoError> {
        let Self { mut process, input, output } = self;
        drop((input, output));
        process.wait().map(drop).map_err(|e| DemoError::Shell(e.to_string()))
    }
}
