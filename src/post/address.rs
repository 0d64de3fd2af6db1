//! Which addresses are public. Everything that is not known to be public is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a connection to `address` reaches: IPv4 addresses that are written as IPv6 ones are IPv4 addresses.
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
    }
}

/// Why an address is not public, if so.
pub(super) fn kind_of_private(address: IpAddr) -> Option<&'static str> {
    match canonical(address) {
        IpAddr::V4(four) => kind_of_private_v4(four),
        IpAddr::V6(six) => kind_of_private_v6(six),
    }
}

fn kind_of_private_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = u32::from(address);
    let found = PRIVATE_V4.iter().find(|(network, length, _)| {
        let mask = u32::MAX << (32 - length);
        bits & mask == u32::from_be_bytes(*network)
    });
    found.map(|(_, _, kind)| *kind)
}

fn kind_of_private_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    // Translators of IPv6-only networks reach any IPv4 address under this prefix.
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., high, low] = segments;
        let embedded = (u32::from(high) << 16) | u32::from(low);
        return kind_of_private_v4(embedded.into());
    }
    if segments[0] & 0xe000 != 0x2000 {
        return Some(match segments[0] {
            _ if address.is_loopback() => "loopback",
            _ if address.is_unspecified() => "unspecified",
            first if first & 0xfe00 == 0xfc00 => "private",
            first if first & 0xffc0 == 0xfe80 => "link-local",
            first if first & 0xff00 == 0xff00 => "multicast",
            _ => "reserved",
        });
    }
    match (segments[0], segments[1]) {
        (0x2001, second) if second < 0x200 => Some("reserved"),
        (0x2001, 0xdb8) => Some("documentation"),
        (0x3fff, second) if second < 0x1000 => Some("documentation"),
        (0x2002, _) => Some("a tunnel to IPv4"),
        _ => None,
    }
}

/// Network, length of its prefix, and what it is for: the registry of special-purpose addresses (RFC 6890).
const PRIVATE_V4: [([u8; 4], u32, &str); 16] = [
    ([0, 0, 0, 0], 8, "unspecified"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared by carriers"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "reserved"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "reserved"),
    ([192, 88, 99, 0], 24, "a tunnel to IPv6"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "for benchmarks"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
];
