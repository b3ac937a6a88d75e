//! Where a session's token comes from, and noticing that it has been renewed.
//!
//! Owns the reading of token files. The daemon is root and the path is the caller's, so a file is opened **as the
//! caller**, on a thread of its own with the caller's rights. Anything that is not a plain file is refused after opening.
//! A token given as text is kept as it is and never changes.
//!
//! Never puts a token into a message, and never reads with more rights than the caller has.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::token::MAX_TOKEN;
use super::{IdentityError, Principal, Verifier};
use crate::credential::Secret;
use crate::sys::rights::{self, Rights};

/// How often a token file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long one reading may take; a file system can hang.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// First pause before a token is tried again that the provider kept us from verifying; it doubles up to a minute.
const RETRY: Duration = Duration::from_secs(2);

/// Where a session's token comes from.
#[derive(Debug, Clone)]
pub struct TokenSource(Kind);

#[derive(Debug, Clone)]
enum Kind {
    File { path: PathBuf, caller: Rights },
    Value(Secret),
}

impl TokenSource {
    /// A file, read with the rights of `caller`; the path must be absolute.
    pub fn file(path: impl Into<PathBuf>, caller: Rights) -> Result<Self, IdentityError> {
        let path = path.into();
        if !path.is_absolute() {
            return Err(failed(&path, "the path is not absolute; give the whole path"));
        }
        Ok(Self(Kind::File { path, caller }))
    }

    /// A token that does not change, such as the value of a variable at the session's start.
    pub fn value(token: Secret) -> Self {
        Self(Kind::Value(token))
    }

    /// The token as it is now, unverified.
    pub async fn read(&self) -> Result<Secret, IdentityError> {
        let (path, caller) = match &self.0 {
            Kind::Value(token) => return Ok(token.clone()),
            Kind::File { path, caller } => (path, caller),
        };
        let (answer, result) = oneshot::channel();
        let wanted = path.clone();
        let reading = caller.thread("token-read", move |taken| {
            // Nobody waits any more: nothing is lost.
            let _ = answer.send(read_file(&wanted, taken));
        });
        reading.map_err(|e| failed(path, e))?;
        match tokio::time::timeout(READ_TIMEOUT, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(failed(path, "the reading thread ended")),
            Err(_) => Err(failed(path, "reading takes too long; keep it on a local file system")),
        }
    }
}

/// Verifies the source's token now and whenever it changes, and gives each outcome to `on`: once at the start, then
/// once per change. A token that could not be verified for reasons that pass is tried again. An error does not undo
/// the principal before it: that one counts until its own end. Abort the handle to stop.
///
/// `verifier` is asked for each verification, so that a reloaded configuration takes effect.
pub fn spawn_watch(
    source: TokenSource,
    verifier: impl Fn() -> Arc<Verifier> + Send + 'static,
    on: impl Fn(Result<Principal, IdentityError>) + Send + Sync + 'static,
) -> JoinHandle<()> {
    let (changes, seen) = mpsc::channel(1);
    let started = match source.0 {
        // The sender goes away after the one value, but retries of it do not need it.
        Kind::Value(token) => changes.try_send(Ok(token)).map_err(|e| failed(Path::new("-"), e)),
        Kind::File { path, caller } => look_for_changes(path, &caller, changes),
    };
    tokio::spawn(async move {
        match started {
            Ok(()) => follow(seen, verifier, on).await,
            Err(e) => on(Err(e)),
        }
    })
}

/// Verifies each token that arrives; the newest counts, also while an older one is being retried.
async fn follow(
    mut seen: mpsc::Receiver<Result<Secret, IdentityError>>,
    verifier: impl Fn() -> Arc<Verifier>,
    on: impl Fn(Result<Principal, IdentityError>),
) {
    let mut next = seen.recv().await;
    while let Some(token) = next.take() {
        let mut pause = RETRY;
        let mut told = None;
        loop {
            let outcome = match &token {
                Ok(token) => verifier().verify(token.expose()).await,
                Err(e) => Err(e.clone()),
            };
            // The reading thread reports a failed file once and watches on, so only verification is retried.
            let again = token.is_ok() && matches!(&outcome, Err(e) if e.is_transient());
            if told.as_ref() != outcome.as_ref().err() || told.is_none() {
                told = outcome.as_ref().err().cloned();
                on(outcome);
            }
            if !again {
                next = seen.recv().await;
                break;
            }
            tokio::select! {
                Some(newer) = seen.recv() => {
                    next = Some(newer);
                    break;
                }
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(60)),
            }
        }
    }
}

/// A thread that sends what the file holds, at once and whenever that changes, until nobody listens.
fn look_for_changes(
    path: PathBuf,
    caller: &Rights,
    changes: mpsc::Sender<Result<Secret, IdentityError>>,
) -> Result<(), IdentityError> {
    let place = path.clone();
    let watching = caller.thread("token-watch", move |taken| {
        if taken.is_err() {
            let _ = changes.blocking_send(read_file(&path, taken));
            return;
        }
        let mut last = None;
        while !changes.is_closed() {
            // The content is compared, not the time: two writes may share one.
            let now = read_file(&path, Ok(()));
            if last.as_ref() != Some(&now) {
                if changes.blocking_send(now.clone()).is_err() {
                    return;
                }
                last = Some(now);
            }
            std::thread::sleep(LOOK);
        }
    });
    watching.map(drop).map_err(|e| failed(&place, e))
}

/// Reads with the rights of this thread, if they could be `taken`.
fn read_file(path: &Path, taken: io::Result<()>) -> Result<Secret, IdentityError> {
    // A pipe must not keep us waiting; it is refused below.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = taken.and_then(|()| rights::open(path, flags)).map_err(|e| failed(path, e))?;
    let mut file = File::from(opened);
    check(&file).map_err(|why| failed(path, why))?;
    let mut text = String::new();
    Read::by_ref(&mut file).take(MAX_TOKEN as u64 + 64).read_to_string(&mut text).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => failed(path, "it is not text; give a file that holds one token"),
        _ => failed(path, e),
    })?;
    Ok(Secret::new(text))
}

/// Whether the opened file is one that a token may be in.
fn check(file: &File) -> Result<(), String> {
    if !file.metadata().map_err(|e| e.to_string())?.is_file() {
        return Err("it is not a regular file".into());
    }
    // `/proc/self` means the daemon here, whoever named it.
    let system = fstatfs(file).map_err(|e| e.to_string())?.filesystem_type();
    if system == PROC_SUPER_MAGIC || system == SYSFS_MAGIC {
        return Err("it is a file of the kernel".into());
    }
    Ok(())
}

fn failed(path: &Path, why: impl ToString) -> IdentityError {
    IdentityError::File { path: path.into(), message: why.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::Mutex;

    use nix::unistd::{Gid, Uid};

    use super::super::testing::{Directory, Issuer};
    use super::*;

    fn me() -> Rights {
        Rights { uid: Uid::effective().as_raw(), gid: Gid::effective().as_raw(), groups: Vec::new() }
    }

    async fn problem(path: &Path, caller: Rights) -> String {
        TokenSource::file(path, caller).unwrap().read().await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn reads_a_file_and_a_link_to_it() {
        let dir = Directory::new();
        let (file, link) = (dir.path().join("token"), dir.path().join("link"));
        std::fs::write(&file, "a.b.c\n").unwrap();
        symlink(&file, &link).unwrap();
        for path in [file, link] {
            assert_eq!(TokenSource::file(path, me()).unwrap().read().await.unwrap().expose(), "a.b.c\n");
        }
        assert_eq!(TokenSource::value(Secret::new("x")).read().await.unwrap().expose(), "x");
    }

    #[tokio::test]
    async fn refuses_what_is_no_token_file() {
        let dir = Directory::new();
        assert!(TokenSource::file("token", me()).unwrap_err().to_string().contains("not absolute"));
        assert!(problem(&dir.path().join("none"), me()).await.contains("No such file"));
        assert!(problem(dir.path(), me()).await.contains("not a regular file"));
        assert!(problem(Path::new("/proc/self/environ"), me()).await.contains("a file of the kernel"));
        assert!(problem(Path::new("/dev/zero"), me()).await.contains("not a regular file"));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(problem(&pipe, me()).await.contains("not a regular file"));
        let binary = dir.path().join("binary");
        std::fs::write(&binary, [0xff, 0xfe]).unwrap();
        assert!(problem(&binary, me()).await.contains("it is not text"));
        let endless = dir.path().join("long");
        std::fs::write(&endless, "x".repeat(MAX_TOKEN * 4)).unwrap();
        let token = TokenSource::file(&endless, me()).unwrap().read().await.unwrap();
        assert!(super::super::token::Draft::parse(token.expose()).unwrap_err().to_string().contains("more than"));
    }

    /// The rights checked here are of another user; only root can take them. Elsewhere the same attempt must fail.
    #[tokio::test]
    async fn reads_with_the_rights_of_the_caller() {
        let dir = Directory::new();
        let nobody = || Rights { uid: 65534, gid: 65534, groups: vec![65534] };
        let open = dir.path().join("open");
        std::fs::write(&open, "open").unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
        if !Uid::effective().is_root() {
            assert!(problem(&open, nobody()).await.contains("cannot take the caller's rights"));
            return;
        }
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(TokenSource::file(&open, nobody()).unwrap().read().await.unwrap().expose(), "open");

        let closed = dir.path().join("closed");
        std::fs::write(&closed, "closed").unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(problem(&closed, nobody()).await.contains("denied"));
        let link = dir.path().join("link");
        symlink(&closed, &link).unwrap();
        assert!(problem(&link, nobody()).await.contains("denied"));

        // A readable file in a directory that the caller cannot enter.
        let private = dir.path().join("private");
        std::fs::create_dir(&private).unwrap();
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(private.join("token"), "x").unwrap();
        assert!(problem(&private.join("token"), nobody()).await.contains("denied"));
        // Afterwards the daemon's own rights are as before.
        assert!(std::fs::read(&closed).is_ok());
    }

    #[tokio::test]
    async fn a_changed_file_gives_a_new_principal() {
        let issuer = Issuer::start().await;
        let verifier = Arc::new(issuer.verifier());
        let dir = Directory::new();
        let path = dir.path().join("token");
        std::fs::write(&path, issuer.token("first")).unwrap();
        let outcomes: Arc<Mutex<Vec<Result<Principal, IdentityError>>>> = Arc::default();
        let heard = outcomes.clone();
        let source = TokenSource::file(&path, me()).unwrap();
        let watch = spawn_watch(source, move || verifier.clone(), move |o| heard.lock().unwrap().push(o));
        let until = |count: usize| {
            let outcomes = outcomes.clone();
            async move {
                for _ in 0..1000 {
                    if outcomes.lock().unwrap().len() >= count {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                panic!("no outcome {count}: {:?}", outcomes.lock().unwrap());
            }
        };
        until(1).await;
        let renewed = dir.path().join("renewed");
        std::fs::write(&renewed, issuer.token("other")).unwrap();
        std::fs::rename(&renewed, &path).unwrap();
        until(2).await;
        std::fs::write(&path, "junk").unwrap();
        until(3).await;
        watch.abort();
        let outcomes = outcomes.lock().unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap().subject, "first");
        assert_eq!(outcomes[1].as_ref().unwrap().subject, "other");
        assert!(matches!(outcomes[2], Err(IdentityError::Malformed(_))));
    }
}
