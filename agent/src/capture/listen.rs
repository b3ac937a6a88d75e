//! The listeners to which the kernel side redirects.
//!
//! Owns making them in the calling thread's network namespace, or taking those that the service manager holds, and telling
//! the kernel side of the namespace. Only then are its flows redirected; before, they are refused.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen as start, setsockopt, socket, sockopt,
};

use super::error::CaptureError;
use super::object::Maps;
use crate::sys::{inherited, netns};

/// Connections that wait to be accepted, per listener; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

pub(super) fn listen(maps: &Maps, port: u16) -> Result<Vec<TcpListener>, CaptureError> {
    if netns::hands_out(port).map_err(CaptureError::Netns)? {
        return Err(CaptureError::EphemeralPort(port));
    }
    let mut listeners = handed_over(port);
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let address = SocketAddr::new(ip, port);
        if listeners.iter().any(|l| l.local_addr().is_ok_and(|there| there == address)) {
            continue;
        }
        match open(maps, address) {
            Ok(listener) => listeners.push(listener),
            // Without IPv6 there is nothing to listen on, and nobody can connect there either.
            Err(CaptureError::Listen { source, .. }) if ip.is_ipv6() && is_absent(&source) => {
                tracing::info!("no IPv6 loopback in this network namespace: listening on IPv4 only");
            }
            Err(e) => return Err(e),
        }
    }
    maps.set_listening(super::here()?)?;
    Ok(listeners)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

fn open(maps: &Maps, address: SocketAddr) -> Result<TcpListener, CaptureError> {
    let failed = |errno: nix::Error| CaptureError::Listen { address, source: errno.into() };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd: OwnedFd =
        socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None).map_err(failed)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(failed)?;
    maps.mark_ours(fd.as_fd())?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).map_err(failed)?;
    start(&fd, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN)).map_err(failed)?;
    Ok(TcpListener::from(fd))
}

/// Listeners from the service manager that are on our port of a loopback address. Others are closed.
fn handed_over(port: u16) -> Vec<TcpListener> {
    let mut fitting = Vec::new();
    for fd in inherited::take() {
        let listener = TcpListener::from(fd);
        match listener.local_addr() {
            Ok(address) if address.port() == port && address.ip().is_loopback() => {
                if listener.set_nonblocking(true).is_ok() {
                    fitting.push(listener);
                }
            }
            found => tracing::warn!(?found, "a socket from the service manager is not one of ours: closed"),
        }
    }
    fitting
}
