//! What the kernel side tells: attempts to get round the control point, and counters.
//!
//! Pure data.

use crate::{Address, NetPort, Tag};

/// What was refused, or noticed. The number is what lies in the ring buffer.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UDP to port 443.
    Quic = 1,
    /// UDP to a metadata address.
    MetadataUdp = 2,
    /// A raw socket.
    Raw = 3,
    Mptcp = 4,
    Sctp = 5,
    /// Any other inet protocol.
    OtherProtocol = 6,
    /// Binding the listener's port.
    Bind = 7,
    /// A redirected connection in a network namespace without a listener.
    NoListener = 8,
    /// Connecting to the listener itself.
    Direct = 9,
    /// A socket that was born in a tag, in the hands of a process without one.
    ForeignSocket = 10,
    /// A map was full, or memory short: the connection was refused.
    Exhausted = 11,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Quic,
        Self::MetadataUdp,
        Self::Raw,
        Self::Mptcp,
        Self::Sctp,
        Self::OtherProtocol,
        Self::Bind,
        Self::NoListener,
        Self::Direct,
        Self::ForeignSocket,
        Self::Exhausted,
    ];

    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// As events name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::MetadataUdp => "metadata-udp",
            Self::Raw => "raw-socket",
            Self::Mptcp => "mptcp",
            Self::Sctp => "sctp",
            Self::OtherProtocol => "other-protocol",
            Self::Bind => "bind-listener-port",
            Self::NoListener => "no-listener",
            Self::Direct => "direct-to-listener",
            Self::ForeignSocket => "foreign-socket",
            Self::Exhausted => "exhausted",
        }
    }
}

/// One refused attempt, as it lies in the ring buffer.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bypass {
    /// Nanoseconds since boot.
    pub at: u64,
    /// Destination, or the address that was to be bound; unspecified where there is none.
    pub address: Address,
    /// [`Kind`] as its number.
    pub kind: u32,
    /// [`Tag::NONE`] where an untagged process tried to bind the listener's port.
    pub tag: Tag,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    pub uid: u32,
    pub port: NetPort,
    pub reserved: u16,
    /// Protocol number of the socket.
    pub protocol: u32,
    pub comm: [u8; 16],
}

/// Slots of the per-CPU counters. Those of refusals are [`Counter::REFUSED`] plus the [`Kind`]'s number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(pub u32);

impl Counter {
    /// Connections redirected.
    pub const REDIRECTED: Self = Self(0);
    /// Events that did not fit into the ring buffer.
    pub const EVENTS_LOST: Self = Self(1);
    /// Flows that did not fit into the table: the connection comes without one, and the daemon closes it.
    pub const FLOWS_LOST: Self = Self(2);
    /// Processes whose sticky tag could not be noted.
    pub const STICKY_LOST: Self = Self(3);
    const REFUSED: u32 = 8;

    pub const COUNT: u32 = 32;

    pub const fn refused(kind: Kind) -> Self {
        Self(Self::REFUSED + kind as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_back_from_their_numbers() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind as u32), Some(kind));
            assert!(Counter::refused(kind).0 < Counter::COUNT);
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(Kind::from_number(99), None);
    }
}
