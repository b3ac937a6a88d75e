//! Asking the kernel about the socket at the other end of a local connection, through `NETLINK_SOCK_DIAG`.
//!
//! Answers for the network namespace of the thread that called [`SocketDiag::open`]. Needs `CONFIG_INET_DIAG`, which every
//! distribution has. Called from any task: the kernel answers within the call.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`: family, protocol, extensions, padding; states; the socket.
const REQUEST: usize = HEADER + 8 + SOCKET;
/// `struct inet_diag_sockid`.
const SOCKET: usize = 48;
/// Where the cookie lies in an answer: behind four bytes of `struct inet_diag_msg`, the ports, addresses and interface.
const COOKIE: usize = HEADER + 4 + 40;

/// A netlink socket. One question is asked at a time.
#[derive(Debug)]
pub struct SocketDiag {
    netlink: Mutex<OwnedFd>,
}

impl SocketDiag {
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
        Ok(Self { netlink: Mutex::new(netlink) })
    }

    /// The cookie of the TCP socket that is bound to `own` and connected to `other`; `None` if there is none.
    pub fn cookie(&self, own: SocketAddr, other: SocketAddr) -> io::Result<Option<u64>> {
        let request = request(own, other);
        // Every question gets its answer before the lock is let go, so that a panic leaves nothing behind.
        let netlink = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = netlink.as_raw_fd();
        send(fd, &request, MsgFlags::empty())?;
        // An answer with all its attributes is shorter; what does not fit is cut off, and is not looked at.
        let mut answer = [0; 1024];
        let length = recv(fd, &mut answer, MsgFlags::MSG_DONTWAIT)?;
        parse(&answer[..length])
    }
}

fn request(own: SocketAddr, other: SocketAddr) -> [u8; REQUEST] {
    let mut message = [0; REQUEST];
    message[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    let body = &mut message[HEADER..];
    body[0] = if own.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    body[1] = libc::IPPROTO_TCP as u8;
    // All states.
    body[4..8].fill(0xff);
    let id = &mut body[8..];
    id[0..2].copy_from_slice(&own.port().to_be_bytes());
    id[2..4].copy_from_slice(&other.port().to_be_bytes());
    put(&mut id[4..20], own.ip());
    put(&mut id[20..36], other.ip());
    // No interface, and no cookie that is expected.
    id[40..48].fill(0xff);
    message
}

fn put(place: &mut [u8], ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => place[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => place.copy_from_slice(&ip.octets()),
    }
}

fn parse(answer: &[u8]) -> io::Result<Option<u64>> {
    let kind = answer.get(4..6).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
    if i32::from(kind) == libc::NLMSG_ERROR {
        let errno = answer.get(HEADER..HEADER + 4).map_or(0, |b| -i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
        return if errno == libc::ENOENT { Ok(None) } else { Err(io::Error::from_raw_os_error(errno)) };
    }
    match answer.get(COOKIE..COOKIE + 8) {
        Some(bytes) if kind == BY_FAMILY => {
            // Two words, the lower one first.
            let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            Ok(Some(u64::from(word(0)) | u64::from(word(4)) << 32))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer of another kind than the question")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// `SO_COOKIE`, as the kernel tells the socket's owner.
    fn own_cookie(stream: &TcpStream) -> u64 {
        let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
        // SAFETY: the value is 8 writable bytes, as the length says, and both outlive the call.
        let ret = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_COOKIE,
                std::ptr::from_mut(&mut cookie).cast(),
                &mut length,
            )
        };
        assert_eq!(ret, 0);
        cookie
    }

    #[test]
    fn both_ends_of_a_connection_are_told_apart() {
        let diag = SocketDiag::open().expect("netlink");
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("loopback");
            let here = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
            let (there, peer) = listener.accept().expect("a connection");
            let local = there.local_addr().expect("connected");
            assert_eq!(diag.cookie(peer, local).expect("an answer"), Some(own_cookie(&here)));
            assert_eq!(diag.cookie(local, peer).expect("an answer"), Some(own_cookie(&there)));
            // A socket that is gone, at a port that nobody listens on either.
            drop((here, there, listener));
            let nobody = SocketAddr::new(peer.ip(), 1);
            assert_eq!(diag.cookie(nobody, local).expect("an answer"), None);
        }
    }
}
