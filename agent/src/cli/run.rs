//! `tollgate run`: the caller's side.
//!
//! Sends the command to the daemon and stays as its stand-in: signals go on to it, its end becomes this process's end.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use nix::sys::signal::{Signal, raise};
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal as listen};

use crate::control::{Client, RunAnswer, RunRequest};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the session in lists and policies; the command's if not given.
    #[arg(long)]
    name: Option<String>,
    /// File with the OIDC token that says who the session acts for; read again whenever it changes.
    #[arg(long, conflicts_with = "identity_token_env")]
    identity_token_file: Option<PathBuf>,
    /// Variable with the OIDC token.
    #[arg(long, value_name = "VAR")]
    identity_token_env: Option<String>,
    /// The command and its arguments.
    #[arg(required = true, last = true)]
    command: Vec<std::ffi::OsString>,
}

/// Signals that are passed on.
const PASSED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

pub(super) async fn run(client: &Client, args: Args) -> anyhow::Result<ExitCode> {
    // This process stays outside of the tag, often as the command's own user, who must not be able to trace it and act
    // in its stead. The daemon may look at it all the same.
    nix::sys::prctl::set_dumpable(false).context("cannot keep others from tracing this process")?;
    let token = match &args.identity_token_env {
        Some(name) => Some(
            std::env::var(name)
                .with_context(|| format!("cannot read the token from variable `{name}`; check --identity-token-env"))?,
        ),
        None => None,
    };
    // Reading it means setting it.
    let mask = umask(Mode::empty());
    umask(mask);
    let request = RunRequest {
        argv: args.command,
        env: std::env::vars_os().collect(),
        cwd: std::env::current_dir().context("cannot tell the current directory")?,
        umask: mask.bits(),
        name: args.name,
        token_file: args.identity_token_file,
        token,
    };
    let mut answer = client.stream("/v1/run", &request).await?;
    let mut session = None;
    let mut line = Vec::new();
    let (signals, mut caught) = tokio::sync::mpsc::channel(16);
    for signal in PASSED {
        let mut stream = listen(SignalKind::from_raw(signal as i32))?;
        let signals = signals.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && signals.send(signal).await.is_ok() {} });
    }
    loop {
        tokio::select! {
            Some(signal) = caught.recv() => {
                if let Some(session) = &session {
                    // A command that has just ended has no need of it.
                    let _ = client.post(&format!("/v1/sessions/{session}/signal/{}", signal as i32), &()).await;
                }
            }
            frame = answer.frame() => match frame {
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref() else { continue };
                    line.extend_from_slice(data);
                    while let Some(end) = line.iter().position(|b| *b == b'\n') {
                        let one: Vec<u8> = line.drain(..=end).collect();
                        match serde_json::from_slice(&one).context("the daemon's answer is not understood; use the same version of both")? {
                            RunAnswer::Started { session: id } => session = Some(id),
                            RunAnswer::Exited { code } => return Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))),
                            RunAnswer::Signalled { signal } => return Ok(die_of(signal)),
                            RunAnswer::Revoked => anyhow::bail!("the session was revoked"),
                        }
                    }
                }
                _ => anyhow::bail!("the daemon went away while the command ran; its connections to AWS are refused until the daemon is back"),
            },
        }
    }
}

/// Ends this process as the command ended; 128 + signal if that cannot be done.
fn die_of(number: i32) -> ExitCode {
    if let Ok(which) = Signal::try_from(number)
        // SIGKILL's action cannot be set, and need not be.
        && (which == Signal::SIGKILL || crate::sys::process::default_signal(which).is_ok())
    {
        let _ = raise(which);
    }
    ExitCode::from(u8::try_from(128 + number).unwrap_or(255))
}
