//! Addresses and ports with their byte order in the type.
//!
//! Owns the one normal form of an address: 16 bytes, IPv4 as `::ffff:a.b.c.d`. Pure.

/// A port in network byte order, as it lies in a socket address.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetPort(u16);

impl NetPort {
    pub const fn from_host(port: u16) -> Self {
        Self(port.to_be())
    }
    /// From two bytes that already are in network order.
    pub const fn from_net(raw: u16) -> Self {
        Self(raw)
    }
    pub const fn host(self) -> u16 {
        u16::from_be(self.0)
    }
    /// As the kernel's contexts want it.
    pub const fn net(self) -> u16 {
        self.0
    }
}

/// An address in its normal form: four words in network byte order, IPv4 as v4-mapped IPv6.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(pub [u32; 4]);

/// Third word of a v4-mapped address.
const MAPPED: u32 = 0xffff_u32.to_be();

const fn word(host: u32) -> u32 {
    host.to_be()
}

/// `169.254.169.254`: instance metadata.
const IMDS_V4: u32 = word(0xa9fe_a9fe);
/// `169.254.170.2`: ECS credentials.
const ECS_V4: u32 = word(0xa9fe_aa02);
/// `169.254.170.23`: EKS pod identity.
const EKS_V4: u32 = word(0xa9fe_aa17);
/// `fd00:ec2::254`: instance metadata.
const IMDS_V6: [u32; 4] = [word(0xfd00_0ec2), 0, 0, word(0x254)];
/// `fd00:ec2::23`: EKS pod identity.
const EKS_V6: [u32; 4] = [word(0xfd00_0ec2), 0, 0, word(0x23)];

impl Address {
    pub const LOCALHOST_V4: Self = Self::v4(word(0x7f00_0001));
    pub const LOCALHOST_V6: Self = Self([0, 0, 0, word(1)]);

    /// From one word in network byte order.
    #[inline(always)]
    pub const fn v4(net: u32) -> Self {
        Self([0, 0, MAPPED, net])
    }

    /// The IPv4 word in network byte order, if it is IPv4 or v4-mapped.
    #[inline(always)]
    pub const fn as_v4(&self) -> Option<u32> {
        let [a, b, c, d] = self.0;
        if a == 0 && b == 0 && c == MAPPED { Some(d) } else { None }
    }

    /// Whether a connection to it stays on this host without leaving by an interface: `127.0.0.0/8`, `::1`, and the
    /// unspecified addresses, which Linux connects to loopback.
    #[inline(always)]
    pub const fn is_local(&self) -> bool {
        match self.as_v4() {
            Some(v4) => v4 == 0 || u32::from_be(v4) >> 24 == 127,
            None => {
                let [a, b, c, d] = self.0;
                a == 0 && b == 0 && c == 0 && (d == 0 || d == word(1))
            }
        }
    }

    /// Whether it is one of the addresses at which clouds serve credentials.
    #[inline(always)]
    pub const fn is_metadata(&self) -> bool {
        match self.as_v4() {
            Some(v4) => v4 == IMDS_V4 || v4 == ECS_V4 || v4 == EKS_V4,
            None => {
                let [a, b, c, d] = self.0;
                a == IMDS_V6[0] && b == 0 && c == 0 && (d == IMDS_V6[3] || d == EKS_V6[3])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::{IpAddr, Ipv6Addr};

    use super::*;

    pub(crate) fn address(text: &str) -> Address {
        let v6: Ipv6Addr = match text.parse::<IpAddr>().expect("an address") {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let b = v6.octets();
        Address(core::array::from_fn(|i| u32::from_ne_bytes(b[i * 4..i * 4 + 4].try_into().expect("an address"))))
    }

    #[test]
    fn local_addresses() {
        for yes in ["127.0.0.1", "127.255.255.255", "0.0.0.0", "::1", "::", "::ffff:127.9.9.9", "::ffff:0.0.0.0"] {
            assert!(address(yes).is_local(), "{yes}");
        }
        for no in
            ["126.255.255.255", "128.0.0.1", "::2", "::127.0.0.1", "fe80::1", "1::1", "169.254.169.254", "0.0.0.1"]
        {
            assert!(!address(no).is_local(), "{no}");
        }
    }

    #[test]
    fn metadata_addresses() {
        for yes in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "fd00:ec2::254",
            "fd00:ec2::23",
        ] {
            assert!(address(yes).is_metadata(), "{yes}");
        }
        for no in
            ["169.254.169.253", "169.254.170.3", "fd00:ec2::1:254", "fd00:ec3::254", "::169.254.169.254", "fd00:ec2::2"]
        {
            assert!(!address(no).is_metadata(), "{no}");
        }
    }

    #[test]
    fn ports_keep_their_order() {
        assert_eq!(NetPort::from_host(443).net().to_ne_bytes(), [1, 187]);
        assert_eq!(NetPort::from_net(u16::from_ne_bytes([1, 187])).host(), 443);
    }
}
