//! What becomes of a connection, a datagram, or a socket of a tagged process.
//!
//! Owns the rules and nothing else: pure functions of an address and the configuration, tested on the host.

use crate::{Address, NetPort};

/// Most destination ports that can be redirected.
pub const MAX_PORTS: usize = 16;

const HTTPS: NetPort = NetPort::from_host(443);

/// What the daemon tells the kernel side; the one element of the `CONFIG` map.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// [`crate::SCHEMA`] of whoever wrote it; 0 while nobody has.
    pub schema: u32,
    /// The listeners' port.
    pub proxy: NetPort,
    /// How many of `ports` count.
    pub count: u16,
    /// Destination TCP ports that are redirected.
    pub ports: [NetPort; MAX_PORTS],
    /// Bit n: some tag is n levels below the cgroup root. Spares everybody else the look-ups.
    pub levels: u32,
    /// Number of the next tag, so that none is used twice while pins live.
    pub next_tag: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Other,
}

/// What becomes of a `connect` or a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// To the listener of the socket's namespace.
    Redirect,
    /// To the listener itself, without a redirection: refused unless a hook before this one rewrote it.
    Proxy,
    /// UDP to 443, or to a metadata address: refused, so that clients fall back to TCP.
    RefuseUdp,
    RefuseProtocol,
}

impl Config {
    pub const EMPTY: Self = Self {
        schema: 0,
        proxy: NetPort::from_host(0),
        count: 0,
        ports: [NetPort::from_host(0); MAX_PORTS],
        levels: 0,
        next_tag: 1,
    };

    /// What becomes of a tagged process's connection or datagram to `to`.
    #[inline(always)]
    pub fn judge(&self, protocol: Protocol, to: &Address, port: NetPort) -> Verdict {
        match protocol {
            Protocol::Tcp if to.is_local() => {
                if port.net() == self.proxy.net() {
                    Verdict::Proxy
                } else {
                    Verdict::Pass
                }
            }
            Protocol::Tcp if to.is_metadata() || self.redirects(port) => Verdict::Redirect,
            Protocol::Tcp => Verdict::Pass,
            Protocol::Udp if to.is_local() => Verdict::Pass,
            Protocol::Udp if to.is_metadata() || port.net() == HTTPS.net() => Verdict::RefuseUdp,
            Protocol::Udp => Verdict::Pass,
            Protocol::Other => Verdict::RefuseProtocol,
        }
    }

    /// Whether `port` is one of the redirected ports.
    #[inline(always)]
    pub fn redirects(&self, port: NetPort) -> bool {
        let mut i = 0;
        while i < MAX_PORTS {
            if i < self.count as usize && self.ports[i].net() == port.net() {
                return true;
            }
            i += 1;
        }
        false
    }

    /// Whether a socket bound to `at` could receive what is redirected.
    #[inline(always)]
    pub fn shadows_listener(&self, protocol: Protocol, at: &Address, port: NetPort) -> bool {
        matches!(protocol, Protocol::Tcp) && port.net() == self.proxy.net() && at.is_local()
    }
}

/// `SOCK_STREAM`, `SOCK_DGRAM`: the types of socket that a tagged process may make.
const STREAM: u32 = 1;
const DGRAM: u32 = 2;
const IPPROTO_ICMP: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_ICMPV6: u32 = 58;

/// Whether a tagged process may make an inet socket of this type and protocol: TCP, UDP, and unprivileged ping.
/// Everything else (raw, MPTCP, SCTP, DCCP, UDP-Lite…) would get past the other hooks.
#[inline(always)]
pub const fn may_create(kind: u32, protocol: u32) -> bool {
    (kind == STREAM && protocol == IPPROTO_TCP)
        || (kind == DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6))
}

impl Protocol {
    /// From the protocol number of an inet socket.
    #[inline(always)]
    pub const fn of(number: u32) -> Self {
        match number {
            IPPROTO_TCP => Self::Tcp,
            IPPROTO_UDP => Self::Udp,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config { proxy: NetPort::from_host(15001), count: 2, ..Config::EMPTY };
        config.ports[0] = NetPort::from_host(443);
        config.ports[1] = NetPort::from_host(80);
        config
    }

    const ELSEWHERE: Address = Address::v4(u32::from_ne_bytes([192, 0, 2, 1]));
    const IMDS: Address = Address::v4(u32::from_ne_bytes([169, 254, 169, 254]));

    #[test]
    fn verdicts() {
        use Protocol::*;
        use Verdict::*;
        for (protocol, to, port, want) in [
            (Tcp, ELSEWHERE, 443, Redirect),
            (Tcp, ELSEWHERE, 80, Redirect),
            (Tcp, ELSEWHERE, 0, Pass),
            (Tcp, ELSEWHERE, 8443, Pass),
            (Tcp, ELSEWHERE, 15001, Pass),
            (Tcp, IMDS, 80, Redirect),
            (Tcp, IMDS, 9, Redirect),
            (Tcp, Address::LOCALHOST_V4, 443, Pass),
            (Tcp, Address::LOCALHOST_V4, 15001, Proxy),
            (Tcp, Address::LOCALHOST_V6, 15001, Proxy),
            (Tcp, Address::v4(0), 15001, Proxy),
            (Udp, ELSEWHERE, 443, RefuseUdp),
            (Udp, ELSEWHERE, 53, Pass),
            (Udp, IMDS, 53, RefuseUdp),
            (Udp, Address::LOCALHOST_V4, 443, Pass),
            (Other, ELSEWHERE, 7, RefuseProtocol),
            (Other, Address::LOCALHOST_V4, 7, RefuseProtocol),
        ] {
            assert_eq!(config().judge(protocol, &to, NetPort::from_host(port)), want, "{protocol:?} {to:?} {port}");
        }
    }

    #[test]
    fn ports_past_the_count_do_not_matter() {
        let mut config = config();
        config.ports[2] = NetPort::from_host(22);
        assert!(!config.redirects(NetPort::from_host(22)));
        config.count = MAX_PORTS as u16;
        assert!(config.redirects(NetPort::from_host(22)));
        config.count = u16::MAX;
        assert!(config.redirects(NetPort::from_host(443)));
    }

    #[test]
    fn sockets() {
        assert!(may_create(STREAM, IPPROTO_TCP));
        assert!(may_create(DGRAM, IPPROTO_UDP));
        assert!(may_create(DGRAM, IPPROTO_ICMP));
        for (kind, protocol) in [
            (3, IPPROTO_TCP),
            (3, 255),
            (STREAM, 262),
            (STREAM, 132),
            (5, 132),
            (DGRAM, 136),
            (6, 33),
            (DGRAM, IPPROTO_TCP),
        ] {
            assert!(!may_create(kind, protocol), "{kind} {protocol}");
        }
    }

    #[test]
    fn only_addresses_that_receive_redirected_flows_shadow_the_listener() {
        let port = NetPort::from_host(15001);
        assert!(config().shadows_listener(Protocol::Tcp, &Address::v4(0), port));
        assert!(config().shadows_listener(Protocol::Tcp, &Address::LOCALHOST_V6, port));
        assert!(!config().shadows_listener(Protocol::Tcp, &ELSEWHERE, port));
        assert!(!config().shadows_listener(Protocol::Udp, &Address::v4(0), port));
        assert!(!config().shadows_listener(Protocol::Tcp, &Address::v4(0), NetPort::from_host(0)));
    }
}
