//! The key of a client's shares: of budgets, of turns, of groups' memory, of connections.
//!
//! A host on IPv6 commonly has a whole /64 and can connect from any address in it. Shares per full
//! address would give it as many as it likes, so all of a /64 have one share. The rejected alternative
//! is a shorter prefix: a /56 may be a site with many tenants. An IPv4 client that is seen through a
//! dual-stack socket has the share of its IPv4 address.
//!
//! Logs, and what clients are shown, keep the full address.

use std::net::{IpAddr, Ipv6Addr};

/// The bits of an IPv6 address that tell networks apart.
const NETWORK_BITS: u128 = u128::MAX << 64;

/// The key under which an address has its shares.
pub(crate) fn share_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK_BITS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> String {
        share_key(address.parse().unwrap()).to_string()
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_have_one_share() {
        assert_eq!(key("2001:db8:1:2::7"), "2001:db8:1:2::");
        assert_eq!(key("2001:db8:1:2:ffff:ffff:ffff:ffff"), "2001:db8:1:2::");
        assert_eq!(key("2001:db8:1:3::7"), "2001:db8:1:3::");
    }

    #[test]
    fn an_ipv4_address_has_a_share_of_its_own_however_it_is_written() {
        assert_eq!(key("192.0.2.7"), "192.0.2.7");
        assert_eq!(key("::ffff:192.0.2.7"), "192.0.2.7");
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    }
}
