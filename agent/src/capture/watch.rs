//! The thread that reads what the kernel side says, and sweeps.
//!
//! Owns both ring buffers: log messages go to `tracing`, refusals to the channel of [`super::Capture::bypasses`]. Ends when
//! its [`Watch`] is dropped. Never blocks the kernel side: when nobody reads, the newest are dropped.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;
use tollgate_common::{FlowKey, SocketCookie};

use super::bypass::Bypass;
use super::object::sweep_flows;
use crate::sys::bpf;

/// A connection that was not accepted for so long never will be.
const FLOW_AGE: Duration = Duration::from_secs(300);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Time in which refusals that are alike become one event.
const GATHER: Duration = Duration::from_secs(1);
/// Refusals that wait for their reader.
const CHANNEL: usize = 1024;

/// Ends the thread when dropped.
#[derive(Debug)]
pub(super) struct Watch {
    _stop: io::PipeWriter,
}

/// What the thread works on.
pub(super) struct Sources {
    pub events: RingBuf<MapData>,
    pub logger: EbpfLogger<Tracing>,
    /// The tables of flows: by address, and by the socket's cookie.
    pub flows: OwnedFd,
    pub foreign: OwnedFd,
    /// The table of sticky tags, where the kernel side cannot tell the end of a process, and its ids mean something here.
    pub sticky: Option<OwnedFd>,
}

pub(super) fn start(sources: Sources) -> io::Result<(Watch, mpsc::Receiver<Bypass>)> {
    let (stopped, stop) = io::pipe()?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    std::thread::Builder::new().name("capture".into()).spawn(move || run(sources, &stopped, &sender))?;
    Ok((Watch { _stop: stop }, receiver))
}

/// Nanoseconds since boot, as the kernel side counts them.
pub(super) fn boot_time() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

fn run(mut sources: Sources, stopped: &io::PipeReader, sender: &mpsc::Sender<Bypass>) {
    let mut gathered: Vec<(Instant, Bypass)> = Vec::new();
    let mut sweep_at = Instant::now() + SWEEP_EVERY;
    loop {
        let now = Instant::now();
        let wake = gathered.first().map_or(sweep_at, |(since, _)| sweep_at.min(*since + GATHER));
        let wait = wake.saturating_duration_since(now).as_millis() as u16;
        let mut fds = [
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
            PollFd::new(sources.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(sources.logger.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::from(wait.saturating_add(1))) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => {
                tracing::error!(error = %e, "reports of the kernel side can no longer be read; refusals go on unseen");
                return;
            }
        }
        if fds[0].any() == Some(true) {
            return;
        }
        sources.logger.flush();
        while let Some(item) = sources.events.next() {
            if let Some(bypass) = parse(&item) {
                gather(&mut gathered, bypass, sender);
            }
        }
        let now = Instant::now();
        gathered.retain(|(since, bypass)| {
            let over = now.duration_since(*since) >= GATHER;
            if over && bypass.count > 1 {
                send(sender, Bypass { count: bypass.count - 1, ..bypass.clone() });
            }
            !over
        });
        if now >= sweep_at {
            sweep(&sources);
            sweep_at = now + SWEEP_EVERY;
        }
    }
}

fn parse(item: &[u8]) -> Option<Bypass> {
    bpf::from_bytes::<tollgate_common::Bypass>(item).as_ref().and_then(Bypass::from_kernel)
}

/// Hands the first of a kind on at once, and counts those that follow within [`GATHER`].
fn gather(gathered: &mut Vec<(Instant, Bypass)>, bypass: Bypass, sender: &mpsc::Sender<Bypass>) {
    /// Kinds that are counted at a time; more are handed on singly.
    const MOST: usize = 256;
    if let Some((_, first)) = gathered.iter_mut().find(|(_, first)| first.alike(&bypass)) {
        first.count = first.count.saturating_add(1);
        return;
    }
    if gathered.len() < MOST {
        gathered.push((Instant::now(), bypass.clone()));
    }
    send(sender, bypass);
}

fn send(sender: &mpsc::Sender<Bypass>, bypass: Bypass) {
    if let Err(mpsc::error::TrySendError::Full(lost)) = sender.try_send(bypass) {
        tracing::warn!(kind = lost.kind.name(), pid = lost.pid, "too many refusals at once: one is not recorded");
    }
}

fn sweep(sources: &Sources) {
    let (now, age) = (boot_time(), FLOW_AGE.as_nanos() as u64);
    let swept = sweep_flows::<FlowKey>(sources.flows.as_fd(), now, age)
        .and_then(|n| Ok(n + sweep_flows::<SocketCookie>(sources.foreign.as_fd(), now, age)?));
    match swept {
        Ok(0) => {}
        Ok(swept) => tracing::debug!(swept, "flows that were never accepted"),
        Err(e) => tracing::warn!(error = %e, "cannot sweep the table of flows"),
    }
    if let Some(sticky) = &sources.sticky
        && let Err(e) = sweep_sticky(sticky)
    {
        tracing::warn!(error = %e, "cannot sweep the table of processes");
    }
}

/// Removes processes that are gone. Young entries stay: their process may be just about to appear.
fn sweep_sticky(sticky: &OwnedFd) -> io::Result<()> {
    const YOUNG: u64 = 60_000_000_000;
    let now = boot_time();
    for pid in bpf::map_keys::<u32>(sticky.as_fd(), 1 << 17)? {
        let entry: Option<tollgate_common::Sticky> = bpf::map_get(sticky.as_fd(), &pid)?;
        let old = entry.is_some_and(|entry| now.saturating_sub(entry.since) > YOUNG);
        if old && !std::fs::exists(format!("/proc/{pid}"))? {
            bpf::map_remove(sticky.as_fd(), &pid)?;
        }
    }
    Ok(())
}

/// Hands the kernel side's messages to `tracing`.
#[derive(Debug)]
pub(super) struct Tracing;

impl log::Log for Tracing {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }
    fn log(&self, record: &log::Record<'_>) {
        match record.level() {
            log::Level::Error => tracing::error!(target: "tollgate::ebpf", "{}", record.args()),
            log::Level::Warn => tracing::warn!(target: "tollgate::ebpf", "{}", record.args()),
            _ => tracing::info!(target: "tollgate::ebpf", "{}", record.args()),
        }
    }
    fn flush(&self) {}
}
