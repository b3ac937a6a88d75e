//! The daemon: puts the rooms together, starts them, reloads them, and takes them down in order.
//!
//! Owns [`Core`], what the data path and the control socket share, and the life of the process.
//! The swappable parts change together on reload, or not at all.

mod sessions;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::approval::Approvals;
use crate::aws::sigv4::SigningKeys;
use crate::capture::Capture;
use crate::config::{Config, Mode};
use crate::credential::{Brokers, Placeholders, Sts};
use crate::gateway::{self, Memory, Upstreams};
use crate::identity::Verifier;
use crate::journal::{Event, Journal, Kind};
use crate::mask::{Masks, Master};
use crate::policy::PolicySet;
use crate::record::Store;
use crate::session::Registry;
use crate::tls::{Authority, Leaves};
use crate::{approval, aws, control, journal, metadata, sys};

pub use sessions::{Ask, OpenError, Processes};

/// What the data path and the control socket share.
#[derive(Debug)]
pub struct Core {
    pub config_path: PathBuf,
    pub config: ArcSwap<Config>,
    pub policy: ArcSwap<PolicySet>,
    pub masks: ArcSwap<Masks>,
    /// Tokens for hidden values live as long as the daemon.
    pub mask_keys: Master,
    pub brokers: ArcSwap<Brokers>,
    pub verifier: ArcSwap<Verifier>,
    pub upstreams: ArcSwap<Upstreams>,
    pub memory: Memory,
    pub capture: Arc<Capture>,
    pub sessions: Registry,
    pub placeholders: Placeholders,
    pub signing_keys: SigningKeys,
    pub metadata_tokens: metadata::Tokens,
    pub authority: Arc<Authority>,
    pub leaves: Leaves,
    pub store: Store,
    pub journal: Arc<Journal>,
    pub approvals: Approvals,
    /// Process group leaders of the commands that `tollgate run` started.
    pub leaders: control::Leaders,
}

/// What a reload replaces.
struct Swappable {
    config: Config,
    policy: PolicySet,
    masks: Masks,
    brokers: Brokers,
    verifier: Verifier,
    upstreams: Upstreams,
}

impl Swappable {
    /// Reads and checks everything; nothing has changed until all of it is good.
    fn load(path: &Path) -> anyhow::Result<Self> {
        let config = Config::load(path)?;
        let policy = load_policies(&config.policy)?;
        let masks = load_masks(&config, &policy)?;
        let verifier = Verifier::new(&config.identity)?;
        let upstreams = Upstreams::new(&config.gateway, &config.upstreams)?;
        let sts: Arc<dyn Sts> = Arc::new(upstreams.clone());
        let brokers = Brokers::new(&config.bindings, &sts)?;
        Ok(Self { config, policy, masks, brokers, verifier, upstreams })
    }
}

impl Core {
    fn start(path: &Path) -> anyhow::Result<Self> {
        let Swappable { config, policy, masks, brokers, verifier, upstreams } = Swappable::load(path)?;
        for dir in [&config.state_dir, &config.runtime_dir] {
            make_dir(dir)?;
        }
        let store = Store::open(&config.record_path(), config.record.durability)?;
        let journal = Arc::new(Journal::open(config.journal.to, store.clone())?);
        let key = approval::key(&config.state_dir).context("cannot use the key of approvals in `state_dir`")?;
        let approvals = Approvals::open(store.clone(), journal.clone(), key, config.approval.clone())?;
        let authority = Arc::new(Authority::open_or_create(&config.state_dir)?);
        let capture = Arc::new(Capture::start(&config.capture)?);
        Ok(Self {
            config_path: path.into(),
            memory: Memory::new(config.gateway.max_buffered_body),
            config: ArcSwap::from_pointee(config),
            policy: ArcSwap::from_pointee(policy),
            masks: ArcSwap::from_pointee(masks),
            mask_keys: Master::new(rand::random()),
            brokers: ArcSwap::from_pointee(brokers),
            verifier: ArcSwap::from_pointee(verifier),
            upstreams: ArcSwap::from_pointee(upstreams),
            capture,
            sessions: Registry::default(),
            placeholders: Placeholders::default(),
            signing_keys: SigningKeys::default(),
            metadata_tokens: metadata::Tokens::default(),
            leaves: Leaves::new(authority.clone()),
            authority,
            approvals,
            leaders: control::Leaders::default(),
            store,
            journal,
        })
    }

    /// Takes the files as they are now, or none of them. The text of the error is for the operator.
    fn reload(&self) -> anyhow::Result<()> {
        let new = Swappable::load(&self.config_path)?;
        let old = self.config.load();
        let fixed = [
            ("state_dir", old.state_dir != new.config.state_dir),
            ("runtime_dir", old.runtime_dir != new.config.runtime_dir),
            ("[capture]", old.capture != new.config.capture),
            ("[record]", old.record != new.config.record),
            ("[control]", old.control != new.config.control),
            ("[journal] to", old.journal.to != new.config.journal.to),
        ];
        if let Some((name, _)) = fixed.iter().find(|(_, changed)| *changed) {
            anyhow::bail!("`{name}` has changed and cannot be reloaded; restart the daemon, or put it back");
        }
        self.approvals.configure(new.config.approval.clone());
        self.policy.store(Arc::new(new.policy));
        self.masks.store(Arc::new(new.masks));
        self.brokers.store(Arc::new(new.brokers));
        self.verifier.store(Arc::new(new.verifier));
        self.upstreams.store(Arc::new(new.upstreams));
        self.config.store(Arc::new(new.config));
        Ok(())
    }

    /// What is not enforced, for the journal; empty if all is.
    fn lenience(&self) -> String {
        let (config, trial) = (self.config.load(), self.policy.load().on_trial());
        let mut said = Vec::new();
        if config.policy.mode == Mode::Observe {
            said.push("OBSERVE MODE: nothing that policies deny is blocked".to_owned());
        } else if !config.policy.observe.is_empty() {
            said.push("policies are ONLY OBSERVED for the sessions of `[[policy.observe]]`".to_owned());
        }
        if trial > 0 {
            said.push(format!("{trial} policies are ON TRIAL and do not bind"));
        }
        said.iter().map(|s| format!("; {s}")).collect()
    }

    /// Reloads, and tells the journal who asked and how it went.
    pub fn reload_and_tell(&self, asked: &str) -> anyhow::Result<()> {
        let result = self.reload();
        self.journal.emit(reloaded(asked, &result.as_ref().map(|()| self.lenience())));
        result
    }
}

/// What the journal has of a reload.
fn reloaded(asked: &str, result: &Result<String, &anyhow::Error>) -> Event {
    let reason = match result {
        Ok(lenience) => format!("configuration and policies reloaded ({asked}){lenience}"),
        Err(e) => format!("reload refused ({asked}), everything stays as it was: {e:#}"),
    };
    Event { kind: Kind::Daemon, reason: Some(reason), ..Event::default() }
}

/// Checks all that a start or a reload checks, and changes nothing.
pub fn check(path: &Path) -> anyhow::Result<(Config, PolicySet)> {
    let Swappable { config, policy, .. } = Swappable::load(path)?;
    Ok((config, policy))
}

/// Runs the daemon until it is told to stop.
pub fn run(config: &Path) -> anyhow::Result<()> {
    sys::limits::no_core().context("cannot keep this process's memory out of core files")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        journal::init_tracing(Config::load(config)?.journal.to)?;
        let core = Arc::new(Core::start(config)?);
        serve(core).await
    })
}

/// Half of the processors: the other half is for those whose requests they are. Threads that share one processor with
/// them would cost each request a fifth more, in switches.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2))
}

async fn serve(core: Arc<Core>) -> anyhow::Result<()> {
    let config = core.config.load_full();
    core.end_orphans().await.context("cannot end the sessions that an earlier daemon left open")?;
    let control = control::listen(&config.control_socket(), config.control.group.as_deref())?;
    let listeners = core
        .capture
        .listen()?
        .into_iter()
        .map(TcpListener::from_std)
        .collect::<Result<Vec<_>, _>>()
        .context("cannot use the proxy's listeners")?;
    let (stop, stopping) = watch::channel(false);
    let (mut hangup, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    tokio::spawn(control::serve(control, core.clone(), stopping.clone()));
    tokio::spawn(tell_bypasses(core.clone()));
    tokio::spawn(core.approvals.clone().keep_time());
    let gateway = tokio::spawn(gateway::serve(core.clone(), listeners, stopping, config.gateway.drain_timeout));
    sys::memory::give_back();
    let watchdog = control::notify::ready();
    core.journal.emit(Event {
        kind: Kind::Daemon,
        reason: Some(format!(
            "ready; tagged connections to ports {:?} come to port {}{}",
            config.capture.ports,
            config.capture.port,
            core.lenience()
        )),
        ..Event::default()
    });

    loop {
        tokio::select! {
            _ = hangup.recv() => {
                control::notify::reloading();
                // It has been told; whoever sent the signal reads the journal.
                let _ = core.reload_and_tell("SIGHUP");
                control::notify::reloaded();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = watchdog.tick() => {}
        }
    }
    control::notify::stopping();
    core.journal.emit(Event { kind: Kind::Daemon, reason: Some("stopping".into()), ..Event::default() });
    core.approvals.stop();
    // Nobody listens for `false`; the receivers live in the tasks above.
    let _ = stop.send(true);
    let _ = gateway.await;
    core.store.flush().await;
    Ok(())
}

/// Reads the policies of a directory, validated against the model; all that is wrong with them in one error.
fn load_policies(config: &crate::config::Policy) -> anyhow::Result<PolicySet> {
    let trial = config.trial_dir.as_deref();
    PolicySet::load_both(&config.dir, trial, config.mode, aws::model::catalog()).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the policies are not valid:\n{}", lines.join("\n"))
    })
}

/// Reads the rules of masks; all that is wrong with them, and with what policies ask of them, in one error.
fn load_masks(config: &Config, policy: &PolicySet) -> anyhow::Result<Masks> {
    let (file, must) = config.mask_file();
    let masks = Masks::load(&file, must, config.mask.sensitive, config.mask.except.clone());
    let masks = masks.map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the masks are not valid:\n{}", lines.join("\n"))
    })?;
    let unknown = policy.masks().filter_map(|(name, file, line)| {
        let near = masks.profile(name).err()?;
        let advice = near.map_or_else(
            || format!("a table `[profile.{name}]` in `masks.toml` makes one"),
            |near| format!("did you mean `{near}`?"),
        );
        Some(format!("{file}:{line}: there is no mask profile `{name}`; {advice}"))
    });
    let lines: Vec<String> = unknown.collect();
    anyhow::ensure!(lines.is_empty(), "the policies are not valid:\n{}", lines.join("\n"));
    Ok(masks)
}

/// What the kernel side refused becomes events.
async fn tell_bypasses(core: Arc<Core>) {
    let Some(mut attempts) = core.capture.bypasses() else { return };
    while let Some(attempt) = attempts.recv().await {
        let session = attempt.tag.and_then(|t| core.sessions.by_tag(t));
        let principal = session.as_ref().map(|s| s.principal());
        core.journal.emit(Event {
            kind: Kind::Bypass,
            session: session.map(|s| s.id.to_string()),
            subject: principal.as_ref().map(|p| p.subject.clone()),
            issuer: principal.and_then(|p| p.issuer.clone()),
            reason: Some(format!("{} refused in the kernel, {} time(s)", attempt.kind.name(), attempt.count)),
            exe: Some(attempt.comm),
            pid: Some(attempt.pid),
            destination: attempt.destination.map(|d| d.to_string()),
            ..Event::default()
        });
    }
}

/// Makes a directory that others may pass but not list.
fn make_dir(dir: &Path) -> anyhow::Result<()> {
    match std::fs::DirBuilder::new().recursive(true).mode(0o711).create(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot make `{}`; check its parent's permissions", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_is_told_with_who_asked_whether_it_was_taken_or_not() {
        let good = reloaded("by user 0", &Ok(String::new()));
        assert_eq!(good.reason.as_deref(), Some("configuration and policies reloaded (by user 0)"));
        let bad = reloaded("SIGHUP", &Err(&anyhow::anyhow!("inner").context("outer")));
        assert_eq!((bad.kind, good.kind), (Kind::Daemon, Kind::Daemon));
        assert_eq!(bad.reason.as_deref(), Some("reload refused (SIGHUP), everything stays as it was: outer: inner"));
    }
}
