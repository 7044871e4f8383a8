//! Networks in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::value::Item;
use zmtp::show;

/// A network: an address, and the number of its bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix_len: u8,
}

impl Network {
    /// Whether it contains an address. Mapped IPv4 addresses of an IPv6 socket count as IPv4
    /// addresses.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if self.address.is_ipv4() != address.is_ipv4() {
            return false;
        }
        (bits(self.address) ^ bits(address)).leading_zeros() >= self.bits_len()
    }

    /// The number of bits that count, of the 128 of an address in [`bits`].
    fn bits_len(&self) -> u32 {
        let unused = if self.address.is_ipv4() { 96 } else { 0 };
        unused + u32::from(self.prefix_len)
    }
}

/// Parses `10.0.0.0/8`, `fd00::/8`, or one address.
impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || {
            let text = show(text);
            format!("\"{text}\" is not a network: write 10.0.0.0/8, fd00::/8 or one address")
        };
        let (address, prefix_len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let len_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match prefix_len {
            None => len_max,
            // Checked here because `u8::from_str` would accept a leading plus.
            Some(len) if len.bytes().all(|byte| byte.is_ascii_digit()) => {
                len.parse().map_err(|_| malformed())?
            }
            Some(_) => return Err(malformed()),
        };
        if prefix_len > len_max {
            return Err(format!(
                "\"{}\" has {prefix_len} bits: write at most {len_max}",
                show(text)
            ));
        }
        let network = Self {
            address,
            prefix_len,
        };
        // A set bit that does not count is a mistake: 10.1.0.0/8 may have been meant as a /16.
        if bits(address).trailing_zeros() < 128 - network.bits_len() {
            return Err(format!(
                "\"{text}\" has an address beyond its {prefix_len} bits: set the rest of it to 0"
            ));
        }
        Ok(network)
    }
}

impl Item for Network {}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_addresses_that_begin_with_their_bits() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "a00::", false),
            ("192.168.1.128/25", "192.168.1.128", true),
            ("192.168.1.128/25", "192.168.1.127", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "::ffff:10.1.2.3", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
        ] {
            let parsed: Network = network.parse().expect(network);
            let address: IpAddr = address.parse().expect(address);
            assert_eq!(parsed.contains(address), expected, "{network} {address}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
    }

    #[test]
    fn slips_are_refused() {
        for (text, expected) in [
            ("", "is not a network: write 10.0.0.0/8"),
            ("localhost", "is not a network"),
            ("10.0.0.0/", "is not a network"),
            ("10.0.0.0/+8", "is not a network"),
            ("10.0.0.0/256", "is not a network"),
            ("10.0.0.0/33", "has 33 bits: write at most 32"),
            ("fd00::/129", "has 129 bits: write at most 128"),
            ("10.1.0.0/8", "has an address beyond its 8 bits"),
        ] {
            let refusal = text.parse::<Network>().expect_err(text);
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }
}
