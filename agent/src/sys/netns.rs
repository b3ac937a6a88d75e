//! Network namespaces: which one this thread is in, and which ports its kernel hands out.
//!
//! Never opens a connection. Called from any thread; answers for the calling thread.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Not in libc yet: `asm-generic/socket.h`, kernel 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the calling thread's network namespace; never reused while the machine is up.
pub fn cookie() -> io::Result<u64> {
    let probe: OwnedFd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the value is 8 writable bytes, as the length says, and both outlive the call.
    let ret = unsafe {
        libc::getsockopt(
            probe.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &mut length,
        )
    };
    if ret != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// Whether the kernel may give `port` to a socket that asked for none.
pub fn hands_out(port: u16) -> io::Result<bool> {
    // Of the thread that asks: `/proc/sys/net` follows its namespace.
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let reserved = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let range = parse_range(&range).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(range.contains(&port) && !is_reserved(&reserved, port))
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace();
    Some(numbers.next()?.parse().ok()?..=numbers.next()?.parse().ok()?)
}

/// The list is of ports and `from-to` ranges, with commas between.
fn is_reserved(list: &str, port: u16) -> bool {
    list.trim().split(',').any(|item| match item.split_once('-') {
        Some((from, to)) => matches!((from.parse(), to.parse()), (Ok(from), Ok(to)) if (from..=to).contains(&port)),
        None => item.parse() == Ok(port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_reservations() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_range("1"), None);
        assert!(is_reserved("15001\n", 15001));
        assert!(is_reserved("1,100-200,300", 150));
        assert!(!is_reserved("1,100-200,300", 201));
        assert!(!is_reserved("\n", 0));
    }

    #[test]
    fn a_namespace_has_one_cookie() {
        assert_eq!(cookie().expect("SO_NETNS_COOKIE"), cookie().expect("SO_NETNS_COOKIE"));
    }
}
