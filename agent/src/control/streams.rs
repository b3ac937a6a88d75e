//! The standard streams that `tollgate run` hands over to its command.
//!
//! Owns which streams may go into a tag: files, terminals, pipes and unix sockets. A connection to the network, or to
//! the daemon itself, was made outside of the tag by somebody who may, and no hook looks at it again; it stays outside.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};

use super::Peer;
use crate::sys::process::pidfd_getfd;

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// Why the caller's streams are not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("cannot take over the caller's standard streams: {0}")]
    Take(#[from] io::Error),
    #[error("the {0} is a network socket, which a governed command could use without being seen; use a pipe or a file")]
    Network(&'static str),
    #[error("the {0} is a connection to the control socket, which no governed command may use; use a pipe or a file")]
    Control(&'static str),
}

/// The caller's standard streams, duplicated.
#[derive(Debug)]
pub(super) struct Streams(pub [OwnedFd; 3]);

impl Streams {
    pub fn of(peer: &Peer) -> Result<Self, StreamError> {
        let take = |n: i32, name: &'static str| {
            let stream = match pidfd_getfd(&*peer.process, n) {
                // A closed stream stays as good as closed.
                Err(e) if e.raw_os_error() == Some(nix::libc::EBADF) => {
                    std::fs::File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from)
                }
                other => other,
            }?;
            check(&stream, name)?;
            Ok::<_, StreamError>(stream)
        };
        Ok(Self([take(0, NAMES[0])?, take(1, NAMES[1])?, take(2, NAMES[2])?]))
    }
}

fn check(stream: &OwnedFd, name: &'static str) -> Result<(), StreamError> {
    match getsockname::<SockaddrStorage>(stream.as_raw_fd()) {
        Err(nix::Error::ENOTSOCK) => Ok(()),
        Ok(address) if address.family() == Some(AddressFamily::Unix) => {
            // Whoever connected sees here who listens: for the control socket, this process.
            let other = getsockopt(&stream.as_fd(), sockopt::PeerCredentials).map(|c| c.pid());
            if other == Ok(std::process::id().cast_signed()) { Err(StreamError::Control(name)) } else { Ok(()) }
        }
        // Also a family that nobody here knows.
        _ => Err(StreamError::Network(name)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn what_may_go_into_a_tag() {
        let dir = tempfile();
        let pipe = io::pipe().expect("a pipe");
        let listener = UnixListener::bind(&dir).expect("a socket");
        for (stream, expected) in [
            (OwnedFd::from(std::fs::File::open("/dev/null").expect("there")), None),
            (OwnedFd::from(pipe.0), None),
            (TcpListener::bind("127.0.0.1:0").expect("a socket").into(), Some("network")),
            (
                UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).expect("a socket").into(),
                Some("network"),
            ),
            (UnixStream::connect(&dir).expect("a listener").into(), Some("control socket")),
        ] {
            let found = check(&stream, NAMES[0]).err().map(|e| e.to_string());
            match expected {
                None => assert_eq!(found, None),
                Some(text) => assert!(found.as_ref().is_some_and(|f| f.contains(text)), "{found:?}"),
            }
        }
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let connected = TcpStream::connect(tcp.local_addr().expect("bound")).expect("a listener");
        assert!(check(&connected.into(), NAMES[2]).expect_err("refused").to_string().contains("standard error"));
        drop(listener);
        let _ = std::fs::remove_file(dir);
    }

    fn tempfile() -> std::path::PathBuf {
        std::env::temp_dir().join(format!("tollgate-streams-{}-{}", std::process::id(), rand::random::<u32>()))
    }
}
