//! Opening and closing sessions: what they are bound to, in the order that leaves no gap.
//!
//! Owns the order: the token is verified first, then the cgroup tagged, then the session recorded, then registered.
//! Until the last step its connections find no session and are refused.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Core;
use crate::capture::CaptureError;
use crate::gateway;
use crate::identity::{self, IdentityError, Principal, TokenSource};
use crate::journal::{Event, Kind};
use crate::record::{PrincipalRow, Reader, RecordError, SessionRow};
use crate::session::{NewSession, Session, SessionId, State};
use crate::sys;

/// How long a placeholder lives; it is replaced after half of that, so the SDKs never see a gap.
const PLACEHOLDER_LIFE: Duration = Duration::from_secs(6 * 3600);

/// How long killed processes may take to be gone.
const PROCESSES_END: Duration = Duration::from_secs(5);

/// What becomes of the processes of a session that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Processes {
    /// Its command is told, as by a terminal that goes away; what is left a while later is killed.
    #[default]
    HangUp,
    /// At once.
    Kill,
    /// They stay where they are, to be looked at.
    Freeze,
}

/// What a session is asked for with.
#[derive(Debug)]
pub struct Ask {
    pub id: SessionId,
    pub name: String,
    pub uid: u32,
    /// Made by the launcher, still empty.
    pub cgroup: PathBuf,
    /// Command line, secrets taken out.
    pub command: Vec<String>,
    /// `None`: the session is unidentified.
    pub token: Option<TokenSource>,
}

/// Why a session did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the identity token was not taken: {0}")]
    Identity(#[from] IdentityError),
    #[error("the session's cgroup cannot be governed: {0}")]
    Capture(#[from] CaptureError),
    #[error("the session cannot be recorded, so it is not started: {0}")]
    Record(#[from] RecordError),
}

impl Core {
    /// Opens a session on a cgroup that nothing runs in yet.
    pub async fn open_session(self: &Arc<Self>, ask: Ask) -> Result<Arc<Session>, OpenError> {
        let principal = match &ask.token {
            Some(source) => {
                let verified = async {
                    let token = source.read().await?;
                    self.verifier.load_full().verify(token.expose()).await
                };
                verified.await.inspect_err(|e| {
                    self.tell_identity(&ask.id, None, format!("token refused: {e}"));
                })?
            }
            None => Principal::unidentified(),
        };
        let now = SystemTime::now();
        // Attaching takes milliseconds in the kernel; the data path's threads have better to do.
        let tag = tokio::task::block_in_place(|| self.capture.tag(&ask.cgroup))?;
        let row = SessionRow {
            id: ask.id.clone(),
            name: ask.name.clone(),
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            uid: ask.uid,
            cgroup: ask.cgroup.display().to_string(),
            command: ask.command.clone(),
            started: now,
        };
        if let Err(e) = self.store.open_session(row).await {
            let _ = tokio::task::block_in_place(|| self.capture.release(tag));
            return Err(e.into());
        }
        self.placeholders.mint(&ask.id, PLACEHOLDER_LIFE, now);
        let new =
            NewSession { id: ask.id, name: ask.name, tag, uid: ask.uid, cgroup: ask.cgroup, command: ask.command };
        self.record_principal(&new.id, &principal, now);
        let session = self.sessions.open(new, principal, now);
        self.tell_session(&session, Kind::SessionOpened, None);
        if let Some(why) = gateway::observed(self, &session.name, &session.principal()) {
            let reason = format!("NOT ENFORCED ({why}): what policies deny in this session is told, and let through");
            self.tell_session(&session, Kind::Observed, Some(reason));
        }
        if let Some(source) = ask.token {
            self.follow_token(&session, source);
        }
        tokio::spawn(keep_placeholder_fresh(self.clone(), session.clone()));
        Ok(session)
    }

    /// Ends a session: its connections are cut, its placeholders die, its processes with them, and last its tag goes.
    /// `false` if it was not open.
    pub async fn end_session(&self, id: &SessionId) -> bool {
        self.close_session(id, State::Ended, Processes::Kill, None).await
    }

    /// Revokes a session, in somebody's name. Placeholders and connections are dead at once, and what it asked of people
    /// with them; then its processes.
    pub async fn revoke_session(&self, id: &SessionId, processes: Processes, who: &str, why: &str) -> bool {
        self.close_session(id, State::Revoked, processes, Some((who, why))).await
    }

    async fn close_session(
        &self,
        id: &SessionId,
        to: State,
        processes: Processes,
        revoked: Option<(&str, &str)>,
    ) -> bool {
        if processes == Processes::Freeze {
            // Before it is over: whoever follows it must not take it down.
            self.sessions.by_id(id).iter().for_each(|session| session.freeze());
        }
        let Some(session) = self.sessions.close(id, to) else { return false };
        self.placeholders.revoke(id);
        self.brokers.load().forget(id);
        let stopped = self.stop_processes(&session, processes);
        let recorded = async {
            self.approvals.session_over(id, revoked.map(|(who, _)| who)).await;
            if let Err(e) = self.store.end_session(id.clone(), to.as_str(), SystemTime::now()).await {
                tracing::error!("the end of session {id} could not be recorded: {e}");
            }
        };
        let (left, ()) = tokio::join!(stopped, recorded);
        let reason = match revoked {
            Some((who, "")) => format!("revoked by {who}; {left}"),
            Some((who, why)) => format!("revoked by {who}: {why}; {left}"),
            None => to.as_str().to_owned(),
        };
        self.tell_session(&session, Kind::SessionEnded, Some(reason));
        true
    }

    /// What has become of a closed session's processes, in words.
    async fn stop_processes(&self, session: &Session, processes: Processes) -> &'static str {
        let cgroup = session.cgroup.clone();
        let stopping = tokio::task::spawn_blocking(move || match processes {
            Processes::HangUp => Ok(()),
            Processes::Kill => sys::cgroup::end(&cgroup, PROCESSES_END),
            Processes::Freeze => sys::cgroup::freeze(&cgroup, PROCESSES_END),
        });
        match (stopping.await.map_err(std::io::Error::other).and_then(|stopped| stopped), processes) {
            (Ok(()), Processes::Kill) => {
                self.untag(session);
                "its processes were killed"
            }
            (Ok(()), Processes::Freeze) => "its processes are stopped, and stay",
            (Ok(()), Processes::HangUp) => "its processes are hung up, and killed if they do not end",
            (Err(e), Processes::Freeze) => {
                tracing::warn!("the processes of session {} could not be stopped: {e}", session.id);
                "its processes could not all be stopped"
            }
            (Err(e), _) => {
                tracing::warn!("the tag of session {} stays until the daemon starts anew: {e}", session.id);
                "some of its processes do not die"
            }
        }
    }

    /// Takes away the tag of a session that has no processes any more: one that outlived it might be governed by nobody.
    pub fn untag(&self, session: &Session) {
        match tokio::task::block_in_place(|| self.capture.untag(session.tag)) {
            Ok(()) | Err(CaptureError::UnknownTag(_)) => {}
            Err(e) => tracing::warn!("the tag of session {} could not be taken away: {e}", session.id),
        }
    }

    /// Kills what a revoked session has left stopped. `false`: there is nothing of it.
    pub async fn kill_frozen(&self, id: &SessionId) -> bool {
        let config = self.config.load();
        let cgroup = self.capture.cgroup_mount().join(&config.capture.slice).join(id.as_str());
        if !cgroup.is_dir() {
            return false;
        }
        let ended = tokio::task::spawn_blocking(move || {
            let ended = sys::cgroup::end(&cgroup, PROCESSES_END);
            // Whoever follows it may be quicker.
            let _ = sys::cgroup::remove(&cgroup, Duration::ZERO);
            ended
        });
        matches!(ended.await, Ok(Ok(())))
    }

    /// Ends the sessions that an earlier daemon left open: it died, or was restarted, while they ran. What they left
    /// running has no session any more, so it is refused; its cgroup goes when it is empty.
    pub async fn end_orphans(&self) -> Result<(), RecordError> {
        let path = self.store.path().to_owned();
        // Before anything is served: nobody waits for this thread.
        let open = Reader::open(&path)?.sessions(Some(State::Open.as_str()), u32::MAX)?;
        let config = self.config.load();
        for orphan in open {
            let Some(id) = SessionId::parse(&orphan.id) else { continue };
            self.approvals.session_over(&id, None).await;
            self.store.end_session(id.clone(), State::Ended.as_str(), SystemTime::now()).await?;
            let cgroup = self.capture.cgroup_mount().join(&config.capture.slice).join(id.as_str());
            let empty = sys::cgroup::remove(&cgroup, Duration::ZERO).is_ok();
            if empty {
                let _ = std::fs::remove_dir_all(config.runtime_dir.join("sessions").join(id.as_str()));
            }
            let left = if empty { "" } else { "; what it left running is refused" };
            self.journal.emit(Event {
                kind: Kind::SessionEnded,
                session: Some(orphan.id),
                subject: Some(orphan.subject),
                issuer: orphan.issuer,
                reason: Some(format!("its daemon ended before it did{left}")),
                ..Event::default()
            });
        }
        Ok(())
    }

    /// Renewals of the token reach the next request; a bad renewal leaves the principal as it was, until its own end.
    fn follow_token(self: &Arc<Self>, session: &Arc<Session>, source: TokenSource) {
        let (for_verifier, core, bound) = (self.clone(), self.clone(), Arc::downgrade(session));
        let watch = identity::spawn_watch(
            source,
            move || for_verifier.verifier.load_full(),
            move |outcome| {
                let Some(session) = bound.upgrade() else { return };
                let before = session.principal();
                match outcome {
                    Ok(principal) if principal.issuer != before.issuer || principal.subject != before.subject => {
                        let to = principal.subject.clone();
                        core.tell_identity(
                            &session.id,
                            Some(&before),
                            format!(
                                "the renewed token names `{to}`; a session keeps its principal, so it was not taken"
                            ),
                        );
                    }
                    Ok(principal) if *before != principal => {
                        core.tell_identity(&session.id, Some(&principal), "token renewed".into());
                        core.record_principal(&session.id, &principal, SystemTime::now());
                        session.bind(principal);
                    }
                    Ok(_) => {}
                    Err(e) => core.tell_identity(&session.id, Some(&before), format!("token refused: {e}")),
                }
            },
        );
        let session = session.clone();
        tokio::spawn(async move {
            session.closed().await;
            watch.abort();
        });
    }

    /// Writes down what policies see of who a session acts for from now on, so that what they decide can be explained.
    pub fn record_principal(&self, session: &SessionId, principal: &Principal, at: SystemTime) {
        if !principal.is_identified() {
            return;
        }
        self.store.principal(PrincipalRow {
            session: session.clone(),
            at,
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            // Texts and maps of JSON always serialise.
            groups: serde_json::to_string(&principal.groups).unwrap_or_default(),
            claims: serde_json::to_string(&principal.claims).unwrap_or_default(),
        });
    }

    fn tell_session(&self, session: &Session, kind: Kind, reason: Option<String>) {
        let principal = session.principal();
        self.journal.emit(Event {
            kind,
            session: Some(session.id.to_string()),
            subject: Some(principal.subject.clone()),
            issuer: principal.issuer.clone(),
            reason: Some(reason.unwrap_or_else(|| session.command.join(" "))),
            ..Event::default()
        });
    }

    fn tell_identity(&self, session: &SessionId, principal: Option<&Principal>, reason: String) {
        self.journal.emit(Event {
            kind: Kind::Identity,
            session: Some(session.to_string()),
            subject: principal.map(|p| p.subject.clone()),
            issuer: principal.and_then(|p| p.issuer.clone()),
            reason: Some(reason),
            ..Event::default()
        });
    }
}

async fn keep_placeholder_fresh(core: Arc<Core>, session: Arc<Session>) {
    loop {
        tokio::select! {
            _ = session.closed() => return,
            () = tokio::time::sleep(PLACEHOLDER_LIFE / 2) => {}
        }
        core.placeholders.mint(&session.id, PLACEHOLDER_LIFE, SystemTime::now());
    }
}
